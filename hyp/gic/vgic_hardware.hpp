// The virtual GIC on the hardware: what the vCPU loop calls.
#pragma once

#include <cstdint>

#include "hyp/gic/registers.hpp"
#include "hyp/gic/vgic.hpp"
#include "hyp/platform/platform.hpp"
#include "hyp/vm/vcpu.hpp"

namespace weir {

class Vm;

// Once, on the boot pCPU, after gic_init_pcpu: which physical interrupts are the timers and the maintenance interrupt.
void vgic_init(const GicV3& gic, const Timers& timers);
// On each pCPU after gic_init_pcpu and vgic_init: the maintenance interrupt is on.
void vgic_init_pcpu();

// Gives the VM its GIC: sets vm.vgic and each vCPU's `gic`, puts the registers on the bus, binds the timers. False: out
// of memory, or the hardware has no virtual CPU interface.
[[nodiscard]] bool vgic_attach(Vm& vm);
// When all vCPUs are offline: no physical interrupt is the VM's any more. The GIC itself stays.
void vgic_release(Vm& vm);

// ---- On the vCPU's own pCPU.

void vgic_online(Vcpu& vcpu);   // at PSCI CPU_ON, before the first entry
void vgic_offline(Vcpu& vcpu);  // at PSCI CPU_OFF, and when the VM stops

void vgic_flush(Vcpu& vcpu);
// The last thing before enter_guest, with interrupts masked: an IPI that comes later ends the guest's run at once.
inline void vgic_enter(Vcpu& vcpu) {
  if (vcpu.gic->has_work()) [[unlikely]]
    vgic_flush(vcpu);
}
// An exit reads nothing back: list registers stay in the hardware.

// A trapped access to the GIC's system registers (`reg` as in gic::sysreg_encoding). False: not one of these.
[[nodiscard]] bool vgic_write_sysreg(Vcpu& vcpu, gic::Icc reg, std::uint64_t value);
[[nodiscard]] bool vgic_read_sysreg(Vcpu& vcpu, gic::Icc reg, std::uint64_t& value);
[[nodiscard]] inline bool vgic_sgi(Vcpu& vcpu, gic::Icc reg, std::uint64_t value) {
  return vgic_write_sysreg(vcpu, reg, value);
}

}  // namespace weir
