// What surrounds a vCPU's registers on the pCPU that it is pinned to.
#pragma once

namespace weir {

class Vcpu;

// Loads every EL2 control register for `vcpu`: traps, ID registers, counter offset, stage 2. On its own pCPU, once; with
// no guest ever entered on this pCPU before it.
void install_guest_controls(const Vcpu& vcpu);

// EL1 and EL0 state as after a reset (architected values; zero where the architecture says UNKNOWN), so that nothing of
// Weir, the firmware or an earlier life of the vCPU shows. On its own pCPU, with the controls installed.
void reset_guest_state(const Vcpu& vcpu);

}  // namespace weir
