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

// What is known of the stream that an event came from.
struct StreamFacts {
  VStreamID vsid;
  std::optional<SteFault> fault;  // why its physical STE is invalid
  smmu::Ste installed;            // the physical STE
  bool record_bad_streamid{};     // CR2.RECINVSID
};

struct Rebuilt {
  EventOwner owner{};
  smmu::Event event;  // for EventOwner::guest
};

[[nodiscard]] Rebuilt rebuild_event(const smmu::Event& physical, const StreamFacts& stream);

}  // namespace weir::vsmmu
