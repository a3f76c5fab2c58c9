#include "hyp/vm/guest_memory.hpp"

#include <gtest/gtest.h>

#include <array>
#include <utility>
#include <vector>

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

// What was asked of the caches, in bytes.
std::vector<std::pair<const void*, std::size_t>> maintained;
void note(const void* at, std::size_t bytes) { maintained.emplace_back(at, bytes); }

TEST_F(GuestMemoryTest, AVsmmuMaintainsCachesUntilTheGuestReliesOnCoherency) {
  using namespace smmu;
  maintained.clear();
  VsmmuMemory seen{memory_, note};
  EXPECT_TRUE(seen.read(kBase + 8, buffer_));
  ASSERT_EQ(maintained.size(), 1u) << "before the read";
  EXPECT_EQ(maintained[0], (std::pair<const void*, std::size_t>{&ram_[8], 8}));
  EXPECT_TRUE(seen.write(kBase + 16, buffer_));
  EXPECT_EQ(maintained.size(), 3u) << "before and after the write";
  EXPECT_FALSE(seen.read(kBase + 0xff9, buffer_));
  EXPECT_FALSE(seen.write(kBase - 1, buffer_));
  EXPECT_EQ(maintained.size(), 3u) << "nothing outside";

  constexpr auto kWb = QueueCacheability::write_back;
  CR1 cr1 = CR1{}.set<CR1::TABLE_OC>(kWb).set<CR1::TABLE_IC>(kWb).set<CR1::QUEUE_OC>(kWb).set<CR1::QUEUE_IC>(kWb);
  const IDR0 coherent = IDR0{}.set<IDR0::COHACC>(true);
  seen.follow(coherent, cr1);
  EXPECT_TRUE(seen.coherent());
  EXPECT_TRUE(seen.read(kBase, buffer_) && seen.write(kBase, buffer_));
  EXPECT_EQ(maintained.size(), 3u);
  seen.follow(IDR0{}, cr1);
  EXPECT_FALSE(seen.coherent());
  CR1 table = cr1;
  seen.follow(coherent, table.set<CR1::TABLE_IC>(QueueCacheability::non_cacheable));
  EXPECT_FALSE(seen.coherent());
  CR1 queue = cr1;
  seen.follow(coherent, queue.set<CR1::QUEUE_OC>(QueueCacheability::non_cacheable));
  EXPECT_FALSE(seen.coherent());
}

TEST(GuestMemory, EmptyRefusesEverything) {
  GuestMemory none;
  std::array<std::byte, 1> byte{};
  EXPECT_FALSE(none.read(IPA{0}, byte));
}

}  // namespace
}  // namespace weir
