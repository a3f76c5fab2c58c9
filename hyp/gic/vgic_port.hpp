// What the virtual GIC needs of the machine. At EL2 this is hyp/gic/vgic_hardware; in tests a model.
#pragma once

#include <cstdint>

#include "hyp/gic/registers.hpp"

namespace weir {

// A physical interrupt that is forwarded to a guest: an SPI, or a PPI of the pCPU that runs `vcpu`.
struct PhysicalInterrupt {
  std::uint32_t intid{};
  unsigned vcpu{};
};

class VGicPort {
 public:
  // The virtual CPU interface of the calling pCPU.
  virtual gic::IchLr read_lr(unsigned n) = 0;
  virtual void write_lr(unsigned n, gic::IchLr value) = 0;
  virtual std::uint32_t empty_lrs() = 0;  // ICH_ELRSR_EL2: neither pending nor active, and no EOI to report
  virtual std::uint32_t eoi_lrs() = 0;    // ICH_EISR_EL2: deactivated, with maintenance asked for
  virtual gic::IchHcr read_hcr() = 0;
  virtual void write_hcr(gic::IchHcr value) = 0;
  virtual gic::IchVmcr read_vmcr() = 0;
  virtual void reset_interface() = 0;  // ICH_VMCR_EL2 and the active priorities, as after a reset of the CPU

  // Takes the physical SPI for VGic::taken(..., intid). False: there is none, or it is somebody else's.
  virtual bool bind(std::uint32_t physical, std::uint32_t intid) = 0;
  virtual void unbind(std::uint32_t physical) = 0;

  // Physical interrupts. set_enabled(false) has taken effect when it returns.
  virtual void set_enabled(PhysicalInterrupt interrupt, bool enabled) = 0;
  virtual void set_pending(PhysicalInterrupt interrupt, bool pending) = 0;
  virtual void set_active(PhysicalInterrupt interrupt, bool active) = 0;
  virtual bool is_pending(PhysicalInterrupt interrupt) = 0;
  virtual void set_edge(PhysicalInterrupt interrupt, bool edge) = 0;  // SPIs only, as the next
  virtual void route(PhysicalInterrupt interrupt) = 0;                // to the pCPU of interrupt.vcpu

  // The vCPU whose pCPU this is; none of the VM's: kVgicMaxVcpus or more.
  [[nodiscard]] virtual unsigned here() = 0;
  // Makes the vCPU's pCPU call flush() before it next enters the guest.
  virtual void kick(unsigned vcpu) = 0;
  virtual void relax() = 0;  // in a loop that waits for another pCPU

 protected:
  ~VGicPort() = default;
};

}  // namespace weir
