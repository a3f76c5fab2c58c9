// The errata of all pCPUs of this machine.
#pragma once

#include "hyp/cpu/errata.hpp"

namespace weir {

// What any pCPU has that is up. Nothing before find_machine_errata().
[[nodiscard]] Errata machine_errata();

// Looks at all pCPUs that are up. Before the first VM is made.
void find_machine_errata();

// A line for each erratum found: its number, the CPUs, the remedy.
void log_machine_errata();

}  // namespace weir
