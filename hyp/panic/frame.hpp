// EL2's registers at an exception that it took itself. hyp/arch/vectors.S fills it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weir {

struct PanicFrame {
  std::uint64_t x[31];
  std::uint64_t sp;
  std::uint64_t pc;
  std::uint64_t pstate;
  std::uint64_t esr;
  std::uint64_t far;
};
static_assert(sizeof(PanicFrame) == 288);  // hyp/panic/frame.inc
static_assert(offsetof(PanicFrame, sp) == 248 && offsetof(PanicFrame, pc) == 256 && offsetof(PanicFrame, esr) == 272);

}  // namespace weir
