// Interrupts of a vSMMU: wired, by MSI, enabled and disabled (IHI 0070, 3.18, 4.7.3, 6.3.16, 7.5.1).
#include "vsmmu/irq.hpp"

#include <tuple>

#include "tests/unit/vsmmu/fixture.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;
using vsmmu::Announced;
using vsmmu::Effect;
using vsmmu::Irq;
using vsmmu::IrqUnit;

constexpr std::uint64_t kDoorbell = 0x808'0040;

class Irqs : public ::testing::Test {
 protected:
  explicit Irqs(bool msi = true) {
    announced.idr0.set<IDR0::ATS>(true).set<IDR0::PRI>(true).set<IDR0::MSI>(msi).set<IDR0::SEV>(true);
    announced.idr1.set<IDR1::CMDQS>(8).set<IDR1::EVENTQS>(8).set<IDR1::PRIQS>(8);
    announced.idr5.set<IDR5::OAS>(AddressSize::bits40);
    file.emplace(vsmmu::RegisterPages{page0, page1}, announced);
    unit.emplace(announced, *file, lock, out);
    out.on_raise = [this](Irq irq) {
      order.push_back(irq);
      // Nobody is called with the lock held.
      EXPECT_TRUE(lock.try_lock());
      lock.unlock();
    };
  }
  void write(Reg reg, std::uint64_t value, unsigned size = 4) {
    const weir::SpinLock::Guard guard{lock};
    if (file->write(static_cast<std::uint32_t>(reg), size, value) == Effect::irq_ctrl) unit->acknowledge();
  }
  std::uint64_t read(Reg reg) { return file->read(static_cast<std::uint32_t>(reg), 4); }
  // Address and data of each source differ.
  void configure_msis() {
    write(Reg::EVENTQ_IRQ_CFG0, kDoorbell, 8);
    write(Reg::EVENTQ_IRQ_CFG1, 0xe);
    write(Reg::PRIQ_IRQ_CFG0, kDoorbell + 4, 8);
    write(Reg::PRIQ_IRQ_CFG1, 0xa);
    write(Reg::GERROR_IRQ_CFG0, kDoorbell + 8, 8);
    write(Reg::GERROR_IRQ_CFG1, 0x9);
  }
  IrqUnit::Due due(Irq source) {
    IrqUnit::Due d;
    const weir::SpinLock::Guard guard{lock};
    unit->signal(source, d);
    return d;
  }
  void occur(Irq source) {
    IrqUnit::Due d = due(source);
    unit->send(d);
    EXPECT_TRUE(d.empty());
  }
  template <typename ErrorBit>
  void error() {
    IrqUnit::Due d;
    {
      const weir::SpinLock::Guard guard{lock};
      unit->activate<ErrorBit>(d);
    }
    unit->send(d);
  }
  [[nodiscard]] GERROR errors() const { return file->errors(); }

  std::array<std::uint32_t, 1024> page0{};
  std::array<std::uint32_t, 1024> page1{};
  Announced announced;
  weir::SpinLock lock;
  FakeInterrupts out;
  std::vector<Irq> order;
  std::optional<vsmmu::RegisterFile> file;
  std::optional<IrqUnit> unit;
};

constexpr std::uint32_t kAll = IRQ_CTRL::EVENTQ_IRQEN::mask | IRQ_CTRL::PRIQ_IRQEN::mask | IRQ_CTRL::GERROR_IRQEN::mask;
constexpr std::array kSources{std::tuple{Irq::evtq, IRQ_CTRL::EVENTQ_IRQEN::mask},
                              std::tuple{Irq::priq, IRQ_CTRL::PRIQ_IRQEN::mask},
                              std::tuple{Irq::gerror, IRQ_CTRL::GERROR_IRQEN::mask}};

TEST_F(Irqs, EachSourceHasItsOwnEnable) {
  for (const auto& [source, enable] : kSources) {
    write(Reg::IRQ_CTRL, kAll & ~enable);
    out.count.clear();
    occur(source);
    EXPECT_TRUE(out.count.empty());
    write(Reg::IRQ_CTRL, enable);
    for (const auto& [other, _] : kSources) occur(other);
    EXPECT_EQ(out.count, (std::map<Irq, unsigned>{{source, 1}}));
  }
  EXPECT_TRUE(out.messages.empty());
}

TEST_F(Irqs, AnAddressOf0SendsNoMsi) {
  write(Reg::EVENTQ_IRQ_CFG1, 5);
  write(Reg::IRQ_CTRL, kAll);
  occur(Irq::evtq);
  EXPECT_EQ(out.count[Irq::evtq], 1u);
  EXPECT_TRUE(out.messages.empty());
}

TEST_F(Irqs, WireAndMessageTogether) {
  configure_msis();
  write(Reg::IRQ_CTRL, kAll);
  for (const auto& [source, _] : kSources) occur(source);
  EXPECT_EQ(out.messages, (std::vector<FakeInterrupts::Message>{
                              {IPA{kDoorbell}, 0xe}, {IPA{kDoorbell + 4}, 0xa}, {IPA{kDoorbell + 8}, 0x9}}));
  EXPECT_EQ(out.count, (std::map<Irq, unsigned>{{Irq::evtq, 1}, {Irq::priq, 1}, {Irq::gerror, 1}}));
}

TEST_F(Irqs, DisabledSourcesSendNoMessages) {
  configure_msis();
  for (const auto& [source, _] : kSources) occur(source);
  EXPECT_TRUE(out.messages.empty());
}

TEST_F(Irqs, OccurrencesBeforeTheEnableAreForgotten) {
  occur(Irq::evtq);
  write(Reg::IRQ_CTRL, kAll);
  EXPECT_TRUE(out.count.empty());
}

// 3.18: what has not been sent yet may be coalesced.
TEST_F(Irqs, OneInterruptForWhatHappensTogether) {
  configure_msis();
  write(Reg::IRQ_CTRL, kAll);
  IrqUnit::Due d;
  {
    const weir::SpinLock::Guard guard{lock};
    unit->signal(Irq::evtq, d);
    unit->signal(Irq::evtq, d);
  }
  unit->send(d);
  EXPECT_EQ(out.messages.size(), 1u);
  write(Reg::IRQ_CTRL, 0);
  EXPECT_EQ(read(Reg::IRQ_CTRLACK), 0u);  // and only one was under way
}

TEST_F(Irqs, AnAbortedMessageIsAGlobalError) {
  configure_msis();
  write(Reg::IRQ_CTRL, kAll & ~IRQ_CTRL::GERROR_IRQEN::mask);
  out.refuse_messages = true;
  occur(Irq::evtq);
  EXPECT_EQ(errors(), GERROR{}.set<GERROR::MSI_EVENTQ_ABT_ERR>(true));
  occur(Irq::priq);
  EXPECT_EQ(errors(), GERROR{}.set<GERROR::MSI_EVENTQ_ABT_ERR>(true).set<GERROR::MSI_PRIQ_ABT_ERR>(true));
  EXPECT_EQ(out.count[Irq::gerror], 0u);
  EXPECT_EQ(out.count[Irq::evtq], 1u);  // the wire is asserted all the same
}

TEST_F(Irqs, AnAbortRaisesTheGlobalErrorInterruptOnce) {
  write(Reg::EVENTQ_IRQ_CFG0, kDoorbell, 8);
  write(Reg::IRQ_CTRL, kAll);
  out.refuse_messages = true;
  out.on_raise = [&](Irq irq) {
    order.push_back(irq);
    // The error is visible before its interrupt (3.18).
    if (irq == Irq::gerror) EXPECT_TRUE(errors().get<GERROR::MSI_EVENTQ_ABT_ERR>());
  };
  occur(Irq::evtq);
  EXPECT_EQ(order, (std::vector{Irq::evtq, Irq::gerror}));
  occur(Irq::evtq);  // active already: not logged again (7.5), and future MSIs are sent
  EXPECT_EQ(order, (std::vector{Irq::evtq, Irq::gerror, Irq::evtq}));
  write(Reg::GERRORN, read(Reg::GERROR));
  occur(Irq::evtq);
  EXPECT_EQ(order.back(), Irq::gerror);
}

// 7.5.1: sending another to the same address might cause a second abort.
TEST_F(Irqs, AnAbortedGlobalErrorMessageRaisesNothing) {
  configure_msis();
  write(Reg::IRQ_CTRL, kAll);
  out.refuse_messages = true;
  error<GERROR::EVENTQ_ABT_ERR>();
  EXPECT_EQ(errors(), GERROR{}.set<GERROR::EVENTQ_ABT_ERR>(true).set<GERROR::MSI_GERROR_ABT_ERR>(true));
  EXPECT_EQ(out.count[Irq::gerror], 1u);
}

TEST_F(Irqs, EventAndGlobalErrorMessagesMayBothAbort) {
  configure_msis();
  write(Reg::IRQ_CTRL, kAll);
  out.refuse_messages = true;
  occur(Irq::evtq);
  EXPECT_EQ(errors(), GERROR{}.set<GERROR::MSI_EVENTQ_ABT_ERR>(true).set<GERROR::MSI_GERROR_ABT_ERR>(true));
  EXPECT_EQ(order, (std::vector{Irq::evtq, Irq::gerror}));
  write(Reg::IRQ_CTRL, 0);
  EXPECT_EQ(read(Reg::IRQ_CTRLACK), 0u);
}

TEST_F(Irqs, AnActiveErrorInterruptsOnce) {
  write(Reg::IRQ_CTRL, kAll);
  error<GERROR::CMDQ_ERR>();
  error<GERROR::CMDQ_ERR>();
  EXPECT_EQ(out.count[Irq::gerror], 1u);
  error<GERROR::PRIQ_ABT_ERR>();
  EXPECT_EQ(out.count[Irq::gerror], 2u);
}

// 6.3.16: an Update from 1 to 0 completes when all prior MSIs have completed, and nothing follows it.
TEST_F(Irqs, TheAcknowledgeWaitsForWhatIsUnderWay) {
  configure_msis();
  for (const auto& [source, enable] : kSources) {
    write(Reg::IRQ_CTRL, kAll);
    IrqUnit::Due first = due(source);
    IrqUnit::Due second = due(source);
    write(Reg::IRQ_CTRL, 0);
    EXPECT_EQ(read(Reg::IRQ_CTRL), 0u);
    EXPECT_EQ(read(Reg::IRQ_CTRLACK), enable);  // the others have nothing under way
    occur(source);                              // disabled: not due any more
    unit->send(first);
    EXPECT_EQ(read(Reg::IRQ_CTRLACK), enable);
    out.on_raise = [&, on = enable](Irq) { EXPECT_EQ(read(Reg::IRQ_CTRLACK), on); };
    unit->send(second);
    EXPECT_EQ(read(Reg::IRQ_CTRLACK), 0u);
    out.on_raise = nullptr;
    out.count.clear();
    out.messages.clear();
    occur(source);
    EXPECT_TRUE(out.count.empty());
    EXPECT_TRUE(out.messages.empty());
  }
}

TEST_F(Irqs, AnAbortIsVisibleBeforeTheAcknowledge) {
  configure_msis();
  write(Reg::IRQ_CTRL, IRQ_CTRL::EVENTQ_IRQEN::mask);
  IrqUnit::Due d = due(Irq::evtq);
  write(Reg::IRQ_CTRL, 0);
  out.refuse_messages = true;
  out.on_raise = [&](Irq) { EXPECT_NE(read(Reg::IRQ_CTRLACK), 0u); };
  unit->send(d);
  EXPECT_TRUE(errors().get<GERROR::MSI_EVENTQ_ABT_ERR>());
  EXPECT_EQ(read(Reg::IRQ_CTRLACK), 0u);
}

TEST_F(Irqs, TheConfigurationHoldsUntilTheAcknowledge) {
  configure_msis();
  write(Reg::IRQ_CTRL, kAll);
  IrqUnit::Due d = due(Irq::evtq);
  write(Reg::IRQ_CTRL, 0);
  write(Reg::EVENTQ_IRQ_CFG0, 0x4000, 8);
  write(Reg::EVENTQ_IRQ_CFG1, 1);
  write(Reg::PRIQ_IRQ_CFG1, 1);  // another source's
  EXPECT_EQ(read(Reg::EVENTQ_IRQ_CFG0), kDoorbell);
  EXPECT_EQ(read(Reg::EVENTQ_IRQ_CFG1), 0xeu);
  EXPECT_EQ(read(Reg::PRIQ_IRQ_CFG1), 1u);
  unit->send(d);
  EXPECT_EQ(out.messages.back(), (FakeInterrupts::Message{IPA{kDoorbell}, 0xe}));
  write(Reg::EVENTQ_IRQ_CFG0, 0x4000, 8);
  EXPECT_EQ(read(Reg::EVENTQ_IRQ_CFG0), 0x4000u);
  // After the source is enabled again, the new configuration is used (3.18.1).
  write(Reg::IRQ_CTRL, kAll);
  occur(Irq::evtq);
  EXPECT_EQ(out.messages.back(), (FakeInterrupts::Message{IPA{0x4000}, 0xe}));
}

// 6.3.9, for IRQ_CTRL too: the old value again, and the Update ceases.
TEST_F(Irqs, ASourceEnabledAgainBeforeTheAcknowledgeWasNeverDisabled) {
  write(Reg::IRQ_CTRL, kAll);
  IrqUnit::Due d = due(Irq::evtq);
  write(Reg::IRQ_CTRL, 0);
  write(Reg::IRQ_CTRL, kAll);
  unit->send(d);
  EXPECT_EQ(read(Reg::IRQ_CTRLACK), kAll);
}

TEST_F(Irqs, QuiesceDisablesEverything) {
  write(Reg::IRQ_CTRL, kAll);
  unit->quiesce();
  EXPECT_EQ(read(Reg::IRQ_CTRL), 0u);
  EXPECT_EQ(read(Reg::IRQ_CTRLACK), 0u);
}

// --- CMD_SYNC (4.7.3) ------------------------------------------------------------------------------------------------

Sync sync(SyncSignal cs, std::uint64_t address = 0, std::uint32_t data = 0) {
  return Sync{}.set<Sync::CS>(cs).set<Sync::MSIAddress>(address).set<Sync::MSIData>(data);
}

TEST_F(Irqs, SyncSignals) {
  unit->sync_completed(sync(SyncSignal::none, kDoorbell, 1));
  EXPECT_TRUE(out.count.empty());
  EXPECT_EQ(out.events, 0u);
  unit->sync_completed(sync(SyncSignal::sev, kDoorbell, 1));
  EXPECT_EQ(out.events, 1u);
  EXPECT_TRUE(out.messages.empty());
  // Whatever IRQ_CTRL says: it has no enable.
  unit->sync_completed(sync(SyncSignal::irq));
  EXPECT_EQ(out.count, (std::map<Irq, unsigned>{{Irq::cmdq_sync, 1}}));
  EXPECT_TRUE(out.messages.empty());
  // The wire regardless of MSIAddress.
  unit->sync_completed(sync(SyncSignal::irq, kDoorbell, 0x1234'5678));
  EXPECT_EQ(out.count[Irq::cmdq_sync], 2u);
  EXPECT_EQ(out.messages, (std::vector<FakeInterrupts::Message>{{IPA{kDoorbell}, 0x1234'5678}}));
}

TEST_F(Irqs, SyncAddressesAreCutAfterTheComparisonWith0) {
  unit->sync_completed(sync(SyncSignal::irq, std::uint64_t{1} << 40 | 0x44, 7));
  unit->sync_completed(sync(SyncSignal::irq, std::uint64_t{1} << 55, 8));
  EXPECT_EQ(out.messages, (std::vector<FakeInterrupts::Message>{{IPA{0x44}, 7}, {IPA{0}, 8}}));
}

TEST_F(Irqs, AnAbortedSyncMessageIsAGlobalError) {
  write(Reg::IRQ_CTRL, kAll);
  out.refuse_messages = true;
  unit->sync_completed(sync(SyncSignal::irq, kDoorbell, 1));
  EXPECT_EQ(errors(), GERROR{}.set<GERROR::MSI_CMDQ_ABT_ERR>(true));
  EXPECT_EQ(order, (std::vector{Irq::cmdq_sync, Irq::gerror}));
}

class WiredIrqs : public Irqs {
 protected:
  WiredIrqs() : Irqs{false} { announced.idr0.set<IDR0::SEV>(false); }
};

TEST_F(WiredIrqs, NoMessagesWithoutMsi) {
  configure_msis();  // ignored
  EXPECT_EQ(read(Reg::EVENTQ_IRQ_CFG0), 0u);
  write(Reg::IRQ_CTRL, kAll);
  for (const auto& [source, _] : kSources) occur(source);
  unit->sync_completed(sync(SyncSignal::irq, kDoorbell, 1));
  EXPECT_TRUE(out.messages.empty());
  EXPECT_EQ(order, (std::vector{Irq::evtq, Irq::priq, Irq::gerror, Irq::cmdq_sync}));
}

TEST_F(WiredIrqs, SevWithoutSevIsNone) {
  unit->sync_completed(sync(SyncSignal::sev));
  EXPECT_EQ(out.events, 0u);
  EXPECT_TRUE(out.count.empty());
}

// --- In a vSMMU ------------------------------------------------------------------------------------------------------

constexpr VStreamID kV{3};
constexpr StreamID kP{0x33};

TEST(IrqsOfAVSmmu, SyncMessagesReachTheGuestsMemory) {
  Machine m{1};
  Virtual v{m};
  Guest g{v};
  g.enable();
  std::uint32_t seen = 0;
  v.interrupts.on_raise = [&](Irq irq) {
    if (irq == Irq::cmdq_sync) seen = g.cons();
  };
  g.submit({sync(SyncSignal::irq, kCd.value, 77), sync(SyncSignal::irq, kCd.value + 4, 78)});
  EXPECT_EQ(v.interrupts.messages, (std::vector<FakeInterrupts::Message>{{kCd, 77}, {kCd + 4, 78}}));
  EXPECT_EQ(seen, 2u);  // the consumption was visible first
  v.interrupts.refuse_messages = true;
  g.submit({sync(SyncSignal::irq, kCd.value, 79), sync_none()});
  EXPECT_EQ(g.read(Reg::GERROR) ^ g.read(Reg::GERRORN), GERROR::MSI_CMDQ_ABT_ERR::mask);
  EXPECT_EQ(g.cons(), 4u);  // the queue goes on
  EXPECT_EQ(v.interrupts.count[Irq::gerror], 1u);
}

TEST(IrqsOfAVSmmu, EventsByMessage) {
  Machine m{1};
  Virtual v{m};
  ASSERT_TRUE(v.vsmmu->attach(kV, *m.smmus[0], kP));
  Guest g{v};
  g.write64(Reg::EVENTQ_IRQ_CFG0, kDoorbell);
  g.write(Reg::EVENTQ_IRQ_CFG1, 42);
  g.enable();  // with an invalid STE
  const auto bad_ste = CBadSte{}.set<CBadSte::StreamID>(kP.value);
  (void)v.vsmmu->handle_event(*m.smmus[0], bad_ste);
  EXPECT_EQ(v.interrupts.messages, (std::vector<FakeInterrupts::Message>{{IPA{kDoorbell}, 42}}));
  (void)v.vsmmu->handle_event(*m.smmus[0], bad_ste);  // the queue was not empty
  EXPECT_EQ(v.interrupts.messages.size(), 1u);
  // Off: acknowledged at once, and no stray one afterwards.
  g.write(Reg::IRQ_CTRL, 0);
  EXPECT_EQ(g.read(Reg::IRQ_CTRLACK), 0u);
  g.write(Reg::EVENTQ_CONS, g.evtq_prod());
  (void)v.vsmmu->handle_event(*m.smmus[0], bad_ste);
  EXPECT_EQ(v.interrupts.messages.size(), 1u);
  EXPECT_EQ(v.interrupts.count[Irq::evtq], 1u);
}

// Disabled while the interrupt is being sent: the store returns, the acknowledge follows the interrupt.
TEST(IrqsOfAVSmmu, AnInterruptUnderWayHoldsTheAcknowledge) {
  Machine m{1};
  Virtual v{m};
  ASSERT_TRUE(v.vsmmu->attach(kV, *m.smmus[0], kP));
  Guest g{v};
  g.enable();
  std::uint32_t during = 0;
  v.interrupts.on_raise = [&](Irq) {
    g.write(Reg::IRQ_CTRL, 0);
    during = g.read(Reg::IRQ_CTRLACK);
  };
  (void)v.vsmmu->handle_event(*m.smmus[0], CBadSte{}.set<CBadSte::StreamID>(kP.value));
  EXPECT_EQ(during, IRQ_CTRL::EVENTQ_IRQEN::mask);
  EXPECT_EQ(g.read(Reg::IRQ_CTRLACK), 0u);
}

}  // namespace
}  // namespace weir::vsmmu::test
