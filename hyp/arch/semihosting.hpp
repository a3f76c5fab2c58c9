// Semihosting: how a run under an emulator or model ends with an exit status. HLT is undefined at EL2 where nobody
// listens, so call it only when the boot manifest says that somebody does.
#pragma once

#include <cstdint>

namespace weir {

// SYS_EXIT with ADP_Stopped_ApplicationExit.
[[noreturn]] void semihosting_exit(std::uint32_t status);

}  // namespace weir
