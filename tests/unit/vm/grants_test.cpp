// What becomes of a manifest's narrowing and grants.
#include "hyp/vm/grants.hpp"

#include <gtest/gtest.h>

namespace weir {
namespace {

using vsmmu::AtsGrant;

struct Grants : testing::Test {
  Grants() {
    for (unsigned i = 0; i < 2; ++i) {
      EXPECT_NE(vm.vsmmus.add(), nullptr);
      vm.devices.add()->vsmmu = i;
    }
  }
  [[nodiscard]] vsmmu::Config limits(unsigned index = 0) const { return vsmmu_limits(vm, index, 40); }
  VmConfig vm;
  VsmmuNarrowing& narrowing() { return vm.vsmmus[0].narrowing; }
};

TEST_F(Grants, WithoutNarrowingAllButAtsIsOffered) {
  const vsmmu::Config c = limits();
  const vsmmu::Config most{};
  EXPECT_EQ(c.cmdq_log2, most.cmdq_log2);
  EXPECT_EQ(c.evtq_log2, most.evtq_log2);
  EXPECT_EQ(c.priq_log2, most.priq_log2);
  EXPECT_EQ(c.ssid_bits, 20U);
  EXPECT_EQ(c.oas_bits, 40U) << "the VM's address space";
  EXPECT_EQ(c.httu, smmu::Htt::access_dirty_table);
  EXPECT_TRUE(c.two_level_stream_table && c.range_invalidation && c.asid16 && c.stall && c.msi && c.sev);
  EXPECT_FALSE(c.ats || c.ats_full || c.pri);
}

TEST_F(Grants, InvalidationIsStrictUnlessTheManifestSaysOtherwise) {
  EXPECT_FALSE(limits().precise || limits().no_global_pages || limits().late_events);
  vm.vsmmus[0].invalidation = Invalidation::precise;
  EXPECT_TRUE(limits().precise && !limits().no_global_pages && !limits().late_events);
  vm.vsmmus[0].no_global_pages = true;
  EXPECT_TRUE(limits().no_global_pages && !limits().late_events);
  vm.vsmmus[1].late_events = true;
  EXPECT_TRUE(limits(1).late_events && !limits(1).precise && !limits().late_events);
}

TEST_F(Grants, EachNarrowingTakesItsOwnAway) {
  narrowing() = {.no_range_invalidation = true,
                 .linear_stream_table = true,
                 .no_stall = true,
                 .no_msi = true,
                 .no_sev = true,
                 .no_httu = true,
                 .asid_bits = 8,
                 .substream_bits = 5,
                 .oas_bits = 36,
                 .command_queue_log2 = 7,
                 .event_queue_log2 = 6,
                 .pri_queue_log2 = 3};
  const vsmmu::Config c = limits();
  EXPECT_FALSE(c.two_level_stream_table || c.range_invalidation || c.asid16 || c.stall || c.msi || c.sev);
  EXPECT_EQ(c.httu, smmu::Htt::none);
  EXPECT_EQ(c.ssid_bits, 5U);
  EXPECT_EQ(c.oas_bits, 36U);
  EXPECT_EQ(c.cmdq_log2, 7U);
  EXPECT_EQ(c.evtq_log2, 6U);
  EXPECT_EQ(c.priq_log2, 3U);
  const vsmmu::Config other = limits(1);
  EXPECT_TRUE(other.stall && other.msi && other.asid16);
}

TEST_F(Grants, AtsIsOfferedWhereADeviceHasIt) {
  vm.devices[1].ats = AtsChoice::split_stage;
  EXPECT_FALSE(limits(0).ats);
  EXPECT_TRUE(limits(1).ats);
  EXPECT_FALSE(limits(1).ats_full || limits(1).pri);
  vm.devices[1].ats = AtsChoice::full;
  vm.devices[1].pri = true;
  EXPECT_TRUE(limits(1).ats && limits(1).ats_full && limits(1).pri);
  EXPECT_FALSE(limits(0).ats || limits(0).ats_full || limits(0).pri);
}

TEST_F(Grants, OfAStream) {
  DeviceConfig device;
  EXPECT_EQ(stream_grant(device).ats, AtsGrant::none);
  device.ats = AtsChoice::split_stage;
  EXPECT_EQ(stream_grant(device).ats, AtsGrant::split_stage);
  EXPECT_FALSE(stream_grant(device).pri);
  device.ats = AtsChoice::full;
  device.pri = true;
  EXPECT_EQ(stream_grant(device).ats, AtsGrant::full);
  EXPECT_TRUE(stream_grant(device).pri);
}

TEST_F(Grants, CapabilitiesNeedBothTheManifestAndTheSmmus) {
  vsmmu::Announced all;
  all.idr0.set<smmu::IDR0::ATS>(true).set<smmu::IDR0::PRI>(true);
  all.idr1.set<smmu::IDR1::SSIDSIZE>(8);
  DeviceConfig device;
  pci::CapabilityGrant grant = capability_grant(device, all, 7);
  EXPECT_FALSE(grant.ats || grant.pri || grant.pasid_bits != 0);
  device.ats = AtsChoice::split_stage;
  device.pri = device.pasid = true;
  grant = capability_grant(device, all, 7);
  EXPECT_TRUE(grant.ats && grant.pri);
  EXPECT_EQ(grant.pasid_bits, 8U);
  EXPECT_EQ(grant.page_requests, 7U);
  grant = capability_grant(device, {}, 7);
  EXPECT_FALSE(grant.ats || grant.pri || grant.pasid_bits != 0);
}

TEST_F(Grants, PageRequestsOfAllFitIntoTheQueue) {
  EXPECT_EQ(page_request_share(1024, 1), 512U);
  EXPECT_EQ(page_request_share(1024, 3), 170U);
  for (unsigned functions = 1; functions <= 256; ++functions)
    EXPECT_LE(functions * page_request_share(1024, functions), 512U) << functions;
  EXPECT_EQ(page_request_share(2, 9), 1U) << "without any, it could not ask at all";
}

}  // namespace
}  // namespace weir
