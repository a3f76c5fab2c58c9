#include "hyp/vm/grants.hpp"

#include <algorithm>

namespace weir {

vsmmu::Config vsmmu_limits(const VmConfig& vm, unsigned index, unsigned input_bits) {
  const VsmmuNarrowing& narrowing = vm.vsmmus[index].narrowing;
  vsmmu::Config limits{};
  limits.cmdq_log2 = narrowing.command_queue_log2;
  limits.evtq_log2 = narrowing.event_queue_log2;
  limits.priq_log2 = narrowing.pri_queue_log2;
  limits.oas_bits = std::min(unsigned{narrowing.oas_bits}, input_bits);
  limits.two_level_stream_table = !narrowing.linear_stream_table;
  limits.range_invalidation = !narrowing.no_range_invalidation;
  limits.asid16 = narrowing.asid_bits == 16;
  limits.ssid_bits = narrowing.substream_bits;
  limits.stall = !narrowing.no_stall;
  if (narrowing.no_httu) limits.httu = smmu::Htt::none;
  limits.msi = !narrowing.no_msi;
  limits.sev = !narrowing.no_sev;
  limits.precise = vm.vsmmus[index].invalidation == Invalidation::precise;
  limits.no_global_pages = vm.vsmmus[index].no_global_pages;
  limits.late_events = vm.vsmmus[index].late_events;
  for (const DeviceConfig& device : vm.devices) {
    if (device.vsmmu != index) continue;
    limits.ats = limits.ats || device.ats != AtsChoice::none;
    limits.ats_full = limits.ats_full || device.ats == AtsChoice::full;
    limits.pri = limits.pri || device.pri;
  }
  return limits;
}

vsmmu::StreamGrant stream_grant(const DeviceConfig& device) {
  // All of Weir's devices are PCIe functions, whose transactions must not stall (IHI 0070, 3.12.1).
  constexpr vsmmu::AtsGrant kGrants[] = {vsmmu::AtsGrant::none, vsmmu::AtsGrant::split_stage, vsmmu::AtsGrant::full};
  return {.ats = kGrants[static_cast<unsigned>(device.ats)], .pri = device.pri, .stall = false};
}

pci::CapabilityGrant capability_grant(const DeviceConfig& device, const vsmmu::Announced& announced,
                                      unsigned page_requests) {
  return {.ats = device.ats != AtsChoice::none && announced.idr0.get<smmu::IDR0::ATS>(),
          .pri = device.pri && announced.idr0.get<smmu::IDR0::PRI>(),
          .pasid_bits = device.pasid ? static_cast<unsigned>(announced.idr1.get<smmu::IDR1::SSIDSIZE>()) : 0,
          .page_requests = page_requests};
}

unsigned page_request_share(unsigned capacity, unsigned functions) {
  return std::max(capacity / 2 / std::max(functions, 1U), 1U);
}

}  // namespace weir
