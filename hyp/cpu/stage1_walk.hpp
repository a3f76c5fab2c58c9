// At which level a guest's stage-1 walk met a fault of stage 2. The syndrome has stage 2's level, not stage 1's, so the walk
// is done again as the CPU does it (Arm ARM D8.2). Portable.
#pragma once

#include <cstdint>
#include <optional>

#include "guest-abi/types.hpp"

namespace weir {

// The EL1&0 regime, as TCR_EL1, TTBR0_EL1, TTBR1_EL1 and SCTLR_EL1.EE have it.
struct Stage1Regime {
  std::uint64_t tcr{};
  std::uint64_t ttbr0{};
  std::uint64_t ttbr1{};
  bool big_endian{};
};

// Reads the 8 bytes of a descriptor. No value: there is no memory.
class DescriptorReader {
 public:
  virtual std::optional<std::uint64_t> read(IPA at) = 0;

 protected:
  ~DescriptorReader() = default;
};

// The level, 0 to 3, of the descriptor in the 4 KiB page of `fault` that the walk for `va` uses. With `update` the walk
// failed to write a leaf descriptor (FEAT_HAFDBS), otherwise to read one. If the tables have changed since and no level
// fits, the level at which the walk ends now.
[[nodiscard]] unsigned stage1_fault_level(const Stage1Regime& regime, std::uint64_t va, IPA fault, bool update,
                                          DescriptorReader& memory);

}  // namespace weir
