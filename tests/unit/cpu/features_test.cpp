#include "hyp/cpu/features.hpp"

#include <gtest/gtest.h>

#include "hyp/cpu/el2_controls.hpp"

namespace weir {
namespace {

// What QEMU 11.1's `-cpu max` has at EL2.
std::uint64_t max_cpu(IdRegister reg) {
  if (reg == id::kAa64Pfr0) return 0x1301001121110222;
  if (reg == id::kAa64Pfr1) return 0x0010101012000121;
  if (reg == id::kAa64Pfr2) return 0x0000000100000111;
  if (reg == id::kAa64Zfr0) return 0x0110110101210022;
  if (reg == id::kAa64Smfr0) return 0x92f15fff71800001;
  if (reg == id::kAa64Dfr0) return 0x100000001030560a;
  if (reg == id::kAa64Isar0) return 0x1221111110312120;
  if (reg == id::kAa64Isar1) return 0x0111211110211502;
  if (reg == id::kAa64Isar2) return 0x1120000000110012;
  if (reg == id::kAa64Mmfr0) return 0x2100032310201126;
  if (reg == id::kAa64Mmfr1) return 0x0110112010312122;
  if (reg == id::kAa64Mmfr2) return 0x1221011112011011;
  if (reg == id::kAa64Mmfr3) return 0x1000000011001111;
  if (reg == id::kAa64Mmfr4) return 0x100;
  return 0;
}

// An Armv8.0 CPU: FP and nothing else.
std::uint64_t plain_cpu(IdRegister reg) {
  if (reg == id::kAa64Pfr0) return 0x01000222;
  if (reg == id::kAa64Dfr0) return 0x10305106;
  if (reg == id::kAa64Mmfr0) return 0x00001122;
  return 0;
}

std::uint64_t shown(IdRegister reg, IdSource cpu = max_cpu) { return sanitised_id(reg, cpu(reg)); }

TEST(Features, HidesWhatNeedsStateThatWeirOwns) {
  EXPECT_EQ(shown(id::kAa64Pfr0), 0x1301000101110012U);  // no EL2, RAS, SEL2; EL1 is AArch64
  EXPECT_EQ(shown(id::kAa64Pfr1), 0x0000100002000121U);  // no NMI, RNDR_trap, MTEX
  EXPECT_EQ(shown(id::kAa64Pfr2), 0x0000000100000000U);  // FPMR only
  EXPECT_EQ(shown(id::kAa64Dfr0), 0x000000001030500aU);  // no PMU
  EXPECT_EQ(shown(id::kAa64Isar0), max_cpu(id::kAa64Isar0));
  EXPECT_EQ(shown(id::kAa64Isar1), max_cpu(id::kAa64Isar1));
  EXPECT_EQ(shown(id::kAa64Isar2), 0x0120000000110012U);  // no ATS1A
  EXPECT_EQ(shown(id::kAa64Mmfr0), 0x1000000000100022U);  // 40 bits, no LPA2, stage 2, big endian; ECV's EL1 half
  EXPECT_EQ(shown(id::kAa64Mmfr1), 0x0110102000302002U);  // no VHE, VMIDs, LORegions, XNX, HCX
  EXPECT_EQ(shown(id::kAa64Mmfr2), 0x1021001110010011U);  // no nested virtualization, S2FWB, EVT, IESB
  EXPECT_EQ(shown(id::kAa64Mmfr3), 0x1000000000000111U);  // no AIE, MEC, S2PIE
  EXPECT_EQ(shown(id::kAa64Mmfr4), 0U);
}

TEST(Features, HidesWhatItDoesNotKnow) {
  for (std::uint8_t crm = 1; crm <= 7; ++crm)
    for (std::uint8_t op2 = 0; op2 <= 7; ++op2) {
      const std::uint64_t hardware = 0x1111111111111111;
      EXPECT_EQ(sanitised_id({crm, op2}, hardware) & ~hardware, 0U);
    }
  EXPECT_EQ(sanitised_id({5, 4}, ~std::uint64_t{0}), 0U);  // ID_AA64AFR0_EL1
  EXPECT_EQ(sanitised_id({5, 1}, ~std::uint64_t{0}), 0U);  // ID_AA64DFR1_EL1
  EXPECT_EQ(sanitised_id({4, 3}, ~std::uint64_t{0}), 0U);  // not allocated
}

TEST(Features, SignedFieldsKeepTheirAbsentValue) {
  EXPECT_EQ(sanitised_id(id::kAa64Pfr0, 0x00ff0000), 0x00ff0000U);   // neither FP nor AdvSIMD
  EXPECT_EQ(sanitised_id(id::kAa64Mmfr0, 0xff000000), 0xff000000U);  // neither 4 KiB nor 64 KiB granules
}

TEST(Features, EnablesOnlyWhatIsShown) {
  const El2Controls max = el2_controls(max_cpu);
  EXPECT_TRUE(max.has_hcrx && max.has_fgt && max.has_sve && max.has_sme && max.has_pmu && max.has_ras);
  EXPECT_NE(max.hcr & HcrEl2::API::mask, 0U);
  EXPECT_NE(max.hcr & HcrEl2::EnSCXT::mask, 0U);
  EXPECT_NE(max.hcrx & HcrxEl2::MSCEn::mask, 0U);
  EXPECT_NE(max.hcrx & HcrxEl2::GCSEn::mask, 0U);
  EXPECT_NE(max.hcrx & HcrxEl2::EnFPM::mask, 0U);
  EXPECT_NE(max.hfgrtr & HfgrtrEl2::nPIR::mask, 0U);
  EXPECT_EQ(max.hfgrtr & HfgrtrEl2::nPOR_EL1::mask, 0U);  // no S1POE
  EXPECT_EQ(max.cptr & (CptrEl2::TZ::mask | CptrEl2::TSM::mask | CptrEl2::TFP::mask), 0U);
  EXPECT_NE(max.smcr & SmcrEl2::FA64::mask, 0U);

  const El2Controls plain = el2_controls(plain_cpu);
  EXPECT_FALSE(plain.has_hcrx || plain.has_fgt || plain.has_sve || plain.has_sme || plain.has_mpam);
  EXPECT_EQ(plain.hcr & (HcrEl2::API::mask | HcrEl2::ATA::mask | HcrEl2::EnSCXT::mask), 0U);
  EXPECT_EQ(plain.hfgrtr, 0U);
  EXPECT_NE(plain.cptr & CptrEl2::TZ::mask, 0U);  // RES1 without SVE
}

TEST(Features, AlwaysTrapsWhatIsHidden) {
  for (const IdSource cpu : {max_cpu, plain_cpu}) {
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
