// What a loop does that waits for another pCPU.
#pragma once

namespace weir {

inline void relax() {
#if defined(__aarch64__)
  __builtin_arm_yield();
#endif
}

}  // namespace weir
