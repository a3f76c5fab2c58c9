#include "vsmmu/announced.hpp"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/fakes/fake_smmu.hpp"
#include "vsmmu/stalls.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;
using namespace weir::test;
using vsmmu::announce;

struct Instances {
  explicit Instances(std::initializer_list<stage2::Capabilities> list) {
    unsigned i = 0;
    for (const auto& c : list) {
      owned.push_back(std::make_unique<FakeSmmu>(i++, c));
      ports.push_back(owned.back().get());
    }
  }
  std::vector<std::unique_ptr<FakeSmmu>> owned;
  std::vector<stage2::SmmuPort*> ports;
};

stage2::Capabilities everything() {
  stage2::Capabilities c;
  c.idr0.words[0] = 0xffffffff;
  c.idr1.words[0] = 0xffffffff;
  c.idr3.words[0] = 0xffffffff;
  c.idr5.words[0] = 0xffffffff;
  c.idr0.set<IDR0::STALL_MODEL>(StallModel::stall_and_terminate).set<IDR0::TTENDIAN>(TtEndian::mixed);
  c.idr1.set<IDR1::SIDSIZE>(32);
  c.idr5.set<IDR5::VAX>(1).set<IDR5::OAS>(AddressSize::bits52);
  return c;
}

TEST(Announced, OfOneInstanceLikeTheReferencePlatform) {
  Instances i{qemu_like_capabilities()};
  const auto a = announce(i.ports, {});
  ASSERT_TRUE(a);
  EXPECT_TRUE(a->idr0.get<IDR0::S1P>());
  EXPECT_TRUE(a->idr0.get<IDR0::COHACC>());
  EXPECT_TRUE(a->idr0.get<IDR0::ASID16>());
  EXPECT_EQ(a->idr0.get<IDR0::TTF>(), TtFormat::aarch64);
  EXPECT_EQ(a->idr0.get<IDR0::TTENDIAN>(), TtEndian::little);
  EXPECT_EQ(a->idr0.get<IDR0::STALL_MODEL>(), StallModel::terminate_only);
  EXPECT_EQ(a->idr0.get<IDR0::ST_LEVEL>(), StLevel::two_level);
  EXPECT_TRUE(a->idr3.get<IDR3::RIL>());
  EXPECT_EQ(a->oas_bits(), 44u);
  EXPECT_EQ(a->sid_bits(), 16u);
  EXPECT_GT(a->cmdq_log2(), 8u);
}

TEST(Announced, NeverOffersWhatWeirDoesNotVirtualise) {
  Instances i{everything()};
  const auto a = announce(i.ports, {});
  ASSERT_TRUE(a);
  EXPECT_TRUE(a->idr0.within(IDR0::Layout::guest));
  EXPECT_TRUE(a->idr1.within(IDR1::Layout::guest));
  EXPECT_TRUE(a->idr3.within(IDR3::Layout::guest));
  EXPECT_TRUE(a->idr5.within(IDR5::Layout::guest));
  EXPECT_FALSE(a->idr0.get<IDR0::ATS>());
  EXPECT_FALSE(a->idr0.get<IDR0::PRI>());
}

TEST(Announced, IsTheIntersection) {
  auto c = everything();
  c.idr0.set<IDR0::ASID16>(false).set<IDR0::COHACC>(false).set<IDR0::HTTU>(Htt::access);
  c.idr3.set<IDR3::RIL>(false).set<IDR3::BBML>(1);
  c.idr5.set<IDR5::OAS>(AddressSize::bits40).set<IDR5::GRAN16K>(false).set<IDR5::VAX>(0).set<IDR5::DS>(false);
  c.idr1.set<IDR1::SIDSIZE>(9);
  for (const bool swapped : {false, true}) {
    Instances i = swapped ? Instances{c, everything()} : Instances{everything(), c};
    const auto a = announce(i.ports, {});
    ASSERT_TRUE(a);
    EXPECT_FALSE(a->idr0.get<IDR0::ASID16>());
    EXPECT_FALSE(a->idr0.get<IDR0::COHACC>());
    EXPECT_EQ(a->idr0.get<IDR0::HTTU>(), Htt::none);  // not past the caches
    EXPECT_TRUE(a->idr3.get<IDR3::RIL>());            // emulated on the instance without
    EXPECT_EQ(a->idr3.get<IDR3::BBML>(), 1u);
    EXPECT_EQ(a->oas_bits(), 40u);
    EXPECT_FALSE(a->idr5.get<IDR5::GRAN16K>());
    EXPECT_TRUE(a->idr5.get<IDR5::GRAN4K>());
    EXPECT_FALSE(a->idr5.get<IDR5::DS>());
    EXPECT_EQ(a->idr5.get<IDR5::VAX>(), 0u);
    EXPECT_EQ(a->sid_bits(), 9u);
  }
}

TEST(Announced, FlagsAreUpdatedAsFarAsAllCanAndOnlyCoherently) {
  auto c = everything();
  c.idr0.set<IDR0::HTTU>(Htt::access);
  Instances i{everything(), c};
  EXPECT_EQ(announce(i.ports, {})->idr0.get<IDR0::HTTU>(), Htt::access);
  EXPECT_EQ(announce(i.ports, {.coherent = false})->idr0.get<IDR0::HTTU>(), Htt::none);
}

TEST(Announced, RangesThatNobodyHasAreNotOffered) {
  auto c = everything();
  c.idr3.set<IDR3::RIL>(false);
  Instances i{c, c};
  EXPECT_FALSE(announce(i.ports, {})->idr3.get<IDR3::RIL>());
}

TEST(Announced, IsNarrowedByTheConfiguration) {
  Instances i{everything()};
  const auto a = announce(i.ports, {.sid_bits = 8,
                                    .cmdq_log2 = 10,
                                    .oas_bits = 39,
                                    .two_level_stream_table = false,
                                    .range_invalidation = false,
                                    .asid16 = false,
                                    .coherent = false});
  ASSERT_TRUE(a);
  EXPECT_EQ(a->sid_bits(), 8u);
  EXPECT_EQ(a->cmdq_log2(), 10u);
  EXPECT_EQ(a->oas_bits(), 36u);  // the largest encodable size that fits
  EXPECT_EQ(a->idr0.get<IDR0::ST_LEVEL>(), StLevel::linear);
  EXPECT_FALSE(a->idr3.get<IDR3::RIL>());
  EXPECT_FALSE(a->idr0.get<IDR0::ASID16>());
  EXPECT_FALSE(a->idr0.get<IDR0::COHACC>());
}

TEST(Announced, NamesTheInstanceAndTheFeatureThatIsMissing) {
  const auto refused = [](auto spoil) {
    auto c = everything();
    spoil(c);
    Instances i{everything(), c};
    const auto a = announce(i.ports, {});
    EXPECT_FALSE(a);
    return a ? std::string_view{} : a.error().instance == 1 ? a.error().feature : "wrong instance";
  };
  EXPECT_EQ(refused([](auto& c) { c.idr0.template set<IDR0::S1P>(false); }), "IDR0.S1P");
  EXPECT_EQ(refused([](auto& c) { c.idr0.template set<IDR0::S2P>(false); }), "IDR0.S2P");
  EXPECT_EQ(refused([](auto& c) { c.idr0.template set<IDR0::TTF>(TtFormat::aarch32); }), "IDR0.TTF (AArch64)");
  EXPECT_EQ(refused([](auto& c) { c.idr0.template set<IDR0::TTENDIAN>(TtEndian::big); }),
            "IDR0.TTENDIAN (little-endian)");
  EXPECT_EQ(refused([](auto& c) { c.idr0.template set<IDR0::STALL_MODEL>(StallModel::stall_forced); }),
            "IDR0.STALL_MODEL (terminate)");
  EXPECT_EQ(refused([](auto& c) {
              c.idr5.template set<IDR5::GRAN4K>(false).template set<IDR5::GRAN16K>(false);
              c.idr5.template set<IDR5::GRAN64K>(false);
            }),
            "IDR5 (a granule in common)");
}

TEST(Announced, RefusesInstancesWithoutACommonGranule) {
  auto a = everything();
  auto b = everything();
  a.idr5.set<IDR5::GRAN64K>(false).set<IDR5::GRAN16K>(false);
  b.idr5.set<IDR5::GRAN4K>(false);
  Instances i{a, b};
  EXPECT_FALSE(announce(i.ports, {}));
}

// --- What goes together ----------------------------------------------------------------------------------------------

vsmmu::Config generous() { return {.ats = true, .pri = true, .ats_errors = true, .ats_full = true}; }

std::optional<vsmmu::Announced> of(std::initializer_list<stage2::Capabilities> list, const vsmmu::Config& config) {
  Instances i{list};
  const auto a = announce(i.ports, config);
  return a ? std::optional{*a} : std::nullopt;
}

TEST(Announced, EverythingThatIsCommonAndGranted) {
  const auto a = of({everything(), everything()}, generous());
  ASSERT_TRUE(a);
  EXPECT_TRUE(a->idr0.get<IDR0::ATS>());
  EXPECT_TRUE(a->idr0.get<IDR0::ATSRECERR>());
  EXPECT_TRUE(a->idr0.get<IDR0::PRI>());
  EXPECT_TRUE(a->idr0.get<IDR0::MSI>());
  EXPECT_TRUE(a->idr0.get<IDR0::SEV>());
  EXPECT_TRUE(a->idr0.get<IDR0::CD2L>());
  EXPECT_EQ(a->idr0.get<IDR0::STALL_MODEL>(), StallModel::stall_and_terminate);
  EXPECT_EQ(a->idr0.get<IDR0::HTTU>(), Htt::access_dirty_table);
  EXPECT_EQ(a->ssid_bits(), 20u);
  EXPECT_EQ(a->priq_log2(), 12u);
  EXPECT_TRUE(a->idr3.get<IDR3::PPS>());
  EXPECT_TRUE(a->idr3.get<IDR3::PASIDTT>());
  EXPECT_TRUE(a->idr3.get<IDR3::E0PD>());
  EXPECT_TRUE(a->idr3.get<IDR3::EPAN>());
  EXPECT_TRUE(a->idr3.get<IDR3::STT>());
  EXPECT_TRUE(a->idr5.get<IDR5::DS>());
  EXPECT_EQ(a->idr5.get<IDR5::VAX>(), 1u);
  EXPECT_EQ(a->oas_bits(), 52u);
  EXPECT_GT(a->stall_max(), 0u);
}

TEST(Announced, WhatWeirCarriesOutNeedsNoInstance) {
  const auto a = of({qemu_like_capabilities()}, {});
  ASSERT_TRUE(a);
  EXPECT_TRUE(a->idr0.get<IDR0::MSI>());
  EXPECT_TRUE(a->idr0.get<IDR0::SEV>());
  EXPECT_EQ(a->idr0.get<IDR0::ST_LEVEL>(), StLevel::two_level);
  EXPECT_EQ(a->idr1.get<IDR1::CMDQS>(), 14u);
  EXPECT_EQ(a->idr1.get<IDR1::EVENTQS>(), 12u);
}

TEST(Announced, StallModels) {
  using enum StallModel;
  const auto with = [](std::initializer_list<StallModel> models, bool stall) -> std::optional<StallModel> {
    std::vector<std::unique_ptr<FakeSmmu>> owned;
    std::vector<stage2::SmmuPort*> ports;
    for (const StallModel m : models) {
      auto c = everything();
      c.idr0.set<IDR0::STALL_MODEL>(m);
      owned.push_back(std::make_unique<FakeSmmu>(0, c));
      ports.push_back(owned.back().get());
    }
    const auto a = announce(ports, {.stall = stall});
    if (!a) return std::nullopt;
    // 6.3.6: RES0 without stalls.
    EXPECT_EQ(a->stall_max() == 0, a->idr0.get<IDR0::STALL_MODEL>() == terminate_only);
    return a->idr0.get<IDR0::STALL_MODEL>();
  };
  EXPECT_EQ(with({stall_and_terminate, stall_and_terminate}, true), stall_and_terminate);
  EXPECT_EQ(with({stall_and_terminate, terminate_only}, true), terminate_only);
  EXPECT_EQ(with({terminate_only, stall_and_terminate}, true), terminate_only);
  EXPECT_EQ(with({terminate_only, terminate_only}, true), terminate_only);
  EXPECT_EQ(with({stall_forced, stall_forced}, true), stall_forced);
  EXPECT_EQ(with({stall_forced}, true), stall_forced);
  EXPECT_EQ(with({stall_forced, stall_and_terminate}, true), std::nullopt);
  EXPECT_EQ(with({stall_and_terminate, stall_forced}, true), std::nullopt);
  EXPECT_EQ(with({terminate_only, stall_forced}, true), std::nullopt);
  EXPECT_EQ(with({stall_forced, terminate_only}, true), std::nullopt);
  EXPECT_EQ(with({stall_and_terminate, stall_and_terminate}, false), terminate_only);
  EXPECT_EQ(with({stall_forced}, false), std::nullopt);
}

// 6.3.6: no more of them will be recorded and not answered, so it is what the guest can have on all instances together.
TEST(Announced, StallsAreASharePerInstance) {
  auto c = everything();
  c.idr5.set<IDR5::STALL_MAX>(40);
  EXPECT_EQ(of({c}, {})->stall_max(), 10u);
  EXPECT_EQ(of({c, c}, {})->stall_max(), 20u);
  EXPECT_EQ(of({everything(), everything(), everything(), everything(), everything()}, {})->stall_max(),
            vsmmu::StallTable::kCapacity);
  c.idr5.set<IDR5::STALL_MAX>(1);
  EXPECT_EQ(of({c}, {})->stall_max(), 1u);
  c.idr5.set<IDR5::STALL_MAX>(0);  // it never stalls anything
  EXPECT_EQ(of({c, everything()}, {})->idr0.get<IDR0::STALL_MODEL>(), StallModel::terminate_only);
}

TEST(Announced, AtsNeedsAWayToDoIt) {
  auto c = everything();
  c.idr0.set<IDR0::NS1ATS>(false);
  EXPECT_TRUE(of({c}, {.ats = true})->idr0.get<IDR0::ATS>());
  EXPECT_FALSE(of({c}, {})->idr0.get<IDR0::ATS>());
  EXPECT_FALSE(of({c, everything()}, {.ats = true})->idr0.get<IDR0::ATS>());  // NS1ATS: no split-stage ATS
  EXPECT_TRUE(of({c, everything()}, {.ats = true, .ats_full = true})->idr0.get<IDR0::ATS>());
  c.idr0.set<IDR0::ATS>(false);
  const auto a = of({c, everything()}, generous());
  EXPECT_FALSE(a->idr0.get<IDR0::ATS>());
  EXPECT_FALSE(a->idr0.get<IDR0::PRI>());
  EXPECT_FALSE(a->idr0.get<IDR0::ATSRECERR>());
  EXPECT_FALSE(a->idr3.get<IDR3::PASIDTT>());
  EXPECT_FALSE(a->idr3.get<IDR3::PPS>());
  EXPECT_EQ(a->priq_log2(), 0u);
}

TEST(Announced, PriIsAskedForAndNeedsAts) {
  EXPECT_FALSE(of({everything()}, {.ats = true, .ats_full = true})->idr0.get<IDR0::PRI>());
  EXPECT_FALSE(of({everything()}, {.pri = true})->idr0.get<IDR0::PRI>());
  auto c = everything();
  c.idr0.set<IDR0::PRI>(false);
  const auto a = of({everything(), c}, generous());
  EXPECT_TRUE(a->idr0.get<IDR0::ATS>());
  EXPECT_FALSE(a->idr0.get<IDR0::PRI>());
  EXPECT_FALSE(a->idr3.get<IDR3::PPS>());
  EXPECT_TRUE(a->idr3.get<IDR3::PASIDTT>());
}

TEST(Announced, Substreams) {
  auto c = everything();
  c.idr1.set<IDR1::SSIDSIZE>(7);
  EXPECT_EQ(of({everything(), c}, {})->ssid_bits(), 7u);
  EXPECT_EQ(of({everything(), c}, {.ssid_bits = 5})->ssid_bits(), 5u);
  const auto none = of({everything()}, {.ssid_bits = 0, .ats = true, .pri = true, .ats_full = true});
  EXPECT_EQ(none->ssid_bits(), 0u);
  EXPECT_FALSE(none->idr0.get<IDR0::CD2L>());
  EXPECT_FALSE(none->idr3.get<IDR3::PASIDTT>());
  EXPECT_FALSE(none->idr3.get<IDR3::PPS>());
  c.idr0.set<IDR0::CD2L>(false);
  EXPECT_FALSE(of({everything(), c}, {})->idr0.get<IDR0::CD2L>());
  EXPECT_FALSE(of({everything()}, {.two_level_cd_table = false})->idr0.get<IDR0::CD2L>());
}

TEST(Announced, TheGuestMustAbortWhereOneInstanceMust) {
  auto c = everything();
  c.idr0.set<IDR0::TERM_MODEL>(false);
  EXPECT_FALSE(of({c}, {})->idr0.get<IDR0::TERM_MODEL>());
  EXPECT_TRUE(of({c, everything()}, {})->idr0.get<IDR0::TERM_MODEL>());
}

// 6.3.6: more than 48 bits are for 64 KB granules, or for smaller ones with DS; DS needs VAX.
TEST(Announced, WideAddresses) {
  auto c = everything();
  c.idr5.set<IDR5::GRAN64K>(false).set<IDR5::DS>(false);
  auto a = of({c}, {});
  EXPECT_EQ(a->idr5.get<IDR5::VAX>(), 0u);
  EXPECT_EQ(a->oas_bits(), 48u);
  c = everything();
  c.idr5.set<IDR5::VAX>(0);
  a = of({c}, {});
  EXPECT_FALSE(a->idr5.get<IDR5::DS>());
  EXPECT_EQ(a->oas_bits(), 52u);
  c.idr5.set<IDR5::GRAN64K>(false);
  EXPECT_EQ(of({c}, {})->oas_bits(), 48u);
  c = everything();
  c.idr5.set<IDR5::GRAN4K>(false).set<IDR5::GRAN16K>(false);
  EXPECT_FALSE(of({c}, {})->idr5.get<IDR5::DS>());
  c = everything();
  c.idr5.set<IDR5::OAS>(AddressSize::bits56).set<IDR5::VAX>(2);
  a = of({c}, {.oas_bits = 56});
  EXPECT_EQ(a->oas_bits(), 52u);  // 56 bits need 128-bit descriptors
  EXPECT_EQ(a->idr5.get<IDR5::VAX>(), 1u);
}

// 6.3.4: HAD makes it a v3.1, without it nothing of v3.1 is announced.
TEST(Announced, Version) {
  EXPECT_EQ(of({everything()}, {})->aidr.words[0], 1u);
  auto c = everything();
  c.idr3.set<IDR3::HAD>(false);
  const auto a = of({everything(), c}, {});
  EXPECT_EQ(a->aidr.words[0], 0u);
  EXPECT_EQ(a->idr5.get<IDR5::VAX>(), 0u);
  EXPECT_EQ(a->oas_bits(), 48u);
  EXPECT_EQ(a->iidr.words[0], 0u);
}

TEST(Announced, QueueSizesAreTheConfigurations) {
  const auto a = of({everything()},
                    {.cmdq_log2 = 25, .evtq_log2 = 3, .ats = true, .pri = true, .priq_log2 = 40, .ats_full = true});
  EXPECT_EQ(a->cmdq_log2(), 19u);  // the architecture's largest
  EXPECT_EQ(a->evtq_log2(), 3u);
  EXPECT_EQ(a->priq_log2(), 19u);
}

TEST(Announced, EveryNarrowing) {
  const auto a = of({everything()}, {.msi = false, .sev = false, .httu = Htt::access, .bbml = 0});
  EXPECT_FALSE(a->idr0.get<IDR0::MSI>());
  EXPECT_FALSE(a->idr0.get<IDR0::SEV>());
  EXPECT_EQ(a->idr0.get<IDR0::HTTU>(), Htt::access);
  EXPECT_EQ(a->idr3.get<IDR3::BBML>(), 0u);
}

// --- For whatever instances and configuration ------------------------------------------------------------------------

class Random {
 public:
  bool coin() { return below(2) != 0; }
  unsigned below(unsigned n) { return static_cast<unsigned>(engine_() % n); }
  stage2::Capabilities capabilities() {
    stage2::Capabilities c;
    for (auto* word : {&c.idr0.words[0], &c.idr1.words[0], &c.idr3.words[0], &c.idr5.words[0]})
      *word = static_cast<std::uint32_t>(engine_() | (coin() ? engine_() : 0));  // bits set more often than not
    c.idr0.set<IDR0::S1P>(true).set<IDR0::S2P>(true).set<IDR0::TTF>(coin() ? TtFormat::aarch64 : TtFormat::both);
    c.idr0.set<IDR0::TTENDIAN>(coin() ? TtEndian::mixed : TtEndian::little);
    if (below(20) != 0 && c.idr0.get<IDR0::STALL_MODEL>() == StallModel::stall_forced)
      c.idr0.set<IDR0::STALL_MODEL>(StallModel::stall_and_terminate);
    c.idr1.set<IDR1::SIDSIZE>(below(33)).set<IDR1::SSIDSIZE>(below(21));
    c.idr3.set<IDR3::BBML>(below(3));
    c.idr5.set<IDR5::VAX>(below(3));
    if (coin()) c.idr5.set<IDR5::STALL_MAX>(below(20));
    return c;
  }
  vsmmu::Config config() {
    vsmmu::Config c;
    if (coin()) c.sid_bits = below(40);
    if (coin()) c.cmdq_log2 = below(32);
    if (coin()) c.evtq_log2 = below(32);
    if (coin()) c.priq_log2 = below(32);
    if (coin()) c.oas_bits = 32 + below(32);
    if (coin()) c.ssid_bits = below(32);
    if (coin()) c.bbml = below(4);
    if (coin()) c.httu = static_cast<Htt>(below(4));
    for (bool* flag : {&c.two_level_stream_table, &c.range_invalidation, &c.asid16, &c.coherent, &c.stall, &c.msi,
                       &c.sev, &c.two_level_cd_table})
      *flag = below(4) != 0;
    for (bool* flag : {&c.ats, &c.pri, &c.ats_errors, &c.ats_full}) *flag = below(4) != 0;
    return c;
  }

 private:
  std::mt19937_64 engine_{20261121};
};

// 6.3.1 to 6.3.6: what one field demands of another.
void expect_consistent(const vsmmu::Announced& a) {
  const auto implies = [](bool if_this, bool then_that) { return !if_this || then_that; };
  const bool ats = a.idr0.get<IDR0::ATS>();
  const bool pri = a.idr0.get<IDR0::PRI>();
  const bool substreams = a.ssid_bits() != 0;
  const bool small = a.idr5.get<IDR5::GRAN4K>() || a.idr5.get<IDR5::GRAN16K>();
  const bool ds = a.idr5.get<IDR5::DS>();
  const bool large = a.idr5.get<IDR5::GRAN64K>();
  EXPECT_TRUE(a.idr0.within(IDR0::Layout::guest));
  EXPECT_TRUE(a.idr1.within(IDR1::Layout::guest));
  EXPECT_TRUE(a.idr3.within(IDR3::Layout::guest));
  EXPECT_TRUE(a.idr5.within(IDR5::Layout::guest));
  EXPECT_TRUE(implies(pri, ats));
  EXPECT_TRUE(implies(a.idr0.get<IDR0::ATSRECERR>(), ats));
  EXPECT_TRUE(implies(a.idr0.get<IDR0::CD2L>(), substreams));
  EXPECT_TRUE(implies(a.idr3.get<IDR3::PPS>(), pri && substreams));
  EXPECT_TRUE(implies(a.idr3.get<IDR3::PASIDTT>(), ats && substreams));
  EXPECT_TRUE(implies(a.priq_log2() != 0, pri));
  EXPECT_TRUE(implies(a.stall_max() != 0, a.idr0.get<IDR0::STALL_MODEL>() != StallModel::terminate_only));
  EXPECT_NE(static_cast<unsigned>(a.idr0.get<IDR0::STALL_MODEL>()), 3u);
  EXPECT_TRUE(a.idr0.get<IDR0::S1P>());
  EXPECT_EQ(a.idr0.get<IDR0::TTF>(), TtFormat::aarch64);
  EXPECT_TRUE(small || large);
  EXPECT_TRUE(implies(ds, small && a.idr5.get<IDR5::VAX>() != 0));
  EXPECT_TRUE(implies(a.idr5.get<IDR5::VAX>() != 0, large || ds));
  EXPECT_LE(a.idr5.get<IDR5::VAX>(), 1u);
  EXPECT_TRUE(implies(a.oas_bits() == 52, large || ds));
  EXPECT_LE(a.oas_bits(), 52u);
  EXPECT_TRUE(implies(a.aidr.words[0] >= 1, a.idr3.get<IDR3::HAD>()));
  EXPECT_TRUE(implies(a.aidr.words[0] == 0, a.oas_bits() < 52 && a.idr5.get<IDR5::VAX>() == 0));
  EXPECT_LE(a.aidr.words[0], 1u);
  for (const unsigned log2 : {a.cmdq_log2(), a.evtq_log2(), a.priq_log2()}) EXPECT_LE(log2, 19u);
  EXPECT_LE(a.ssid_bits(), 20u);
}

// No more than `c` can do, or `config` lets through.
void expect_no_wider(const vsmmu::Announced& a, const stage2::Capabilities& c, const vsmmu::Config& config) {
  const auto no_wider = []<typename F>(F, const auto& announced, const auto& limit, bool narrowed) {
    EXPECT_LE(announced.template get<F>(), limit.template get<F>() && narrowed) << F::name;
  };
  no_wider(IDR0::COHACC{}, a.idr0, c.idr0, config.coherent);
  no_wider(IDR0::ASID16{}, a.idr0, c.idr0, config.asid16);
  no_wider(IDR0::ATS{}, a.idr0, c.idr0, config.ats && (config.ats_full || !c.idr0.get<IDR0::NS1ATS>()));
  no_wider(IDR0::PRI{}, a.idr0, c.idr0, config.pri);
  no_wider(IDR0::ATSRECERR{}, a.idr0, c.idr0, config.ats_errors);
  no_wider(IDR0::CD2L{}, a.idr0, c.idr0, config.two_level_cd_table);
  no_wider(IDR3::HAD{}, a.idr3, c.idr3, true);
  no_wider(IDR3::STT{}, a.idr3, c.idr3, true);
  no_wider(IDR3::E0PD{}, a.idr3, c.idr3, true);
  no_wider(IDR3::EPAN{}, a.idr3, c.idr3, true);
  no_wider(IDR3::PPS{}, a.idr3, c.idr3, true);
  no_wider(IDR3::PASIDTT{}, a.idr3, c.idr3, true);
  no_wider(IDR5::GRAN4K{}, a.idr5, c.idr5, true);
  no_wider(IDR5::GRAN16K{}, a.idr5, c.idr5, true);
  no_wider(IDR5::GRAN64K{}, a.idr5, c.idr5, true);
  no_wider(IDR5::DS{}, a.idr5, c.idr5, true);
  EXPECT_LE(a.idr0.get<IDR0::HTTU>(), std::min(c.idr0.get<IDR0::HTTU>(), config.httu));
  EXPECT_LE(a.idr3.get<IDR3::BBML>(), std::min<std::uint64_t>(c.idr3.get<IDR3::BBML>(), config.bbml));
  EXPECT_LE(a.idr5.get<IDR5::VAX>(), c.idr5.get<IDR5::VAX>());
  EXPECT_LE(a.oas_bits(), std::min(smmu::bits(c.idr5.get<IDR5::OAS>()), config.oas_bits));
  EXPECT_LE(a.sid_bits(), std::min<std::uint64_t>(c.idr1.get<IDR1::SIDSIZE>(), config.sid_bits));
  EXPECT_LE(a.ssid_bits(), std::min<std::uint64_t>(c.idr1.get<IDR1::SSIDSIZE>(), config.ssid_bits));
  // A guest that may choose must find an instance that lets it.
  if (a.idr0.get<IDR0::TTENDIAN>() == TtEndian::mixed) EXPECT_EQ(c.idr0.get<IDR0::TTENDIAN>(), TtEndian::mixed);
  if (!a.idr0.get<IDR0::TERM_MODEL>()) EXPECT_FALSE(c.idr0.get<IDR0::TERM_MODEL>());
  const auto model = a.idr0.get<IDR0::STALL_MODEL>();
  if (model != StallModel::terminate_only) {
    EXPECT_EQ(c.idr0.get<IDR0::STALL_MODEL>(), model);
    EXPECT_TRUE(config.stall);
    EXPECT_GE(a.stall_max(), vsmmu::stall_share(static_cast<unsigned>(c.idr5.get<IDR5::STALL_MAX>())));
  } else {
    EXPECT_NE(c.idr0.get<IDR0::STALL_MODEL>(), StallModel::stall_forced);
  }
}

TEST(Announced, IsNeverWiderThanAnyInstanceNorTheConfiguration) {
  Random random;
  unsigned made = 0;
  for (unsigned round = 0; round < 20000 && !::testing::Test::HasFailure(); ++round) {
    SCOPED_TRACE(round);
    std::vector<std::unique_ptr<FakeSmmu>> owned;
    std::vector<stage2::SmmuPort*> ports;
    for (unsigned i = 0; i <= random.below(3); ++i) {
      owned.push_back(std::make_unique<FakeSmmu>(i, random.capabilities()));
      ports.push_back(owned.back().get());
    }
    const vsmmu::Config config = random.config();
    const auto a = announce(ports, config);
    if (!a) continue;
    ++made;
    expect_consistent(*a);
    for (const stage2::SmmuPort* port : ports) expect_no_wider(*a, port->capabilities(), config);
    EXPECT_EQ(a->idr0.get<IDR0::MSI>(), config.msi && a->idr0.get<IDR0::COHACC>());
    EXPECT_EQ(a->idr0.get<IDR0::SEV>(), config.sev);
    EXPECT_EQ(a->idr0.get<IDR0::ST_LEVEL>() == StLevel::two_level, config.two_level_stream_table);
    EXPECT_EQ(a->cmdq_log2(), std::min(config.cmdq_log2, 19u));
    EXPECT_LE(a->idr3.get<IDR3::RIL>(), config.range_invalidation);
  }
  EXPECT_GT(made, 5000u);
}

}  // namespace
}  // namespace weir::vsmmu::test
