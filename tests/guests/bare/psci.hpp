// SMC calling convention by HVC; PSCI (Arm DEN 0022).
#pragma once

#include <cstdint>

namespace weir::guest {

struct CallResult {
  std::uint64_t x0, x1, x2, x3;
};
CallResult hvc(std::uint64_t function, std::uint64_t a1 = 0, std::uint64_t a2 = 0, std::uint64_t a3 = 0);
CallResult smc(std::uint64_t function, std::uint64_t a1 = 0, std::uint64_t a2 = 0, std::uint64_t a3 = 0);

namespace psci {
inline constexpr std::uint32_t kVersion = 0x84000000;
inline constexpr std::uint32_t kCpuSuspend = 0xc4000001;
inline constexpr std::uint32_t kCpuOff = 0x84000002;
inline constexpr std::uint32_t kCpuOn = 0xc4000003;
inline constexpr std::uint32_t kAffinityInfo = 0xc4000004;
inline constexpr std::uint32_t kMigrateInfoType = 0x84000006;
inline constexpr std::uint32_t kSystemOff = 0x84000008;
inline constexpr std::uint32_t kSystemReset = 0x84000009;
inline constexpr std::uint32_t kFeatures = 0x8400000a;

// Return values.
inline constexpr std::int64_t kSuccess = 0;
inline constexpr std::int64_t kNotSupported = -1;
inline constexpr std::int64_t kInvalidParameters = -2;
inline constexpr std::int64_t kAlreadyOn = -4;
inline constexpr std::int64_t kInvalidAddress = -9;

// A value in w0 or x0: PSCI's are 32 bits wide.
constexpr std::int64_t value(const CallResult& r) { return static_cast<std::int32_t>(r.x0); }
}  // namespace psci

[[noreturn]] void power_off();

// What a started CPU does, on a stack of its own. `argument` is for it.
using CpuMain = void (*)(std::uint64_t argument);
// CPU_ON of `mpidr`, by the boot CPU; the first 8 CPUs can be started. A PSCI return value.
inline constexpr unsigned kMaxCpus = 8;
std::int64_t start_cpu(std::uint64_t mpidr, CpuMain main, std::uint64_t argument);

}  // namespace weir::guest
