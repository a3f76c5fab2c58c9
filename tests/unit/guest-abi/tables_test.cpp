// STE, L1STD, CD and L1CD against IHI 0070G.b, 5.1 to 5.4.
#include <gtest/gtest.h>

#include "guest-abi/smmu/cd.hpp"
#include "guest-abi/smmu/ste.hpp"

namespace weir::smmu {
namespace {

TEST(Ste, AbortBypassAndStage1) {
  EXPECT_EQ((Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::abort).words[0]), 0x1u);
  EXPECT_EQ((Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::bypass).words[0]), 0x9u);
  Ste s1;
  s1.set<Ste::V>(true)
      .set<Ste::Config>(SteConfig::s1)
      .set<Ste::S1Fmt>(S1Fmt::two_level_64k)
      .set<Ste::S1ContextPtr>(IPA{0x12'3456'7fff})
      .set<Ste::S1CDMax>(10)
      .set<Ste::S1DSS>(S1Dss::substream0)
      .set<Ste::S1CIR>(CdCacheability::write_back_ra)
      .set<Ste::S1COR>(CdCacheability::write_back_ra)
      .set<Ste::S1CSH>(Shareability::inner)
      .set<Ste::S1STALLD>(true)
      .set<Ste::EATS>(Eats::full);
  EXPECT_EQ(s1.words[0], 0x5000'0012'3456'7feb);  // V | 5 << 1 | 2 << 4 | pointer [55:6] | 10 << 59
  EXPECT_EQ(s1.words[1], 0x1800'00d6u);           // DSS 2, CIR 1, COR 1, CSH 3, STALLD [27], EATS [29:28]
  EXPECT_TRUE(s1.within(Ste::Layout::guest));
}

// Design, section 6: exactly V, Config, S1Fmt, S1ContextPtr, S1CDMax; S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS;
// and PPAR, which says what a device with PRI expects (8.1).
TEST(Ste, GuestMask) {
  EXPECT_EQ(Ste::Layout::guest, (Ste::Layout::Words{0xf8ff'ffff'ffff'ffff, 0x3804'00ff, 0, 0, 0, 0, 0, 0}));
}

TEST(Ste, Stage2Fields) {
  Ste s2;
  s2.set<Ste::S2VMID>(VMID{0x55aa})
      .set<Ste::S2T0SZ>(24)
      .set<Ste::S2SL0>(1)
      .set<Ste::S2IR0>(WalkCacheability::write_back_ra_wa)
      .set<Ste::S2OR0>(WalkCacheability::write_back_ra_wa)
      .set<Ste::S2SH0>(Shareability::inner)
      .set<Ste::S2TG>(Granule0::size4k)
      .set<Ste::S2PS>(AddressSize::bits44)
      .set<Ste::S2AA64>(true)
      .set<Ste::S2PTW>(true)
      .set<Ste::S2R>(true)
      .set<Ste::S2TTB>(PA{0x8'0000'1000});
  // [143:128] VMID; word bits: T0SZ 32, SL0 38, IR0 40, OR0 42, SH0 44, TG 46, PS 48, AA64 51, PTW 54, R 58
  EXPECT_EQ(s2.words[2], 0x044c'3558'0000'55aa);
  EXPECT_EQ(s2.words[3], 0x0000'0008'0000'1000);
  EXPECT_FALSE(s2.within(Ste::Layout::guest));
  EXPECT_EQ(Ste::MEV::mask, 1ull << 19);
  EXPECT_EQ(Ste::SHCFG::mask, 3ull << 44);
  EXPECT_EQ(Ste::STRW::mask, 3ull << 30);
  EXPECT_EQ(Ste::S2FWB::mask, 1ull << 25);
}

// 5.2: which bits of a valid STE are RES0.
TEST(Ste, Res0) {
  EXPECT_EQ(Ste::Layout::res0,
            (Ste::Layout::Words{0x0700'0000'0000'0000, 0x0000'0e00'0000'0000, 0, 0x9f00'0000'0000'0000,
                                0x0000'3f00'0000'0000, 0xff00'0000'0000'0000, 0x9f00'0000'0000'0008, 0}));
}

TEST(Ste, ReservedConfigsAbort) {
  for (unsigned c = 0; c < 8; ++c) EXPECT_EQ(is_abort(static_cast<SteConfig>(c)), c < 4);
  EXPECT_TRUE(translates_s1(SteConfig::s1) && translates_s1(SteConfig::s1_s2) && !translates_s1(SteConfig::s2));
  EXPECT_TRUE(translates_s2(SteConfig::s2) && translates_s2(SteConfig::s1_s2) && !translates_s2(SteConfig::s1));
  EXPECT_FALSE(translates_s1(SteConfig::bypass) || translates_s2(SteConfig::bypass));
  for (unsigned c = 0; c < 4; ++c) {
    EXPECT_FALSE(translates_s1(static_cast<SteConfig>(c)));
    EXPECT_FALSE(translates_s2(static_cast<SteConfig>(c)));
  }
}

TEST(L1Std, Encoding) {
  EXPECT_EQ((L1Std{}.set<L1Std::Span>(9).set<L1Std::L2Ptr>(0xc'0000'4000).words[0]), 0xc'0000'4009u);
  EXPECT_EQ(L1Std::Layout::res0[0], 0xff00'0000'0000'0020u);
}

// As Linux fills it for a 48-bit EL1 table: T0SZ 16, 4 KiB, WB, inner, EPD1, V, IPS 48, AA64, R, A, ASET, ASID.
TEST(Cd, Encoding) {
  Cd cd;
  cd.set<Cd::T0SZ>(16)
      .set<Cd::TG0>(Granule0::size4k)
      .set<Cd::IR0>(WalkCacheability::write_back_ra_wa)
      .set<Cd::OR0>(WalkCacheability::write_back_ra_wa)
      .set<Cd::SH0>(Shareability::inner)
      .set<Cd::EPD1>(true)
      .set<Cd::V>(true)
      .set<Cd::IPS>(AddressSize::bits48)
      .set<Cd::AA64>(true)
      .set<Cd::R>(true)
      .set<Cd::A>(true)
      .set<Cd::ASET>(true)
      .set<Cd::ASID>(ASID{0x1234})
      .set<Cd::TTB0>(IPA{0x4321'0000})
      .set<Cd::MAIR0>(0xff44'0400)
      .set<Cd::MAIR1>(0xf0);
  EXPECT_EQ(cd.words[0], 0x1234'e205'c000'3510);
  EXPECT_EQ(cd.words[1], 0x4321'0000u);
  EXPECT_EQ(cd.words[3], 0x0000'00f0'ff44'0400);
  EXPECT_TRUE(cd.within(Cd::Layout::guest));
}

TEST(Cd, Res0) {
  EXPECT_EQ(Cd::Layout::res0, (Cd::Layout::Words{0, 0x0300'0000'0000'0000, 0x0300'0000'0000'0000, 0, 0,
                                                 0xff00'0000'0000'0000, 0xffff'0000'0000'0000, 0xffff'0000'0000'0000}));
}

TEST(L1Cd, Encoding) {
  EXPECT_EQ((L1Cd{}.set<L1Cd::V>(true).set<L1Cd::L2Ptr>(IPA{0x8765'4fff}).words[0]), 0x8765'4001u);
  EXPECT_EQ(L1Cd::Layout::res0[0], 0xff00'0000'0000'0ffeu);
}

}  // namespace
}  // namespace weir::smmu
