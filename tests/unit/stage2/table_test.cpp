#include "stage2/table.hpp"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/fakes/failing_new.hpp"
#include "tests/unit/fakes/fake_table_pages.hpp"
#include "tests/unit/stage2/table_support.hpp"

namespace weir::stage2 {
namespace {

using namespace test;
using weir::test::FailingNew;

TEST(Table, EmptyTableIsOneRoot) {
  FakeTablePages pages;
  for (unsigned bits = 32; bits <= 48; ++bits) {
    const auto table = Table::create(geometry(bits), pages, {});
    ASSERT_TRUE(table);
    EXPECT_EQ((*table)->page_count(), geometry(bits).root_tables());
    EXPECT_TRUE((*table)->root().aligned(geometry(bits).root_bytes()));
    EXPECT_TRUE((*table)->check_invariants());
    EXPECT_FALSE((*table)->lookup(IPA{0}));
    EXPECT_FALSE((*table)->lookup(geometry(bits).input_end()));
  }
  EXPECT_EQ(pages.in_use, 0u);
}

TEST(Table, DescriptorBits) {
  FakeTablePages pages;
  auto table = *Table::create(geometry(40), pages, {});
  ASSERT_TRUE(table->map(IPA{0x4000'0000}, PA{0x8000'0000}, 1_GiB, kRam));
  ASSERT_TRUE(table->map(IPA{0x1000}, PA{0x900'0000}, 0x1000, {.memory = Memory::device_nGnRE, .write = false}));
  ASSERT_TRUE(table->map(IPA{0x20'0000}, PA{0x60'0000}, 2_MiB, {.read = false, .write = true, .execute = true}));
  // Arm ARM D8.3.1: MemAttr [5:2], S2AP [7:6], SH [9:8], AF [10], XN [54:53].
  const auto ram = hardware_walk(pages, *table, 0x4000'1234);
  ASSERT_TRUE(ram);
  EXPECT_EQ(ram->level, 1u);
  EXPECT_EQ(ram->attributes, 0x0040'0000'0000'0000 | (0xf << 2) | (3 << 6) | (3 << 8) | (1 << 10));
  const auto device = hardware_walk(pages, *table, 0x1fff);
  ASSERT_TRUE(device);
  EXPECT_EQ(device->level, 3u);
  EXPECT_EQ(device->attributes, 0x0040'0000'0000'0000 | (1 << 2) | (1 << 6) | (1 << 10));
  const auto block = hardware_walk(pages, *table, 0x20'0000);
  ASSERT_TRUE(block);
  EXPECT_EQ(block->level, 2u);
  EXPECT_EQ(block->attributes, (0xf << 2) | (2 << 6) | (3 << 8) | (1 << 10));
}

TEST(Table, BlocksWhereBothAddressesAreAligned) {
  FakeTablePages pages;
  auto table = *Table::create(geometry(40), pages, {});
  // Pages up to 2 MiB, blocks of 2 MiB up to 1 GiB, one of 1 GiB, a page.
  ASSERT_TRUE(table->map(IPA{0x1000}, PA{0x4000'1000}, 2_GiB, kRam));
  EXPECT_EQ(table->lookup(IPA{0x1000})->level, 3u);
  EXPECT_EQ(table->lookup(IPA{0x20'0000})->level, 2u);
  EXPECT_EQ(table->lookup(IPA{0x4000'0000})->level, 1u);
  EXPECT_EQ(table->lookup(IPA{0x8000'0fff})->level, 3u);
  EXPECT_EQ(table->page_count(), 2u + 2 + 2);
  // The physical address does not fit a block.
  ASSERT_TRUE(table->map(IPA{0x1'0000'0000}, PA{0x2'0000'1000}, 2_MiB, kRam));
  EXPECT_EQ(table->lookup(IPA{0x1'0000'0000})->level, 3u);
  ASSERT_TRUE(table->map(IPA{0x1'4000'0000}, PA{0x2'0020'0000}, 1_GiB, kRam));
  EXPECT_EQ(table->lookup(IPA{0x1'4000'0000})->level, 2u);
}

TEST(Table, StartLevel2HasNoGigabyteBlocks) {
  FakeTablePages pages;
  auto table = *Table::create(geometry(34), pages, {});
  ASSERT_TRUE(table->map(IPA{0}, PA{0}, 16_GiB, kRam));
  EXPECT_EQ(table->lookup(IPA{0x3'ffff'ffff})->level, 2u);
  EXPECT_EQ(table->lookup(IPA{0x3'ffff'ffff})->at, PA{0x3'ffff'ffff});
  EXPECT_EQ(table->page_count(), 16u);
  EXPECT_TRUE(table->check_invariants());
}

TEST(Table, RefusesBadRequests) {
  FakeTablePages pages;
  auto table = *Table::create(geometry(36, smmu::AddressSize::bits36), pages, {});
  const IPA end = table->geometry().input_end();
  RetiredPages retired;
  const auto error = [&](IPA ipa, PA pa, std::uint64_t bytes) {
    const auto result = table->map(ipa, pa, bytes, kRam);
    return result ? std::optional<Error>{} : result.error();
  };
  EXPECT_EQ(error(IPA{0}, PA{0}, 0), Error::misaligned);
  EXPECT_EQ(error(IPA{1}, PA{0}, 0x1000), Error::misaligned);
  EXPECT_EQ(error(IPA{0}, PA{0x800}, 0x1000), Error::misaligned);
  EXPECT_EQ(error(IPA{0}, PA{0}, 0x1001), Error::misaligned);
  EXPECT_EQ(error(end, PA{0}, 0x1000), Error::out_of_range);
  EXPECT_EQ(error(end - 0x1000, PA{0}, 0x2000), Error::out_of_range);
  EXPECT_EQ(error(IPA{0x1000}, PA{0}, ~std::uint64_t{0xfff}), Error::out_of_range);
  EXPECT_EQ(error(IPA{0}, table->geometry().output_end(), 0x1000), Error::out_of_range);
  EXPECT_EQ(error(IPA{0}, table->geometry().output_end() - 0x1000, 0x2000), Error::out_of_range);
  EXPECT_EQ(error(IPA{0x4000'0000}, PA{0}, 4_MiB), std::nullopt);
  EXPECT_EQ(error(IPA{0x4020'0000}, PA{0}, 0x1000), Error::already_mapped);
  EXPECT_EQ(error(IPA{0x3fff'f000}, PA{0}, 0x2000), Error::already_mapped);
  EXPECT_FALSE(table->lookup(IPA{0x3fff'f000}));
  EXPECT_EQ(table->unmap(IPA{0x800}, 0x1000, retired).error(), Error::misaligned);
  EXPECT_EQ(table->unmap(end, 0x1000, retired).error(), Error::out_of_range);
  EXPECT_EQ(table->protect(IPA{0x3fff'f000}, 0x2000, kRam).error(), Error::not_mapped);
  EXPECT_EQ(table->protect(IPA{0x4000'0000}, 2_MiB, kDevice).error(), Error::live_block);
  EXPECT_TRUE(retired.empty());
  EXPECT_TRUE(table->check_invariants());
}

TEST(Table, LiveBlocksAreNotBroken) {
  for (unsigned bbml = 0; bbml <= 2; ++bbml) {
    SCOPED_TRACE(bbml);
    FakeTablePages pages;
    auto table = *Table::create(geometry(40), pages, {.bbml = bbml});
    ASSERT_TRUE(table->map(IPA{0x4000'0000}, PA{0x4000'0000}, 1_GiB, kRam));
    table->set_walked(true);
    RetiredPages retired;
    const auto refused = table->unmap(IPA{0x4020'1000}, 0x1000, retired);
    ASSERT_EQ(refused.has_value(), bbml == 2);
    if (!refused) {
      EXPECT_EQ(refused.error(), Error::live_block);
      EXPECT_EQ(table->lookup(IPA{0x4020'1000})->level, 1u);
      EXPECT_EQ(table->protect(IPA{0x4020'1000}, 0x1000, kReadOnly).error(), Error::live_block);
      // With nT set (and the TLBs invalidated), BBML 1 may.
      EXPECT_EQ(table->prepare_split(IPA{0x4020'1000}, 0x1000), bbml == 1);
      EXPECT_EQ(table->lookup(IPA{0x4020'1000})->level, 1u);
      EXPECT_TRUE(table->check_invariants());
      EXPECT_EQ(table->unmap(IPA{0x4020'1000}, 0x1000, retired).has_value(), bbml == 1);
      // Whole blocks can always go: that is a break, not a change of size.
      EXPECT_TRUE(table->unmap(IPA{0x4000'0000}, 1_GiB, retired));
    } else {
      EXPECT_FALSE(table->lookup(IPA{0x4020'1000}));
      EXPECT_EQ(table->lookup(IPA{0x4020'0000})->level, 3u);
      EXPECT_EQ(table->lookup(IPA{0x4040'0000})->level, 2u);
    }
    EXPECT_TRUE(table->check_invariants());
    retired.release(pages);
  }
}

TEST(Table, RetiredPagesStayUntilReleased) {
  FakeTablePages pages;
  auto table = *Table::create(geometry(40), pages, {.pages_only = true});
  ASSERT_TRUE(table->map(IPA{0x4000'0000}, PA{0x4000'0000}, 4_MiB, kRam));
  EXPECT_EQ(table->page_count(), 2u + 1 + 2);
  const std::size_t before = pages.in_use;
  RetiredPages retired;
  ASSERT_TRUE(table->unmap(IPA{0x4000'0000}, 2_MiB, retired));
  EXPECT_EQ(retired.count(), 1u);
  EXPECT_EQ(table->page_count(), 4u);
  ASSERT_TRUE(table->unmap(IPA{0x4020'0000}, 1_MiB, retired));
  EXPECT_EQ(retired.count(), 1u);
  ASSERT_TRUE(table->unmap(IPA{0x4030'0000}, 1_MiB, retired));
  EXPECT_EQ(retired.count(), 3u);
  EXPECT_EQ(table->page_count(), 2u);
  // Still there: a walker may be in the middle of them.
  EXPECT_EQ(pages.in_use, before);
  EXPECT_EQ(pages.frees, 0u);
  retired.release(pages);
  EXPECT_EQ(pages.in_use, 2u);
  EXPECT_TRUE(retired.empty());
}

TEST(Table, EveryChangeIsPublished) {
  FakeTablePages pages;
  auto table = *Table::create(geometry(40), pages, {});
  RetiredPages retired;
  const auto published = [&](auto&& change) {
    const unsigned before = pages.publishes;
    EXPECT_TRUE(change());
    return pages.publishes > before;
  };
  EXPECT_TRUE(published([&] { return table->map(IPA{0}, PA{0}, 4_MiB, kRam); }));
  EXPECT_TRUE(published([&] { return table->protect(IPA{0}, 4_KiB, kReadOnly); }));
  EXPECT_TRUE(published([&] { return table->unmap(IPA{0}, 4_KiB, retired); }));
}

TEST(Table, MapFailsWholeAtEachAllocation) {
  // 4 tables are needed; each fails in turn, once by its page and once by its bookkeeping.
  for (int fail = 0; fail < 4; ++fail)
    for (const bool heap : {false, true}) {
      FakeTablePages pages;
      auto table = *Table::create(geometry(40), pages, {});
      ASSERT_TRUE(table->map(IPA{0x8000'0000}, PA{0}, 4_KiB, kRam));
      const std::size_t before = pages.in_use;
      std::optional<FailingNew> failing;
      if (heap) failing.emplace(fail);
      pages.fail_after = heap ? -1 : fail;
      const auto mapped = table->map(IPA{0x3fff'f000}, PA{0x3fff'f000}, 8_KiB, kRam);
      pages.fail_after = -1;
      failing.reset();
      ASSERT_FALSE(mapped) << fail;
      EXPECT_EQ(mapped.error(), Error::out_of_memory);
      EXPECT_EQ(pages.in_use, before);
      EXPECT_FALSE(table->lookup(IPA{0x3fff'f000}));
      EXPECT_FALSE(table->lookup(IPA{0x4000'0000}));
      EXPECT_TRUE(table->check_invariants());
      EXPECT_TRUE(table->map(IPA{0x3fff'f000}, PA{0x3fff'f000}, 8_KiB, kRam));
      EXPECT_EQ(pages.in_use, before + 4);
    }
}

TEST(Table, SplitFailsWholeAtEachAllocation) {
  for (int fail = 0; fail < 4; ++fail)
    for (const bool heap : {false, true}) {
      FakeTablePages pages;
      auto table = *Table::create(geometry(40), pages, {});
      ASSERT_TRUE(table->map(IPA{0}, PA{0x4000'0000}, 2_GiB, kRam));
      const std::size_t before = pages.in_use;
      RetiredPages retired;
      {
        std::optional<FailingNew> failing;
        if (heap) failing.emplace(fail);
        pages.fail_after = heap ? -1 : fail;
        const auto unmapped = table->unmap(IPA{0x3fff'f000}, 8_KiB, retired);
        const auto changed = table->protect(IPA{0x3fff'f000}, 8_KiB, kReadOnly);
        pages.fail_after = -1;
        ASSERT_FALSE(unmapped) << fail;
        EXPECT_EQ(unmapped.error(), Error::out_of_memory);
        EXPECT_EQ(changed.error(), Error::out_of_memory);
      }
      EXPECT_EQ(pages.in_use, before);
      EXPECT_EQ(table->lookup(IPA{0x3fff'f000})->level, 1u);
      EXPECT_EQ(table->lookup(IPA{0x4000'0000})->level, 1u);
      EXPECT_TRUE(table->check_invariants());
      EXPECT_TRUE(table->unmap(IPA{0x3fff'f000}, 8_KiB, retired));
      EXPECT_EQ(pages.in_use, before + 4);
      retired.release(pages);
    }
}

TEST(Table, CreateFailsWhole) {
  FakeTablePages pages;
  pages.fail_after = 0;
  EXPECT_EQ(Table::create(geometry(40), pages, {}).error(), Error::out_of_memory);
  pages.fail_after = -1;
  for (int fail = 0; fail < 2; ++fail) {
    const FailingNew failing{fail};
    EXPECT_EQ(Table::create(geometry(40), pages, {}).error(), Error::out_of_memory);
  }
  EXPECT_EQ(pages.in_use, 0u);
}

// Random operations against the reference, with the invariants, retired pages and an independent walk checked at each
// step.
struct Mode {
  const char* name;
  unsigned bits;
  bool pages_only, walked;
  unsigned bbml;
};
class RandomTable : public ::testing::TestWithParam<Mode> {};

TEST_P(RandomTable, AgreesWithReference) {
  const Mode mode = GetParam();
  for (const unsigned seed : {1u, 2u, 3u}) {
    FakeTablePages pages;
    auto table = *Table::create(geometry(mode.bits), pages, {.pages_only = mode.pages_only, .bbml = mode.bbml});
    table->set_walked(mode.walked);
    Reference reference;
    std::mt19937_64 random{seed};
    const auto below = [&](std::uint64_t n) { return random() % n; };
    const Attributes kinds[] = {kRam, kReadOnly, kDevice, kCode};
    const std::uint64_t largest = mode.pages_only ? 4_MiB : 2_GiB;
    const std::uint64_t window = mode.pages_only ? 16_MiB : 4_GiB - 0x1000;
    const std::uint64_t top = table->geometry().input_end().value;
    unsigned done = 0, refused = 0;
    for (int step = 0; step < 600; ++step) {
      // Sizes and addresses around the edges of pages and blocks, at both ends of the address space.
      const std::uint64_t unit = std::min(largest, below(3) == 0 ? 1_GiB : below(2) == 0 ? 2_MiB : 4_KiB);
      std::uint64_t bytes = unit * (1 + below(3));
      if (below(4) == 0 && bytes > 4_KiB) bytes -= 4_KiB;
      bytes = std::min(bytes, largest);
      std::uint64_t from = below((window - bytes) / unit + 1) * unit;
      if (below(4) == 0) from = std::min(from + 4_KiB, window - bytes);
      from &= ~std::uint64_t{0xfff};
      if (below(2) == 0) from = top - window + from;
      if (from + bytes > top) continue;
      const Attributes attributes = kinds[below(4)];
      RetiredPages retired;
      const unsigned frees = pages.frees;
      std::expected<void, Error> result;
      bool expected = true;
      switch (below(5)) {
        case 4: {
          const auto merged = table->merge(IPA{from}, bytes, retired);
          expected = !mode.walked || mode.bbml != 0 || mode.pages_only;
          if (!merged) {
            EXPECT_EQ(merged.error(), Error::live_block);
            result = std::unexpected{merged.error()};
          } else if (merged->bytes != 0) {
            EXPECT_FALSE(mode.pages_only);
            EXPECT_EQ(retired.count() != 0, true);
            EXPECT_EQ(table->finish_merge(*merged), mode.walked && mode.bbml == 1);
          }
          break;
        }
        case 0:
        case 1: {
          const std::uint64_t skew = bytes <= 8_MiB && below(3) == 0 ? 4_KiB : 0;  // no blocks then
          const std::uint64_t pa = 4_GiB + (from & (16_GiB - 1)) + skew;
          expected = !reference.any(from, from + bytes);
          result = table->map(IPA{from}, PA{pa}, bytes, attributes);
          if (!result) {
            EXPECT_EQ(result.error(), Error::already_mapped);
          } else {
            reference.map(from, from + bytes, pa, attributes);
          }
          break;
        }
        case 2:
          if (below(2) == 0) table->prepare_split(IPA{from}, bytes);
          result = table->unmap(IPA{from}, bytes, retired);
          if (!result) {
            EXPECT_EQ(result.error(), Error::live_block);
            expected = !mode.walked || mode.bbml == 2;
          } else {
            reference.unmap(from, from + bytes);
          }
          break;
        case 3:
          result = table->protect(IPA{from}, bytes, attributes);
          if (!result && result.error() == Error::live_block && mode.walked && mode.bbml < 2) {
            expected = false;
          } else {
            expected = reference.all(from, from + bytes) && reference.memory(from, from + bytes) == attributes.memory;
          }
          if (result) reference.protect(from, from + bytes, attributes);
          break;
      }
      ASSERT_EQ(result.has_value(), expected) << "step " << step;
      ++(result ? done : refused);
      ASSERT_EQ(pages.frees - frees, 0u) << "a table page was freed before its invalidation";
      ASSERT_EQ(pages.in_use, table->page_count() + retired.count());
      table->release(retired);
      ASSERT_EQ(pages.in_use, table->page_count());
      ASSERT_TRUE(table->check_invariants()) << "step " << step;
      if (step % 8 == 0)
        for (const std::uint64_t edge : reference.edges()) expect_same(pages, *table, reference, edge);
      for (const std::uint64_t at : {from, from + bytes - 1, from + below(bytes)})
        expect_same(pages, *table, reference, at);
      if (from != 0) expect_same(pages, *table, reference, from - 1);
      if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
    EXPECT_GT(done, 150u);
    EXPECT_GT(refused, 20u);
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, RandomTable,
                         ::testing::Values(Mode{"PagesOnly", 40, true, true, 0}, Mode{"Unwalked", 40, false, false, 0},
                                           Mode{"Bbml0", 39, false, true, 0}, Mode{"Bbml1", 44, false, true, 1},
                                           Mode{"Bbml2", 48, false, true, 2}, Mode{"StartLevel2", 33, false, true, 2},
                                           Mode{"Concatenated16", 43, false, false, 0}),
                         [](const auto& info) { return std::string{info.param.name}; });

}  // namespace
}  // namespace weir::stage2
