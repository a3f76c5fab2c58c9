// What a guest may ask for by HVC or SMC: PSCI 1.1 (Arm DEN 0022), the discovery part of the SMC calling convention
// (DEN 0028), and Weir's own calls (hyp/vm/memory_calls.hpp).
#pragma once

#include <cstdint>

namespace weir {

class Vcpu;

// Carries out the call in x0..x3 of `vcpu` and leaves the result in x0. False: not a call of PSCI or DEN 0028; where no one
// else knows it, x0 is NOT_SUPPORTED. A call that does not return (CPU_OFF, SYSTEM_OFF) leaves the vCPU off or its VM stopping.
bool handle_smccc(Vcpu& vcpu);

}  // namespace weir
