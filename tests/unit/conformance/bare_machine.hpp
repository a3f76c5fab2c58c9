// The software SMMUv3 and nothing else.
#pragma once

#include "tests/model/parameters.hpp"
#include "tests/unit/conformance/machines.hpp"

namespace weir::conformance::host {

[[nodiscard]] std::unique_ptr<Machine> make_bare(const model::Parameters& parameters);

}  // namespace weir::conformance::host
