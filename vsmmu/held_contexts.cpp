#include "vsmmu/held_contexts.hpp"

#include <bit>
#include <cstring>

#include "stage2/support/make.hpp"

namespace weir::vsmmu {

std::unique_ptr<HeldContexts> HeldContexts::create(stage2::S2Domain& domain, const HiddenRegion& region) {
  auto held = make<HeldContexts>(domain, region);
  if (!held) return nullptr;
  const std::size_t count = region.pages == nullptr ? 0 : region.bytes / kPage4K;
  held->pages_ = make_array<Page>(count);
  if (!held->pages_) return nullptr;
  held->count_ = count;
  return held;
}

HeldContexts::~HeldContexts() {
  for (std::size_t i = 0; i < count_; ++i)
    if (pages_[i].at.value != 0 && domain_.unmap(region_.base + i * kPage4K, kPage4K))
      region_.pages->free(pages_[i].at, kPage4K);
}

std::expected<HeldContexts::Pair, stage2::Error> HeldContexts::reserve() {
  for (std::size_t i = 0; i < count_; ++i) {
    Page& page = pages_[i];
    if (page.at.value == 0) {
      const auto at = region_.pages->allocate(kPage4K);
      if (!at) break;
      const stage2::Attributes read_only{
          .memory = stage2::Memory::normal_wb, .read = true, .write = false, .execute = false};
      if (!domain_.map(region_.base + i * kPage4K, *at, kPage4K, read_only)) {
        region_.pages->free(*at, kPage4K);
        break;
      }
      page = {.at = *at};
    }
    const auto n = static_cast<unsigned>(std::countr_one(page.taken));
    if (n == kPairs) continue;
    page.taken |= std::uint32_t{1} << n;
    return static_cast<Pair>(i * kPairs + n);
  }
  return std::unexpected{stage2::Error::out_of_memory};
}

void HeldContexts::release(Pair pair) { pages_[pair / kPairs].taken &= ~(std::uint32_t{1} << (pair % kPairs)); }

void HeldContexts::store(Pair pair, bool second, const smmu::Cd& cd) {
  const Page& page = pages_[pair / kPairs];
  std::byte* const to = static_cast<std::byte*>(region_.pages->pointer(page.at)) + offset(pair, second) % kPage4K;
  std::memcpy(to, cd.words.data(), sizeof cd);
  region_.pages->publish(to, sizeof cd);
}

}  // namespace weir::vsmmu
