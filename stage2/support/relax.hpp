// What a loop does that waits for another pCPU, or thread.
#pragma once

#if defined(__linux__)
#include <sched.h>
#endif

namespace weir {

inline void relax() {
#if defined(WEIR_RELAX)
  WEIR_RELAX();
#elif defined(__linux__)
  sched_yield();  // tests have more threads than CPUs
#elif defined(__aarch64__)
  __builtin_arm_yield();
#endif
}

}  // namespace weir
