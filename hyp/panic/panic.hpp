// The end of a run that went wrong, and of one that went right.
#pragma once

#include <cstdint>
#include <span>

namespace weir {

enum class MachineExit : std::uint8_t {
  park,         // nobody was told how to end: stop all pCPUs
  system_off,   // PSCI SYSTEM_OFF; the status is lost
  semihosting,  // SYS_EXIT with the status
};

// How machine_exit and panic end. Starts as `park`; the boot manifest decides.
void set_machine_exit(MachineExit method);

// Says "weir: exit status N" and stops the machine.
[[noreturn]] void machine_exit(std::uint32_t status);

// A way to interrupt the other pCPUs (an SGI); their interrupt handler then calls park_if_panicked().
void set_stop_others(void (*stop)());
// True on every pCPU as soon as one has panicked.
[[nodiscard]] bool panicked();
void park_if_panicked();

// Stops this pCPU for good: interrupts masked, WFI.
[[noreturn]] void park();

}  // namespace weir
