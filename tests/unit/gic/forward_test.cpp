// Physical interrupts that are a guest's.
#include <gtest/gtest.h>

#include "fake_machine.hpp"

namespace weir {
namespace {

class Forward : public testing::Test {
 protected:
  static constexpr std::uint32_t kIntid = 35;
  static constexpr std::uint32_t kPhysical = 37;
  FakeMachine m;
  FakeMachine::Physical& p = m.physical_at(kPhysical);
  void SetUp() override { ASSERT_TRUE(m.vgic->bind_spi(kIntid, kPhysical)); }
};

TEST_F(Forward, BindingIsExclusive) {
  EXPECT_FALSE(m.vgic->bind_spi(kIntid, 50));
  EXPECT_FALSE(m.vgic->bind_spi(36, kPhysical));
  EXPECT_FALSE(m.vgic->bind_spi(36, 31));
  EXPECT_FALSE(m.vgic->bind_spi(36, 1020));
  EXPECT_FALSE(m.vgic->bind_spi(36, 300)) << "the machine has no such SPI";
  EXPECT_FALSE(m.vgic->bind_spi(kVgicIntids, 51));
  EXPECT_FALSE(m.vgic->bind_spi(31, 51));
  EXPECT_TRUE(m.vgic->bind_spi(36, 51));
}

TEST_F(Forward, MessagesDoNotMakeIt) {
  m.enable(kIntid);
  m.write_gicd(0, 0x40, kIntid);
  EXPECT_EQ(m.ack(0), kSpurious);
  m.set_edge(kIntid);
  m.write_gicd(0, 0x40, kIntid);
  EXPECT_EQ(m.ack(0), kSpurious);
  EXPECT_FALSE(p.pending);
}

TEST_F(Forward, MirrorsTheGuestsRegisters) {
  EXPECT_FALSE(p.enabled);
  m.enable(kIntid);
  EXPECT_TRUE(p.enabled);
  m.set_edge(kIntid);
  EXPECT_TRUE(p.edge);
  m.route(kIntid, 1);
  EXPECT_EQ(p.vcpu, 1U);
  m.route(kIntid, 77);
  EXPECT_EQ(p.vcpu, 1U);
  m.enable(kIntid, false);
  EXPECT_FALSE(p.enabled);
}

// What is raised where its vCPU runs.
TEST_F(Forward, GoesIntoAListRegisterAtOnce) {
  m.enable(kIntid);
  for (int round = 0; round < 3; ++round) {  // again, too, although nobody has looked at the list register since
    p.active = true;
    m.on(0, [&] { EXPECT_TRUE(m.vgic->taken(0, kIntid)); });
    EXPECT_FALSE(m.vgic->cpu(0).has_work());
    EXPECT_EQ(m.take(0), kIntid);
    EXPECT_FALSE(p.active);
    EXPECT_EQ(m.valid_lrs(0), 0U);
  }
}

TEST_F(Forward, WaitsForAFlushWhereItCannotGoAtOnce) {
  const auto taken_on = [&](unsigned v) {
    p.active = true;
    m.on(v, [&] { EXPECT_TRUE(m.vgic->taken(v, kIntid)); });
  };
  taken_on(0);
  EXPECT_EQ(m.valid_lrs(0), 0U) << "disabled";
  EXPECT_FALSE(p.active) << "given back";
  m.enable(kIntid);
  taken_on(1);
  EXPECT_EQ(m.valid_lrs(0), 0U) << "another's list registers";
  EXPECT_TRUE(m.cpu(0).kicked);
  m.enter_all();
  EXPECT_EQ(m.take(0), kIntid);
  for (std::uint32_t n = 40; n < 44; ++n) {  // all list registers
    m.enable(n);
    m.set_edge(n);
    m.pulse(n);
  }
  taken_on(0);
  EXPECT_TRUE(m.vgic->cpu(0).has_work());
  m.enter_all();
  EXPECT_EQ(m.take(0), kIntid) << "of the same priority, and the lowest INTID";
}

TEST_F(Forward, TheGuestsEoiIsThePhysicalOne) {
  m.enable(kIntid);
  EXPECT_TRUE(m.fire(kPhysical));
  EXPECT_TRUE(p.active);
  EXPECT_EQ(m.ack(0), kIntid);
  EXPECT_FALSE(m.fire(kPhysical)) << "active";
  m.eoi(0, kIntid);
  EXPECT_FALSE(p.active);
  EXPECT_TRUE(m.deliver(kPhysical));
  EXPECT_EQ(m.take(0), kIntid);
  EXPECT_FALSE(p.active);
  EXPECT_EQ(m.maintenance_interrupts, 0U);
}

TEST_F(Forward, SplitDeactivation) {
  m.cpu(0).vmcr.set<gic::IchVmcr::VEOIM>(true);
  m.enable(kIntid);
  EXPECT_TRUE(m.fire(kPhysical));
  EXPECT_EQ(m.ack(0), kIntid);
  m.eoi(0, kIntid);
  EXPECT_TRUE(p.active);
  m.dir(0, kIntid);
  EXPECT_FALSE(p.active);
}

TEST_F(Forward, SplitDeactivationByAnotherVcpu) {
  for (unsigned v = 0; v < 2; ++v) m.cpu(v).vmcr.set<gic::IchVmcr::VEOIM>(true);
  m.enable(kIntid);
  m.route(kIntid, 1);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(m.fire(kPhysical));
    ASSERT_EQ(m.ack(1), kIntid);
    m.eoi(1, kIntid);
    EXPECT_TRUE(p.active);
    m.dir(0, kIntid);
    EXPECT_FALSE(p.active);
    EXPECT_FALSE(m.is_active(kIntid));
  }
}

TEST_F(Forward, SplitDeactivationForAVcpuThatIsOff) {
  for (unsigned v = 0; v < 2; ++v) m.cpu(v).vmcr.set<gic::IchVmcr::VEOIM>(true);
  m.enable(kIntid);
  m.route(kIntid, 1);
  ASSERT_TRUE(m.fire(kPhysical));
  ASSERT_EQ(m.ack(1), kIntid);
  m.eoi(1, kIntid);
  m.on(1, [&] { m.vgic->offline(1); });
  EXPECT_TRUE(p.active);
  m.dir(0, kIntid);
  EXPECT_FALSE(p.active);
  m.route(kIntid, 0);
  ASSERT_TRUE(m.fire(kPhysical));
  EXPECT_EQ(m.ack(0), kIntid);
}

TEST_F(Forward, DisabledWhileActive) {
  m.enable(kIntid);
  ASSERT_TRUE(m.fire(kPhysical));
  ASSERT_EQ(m.ack(0), kIntid);
  m.enable(kIntid, false);
  m.eoi(0, kIntid);
  EXPECT_FALSE(p.active);
  m.enable(kIntid);
  EXPECT_TRUE(m.fire(kPhysical));
  EXPECT_EQ(m.take(0), kIntid);
}

TEST_F(Forward, SetAndClearedPending) {
  m.enable(kIntid);
  m.write_gicd(0, 0x204, 1U << 3);
  m.write_gicd(0, 0x284, 1U << 3);
  m.deliver(kPhysical);
  EXPECT_EQ(m.ack(0), kSpurious);
  EXPECT_TRUE(m.fire(kPhysical));
  EXPECT_EQ(m.take(0), kIntid);
  EXPECT_FALSE(p.active);
}

TEST_F(Forward, DisabledWhilePendingGoesBack) {
  m.enable(kIntid);
  EXPECT_TRUE(m.fire(kPhysical));
  m.enable(kIntid, false);
  EXPECT_EQ(m.ack(0), kSpurious);
  EXPECT_FALSE(p.active);
  EXPECT_FALSE(p.pending) << "a level speaks for itself";
  m.enable(kIntid);
  EXPECT_TRUE(m.fire(kPhysical));
  EXPECT_EQ(m.take(0), kIntid);

  m.set_edge(kIntid);
  EXPECT_TRUE(m.fire(kPhysical));
  m.enable(kIntid, false);
  EXPECT_FALSE(p.active);
  EXPECT_TRUE(p.pending) << "an edge is kept";
  EXPECT_TRUE(m.is_pending(kIntid));
  m.enable(kIntid);
  EXPECT_TRUE(m.deliver(kPhysical));
  EXPECT_EQ(m.take(0), kIntid);
}

TEST_F(Forward, PendingAndActiveRegistersReachThePhysicalInterrupt) {
  m.enable(kIntid);
  m.write_gicd(0, 0x204, 1U << 3);  // ISPENDR
  EXPECT_TRUE(p.pending);
  EXPECT_TRUE(m.deliver(kPhysical));
  m.write_gicd(0, 0x284, 1U << 3);  // ICPENDR
  EXPECT_FALSE(p.active);
  EXPECT_EQ(m.ack(0), kSpurious);
  EXPECT_TRUE(m.fire(kPhysical));
  EXPECT_EQ(m.ack(0), kIntid);
  m.write_gicd(0, 0x384, 1U << 3);  // ICACTIVER
  EXPECT_FALSE(p.active);
  m.write_gicd(0, 0x304, 1U << 3);  // ISACTIVER
  EXPECT_TRUE(p.active);
  EXPECT_TRUE(m.is_active(kIntid));
  m.write_gicd(0, 0x384, 1U << 3);
  EXPECT_FALSE(p.active);
}

TEST_F(Forward, RoutedElsewhereWhilePending) {
  m.enable(kIntid);
  EXPECT_TRUE(m.fire(kPhysical));
  m.route(kIntid, 1);
  EXPECT_EQ(m.ack(0), kSpurious);
  EXPECT_EQ(m.take(1), kIntid);
  EXPECT_FALSE(p.active);
}

TEST_F(Forward, EvictedWhileActive) {
  m.enable(kIntid);
  m.set_priority(kIntid, 0xe0);
  EXPECT_TRUE(m.fire(kPhysical));
  EXPECT_EQ(m.ack(0), kIntid);
  for (unsigned n = 0; n < 6; ++n) {
    m.set_edge(100 + n);
    m.set_priority(100 + n, 0x80);
    m.enable(100 + n);
  }
  for (unsigned n = 0; n < 6; ++n) m.pulse(100 + n);
  for (unsigned n = 0; n < 6; ++n) EXPECT_EQ(m.take(0), 100 + n);
  EXPECT_TRUE(p.active);
  m.eoi(0, kIntid);
  EXPECT_FALSE(p.active);
}

TEST_F(Forward, EvictedWhileActiveAndEndedThere) {
  FakeMachine one{1, 1};
  ASSERT_TRUE(one.vgic->bind_spi(kIntid, kPhysical));
  one.enable(kIntid);
  EXPECT_TRUE(one.fire(kPhysical));
  EXPECT_EQ(one.ack(0), kIntid);
  one.set_edge(100);
  one.set_priority(100, 0x80);
  one.enable(100);
  one.pulse(100);  // less urgent: takes the only list register, and stays pending
  one.eoi(0, kIntid);
  EXPECT_FALSE(one.physical_at(kPhysical).active);
  EXPECT_EQ(one.take(0), 100U);
}

TEST_F(Forward, EmulatedSourcesCannotRaiseIt) {
  m.enable(kIntid);
  m.pulse(kIntid);
  m.level(kIntid, true);
  EXPECT_EQ(m.ack(0), kSpurious);
}

TEST_F(Forward, Teardown) {
  m.enable(kIntid);
  m.set_priority(kIntid, 0x80);
  m.write_sgi_frame(0, 0x100, 1U << 27);
  EXPECT_TRUE(m.fire(kPhysical));
  EXPECT_TRUE(m.fire(27));
  EXPECT_EQ(m.ack(0), 27U);
  for (unsigned v = 0; v < 2; ++v) m.on(v, [&] { m.vgic->offline(v); });
  EXPECT_FALSE(m.physical_at(27).active);
  EXPECT_FALSE(m.physical_at(27).enabled);
  EXPECT_TRUE(p.active);
  m.vgic->unbind_spi(kIntid);
  EXPECT_FALSE(p.active);
  EXPECT_FALSE(p.pending);
  EXPECT_FALSE(p.enabled);
  EXPECT_EQ(p.bound, 0U);
  EXPECT_FALSE(m.vgic->taken(0, kIntid)) << "one that was on its way";
  m.vgic->release();
}

TEST_F(Forward, UnboundWhileInAListRegister) {
  m.enable(kIntid);
  EXPECT_TRUE(m.fire(kPhysical));
  EXPECT_EQ(m.ack(0), kIntid);
  m.vgic->release();
  EXPECT_FALSE(p.enabled);
  EXPECT_FALSE(p.active);
  m.eoi(0, kIntid);
  EXPECT_EQ(m.ack(0), kSpurious);
}

TEST(ForwardPpi, TimerOfEachVcpu) {
  FakeMachine m;
  m.write_sgi_frame(0, 0x100, 1U << 27);
  EXPECT_TRUE(m.physical_at(27, 0).enabled);
  EXPECT_FALSE(m.physical_at(27, 1).enabled);
  m.write_sgi_frame(1, 0x100, 1U << 27);
  EXPECT_TRUE(m.fire(27, 0));
  EXPECT_TRUE(m.fire(27, 1));
  EXPECT_EQ(m.take(1), 27U);
  EXPECT_FALSE(m.physical_at(27, 1).active);
  EXPECT_TRUE(m.physical_at(27, 0).active);
  EXPECT_EQ(m.take(0), 27U);
  EXPECT_FALSE(m.physical_at(27, 0).active);
}

TEST(ForwardPpi, SilentWhileOffAndBackAfterwards) {
  FakeMachine m;
  m.write_sgi_frame(1, 0x100, 1U << 27);
  EXPECT_TRUE(m.fire(27, 1));
  m.on(1, [&] { m.vgic->offline(1); });
  EXPECT_FALSE(m.physical_at(27, 1).enabled);
  EXPECT_FALSE(m.physical_at(27, 1).active);
  m.write_gicr(0, gic::kGicrBytes + gic::kGicrFrame + 0x180, 1U << 27);
  m.write_gicr(0, gic::kGicrBytes + gic::kGicrFrame + 0x100, 1U << 27);
  EXPECT_FALSE(m.physical_at(27, 1).enabled);
  m.bring_up(1);
  EXPECT_TRUE(m.physical_at(27, 1).enabled);
  EXPECT_EQ(m.ack(1), kSpurious);
  EXPECT_TRUE(m.fire(27, 1));
  EXPECT_EQ(m.take(1), 27U);
}

}  // namespace
}  // namespace weir
