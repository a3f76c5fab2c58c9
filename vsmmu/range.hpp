// Range invalidation in single steps, for an instance without IDR3.RIL (IHI 0070, 4.4.1.1): the addresses at which
// invalidations without range and hint remove whatever the range invalidation has to.
#pragma once

#include <algorithm>
#include <cstdint>

#include "guest-abi/smmu/command.hpp"

namespace weir::vsmmu {

struct Steps {
  std::uint64_t first = 0;  // address of the first step
  unsigned log2 = 0;        // of the distance
  std::uint64_t count = 0;

  // For NUM, SCALE, TTL and TG of a legal command, TG != none. A step is as large as the leaf entries that TTL names, else a
  // granule: an invalidation at any address of an entry removes it. The range ends with the address space.
  static constexpr Steps of(std::uint64_t address, smmu::TlbiRange r) {
    constexpr unsigned kMaxScale = 39;  // larger values mean 39
    const unsigned granule = 10 + 2 * static_cast<unsigned>(r.tg);
    const unsigned log2 = r.ttl == 0 ? granule : granule + (3 - r.ttl) * (granule - 3);
    const std::uint64_t span = std::uint64_t{r.num + 1} << (std::min(r.scale, kMaxScale) + granule);
    const std::uint64_t last = address > ~std::uint64_t{0} - (span - 1) ? ~std::uint64_t{0} : address + (span - 1);
    return {(address >> log2) << log2, log2, (last >> log2) - (address >> log2) + 1};
  }
  [[nodiscard]] constexpr std::uint64_t at(std::uint64_t i) const { return first + (i << log2); }
};

}  // namespace weir::vsmmu
