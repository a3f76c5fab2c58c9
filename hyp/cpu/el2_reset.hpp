// EL2 control registers that come with features, and so are not in the boot code.
#pragma once

namespace weir {

// Gives each that this pCPU has its quiet value: resets leave them UNKNOWN. On each pCPU, before anything runs on it.
void reset_el2_controls();

}  // namespace weir
