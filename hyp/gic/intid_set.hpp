// A fixed set of INTIDs.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace weir {

template <std::uint32_t End>  // INTIDs 0..End-1
class IntidSet {
 public:
  // intid < End
  constexpr void set(std::uint32_t intid) { words_[intid / 64] |= bit(intid); }
  constexpr void reset(std::uint32_t intid) { words_[intid / 64] &= ~bit(intid); }
  [[nodiscard]] constexpr bool test(std::uint32_t intid) const { return (words_[intid / 64] & bit(intid)) != 0; }
  constexpr void clear() { words_ = {}; }
  [[nodiscard]] constexpr bool empty() const {
    for (const std::uint64_t word : words_)
      if (word != 0) return false;
    return true;
  }

  // In ascending order. `fn` may remove members; those that it adds may or may not be visited.
  template <typename Fn>
  constexpr void for_each(Fn&& fn) const {
    for (std::size_t i = 0; i < words_.size(); ++i)
      for (std::uint64_t left = words_[i]; left != 0; left &= left - 1)
        fn(static_cast<std::uint32_t>(i * 64) + static_cast<std::uint32_t>(std::countr_zero(left)));
  }

 private:
  static constexpr std::uint64_t bit(std::uint32_t intid) { return std::uint64_t{1} << (intid % 64); }
  std::array<std::uint64_t, (End + 63) / 64> words_{};
};

}  // namespace weir
