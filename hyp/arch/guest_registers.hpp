// The registers of a vCPU that Weir's own code uses, saved at each exit. All else (EL1 and EL0 system registers,
// FP/SIMD/SVE/SME) stays in the hardware: a vCPU never moves.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weir {

// hyp/arch/vectors.S knows this layout.
struct GuestRegisters {
  std::uint64_t x[32]{};  // as instructions number them: the last is XZR, and 0
  std::uint64_t pc{};
  std::uint64_t pstate{};  // SPSR_EL2's format
};
static_assert(offsetof(GuestRegisters, pc) == 256 && offsetof(GuestRegisters, pstate) == 264);

// Why the guest stopped running: which vector of the lower-EL group was taken.
enum class ExitKind : std::uint32_t {
  synchronous = 0,  // ESR_EL2 says why
  irq = 1,
  fiq = 2,
  serror = 3,
};

// What is to be done after an exit.
enum class GuestNext : std::uint32_t {
  leave = 0,
  enter = 1,
  enter_kept = 2,  // and no register but PC and PSTATE was changed meanwhile: cheaper
};

// Called after each exit. ESR_EL2, FAR_EL2 and HPFAR_EL2 are as the exit left them.
using GuestExited = GuestNext (*)(void* context, ExitKind kind);

// Runs the guest, again after each exit for which `exited` says so. Loads x0-x30, PC and PSTATE from `registers`, saves
// them there at each exit. Interrupts are masked at EL2 before, after and meanwhile.
extern "C" void run_guest(GuestRegisters* registers, GuestExited exited, void* context);

}  // namespace weir
