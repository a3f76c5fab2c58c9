// What happens when a guest leaves the guest.
#pragma once

#include "hyp/arch/guest_registers.hpp"

namespace weir {

class Vcpu;

// On the vCPU's own pCPU, right after the exit. Leaves the vCPU ready to be entered again, unless it is off or its VM is
// stopping.
[[nodiscard]] GuestNext handle_exit(Vcpu& vcpu, ExitKind kind);

}  // namespace weir
