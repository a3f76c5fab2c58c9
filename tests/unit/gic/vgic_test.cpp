#include <gtest/gtest.h>

#include "fake_machine.hpp"

namespace weir {
namespace {

using gic::IccSgir;
using gic::IchHcr;
using gic::IchLr;
using gic::IchVmcr;

IccSgir sgi_to(unsigned intid, unsigned targets) {
  return IccSgir{}.set<IccSgir::INTID>(intid).set<IccSgir::TargetList>(targets);
}

TEST(VGic, EdgeIsDeliveredOnce) {
  FakeMachine m;
  m.set_edge(40);
  m.enable(40);
  m.pulse(40);
  EXPECT_EQ(m.ack(0), 40U);
  EXPECT_EQ(m.ack(0), kSpurious);
  m.eoi(0, 40);
  EXPECT_EQ(m.ack(0), kSpurious);
  EXPECT_EQ(m.maintenance_interrupts, 0U);
}

TEST(VGic, EdgeWhileActiveIsPendingAfterwards) {
  FakeMachine m;
  m.set_edge(40);
  m.enable(40);
  m.pulse(40);
  EXPECT_EQ(m.ack(0), 40U);
  m.pulse(40);
  m.pulse(40);  // merges
  EXPECT_TRUE(m.is_active(40));
  EXPECT_TRUE(m.is_pending(40));
  EXPECT_EQ(m.ack(0), kSpurious);
  m.eoi(0, 40);
  EXPECT_EQ(m.take(0), 40U);
  EXPECT_EQ(m.ack(0), kSpurious);
}

TEST(VGic, DisabledInterruptWaits) {
  FakeMachine m;
  m.set_edge(40);
  m.pulse(40);
  EXPECT_EQ(m.ack(0), kSpurious);
  EXPECT_TRUE(m.is_pending(40));
  m.enable(40);
  m.enable(40, false);  // goes back out of the list register
  EXPECT_EQ(m.ack(0), kSpurious);
  EXPECT_TRUE(m.is_pending(40));
  m.enable(40);
  EXPECT_EQ(m.take(0), 40U);
}

TEST(VGic, GroupsAreEnabledInTheDistributor) {
  FakeMachine m;
  m.set_edge(40);
  m.enable(40);
  m.write_gicd(0, 0, 1);  // group 0 only
  m.pulse(40);
  EXPECT_EQ(m.ack(0), kSpurious);
  m.write_gicd(0, 0, 3);
  EXPECT_EQ(m.take(0), 40U);
}

TEST(VGic, LevelIsRaisedAgainWhileTheLineIsHigh) {
  FakeMachine m;
  m.enable(33);
  m.level(33, true);
  for (unsigned n = 0; n < 3; ++n) {
    EXPECT_EQ(m.ack(0), 33U);
    EXPECT_EQ(m.ack(0), kSpurious);
    m.eoi(0, 33);
  }
  EXPECT_EQ(m.ack(0), 33U);
  m.level(33, false);
  const unsigned before = m.maintenance_interrupts;
  m.eoi(0, 33);
  EXPECT_EQ(m.maintenance_interrupts, before) << "nothing to look at: the line fell in between";
  EXPECT_EQ(m.ack(0), kSpurious);
}

TEST(VGic, LevelThatFallsIsNotDelivered) {
  FakeMachine m;
  m.enable(33);
  m.level(33, true);
  EXPECT_TRUE(m.is_pending(33));
  m.level(33, false);
  EXPECT_FALSE(m.is_pending(33));
  EXPECT_EQ(m.ack(0), kSpurious);
}

TEST(VGic, LevelThatFallsAndRisesWhileActive) {
  FakeMachine m;
  m.enable(33);
  m.level(33, true);
  EXPECT_EQ(m.ack(0), 33U);
  m.level(33, false);
  m.level(33, true);
  m.eoi(0, 33);
  EXPECT_EQ(m.ack(0), 33U);
}

TEST(VGic, SoftwarePendingLevelIsDeliveredOnce) {
  FakeMachine m;
  m.enable(33);
  m.write_gicd(0, 0x204, 1U << 1);
  EXPECT_EQ(m.take(0), 33U);
  EXPECT_EQ(m.ack(0), kSpurious);
  EXPECT_FALSE(m.is_pending(33));
}

TEST(VGic, HigherPriorityFirstAndPreempts) {
  FakeMachine m;
  for (const std::uint32_t intid : {40U, 41U, 42U}) {
    m.set_edge(intid);
    m.enable(intid);
  }
  m.set_priority(40, 0xa0);
  m.set_priority(41, 0x80);
  m.set_priority(42, 0x40);
  m.pulse(40);
  m.pulse(41);
  EXPECT_EQ(m.ack(0), 41U);
  EXPECT_EQ(m.ack(0), kSpurious);
  m.pulse(42);
  EXPECT_EQ(m.ack(0), 42U);
  m.eoi(0, 42);
  m.eoi(0, 41);
  EXPECT_EQ(m.take(0), 40U);
}

TEST(VGic, PriorityMaskHolds) {
  FakeMachine m;
  m.set_edge(40);
  m.enable(40);
  m.set_priority(40, 0xa0);
  m.cpu(0).vmcr.set<IchVmcr::VPMR>(0x80);
  m.pulse(40);
  EXPECT_EQ(m.ack(0), kSpurious);
  m.cpu(0).vmcr.set<IchVmcr::VPMR>(0xf0);
  EXPECT_EQ(m.take(0), 40U);
}

TEST(VGic, SgiToTargetsAndToAllOthers) {
  FakeMachine m{3};
  for (unsigned v = 0; v < 3; ++v) m.write_sgi_frame(v, 0x100, 0xffff);
  m.sgi(0, sgi_to(5, 0b110));
  EXPECT_EQ(m.take(0), kSpurious);
  EXPECT_EQ(m.take(1), 5U);
  EXPECT_EQ(m.take(2), 5U);
  m.sgi(1, IccSgir{}.set<IccSgir::INTID>(3).set<IccSgir::IRM>(true));
  EXPECT_EQ(m.take(0), 3U);
  EXPECT_EQ(m.take(1), kSpurious);
  EXPECT_EQ(m.take(2), 3U);
  m.sgi(2, sgi_to(15, 0b100));  // itself
  EXPECT_EQ(m.take(2), 15U);
}

TEST(VGic, SgiToNobodyIsDropped) {
  FakeMachine m;
  for (unsigned v = 0; v < 2; ++v) m.write_sgi_frame(v, 0x100, 0xffff);
  m.sgi(0, sgi_to(1, 0xfffc));
  m.sgi(0, sgi_to(1, 3).set<IccSgir::Aff1>(1));
  m.sgi(0, sgi_to(1, 3).set<IccSgir::Aff2>(1));
  m.sgi(0, sgi_to(1, 3).set<IccSgir::Aff3>(0xff));
  m.sgi(0, sgi_to(1, 3).set<IccSgir::RS>(15));
  IccSgir all_ones;
  all_ones.words[0] = ~std::uint64_t{0} & ~IccSgir::IRM::mask;
  m.sgi(0, all_ones);
  EXPECT_EQ(m.take(0), kSpurious);
  EXPECT_EQ(m.take(1), kSpurious);
}

TEST(VGic, SgiReachesTheSecondCluster) {
  FakeMachine m{18};
  m.write_sgi_frame(17, 0x100, 0xffff);
  m.sgi(0, sgi_to(2, 0b10).set<IccSgir::Aff1>(1));
  EXPECT_EQ(m.take(17), 2U);
}

TEST(VGic, GroupZeroSgis) {
  FakeMachine m;
  m.write_sgi_frame(1, 0x100, 0xffff);
  m.write_sgi_frame(1, 0x80, ~2U);  // SGI 1 in group 0
  m.sgi(0, sgi_to(2, 2), gic::Icc::SGI0R_EL1);
  m.sgi(0, sgi_to(2, 2), gic::Icc::ASGI1R_EL1);
  EXPECT_EQ(m.take(1), kSpurious);
  m.sgi(0, sgi_to(1, 2), gic::Icc::SGI0R_EL1);
  EXPECT_EQ(m.take(1), 1U);
  m.sgi(0, sgi_to(1, 2), gic::Icc::SGI1R_EL1);
  EXPECT_EQ(m.take(1), 1U);
}

TEST(VGic, OtherSystemRegisters) {
  FakeMachine m;
  std::uint64_t value = 0;
  EXPECT_TRUE(m.vgic->read_sysreg(0, gic::Icc::SRE_EL1, value));
  EXPECT_EQ(value, 7U);
  EXPECT_TRUE(m.vgic->write_sysreg(0, gic::Icc::SRE_EL1, 0));
  EXPECT_FALSE(m.vgic->read_sysreg(0, gic::Icc::SGI1R_EL1, value));
  EXPECT_FALSE(m.vgic->write_sysreg(0, static_cast<gic::Icc>(0x1234), 0));
}

TEST(VGic, SpiFollowsItsRoute) {
  FakeMachine m;
  m.set_edge(40);
  m.enable(40);
  m.route(40, 1);
  m.pulse(40);
  EXPECT_EQ(m.take(0), kSpurious);
  EXPECT_EQ(m.take(1), 40U);
  m.pulse(40);
  m.route(40, 0);  // while pending in vCPU 1's list register
  EXPECT_EQ(m.take(1), kSpurious);
  EXPECT_EQ(m.take(0), 40U);
  m.pulse(40);
  EXPECT_EQ(m.ack(0), 40U);
  m.route(40, 1);  // while active
  m.pulse(40);
  EXPECT_EQ(m.ack(1), kSpurious);
  m.eoi(0, 40);
  m.enter(0);
  // The hardware does not say that vCPU 0 is done. The next thing that happens to the interrupt moves it.
  m.pulse(40);
  m.enter_all();
  EXPECT_EQ(m.take(1), 40U);
}

TEST(VGic, SpiToNobodyStaysPending) {
  FakeMachine m;
  m.set_edge(40);
  m.enable(40);
  m.route(40, 0xff'00ff'ffff);
  m.pulse(40);
  EXPECT_TRUE(m.is_pending(40));
  EXPECT_EQ(m.take(0), kSpurious);
  m.route(40, 1);
  EXPECT_EQ(m.take(1), 40U);
}

TEST(VGic, NothingToDoAtEntry) {
  FakeMachine m;
  m.write_sgi_frame(0, 0x100, 1U << 27);
  EXPECT_TRUE(m.fire(27));
  const unsigned before = m.cpu(0).port_calls;
  EXPECT_EQ(m.take(0), 27U);
  m.enter(0);
  m.enter(0);
  EXPECT_EQ(m.cpu(0).port_calls, before) << "a hardware interrupt's end needs no look at the list registers";
}

// ---- More interrupts than list registers

class Overflow : public testing::Test {
 protected:
  static constexpr unsigned kCount = 20;
  FakeMachine m{1, 4};
  void SetUp() override {
    for (unsigned n = 0; n < kCount; ++n) {
      m.set_edge(100 + n);
      m.set_priority(100 + n, 0xf0 - 8 * n - 8);  // later ones are more urgent
      m.enable(100 + n);
    }
    m.cpu(0).vmcr.set<IchVmcr::VPMR>(0xff);
  }
};

TEST_F(Overflow, AllComeInOrderOfPriority) {
  for (unsigned n = 0; n < kCount; ++n) m.pulse(100 + n);
  EXPECT_EQ(m.valid_lrs(0), 4U);
  for (unsigned n = kCount; n-- > 0;) EXPECT_EQ(m.take(0), 100 + n);
  EXPECT_EQ(m.ack(0), kSpurious);
  EXPECT_EQ(m.cpu(0).hcr, IchHcr{}.set<IchHcr::En>(true));
}

TEST_F(Overflow, NestedDeeperThanThereAreListRegisters) {
  for (unsigned n = 0; n < kCount; ++n) {
    m.pulse(100 + n);
    EXPECT_EQ(m.ack(0), 100 + n);
  }
  for (unsigned n = 0; n < kCount; ++n) EXPECT_TRUE(m.is_active(100 + n)) << n;
  for (unsigned n = kCount; n-- > 0;) {
    m.eoi(0, 100 + n);
    m.enter(0);
    EXPECT_FALSE(m.is_active(100 + n)) << n;
    if (n != 0) {
      EXPECT_TRUE(m.is_active(100 + n - 1)) << n;
    }
  }
  m.pulse(100);
  EXPECT_EQ(m.take(0), 100U);
  EXPECT_EQ(m.cpu(0).hcr, IchHcr{}.set<IchHcr::En>(true));
}

TEST_F(Overflow, SplitDeactivationInAnyOrder) {
  m.cpu(0).vmcr.set<IchVmcr::VEOIM>(true);
  for (unsigned n = 0; n < kCount; ++n) {
    m.pulse(100 + n);
    EXPECT_EQ(m.ack(0), 100 + n);
  }
  for (unsigned n = kCount; n-- > 0;) m.eoi(0, 100 + n);  // priorities drop, nothing is deactivated
  for (unsigned n = 0; n < kCount; ++n) EXPECT_TRUE(m.is_active(100 + n)) << n;
  for (unsigned n = 0; n < kCount; ++n) {
    m.dir(0, 100 + n);
    EXPECT_FALSE(m.is_active(100 + n)) << n;
  }
  EXPECT_EQ(m.cpu(0).hcr, IchHcr{}.set<IchHcr::En>(true));
}

TEST_F(Overflow, SplitDeactivationWhereDropsAreCounted) {
  m.counts_drops = true;
  m.cpu(0).vmcr.set<IchVmcr::VEOIM>(true);
  for (unsigned n = 0; n < kCount; ++n) {
    m.pulse(100 + n);
    EXPECT_EQ(m.ack(0), 100 + n);
  }
  for (unsigned n = kCount; n-- > 0;) m.eoi(0, 100 + n);
  for (unsigned n = 0; n < kCount; ++n) EXPECT_TRUE(m.is_active(100 + n)) << n;
  for (unsigned n = 0; n < kCount; ++n) m.dir(0, 100 + n);
  for (unsigned n = 0; n < kCount; ++n) EXPECT_FALSE(m.is_active(100 + n)) << n;
}

TEST_F(Overflow, ActiveAndPendingAgainOutsideOfListRegisters) {
  for (unsigned n = 0; n < 8; ++n) {
    m.pulse(100 + n);
    EXPECT_EQ(m.ack(0), 100 + n);
  }
  m.pulse(100);  // active, lowest priority
  for (unsigned n = 8; n-- > 0;) m.eoi(0, 100 + n);
  EXPECT_EQ(m.take(0), 100U);
  EXPECT_EQ(m.ack(0), kSpurious);
}

TEST_F(Overflow, BlockedGroupDoesNotBlockTheOther) {
  for (unsigned n = 10; n < 20; ++n)
    m.write_gicd(0, 0x8c, m.read_gicd(0, 0x8c) & ~(1U << (n + 4)));  // 110..119: group 0
  m.cpu(0).vmcr.set<IchVmcr::VENG0>(false);
  for (unsigned n = kCount; n-- > 0;) m.pulse(100 + n);
  for (unsigned n = 10; n-- > 0;) EXPECT_EQ(m.take(0), 100 + n);
  EXPECT_EQ(m.ack(0), kSpurious);
  m.cpu(0).vmcr.set<IchVmcr::VENG0>(true);
  m.maintain(0);
  for (unsigned n = kCount; n-- > 10;) EXPECT_EQ(m.take(0), 100 + n);
}

// The other way round: the guest disables the group that has the list registers.
TEST_F(Overflow, DisablingAGroupLetsTheOtherIn) {
  for (unsigned n = 0; n < 10; ++n)
    m.write_gicd(0, 0x8c, m.read_gicd(0, 0x8c) & ~(1U << (n + 4)));  // 100..109: group 0
  for (unsigned n = 0; n < kCount; ++n) m.pulse(100 + n);            // the most urgent ones are group 1
  m.cpu(0).vmcr.set<IchVmcr::VENG1>(false);
  m.maintain(0);
  for (unsigned n = 10; n-- > 0;) EXPECT_EQ(m.take(0), 100 + n);
  EXPECT_EQ(m.ack(0), kSpurious);
  m.cpu(0).vmcr.set<IchVmcr::VENG0>(false).set<IchVmcr::VENG1>(true);
  m.maintain(0);
  for (unsigned n = kCount; n-- > 10;) EXPECT_EQ(m.take(0), 100 + n);
  EXPECT_EQ(m.cpu(0).hcr, IchHcr{}.set<IchHcr::En>(true));
}

TEST_F(Overflow, DisablingBothGroupsAndEnablingThemAgain) {
  for (unsigned n = 0; n < 10; ++n) m.write_gicd(0, 0x8c, m.read_gicd(0, 0x8c) & ~(1U << (n + 4)));
  for (unsigned n = 0; n < kCount; ++n) m.pulse(100 + n);
  m.cpu(0).vmcr.set<IchVmcr::VENG0>(false).set<IchVmcr::VENG1>(false);
  m.maintain(0);
  EXPECT_EQ(m.ack(0), kSpurious);
  m.cpu(0).vmcr.set<IchVmcr::VENG0>(true);
  m.maintain(0);
  EXPECT_EQ(m.take(0), 109U);
  m.cpu(0).vmcr.set<IchVmcr::VENG1>(true);
  m.maintain(0);
  EXPECT_EQ(m.take(0), 119U);
}

// As many as there are list registers are active; one more waits, less urgent than all of them.
TEST_F(Overflow, AllActiveAndOneThatMustWait) {
  for (unsigned n = 1; n < 5; ++n) {
    m.pulse(100 + n);
    ASSERT_EQ(m.ack(0), 100 + n);
  }
  m.pulse(100);
  const unsigned before = m.maintenance_interrupts;
  for (unsigned i = 0; i < 10; ++i) m.maintain(0);
  EXPECT_LE(m.maintenance_interrupts, before + 1);
  for (unsigned n = 5; n-- > 1;) m.eoi(0, 100 + n);
  EXPECT_EQ(m.take(0), 100U);
}

TEST_F(Overflow, LevelsAndOneListRegister) {
  FakeMachine one{1, 1, false};
  for (unsigned n = 0; n < 6; ++n) {
    one.enable(50 + n);
    one.level(50 + n, true);
  }
  for (unsigned round = 0; round < 3; ++round) EXPECT_EQ(one.take(0), 50U);
  for (unsigned n = 0; n < 6; ++n) {
    EXPECT_EQ(one.ack(0), 50 + n);
    one.level(50 + n, false);
    one.eoi(0, 50 + n);
  }
  EXPECT_EQ(one.ack(0), kSpurious);
}

// ---- Looking at another vCPU's list registers

TEST(VGic, StateOfAnotherVcpusListRegisters) {
  FakeMachine m;
  m.set_edge(40);
  m.enable(40);
  m.route(40, 1);
  m.pulse(40);
  EXPECT_TRUE(m.is_pending(40, 0));
  EXPECT_FALSE(m.is_active(40, 0));
  EXPECT_EQ(m.ack(1), 40U);
  EXPECT_FALSE(m.is_pending(40, 0));
  EXPECT_TRUE(m.is_active(40, 0));
  m.eoi(1, 40);
  EXPECT_FALSE(m.is_active(40, 0));
}

TEST(VGic, ClearingWhatAnotherVcpuHas) {
  FakeMachine m;
  m.set_edge(40);
  m.enable(40);
  m.route(40, 1);
  m.pulse(40);
  m.write_gicd(0, 0x284, 1U << 8);  // ICPENDR
  EXPECT_EQ(m.ack(1), kSpurious);
  m.pulse(40);
  EXPECT_EQ(m.ack(1), 40U);
  m.write_gicd(0, 0x384, 1U << 8);  // ICACTIVER
  EXPECT_FALSE(m.is_active(40));
  m.write_gicd(0, 0x304, 1U << 8);  // ISACTIVER
  EXPECT_TRUE(m.is_active(40));
  m.pulse(40);
  EXPECT_EQ(m.ack(1), kSpurious);
}

// ICC_DIR_EL1 of an SPI on another vCPU than the one that took it (IHI 0069: its active state is the distributor's).
class AnotherVcpu : public testing::Test {
 protected:
  FakeMachine m;
  void SetUp() override {
    for (unsigned v = 0; v < 2; ++v) m.cpu(v).vmcr.set<IchVmcr::VEOIM>(true);
    m.set_edge(40);
    m.enable(40);
    m.route(40, 1);
  }
  void take_and_drop() {
    m.pulse(40);
    ASSERT_EQ(m.ack(1), 40U);
    m.eoi(1, 40);
    ASSERT_TRUE(m.is_active(40));
  }
  void expect_comes_again() {
    EXPECT_FALSE(m.is_active(40));
    m.pulse(40);
    EXPECT_EQ(m.ack(1), 40U);
    m.eoi(1, 40);
    EXPECT_TRUE(m.is_active(40));
    m.dir(1, 40);
    EXPECT_FALSE(m.is_active(40));
  }
};

TEST_F(AnotherVcpu, Deactivates) {
  take_and_drop();
  m.dir(0, 40);
  expect_comes_again();
}

TEST_F(AnotherVcpu, DeactivatesWhatIsPendingAgain) {
  take_and_drop();
  m.pulse(40);
  EXPECT_EQ(m.ack(1), kSpurious);
  m.dir(0, 40);
  EXPECT_EQ(m.ack(1), 40U);
  m.eoi(1, 40);
  m.dir(0, 40);
  expect_comes_again();
}

TEST_F(AnotherVcpu, DeactivatesALevelThatIsStillThere) {
  m.enable(33);
  m.route(33, 1);
  m.level(33, true);
  ASSERT_EQ(m.ack(1), 33U);
  m.eoi(1, 33);
  m.dir(0, 33);
  EXPECT_EQ(m.ack(1), 33U);
  m.level(33, false);
  m.eoi(1, 33);
  m.dir(0, 33);
  EXPECT_EQ(m.ack(1), kSpurious);
  EXPECT_FALSE(m.is_active(33));
}

TEST_F(AnotherVcpu, DeactivatesWhatIsInNoListRegister) {
  take_and_drop();
  for (unsigned n = 0; n < 6; ++n) {  // push it out
    m.set_edge(100 + n);
    m.set_priority(100 + n, 0x80 + 8 * n);
    m.enable(100 + n);
    m.route(100 + n, 1);
    m.pulse(100 + n);
  }
  m.dir(0, 40);
  for (unsigned n = 0; n < 6; ++n) {
    EXPECT_EQ(m.ack(1), 100 + n);
    m.eoi(1, 100 + n);
    m.dir(1, 100 + n);
  }
  expect_comes_again();
}

TEST_F(AnotherVcpu, DeactivatesForOneThatIsOff) {
  take_and_drop();
  m.on(1, [&] { m.vgic->offline(1); });
  EXPECT_TRUE(m.is_active(40)) << "the distributor's, not the CPU's";
  m.pulse(40);
  m.route(40, 0);
  EXPECT_EQ(m.ack(0), kSpurious) << "active";
  m.dir(0, 40);
  EXPECT_EQ(m.ack(0), 40U) << "and goes where it is routed to";
}

TEST_F(AnotherVcpu, DeactivatesWhatIsRoutedHereMeanwhile) {
  take_and_drop();
  m.route(40, 0);
  m.pulse(40);
  EXPECT_EQ(m.ack(0), kSpurious);
  m.dir(0, 40);
  EXPECT_EQ(m.ack(1), kSpurious);
  EXPECT_EQ(m.ack(0), 40U);
}

TEST_F(AnotherVcpu, DeactivatesWhatWasMadeActiveByRegister) {
  m.write_gicd(0, 0x304, 1U << 8);  // ISACTIVER
  EXPECT_TRUE(m.is_active(40));
  m.dir(0, 40);
  expect_comes_again();
}

// Without the bit in ICC_CTLR_EL1 of the vCPU that writes, the write is ignored; PPIs and SGIs are each vCPU's own.
TEST_F(AnotherVcpu, DeactivatesOnlyWithEoiModeAndOnlySpis) {
  take_and_drop();
  m.cpu(0).vmcr.set<IchVmcr::VEOIM>(false);
  m.dir(0, 40);
  EXPECT_TRUE(m.is_active(40));
  m.cpu(0).vmcr.set<IchVmcr::VEOIM>(true);
  m.enable(5, true, 1);
  m.sgi(0, sgi_to(5, 2));
  ASSERT_EQ(m.ack(1), 5U);
  m.eoi(1, 5);
  m.dir(0, 5);
  EXPECT_TRUE(m.is_active(5, 1));
  m.dir(1, 5);
  EXPECT_FALSE(m.is_active(5, 1));
}

TEST(VGic, PriorityAndGroupOfWhatAnotherVcpuHas) {
  FakeMachine m;
  for (const std::uint32_t intid : {40U, 41U}) {
    m.set_edge(intid);
    m.enable(intid);
    m.route(intid, 1);
    m.set_priority(intid, 0xa0);
    m.pulse(intid);
  }
  m.set_priority(41, 0x80);
  EXPECT_EQ(m.take(1), 41U);
  m.write_gicd(0, 0x84, ~(1U << 8));  // 40: group 0
  m.cpu(1).vmcr.set<IchVmcr::VENG0>(false);
  EXPECT_EQ(m.ack(1), kSpurious);
  m.cpu(1).vmcr.set<IchVmcr::VENG0>(true);
  EXPECT_EQ(m.take(1), 40U);
}

TEST(VGic, RouterByHalvesAndAnotherVcpusRedistributor) {
  FakeMachine m{20};
  m.write_gicd(0, 0x6000 + 8 * 40, 0x101);  // vCPU 17
  m.write_gicd(0, 0x6000 + 8 * 40 + 4, 0);
  EXPECT_EQ(m.read_gicd(0, 0x6000 + 8 * 40, 8), 0x101U);
  m.set_edge(40);
  m.enable(40);
  m.pulse(40);
  EXPECT_EQ(m.take(17), 40U);
  const std::uint64_t enable = gic::kGicrFrame + 0x100;
  m.write_gicr(3, 17 * gic::kGicrBytes + enable, 1U << 3);
  EXPECT_EQ(m.read_gicr(5, 17 * gic::kGicrBytes + enable) & 8, 8U);
  EXPECT_EQ(m.read_gicr(5, enable) & 8, 0U);
}

// What ICC_DIR_EL1 costs is for guests that use it: the hardware does the rest without an exit.
TEST(VGic, TrapsDeactivationWhereAnotherVcpuMayHaveTheInterrupt) {
  FakeMachine one{1}, two{2}, without{2, 4, false};
  EXPECT_FALSE(one.cpu(0).hcr.get<IchHcr::TDIR>());
  EXPECT_TRUE(two.cpu(0).hcr.get<IchHcr::TDIR>());
  EXPECT_FALSE(without.cpu(0).hcr.get<IchHcr::TDIR>()) << "the hardware has no such trap";
}

TEST(VGic, WritesPendingIsVisibleUntilAnotherVcpuIsThrough) {
  FakeMachine m;
  m.set_edge(40);
  m.enable(40);
  m.route(40, 1);
  m.pulse(40);
  m.vgic->write_gicd(0, 0x184, 4, 1U << 8);
  EXPECT_NE(m.vgic->read_gicd(0, 0, 4) & gic::GicdCtlr::RWP::mask, 0U);
  m.enter(1);
  EXPECT_EQ(m.vgic->read_gicd(0, 0, 4) & gic::GicdCtlr::RWP::mask, 0U);
  EXPECT_EQ(m.ack(1), kSpurious);
}

TEST(VGic, OfflineKeepsSpisForOthers) {
  FakeMachine m;
  m.set_edge(40);
  m.enable(40);
  m.route(40, 1);
  m.pulse(40);
  m.on(1, [&] { m.vgic->offline(1); });
  EXPECT_EQ(m.valid_lrs(1), 0U);
  EXPECT_TRUE(m.is_pending(40));
  m.route(40, 0);
  EXPECT_EQ(m.take(0), 40U);
  m.pulse(40);
  m.route(40, 1);
  m.bring_up(1);
  EXPECT_EQ(m.take(1), 40U);
}

TEST(VGic, PendingForSuspend) {
  FakeMachine m;
  EXPECT_FALSE(m.vgic->pending(0));
  m.set_edge(40);
  m.pulse(40);
  EXPECT_FALSE(m.vgic->pending(0));
  m.enable(40);
  EXPECT_TRUE(m.vgic->pending(0));
  EXPECT_EQ(m.ack(0), 40U);
  EXPECT_FALSE(m.vgic->pending(0));
}

}  // namespace
}  // namespace weir
