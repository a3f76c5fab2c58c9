// The TLBs of this machine: hyp/cpu/tlb.hpp with the instructions, and with what the pCPUs' errata ask for.
#pragma once

#include "hyp/cpu/tlb.hpp"

namespace weir {

[[nodiscard]] Tlb el2_tlb();

}  // namespace weir
