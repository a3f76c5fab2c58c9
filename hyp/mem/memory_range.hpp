#pragma once

#include <cstdint>

#include "guest-abi/types.hpp"

namespace weir {

struct MemoryRange {
  PA base;
  std::uint64_t bytes{};
};

}  // namespace weir
