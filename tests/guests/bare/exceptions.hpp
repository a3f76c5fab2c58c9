// Exceptions of a payload. A synchronous one is a failure unless it was provoked on purpose, inside of provoke().
#pragma once

#include <cstdint>

namespace weir::guest {

struct Frame {  // as start.S pushes it
  std::uint64_t x[31];
  std::uint64_t elr, spsr, esr, far;
};

enum class ExceptionClass : std::uint8_t {  // ESR_EL1.EC
  unknown = 0x00,                           // UNDEF
  trapped_fp = 0x07,
  illegal_state = 0x0e,
  instruction_abort = 0x21,
  data_abort = 0x25,
};

struct Provoked {
  unsigned count = 0;
  std::uint64_t esr = 0;  // of the last
  std::uint64_t far = 0;
  [[nodiscard]] ExceptionClass ec() const { return static_cast<ExceptionClass>(esr >> 26 & 0x3f); }
  // A synchronous external abort: what an access to nothing gives.
  [[nodiscard]] bool external_abort() const { return ec() == ExceptionClass::data_abort && (esr & 0x3f) == 0x10; }
};

// Boot CPU only. Exceptions skip the instruction that raised them; one in fetching returns to the caller.
void arm_exceptions();
Provoked disarm_exceptions();
template <typename Fn>
Provoked provoke(Fn&& fn) {
  arm_exceptions();
  fn();
  return disarm_exceptions();
}

// The virtual timer's interrupt comes once, so many nanoseconds from now, if it is enabled (kTimer) and not masked.
inline constexpr unsigned kTimer = 27;
void arm_timer(std::uint64_t ns);
// How late it was at most, in nanoseconds.
[[nodiscard]] std::uint64_t latest_timer();

// Interrupts taken so far, by INTID.
[[nodiscard]] unsigned interrupts(unsigned intid);
inline void unmask_interrupts() { asm volatile("msr daifclr, #2" ::: "memory"); }
inline void mask_interrupts() { asm volatile("msr daifset, #2" ::: "memory"); }

}  // namespace weir::guest
