// What a loop does that waits for another pCPU.
#pragma once

namespace weir {

inline void relax() {
#if defined(WEIR_RELAX)  // the host's tests, whose threads may be more than its CPUs
  WEIR_RELAX();
#elif defined(__aarch64__)
  __builtin_arm_yield();
#endif
}

}  // namespace weir
