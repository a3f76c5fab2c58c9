// What a guest sees of a physical event (design: "Events"; IHI 0070, 7.3). A pure function: records are built anew from
// the fields of smmu::guest_visible(), so that nothing of the host leaks.
#pragma once

#include <cstdint>
#include <optional>

#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/ste.hpp"
#include "vsmmu/stream_table.hpp"

namespace weir::vsmmu {

// Whose business an event is.
enum class EventOwner : std::uint8_t {
  guest,   // the guest's own tables or accesses; its record is to be queued
  quiet,   // the guest's, but its SMMU would record nothing
  stage2,  // the device reached for what the VM does not own: the manifest's policy decides
  host     // Weir's or the hardware's own trouble
};

// One configuration of a stream.
struct StreamConfig {
  std::optional<SteFault> fault;  // why the physical STE is invalid
  smmu::Ste installed;            // the physical STE
  std::optional<IPA> context{};   // where the guest keeps the CD of which Weir holds a copy
};

// What is known of the stream that an event came from.
struct StreamFacts {
  VStreamID vsid;
  std::optional<SteFault> fault;
  smmu::Ste installed;
  std::optional<IPA> context{};
  bool record_bad_streamid{};            // CR2.RECINVSID
  bool enabled = true;                   // SMMUEN, before or after a change that is under way
  bool ats{};                            // the device was granted ATS
  bool stall{};                          // a transaction of the stream may wait for the guest
  unsigned oas_bits = 52;                // of the vSMMU
  std::optional<StreamConfig> previous;  // while it is being replaced: the event may be of either
};

struct Rebuilt {
  EventOwner owner{};
  smmu::Event event;  // for EventOwner::guest
  // The transaction is stalled under this tag. Unless `event` says so, too (and reaches the guest), it must be
  // terminated.
  std::optional<std::uint16_t> stalled;
};

// `event`, of a type that has them, with Stall and STAG taken back: it is not the guest who answers.
[[nodiscard]] smmu::Event without_stall(const smmu::Event& event);
[[nodiscard]] bool is_stalled(const smmu::Event& event);

[[nodiscard]] Rebuilt rebuild_event(const smmu::Event& physical, const StreamFacts& stream);

}  // namespace weir::vsmmu
