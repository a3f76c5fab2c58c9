#pragma once

#include "guest-abi/types.hpp"

namespace weir {

// hyp/main.cpp: everything, in order. `dtb` is where the boot loader says that the devicetree is.
[[noreturn]] void start(PA dtb);

// Runs .init_array. Weir's own code has nothing there; third-party libraries may. After heap_init.
void run_constructors();

}  // namespace weir
