// What an instruction of the image is replaced by on a CPU that cannot execute it, or not without an erratum: a branch
// to a stub, which does the same and branches back. Portable; writes nothing but the Code.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "hyp/patch/atomic.hpp"

namespace weir::patch {

// The longest stub: CASPAL of doublewords at [SP]. tools/patch-sites counts on it, too.
inline constexpr std::size_t kMaxStubWords = 21;

// A stub in the making, without its branch back.
class Code {
 public:
  constexpr void put(std::uint32_t instruction) {
    if (count_ < words_.size()) words_[count_] = instruction;
    ++count_;
  }
  [[nodiscard]] constexpr bool overflown() const { return count_ > words_.size(); }
  [[nodiscard]] constexpr std::size_t size() const { return count_; }
  constexpr void set(std::size_t index, std::uint32_t instruction) {
    if (index < words_.size()) words_[index] = instruction;
  }
  [[nodiscard]] constexpr std::span<const std::uint32_t> words() const {
    return {words_.data(), overflown() ? std::size_t{0} : count_};
  }

 private:
  std::array<std::uint32_t, kMaxStubWords - 1> words_;  // room for the branch back; no zeroes, so no memset()
  std::size_t count_ = 0;
};

// The same by load and store exclusive. All registers but the destination, and the flags, are as before. The stack is
// used outside of the loop only. Where the atomic acquires and releases, a barrier behind the loop keeps later accesses
// from passing its store: nothing passes an LSE atomic with both (DDI 0487, B2.3, barrier-ordered-before).
void put_exclusive_loop(Code& code, const Atomic& atomic);

// MRS Xt, PAR_EL1 between barriers (Cortex-A77 erratum 1508412).
void put_fenced_read(Code& code, std::uint32_t read_par);

}  // namespace weir::patch
