// The vendor-specific hypervisor service (guest-abi/hypercalls.md) at EL2: registers in and out, and where pages come
// from. What the calls do is stage2/vm_memory's.
#pragma once

#include "stage2/vm_memory.hpp"

namespace weir {

class Vcpu;

// Carries out the call in X0..X5 of `vcpu` if it is one of this service. Changes X0 and, up to X3, the registers of the
// call's results; no other. False: it is not.
bool handle_hypercall(Vcpu& vcpu);

// EL2's pages as VMs' memory wants them, and the grants between all VMs.
[[nodiscard]] stage2::PagePool& guest_pages();
[[nodiscard]] stage2::GrantTable& grant_table();

}  // namespace weir
