// Random tables of every granule, both stages, against a reference that only follows pointers.
#include <bit>

#include "tests/unit/model/translator_rig.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

// As simple as it can be: no caches, no faults but "none".
struct Reference {
  const GranuleTables& tables;
  unsigned input;
  int start;
  bool stage2;

  struct Result {
    std::uint64_t out{};
    bool read = false;
    bool write = false;
    [[nodiscard]] bool permits(bool store) const { return store ? write : read; }
  };
  [[nodiscard]] std::optional<Result> operator()(std::uint64_t address) const {
    if ((address >> input) != 0) return std::nullopt;
    std::uint64_t table = tables.root();
    for (int level = start; level <= 3; ++level) {
      const unsigned shift = tables.shift(level);
      const std::uint64_t mask = level == start ? ~std::uint64_t{0} : (std::uint64_t{1} << (tables.granule() - 3)) - 1;
      const std::uint64_t d = tables.load(table + ((address >> shift) & mask) * 8);
      if ((d & 1) == 0) return std::nullopt;
      if (level == 3 || (d & 2) == 0) {
        if ((d & kLeafAf) == 0) return std::nullopt;
        const bool first = (d & 0x40) != 0;  // AP[1] or S2AP[0]
        const std::uint64_t base = (d & 0xffff'ffff'f000) >> shift << shift;
        const std::uint64_t out = base + (address & ((std::uint64_t{1} << shift) - 1));
        if (stage2) return Result{out, first, (d & 0x80) != 0};
        return Result{out, first, first && (d & 0x80) == 0};
      }
      table = (d & 0xffff'ffff'f000) >> tables.granule() << tables.granule();
    }
    return std::nullopt;
  }
};

struct Shape {
  unsigned granule;
  unsigned input;
  int start;
  unsigned sl0;  // stage 2
};
constexpr Shape kStage1[] = {{12, 48, 0, 0}, {12, 40, 0, 0}, {12, 39, 1, 0}, {12, 31, 1, 0}, {12, 30, 2, 0},
                             {12, 21, 3, 0}, {14, 48, 0, 0}, {14, 47, 1, 0}, {14, 36, 2, 0}, {14, 25, 3, 0},
                             {16, 48, 1, 0}, {16, 43, 1, 0}, {16, 42, 2, 0}, {16, 29, 3, 0}};
constexpr Shape kStage2[] = {{12, 44, 0, 2}, {12, 40, 0, 2}, {12, 39, 1, 1}, {12, 43, 1, 1}, {12, 34, 2, 0},
                             {12, 30, 2, 0}, {14, 44, 1, 2}, {14, 40, 2, 1}, {14, 36, 2, 1}, {14, 29, 3, 0},
                             {16, 44, 1, 2}, {16, 42, 2, 1}, {16, 33, 3, 0}, {16, 29, 3, 0}};

class WalkEquivalence : public TranslatorRig {
 protected:
  std::uint64_t any(std::uint64_t n) { return dice() % n; }
  // A few leaves of any level around a few addresses, some of them broken.
  void fill(GranuleTables& t, const Shape& s, std::uint64_t to_bits, bool stage2, std::vector<std::uint64_t>& hot) {
    const int highest = s.granule == 12 ? 1 : 2;
    for (int i = 0; i < 24; ++i) {
      const std::uint64_t address = hot.empty() || any(3) == 0 ? dice() & ((std::uint64_t{1} << s.input) - 1)
                                                               : hot[any(hot.size())] ^ (any(4) << s.granule);
      if ((address >> s.input) != 0) continue;
      hot.push_back(address);
      const int level = std::max({s.start, highest, 3 - static_cast<int>(any(3))});
      bool under_block = false;
      std::uint64_t table = t.root();
      for (int at = s.start; at < level; ++at) {  // not below a block
        const std::uint64_t mask = at == s.start ? ~std::uint64_t{0} : (std::uint64_t{1} << (s.granule - 3)) - 1;
        const std::uint64_t d = t.load(table + ((address >> t.shift(at)) & mask) * 8);
        under_block = under_block || (d & 3) == 1;
        if ((d & 3) != 3) break;
        table = d & bit_mask(47, s.granule);
      }
      if (under_block) continue;
      const std::uint64_t where = t.descriptor(address, level);
      if (level < 3 && (t.load(where) & 3) == 3) continue;  // a table lies there
      const std::uint64_t to = (dice() & ((std::uint64_t{1} << to_bits) - 1)) >> t.shift(level) << t.shift(level);
      std::uint64_t flags = stage2 ? kS2All : kUserRw;
      if (any(8) == 0) flags &= ~kLeafAf;
      if (any(8) == 0) flags &= ~std::uint64_t{0x40};
      if (any(4) == 0) flags ^= 0x80;
      t.map(address, to, flags, level);
      if (any(10) == 0) t.store(where, t.load(where) & ~std::uint64_t{1});
    }
  }
  std::mt19937_64 dice{42};
};

TEST_F(WalkEquivalence, StageOne) {
  Parameters p = Parameters::everything();
  p.oas = AddressSize::bits48;
  unsigned good = 0;
  for (unsigned round = 0; round < 60; ++round) {
    for (const Shape& s : kStage1) {
      p.seed = round;
      start(p);
      GranuleTables t{memory, s.granule, s.input, s.start};
      std::vector<std::uint64_t> hot;
      fill(t, s, 48, false, hot);
      put_ste(1, s1_of(put_cd(cd_of(t.root(), s.granule, s.input).set<Cd::IPS>(AddressSize::bits48))));
      const Reference reference{t, s.input, s.start, false};
      for (int i = 0; i < 200; ++i) {
        const std::uint64_t va = hot[any(hot.size())] ^ any(std::uint64_t{4} << s.granule);
        const bool write = any(2) == 0;
        const auto want = reference(va);
        const auto got = go({.sid = StreamID{1}, .address = va, .write = write});
        ASSERT_EQ(got.has_value(), want && want->permits(write))
            << s.granule << '/' << s.input << std::hex << ' ' << va;
        if (!got) continue;
        ASSERT_EQ(got->address, want->out);
        ++good;
        if (any(20) == 0) translator->evict();
      }
    }
  }
  EXPECT_GT(good, 10000u);
}

TEST_F(WalkEquivalence, StageTwo) {
  Parameters p = Parameters::everything();
  unsigned good = 0;
  for (unsigned round = 0; round < 60; ++round) {
    for (const Shape& s : kStage2) {
      p.seed = round;
      start(p);
      GranuleTables t{memory, s.granule, s.input, s.start};
      std::vector<std::uint64_t> hot;
      fill(t, s, 44, true, hot);
      put_ste(1, with_s2(Ste{}, SteConfig::s2, t, s.input, s.sl0));
      const Reference reference{t, s.input, s.start, true};
      for (int i = 0; i < 200; ++i) {
        const std::uint64_t ipa = hot[any(hot.size())] ^ any(std::uint64_t{4} << s.granule);
        const bool write = any(2) == 0;
        const auto want = reference(ipa);
        const auto got = go({.sid = StreamID{1}, .address = ipa, .write = write});
        ASSERT_EQ(got.has_value(), want && want->permits(write))
            << s.granule << '/' << s.input << std::hex << ' ' << ipa;
        if (!got) continue;
        ASSERT_EQ(got->address, want->out);
        ++good;
      }
    }
  }
  EXPECT_GT(good, 10000u);
}

// 52 bits: FEAT_LPA's and FEAT_LPA2's descriptors, and level -1.
TEST_F(WalkEquivalence, FiftyTwoBits) {
  Parameters p = Parameters::everything();
  p.oas = AddressSize::bits52;
  p.vax = 1;
  p.ds = true;
  constexpr std::uint64_t kHigh = std::uint64_t{0xd} << 48;  // of the output
  struct Row {
    unsigned granule;
    unsigned input;
    int start;
    int level;
  };
  for (const Row& row : {Row{12, 52, -1, 3}, Row{12, 49, -1, 2}, Row{12, 48, 0, 0}, Row{14, 52, 0, 3},
                         Row{14, 47, 1, 1}, Row{16, 52, 1, 3}, Row{16, 52, 1, 1}, Row{16, 42, 2, 2}}) {
    start(p);
    GranuleTables t{memory, row.granule, row.input, row.start};
    const std::uint64_t va = (std::uint64_t{1} << (row.input - 1)) + 5 * t.bytes(row.level) % (1ull << (row.input - 1));
    const std::uint64_t low = t.bytes(row.level) < (1ull << 47) ? t.bytes(row.level) : 0;
    const std::uint64_t encoded =
        row.granule == 16 ? std::uint64_t{0xd} << 12 : (std::uint64_t{0xd & 3} << 48) | (std::uint64_t{0xd >> 2} << 8);
    t.map(va, low | encoded, kUserRw, row.level);
    const Cd cd = cd_of(t.root(), row.granule, row.input).set<Cd::DS>(true);
    put_ste(1, s1_of(put_cd(Cd{cd}.set<Cd::IPS>(AddressSize::bits52))));
    EXPECT_EQ(read(va + 0x123), kHigh + low + 0x123) << row.granule << ' ' << row.level;
    put_ste(1, s1_of(put_cd(Cd{cd}.set<Cd::IPS>(AddressSize::bits48))));
    flush();
    EXPECT_EQ(failure(va).id, EventId::F_ADDR_SIZE);
    // Without DS, 4 and 16 KiB know no such addresses.
    if (row.granule == 16 || row.input > 48 || row.start < 0 || row.level == 0) continue;
    put_ste(1, s1_of(put_cd(Cd{cd}.set<Cd::DS>(false).set<Cd::IPS>(AddressSize::bits52))));
    flush();
    const auto plain = go({.sid = StreamID{1}, .address = va});
    EXPECT_TRUE(!plain || (plain->address >> 48) == 0);
  }
}

TEST_F(WalkEquivalence, BigEndian) {
  Parameters p = Parameters::everything();
  p.endian = TtEndian::mixed;
  start(p);
  GranuleTables t{memory, 12, 39, 1};
  const std::uint64_t data = page();
  t.map(kVa, data);
  const std::uint64_t at[] = {t.descriptor(kVa, 1), t.descriptor(kVa, 2), t.descriptor(kVa, 3)};
  for (const std::uint64_t where : at) t.store(where, std::byteswap(t.load(where) & ~kLeafAf));
  put_ste(1, s1_of(put_cd(cd_of(t.root()).set<Cd::ENDI>(true).set<Cd::HA>(true))));
  EXPECT_EQ(read(kVa), data);
  EXPECT_NE(std::byteswap(t.load(at[2])) & kLeafAf, 0u);
}

// Stage 2 maps the pages of the stage-1 tables by an offset, so that a walk that forgets it goes wrong.
TEST_F(WalkEquivalence, Nested) {
  constexpr std::uint64_t kOffset = std::uint64_t{1} << 38;
  Parameters p = Parameters::everything();
  unsigned good = 0;
  unsigned round = 0;
  for (const Shape& first : kStage1) {
    for (const Shape& second : kStage2) {
      if (second.input < 40 || first.granule < 12) continue;
      p.seed = ++round;
      start(p);
      GranuleTables t1{memory, first.granule, first.input, first.start};
      GranuleTables t2{memory, second.granule, second.input, second.start};
      std::vector<std::uint64_t> hot1;
      fill(t1, first, 40, false, hot1);
      // Whatever stage 1 leads to, mostly.
      std::vector<std::uint64_t> hot2;
      const Reference reference1{t1, first.input, first.start, false};
      for (const std::uint64_t va : hot1)
        if (const auto ipa = reference1(va); ipa && (ipa->out >> 38) != 2) hot2.push_back(ipa->out);
      const auto everything = [&](std::uint64_t at) {
        const std::uint64_t size = std::uint64_t{1} << second.granule;
        t2.map((at & ~(size - 1)) + kOffset, at & ~(size - 1), kS2All);
      };
      const PA cd = put_cd(cd_of(t1.root() + kOffset, first.granule, first.input));
      everything(cd.value);
      // The tables' own addresses: each descriptor that points to one moves with the offset.
      const auto shift_tables = [&](auto& self, std::uint64_t table, int level, std::uint64_t bytes) -> void {
        for (std::uint64_t at = table; at < table + bytes; at += kPage4K) everything(at);
        for (std::uint64_t at = table; at < table + bytes && level < 3; at += 8) {
          const std::uint64_t d = t1.load(at);
          if ((d & 3) != 3) continue;
          self(self, d & bit_mask(47, first.granule), level + 1, std::uint64_t{1} << first.granule);
          t1.store(at, d + kOffset);
        }
      };
      std::vector<std::optional<Reference::Result>> stage1;
      for (const std::uint64_t va : hot1) stage1.push_back(reference1(va));
      shift_tables(shift_tables, t1.root(), first.start, std::uint64_t{8} << (first.input - t1.shift(first.start)));
      for (const std::uint64_t ipa : hot2) {
        if ((ipa >> second.input) != 0 || (ipa & kOffset) != 0) continue;
        const std::uint64_t size = std::uint64_t{1} << second.granule;
        t2.map(ipa & ~(size - 1), (dice() & bit_mask(43, 0)) & ~(size - 1), any(4) == 0 ? kS2All & ~kS2Write : kS2All);
      }
      put_ste(1, with_s2(s1_of(PA{cd.value + kOffset}), SteConfig::s1_s2, t2, second.input, second.sl0));
      const Reference reference2{t2, second.input, second.start, true};
      for (int i = 0; i < 300; ++i) {
        const std::size_t n = any(hot1.size());
        const bool write = any(2) == 0;
        std::optional<Reference::Result> want;
        if (stage1[n] && stage1[n]->permits(write)) want = reference2(stage1[n]->out);
        const auto got = go({.sid = StreamID{1}, .address = hot1[n], .write = write});
        ASSERT_EQ(got.has_value(), want && want->permits(write))
            << first.granule << '/' << first.input << ' ' << second.granule << '/' << second.input << std::hex << ' '
            << hot1[n];
        if (!got) continue;
        ASSERT_EQ(got->address, want->out);
        ++good;
        if (any(20) == 0) translator->evict();
      }
    }
  }
  EXPECT_GT(good, 3000u);
}

}  // namespace
}  // namespace weir::model::test
