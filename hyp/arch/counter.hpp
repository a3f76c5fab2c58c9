// The system counter: the clock of everything that measures or limits time.
#pragma once

#include <cstdint>

#include "hyp/arch/sysreg.hpp"

namespace weir {

[[nodiscard]] inline std::uint64_t counter_hz() { return READ_SYSREG(cntfrq_el0); }
[[nodiscard]] inline std::uint64_t counter() {  // ticks; not speculated ahead of earlier instructions
  asm volatile("isb" ::: "memory");
  return READ_SYSREG(cntpct_el0);
}
[[nodiscard]] inline std::uint64_t microseconds_to_ticks(std::uint64_t us) { return us * counter_hz() / 1'000'000; }

}  // namespace weir
