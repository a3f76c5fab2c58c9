#include "hyp/vm/vsmmu_device.hpp"

#include "hyp/arch/barriers.hpp"
#include "hyp/gic/vgic.hpp"
#include "hyp/machine/machine.hpp"
#include "hyp/mem/pages.hpp"
#include "hyp/vm/devices.hpp"

namespace weir {

unsigned VsmmuDevice::drain_events(stage2::SmmuPort& smmu, unsigned most) {
  auto& instance = static_cast<SmmuInstance&>(smmu);
  const unsigned drained = instance.deliver_events_of(device.get(), most);
  // What they call for is done where the interrupt is taken.
  if (drained != 0 && devices_to_act()) machine_more_events(instance.index());
  return drained;
}

bool VsmmuDevice::events_pending(stage2::SmmuPort& smmu) { return static_cast<SmmuInstance&>(smmu).events_pending(); }

VsmmuDevice::~VsmmuDevice() {
  for (const PA page : pages_)
    if (page.value != 0) free_device_page(page);
}

bool VsmmuDevice::allocate_pages() {
  for (PA& page : pages_) {
    const auto got = allocate_device_page();
    if (!got) return false;
    page = *got;
  }
  return true;
}

vsmmu::RegisterPages VsmmuDevice::pages() const {
  const auto words = [](PA page) {
    return std::span<std::uint32_t, vsmmu::RegisterPages::kWords>{static_cast<std::uint32_t*>(direct(page)),
                                                                  vsmmu::RegisterPages::kWords};
  };
  return {words(pages_[0]), words(pages_[1])};
}

std::string_view VsmmuDevice::name() const { return vm_.config().vsmmus[index_].name; }

MmioResult VsmmuDevice::read(Vcpu&, MmioAccess access, std::uint64_t& value) {
  value = device->read(static_cast<std::uint32_t>(access.offset), access.size);
  return MmioResult::done;
}

static_assert(static_cast<int>(vsmmu::Progress::done) == static_cast<int>(MmioResult::done) &&
              static_cast<int>(vsmmu::Progress::again) == static_cast<int>(MmioResult::again));

MmioResult VsmmuDevice::write(Vcpu&, MmioAccess access, std::uint64_t value) {
  if (access.offset == static_cast<std::uint32_t>(smmu::Reg::CR1)) [[unlikely]]
    return write_cr1(access, value);
  return static_cast<MmioResult>(device->write(static_cast<std::uint32_t>(access.offset), access.size, value));
}

// Guarded by SMMUEN and the queues' enables: nothing is read or written meanwhile.
[[gnu::noinline]] MmioResult VsmmuDevice::write_cr1(MmioAccess access, std::uint64_t value) {
  const auto progress = device->write(static_cast<std::uint32_t>(access.offset), access.size, value);
  const auto cr1 = device->read(static_cast<std::uint32_t>(smmu::Reg::CR1), 4);
  memory_.follow(device->announced().idr0, smmu::CR1{{{static_cast<std::uint32_t>(cr1)}}});
  return static_cast<MmioResult>(progress);
}

void VsmmuDevice::raise(vsmmu::Irq irq) {
  vm_.vgic->pulse(guest_map::vsmmu_intid(index_) + static_cast<std::uint32_t>(irq));
}

void VsmmuDevice::send_event() {
  dsb_ishst();  // whoever wakes sees what the event is about
  sev();
}

bool VsmmuDevice::message(IPA to, std::uint32_t data) {
  constexpr IPA kSetSpi = guest_map::kGicd + static_cast<std::uint32_t>(gic::Gicd::SETSPI_NSR);
  if (to != kSetSpi) [[likely]]
    return vm_.memory().store(to, data);
  vm_.vgic->message(gic::GicdMessage::INTID::decode(data), true);
  return true;
}

}  // namespace weir
