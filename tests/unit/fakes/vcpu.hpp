// Emulated devices get a Vcpu& that portable ones do not look into.
#pragma once

namespace weir {
class Vcpu {};
}  // namespace weir
