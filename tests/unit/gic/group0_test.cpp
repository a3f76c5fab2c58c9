#include "hyp/gic/group0.hpp"

#include <gtest/gtest.h>

namespace weir::gic {
namespace {

// ICC_PMR_EL1 of a CPU interface with `bits` priority bits, written and read by Non-secure EL2 (IHI 0069, 4.8.1).
std::uint64_t through_pmr(std::uint64_t value, unsigned bits, bool scr_fiq) {
  const std::uint64_t implemented = 0xff00U >> bits & 0xff;
  if (!scr_fiq) return value & implemented;
  const std::uint64_t secure = (0x80 | value >> 1) & implemented;
  return (secure & 0x80) != 0 ? secure << 1 & 0xff : 0;
}

TEST(Group0, KnownByOnePriorityBit) {
  for (unsigned bits = 5; bits <= 8; ++bits) {
    EXPECT_TRUE(group0_is_ours(through_pmr(group0_probe(bits), bits, false))) << bits;
    EXPECT_FALSE(group0_is_ours(through_pmr(group0_probe(bits), bits, true))) << bits;
  }
}

}  // namespace
}  // namespace weir::gic
