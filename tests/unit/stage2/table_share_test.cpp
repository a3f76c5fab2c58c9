// Root slots that one table has from another.
#include <gtest/gtest.h>

#include <vector>

#include "stage2/table.hpp"
#include "tests/unit/fakes/fake_table_pages.hpp"
#include "tests/unit/stage2/table_support.hpp"

namespace weir::stage2 {
namespace {

using namespace test;

constexpr IPA kRamBase{1_GiB};
constexpr std::uint64_t kRamSpace = 511_GiB;  // the slots of level 1 behind the devices'
constexpr Attributes kGuestRam{.execute = true};

struct Views {
  explicit Views(const Table::Options& dma_options = {.pages_only = true}, const Table::Options& cpu_options = {},
                 unsigned bits = 40) {
    dma = *Table::create(geometry(bits), pages, dma_options);
    cpu = *Table::create(geometry(bits), cpu_pages, cpu_options);
    cpu_pages.beside = &pages;
  }
  FakeTablePages pages, cpu_pages{PA{0x7000'0000}};
  std::unique_ptr<Table> dma, cpu;
  RetiredPages retired;

  std::optional<Walked> cpu_walk(std::uint64_t at) { return hardware_walk(cpu_pages, *cpu, at); }
};

// The same seen from both roots, and by everybody.
void expect_both(Views& v, std::uint64_t at, std::optional<std::uint64_t> pa) {
  const auto dma = hardware_walk(v.pages, *v.dma, at);
  const auto cpu = v.cpu_walk(at);
  ASSERT_EQ(dma.has_value(), pa.has_value()) << std::hex << at;
  ASSERT_EQ(cpu.has_value(), pa.has_value()) << std::hex << at;
  if (!pa) return;
  EXPECT_EQ(dma->pa, *pa);
  EXPECT_EQ(cpu->pa, *pa);
  EXPECT_EQ(cpu->attributes, dma->attributes);
}

TEST(TableShare, ChangesReachTheSharer) {
  Views v;
  ASSERT_TRUE(v.dma->map(kRamBase, PA{2_GiB}, 4_MiB, kGuestRam));
  ASSERT_TRUE(v.cpu->map(IPA{0x900'0000}, PA{0x900'0000}, 0x1000, kDevice));
  const std::size_t before = v.cpu->page_count();
  ASSERT_TRUE(v.dma->share_root(*v.cpu, kRamBase, kRamSpace));
  expect_both(v, 1_GiB, 2_GiB);
  expect_both(v, 1_GiB + 4_MiB, std::nullopt);
  // A slot that was empty, and one that becomes empty.
  ASSERT_TRUE(v.dma->map(IPA{5_GiB}, PA{8_GiB}, 0x3000, kGuestRam));
  expect_both(v, 5_GiB + 0x2000, 8_GiB + 0x2000);
  ASSERT_TRUE(v.dma->unmap(kRamBase, 4_MiB, v.retired));
  expect_both(v, 1_GiB, std::nullopt);
  expect_both(v, 5_GiB, 8_GiB);
  ASSERT_TRUE(v.dma->protect(IPA{5_GiB}, 0x1000, {.write = false, .execute = true}));
  expect_both(v, 5_GiB, 8_GiB);
  // Each counts its own pages, and nobody else's appear.
  EXPECT_EQ(v.cpu->page_count(), before);
  EXPECT_EQ(v.cpu_pages.in_use, before);
  EXPECT_EQ(v.pages.in_use, v.dma->page_count() + v.retired.count());
  EXPECT_TRUE(v.dma->check_invariants());
  EXPECT_TRUE(v.cpu->check_invariants());
  v.dma->release(v.retired);
  // The devices' own slots are not the sharer's, nor the other way round.
  EXPECT_FALSE(v.dma->lookup(IPA{0x900'0000}));
  ASSERT_TRUE(v.dma->map(IPA{0xa00'0000}, PA{0xa00'0000}, 0x1000, kDevice));
  EXPECT_FALSE(v.cpu_walk(0xa00'0000));
}

TEST(TableShare, TheSharerRefusesChangesThere) {
  Views v;
  ASSERT_TRUE(v.dma->map(kRamBase, PA{2_GiB}, 4_MiB, kGuestRam));
  ASSERT_TRUE(v.dma->share_root(*v.cpu, kRamBase, kRamSpace));
  const auto refused = [&](IPA at, std::uint64_t bytes) {
    EXPECT_EQ(v.cpu->map(at, PA{0}, bytes, kRam).error(), Error::shared);
    EXPECT_EQ(v.cpu->unmap(at, bytes, v.retired).error(), Error::shared);
    EXPECT_EQ(v.cpu->protect(at, bytes, kRam).error(), Error::shared);
    EXPECT_EQ(v.cpu->merge(at, bytes, v.retired).error(), Error::shared);
    EXPECT_EQ(v.cpu->stop_log(at, bytes).error(), Error::shared);
    EXPECT_FALSE(v.cpu->prepare_split(at, bytes));
  };
  refused(kRamBase, 0x1000);
  refused(IPA{1_GiB - 0x1000}, 0x2000);
  refused(IPA{512_GiB - 0x1000}, 0x2000);
  refused(IPA{0x0}, 1024_GiB);
  EXPECT_TRUE(v.cpu->map(IPA{1_GiB - 0x1000}, PA{0}, 0x1000, kDevice));
  EXPECT_TRUE(v.cpu->map(IPA{512_GiB}, PA{0}, 0x1000, kDevice));
  expect_both(v, 1_GiB, 2_GiB);
  EXPECT_TRUE(v.cpu->check_invariants());
}

TEST(TableShare, EndsWithEitherTable) {
  for (const bool owner_first : {false, true}) {
    Views v;
    ASSERT_TRUE(v.dma->map(kRamBase, PA{2_GiB}, 4_MiB, kGuestRam));
    ASSERT_TRUE(v.dma->share_root(*v.cpu, kRamBase, kRamSpace));
    if (owner_first) {
      v.dma.reset();
      EXPECT_EQ(v.pages.in_use, 0u);
      EXPECT_FALSE(v.cpu->lookup(kRamBase));
      EXPECT_TRUE(v.cpu->check_invariants());
      EXPECT_TRUE(v.cpu->map(kRamBase, PA{0}, 0x1000, kRam));
    } else {
      v.cpu.reset();
      EXPECT_EQ(v.cpu_pages.in_use, 0u);
      EXPECT_TRUE(v.dma->lookup(kRamBase));
      EXPECT_TRUE(v.dma->check_invariants());
      EXPECT_TRUE(v.dma->unmap(kRamBase, 4_MiB, v.retired));
      v.dma->release(v.retired);
    }
  }
}

TEST(TableShare, StopsWhenAsked) {
  Views v;
  ASSERT_TRUE(v.dma->map(kRamBase, PA{2_GiB}, 4_MiB, kGuestRam));
  ASSERT_TRUE(v.dma->share_root(*v.cpu, kRamBase, kRamSpace));
  v.dma->unshare_root(*v.cpu);
  EXPECT_FALSE(v.cpu_walk(1_GiB));
  EXPECT_TRUE(v.dma->lookup(kRamBase));
  ASSERT_TRUE(v.dma->map(IPA{5_GiB}, PA{8_GiB}, 0x3000, kGuestRam));
  EXPECT_FALSE(v.cpu_walk(5_GiB));
  EXPECT_TRUE(v.cpu->check_invariants() && v.dma->check_invariants());
  v.dma->unshare_root(*v.cpu);
  ASSERT_TRUE(v.dma->share_root(*v.cpu, kRamBase, kRamSpace));
  expect_both(v, 5_GiB, 8_GiB);
}

TEST(TableShare, RefusesWhatCannotBeShared) {
  Views v;
  const auto error = [&](Table& owner, Table& sharer, IPA at, std::uint64_t bytes) {
    const auto result = owner.share_root(sharer, at, bytes);
    EXPECT_TRUE(owner.check_invariants() && sharer.check_invariants());
    return result ? std::optional<Error>{} : result.error();
  };
  EXPECT_EQ(error(*v.dma, *v.cpu, IPA{1_MiB}, 1_GiB), Error::misaligned);
  EXPECT_EQ(error(*v.dma, *v.cpu, kRamBase, 1_MiB), Error::misaligned);
  EXPECT_EQ(error(*v.dma, *v.cpu, kRamBase, 0), Error::misaligned);
  EXPECT_EQ(error(*v.dma, *v.cpu, kRamBase, 1024_GiB), Error::out_of_range);
  EXPECT_EQ(error(*v.dma, *v.cpu, IPA{1024_GiB}, 1_GiB), Error::out_of_range);
  EXPECT_EQ(error(*v.dma, *v.dma, kRamBase, 1_GiB), Error::incompatible);
  ASSERT_TRUE(v.cpu->map(kRamBase, PA{0}, 0x1000, kRam));
  EXPECT_EQ(error(*v.dma, *v.cpu, kRamBase, 1_GiB), Error::already_mapped);
  EXPECT_EQ(error(*v.dma, *v.cpu, IPA{2_GiB}, 1_GiB), std::nullopt);
  EXPECT_EQ(error(*v.dma, *v.cpu, IPA{2_GiB}, 1_GiB), std::nullopt) << "twice the same";
  EXPECT_EQ(error(*v.dma, *v.cpu, IPA{2_GiB}, 2_GiB), Error::shared);
  // No chains.
  const auto third = *Table::create(geometry(40), v.pages, {});
  EXPECT_EQ(error(*v.cpu, *third, IPA{4_GiB}, 1_GiB), Error::shared);
  EXPECT_EQ(error(*third, *v.dma, IPA{4_GiB}, 1_GiB), Error::shared);

  // Start level 0: a slot is 512 GiB, so devices and RAM lie in one.
  const auto large = *Table::create(geometry(48), v.pages, {});
  const auto larger = *Table::create(geometry(48), v.pages, {});
  EXPECT_EQ(error(*large, *larger, kRamBase, kRamSpace), Error::misaligned);
  EXPECT_EQ(error(*large, *v.cpu, IPA{512_GiB}, 512_GiB), Error::incompatible) << "another input size";
  const auto short_output = *Table::create(geometry(40, smmu::AddressSize::bits40), v.pages, {});
  EXPECT_EQ(error(*third, *short_output, kRamBase, 1_GiB), Error::incompatible) << "out of the walkers' reach";
  EXPECT_EQ(error(*short_output, *third, kRamBase, 1_GiB), std::nullopt);
  for (const Table::Options& options :
       {Table::Options{.fwb = true}, Table::Options{.bbml = 1}, Table::Options{.dirty_state = true}}) {
    const auto owner = *Table::create(geometry(40), v.pages, options);
    const auto sharer = *Table::create(geometry(40), v.pages, {});
    EXPECT_EQ(error(*owner, *sharer, kRamBase, 1_GiB), Error::incompatible);
  }
  const auto paged = *Table::create(geometry(40), v.pages, {.pages_only = true, .bbml = 2});
  const auto other = *Table::create(geometry(40), v.pages, {});
  EXPECT_EQ(error(*paged, *other, kRamBase, 1_GiB), std::nullopt) << "no block there is ever split";
}

TEST(TableShare, SeveralSharersAndBlocksInTheRoot) {
  Views v{{.bbml = 1}, {.bbml = 1}};
  const auto second = *Table::create(geometry(40), v.cpu_pages, {.bbml = 2});
  ASSERT_TRUE(v.dma->share_root(*v.cpu, kRamBase, kRamSpace));
  ASSERT_TRUE(v.dma->share_root(*second, IPA{2_GiB}, 2_GiB));
  ASSERT_TRUE(v.dma->map(kRamBase, PA{4_GiB}, 3_GiB, kGuestRam));
  EXPECT_EQ(v.cpu->lookup(IPA{3_GiB})->level, 1u);
  EXPECT_EQ(second->lookup(IPA{3_GiB})->at, PA{6_GiB});
  EXPECT_FALSE(second->lookup(kRamBase)) << "not its slot";
  // A sharer that walks makes the block a live one; nT and the table appear everywhere.
  second->set_walked(true);
  EXPECT_EQ(v.dma->unmap(IPA{3_GiB}, 0x1000, v.retired).error(), Error::live_block);
  EXPECT_TRUE(v.dma->prepare_split(IPA{3_GiB}, 0x1000));
  EXPECT_TRUE(hardware_walk(v.cpu_pages, *second, 3_GiB)->nt);
  EXPECT_TRUE(v.cpu_walk(3_GiB)->nt);
  EXPECT_TRUE(v.dma->unmap(IPA{3_GiB}, 0x1000, v.retired));
  EXPECT_FALSE(hardware_walk(v.cpu_pages, *second, 3_GiB));
  EXPECT_EQ(hardware_walk(v.cpu_pages, *second, 3_GiB + 0x1000)->level, 3u);
  expect_both(v, 3_GiB + 0x1000, 6_GiB + 0x1000);
  ASSERT_TRUE(v.dma->map(IPA{3_GiB}, PA{6_GiB}, 0x1000, kGuestRam));
  const auto merged = v.dma->merge(IPA{3_GiB}, 0x1000, v.retired);
  ASSERT_TRUE(merged);
  EXPECT_EQ(merged->bytes, 1_GiB);
  EXPECT_TRUE(v.cpu_walk(3_GiB)->nt);
  EXPECT_TRUE(v.dma->finish_merge(*merged));
  EXPECT_FALSE(v.cpu_walk(3_GiB)->nt);
  EXPECT_EQ(v.cpu_walk(3_GiB)->level, 1u);
  EXPECT_TRUE(v.dma->check_invariants());
  v.dma->release(v.retired);
}

TEST(TableShare, EverySharerIsPublished) {
  Views v;
  ASSERT_TRUE(v.dma->share_root(*v.cpu, kRamBase, kRamSpace));
  const unsigned before = v.cpu_pages.publishes;
  ASSERT_TRUE(v.dma->map(kRamBase, PA{2_GiB}, 4_MiB, kGuestRam));
  EXPECT_GT(v.cpu_pages.publishes, before);
  // Nothing of the root changes.
  const unsigned mapped = v.cpu_pages.publishes;
  ASSERT_TRUE(v.dma->unmap(kRamBase, 0x1000, v.retired));
  EXPECT_EQ(v.cpu_pages.publishes, mapped);
}

// --- A table of the CPU's own for a while ----------------------------------------------------------------------------

TEST(TableCopy, FillsHoles) {
  FakeTablePages pages;
  const auto from = *Table::create(geometry(40), pages, {.bbml = 2});
  const auto to = *Table::create(geometry(40), pages, {.pages_only = true});
  Reference reference;
  const auto both = [&](std::uint64_t at, std::uint64_t pa, std::uint64_t bytes, Attributes attributes) {
    ASSERT_TRUE(from->map(IPA{at}, PA{pa}, bytes, attributes));
    reference.map(at, at + bytes, pa, attributes);
  };
  both(0, 8_GiB, 4_MiB, kRam);
  both(4_MiB, 8_GiB + 4_MiB, 0x3000, kReadOnly);
  both(4_MiB + 0x3000, 9_GiB, 0x1000, kReadOnly);
  both(4_MiB + 0x5000, 9_GiB + 0x1000, 2_MiB, kCode);
  both(1_GiB - 0x1000, 10_GiB, 0x2000, kDevice);
  // Some of it is there already.
  ASSERT_TRUE(to->map(IPA{1_MiB}, PA{8_GiB + 1_MiB}, 0x5000, kRam));
  ASSERT_TRUE(to->copy(*from, IPA{0}, 2_GiB));
  ASSERT_TRUE(to->check_invariants());
  for (const std::uint64_t at : reference.edges()) expect_same(pages, *to, reference, at);
  for (std::uint64_t at = 0; at < 8_MiB; at += 0x1000) {
    ASSERT_EQ(to->lookup(IPA{at}).has_value(), from->lookup(IPA{at}).has_value()) << std::hex << at;
    if (to->lookup(IPA{at})) EXPECT_EQ(to->lookup(IPA{at})->at, from->lookup(IPA{at})->at);
  }
  const std::size_t count = to->page_count();
  ASSERT_TRUE(to->copy(*from, IPA{0}, 2_GiB)) << "nothing is left to do";
  EXPECT_EQ(to->page_count(), count);
  EXPECT_EQ(to->copy(*from, IPA{0}, 0x800).error(), Error::misaligned);
}

TEST(TableCopy, GoesOnAfterFailure) {
  FakeTablePages pages, theirs;
  const auto from = *Table::create(geometry(40), theirs, {});
  for (unsigned i = 0; i < 4; ++i) ASSERT_TRUE(from->map(IPA{i * 3_GiB}, PA{i * 3_GiB + 0x5000}, 0x4000, kRam));
  const auto to = *Table::create(geometry(40), pages, {});
  for (int k = 0; k < 8; ++k) {
    pages.fail_after = 1;
    const auto copied = to->copy(*from, IPA{0}, 16_GiB);
    pages.fail_after = -1;
    ASSERT_TRUE(to->check_invariants());
    EXPECT_EQ(pages.in_use, to->page_count());
    if (!copied) EXPECT_EQ(copied.error(), Error::out_of_memory);
  }
  pages.fail_after = -1;
  ASSERT_TRUE(to->copy(*from, IPA{0}, 16_GiB));
  for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(to->lookup(IPA{i * 3_GiB})->at, PA{i * 3_GiB + 0x5000});
}

TEST(TableShare, ChangesOverToAnotherLender) {
  for (const unsigned cpu_bbml : {0u, 2u}) {
    SCOPED_TRACE(cpu_bbml);
    Views v{{.pages_only = true}, {.bbml = cpu_bbml, .dirty_state = true}};
    ASSERT_TRUE(v.dma->map(kRamBase, PA{2_GiB}, 4_MiB, kGuestRam));
    ASSERT_TRUE(v.dma->share_root(*v.cpu, kRamBase, kRamSpace));
    v.cpu->set_walked(true);
    const auto log = *Table::create(geometry(40), v.pages, {.pages_only = true, .dirty_state = true});
    ASSERT_TRUE(log->copy(*v.dma, kRamBase, 4_MiB));
    const auto direct = log->share_root(*v.cpu, kRamBase, kRamSpace);
    ASSERT_EQ(direct.has_value(), cpu_bbml == 2);
    if (!direct) {
      EXPECT_EQ(direct.error(), Error::live_block);
      expect_both(v, 1_GiB, 2_GiB);
      v.dma->unshare_root(*v.cpu);
      EXPECT_FALSE(v.cpu_walk(1_GiB));
      ASSERT_TRUE(log->share_root(*v.cpu, kRamBase, kRamSpace));
    }
    ASSERT_TRUE(v.dma->check_invariants() && log->check_invariants() && v.cpu->check_invariants());
    // The CPU's writes are logged, those of devices are not hindered.
    ASSERT_TRUE(log->start_log(kRamBase, 4_MiB));
    EXPECT_EQ(v.cpu_walk(1_GiB)->pa, 2_GiB);
    EXPECT_EQ(v.cpu_walk(1_GiB)->attributes & 0x80, 0u);
    EXPECT_NE(hardware_walk(v.pages, *v.dma, 1_GiB)->attributes & 0x80, 0u);
    EXPECT_TRUE(v.cpu->walk(kRamBase)->attributes.write);
    EXPECT_TRUE(v.cpu->mark_dirty(kRamBase + 0x1000)) << "reached through the sharer";
    std::vector<std::uint64_t> bits(16);
    EXPECT_EQ(*log->collect_dirty(kRamBase, 1024, bits), 1u);
    EXPECT_EQ(bits[0], 2u);
    // And back. The other table goes.
    log->unshare_root(*v.cpu);
    ASSERT_TRUE(v.dma->share_root(*v.cpu, kRamBase, kRamSpace));
    expect_both(v, 1_GiB, 2_GiB);
  }
}

}  // namespace
}  // namespace weir::stage2
