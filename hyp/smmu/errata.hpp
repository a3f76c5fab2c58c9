// Known errata, by IIDR and by what the devicetree calls the part.
#pragma once

#include <string_view>

#include "guest-abi/smmu/registers.hpp"
#include "stage2/port.hpp"

namespace weir {

// What Weir must not rely on. Applied to the ID registers once, so that nothing else has to know of errata.
struct Errata {
  const char* part = nullptr;        // the product, if it is known
  const char* no_nesting = nullptr;  // the erratum because of which stage 1 and 2 cannot be nested
  bool invalidate_twice = false;     // see CommandQueue::invalidate_twice()
};

// Clears in `capabilities` what the part of `iidr` announces but does not do.
// `compatible` is Smmu::compatible.
[[nodiscard]] Errata apply_errata(smmu::IIDR iidr, std::string_view compatible, stage2::Capabilities& capabilities);

// Weir knows what the part needs, or that it needs nothing. Others are not used unless the manifest accepts them.
[[nodiscard]] bool known_smmu(std::string_view compatible);

}  // namespace weir
