// The commands of one change of stage 2 (design: "One change of stage 2"), in phases over all instances of an array.
#pragma once

#include <cstdint>

#include "guest-abi/types.hpp"
#include "stage2/invalidation_array.hpp"

namespace weir::stage2 {

struct InvalidationRange {
  IPA ipa;
  std::uint64_t bytes = 0;     // multiple of 4 KiB, not 0
  bool leaf_only = true;       // no table page went away
  unsigned max_commands = 64;  // above it the whole VMID goes (S12_VMALL)
};

// The number of S2_IPA commands for `range` on an SMMU with or without range invalidation (IDR3.RIL).
[[nodiscard]] unsigned s2_command_count(const InvalidationRange& range, bool ril);

// Removes every cached use of `range` from all instances in `array`:
//   (a) S2_IPA for each tag, or S12_VMALL;
//   (b) CFGI_CD_ALL for each stage-1 stream, NH_ALL for each tag that had any;
//   (c) ATC_INV for each stream with ATS; one that does not answer (SmmuPort::atc_answers) gets an aborting STE;
// each phase submitted, with its SYNC, to all instances before the first is waited for, and each complete before the
// next begins: commands have no order among themselves without a SYNC (IHI 0070 4.7.3), and a walk could otherwise make
// a new combined entry from a stage-2 one that is about to go.
void invalidate(const InvalidationArray& array, const InvalidationRange& range);

}  // namespace weir::stage2
