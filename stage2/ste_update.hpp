// The hitless update of a stream table entry that hardware may be using: which 64-bit words are stored in which order,
// with an invalidation (CFGI_STE + SYNC) after which of them (IHI 0070 3.21.3).
//
// The SMMU reads an STE as eight 64-bit words in any order and may keep what it read. A step is hitless if each mixture
// of old and new words that it can so observe means the same as the old or the new entry. Words whose every bit is
// ignored may change at will; one word with used bits may change per step. If more must change at once, ATS is taken out
// of the way first if that helps (EATS = 0 is always legal), and otherwise V goes to 0 in between.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "guest-abi/smmu/ste.hpp"

namespace weir::stage2 {

inline constexpr std::size_t kSteWords = smmu::Ste::bytes / 8;
using SteWords = std::array<std::uint64_t, kSteWords>;

// The bits of `ste` that have an effect as long as the other bits stay what they are; the rest is IGNORED (5.2).
[[nodiscard]] SteWords used_bits(const smmu::Ste& ste);

// A target of the planner's stores: the live STE.
class SteSink {
 public:
  // One single-copy atomic store of a word.
  virtual void store(std::size_t word, std::uint64_t value) = 0;
  // Makes the stores before it visible, invalidates the SMMU's copy (CFGI_STE) and waits for that (SYNC).
  virtual void sync() = 0;

 protected:
  ~SteSink() = default;
};

// Turns `current`, the content of the live entry, into `target`. True: hitless; false: the stream was invalid for a
// while.
bool update_ste(const smmu::Ste& current, const smmu::Ste& target, SteSink& sink);

}  // namespace weir::stage2
