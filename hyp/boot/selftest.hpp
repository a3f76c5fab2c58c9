// Checks of the core that only make sense at EL2: `weir.selftest=NAME` on the command line runs one instead of the VMs.
#pragma once

#include <string_view>

namespace weir {

// Names: core (memory, heap, thread-locals; exits with 0 if all is well), and those that must end in a panic: text-write,
// stack-overflow, emergency-overflow, undefined, panic-twice, fault-in-panic, fault-in-minimal, no-thread-pointer, and
// secondary-el1 and secondary-fault (on the second CPU, before its MMU is on; ends with 1). An unknown name is a failure.
// After the pCPUs are up; before they are where needs_one_cpu().
[[noreturn]] void run_selftest(std::string_view name);
[[nodiscard]] bool selftest_needs_one_cpu(std::string_view name);

// undefined-early: panics before there is memory. Comes back for all other names.
void run_early_selftest(std::string_view name);

// Each pCPU calls this when a self-test was asked for.
void selftest_on_pcpu();

}  // namespace weir
