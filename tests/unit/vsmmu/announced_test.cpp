#include "vsmmu/announced.hpp"

#include <gtest/gtest.h>

#include "tests/unit/fakes/fake_smmu.hpp"

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
    EXPECT_EQ(a->idr0.get<IDR0::HTTU>(), Htt::access);
    EXPECT_FALSE(a->idr3.get<IDR3::RIL>());
    EXPECT_EQ(a->idr3.get<IDR3::BBML>(), 1u);
    EXPECT_EQ(a->oas_bits(), 40u);
    EXPECT_FALSE(a->idr5.get<IDR5::GRAN16K>());
    EXPECT_TRUE(a->idr5.get<IDR5::GRAN4K>());
    EXPECT_FALSE(a->idr5.get<IDR5::DS>());
    EXPECT_EQ(a->idr5.get<IDR5::VAX>(), 0u);
    EXPECT_EQ(a->sid_bits(), 9u);
  }
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
}

TEST(Announced, RefusesInstancesWithoutACommonGranule) {
  auto a = everything();
  auto b = everything();
  a.idr5.set<IDR5::GRAN64K>(false).set<IDR5::GRAN16K>(false);
  b.idr5.set<IDR5::GRAN4K>(false);
  Instances i{a, b};
  EXPECT_FALSE(announce(i.ports, {}));
}

}  // namespace
}  // namespace weir::vsmmu::test
