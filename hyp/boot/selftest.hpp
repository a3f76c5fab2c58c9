// Checks of the core that only make sense at EL2: `weir.selftest=NAME` on the command line runs one instead of the VMs.
#pragma once

#include <string_view>

namespace weir {

// Names: core (memory, heap, thread-locals; exits with 0 if all is well), and three that must end in a panic: text-write,
// stack-overflow, undefined. An unknown name is a failure. After the pCPUs are up.
[[noreturn]] void run_selftest(std::string_view name);

// Each pCPU calls this when a self-test was asked for.
void selftest_on_pcpu();

}  // namespace weir
