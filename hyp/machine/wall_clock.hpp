// The time of day: read once from the machine's PL031, and the system counter goes on from there.
#pragma once

#include <cstdint>
#include <optional>

#include "hyp/platform/platform.hpp"

namespace weir {

// Once, on the boot pCPU. Without an RTC, or if it cannot be mapped, there is no time of day.
void wall_clock_init(const Platform& platform);

// Seconds since 1970-01-01, modulo 2^32 as the PL031 counts them. Any pCPU.
[[nodiscard]] std::optional<std::uint32_t> wall_clock();

}  // namespace weir
