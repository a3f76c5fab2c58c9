// Grace for tests with a single thread whose subject takes an EpochGrace.
#pragma once

#include <array>

#include "stage2/epoch.hpp"

namespace weir::test {

struct OneReader {
  std::array<stage2::EpochGrace::Slot, 1> slots;
  stage2::EpochGrace grace{slots, [] { return 0u; }};
};

}  // namespace weir::test
