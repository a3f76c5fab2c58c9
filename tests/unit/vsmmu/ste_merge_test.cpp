#include "vsmmu/ste_merge.hpp"

#include <gtest/gtest.h>

#include <vector>

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

TEST(SteMerge, WithoutCoherencyCdsAreFetchedPastTheCaches) {
  Ste v = s1();
  v.set<Ste::S1CIR>(CdCacheability::write_back_ra).set<Ste::S1COR>(CdCacheability::write_through_ra);
  MergeLimits limits = kLimits;
  limits.coherent = false;
  const auto m = merge_ste(v, kOn, limits, stage2());
  EXPECT_EQ(m.ste.get<Ste::S1CIR>(), CdCacheability::non_cacheable);
  EXPECT_EQ(m.ste.get<Ste::S1COR>(), CdCacheability::non_cacheable);
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
  limits.offers_stall = limits.stall = true;
  EXPECT_TRUE(merge_ste(v, kOn, limits, stage2()).ste.get<Ste::S1STALLD>());
  v.set<Ste::S1STALLD>(false);
  EXPECT_FALSE(merge_ste(v, kOn, limits, stage2()).ste.get<Ste::S1STALLD>());
  limits.stall = false;  // offered, but not to this stream: PCIe
  EXPECT_TRUE(merge_ste(v, kOn, limits, stage2()).ste.get<Ste::S1STALLD>());
}

TEST(SteMerge, AnInstanceThatCannotButStall) {
  MergeLimits limits = kLimits;
  limits.must_stall = limits.stall = true;
  EXPECT_TRUE(merge_ste(s1(), kOn, limits, stage2()).ste.get<Ste::S2S>());
  EXPECT_FALSE(merge_ste(s1(), kOn, limits, stage2()).ste.get<Ste::S1STALLD>());
  EXPECT_TRUE(merge_ste(s1(), {.enabled = false}, limits, stage2()).ste.get<Ste::S2S>());
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
  EXPECT_FALSE(merge_ste(v, kOn, limits, stage2()).event);  // IDR0.ATS == 0: RES0
  EXPECT_EQ(eats(), Eats::none);
  limits.offers_ats = true;
  EXPECT_EQ(merge_ste(v, kOn, limits, stage2()).event, EventId::C_BAD_STE);
  limits.ats = AtsGrant::none;  // whatever this stream was granted
  EXPECT_EQ(merge_ste(v, kOn, limits, stage2()).event, EventId::C_BAD_STE);
}

TEST(SteMerge, GrantsAreNoMoreThanWhatIsThere) {
  vsmmu::Announced a;
  stage2::Capabilities c = qemu_like_capabilities();
  const vsmmu::StreamGrant all{.ats = AtsGrant::split_stage, .pri = true, .stall = true};
  a.idr0.set<IDR0::ATS>(true).set<IDR0::PRI>(true).set<IDR0::STALL_MODEL>(StallModel::stall_and_terminate);
  auto left = effective(all, a, c);
  EXPECT_EQ(left.ats, AtsGrant::none);
  EXPECT_FALSE(left.pri || left.stall);
  c.idr0.set<IDR0::ATS>(true).set<IDR0::PRI>(true).set<IDR0::STALL_MODEL>(StallModel::stall_and_terminate);
  left = effective(all, a, c);
  EXPECT_EQ(left.ats, AtsGrant::split_stage);
  EXPECT_TRUE(left.pri && left.stall);
  c.idr0.set<IDR0::NS1ATS>(true);
  EXPECT_EQ(effective(all, a, c).ats, AtsGrant::none);
  EXPECT_FALSE(effective(all, a, c).pri);  // means nothing without ATS
  c.idr0.set<IDR0::NS1ATS>(false).set<IDR0::STALL_MODEL>(StallModel::stall_forced);
  EXPECT_EQ(effective(all, a, c).ats, AtsGrant::none);
  EXPECT_TRUE(effective(all, a, c).stall);
  a.idr0.set<IDR0::ATS>(false);
  EXPECT_EQ(effective(all, a, c).ats, AtsGrant::none);
}

// SteIllegal() of 5.2.2 for a Non-secure STE, S1P == 1, S2P == 0, Hyp == 0, no DPT, SMMUv3.1; written from the text.
bool illegal_by_the_text(const Ste& ste, const MergeLimits& idr) {
  const auto bits = [&](unsigned hi, unsigned lo) { return ste.words[lo / 64] >> (lo % 64) & bit_mask(hi - lo, 0); };
  if (bits(0, 0) == 0) return true;
  const auto config = bits(3, 1);
  if (config < 4) return false;
  if (config >= 6) return true;
  const auto eats = bits(93, 92);
  if (idr.offers_ats && config != 4 && eats == 2) return true;
  if (config == 4) return false;
  if (bits(91, 91) == 1 && !idr.offers_stall) return true;
  const auto cdmax = bits(63, 59);
  if (idr.ssid_bits != 0 && cdmax > idr.ssid_bits) return true;
  const auto fmt = bits(5, 4);
  if (idr.ssid_bits != 0 && cdmax != 0 && !idr.two_level_cd && (fmt == 1 || fmt == 2)) return true;
  return bits(55, 6) << 6 >> idr.oas_bits != 0;
}

// Every bit of the STE flipped in each of several valid ones, under every combination of features.
TEST(SteMerge, EveryBitAgainstTheText) {
  std::vector<Ste> valid{s1()};
  for (const auto config : {SteConfig::abort, SteConfig::bypass}) valid.push_back(s1().set<Ste::Config>(config));
  valid.push_back(s1().set<Ste::S1CDMax>(8).set<Ste::S1DSS>(S1Dss::substream0));
  valid.push_back(s1().set<Ste::S1CDMax>(5).set<Ste::S1Fmt>(S1Fmt::two_level_4k).set<Ste::S1DSS>(S1Dss::bypass));
  valid.push_back(s1().set<Ste::S1CDMax>(7).set<Ste::S1Fmt>(S1Fmt::two_level_64k).set<Ste::S1STALLD>(true));
  valid.push_back(s1().set<Ste::EATS>(Eats::full).set<Ste::S1CDMax>(1));
  unsigned illegal = 0;
  for (unsigned features = 0; features < 32; ++features) {
    MergeLimits limits = kLimits;
    limits.ssid_bits = (features & 1) != 0 ? 8 : 0;
    limits.two_level_cd = (features & 2) != 0;
    limits.can_stall = limits.offers_stall = limits.stall = (features & 4) != 0;
    limits.offers_ats = (features & 8) != 0;
    if (limits.offers_ats) limits.ats = (features & 16) != 0 ? AtsGrant::split_stage : AtsGrant::full;
    for (const Ste& base : valid) {
      for (unsigned bit = 0; bit <= 512; ++bit) {
        Ste v = base;
        if (bit < 512) v.words[bit / 64] ^= std::uint64_t{1} << (bit % 64);
        const auto m = merge_ste(v, kOn, limits, stage2());
        ASSERT_EQ(m.event.has_value(), illegal_by_the_text(v, limits)) << bit << " features " << features;
        ASSERT_EQ(m.ste.get<Ste::V>(), !m.event) << bit;
        if (m.event) {
          ++illegal;
          continue;
        }
        // And what is installed is legal where stage 2 is on, with Weir's stage 2 only.
        const Ste& p = m.ste;
        if (is_abort(p.get<Ste::Config>())) {
          ASSERT_EQ(p, vsmmu::abort_ste());
          continue;
        }
        ASSERT_TRUE(translates_s2(p.get<Ste::Config>()));
        ASSERT_TRUE(p.get<Ste::EATS>() == Eats::none || translates_s1(p.get<Ste::Config>()));
        ASSERT_TRUE(p.get<Ste::EATS>() != Eats::full || limits.ats == AtsGrant::full);
        ASSERT_LE(p.get<Ste::S1CDMax>(), limits.ssid_bits);
        Ste own = p;
        for (std::size_t w = 0; w < 8; ++w) own.words[w] &= ~Ste::Layout::guest[w];
        Ste expected = own_bits();
        for (std::size_t w = 0; w < 8; ++w) expected.words[w] &= ~Ste::Layout::guest[w];
        ASSERT_EQ(own, expected) << bit;
      }
    }
  }
  EXPECT_GT(illegal, 1000u);
}

// The pointer's low bits are RES0 for a table's size.
TEST(SteMerge, ContextTablesAreAligned) {
  MergeLimits limits = kLimits;
  limits.ssid_bits = 20;
  limits.two_level_cd = true;
  const IPA at{0x7fff'ffc0};
  const auto pointer = [&](unsigned log2, S1Fmt fmt) {
    Ste v = s1();
    v.set<Ste::S1ContextPtr>(at).set<Ste::S1CDMax>(log2).set<Ste::S1Fmt>(fmt);
    return merge_ste(v, kOn, limits, stage2()).ste.get<Ste::S1ContextPtr>().value;
  };
  const auto keeps = [&](unsigned lowest) { return at.value & ~bit_mask(lowest - 1, 0); };
  EXPECT_EQ(pointer(0, S1Fmt::linear), at.value);
  for (unsigned log2 = 1; log2 <= 20; ++log2) {
    EXPECT_EQ(pointer(log2, S1Fmt::linear), keeps(log2 + 6)) << log2;
    EXPECT_EQ(pointer(log2, S1Fmt::two_level_4k), keeps(log2 > 9 ? log2 - 3 : 6)) << log2;
    EXPECT_EQ(pointer(log2, S1Fmt::two_level_64k), keeps(log2 > 13 ? log2 - 7 : 6)) << log2;
  }
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
