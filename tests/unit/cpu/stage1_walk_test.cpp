#include "hyp/cpu/stage1_walk.hpp"

#include <gtest/gtest.h>

#include <map>

namespace weir {
namespace {

struct Memory final : DescriptorReader {
  std::map<std::uint64_t, std::uint64_t> at;
  unsigned reads = 0;
  std::optional<std::uint64_t> read(IPA where) override {
    ++reads;
    const auto found = at.find(where.value);
    if (found == at.end()) return std::nullopt;
    return found->second;
  }
};

constexpr std::uint64_t kTable = 3;
constexpr std::uint64_t tcr0(std::uint64_t t0sz, std::uint64_t tg0) { return t0sz | tg0 << 14; }
constexpr std::uint64_t tcr1(std::uint64_t t1sz, std::uint64_t tg1) { return t1sz << 16 | tg1 << 30; }

// 4 KiB, 48 bits: levels 0 to 3. Index 1 at each.
constexpr std::uint64_t kVa = std::uint64_t{1} << 39 | 1 << 30 | 1 << 21 | 1 << 12;

TEST(Stage1Walk, EachLevel) {
  const std::uint64_t tables[] = {0x4000'0000, 0x4000'1000, 0x4000'2000, 0x4000'3000};
  for (unsigned missing = 0; missing < 4; ++missing) {
    Memory m;
    for (unsigned level = 0; level < missing; ++level) m.at[tables[level] + 8] = tables[level + 1] | kTable;
    const Stage1Regime regime{.tcr = tcr0(16, 0), .ttbr0 = tables[0]};
    EXPECT_EQ(stage1_fault_level(regime, kVa, IPA{tables[missing]}, false, m), missing);
    EXPECT_EQ(m.reads, missing);  // what faulted is not read
  }
}

TEST(Stage1Walk, StartsWhereTheSizeSays) {
  const struct {
    std::uint64_t tcr;
    std::uint64_t va;
    unsigned level;
  } cases[] = {{tcr0(16, 0), 0, 0},
               {tcr0(25, 0), 0, 1},  // 39 bits: exactly three levels of 4 KiB
               {tcr0(24, 0), 0, 0},
               {tcr0(34, 0), 0, 2},
               {tcr0(43, 0), 0, 3},  // FEAT_TTST
               {tcr0(16, 2), 0, 0},  // 16 KiB
               {tcr0(17, 2), 0, 1},
               {tcr0(28, 2), 0, 2},
               {tcr0(22, 1), 0, 2},  // 64 KiB
               {tcr0(21, 1), 0, 1},
               {tcr0(12, 1), 0, 1},
               {tcr1(25, 2), ~std::uint64_t{0}, 1},  // TG1 has encodings of its own
               {tcr1(17, 1), ~std::uint64_t{0}, 1},
               {tcr1(22, 3), ~std::uint64_t{0}, 2}};
  for (const auto& c : cases) {
    Memory m;
    const Stage1Regime regime{.tcr = c.tcr, .ttbr0 = 0x8000'0000, .ttbr1 = 0x8000'0000};
    EXPECT_EQ(stage1_fault_level(regime, c.va, IPA{0}, false, m), c.level) << std::hex << c.tcr;
  }
}

TEST(Stage1Walk, ChoosesTheTableByBit55) {
  Memory m;
  m.at[0x9000'0ff8] = 0x9000'1000 | kTable;
  // A tag in the top byte, which TBI has ignored.
  const Stage1Regime regime{.tcr = tcr0(16, 0) | tcr1(16, 2), .ttbr0 = 0x4000'0000, .ttbr1 = 0x9000'0000};
  EXPECT_EQ(stage1_fault_level(regime, 0x5aff'ffff'ffff'ffff, IPA{0x9000'1000}, false, m), 1U);
}

TEST(Stage1Walk, AFirstTableOf64KiBGranules) {  // larger than the page of a fault
  Memory m;
  const std::uint64_t va = std::uint64_t{0x3ff} << 42;
  m.at[0x8000'0000 + 0x3ff * 8] = 0x9000'0000 | kTable;
  const Stage1Regime regime{.tcr = tcr0(12, 1), .ttbr0 = 0x8000'0000};
  EXPECT_EQ(stage1_fault_level(regime, va, IPA{0x8000'1000}, false, m), 1U);
  EXPECT_EQ(stage1_fault_level(regime, va, IPA{0x9000'0000}, false, m), 2U);
}

TEST(Stage1Walk, ATableThatRefersToItself) {
  Memory m;
  const std::uint64_t table = 0x4000'0000;
  m.at[table + 8] = table | kTable;
  const Stage1Regime regime{.tcr = tcr0(16, 0), .ttbr0 = table};
  EXPECT_EQ(stage1_fault_level(regime, kVa, IPA{table}, false, m), 0U);  // reading fails at once
  EXPECT_EQ(stage1_fault_level(regime, kVa, IPA{table}, true, m), 3U);   // writing where there is a leaf
}

TEST(Stage1Walk, BigEndianTables) {
  Memory m;
  m.at[0x4000'0008] = __builtin_bswap64(0x4000'1000 | kTable);
  const Stage1Regime regime{.tcr = tcr0(16, 0), .ttbr0 = 0x4000'0000, .big_endian = true};
  EXPECT_EQ(stage1_fault_level(regime, kVa, IPA{0x4000'1000}, false, m), 1U);
}

TEST(Stage1Walk, EndsWhateverTheGuestWrites) {
  for (std::uint64_t tcr = 0; tcr < 0x1'0000; ++tcr) {
    Memory m;
    const Stage1Regime regime{.tcr = tcr, .ttbr0 = ~std::uint64_t{0}};
    EXPECT_LE(stage1_fault_level(regime, kVa, IPA{0}, (tcr & 1) != 0, m), 3U);
  }
  // Tables that have changed since: the level at which the walk ends.
  Memory m;
  m.at[0x4000'0008] = 0x4000'1000 | kTable;
  m.at[0x4000'1008] = 0;
  const Stage1Regime regime{.tcr = tcr0(16, 0), .ttbr0 = 0x4000'0000};
  EXPECT_EQ(stage1_fault_level(regime, kVa, IPA{0x7000'0000}, false, m), 1U);
}

}  // namespace
}  // namespace weir
