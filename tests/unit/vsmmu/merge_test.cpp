// Invalidations that are not sent, because another of the same batch does what they do; and one for everything, at the
// end, where there would be too many.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>

#include "tests/unit/vsmmu/fixture.hpp"
#include "vsmmu/batch.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;

constexpr TlbiGranule k4k = TlbiGranule::size4k;

struct Merge : testing::Test {
  explicit Merge(const vsmmu::Bounds& bounds = {}) : virt{machine, vsmmu::Config{}, bounds} {
    EXPECT_TRUE(virt.vsmmu->attach(VStreamID{8}, *machine.smmus[0], StreamID{8}));
    guest.put_ste(8, Guest::s1_ste());
    guest.enable();
    machine.forget();
  }
  VMID vmid() { return virt.vsmmu->backings()[0].tag(TagKind::open)->vmid(); }
  // What becomes of these commands with a SYNC behind them.
  std::vector<Command> sent(std::initializer_list<Command> commands) {
    machine.forget();
    for (const Command& c : commands) guest.queue(c);
    guest.submit({sync_none()});
    return machine.smmus[0]->commands;
  }
  Command va(std::uint16_t asid, std::uint64_t at, bool leaf = true, TlbiRange range = {}) {
    return tlbi_nh_va(vmid(), ASID{asid}, IOVA{at}, leaf, range);
  }
  Machine machine{1};
  Virtual virt;
  Guest guest{virt};
};

TEST_F(Merge, RepeatedCommandsGoOnce) {
  EXPECT_EQ(sent({nh_va(1, 0x1000), nh_va(1, 0x2000), nh_va(1, 0x1000), nh_va(2, 0x9000), nh_va(1, 0x2000)}),
            (std::vector<Command>{va(1, 0x1000), va(1, 0x2000), va(2, 0x9000)}));
  const Command asid = tlbi_nh_asid(VMID{}, ASID{4});
  EXPECT_EQ(sent({asid, asid, nh_va(4, 0x3000), asid}),
            (std::vector<Command>{tlbi_nh_asid(vmid(), ASID{4}), va(4, 0x3000)}));
  EXPECT_EQ(virt.vsmmu->backing_counters(0).merged, 4u);
  EXPECT_EQ(virt.vsmmu->backing_counters(0).tlbis, 5u);
}

// What has been issued may have been executed before the guest made its next change.
TEST_F(Merge, NothingIsMergedWithWhatHasBeenIssued) {
  machine.forget();
  guest.submit({nh_va(1, 0x1000)});
  guest.submit({nh_va(1, 0x1000), sync_none(), nh_va(1, 0x1000), sync_none()});
  EXPECT_EQ(machine.smmus[0]->commands.size(), 3u);
}

TEST_F(Merge, ConfigurationCommandsAreNotMerged) {
  const Command cd = cfgi_cd(StreamID{8}, SubstreamID{}, true);
  EXPECT_EQ(sent({cd, cd}).size(), 2u);
}

TEST_F(Merge, WithoutLeafDoesBoth) {
  EXPECT_EQ(sent({nh_va(1, 0x1000), tlbi_nh_va(VMID{}, ASID{1}, IOVA{0x1000}, false)}),
            (std::vector<Command>{va(1, 0x1000, false)}));
  EXPECT_EQ(sent({tlbi_nh_va(VMID{}, ASID{1}, IOVA{0x1000}, false), nh_va(1, 0x1000)}),
            (std::vector<Command>{va(1, 0x1000, false)}));
}

TEST_F(Merge, AdjacentRangesAreOne) {
  const auto range = [](unsigned num, unsigned scale, unsigned ttl = 0) {
    return TlbiRange{.tg = k4k, .ttl = ttl, .num = num, .scale = scale};
  };
  const auto nh = [&](std::uint64_t at, TlbiRange r, std::uint16_t asid = 1, bool leaf = true) -> Command {
    return tlbi_nh_va(VMID{}, ASID{asid}, IOVA{at}, leaf, r);
  };
  EXPECT_EQ(sent({nh(0x10'0000, range(3, 0)), nh(0x10'4000, range(3, 0)), nh(0x10'8000, range(7, 0))}),
            (std::vector<Command>{va(1, 0x10'0000, true, range(0, 4))}));
  EXPECT_EQ(sent({nh(0, range(1, 0)), nh(0x2000, range(0, 0, 3))}).size(), 2u);         // another level
  EXPECT_EQ(sent({nh(0, range(1, 0)), nh(0x3000, range(1, 0))}).size(), 2u);            // a gap
  EXPECT_EQ(sent({nh(0, range(1, 0)), nh(0x1000, range(1, 0))}).size(), 2u);            // they overlap
  EXPECT_EQ(sent({nh(0, range(1, 0)), nh(0x2000, range(1, 0), 2)}).size(), 2u);         // another ASID
  EXPECT_EQ(sent({nh(0, range(1, 0)), nh(0x2000, range(1, 0), 1, false)}).size(), 2u);  // Leaf
  EXPECT_EQ(sent({nh(0x2000, range(1, 0)), nh(0, range(1, 0))}).size(), 2u);            // the wrong way round
  // 33 pages cannot be said.
  EXPECT_EQ(sent({nh(0, range(31, 0)), nh(0x2'0000, range(0, 1))}).size(), 1u);
  EXPECT_EQ(sent({nh(0, range(30, 0, 3)), nh(0x1'f000, range(0, 1, 3)), nh(0x2'1000, range(0, 0, 3))}).size(), 2u);
  // Up to the end of the address space, and no further.
  EXPECT_EQ(sent({nh(0xffff'ffff'ffff'e000, range(1, 0)), nh(0, range(1, 0))}).size(), 2u);
}

// Ranges of pages of all sizes: what is merged covers the same pages.
TEST(BatchRanges, CoverTheSamePages) {
  std::mt19937_64 random{7};
  for (unsigned round = 0; round < 3000; ++round) {
    Batch batch;
    std::uint64_t at = 0x40'0000;
    const std::uint64_t begin = at;
    std::uint64_t pages = 0;
    for (unsigned i = 0; i < 4; ++i) {
      const auto num = static_cast<unsigned>(random() % 32);
      const auto scale = static_cast<unsigned>(random() % 4);
      const TlbiRange r{.tg = k4k, .ttl = 3, .num = num, .scale = scale};
      static_cast<void>(batch.add_tlbi(tlbi_nh_va(VMID{3}, ASID{1}, IOVA{at}, true, r)));
      const std::uint64_t n = std::uint64_t{num + 1} << scale;
      pages += n;
      at += n << 12;
    }
    std::uint64_t next = begin;
    for (const Command& c : batch.commands()) {
      const auto va = c.as<TlbiNhVa>();
      ASSERT_TRUE(va);
      EXPECT_EQ(va->get<TlbiNhVa::Address>().value, next);
      const std::uint64_t n = (va->get<TlbiNhVa::NUM>() + 1) << va->get<TlbiNhVa::SCALE>();
      next += n << 12;
    }
    EXPECT_EQ(next, begin + (pages << 12));
  }
}

// What is under the other tag of the instance (precise mode) stays.
TEST(BatchDrop, LeavesOtherTagsAlone) {
  Batch batch;
  const Command mine = tlbi_nh_asid(VMID{3}, ASID{1});
  const Command other = tlbi_nh_va(VMID{4}, ASID{1}, IOVA{0x1000}, true);
  const Command cd = cfgi_cd_all(StreamID{8});
  static_cast<void>(batch.add_tlbi(mine));
  static_cast<void>(batch.add_tlbi(other));
  batch.add(cd);
  EXPECT_EQ(batch.drop_tlbis(VMID{3}), 1u);
  EXPECT_TRUE(std::ranges::equal(batch.commands(), std::array{other, cd}));
}

TEST_F(Merge, NhAllAbsorbsTheTag) {
  EXPECT_EQ(
      sent({nh_va(1, 0x1000), tlbi_nh_asid(VMID{}, ASID{2}), cfgi_cd_all(StreamID{8}), tlbi_nh_all(VMID{}),
            nh_va(3, 0x5000), tlbi_nsnh_all(), cfgi_cd(StreamID{8}, SubstreamID{}, true)}),
      (std::vector<Command>{cfgi_cd_all(StreamID{8}), cfgi_cd(StreamID{8}, SubstreamID{}, true), tlbi_nh_all(vmid())}));
  EXPECT_EQ(virt.vsmmu->backing_counters(0).merged, 4u);
}

struct Widen : Merge {
  Widen() : Merge{vsmmu::Bounds{.widen = 8}} {}
};

// The one for everything covers what was left out, and so comes after all of it.
TEST_F(Widen, TooManyBecomeOneOfEverythingAtTheEnd) {
  machine.forget();
  for (unsigned i = 0; i < 30; ++i) guest.queue(nh_va(1, i * 0x1000));
  guest.queue(cfgi_cd_all(StreamID{8}));
  guest.submit({sync_none()});
  std::vector<Command> expected;
  for (unsigned i = 0; i < 8; ++i) expected.emplace_back(va(1, i * 0x1000));
  expected.push_back(cfgi_cd_all(StreamID{8}));
  expected.push_back(tlbi_nh_all(vmid()));
  EXPECT_EQ(machine.smmus[0]->commands, expected);
  EXPECT_EQ(virt.vsmmu->backing_counters(0).widened, 22u);
  // The next SYNC's worth is a new one.
  EXPECT_EQ(sent({nh_va(1, 0)}), (std::vector<Command>{va(1, 0)}));
}

// Of commands that are not taken in runs.
TEST_F(Widen, TooManyAsidsDoSoToo) {
  machine.forget();
  for (std::uint16_t i = 0; i < 30; ++i) guest.queue(tlbi_nh_asid(VMID{}, ASID{i}));
  guest.queue(cfgi_cd_all(StreamID{8}));
  guest.submit({sync_none()});
  ASSERT_EQ(machine.smmus[0]->commands.size(), 10u);
  EXPECT_EQ(machine.smmus[0]->commands[8], Command{cfgi_cd_all(StreamID{8})});
  EXPECT_EQ(machine.smmus[0]->commands[9], Command{tlbi_nh_all(vmid())});
}

// Each exit issues what it has: what the next one leaves out needs another.
TEST_F(Widen, EveryFlushHasItsOwn) {
  machine.forget();
  for (unsigned i = 0; i < 9; ++i) guest.submit({nh_va(1, i * 0x1000)});
  EXPECT_EQ(machine.smmus[0]->commands.back(), Command{tlbi_nh_all(vmid())});
  EXPECT_EQ(machine.smmus[0]->commands.size(), 9u);
  guest.submit({nh_va(1, 0x20'0000)});
  EXPECT_EQ(machine.smmus[0]->commands.size(), 10u);
  EXPECT_EQ(machine.smmus[0]->commands.back(), Command{tlbi_nh_all(vmid())});
  guest.submit({sync_none()});
  EXPECT_EQ(machine.smmus[0]->commands.size(), 10u);
}

// A batch that fills up in between still has it last.
TEST_F(Merge, TheOneOfEverythingSurvivesAFullBatch) {
  machine.forget();
  guest.queue(tlbi_nh_all(VMID{}));
  for (unsigned i = 0; i < 70; ++i) guest.queue(cfgi_cd_all(StreamID{8}));
  guest.submit({sync_none()});
  EXPECT_EQ(machine.smmus[0]->all<CfgiCdAll>().size(), 70u);
  EXPECT_EQ(machine.smmus[0]->all<TlbiNhAll>().size(), 1u);
}

// --- Bounds ----------------------------------------------------------------------------------------------------------

TEST(BoundedPushes, AnExitSendsNoMoreThanItsBound) {
  Machine machine{4};
  Virtual virt{machine, vsmmu::Config{}, vsmmu::Bounds{.pushed = 10}};
  Guest guest{virt};
  for (unsigned i = 0; i < 4; ++i) {
    ASSERT_TRUE(virt.vsmmu->attach(VStreamID{i}, *machine.smmus[i], StreamID{i}));
    guest.put_ste(i, Guest::s1_ste());
  }
  guest.enable();
  machine.forget();
  for (unsigned i = 0; i < 20; ++i) guest.queue(nh_va(1, i * 0x1000));
  guest.queue(sync_none());
  std::size_t before = 0;
  guest.on_again = [&] {
    std::size_t now = 0;
    for (const auto& s : machine.smmus) now += s->commands.size();
    EXPECT_LE(now - before, 13u);  // three commands, each to four
    before = now;
  };
  guest.kick();
  EXPECT_GT(before, 0u);
  EXPECT_EQ(guest.cons(), 21u);
  for (const auto& s : machine.smmus) EXPECT_EQ(s->commands.size(), 20u);
}

// Streams that flood are silenced a few at a time.
TEST(BoundedPushes, SilencingTakesTurns) {
  Machine machine{1};
  Virtual virt{machine, vsmmu::Config{}, vsmmu::Bounds{.installs = 2}};
  Guest guest{virt};
  for (unsigned i = 0; i < 5; ++i) {
    ASSERT_TRUE(virt.vsmmu->attach(VStreamID{i}, *machine.smmus[0], StreamID{i}));
    guest.put_ste(i, Guest::s1_ste());
  }
  guest.enable();
  for (unsigned i = 0; i < 5; ++i)
    for (unsigned n = 0; n <= vsmmu::EventBudget::kBurst; ++n) {
      const auto bad = CBadCd{}.set<CBadCd::Id>(EventId::C_BAD_CD).set<CBadCd::StreamID>(i);
      Event e;
      e.words = bad.words;
      ASSERT_TRUE(virt.vsmmu->handle_event(*machine.smmus[0], e));
    }
  for (unsigned round = 1; round <= 3; ++round) {
    virt.vsmmu->tick();
    EXPECT_EQ(virt.vsmmu->counters().silenced, std::min(5u, round * 2));
  }
}

}  // namespace
}  // namespace weir::vsmmu::test
