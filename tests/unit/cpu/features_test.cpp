#include "hyp/cpu/features.hpp"

#include <gtest/gtest.h>

#include "hyp/cpu/el2_controls.hpp"
#include "hyp/cpu/feature_table.hpp"
#include "tests/unit/cpu/cpus.hpp"

namespace weir {
namespace {

using test::a53_cpu, test::a57_cpu, test::max_cpu, test::n1_cpu, test::n2_cpu;
constexpr IdSource kCpus[] = {a53_cpu, a57_cpu, n1_cpu, n2_cpu, max_cpu};

std::uint64_t shown(IdRegister reg, IdSource cpu = max_cpu) { return sanitised_id(reg, cpu); }

// A CPU all of whose ID registers have one value.
template <std::uint64_t kValue>
std::uint64_t same_cpu(IdRegister) {
  return kValue;
}
// A CPU with one register's value, and nothing else.
template <std::uint8_t kCrm, std::uint8_t kOp2, std::uint64_t kValue>
std::uint64_t one_cpu(IdRegister reg) {
  return reg == IdRegister{kCrm, kOp2} ? kValue : 0;
}

TEST(Features, HidesWhatNeedsStateThatWeirOwns) {
  EXPECT_EQ(shown(id::kAa64Pfr0), 0x1101000101110012U);   // no EL2, RAS, SEL2, SCXTNUM; EL1 is AArch64
  EXPECT_EQ(shown(id::kAa64Pfr1), 0x0000100002000121U);   // no NMI, RNDR_trap, MTEX
  EXPECT_EQ(shown(id::kAa64Pfr2), 0U);                    // no FPMR
  EXPECT_EQ(shown(id::kAa64Smfr0), 0x92f15cff01800001U);  // no FP8
  EXPECT_EQ(shown(id::kAa64Fpfr0), 0U);
  EXPECT_EQ(shown(id::kAa64Dfr0), 0x000000001030500aU);   // no PMU
  EXPECT_EQ(shown(id::kAa64Isar0), 0x0221111110312120U);  // no RNG, which EL3 may trap
  EXPECT_EQ(shown(id::kAa64Isar1), max_cpu(id::kAa64Isar1));
  EXPECT_EQ(shown(id::kAa64Isar2), 0x0120000000110012U);  // no ATS1A
  EXPECT_EQ(shown(id::kAa64Mmfr0), 0x1000011100100022U);  // 40 bits, no LPA2, stage 2, big endian; ECV's EL1 half
  EXPECT_EQ(shown(id::kAa64Mmfr1), 0x0110102000302002U);  // no VHE, VMIDs, LORegions, XNX, HCX
  EXPECT_EQ(shown(id::kAa64Mmfr2), 0x1021001110010011U);  // no nested virtualization, S2FWB, EVT, IESB
  EXPECT_EQ(shown(id::kAa64Mmfr3), 0x1000000000000101U);  // no SCTLR2, AIE, MEC, S2PIE
  EXPECT_EQ(shown(id::kAa64Mmfr4), 0x000000000f000000U);  // no E2H, whatever its value
}

TEST(Features, HidesWhatItDoesNotKnow) {
  EXPECT_EQ(sanitised_id({5, 4}, same_cpu<~std::uint64_t{0}>), 0U);  // ID_AA64AFR0_EL1
  EXPECT_EQ(sanitised_id({5, 1}, same_cpu<~std::uint64_t{0}>), 0U);  // ID_AA64DFR1_EL1
  EXPECT_EQ(sanitised_id({4, 3}, same_cpu<~std::uint64_t{0}>), 0U);  // not allocated
}

// A guest never sees more than the CPU has, but for fields whose zero says that something is there.
TEST(Features, PromisesNothingThatTheCpuLacks) {
  for (const IdSource cpu : kCpus)
    for (std::uint8_t crm = 1; crm <= 7; ++crm)
      for (std::uint8_t op2 = 0; op2 <= 7; ++op2) {
        const IdRegister reg{crm, op2};
        std::uint64_t absent = 0;
        for (const Feature& f : feature_table())
          if (f.field.reg == reg && f.absent != 0) absent |= f.mask;
        for (std::uint8_t lo = 0; lo < 64; lo = static_cast<std::uint8_t>(lo + 4)) {
          const IdField field{reg, lo};
          if ((absent & field.mask()) != 0) continue;
          EXPECT_LE(field.of(shown(reg, cpu)), field.of(cpu(reg))) << +crm << ' ' << +op2 << ' ' << +lo;
        }
      }
}

// Fields of the Arm ARM whose zero is not "absent"; a table that leaves one out would promise it.
TEST(Features, ZeroIsPresent) {
  const struct {
    IdField field;
    std::uint8_t absent;
  } fields[] = {{id::kFp, 0xf},
                {id::kAdvSimd, 0xf},
                {{id::kAa64Pfr1, 40}, 0xf},  // MTE_frac
                {id::kDoubleLock, 0xf},
                {{id::kAa64Mmfr0, 24}, 0xf},  // TGran64
                {{id::kAa64Mmfr0, 28}, 0xf},  // TGran4
                {{id::kAa64Mmfr0, 32}, 1},    // TGran16_2: 0 is "as TGran16 says"
                {{id::kAa64Mmfr0, 36}, 1},
                {{id::kAa64Mmfr0, 40}, 1},
                {{id::kAa64Mmfr4, 24}, 0xf}};  // E2H0
  unsigned marked = 0;
  for (const Feature& f : feature_table()) marked += f.absent != 0 ? 1 : 0;
  EXPECT_EQ(marked, std::size(fields));
  for (const auto& want : fields) {
    const Feature* found = nullptr;
    for (const Feature& f : feature_table())
      if (f.field == want.field) found = &f;
    ASSERT_NE(found, nullptr) << +want.field.reg.crm << ' ' << +want.field.reg.op2 << ' ' << +want.field.lo;
    EXPECT_EQ(found->absent, want.absent);
    // Where the CPU has nothing, so has the guest.
    EXPECT_EQ(want.field.of(found->shown(same_cpu<~std::uint64_t{0}>)), want.absent);
  }
}

TEST(Features, SignedFieldsKeepTheirAbsentValue) {
  EXPECT_EQ((shown(id::kAa64Pfr0, one_cpu<4, 0, 0x00ff0000>)), 0x00ff0000U);                // neither FP nor AdvSIMD
  EXPECT_EQ((shown(id::kAa64Mmfr0, one_cpu<7, 0, 0xff000000>)) & 0xff000000, 0xff000000U);  // no 4, 64 KiB granules
  // MTE2 without asynchronous faults.
  EXPECT_EQ((shown(id::kAa64Pfr1, one_cpu<4, 1, 0x00000f0000000200>)), 0x00000f0000000200U);
  // Speculation may raise SErrors.
  EXPECT_EQ((shown(id::kAa64Mmfr1, one_cpu<7, 1, 0x01000000>)), 0x01000000U);
}

TEST(Features, RandomNumbersWhereEl3CannotTrapThem) {
  EXPECT_EQ((shown(id::kAa64Isar0, one_cpu<6, 0, 0x1000000000000000>)), 0x1000000000000000U);
  constexpr auto trapped = [](IdRegister reg) -> std::uint64_t {
    if (reg == id::kAa64Isar0) return 0x1000000000000000;
    return reg == id::kAa64Pfr1 ? 0x10000000 : 0;
  };
  EXPECT_EQ(shown(id::kAa64Isar0, trapped), 0U);
}

TEST(Features, SpeculationWithoutItsNumbers) {
  EXPECT_EQ((shown(id::kAa64Pfr0, one_cpu<4, 0, 0x0300000000000000>)), 0x0100000000000000U);
  EXPECT_EQ((shown(id::kAa64Pfr1, one_cpu<4, 1, 0x0000000200000000>)), 0x0000000100000000U);
}

TEST(Features, OverlaysOnlyWithIndirection) {  // the boot protocol has PIEn set for S1PIE, not for S1POE
  EXPECT_EQ((shown(id::kAa64Mmfr3, one_cpu<7, 3, 0x10100>)), 0x10100U);
  EXPECT_EQ((shown(id::kAa64Mmfr3, one_cpu<7, 3, 0x10000>)), 0U);
}

// Whole values, so that no bit changes unseen. Without FEAT_HCX and FEAT_FGT the registers do not exist.
TEST(Features, GoldenControls) {
  const struct {
    const char* name;
    IdSource cpu;
    std::uint64_t hcr, cptr, mdcr;
  } common[] = {{"a53", a53_cpu, 0x00000018803c003f, 0x401033ff, 0x00084860},
                {"a57", a57_cpu, 0x00000018803c003f, 0x401033ff, 0x00084860},
                {"n1", n1_cpu, 0x00000018803c003f, 0x401033ff, 0x00084860},
                {"n2", n2_cpu, 0x00000318803c003f, 0x401032ff, 0x00084860},
                {"max", max_cpu, 0x00000318803c003f, 0x401022ff, 0x08084860}};
  for (const auto& want : common) {
    const El2Controls c = el2_controls(want.cpu);
    EXPECT_EQ(c.hcr, want.hcr) << want.name;
    EXPECT_EQ(c.cptr, want.cptr) << want.name;
    EXPECT_EQ(c.mdcr, want.mdcr) << want.name;
    EXPECT_EQ(c.has_hcrx, want.cpu == max_cpu) << want.name;
    EXPECT_EQ(c.has_fgt, want.cpu == max_cpu) << want.name;
    EXPECT_EQ(c.has_sme, want.cpu == max_cpu) << want.name;
    EXPECT_EQ(c.has_sve, want.cpu == max_cpu || want.cpu == n2_cpu) << want.name;
    EXPECT_EQ(c.has_ras, want.cpu == max_cpu || want.cpu == n2_cpu || want.cpu == n1_cpu) << want.name;
    EXPECT_TRUE(c.has_pmu) << want.name;
    EXPECT_FALSE(c.has_fgt2) << want.name;
    EXPECT_EQ(c.vmid16, want.cpu != a53_cpu && want.cpu != a57_cpu) << want.name;
  }
  const El2Controls c = el2_controls(max_cpu);
  EXPECT_EQ(c.hcrx, 0x404840U);  // TALLINT, MSCEn, TCR2En, GCSEn
  EXPECT_EQ(c.hfgrtr, 0x06f0000000000000U);
  EXPECT_EQ(c.hfgitr, 0x0e00000000000000U);
  EXPECT_EQ(c.zcr, 0xfU);
  EXPECT_EQ(c.smcr, 0xc000000fU);
  EXPECT_EQ(el2_controls(n2_cpu).hfgrtr, 0U);
  EXPECT_EQ(el2_controls(n2_cpu).hfgitr, 0U);
}

TEST(Features, TagsOnlyWithMemoryForThem) {
  EXPECT_EQ((el2_controls(one_cpu<4, 1, 0x100>).hcr) & HcrEl2::ATA::mask, 0U);
  EXPECT_NE((el2_controls(one_cpu<4, 1, 0x200>).hcr) & HcrEl2::ATA::mask, 0U);
}

TEST(Features, AlwaysTrapsWhatIsHidden) {
  for (const IdSource cpu : kCpus) {
    const El2Controls c = el2_controls(cpu);
    const std::uint64_t always = HcrEl2::VM::mask | HcrEl2::IMO::mask | HcrEl2::FMO::mask | HcrEl2::AMO::mask |
                                 HcrEl2::TID3::mask | HcrEl2::TSC::mask | HcrEl2::TLOR::mask | HcrEl2::TERR::mask |
                                 HcrEl2::RW::mask | HcrEl2::PTW::mask;
    EXPECT_EQ(c.hcr & always, always);
    EXPECT_NE(c.mdcr & MdcrEl2::TPM::mask, 0U);
    EXPECT_NE(c.mdcr & MdcrEl2::TPMS::mask, 0U);
    EXPECT_NE(c.cptr & CptrEl2::TAM::mask, 0U);
  }
}

}  // namespace
}  // namespace weir
