// Rigs on the host (tests/conformance/rig.hpp): the software SMMUv3 by itself, and vSMMUs in front of it.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "tests/conformance/rig.hpp"

namespace weir::conformance::host {

// A rig that ends its machine, too.
class Machine {
 public:
  virtual ~Machine() = default;
  [[nodiscard]] virtual Rig& rig() = 0;
};

struct MachineType {
  std::string_view name;
  std::string_view what;
  std::unique_ptr<Machine> (*make)(std::uint64_t seed);
  unsigned seeds;  // that are worth a run; 0: not a unit test
};
[[nodiscard]] std::span<const MachineType> machine_types();

}  // namespace weir::conformance::host
