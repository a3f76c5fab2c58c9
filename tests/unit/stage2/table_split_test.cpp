// Blocks that are split and merged while hardware walks the table: what it can see at each moment, by break-before-make
// level.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "stage2/table.hpp"
#include "tests/unit/fakes/failing_new.hpp"
#include "tests/unit/fakes/fake_table_pages.hpp"
#include "tests/unit/stage2/table_support.hpp"

namespace weir::stage2 {
namespace {

using namespace test;
using weir::test::FailingNew;

constexpr std::uint64_t kBase = 0x4000'0000;

// A TLB that fetches everything it may, as soon as it may, and forgets only what is invalidated. It tells of what BBML 1
// forbids: entries of two sizes for one address, of which none came from a block with nT.
class EagerTlb {
 public:
  EagerTlb(FakeTablePages& pages, const Table& table, std::vector<std::uint64_t> watched)
      : pages_{pages}, table_{table}, watched_{std::move(watched)} {
    pages_.on_publish = [this](const void*, std::size_t) { fetch(); };
    fetch();
  }
  ~EagerTlb() { pages_.on_publish = nullptr; }
  EagerTlb(const EagerTlb&) = delete;
  EagerTlb& operator=(const EagerTlb&) = delete;

  void fetch() {
    for (const std::uint64_t at : watched_) {
      const auto walked = hardware_walk(pages_, table_, at);
      if (!walked) continue;
      if (walked->level < 3 && walked->nt) continue;  // not cached in a way that conflicts
      entries_[at].insert(walked->level);
      if (entries_[at].size() > 1) ++conflicts;
    }
  }
  void invalidate(std::uint64_t from, std::uint64_t bytes) {
    // An entry of any size that covers a part of the range goes.
    for (auto& [at, levels] : entries_)
      std::erase_if(levels, [&](unsigned level) {
        const std::uint64_t size = std::uint64_t{1} << (12 + 9 * (3 - level));
        const std::uint64_t start = at & ~(size - 1);
        return start < from + bytes && start + size > from;
      });
    fetch();
  }
  unsigned conflicts = 0;

 private:
  FakeTablePages& pages_;
  const Table& table_;
  std::vector<std::uint64_t> watched_;
  std::map<std::uint64_t, std::set<unsigned>> entries_;
};

// Around the page that the tests take out of a gigabyte.
const std::vector<std::uint64_t> kWatched{kBase,
                                          kBase + 0x1f'f000,
                                          kBase + 0x20'0000,
                                          kBase + 0x20'1000,
                                          kBase + 0x20'2000,
                                          kBase + 0x3f'f000,
                                          kBase + 0x40'0000,
                                          kBase + 0x3fff'f000};

TEST(TableSplit, Bbml1SplitsWithoutAnEntryOfTwoSizes) {
  FakeTablePages pages;
  auto table = *Table::create(geometry(40), pages, {.bbml = 1});
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 1_GiB, kRam));
  table->set_walked(true);
  EagerTlb tlb{pages, *table, kWatched};
  RetiredPages retired;
  ASSERT_TRUE(table->prepare_split(IPA{kBase + 0x20'1000}, 0x1000));
  tlb.invalidate(kBase + 0x20'1000, 0x1000);
  ASSERT_TRUE(table->unmap(IPA{kBase + 0x20'1000}, 0x1000, retired));
  EXPECT_EQ(tlb.conflicts, 0u);
  tlb.invalidate(kBase + 0x20'1000, 0x1000);
  EXPECT_EQ(tlb.conflicts, 0u);
  EXPECT_EQ(table->page_count(), 2u + 2);
  EXPECT_TRUE(table->check_invariants());
}

TEST(TableSplit, TheEagerTlbNoticesASplitWithoutNt) {
  FakeTablePages pages;
  auto table = *Table::create(geometry(40), pages, {.bbml = 2});
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 1_GiB, kRam));
  table->set_walked(true);
  EagerTlb tlb{pages, *table, kWatched};
  RetiredPages retired;
  ASSERT_TRUE(table->unmap(IPA{kBase + 0x20'1000}, 0x1000, retired));
  EXPECT_NE(tlb.conflicts, 0u);
}

TEST(TableSplit, PreparingAgainSaysSoAgain) {
  // Somebody else's invalidation of the same block may not be complete.
  FakeTablePages pages;
  auto table = *Table::create(geometry(40), pages, {.bbml = 1});
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 1_GiB, kRam));
  EXPECT_FALSE(table->prepare_split(IPA{kBase + 0x1000}, 0x1000)) << "nothing walks it";
  table->set_walked(true);
  EXPECT_TRUE(table->prepare_split(IPA{kBase + 0x1000}, 0x1000));
  EXPECT_TRUE(table->prepare_split(IPA{kBase + 0x20'0000}, 0x1000));
  EXPECT_FALSE(table->prepare_split(IPA{kBase}, 1_GiB)) << "all of the block";
  EXPECT_FALSE(table->prepare_split(IPA{kBase + 1_GiB}, 0x1000)) << "a hole";
  EXPECT_TRUE(table->check_invariants());
}

TEST(TableMerge, PagesBecomeABlockAgain) {
  for (unsigned bbml = 0; bbml <= 2; ++bbml) {
    SCOPED_TRACE(bbml);
    FakeTablePages pages;
    auto table = *Table::create(geometry(40), pages, {.bbml = bbml});
    ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 1_GiB, kRam));
    RetiredPages retired;
    // One page goes and comes back.
    ASSERT_TRUE(table->unmap(IPA{kBase + 0x20'1000}, 0x1000, retired));
    EXPECT_EQ(table->merge(IPA{kBase}, 1_GiB, retired)->bytes, 0u) << "a hole";
    ASSERT_TRUE(table->map(IPA{kBase + 0x20'1000}, PA{kBase + 0x20'1000}, 0x1000, kRam));
    table->set_walked(true);
    EagerTlb tlb{pages, *table, kWatched};
    const auto merged = table->merge(IPA{kBase + 0x20'1000}, 0x1000, retired);
    ASSERT_EQ(merged.has_value(), bbml != 0);
    if (!merged) {
      EXPECT_EQ(merged.error(), Error::live_block);
      continue;
    }
    // Both levels, the 2 MiB and the 1 GiB around the page.
    EXPECT_EQ(merged->ipa, IPA{kBase});
    EXPECT_EQ(merged->bytes, 1_GiB);
    EXPECT_EQ(retired.count(), 2u);
    EXPECT_EQ(pages.frees, 0u);
    tlb.invalidate(merged->ipa.value, merged->bytes);
    EXPECT_EQ(table->finish_merge(*merged), bbml == 1);
    tlb.invalidate(merged->ipa.value, merged->bytes);
    if (bbml == 1) {
      EXPECT_EQ(tlb.conflicts, 0u);
    } else {
      EXPECT_NE(tlb.conflicts, 0u) << "which BBML 2 resolves";
    }
    EXPECT_FALSE(table->finish_merge(*merged));
    EXPECT_EQ(table->lookup(IPA{kBase + 0x20'1234})->level, 1u);
    EXPECT_EQ(table->lookup(IPA{kBase + 0x20'1234})->at, PA{kBase + 0x20'1234});
    EXPECT_FALSE(hardware_walk(pages, *table, kBase)->nt);
    EXPECT_EQ(table->page_count(), 2u);
    EXPECT_TRUE(table->check_invariants());
    table->release(retired);
    EXPECT_EQ(pages.in_use, 2u);
  }
}

TEST(TableMerge, OnlyWhatIsOnePiece) {
  FakeTablePages pages;
  auto table = *Table::create(geometry(40), pages, {});
  RetiredPages retired;
  const auto merges = [&](std::uint64_t at) { return table->merge(IPA{kBase + at}, 2_MiB, retired)->bytes != 0; };
  const auto halves = [&](std::uint64_t at, std::uint64_t second, Attributes attributes) {
    ASSERT_TRUE(table->map(IPA{kBase + at}, PA{kBase + at}, 1_MiB, kRam));
    ASSERT_TRUE(table->map(IPA{kBase + at + 1_MiB}, PA{second}, 1_MiB, attributes));
  };
  halves(0, kBase + 1_MiB, kRam);
  EXPECT_TRUE(merges(0));
  halves(2_MiB, kBase + 3_MiB + 0x1000, kRam);
  EXPECT_FALSE(merges(2_MiB)) << "the output goes on elsewhere";
  halves(4_MiB, kBase + 5_MiB, kReadOnly);
  EXPECT_FALSE(merges(4_MiB)) << "other permissions";
  halves(6_MiB, kBase + 7_MiB, kDevice);
  EXPECT_FALSE(merges(6_MiB)) << "another memory type";
  ASSERT_TRUE(table->map(IPA{kBase + 8_MiB}, PA{kBase + 0x1000}, 2_MiB, kRam));
  EXPECT_FALSE(merges(8_MiB)) << "the output is not aligned";
  ASSERT_TRUE(table->map(IPA{kBase + 10_MiB}, PA{kBase + 10_MiB}, 1_MiB, kRam));
  EXPECT_FALSE(merges(10_MiB)) << "half of it is a hole";
  EXPECT_EQ(table->merge(IPA{kBase}, 0x800, retired).error(), Error::misaligned);
  EXPECT_EQ(table->merge(table->geometry().input_end(), 0x1000, retired).error(), Error::out_of_range);
  EXPECT_TRUE(table->check_invariants());
  table->release(retired);

  auto paged = *Table::create(geometry(40), pages, {.pages_only = true});
  ASSERT_TRUE(paged->map(IPA{kBase}, PA{kBase}, 2_MiB, kRam));
  EXPECT_EQ(paged->merge(IPA{kBase}, 2_MiB, retired)->bytes, 0u);
}

TEST(TableMerge, NeedsNoMemory) {
  FakeTablePages pages;
  auto table = *Table::create(geometry(40), pages, {});
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 1_MiB, kRam));
  ASSERT_TRUE(table->map(IPA{kBase + 1_MiB}, PA{kBase + 1_MiB}, 1_MiB, kRam));
  RetiredPages retired;
  pages.fail_after = 0;
  const FailingNew failing{0};
  EXPECT_EQ(table->merge(IPA{kBase}, 0x1000, retired)->bytes, 2_MiB);
  EXPECT_EQ(table->lookup(IPA{kBase})->level, 2u);
  table->release(retired);
}

}  // namespace
}  // namespace weir::stage2
