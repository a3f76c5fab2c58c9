// The grace periods of EL2: one instance for everything that pCPUs look at without a lock.
#pragma once

#include "stage2/epoch.hpp"

namespace weir {

// A pCPU is in a read section only where the code says so (EpochGrace::Section), whatever else it is doing or waiting
// for. Any pCPU whose this_pcpu() works.
[[nodiscard]] stage2::EpochGrace& hyp_grace();

}  // namespace weir
