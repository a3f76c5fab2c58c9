// Why guests leave the guest, counted for the summary.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace weir {

enum class ExitCause : std::uint8_t {
  interrupt,
  mmio,
  mmio_decoded,  // of these, instructions without a syndrome
  psci,
  smccc,  // other HVC and SMC
  id_register,
  sgi,       // ICC_SGI*_EL1
  sysreg,    // other trapped system registers
  unhandled  // answered with UNDEF or an external abort, and reported
};
inline constexpr std::size_t kExitCauses = 9;
[[nodiscard]] constexpr const char* to_string(ExitCause cause) {
  constexpr std::array<const char*, kExitCauses> kNames = {"irq",    "mmio", "decoded", "psci",     "smccc",
                                                           "id-reg", "sgi",  "sysreg",  "unhandled"};
  return kNames[static_cast<std::size_t>(cause)];
}

// Written by one pCPU, read by any.
class ExitCounters {
 public:
  void count(ExitCause cause) {
    auto& c = counts_[static_cast<std::size_t>(cause)];
    c.store(c.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t get(ExitCause cause) const {
    return counts_[static_cast<std::size_t>(cause)].load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<std::uint64_t>, kExitCauses> counts_{};
};

}  // namespace weir
