// Calls to the firmware below Weir by SMC (Arm DEN 0028), and the PSCI functions used (Arm DEN 0022). At EL2 an HVC
// would come back to Weir itself, so a platform whose conduit is HVC cannot be driven.
#pragma once

#include <array>
#include <cstdint>
#include <expected>

namespace weir {

struct SmcccResult {
  std::uint64_t x0, x1, x2, x3;
};

// SMCCC 1.0 register use: x4 to x17 may be lost.
SmcccResult smc(std::uint64_t function, std::uint64_t a1 = 0, std::uint64_t a2 = 0, std::uint64_t a3 = 0);

namespace psci {

enum class Error : std::int32_t {  // DEN 0022, 5.2.2
  not_supported = -1,
  invalid_parameters = -2,
  denied = -3,
  already_on = -4,
  on_pending = -5,
  internal_failure = -6,
  not_present = -7,
  disabled = -8,
  invalid_address = -9,
};
[[nodiscard]] const char* to_string(Error error);

[[nodiscard]] std::uint32_t version();  // major in bits 31:16, minor in 15:0; 0xffffffff when there is no PSCI
[[nodiscard]] std::expected<void, Error> cpu_on(std::uint64_t mpidr, std::uint64_t entry_pa, std::uint64_t context);
void system_off();    // returns only if the firmware refuses
void system_reset();  // as well

}  // namespace psci
}  // namespace weir
