// The same on the pCPU: makes the current guest take an exception when it is entered next.
#pragma once

#include "hyp/cpu/exception.hpp"

namespace weir {

class Vcpu;

void inject_undefined(Vcpu& vcpu, bool wide);
void inject_external_abort(Vcpu& vcpu, const ExternalAbort& abort);

}  // namespace weir
