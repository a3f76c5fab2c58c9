// The machine's UART, shared by Weir's log and the VMs' consoles.
#pragma once

#include "hyp/platform/platform.hpp"

namespace weir {

class Vm;

// Takes the log over from the early console and listens for input. After gic_init.
void console_init(const Uart& uart);

// Gives the VM its UART and a console. vm.vgic is there. False: out of memory.
[[nodiscard]] bool console_attach(Vm& vm);

// The VM has stopped: the terminal is no longer its alone.
void console_stopped(const Vm& vm);

}  // namespace weir
