#include "hyp/mem/page_allocator.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

namespace weir {
namespace {

struct Free {
  void operator()(void* at) const { std::free(at); }
};

// Host memory stands in for RAM: addresses are what the allocator is told that they are.
class PageAllocatorTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kBytes = 16_MiB;
  std::unique_ptr<void, Free> ram{std::aligned_alloc(4_MiB, kBytes)};
  PA base{reinterpret_cast<std::uint64_t>(ram.get())};
  PageAllocator pages;
};

TEST_F(PageAllocatorTest, TakesAlignedAndGivesBack) {
  EXPECT_TRUE(pages.add(base, kBytes));
  EXPECT_EQ(pages.free_bytes(), kBytes);
  const auto page = pages.take(kPage4K, kPage4K);
  const auto block = pages.take(4_MiB, 4_MiB);
  ASSERT_TRUE(page && block);
  EXPECT_TRUE(block->aligned(4_MiB));
  EXPECT_EQ(pages.free_bytes(), kBytes - 4_MiB - kPage4K);
  EXPECT_TRUE(pages.add(*page, kPage4K));
  EXPECT_TRUE(pages.add(*block, 4_MiB));
  EXPECT_EQ(pages.take(kBytes, kPage4K), base);  // one range again
}

TEST_F(PageAllocatorTest, RefusesWhatDoesNotFit) {
  EXPECT_FALSE(pages.take(kPage4K, kPage4K));
  EXPECT_TRUE(pages.add(base + kPage4K, 4_MiB));
  EXPECT_FALSE(pages.take(4_MiB + kPage4K, kPage4K));
  EXPECT_FALSE(pages.take(4_MiB, 4_MiB));  // there, but not aligned
  EXPECT_TRUE(pages.take(4_MiB, kPage4K));
  EXPECT_FALSE(pages.take(kPage4K, kPage4K));
}

TEST_F(PageAllocatorTest, PrefersTheSmallestRange) {
  EXPECT_TRUE(pages.add(base, 8_MiB));
  EXPECT_TRUE(pages.add(base + 9_MiB, 2 * kPage4K));
  EXPECT_EQ(pages.take(kPage4K, kPage4K), base + 9_MiB);
  EXPECT_EQ(pages.take(8_MiB, kPage4K), base);
}

TEST_F(PageAllocatorTest, KeepsBelowABound) {
  EXPECT_TRUE(pages.add(base, 2_MiB));
  EXPECT_TRUE(pages.add(base + 4_MiB, 4_MiB));
  EXPECT_EQ(pages.take(2_MiB, kPage4K, base + 6_MiB), base);
  EXPECT_EQ(pages.take(2_MiB, kPage4K, base + 6_MiB), base + 4_MiB);
  EXPECT_FALSE(pages.take(kPage4K, kPage4K, base + 6_MiB));
  EXPECT_FALSE(pages.take(kPage4K, kPage4K, base));
  EXPECT_EQ(pages.free_bytes(), 2_MiB);
  EXPECT_EQ(pages.take(2_MiB, kPage4K), base + 6_MiB);
}

// Memory in pieces: as large as they come, in whole units.
TEST_F(PageAllocatorTest, GivesTheLargestPiecesFirst) {
  EXPECT_TRUE(pages.add(base + kPage4K, 4_MiB));           // one aligned unit of 2 MiB in it, for all its size
  EXPECT_TRUE(pages.add(base + 6_MiB, 4_MiB + kPage4K));   // two
  EXPECT_TRUE(pages.add(base + 12_MiB, 2_MiB - kPage4K));  // none
  EXPECT_EQ(pages.free_units(2_MiB), 6_MiB);
  const std::uint64_t all = pages.free_bytes();

  const auto fits = pages.take_piece(2_MiB, 2_MiB);  // in one piece: from the smallest range that has it
  ASSERT_TRUE(fits);
  EXPECT_EQ(fits->at, base + 2_MiB);
  EXPECT_TRUE(pages.add(fits->at, fits->bytes));

  const auto first = pages.take_piece(8_MiB, 2_MiB);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->at, base + 6_MiB);
  EXPECT_EQ(first->bytes, 4_MiB);
  const auto second = pages.take_piece(4_MiB, 2_MiB);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->at, base + 2_MiB);
  EXPECT_EQ(second->bytes, 2_MiB);
  EXPECT_FALSE(pages.take_piece(2_MiB, 2_MiB));
  EXPECT_EQ(pages.free_units(2_MiB), 0U);
  EXPECT_TRUE(pages.add(first->at, first->bytes) && pages.add(second->at, second->bytes));
  EXPECT_EQ(pages.free_bytes(), all);
}

TEST_F(PageAllocatorTest, KnowsWhatIsFree) {
  EXPECT_TRUE(pages.add(base + 4_MiB, 4_MiB));
  EXPECT_FALSE(pages.add(base + 4_MiB, 4_MiB));
  EXPECT_FALSE(pages.add(base, 4_MiB + kPage4K));
  EXPECT_FALSE(pages.add(base + 5_MiB, kPage4K));
  EXPECT_FALSE(pages.add(base + 7_MiB, 4_MiB));
  EXPECT_FALSE(pages.add(base, kBytes));
  EXPECT_EQ(pages.free_bytes(), 4_MiB);
  EXPECT_TRUE(pages.add(base, 4_MiB));
  EXPECT_TRUE(pages.add(base + 8_MiB, 4_MiB));
  EXPECT_EQ(pages.take(12_MiB, kPage4K), base);
}

// A range that grows page by page past others, of which the smallest is always taken from.
TEST_F(PageAllocatorTest, GrowsInPlace) {
  EXPECT_TRUE(pages.add(base + 8_MiB, 2 * kPage4K));
  EXPECT_TRUE(pages.add(base + 9_MiB, 4 * kPage4K));
  EXPECT_TRUE(pages.add(base + 10_MiB, 4 * kPage4K));
  EXPECT_TRUE(pages.add(base + 11_MiB, 6 * kPage4K));
  for (std::uint64_t i = 0; i < 7; ++i) EXPECT_TRUE(pages.add(base + i * kPage4K, kPage4K));
  EXPECT_EQ(pages.free_bytes(), 23 * kPage4K);
  EXPECT_EQ(pages.take(kPage4K, kPage4K), base + 8_MiB);
  EXPECT_EQ(pages.take(5 * kPage4K, kPage4K), base + 11_MiB);
  EXPECT_EQ(pages.take(7 * kPage4K, kPage4K), base);
  EXPECT_FALSE(pages.take(5 * kPage4K, kPage4K));
}

TEST_F(PageAllocatorTest, ReturnsPartsInAnyOrder) {
  EXPECT_TRUE(pages.add(base, kBytes));
  const auto all = pages.take(kBytes, kPage4K);
  ASSERT_TRUE(all);
  for (std::uint64_t i = 0; i < kBytes / kPage4K; i += 2) EXPECT_TRUE(pages.add(base + i * kPage4K, kPage4K));
  for (std::uint64_t i = 1; i < kBytes / kPage4K; i += 2) EXPECT_TRUE(pages.add(base + i * kPage4K, kPage4K));
  EXPECT_EQ(pages.free_bytes(), kBytes);
  EXPECT_EQ(pages.take(kBytes, kPage4K), base);
}

TEST_F(PageAllocatorTest, RandomUseNeverOverlapsAndLosesNothing) {
  struct Taken {
    PA at;
    std::uint64_t bytes;
  };
  std::mt19937 random{2};
  std::vector<Taken> taken;
  std::vector<bool> used(kBytes / kPage4K);
  EXPECT_TRUE(pages.add(base, kBytes));
  const auto mark = [&](const Taken& t, bool value) {
    for (std::uint64_t i = 0; i < t.bytes / kPage4K; ++i) {
      const auto page = static_cast<std::size_t>((t.at - base) / kPage4K + i);
      ASSERT_NE(used[page], value);
      used[page] = value;
    }
  };
  for (int step = 0; step < 20'000; ++step) {
    if (taken.empty() || random() % 2 == 0) {
      const std::uint64_t bytes = (1 + random() % 64) * kPage4K;
      const std::uint64_t alignment = kPage4K << (random() % 8);
      if (const auto at = pages.take(bytes, alignment)) {
        EXPECT_TRUE(at->aligned(alignment));
        taken.push_back({*at, bytes});
        mark(taken.back(), true);
      }
    } else {
      const auto i = static_cast<std::ptrdiff_t>(random() % taken.size());
      mark(taken[static_cast<std::size_t>(i)], false);
      EXPECT_TRUE(pages.add(taken[static_cast<std::size_t>(i)].at, taken[static_cast<std::size_t>(i)].bytes));
      taken.erase(taken.begin() + i);
    }
  }
  for (const Taken& t : taken) EXPECT_TRUE(pages.add(t.at, t.bytes));
  EXPECT_EQ(pages.free_bytes(), kBytes);
  EXPECT_EQ(pages.take(kBytes, kPage4K), base);
}

}  // namespace
}  // namespace weir
