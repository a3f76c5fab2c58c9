// What a vCPU seems to be doing, by two samples of it a moment apart: for people who ask whether a VM has crashed or hangs.
// Portable. These are guesses by what EL2 sees: a guest that waits in a loop of its own with interrupts masked looks as if
// it hung, and one that has crashed and idles looks idle.
#pragma once

#include <cstdint>
#include <optional>

namespace weir {

// One sample.
struct VcpuSample {
  bool on = false;              // PSCI
  std::uint64_t pc = 0;         // the rest counts only if it is on
  std::uint64_t vbar = 0;       // VBAR_EL1
  bool irqs_masked = false;     // PSTATE.I
  std::uint32_t before_pc = 0;  // the instruction before PC, and at it; 0: not readable
  std::uint32_t at_pc = 0;
  std::uint64_t exits = 0;      // all but interrupts
  std::uint64_t unhandled = 0;  // of these, answered with an exception
};

enum class Health : std::uint8_t {
  off,
  idle,  // in WFI or WFE
  running,
  hung,      // it stays at a place with interrupts masked, and does nothing that Weir would see
  crashed,   // it does nothing but take exceptions at its own vectors
  no_answer  // its pCPU does not react
};
// In words, for "vCPU 0: ...".
[[nodiscard]] const char* to_string(Health health);

// No value: its pCPU did not answer in time.
[[nodiscard]] Health health(const std::optional<VcpuSample>& first, const std::optional<VcpuSample>& second);

}  // namespace weir
