// Index arithmetic of the mirrored circular queues (IHI 0070, 3.5.1): an index with a wrap flag above it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "guest-abi/types.hpp"

namespace weir::vsmmu {

struct Ring {
  IPA base;                // of entry 0, aligned as the SMMU aligns it
  std::uint32_t both = 1;  // of an index: index bits and wrap flag, that is 2 * entries - 1

  // `address` as in the BASE register, `log2size` capped at `max_log2` (6.3.26); entries of 2^`entry_log2` bytes.
  static constexpr Ring make(std::uint64_t address, std::uint64_t log2size, unsigned max_log2, unsigned entry_log2) {
    const auto log2 = static_cast<unsigned>(std::min<std::uint64_t>(log2size, max_log2));  // at most 19
    const std::uint64_t alignment = std::max<std::uint64_t>(32, std::uint64_t{1} << (log2 + entry_log2));
    return {IPA{address}.align_down(alignment), (std::uint32_t{2} << log2) - 1};
  }

  [[nodiscard]] constexpr std::uint32_t entries() const { return both / 2 + 1; }
  [[nodiscard]] constexpr std::uint32_t slot(std::uint32_t index) const { return index & (both / 2); }
  [[nodiscard]] constexpr std::uint32_t normal(std::uint32_t index) const { return index & both; }
  [[nodiscard]] constexpr std::uint32_t next(std::uint32_t index, std::uint32_t n = 1) const {
    return normal(index + n);
  }
  // Entries from `from` up to `to`; more than entries() if the two are in an inconsistent state.
  [[nodiscard]] constexpr std::uint32_t distance(std::uint32_t from, std::uint32_t to) const {
    return normal(to - from);
  }
  [[nodiscard]] constexpr bool consistent(std::uint32_t cons, std::uint32_t prod) const {
    return distance(cons, prod) <= entries();
  }
};

}  // namespace weir::vsmmu
