// Known errata, by IIDR.
#pragma once

#include "guest-abi/smmu/registers.hpp"
#include "stage2/port.hpp"

namespace weir {

// What Weir must not rely on. Applied to the ID registers once, so that nothing else has to know of errata.
struct Errata {
  const char* part = nullptr;        // the product, if it is known
  const char* no_nesting = nullptr;  // the erratum because of which stage 1 and 2 cannot be nested
};

// Clears in `capabilities` what the part of `iidr` announces but does not do.
[[nodiscard]] Errata apply_errata(smmu::IIDR iidr, stage2::Capabilities& capabilities);

}  // namespace weir
