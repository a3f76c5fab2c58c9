// Walks that take no lock.
#include <gtest/gtest.h>

#include "stage2/table.hpp"
#include "tests/unit/fakes/arena_table_pages.hpp"
#include "tests/unit/stage2/table_support.hpp"

namespace weir::stage2 {
namespace {

using namespace test;
using weir::test::ArenaTablePages;

constexpr std::uint64_t kBase = 0x4000'0000;

TEST(TableWalk, PointersMayBeSums) {
  for (unsigned bits = 32; bits <= 48; ++bits) {
    ArenaTablePages pages;
    const auto table = *Table::create(geometry(bits), pages, {});
    ASSERT_TRUE(table->map(IPA{kBase + 0x3000}, PA{0x1234'5000}, 0x2000, kReadOnly));
    ASSERT_TRUE(table->map(IPA{kBase + 2_MiB}, PA{4_MiB}, 2_MiB, kRam));
    ASSERT_TRUE(table->map(IPA{2_GiB}, PA{4_GiB}, 1_GiB, kRam));
    EXPECT_FALSE(table->walk(IPA{kBase}));
    EXPECT_EQ(table->walk(IPA{kBase + 0x4567}), (Mapping{PA{0x1234'6567}, kReadOnly, 3}));
    EXPECT_EQ(table->walk(IPA{kBase + 2_MiB + 0x12345}), (Mapping{PA{4_MiB + 0x12345}, kRam, 2}));
    const unsigned level = table->geometry().start_level() == 2 ? 2 : 1;
    EXPECT_EQ(table->walk(IPA{2_GiB + 0x1234'5678}), (Mapping{PA{4_GiB + 0x1234'5678}, kRam, level}));
    EXPECT_FALSE(table->walk(table->geometry().input_end()));
    EXPECT_FALSE(table->walk(IPA{~std::uint64_t{0}}));
    EXPECT_TRUE(table->check_invariants());
  }
}

TEST(TableWalk, RetiredPagesCanStillBeWalked) {
  // A walker that stands in the last table while it is unlinked; the sum still leads there, and it is as it was.
  ArenaTablePages pages;
  const auto table = *Table::create(geometry(40), pages, {.pages_only = true});
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 2_MiB, kRam));
  RetiredPages retired, later;
  ASSERT_TRUE(table->unmap(IPA{kBase}, 2_MiB, retired));
  EXPECT_EQ(retired.count(), 2u);
  EXPECT_EQ(pages.in_use(), 3u);
  later.take(retired);
  EXPECT_TRUE(retired.empty());
  EXPECT_EQ(later.count(), 2u);
  table->release(retired);
  EXPECT_EQ(pages.in_use(), 3u);
  table->release(later);
  EXPECT_EQ(pages.in_use(), 1u);
}

}  // namespace
}  // namespace weir::stage2
