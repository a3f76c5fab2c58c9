// What a guest may ask for by HVC or SMC: PSCI 1.1 (Arm DEN 0022) and the discovery part of the SMC calling convention
// (DEN 0028).
#pragma once

#include <cstdint>

namespace weir {

class Vcpu;

// Carries out the call in x0..x3 of `vcpu` and leaves the result in x0. False: not a call that is known; x0 is then
// NOT_SUPPORTED. A call that does not return (CPU_OFF, SYSTEM_OFF) leaves the vCPU off or its VM stopping.
bool handle_smccc(Vcpu& vcpu);

}  // namespace weir
