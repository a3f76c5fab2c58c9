// Context descriptors that Weir holds for streams: two slots for each, in pages that only the domain shows, read-only
// (design: "Precise mode"). The hardware never sees a slot change: the one that no STE points to is written, and made the
// stream's by the store of one STE word.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>

#include "guest-abi/smmu/cd.hpp"
#include "guest-abi/types.hpp"
#include "stage2/domain.hpp"
#include "vsmmu/ports.hpp"

namespace weir::vsmmu {

class HeldContexts {
 public:
  // The slots of one stream.
  using Pair = std::uint16_t;

  // Without pages at first. `domain` and what `region` names outlive it. nullptr: out of memory.
  [[nodiscard]] static std::unique_ptr<HeldContexts> create(stage2::S2Domain& domain, const HiddenRegion& region);
  // No STE points here any more. A page that the domain does not give back is lost.
  ~HeldContexts();
  HeldContexts(const HeldContexts&) = delete;
  HeldContexts& operator=(const HeldContexts&) = delete;

  // Errors, with nothing changed: out_of_memory (no page, no table for it, or the region is full).
  [[nodiscard]] std::expected<Pair, stage2::Error> reserve();
  // No STE points to either slot, nor does any SMMU remember one.
  void release(Pair pair);

  [[nodiscard]] IPA address(Pair pair, bool second) const { return region_.base + offset(pair, second); }
  // No STE points to the slot. Visible to the hardware on return.
  void store(Pair pair, bool second, const smmu::Cd& cd);
  [[nodiscard]] bool covers(IPA at) const { return at >= region_.base && at - region_.base < region_.bytes; }

  HeldContexts(stage2::S2Domain& domain, const HiddenRegion& region) : domain_{domain}, region_{region} {}

 private:
  static constexpr std::size_t kPairs = kPage4K / (2 * sizeof(smmu::Cd));  // in a page
  struct Page {
    PA at;  // 0: none
    std::uint32_t taken = 0;
  };
  static_assert(kPairs == 32, "taken has a bit for each");
  [[nodiscard]] static std::uint64_t offset(Pair pair, bool second) {
    return (std::uint64_t{pair} * 2 + (second ? 1 : 0)) * sizeof(smmu::Cd);
  }

  stage2::S2Domain& domain_;
  HiddenRegion region_;
  std::unique_ptr<Page[]> pages_;
  std::size_t count_ = 0;
};

}  // namespace weir::vsmmu
