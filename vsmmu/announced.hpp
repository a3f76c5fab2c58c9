// What a vSMMU tells its guest that it can do: the intersection over its backing instances, minus what Weir never
// offers, narrowed by its configuration (IHI 0070, 6.3.1 to 6.3.8).
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

#include "guest-abi/smmu/registers.hpp"
#include "stage2/port.hpp"

namespace weir::vsmmu {

// Narrows what is announced; never widens it.
struct Config {
  unsigned sid_bits = 16;   // width of a vStreamID: a PCI requester id
  unsigned cmdq_log2 = 14;  // largest command queue, log2(entries): tiny ones lock up guests with many CPUs
  unsigned evtq_log2 = 12;
  unsigned oas_bits = 52;  // the VM's IPA size, if smaller than what the instances can do
  // 6.3.2 wants two levels from SIDSIZE == 7 on. A linear table is for guests that know no other, and does not make
  // SIDSIZE smaller, because devices keep their vStreamIDs.
  bool two_level_stream_table = true;
  bool range_invalidation = true;
  bool asid16 = true;
  bool coherent = true;
  unsigned ssid_bits = 20;  // width of a SubstreamID; 0: no substreams
  bool stall = true;
  bool ats = false;  // some stream is granted ATS; likewise PRI, which needs ATS
  bool pri = false;
  // What Weir itself carries out, whatever the instances do:
  bool msi = true;  // only together with COHACC: a 32-bit store past the caches is not what a CPU has for it
  bool sev = true;
  unsigned priq_log2 = 12;  // largest PRI queue
  // And again what follows from the instances:
  smmu::Htt httu = smmu::Htt::access_dirty_table;
  unsigned bbml = 2;
  bool two_level_cd_table = true;
  // Physical SMMUs record configuration errors of ATS and PRI requests for all VMs or for none, and a record does not say
  // that such a request caused it: what a guest asks for in CR2.REC_CFG_ATS cannot be had for its streams alone.
  bool ats_errors = false;
  bool ats_full = false;  // a stream is granted full ATS: then an instance need not know split-stage ATS
  // How a guest's invalidations find the instances (design: "Who can hold an ASID"). These are promises, not features.
  // Precise: streams without substreams use context descriptors that Weir holds, under host ASIDs. ASIDs of 16 bits are
  // announced whatever the instances have, but no substreams where one of them has only 8.
  bool precise = false;
  // Precise only: the guest has no global stage-1 pages, so that an NH_VA concerns its ASID alone. Wrong of it, and its own
  // devices may use what it has taken back from them.
  bool no_global_pages = false;
  // A SYNC waits for the instances that commands since the last one have concerned, and for no others: events and HTTU of
  // those may become visible later. Not to the letter of IHI 0070, 4.7.3: see vsmmu/README.md.
  bool late_events = false;
};

struct Announced {
  smmu::IDR0 idr0;
  smmu::IDR1 idr1;
  smmu::IDR3 idr3;
  smmu::IDR5 idr5;
  smmu::IIDR iidr;
  smmu::AIDR aidr;

  [[nodiscard]] unsigned oas_bits() const { return smmu::bits(idr5.get<smmu::IDR5::OAS>()); }
  [[nodiscard]] unsigned sid_bits() const { return static_cast<unsigned>(idr1.get<smmu::IDR1::SIDSIZE>()); }
  [[nodiscard]] unsigned cmdq_log2() const { return static_cast<unsigned>(idr1.get<smmu::IDR1::CMDQS>()); }
  [[nodiscard]] unsigned evtq_log2() const { return static_cast<unsigned>(idr1.get<smmu::IDR1::EVENTQS>()); }
  [[nodiscard]] unsigned priq_log2() const { return static_cast<unsigned>(idr1.get<smmu::IDR1::PRIQS>()); }
  [[nodiscard]] unsigned ssid_bits() const { return static_cast<unsigned>(idr1.get<smmu::IDR1::SSIDSIZE>()); }
  [[nodiscard]] unsigned stall_max() const { return static_cast<unsigned>(idr5.get<smmu::IDR5::STALL_MAX>()); }
};

// Why an instance cannot stand behind a vSMMU.
struct Unsuitable {
  std::size_t instance;      // position in the list given to announce()
  std::string_view feature;  // for example "IDR0.S1P"
};

[[nodiscard]] std::expected<Announced, Unsuitable> announce(std::span<stage2::SmmuPort* const> instances,
                                                            const Config& config);

}  // namespace weir::vsmmu
