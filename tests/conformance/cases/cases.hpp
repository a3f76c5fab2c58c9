// The lists of cases, one for each file.
#pragma once

#include <span>

#include "tests/conformance/run.hpp"

namespace weir::conformance {

[[nodiscard]] std::span<const Case> register_cases();      // chapter 6
[[nodiscard]] std::span<const Case> queue_cases();         // 3.5, 7.1, 7.4
[[nodiscard]] std::span<const Case> interrupt_cases();     // 3.18, 7.5
[[nodiscard]] std::span<const Case> command_cases();       // chapter 4: what is legal, and CMD_SYNC
[[nodiscard]] std::span<const Case> invalidation_cases();  // 4.3, 4.4: what an invalidation removes
[[nodiscard]] std::span<const Case> stream_cases();        // 3.3, 5.1, 5.2, 6.3.14
[[nodiscard]] std::span<const Case> context_cases();       // 5.4
[[nodiscard]] std::span<const Case> walk_cases();          // 3.4, 7.3: translation, its faults and permissions
[[nodiscard]] std::span<const Case> event_cases();         // 7.2, 7.3
[[nodiscard]] std::span<const Case> stall_cases();         // 3.12, 4.7, 5.5
[[nodiscard]] std::span<const Case> ats_cases();           // 3.9, 4.5, chapter 8
[[nodiscard]] std::span<const Case> substream_cases();     // 3.3.2, 5.3
[[nodiscard]] std::span<const Case> sharing_cases();       // shared virtual addressing, from one end to the other

// Two-level stream tables. The last of all: QEMU's SMMU, once it has had one, takes no linear one until it is reset.
[[nodiscard]] std::span<const Case> two_level_cases();

}  // namespace weir::conformance
