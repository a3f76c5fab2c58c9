#include "vsmmu/ste_merge.hpp"

#include <gtest/gtest.h>

#include "tests/unit/fakes/fake_smmu.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;
using namespace weir::test;
using vsmmu::AtsGrant;
using vsmmu::merge_ste;
using vsmmu::MergeLimits;

constexpr vsmmu::GlobalState kOn{.enabled = true};
const MergeLimits kLimits{.oas_bits = 44};

Ste stage2() {
  Ste s;
  return s.set<Ste::S2VMID>(VMID{7})
      .set<Ste::S2T0SZ>(24)
      .set<Ste::S2SL0>(1)
      .set<Ste::S2PS>(AddressSize::bits44)
      .set<Ste::S2AA64>(true)
      .set<Ste::S2R>(true)
      .set<Ste::S2TTB>(PA{0x1234'5000});
}
Ste s1() {
  Ste s;
  return s.set<Ste::V>(true).set<Ste::Config>(SteConfig::s1).set<Ste::S1ContextPtr>(IPA{0x4030'0040});
}
// Weir's part and stage 2, with Config and the stage-1 fields 0.
Ste own_bits() {
  Ste s = stage2();
  return s.set<Ste::V>(true).set<Ste::MEV>(true).set<Ste::SHCFG>(ShareabilityConfig::use_incoming);
}

TEST(SteMerge, EveryConfig) {
  for (unsigned config = 0; config < 8; ++config) {
    Ste v = s1();
    v.set<Ste::Config>(static_cast<SteConfig>(config));
    const auto m = merge_ste(v, kOn, kLimits, stage2());
    if ((config & 0b100) == 0) {
      EXPECT_EQ(m.ste, vsmmu::abort_ste());
      EXPECT_FALSE(m.event);
    } else if (config == 0b100) {
      EXPECT_EQ(m.ste, own_bits().set<Ste::Config>(SteConfig::s2));
      EXPECT_FALSE(m.event);
    } else if (config == 0b101) {
      EXPECT_EQ(m.ste, own_bits().set<Ste::Config>(SteConfig::s1_s2).set<Ste::S1ContextPtr>(IPA{0x4030'0040}));
      EXPECT_FALSE(m.event);
    } else {  // stage 2 is not there for a guest
      EXPECT_EQ(m.ste, vsmmu::invalid_ste());
      EXPECT_EQ(m.event, EventId::C_BAD_STE);
    }
  }
}

TEST(SteMerge, InvalidIsInvalid) {
  Ste v = s1();
  v.set<Ste::V>(false);
  const auto m = merge_ste(v, kOn, kLimits, stage2());
  EXPECT_EQ(m.ste, Ste{});
  EXPECT_EQ(m.event, EventId::C_BAD_STE);
}

// Each bit of a guest's STE on its own, on top of a bypassing, an aborting and a stage-1 one: what is not the guest's
// never reaches the hardware, and Weir's own part stays as it is.
TEST(SteMerge, EverySingleBit) {
  for (const SteConfig config : {SteConfig::abort, SteConfig::bypass, SteConfig::s1}) {
    Ste base = s1();
    base.set<Ste::Config>(config);
    const Ste before = merge_ste(base, kOn, kLimits, stage2()).ste;
    for (unsigned bit = 0; bit < 512; ++bit) {
      const std::uint64_t one = std::uint64_t{1} << (bit % 64);
      const std::size_t word = bit / 64;
      Ste v = base;
      v.words[word] ^= one;
      const auto m = merge_ste(v, kOn, kLimits, stage2());
      if (m.event) {
        EXPECT_EQ(m.ste, vsmmu::invalid_ste()) << bit;
        continue;
      }
      if (m.ste.get<Ste::Config>() != before.get<Ste::Config>()) continue;  // a bit of Config: EveryConfig
      Ste changed;
      for (std::size_t w = 0; w < 8; ++w) changed.words[w] = m.ste.words[w] ^ before.words[w];
      EXPECT_TRUE(changed.within(Ste::Layout::guest)) << bit;
      if ((Ste::Layout::guest[word] & one) == 0) {
        EXPECT_EQ(m.ste, before) << bit;
      }
      Ste expected_stage2 = stage2();
      if (m.ste.get<Ste::Config>() != SteConfig::abort) {
        for (std::size_t w = 0; w < 8; ++w)
          EXPECT_EQ(m.ste.words[w] & expected_stage2.words[w], expected_stage2.words[w]) << bit;
      }
    }
  }
}

TEST(SteMerge, Stage1AttributesAreTaken) {
  Ste v = s1();
  v.set<Ste::S1CIR>(CdCacheability::write_back_ra).set<Ste::S1COR>(CdCacheability::write_through_ra);
  v.set<Ste::S1CSH>(Shareability::inner);
  const Ste m = merge_ste(v, kOn, kLimits, stage2()).ste;
  EXPECT_EQ(m.get<Ste::S1CIR>(), CdCacheability::write_back_ra);
  EXPECT_EQ(m.get<Ste::S1COR>(), CdCacheability::write_through_ra);
  EXPECT_EQ(m.get<Ste::S1CSH>(), Shareability::inner);
}

TEST(SteMerge, WithoutSubstreamsTheirFieldsAreIgnored) {
  Ste v = s1();
  v.set<Ste::S1CDMax>(20).set<Ste::S1Fmt>(S1Fmt::two_level_64k).set<Ste::S1DSS>(S1Dss::substream0);
  const auto m = merge_ste(v, kOn, kLimits, stage2());
  EXPECT_FALSE(m.event);
  EXPECT_EQ(m.ste, merge_ste(s1(), kOn, kLimits, stage2()).ste);
}

TEST(SteMerge, SubstreamsAreBounded) {
  MergeLimits limits = kLimits;
  limits.ssid_bits = 8;
  Ste v = s1();
  v.set<Ste::S1CDMax>(8).set<Ste::S1DSS>(S1Dss::substream0);
  auto m = merge_ste(v, kOn, limits, stage2());
  EXPECT_EQ(m.ste.get<Ste::S1CDMax>(), 8u);
  EXPECT_EQ(m.ste.get<Ste::S1DSS>(), S1Dss::substream0);
  v.set<Ste::S1CDMax>(9);
  EXPECT_EQ(merge_ste(v, kOn, limits, stage2()).event, EventId::C_BAD_STE);
  v.set<Ste::S1CDMax>(4).set<Ste::S1Fmt>(S1Fmt::two_level_4k);
  EXPECT_EQ(merge_ste(v, kOn, limits, stage2()).event, EventId::C_BAD_STE);  // CD2L == 0
  limits.two_level_cd = true;
  m = merge_ste(v, kOn, limits, stage2());
  EXPECT_EQ(m.ste.get<Ste::S1Fmt>(), S1Fmt::two_level_4k);
  v.set<Ste::S1Fmt>(S1Fmt::reserved).set<Ste::S1DSS>(S1Dss::reserved);
  m = merge_ste(v, kOn, limits, stage2());
  EXPECT_EQ(m.ste.get<Ste::S1Fmt>(), S1Fmt::linear);
  EXPECT_EQ(m.ste.get<Ste::S1DSS>(), S1Dss::terminate);
}

TEST(SteMerge, ContextPointerBeyondTheAddressSize) {
  Ste v = s1();
  v.set<Ste::S1ContextPtr>(IPA{std::uint64_t{1} << 44});
  EXPECT_EQ(merge_ste(v, kOn, kLimits, stage2()).event, EventId::C_BAD_STE);
  v.set<Ste::S1ContextPtr>(IPA{(std::uint64_t{1} << 44) - 64});
  EXPECT_FALSE(merge_ste(v, kOn, kLimits, stage2()).event);
}

TEST(SteMerge, StallsThatAreNotOffered) {
  Ste v = s1();
  MergeLimits limits = kLimits;
  limits.can_stall = true;
  EXPECT_TRUE(merge_ste(v, kOn, limits, stage2()).ste.get<Ste::S1STALLD>());
  v.set<Ste::S1STALLD>(true);
  EXPECT_EQ(merge_ste(v, kOn, limits, stage2()).event, EventId::C_BAD_STE);
  limits.stall = true;
  EXPECT_TRUE(merge_ste(v, kOn, limits, stage2()).ste.get<Ste::S1STALLD>());
  v.set<Ste::S1STALLD>(false);
  EXPECT_FALSE(merge_ste(v, kOn, limits, stage2()).ste.get<Ste::S1STALLD>());
}

TEST(SteMerge, AtsIsNeverMoreThanGranted) {
  Ste v = s1();
  MergeLimits limits = kLimits;
  const auto eats = [&] { return merge_ste(v, kOn, limits, stage2()).ste.get<Ste::EATS>(); };
  v.set<Ste::EATS>(Eats::full);
  EXPECT_EQ(eats(), Eats::none);
  limits.ats = AtsGrant::split_stage;
  EXPECT_EQ(eats(), Eats::split_stage);
  limits.ats = AtsGrant::full;
  EXPECT_EQ(eats(), Eats::full);
  v.set<Ste::EATS>(Eats::full_dpt);
  EXPECT_EQ(eats(), Eats::none);
  v.set<Ste::EATS>(Eats::split_stage);
  EXPECT_EQ(merge_ste(v, kOn, limits, stage2()).event, EventId::C_BAD_STE);
}

TEST(SteMerge, DisabledGoesByGbpa) {
  for (const bool valid : {false, true}) {
    Ste v = s1();
    v.set<Ste::V>(valid);
    auto m = merge_ste(v, {.enabled = false}, kLimits, stage2());
    EXPECT_EQ(m.ste, own_bits().set<Ste::Config>(SteConfig::s2));
    EXPECT_FALSE(m.event);
    m = merge_ste(v, {.enabled = false, .gbpa_abort = true}, kLimits, stage2());
    EXPECT_EQ(m.ste, vsmmu::abort_ste());
    EXPECT_FALSE(m.event);
  }
}

// What drivers write into fields that are not theirs is no error.
TEST(SteMerge, ForeignFieldsAreIgnored) {
  Ste v = s1();
  v.set<Ste::SHCFG>(ShareabilityConfig::use_incoming).set<Ste::MEV>(true).set<Ste::S2VMID>(VMID{9});
  v.set<Ste::S2TTB>(PA{0xdead'0000}).set<Ste::S2S>(true).set<Ste::STRW>(Strw::el2);
  EXPECT_EQ(merge_ste(v, kOn, kLimits, stage2()).ste, merge_ste(s1(), kOn, kLimits, stage2()).ste);
}

}  // namespace
}  // namespace weir::vsmmu::test
