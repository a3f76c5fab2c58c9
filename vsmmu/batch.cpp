#include "vsmmu/batch.hpp"

#include <algorithm>
#include <bit>

namespace weir::vsmmu {

static_assert(Batch::kCapacity <= 256, "places fit in a hint");

unsigned Batch::drop_tlbis(VMID vmid) {
  using smmu::Opcode;
  const auto begin = commands_.begin();
  const auto end = begin + static_cast<std::ptrdiff_t>(count_);
  const auto kept = std::remove_if(begin, end, [&](const smmu::Command& c) {
    const Opcode op = c.opcode();
    const bool tlbi = op == Opcode::TLBI_NH_VA || op == Opcode::TLBI_NH_VAA || op == Opcode::TLBI_NH_ASID;
    return tlbi && c.get<Va::VMID>() == vmid;
  });
  const auto dropped = static_cast<unsigned>(end - kept);
  count_ -= dropped;
  return dropped;
}

std::size_t Batch::add_run(std::uint64_t first, std::span<const smmu::Command> run) {
  std::size_t count = count_;
  std::size_t taken = 0;
  for (; taken < run.size() && count < kCapacity; ++taken) {
    const std::uint64_t second = run[taken].words[1];
    std::uint8_t& hint = hints_[slot(first, second)];
    smmu::Command& equal = commands_[hint];
    if (hint < count && equal.words[0] == first && ((equal.words[1] ^ second) & ~Va::Leaf::mask) == 0) {
      equal.words[1] &= second;
      continue;
    }
    hint = static_cast<std::uint8_t>(count);
    commands_[count++].words = {first, second};
  }
  count_ = count;
  return taken;
}

[[gnu::noinline]] bool Batch::extend(smmu::Command& last, const smmu::Command& next) {
  // All but the place and the extent of the range is equal.
  constexpr std::uint64_t kExtent = Va::NUM::mask | Va::SCALE::mask;
  if (((last.words[0] ^ next.words[0]) & ~kExtent) != 0) return false;
  if (((last.words[1] ^ next.words[1]) & ~Va::Address::mask) != 0) return false;
  const auto granules = [](const smmu::Command& c) {
    return (c.get<Va::NUM>() + 1) << std::min<std::uint64_t>(c.get<Va::SCALE>(), 39);
  };
  const unsigned granule = 10 + 2 * static_cast<unsigned>(last.get<Va::TG>());
  const std::uint64_t first = last.get<Va::Address>().value;
  const std::uint64_t bytes = granules(last) << granule;
  if (first + bytes < first || first + bytes != next.get<Va::Address>().value) return false;
  // (NUM + 1) << SCALE; SCALE has 5 bits that every instance with ranges understands.
  const std::uint64_t both = granules(last) + granules(next);
  const auto scale = static_cast<unsigned>(std::countr_zero(both));
  if (scale > 31 || (both >> scale) > Va::NUM::max + 1) return false;
  last.words[0] = (last.words[0] & ~kExtent) | Va::NUM::encode((both >> scale) - 1) | Va::SCALE::encode(scale);
  return true;
}

}  // namespace weir::vsmmu
