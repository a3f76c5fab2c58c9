#include "hyp/cpu/errata.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>

namespace weir {
namespace {

using enum Erratum;

constexpr std::uint64_t kArm = 0x41;

// rVpR of a CPU of Arm's, or of another implementer's.
Midr cpu(unsigned part, unsigned variant, unsigned rev, std::uint64_t implementer = kArm) {
  return Midr::of(implementer << 24 | std::uint64_t{variant} << 20 | 0xfULL << 16 | std::uint64_t{part} << 4 | rev);
}
Errata all(std::initializer_list<Erratum> list) {
  Errata errata;
  for (const Erratum e : list) errata.add(e);
  return errata;
}

struct Expected {
  const char* name;
  unsigned part;
  unsigned variant;
  unsigned rev;
  Errata errata;
  std::uint64_t implementer = kArm;
};

// The first and the last revision that has an erratum, and the one behind it.
const Expected kExpected[] = {
    {"A53", 0xd03, 0, 4, {}},
    {"A57 r0p0", 0xd07, 0, 0, all({speculative_at})},
    {"A57 r1p3", 0xd07, 1, 3, all({speculative_at})},
    {"A72 r0p0", 0xd08, 0, 0, all({speculative_at})},
    {"A72 r1p0", 0xd08, 1, 0, all({speculative_at})},
    {"A73", 0xd09, 1, 1, {}},
    {"A75", 0xd0a, 3, 1, {}},
    {"A55 r0p0", 0xd05, 0, 0, all({repeat_tlbi, dirty_state, speculative_at})},
    {"A55 r2p0", 0xd05, 2, 0, all({repeat_tlbi, dirty_state, speculative_at})},
    {"A55 r2p1", 0xd05, 2, 1, all({repeat_tlbi, dirty_state})},
    {"A76 r0p0", 0xd0b, 0, 0, all({repeat_tlbi, speculative_at})},
    {"A76 r2p0", 0xd0b, 2, 0, all({repeat_tlbi, speculative_at})},
    {"A76 r2p1", 0xd0b, 2, 1, all({repeat_tlbi})},
    {"A76 r4p1", 0xd0b, 4, 1, all({repeat_tlbi})},
    {"A76AE", 0xd0e, 1, 1, all({repeat_tlbi})},
    {"A77 r0p0", 0xd0d, 0, 0, all({repeat_tlbi, par_read})},
    {"A77 r1p0", 0xd0d, 1, 0, all({repeat_tlbi, par_read})},
    {"A77 r1p1", 0xd0d, 1, 1, all({repeat_tlbi})},
    {"A78", 0xd41, 1, 2, all({repeat_tlbi})},
    {"A78AE", 0xd42, 0, 3, all({repeat_tlbi})},
    {"A78C", 0xd4b, 0, 2, all({repeat_tlbi})},
    {"X1", 0xd44, 1, 2, all({repeat_tlbi})},
    {"X1C", 0xd4c, 0, 2, all({repeat_tlbi})},
    {"A510 r0p0", 0xd46, 0, 0, all({repeat_tlbi, dirty_state})},
    {"A510 r0p2", 0xd46, 0, 2, all({repeat_tlbi, dirty_state})},
    {"A510 r0p3", 0xd46, 0, 3, all({repeat_tlbi})},
    {"A510 r1p1", 0xd46, 1, 1, all({repeat_tlbi})},
    {"A510 r1p2", 0xd46, 1, 2, {}},
    {"A710", 0xd47, 2, 1, all({repeat_tlbi})},
    {"A715", 0xd4d, 1, 0, {}},
    {"X2", 0xd48, 2, 1, all({repeat_tlbi})},
    {"X3", 0xd4e, 1, 2, all({repeat_tlbi})},
    {"X4", 0xd82, 0, 3, all({repeat_tlbi})},
    {"X925", 0xd85, 0, 1, all({repeat_tlbi})},
    {"C1-Ultra", 0xd8c, 1, 0, all({repeat_tlbi})},
    {"C1-Premium", 0xd90, 1, 0, all({repeat_tlbi})},
    {"N1 r0p0", 0xd0c, 0, 0, all({repeat_tlbi, speculative_at})},
    {"N1 r2p0", 0xd0c, 2, 0, all({repeat_tlbi, speculative_at})},
    {"N1 r2p1", 0xd0c, 2, 1, all({repeat_tlbi})},
    {"N1 r4p1", 0xd0c, 4, 1, all({repeat_tlbi})},
    {"N2", 0xd49, 0, 3, all({repeat_tlbi})},
    {"N3", 0xd8e, 0, 0, {}},
    {"V1", 0xd40, 1, 2, all({repeat_tlbi})},
    {"V2", 0xd4f, 0, 2, all({repeat_tlbi})},
    {"V3", 0xd84, 0, 1, all({repeat_tlbi})},
    {"V3AE", 0xd83, 0, 1, all({repeat_tlbi})},
    {"Cobalt 100", 0xd49, 0, 0, all({repeat_tlbi}), 0x6d},
    {"Olympus", 0x010, 0, 0, all({repeat_tlbi}), 0x4e},
    {"Kryo 4xx Silver", 0x805, 0xd, 0xd, {}, 0x51},
    {"Kryo 4xx Silver", 0x805, 0xd, 0xe, all({dirty_state, speculative_at}), 0x51},
    {"Kryo 4xx Silver", 0x805, 0xd, 0xf, {}, 0x51},
    {"A64FX", 0x001, 1, 0, {}, 0x46},
    {"the part number of an A76, of another maker", 0xd0b, 0, 0, {}, 0x46},
    {"the part number of an Olympus, of Arm", 0x010, 0, 0, {}},
    {"QEMU's max", 0x051, 0, 0, {}, 0x00},
};

TEST(Errata, AreThoseOfTheCpusRevision) {
  for (const Expected& e : kExpected)
    EXPECT_EQ(errata_of(cpu(e.part, e.variant, e.rev, e.implementer)).bits(), e.errata.bits()) << e.name;
}

TEST(Errata, EveryLineOfTheTableIsTestedAtItsEnds) {
  for (const CpuErratum& row : cpu_errata()) {
    const auto with = [&](unsigned at) { return row.matches(cpu(row.part, at >> 4, at & 0xf, row.implementer)); };
    EXPECT_TRUE(with(row.first)) << row.cpu;
    EXPECT_TRUE(with(row.last)) << row.cpu;
    if (row.first != 0) EXPECT_FALSE(with(row.first - 1U)) << row.cpu;
    if (row.last != 0xff) EXPECT_FALSE(with(row.last + 1U)) << row.cpu;
    EXPECT_FALSE(row.matches(cpu(row.part ^ 1U, 0, 0, row.implementer))) << row.cpu;
    EXPECT_TRUE(std::ranges::any_of(kExpected,
                                    [&](const Expected& e) {
                                      return e.part == row.part && e.implementer == row.implementer &&
                                             e.errata.has(row.erratum);
                                    }))
        << row.cpu << " " << row.number << " is in no line of this test";
  }
}

// MIDR_EL1.Architecture is not compared.
TEST(Errata, LookAtNothingElseInMidr) {
  EXPECT_TRUE(errata_of(Midr::of(0x410fd0b0)).has(repeat_tlbi));
  EXPECT_TRUE(errata_of(Midr::of(0x4100d0b0)).has(repeat_tlbi));
}

TEST(Errata, AllOfAMachineIsTheUnion) {
  Errata machine = errata_of(cpu(0xd05, 2, 1));  // A55
  EXPECT_FALSE(machine.has(speculative_at));
  for (const CpuErratum& row : cpu_errata())
    if (row.matches(cpu(0xd0b, 0, 0))) machine.add(row.erratum);  // A76
  EXPECT_EQ(machine, all({repeat_tlbi, dirty_state, speculative_at}));
}

TEST(Errata, OnlyACpuThatIsBuiltBesideAnA77MayStandBesideOne) {
  EXPECT_TRUE(may_stand_beside_par_read(cpu(0xd05, 2, 0)));
  EXPECT_FALSE(may_stand_beside_par_read(cpu(0xd0b, 4, 1)));
  EXPECT_FALSE(may_stand_beside_par_read(cpu(0xd05, 2, 0, 0x46)));
}

TEST(Errata, BrokenDirtyStateIsShownToNoOne) {
  const Errata broken = all({dirty_state});
  EXPECT_EQ(without_broken_features(id::kAa64Mmfr1, 0x1122, broken), 0x1121U);
  EXPECT_EQ(without_broken_features(id::kAa64Mmfr1, 0x1123, broken), 0x1121U);  // FEAT_HAFT
  EXPECT_EQ(without_broken_features(id::kAa64Mmfr1, 0x1121, broken), 0x1121U);
  EXPECT_EQ(without_broken_features(id::kAa64Mmfr1, 0x1120, broken), 0x1120U);
  EXPECT_EQ(without_broken_features(id::kAa64Mmfr1, 0x1122, all({repeat_tlbi, speculative_at})), 0x1122U);
  EXPECT_EQ(without_broken_features(id::kAa64Mmfr0, 0x1122, broken), 0x1122U);
}

TEST(Errata, EachHasARemedyInWords) {
  for (unsigned e = 0; e < kErratumCount; ++e) EXPECT_GT(std::strlen(remedy(static_cast<Erratum>(e))), 0U);
}

}  // namespace
}  // namespace weir
