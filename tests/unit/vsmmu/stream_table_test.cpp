#include "vsmmu/stream_table.hpp"

#include "tests/unit/vsmmu/fixture.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;
using vsmmu::StreamTable;

StreamTable linear(IPA base, unsigned log2) {
  StreamTable t{.base = {}, .config = {}, .sid_bits = 16};
  t.base.set<STRTAB_BASE::ADDR>(base.value);
  t.config.set<STRTAB_BASE_CFG::LOG2SIZE>(log2);
  return t;
}
StreamTable two_level(IPA base, unsigned log2, unsigned split) {
  StreamTable t = linear(base, log2);
  t.config.set<STRTAB_BASE_CFG::FMT>(StrtabFmt::two_level).set<STRTAB_BASE_CFG::SPLIT>(split);
  return t;
}
Ste marked(std::uint64_t mark) {
  Ste s;
  s.words[7] = mark;
  return s;
}
L1Std l1std(IPA l2, unsigned span) { return L1Std{}.set<L1Std::L2Ptr>(l2.value).set<L1Std::Span>(span); }
EventId error(const std::expected<Ste, vsmmu::SteFault>& r) { return r ? EventId{} : r.error().event; }

constexpr IPA kTable{0x4000'0000};

TEST(StreamTable, Linear) {
  FakeMemory memory;
  memory.put(kTable + 5 * 64, marked(5));
  const auto t = linear(kTable, 4);
  EXPECT_EQ(t.fetch(memory, VStreamID{5}), marked(5));
  EXPECT_EQ(t.fetch(memory, VStreamID{15}), Ste{});
  EXPECT_EQ(error(t.fetch(memory, VStreamID{16})), EventId::C_BAD_STREAMID);
  EXPECT_EQ(error(t.fetch(memory, VStreamID{0xffffffff})), EventId::C_BAD_STREAMID);
}

TEST(StreamTable, LinearOfOneEntry) {
  FakeMemory memory;
  memory.put(kTable + 64, marked(1));
  const auto t = linear(kTable + 64, 0);
  EXPECT_EQ(t.fetch(memory, VStreamID{0}), marked(1));
  EXPECT_EQ(error(t.fetch(memory, VStreamID{1})), EventId::C_BAD_STREAMID);
}

TEST(StreamTable, BaseIsAlignedToTheTable) {
  FakeMemory memory;
  memory.put(kTable + 3 * 64, marked(3));
  EXPECT_EQ(linear(kTable + 0x140, 4).fetch(memory, VStreamID{3}), marked(3));  // 16 STEs: 1 KiB
}

TEST(StreamTable, SizeIsCappedBySidsize) {
  FakeMemory memory;
  auto t = linear(kTable, 63);  // aligned to everything: base 0
  EXPECT_EQ(error(t.fetch(memory, VStreamID{0x10000})), EventId::C_BAD_STREAMID);
  const auto r = t.fetch(memory, VStreamID{2});
  ASSERT_EQ(error(r), EventId::F_STE_FETCH);
  EXPECT_EQ(r.error().fetch, IPA{0x80});
}

TEST(StreamTable, OutsideOfRam) {
  FakeMemory memory;
  const IPA end{0x4080'0000};
  const auto r = linear(end, 4).fetch(memory, VStreamID{1});
  ASSERT_EQ(error(r), EventId::F_STE_FETCH);
  EXPECT_EQ(r.error().fetch, end + 64);
  EXPECT_EQ(error(linear(IPA{0xffff'ffff'ffc0}, 0).fetch(memory, VStreamID{0})), EventId::F_STE_FETCH);
}

TEST(StreamTable, ReservedFormatsAreLinear) {
  FakeMemory memory;
  memory.put(kTable + 64, marked(1));
  for (const unsigned fmt : {2u, 3u}) {
    auto t = linear(kTable, 4);
    t.config.set<STRTAB_BASE_CFG::FMT>(static_cast<StrtabFmt>(fmt));
    EXPECT_EQ(t.fetch(memory, VStreamID{1}), marked(1));
  }
}

TEST(StreamTable, TwoLevel) {
  for (const unsigned split : {6u, 8u, 10u, 0u, 7u, 31u}) {
    const unsigned effective = split == 8 || split == 10 ? split : 6;  // reserved values behave as 6
    FakeMemory memory;
    const IPA l2{0x4010'0000};
    const std::uint32_t sid = (2u << effective) + 9;
    memory.put(kTable + 2 * 8, l1std(l2, effective + 1));
    memory.put(l2 + 9 * 64, marked(sid));
    EXPECT_EQ(two_level(kTable, 16, split).fetch(memory, VStreamID{sid}), marked(sid)) << split;
    EXPECT_EQ(error(two_level(kTable, 16, split).fetch(memory, VStreamID{0})), EventId::C_BAD_STREAMID);  // Span 0
  }
}

TEST(StreamTable, SpanBounds) {
  FakeMemory memory;
  const IPA l2{0x4010'0000};
  for (unsigned span = 0; span < 32; ++span) {
    memory.put(kTable, l1std(l2, span));
    for (const std::uint32_t sid : {0u, 1u, 3u, 4u, 63u}) {
      const bool reachable = span != 0 && span <= 7 && sid < (1u << (span - 1));  // 7 == SPLIT + 1
      const auto r = two_level(kTable, 16, 6).fetch(memory, VStreamID{sid});
      EXPECT_EQ(r.has_value(), reachable) << span << " " << sid;
      if (!reachable) {
        EXPECT_EQ(error(r), EventId::C_BAD_STREAMID);
      }
    }
  }
  memory.put(kTable, l1std(l2, 11));
  EXPECT_TRUE(two_level(kTable, 16, 10).fetch(memory, VStreamID{1023}));
}

TEST(StreamTable, SecondLevelIsAlignedToItsSpan) {
  FakeMemory memory;
  memory.put(kTable, l1std(IPA{0x4010'0040}, 2));  // two STEs: 128 bytes
  memory.put(IPA{0x4010'0040}, marked(1));
  EXPECT_EQ(two_level(kTable, 16, 6).fetch(memory, VStreamID{1}), marked(1));
}

TEST(StreamTable, FetchFaultsSayWhere) {
  FakeMemory memory;
  auto r = two_level(IPA{0x1000'0000}, 16, 8).fetch(memory, VStreamID{0x300});
  ASSERT_EQ(error(r), EventId::F_STE_FETCH);
  EXPECT_EQ(r.error().fetch, IPA{0x1000'0018});
  memory.put(kTable, l1std(IPA{0x2000'0000}, 9));
  r = two_level(kTable, 16, 8).fetch(memory, VStreamID{2});
  ASSERT_EQ(error(r), EventId::F_STE_FETCH);
  EXPECT_EQ(r.error().fetch, IPA{0x2000'0080});
}

TEST(StreamTable, SplitBeyondTheSize) {
  FakeMemory memory;
  memory.put(kTable, l1std(IPA{0x4010'0000}, 11));
  const auto t = two_level(kTable, 4, 10);
  EXPECT_TRUE(t.fetch(memory, VStreamID{15}));
  EXPECT_EQ(error(t.fetch(memory, VStreamID{16})), EventId::C_BAD_STREAMID);
}

}  // namespace
}  // namespace weir::vsmmu::test
