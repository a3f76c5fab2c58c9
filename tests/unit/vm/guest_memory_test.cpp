#include "hyp/vm/guest_memory.hpp"

#include <gtest/gtest.h>
#include <array>

namespace weir {
namespace {

class GuestMemoryTest : public testing::Test {
 protected:
  static constexpr IPA kBase{0x4000'0000};
  std::array<std::byte, 0x1000> ram_{};
  GuestMemory memory_{kBase, ram_.data(), ram_.size()};
  std::array<std::byte, 8> buffer_{};
};

TEST_F(GuestMemoryTest, CopiesWithinItsRange) {
  buffer_.fill(std::byte{0x5a});
  EXPECT_TRUE(memory_.write(kBase + 0xff8, buffer_));
  EXPECT_EQ(ram_[0xff8], std::byte{0x5a});
  EXPECT_EQ(ram_[0xff7], std::byte{0});
  buffer_.fill(std::byte{0});
  EXPECT_TRUE(memory_.read(kBase + 0xff8, buffer_));
  EXPECT_EQ(buffer_[7], std::byte{0x5a});
}

TEST_F(GuestMemoryTest, RefusesWhatSticksOut) {
  EXPECT_FALSE(memory_.read(kBase + 0xff9, buffer_));
  EXPECT_FALSE(memory_.read(kBase + 0x1000, buffer_));
  EXPECT_FALSE(memory_.read(kBase - 1, buffer_));
  EXPECT_FALSE(memory_.write(IPA{0}, buffer_));
  EXPECT_FALSE(memory_.write(IPA{~std::uint64_t{0}}, buffer_));
  EXPECT_FALSE(memory_.contains(kBase, 0x1001));
  EXPECT_FALSE(memory_.contains(kBase + 8, ~std::uint64_t{0}));
  EXPECT_FALSE(memory_.contains(IPA{~std::uint64_t{0} - 3}, 8));
  EXPECT_TRUE(memory_.view(kBase, 0x1001).empty());
  EXPECT_EQ(memory_.view(kBase + 1, 0xfff).size(), 0xfffU);
}

TEST(GuestMemory, EmptyRefusesEverything) {
  GuestMemory none;
  std::array<std::byte, 1> byte{};
  EXPECT_FALSE(none.read(IPA{0}, byte));
}

}  // namespace
}  // namespace weir
