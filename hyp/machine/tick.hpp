// A slow clock, ten times a second, for work that no exit and no interrupt does: giving up on guests that do not answer,
// and what could not be done at once. It runs only while somebody needs it, on one pCPU: one without a vCPU if there is any.
#pragma once

#include <cstdint>

#include "hyp/platform/platform.hpp"

namespace weir {

// Once, on the boot pCPU, when each vCPU has its pCPU. `work` runs at each tick, with no lock held, and says whether
// there is more to do.
void machine_tick_init(const Timers& timers, bool (*work)());

// There is something to do. Callable on any pCPU, with any lock held; costs one load while the clock runs.
void machine_want_tick();

// Makes the physical SPI pending in `us` microseconds, or with what this pCPU has asked for before. In a handler of it.
void machine_pend_soon(std::uint32_t intid, std::uint64_t us);

[[nodiscard]] std::uint64_t machine_ticks();  // so far

}  // namespace weir
