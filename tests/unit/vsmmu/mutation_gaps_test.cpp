// Cases that nothing but a mutant (tests/mutants) had asked for.
#include <gtest/gtest.h>

#include "tests/unit/vsmmu/fixture.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;

// CMD_CFGI_STE_RANGE (4.3.2): StreamIDs 8 to 15, no more and no fewer.
TEST(MutationGaps, ARangeOfStesEndsWhereItEnds) {
  Machine machine{1};
  Virtual virt{machine};
  Guest guest{virt};
  const std::vector<std::uint32_t> streams = {7, 8, 15, 16};
  for (const std::uint32_t sid : streams) {
    ASSERT_TRUE(virt.vsmmu->attach(VStreamID{sid}, *machine.smmus[0], StreamID{sid}));
    guest.put_ste(sid, Guest::s1_ste());
  }
  guest.enable();
  for (const std::uint32_t sid : streams) guest.put_ste(sid, Guest::s1_ste(kCd + 64));
  guest.submit({cfgi_ste_range(StreamID{0x0c}, 2), sync_none()});
  std::vector<std::uint32_t> changed;
  for (const std::uint32_t sid : streams)
    if (machine.smmus[0]->stes[StreamID{sid}].get<Ste::S1ContextPtr>() == kCd + 64) changed.push_back(sid);
  EXPECT_EQ(changed, (std::vector<std::uint32_t>{8, 15}));
}

// A TG that the vSMMU does not offer has no entries to invalidate, and an instance may know it as reserved (4.4.1.1).
TEST(MutationGaps, NoInstanceGetsAGranuleThatIsNotOffered) {
  auto capabilities = qemu_like_capabilities();
  capabilities.idr5.set<IDR5::GRAN16K>(false).set<IDR5::GRAN64K>(false);
  Machine machine{1, capabilities};
  Virtual virt{machine};
  ASSERT_TRUE(virt.vsmmu->attach(VStreamID{1}, *machine.smmus[0], StreamID{1}));
  Guest guest{virt};
  guest.put_ste(1, Guest::s1_ste());
  guest.enable();
  machine.forget();
  for (const TlbiGranule tg : {TlbiGranule::size16k, TlbiGranule::size64k})
    guest.submit({tlbi_nh_va(VMID{}, ASID{1}, IOVA{}, true, {.tg = tg, .ttl = 3, .num = 1}),
                  tlbi_nh_vaa(VMID{}, IOVA{}, true, {.tg = tg, .ttl = 3, .num = 1})});
  guest.submit({sync_none()});
  EXPECT_FALSE(guest.cmdq_error());
  for (const Command& c : machine.smmus[0]->commands) {
    if (const auto t = c.as<TlbiNhVa>()) EXPECT_LE(t->get<TlbiNhVa::TG>(), TlbiGranule::size4k);
    if (const auto t = c.as<TlbiNhVaa>()) EXPECT_LE(t->get<TlbiNhVaa::TG>(), TlbiGranule::size4k);
  }
}

// A vSMMU with ATS and substreams, one stream that is granted ATS and one that is not.
struct AtsGuest {
  static constexpr std::uint32_t kGranted = 1;
  static constexpr std::uint32_t kOther = 2;
  static stage2::Capabilities capabilities() {
    auto c = qemu_like_capabilities();
    c.idr0.set<IDR0::ATS>(true).set<IDR0::CD2L>(true);
    c.idr1.set<IDR1::SSIDSIZE>(16);
    return c;
  }
  AtsGuest() {
    EXPECT_TRUE(virt.vsmmu->attach(VStreamID{kGranted}, smmu, StreamID{0x11}, {.ats = AtsGrant::split_stage}));
    EXPECT_TRUE(virt.vsmmu->attach(VStreamID{kOther}, smmu, StreamID{0x12}));
    guest.put_ste(kGranted, Guest::s1_ste());
    guest.put_ste(kOther, Guest::s1_ste());
    guest.enable();
    machine.forget();
  }
  Machine machine{1, capabilities()};
  FakeSmmu& smmu = *machine.smmus[0];
  Virtual virt{machine, {.ats = true}};
  Guest guest{virt};
};

// A device whose ATS the manifest does not grant has it hidden, and switched off: it would not answer (4.5.1).
TEST(MutationGaps, AtcInvGoesToGrantedStreamsOnly) {
  AtsGuest g;
  ASSERT_TRUE(g.virt.vsmmu->announced().idr0.get<IDR0::ATS>());
  g.guest.submit({atc_inv_all(StreamID{AtsGuest::kOther}), sync_none()});
  EXPECT_TRUE(g.smmu.all<AtcInv>().empty());
  g.guest.submit({atc_inv_all(StreamID{AtsGuest::kGranted}), sync_none()});
  EXPECT_EQ(g.smmu.all<AtcInv>().size(), 1u);
}

// A time-out of an invalidation that was the host's own does not fail a SYNC for another device's (7.1).
TEST(MutationGaps, ASyncFailsForTheDevicesThatItWaitedForOnly) {
  AtsGuest g;
  g.virt.vsmmu->atc_timed_out(VStreamID{AtsGuest::kOther});
  g.guest.submit({atc_inv_all(StreamID{AtsGuest::kGranted}), sync_none()});
  EXPECT_FALSE(g.guest.cmdq_error());
  EXPECT_EQ(g.guest.cons(), 2u);
}

// CMD_CFGI_CD (4.3.3) of one substream.
TEST(MutationGaps, CfgiCdKeepsItsSubstream) {
  AtsGuest g;
  g.guest.submit({cfgi_cd(StreamID{AtsGuest::kGranted}, SubstreamID{7}, true), sync_none()});
  const auto found = g.smmu.all<CfgiCd>();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].get<CfgiCd::SubstreamID>(), SubstreamID{7});
}

}  // namespace
}  // namespace weir::vsmmu::test
