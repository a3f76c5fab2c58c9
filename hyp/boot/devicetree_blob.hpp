// The devicetree blob before there is a direct map.
#pragma once

#include <cstddef>
#include <expected>
#include <span>

#include "guest-abi/types.hpp"
#include "hyp/mem/pages.hpp"

namespace weir {

// Maps the blob at `at` as the RAM it lies in will be mapped, so its pointer stays good. bad_argument: not a devicetree
// (no magic, not 8-byte aligned, or larger than 2 MiB, which the boot protocol excludes).
[[nodiscard]] std::expected<std::span<const std::byte>, MemoryError> map_devicetree(PA at);

}  // namespace weir
