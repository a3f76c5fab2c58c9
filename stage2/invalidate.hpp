// The commands of one change of stage 2 (design: "One change of stage 2"), in phases over all instances of an array.
#pragma once

#include <cstdint>

#include "guest-abi/types.hpp"
#include "stage2/cpu_tlb.hpp"
#include "stage2/invalidation_array.hpp"

namespace weir::stage2 {

struct InvalidationRange {
  IPA ipa;
  std::uint64_t bytes = 0;     // multiple of 4 KiB, not 0
  bool leaf_only = true;       // no table page went away
  unsigned max_commands = 64;  // above it, and above 64 in any case, the whole VMID goes (S12_VMALL)
};

// The number of S2_IPA commands for `range` on an SMMU with or without range invalidation (IDR3.RIL).
[[nodiscard]] unsigned s2_command_count(const InvalidationRange& range, bool ril);

// Removes every cached use of `range` from all instances in `array`, and from the pCPUs:
//   (a) S2_IPA for each tag, or S12_VMALL; meanwhile `cpu`, if there is one;
//   (b) CFGI_CD_ALL for each stage-1 stream, and NH_ALL for each tag that had any, but not after S12_VMALL;
//   (c) ATC_INV for each stream with ATS;
// each phase submitted, with its SYNC, to all instances before the first is waited for, and each complete before the
// next begins. Commands have no order among themselves without a SYNC (IHI 0070 4.7.3):
//
// - (b) after (a): a walk would make a new combined entry, or a new translation of a CD's table base, from a stage-2
//   entry that is about to go. That is why S12_VMALL and CFGI_CD_ALL do not share a SYNC either. CDs are configuration,
//   which no TLBI has to remove (3.17), and a cached CD may have its TTB's translation beside it: with CFGI_CD_ALL done
//   first, a CD fetched again by means of a stale stage-2 entry would outlive both.
// - NH_ALL is left out after S12_VMALL, which removes entries of all stages with the VMID (4.4.3). What is combined
//   after (a) has its output from the new stage 2, even where the walk began at a table base that is still to go:
//   until (b) is complete, the page there has no other owner.
// - For the same reason NH_ALL and CFGI_CD_ALL may come in any order.
// - (c) after (b): a device's request would be answered from what (b) removes (3.9.1).
//
// Returns whether there was any of the last: a device that does not answer (SmmuPort::atc_answers) is the caller's to cut
// off.
bool invalidate(const InvalidationArray& array, const InvalidationRange& range, CpuTlb* cpu = nullptr);

}  // namespace weir::stage2
