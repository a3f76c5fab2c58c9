// A vSMMU as a device of a VM: its registers on the bus, its interrupts, its view of memory and of the physical event queues.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "guest-abi/types.hpp"
#include "hyp/arch/cache.hpp"
#include "hyp/vm/guest_map.hpp"
#include "hyp/vm/guest_memory.hpp"
#include "hyp/vm/mmio_device.hpp"
#include "hyp/vm/vm.hpp"
#include "vsmmu/vsmmu.hpp"

namespace weir {

class VsmmuDevice final : public MmioDevice, public vsmmu::Interrupts, public vsmmu::EventDrain {
 public:
  // The `index`th vSMMU of `vm`.
  VsmmuDevice(Vm& vm, unsigned index) : vm_{vm}, index_{index} {}
  ~VsmmuDevice();
  VsmmuDevice(const VsmmuDevice&) = delete;
  VsmmuDevice& operator=(const VsmmuDevice&) = delete;
  // The register pages. False: out of memory.
  [[nodiscard]] bool allocate_pages();
  [[nodiscard]] vsmmu::RegisterPages pages() const;
  [[nodiscard]] PA page(unsigned n) const { return pages_[n]; }
  [[nodiscard]] vsmmu::GuestMemory& memory() { return memory_; }
  [[nodiscard]] IPA base() const { return guest_map::vsmmu(index_); }

  [[nodiscard]] std::string_view name() const override;
  MmioResult read(Vcpu& vcpu, MmioAccess access, std::uint64_t& value) override;
  MmioResult write(Vcpu& vcpu, MmioAccess access, std::uint64_t value) override;

  void raise(vsmmu::Irq irq) override;
  void send_event() override;
  // To the VM's RAM, or an SPI by message. Its GIC has no ITS that could take an event of a vSMMU.
  [[nodiscard]] bool message(IPA to, std::uint32_t data) override;

  // Of `device` alone: it is the client of its streams' owners (StreamOwner).
  [[nodiscard]] unsigned drain_events(stage2::SmmuPort& smmu, unsigned most) override;
  [[nodiscard]] bool events_pending(stage2::SmmuPort& smmu) override;

  std::unique_ptr<vsmmu::VSmmu> device;

 private:
  MmioResult write_cr1(MmioAccess access, std::uint64_t value);

  Vm& vm_;
  unsigned index_;
  VsmmuMemory memory_{vm_.memory(), clean_and_invalidate_to_poc};
  std::array<PA, 2> pages_{};
};

}  // namespace weir
