// The dirty log, with hardware that makes pages dirty at any time.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "stage2/table.hpp"
#include "tests/unit/fakes/arena_table_pages.hpp"
#include "tests/unit/fakes/failing_new.hpp"
#include "tests/unit/fakes/fake_table_pages.hpp"
#include "tests/unit/stage2/table_support.hpp"

namespace weir::stage2 {
namespace {

using namespace test;
using weir::test::FailingNew;

constexpr std::uint64_t kBase = 0x4000'0000;
constexpr Table::Options kLogged{.dirty_state = true};
constexpr Table::Options kLoggedPages{.pages_only = true, .dirty_state = true};

std::vector<std::uint64_t> collect(Table& table, std::uint64_t from, std::size_t pages,
                                   std::size_t* cleaned = nullptr) {
  std::vector<std::uint64_t> bits((pages + 63) / 64);
  const auto done = table.collect_dirty(IPA{from}, pages, bits);
  EXPECT_TRUE(done);
  if (cleaned != nullptr) *cleaned = *done;
  std::vector<std::uint64_t> found;
  for (std::size_t i = 0; i < bits.size() * 64; ++i)
    if ((bits[i / 64] >> (i % 64) & 1) != 0) found.push_back(from + i * 0x1000);
  return found;
}
using Pages = std::vector<std::uint64_t>;

TEST(TableLog, WritablePagesBecomeClean) {
  FakeTablePages pages;
  const auto table = *Table::create(geometry(40), pages, kLoggedPages);
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 0x8000, kRam));
  ASSERT_TRUE(table->map(IPA{kBase + 0x8000}, PA{kBase}, 0x1000, kReadOnly));
  ASSERT_TRUE(table->map(IPA{kBase + 0xa000}, PA{kBase}, 0x1000, {.read = false, .write = true}));
  ASSERT_TRUE(table->start_log(IPA{kBase}, 0x10000));
  EXPECT_TRUE(table->logging());
  EXPECT_TRUE(table->check_invariants());
  const auto clean = hardware_walk(pages, *table, kBase);
  EXPECT_TRUE(clean->dbm);
  EXPECT_EQ(clean->attributes & 0xc0, 0x40u);
  EXPECT_EQ(table->lookup(IPA{kBase})->attributes, kRam) << "it may be written all the same";
  EXPECT_FALSE(hardware_walk(pages, *table, kBase + 0x8000)->dbm);
  EXPECT_EQ(table->lookup(IPA{kBase + 0x8000})->attributes, kReadOnly);
  EXPECT_TRUE(hardware_walk(pages, *table, kBase + 0xa000)->dbm);
  EXPECT_EQ(hardware_walk(pages, *table, kBase + 0xa000)->attributes & 0xc0, 0u);

  EXPECT_TRUE(collect(*table, kBase, 16).empty());
  EXPECT_TRUE(hardware_write(pages, *table, kBase + 0x3000));
  EXPECT_TRUE(hardware_write(pages, *table, kBase + 0xa000));
  EXPECT_FALSE(hardware_write(pages, *table, kBase + 0x8000));
  std::size_t cleaned = 0;
  EXPECT_EQ(collect(*table, kBase, 16, &cleaned), (Pages{kBase + 0x3000, kBase + 0xa000}));
  EXPECT_EQ(cleaned, 2u);
  EXPECT_EQ(table->lookup(IPA{kBase + 0xa000})->attributes, (Attributes{.read = false, .write = true}));
  EXPECT_TRUE(collect(*table, kBase, 16, &cleaned).empty());
  EXPECT_EQ(cleaned, 0u);
  EXPECT_TRUE(hardware_write(pages, *table, kBase + 0x3000)) << "and again";
  EXPECT_EQ(collect(*table, kBase + 0x2000, 3), Pages{kBase + 0x3000});

  ASSERT_TRUE(hardware_write(pages, *table, kBase + 0x1000));
  ASSERT_TRUE(table->stop_log(IPA{kBase}, 0x10000));
  table->end_log();
  EXPECT_TRUE(table->check_invariants());
  for (std::uint64_t at = 0; at < 0x8000; at += 0x1000) {
    EXPECT_FALSE(hardware_walk(pages, *table, kBase + at)->dbm);
    EXPECT_EQ(hardware_walk(pages, *table, kBase + at)->attributes & 0xc0, 0xc0u);
  }
}

TEST(TableLog, BitsAreAddedToWhatIsThere) {
  FakeTablePages pages;
  const auto table = *Table::create(geometry(40), pages, kLoggedPages);
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 4_MiB, kRam));
  ASSERT_TRUE(table->start_log(IPA{kBase}, 4_MiB));
  for (const std::uint64_t page : {0u, 63u, 64u, 511u, 512u, 1023u})
    ASSERT_TRUE(hardware_write(pages, *table, kBase + page * 0x1000));
  std::array<std::uint64_t, 16> bits{};
  bits[0] = 4;
  EXPECT_EQ(*table->collect_dirty(IPA{kBase}, 1000, bits), 5u);
  EXPECT_EQ(bits[0], 5 | std::uint64_t{1} << 63);
  EXPECT_EQ(bits[1], 1u);
  EXPECT_EQ(bits[7], std::uint64_t{1} << 63);
  EXPECT_EQ(bits[8], 1u);
  EXPECT_EQ(bits[15], 0u) << "past the bound";
  EXPECT_EQ(*table->collect_dirty(IPA{kBase}, 1024, bits), 1u);
  EXPECT_EQ(table->collect_dirty(IPA{kBase}, 1025, bits).error(), Error::out_of_range);
  EXPECT_EQ(table->collect_dirty(IPA{kBase}, ~std::size_t{0}, bits).error(), Error::out_of_range);
  EXPECT_EQ(table->collect_dirty(IPA{kBase + 1}, 1, bits).error(), Error::misaligned);
  EXPECT_EQ(table->collect_dirty(table->geometry().input_end(), 1, bits).error(), Error::out_of_range);
}

TEST(TableLog, SplitsBlocksAsFarAsTheLevelAllows) {
  for (unsigned bbml = 0; bbml <= 2; ++bbml) {
    SCOPED_TRACE(bbml);
    FakeTablePages pages;
    const auto table = *Table::create(geometry(40), pages, {.bbml = bbml, .dirty_state = true});
    ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 2_GiB, kRam));
    table->set_walked(true);
    const auto refused = table->start_log(IPA{kBase + 1_MiB}, 3_MiB);
    ASSERT_EQ(refused.has_value(), bbml == 2);
    if (!refused) {
      EXPECT_EQ(refused.error(), Error::live_block);
      EXPECT_FALSE(table->logging());
      EXPECT_EQ(table->lookup(IPA{kBase})->level, 1u);
      EXPECT_EQ(table->prepare_log(IPA{kBase + 1_MiB}, 3_MiB), bbml == 1);
      EXPECT_EQ(table->start_log(IPA{kBase + 1_MiB}, 3_MiB).has_value(), bbml == 1);
    }
    EXPECT_TRUE(table->check_invariants());
    if (bbml == 0) continue;
    EXPECT_EQ(table->page_count(), 2u + 1 + 2);
    EXPECT_FALSE(hardware_walk(pages, *table, kBase)->dbm) << "not in the range, though in the same block";
    EXPECT_TRUE(hardware_walk(pages, *table, kBase + 1_MiB)->dbm);
    EXPECT_TRUE(hardware_walk(pages, *table, kBase + 4_MiB - 0x1000)->dbm);
    EXPECT_EQ(table->lookup(IPA{kBase + 4_MiB})->level, 2u);
    EXPECT_EQ(table->lookup(IPA{kBase + 1_GiB})->level, 1u);
  }
}

TEST(TableLog, Bbml1PreparesEveryBlockOfTheRange) {
  FakeTablePages pages;
  const auto table = *Table::create(geometry(40), pages, {.bbml = 1, .dirty_state = true});
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase + 2_MiB}, 8_MiB, kRam));
  table->set_walked(true);
  EXPECT_TRUE(table->prepare_log(IPA{kBase}, 4_MiB));
  EXPECT_TRUE(hardware_walk(pages, *table, kBase)->nt);
  EXPECT_TRUE(hardware_walk(pages, *table, kBase + 2_MiB)->nt);
  EXPECT_FALSE(hardware_walk(pages, *table, kBase + 4_MiB)->nt);
  EXPECT_EQ(table->start_log(IPA{kBase}, 6_MiB).error(), Error::live_block);
  EXPECT_EQ(table->lookup(IPA{kBase})->level, 2u) << "nothing half done";
  EXPECT_TRUE(table->start_log(IPA{kBase}, 4_MiB));
}

TEST(TableLog, FailsWholeAtEachAllocation) {
  // 1 GiB becomes a table of 512 blocks of which 3 become pages: 4 tables.
  for (int fail = 0; fail < 4; ++fail)
    for (const bool heap : {false, true}) {
      FakeTablePages pages;
      const auto table = *Table::create(geometry(40), pages, kLogged);
      ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 1_GiB, kRam));
      const std::size_t before = pages.in_use;
      {
        std::optional<FailingNew> failing;
        if (heap) failing.emplace(fail);
        pages.fail_after = heap ? -1 : fail;
        const auto started = table->start_log(IPA{kBase}, 6_MiB);
        pages.fail_after = -1;
        ASSERT_FALSE(started);
        EXPECT_EQ(started.error(), Error::out_of_memory);
      }
      EXPECT_FALSE(table->logging());
      EXPECT_EQ(pages.in_use, before);
      EXPECT_EQ(table->lookup(IPA{kBase})->level, 1u);
      EXPECT_TRUE(table->check_invariants());
      EXPECT_TRUE(table->start_log(IPA{kBase}, 6_MiB));
      EXPECT_EQ(pages.in_use, before + 4);
    }
}

TEST(TableLog, WhatIsMappedMeanwhileIsDirty) {
  FakeTablePages pages;
  const auto table = *Table::create(geometry(40), pages, kLogged);
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 0x1000, kRam));
  ASSERT_TRUE(table->start_log(IPA{kBase}, 0x1000));
  ASSERT_TRUE(table->map(IPA{kBase + 2_MiB}, PA{kBase + 2_MiB}, 2_MiB, kRam));
  ASSERT_TRUE(table->map(IPA{kBase + 4_MiB}, PA{kBase + 4_MiB}, 0x1000, kReadOnly));
  EXPECT_EQ(table->lookup(IPA{kBase + 2_MiB})->level, 3u) << "no block, which would have to be split";
  EXPECT_TRUE(table->check_invariants());
  EXPECT_EQ(collect(*table, kBase, 1536).size(), 513u);
  EXPECT_TRUE(collect(*table, kBase, 1536).empty());
  EXPECT_TRUE(hardware_write(pages, *table, kBase + 2_MiB));
  EXPECT_EQ(collect(*table, kBase, 1536).size(), 1u);
  EXPECT_FALSE(hardware_walk(pages, *table, kBase + 4_MiB)->dbm);
  RetiredPages retired;
  EXPECT_EQ(table->merge(IPA{kBase + 2_MiB}, 2_MiB, retired)->bytes, 0u);
  ASSERT_TRUE(table->stop_log(IPA{kBase}, 6_MiB));
  table->end_log();
  EXPECT_TRUE(table->check_invariants());
  EXPECT_EQ(table->merge(IPA{kBase + 2_MiB}, 2_MiB, retired)->bytes, 2_MiB);
  table->release(retired);
}

TEST(TableLog, WhatIsNotLoggedCountsAsDirty) {
  FakeTablePages pages;
  const auto table = *Table::create(geometry(40), pages, kLogged);
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 2_MiB, kRam));
  ASSERT_TRUE(table->map(IPA{kBase + 2_MiB}, PA{kBase}, 0x1000, kRam));
  ASSERT_TRUE(table->map(IPA{kBase + 2_MiB + 0x1000}, PA{kBase}, 0x1000, kReadOnly));
  std::size_t cleaned = 1;
  EXPECT_EQ(collect(*table, kBase, 1024, &cleaned).size(), 513u);
  EXPECT_EQ(cleaned, 0u) << "nothing to invalidate";
  EXPECT_EQ(collect(*table, kBase + 0x5000, 2), (Pages{kBase + 0x5000, kBase + 0x6000})) << "a part of a block";
  EXPECT_EQ(table->lookup(IPA{kBase})->level, 2u);
  EXPECT_TRUE(table->check_invariants());

  const auto plain = *Table::create(geometry(40), pages, {});
  EXPECT_EQ(plain->start_log(IPA{kBase}, 0x1000).error(), Error::incompatible);
  EXPECT_EQ(table->start_log(IPA{kBase}, 1).error(), Error::misaligned);
  EXPECT_EQ(table->stop_log(table->geometry().input_end(), 0x1000).error(), Error::out_of_range);
}

TEST(TableLog, ProtectKeepsWhatWasWritten) {
  FakeTablePages pages;
  const auto table = *Table::create(geometry(40), pages, kLoggedPages);
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 0x4000, kRam));
  ASSERT_TRUE(table->start_log(IPA{kBase}, 0x4000));
  ASSERT_TRUE(hardware_write(pages, *table, kBase));
  ASSERT_TRUE(hardware_write(pages, *table, kBase + 0x2000));
  ASSERT_TRUE(table->protect(IPA{kBase}, 0x2000, kReadOnly));
  EXPECT_FALSE(hardware_write(pages, *table, kBase));
  EXPECT_EQ(table->lookup(IPA{kBase})->attributes, kReadOnly);
  EXPECT_TRUE(table->check_invariants());
  EXPECT_EQ(collect(*table, kBase, 1), Pages{kBase});
  EXPECT_TRUE(collect(*table, kBase, 1).empty());
  // Writable again: clean or dirty as before.
  ASSERT_TRUE(table->protect(IPA{kBase}, 0x4000, {.execute = true}));
  EXPECT_EQ(collect(*table, kBase, 4), Pages{kBase + 0x2000});
  EXPECT_TRUE(hardware_write(pages, *table, kBase + 0x1000));
  EXPECT_EQ(collect(*table, kBase, 4), Pages{kBase + 0x1000});
  // Written, read-only, writable, and only then collected.
  ASSERT_TRUE(hardware_write(pages, *table, kBase));
  ASSERT_TRUE(table->protect(IPA{kBase}, 0x1000, kReadOnly));
  ASSERT_TRUE(table->protect(IPA{kBase}, 0x1000, kRam));
  EXPECT_EQ(collect(*table, kBase, 4), Pages{kBase});
  EXPECT_TRUE(table->check_invariants());
}

TEST(TableLog, Bbml1NeedsNoMoreThanPagesThatAreThere) {
  // A page-mapped table is never split, whatever hardware can do.
  FakeTablePages pages;
  const auto table = *Table::create(geometry(40), pages, kLoggedPages);
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 4_MiB, kRam));
  table->set_walked(true);
  pages.fail_after = 0;
  const FailingNew failing{0};
  EXPECT_TRUE(table->start_log(IPA{kBase}, 4_MiB));
  EXPECT_TRUE(table->stop_log(IPA{kBase}, 4_MiB));
}

TEST(TableLog, EveryChangeIsPublished) {
  FakeTablePages pages;
  const auto table = *Table::create(geometry(40), pages, kLoggedPages);
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 4_MiB, kRam));
  const auto published = [&](auto&& change) {
    const unsigned before = pages.publishes;
    change();
    return pages.publishes != before;
  };
  EXPECT_TRUE(published([&] { EXPECT_TRUE(table->start_log(IPA{kBase}, 4_MiB)); }));
  EXPECT_FALSE(published([&] { collect(*table, kBase, 1024); })) << "nothing was dirty";
  EXPECT_TRUE(published([&] { table->mark_dirty(IPA{kBase}); }));
  EXPECT_FALSE(published([&] { table->mark_dirty(IPA{kBase}); }));
  EXPECT_TRUE(published([&] { collect(*table, kBase, 1024); }));
  EXPECT_TRUE(published([&] { EXPECT_TRUE(table->stop_log(IPA{kBase}, 4_MiB)); }));
}

TEST(TableLog, MarkDirty) {
  FakeTablePages pages;
  const auto table = *Table::create(geometry(40), pages, {.bbml = 2, .dirty_state = true});
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, 2_MiB, kRam));
  ASSERT_TRUE(table->map(IPA{kBase + 2_MiB}, PA{kBase}, 0x1000, kRam));
  ASSERT_TRUE(table->map(IPA{kBase + 2_MiB + 0x1000}, PA{kBase}, 0x1000, kReadOnly));
  EXPECT_TRUE(table->mark_dirty(IPA{kBase + 0x1234})) << "a block";
  EXPECT_TRUE(table->mark_dirty(IPA{kBase + 2_MiB}));
  EXPECT_FALSE(table->mark_dirty(IPA{kBase + 2_MiB + 0x1000}));
  EXPECT_FALSE(table->mark_dirty(IPA{kBase + 4_MiB}));
  EXPECT_FALSE(table->mark_dirty(table->geometry().input_end()));
  EXPECT_TRUE(table->check_invariants());
  EXPECT_EQ(table->lookup(IPA{kBase})->level, 2u);
  ASSERT_TRUE(table->start_log(IPA{kBase}, 4_MiB));
  EXPECT_TRUE(collect(*table, kBase, 1024).empty());
  EXPECT_TRUE(table->mark_dirty(IPA{kBase + 0x1fff}));
  // Made read-only between EL2's write and this: the log has it all the same.
  EXPECT_FALSE(table->mark_dirty(IPA{kBase + 2_MiB + 0x1000}));
  EXPECT_EQ(collect(*table, kBase, 1024), (Pages{kBase + 0x1000, kBase + 2_MiB + 0x1000}));
  EXPECT_TRUE(table->check_invariants());
}

// Devices and vCPUs that write, EL2 that writes, and an owner that collects, makes pages read-only and writable again,
// all at once. Memory is a number per page; what the last collection saw must be what is there in the end.
TEST(TableLog, NoWriteIsLost) {
  constexpr std::size_t kPages = 64;
  weir::test::ArenaTablePages pages;
  const auto table = *Table::create(geometry(40), pages, kLoggedPages);
  ASSERT_TRUE(table->map(IPA{kBase}, PA{kBase}, kPages * 0x1000, kRam));
  ASSERT_TRUE(table->start_log(IPA{kBase}, kPages * 0x1000));
  std::uint64_t* const descriptors = hardware_walk(pages, *table, kBase)->descriptor;

  std::array<std::atomic<std::uint64_t>, kPages> memory{};
  std::array<std::uint64_t, kPages> copied{};
  std::shared_mutex translations;  // held shared: a translation is in use; exclusively: an invalidation awaits all
  std::atomic<bool> stop{false};
  const auto hardware = [&](unsigned seed) {
    for (std::uint64_t n = seed; !stop.load(std::memory_order_relaxed);
         n = n * 6364136223846793005 + 1442695040888963407) {
      const std::size_t page = (n >> 33) % kPages;
      const std::shared_lock use{translations};
      if (!hardware_write(&descriptors[page])) continue;
      memory[page].fetch_add(1, std::memory_order_relaxed);
    }
  };
  const auto el2 = [&] {
    for (std::uint64_t n = 7; !stop.load(std::memory_order_relaxed);
         n = n * 6364136223846793005 + 1442695040888963407) {
      const std::size_t page = (n >> 33) % kPages;
      const auto found = table->walk(IPA{kBase + page * 0x1000});
      if (!found || !found->attributes.write) continue;
      memory[page].fetch_add(1, std::memory_order_relaxed);
      table->mark_dirty(IPA{kBase + page * 0x1000});
    }
  };
  const auto invalidate = [&] { const std::unique_lock all{translations}; };
  const auto collect_and_copy = [&] {
    std::uint64_t bits = 0;
    const auto cleaned = table->collect_dirty(IPA{kBase}, kPages, {&bits, 1});
    if (*cleaned != 0) invalidate();
    std::atomic_thread_fence(std::memory_order_seq_cst);
    for (std::size_t page = 0; page < kPages; ++page)
      if ((bits >> page & 1) != 0) copied[page] = memory[page].load(std::memory_order_relaxed);
  };
  {
    std::jthread a{hardware, 1}, b{hardware, 2}, c{el2};
    for (unsigned round = 0; round < 3000; ++round) {
      collect_and_copy();
      const std::uint64_t page = round % kPages;
      ASSERT_TRUE(table->protect(IPA{kBase + page * 0x1000}, 0x1000, kReadOnly));
      invalidate();
      if (round % 3 == 0) collect_and_copy();
      ASSERT_TRUE(table->protect(IPA{kBase + page * 0x1000}, 0x1000, kRam));
      invalidate();
    }
    stop = true;
  }
  collect_and_copy();
  for (std::size_t page = 0; page < kPages; ++page) EXPECT_EQ(copied[page], memory[page].load()) << page;
  EXPECT_TRUE(table->check_invariants());
}

}  // namespace
}  // namespace weir::stage2
