// Exceptions that Weir makes a guest take at EL1 (Arm ARM D1.4, AArch64.TakeException). Portable.
#pragma once

#include <cstdint>

#include "hyp/arch/el2_registers.hpp"

namespace weir {

// The guest's state that an exception to EL1 reads and writes.
struct ExceptionState {
  std::uint64_t pc{};
  std::uint64_t pstate{};  // as in an SPSR
  // What TakeException looks at.
  std::uint64_t sctlr_el1{};
  std::uint64_t vbar_el1{};
  std::uint64_t gcscr_el1{};
  bool has_pan{}, has_ssbs{}, has_mte{}, has_gcs{};  // of the pCPU
  // What it leaves behind, besides pc and pstate.
  std::uint64_t esr_el1{};
  std::uint64_t elr_el1{};
  std::uint64_t spsr_el1{};
  std::uint64_t far_el1{};
  bool far_valid{};  // false: FAR_EL1 stays
};

struct ExternalAbort {
  std::uint64_t far{};
  bool instruction{};
  bool write{};
  bool cache_maintenance{};
  int walk_level{-1};  // not negative: met by the guest's own table walk, at this level
};

// An UNDEFINED instruction; `wide`: a 32-bit one (ESR_ELx.IL).
void take_undefined(ExceptionState& state, bool wide);
// A synchronous external abort.
void take_external_abort(ExceptionState& state, const ExternalAbort& abort);

}  // namespace weir
