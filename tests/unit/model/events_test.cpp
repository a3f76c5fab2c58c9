// Arm IHI 0070, 3.18, 7.2 to 7.5: the Event queue, global errors and interrupts.
#include "tests/unit/model/fixture.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

constexpr Parameters quiet(Parameters p) {
  p.prefetches = false;
  p.evicts = false;
  return p;
}
constexpr auto kOn = CR0::SMMUEN::mask | CR0::CMDQEN::mask | CR0::EVENTQEN::mask;

class ModelEvents : public Model {
 protected:
  void begin(Parameters p) {
    start(p);
    irqs = {};
    smmu->on_irq = [&](unsigned which) { ++irqs.at(which); };
  }
  [[nodiscard]] std::uint32_t recorded() { return smmu->read(Reg::EVENTQ_PROD) & 0xff; }
  void bad_stream(std::uint32_t sid = 100) { EXPECT_EQ(read(sid, kVa), 0u); }
  std::array<unsigned, 4> irqs{};
};

TEST_F(ModelEvents, S3_5_4_RecordsArriveLater) {
  unsigned late = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Parameters p = quiet({});
    p.seed = seed;
    begin(p);
    bad_stream();
    late += recorded() == 0 ? 1 : 0;
    settle();
    EXPECT_EQ(recorded(), 1u);
  }
  EXPECT_GT(late, 10u);
}

TEST_F(ModelEvents, S7_3_1_MergesOnlyWhereMevPermits) {
  std::uint64_t merged = 0;
  for (const bool mev : {false, true})
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      Parameters p = quiet({});
      p.seed = seed;
      begin(p);
      Tables t = tables();
      put_ste(1, s1(put_cd(context(t.root(), 7)), 1).set<Ste::MEV>(mev));
      // The low bits of the address do not make a difference.
      for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(read(1, kVa + i * 4), 0u);
      settle();
      EXPECT_EQ(recorded() + smmu->events_merged(), 4u);
      if (mev) {
        merged += smmu->events_merged();
      } else {
        EXPECT_EQ(recorded(), 4u);
      }
      // Others are never merged.
      EXPECT_EQ(read(1, kVa + kPage4K), 0u);
      EXPECT_EQ(written(1, kVa), 0u);
      const auto before = smmu->events_merged();
      settle();
      EXPECT_EQ(smmu->events_merged(), before);
    }
  EXPECT_GT(merged, 20u);
  Parameters p = quiet({});
  p.merges_events = false;
  begin(p);
  for (unsigned i = 0; i < 4; ++i) bad_stream();
  settle();
  EXPECT_EQ(recorded(), 4u);
}

TEST_F(ModelEvents, S7_4_OverflowTogglesOnceUntilAcknowledged) {
  begin(quiet({}));
  for (unsigned i = 0; i < 12; ++i) bad_stream(16 + i);
  settle();
  EXPECT_EQ(smmu->read(Reg::EVENTQ_PROD), 0x8000'0008u);
  EXPECT_EQ(smmu->events_lost(), 4u);
  // Room, without an acknowledge: recorded again, but a second overflow does not show.
  smmu->write(Reg::EVENTQ_CONS, 8);
  for (unsigned i = 0; i < 9; ++i) bad_stream(16 + i);
  settle();
  EXPECT_EQ(smmu->read(Reg::EVENTQ_PROD), 0x8000'0000u);
  smmu->write(Reg::EVENTQ_CONS, 0x8000'0000u);
  for (unsigned i = 0; i < 9; ++i) bad_stream(16 + i);
  settle();
  EXPECT_EQ(smmu->read(Reg::EVENTQ_PROD), 8u) << "the flag toggles back";
  EXPECT_EQ(smmu->read(Reg::GERROR), 0u);
}

TEST_F(ModelEvents, S7_2_1_DisabledQueueLosesEventsWithoutOverflow) {
  begin(quiet({}));
  enable(CR0::SMMUEN::mask | CR0::CMDQEN::mask);
  for (unsigned i = 0; i < 12; ++i) bad_stream(16 + i);
  settle();
  EXPECT_EQ(smmu->read(Reg::EVENTQ_PROD), 0u);
  EXPECT_EQ(smmu->events_lost(), 12u);
  enable(kOn);
  EXPECT_EQ(recorded(), 0u);
}

TEST_F(ModelEvents, S6_3_9_4_CommittedRecordsAreVisibleWhenADisableIsAcknowledged) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Parameters p = quiet({});
    p.seed = seed;
    begin(p);
    for (unsigned i = 0; i < 3; ++i) bad_stream(16 + i);
    enable(CR0::SMMUEN::mask | CR0::CMDQEN::mask);
    EXPECT_EQ(recorded(), 3u);
  }
}

TEST_F(ModelEvents, S7_2_2_AnAbortStopsDeliveryUntilAcknowledged) {
  begin(quiet({}));
  smmu->write(Reg::IRQ_CTRL, IRQ_CTRL::GERROR_IRQEN::mask | IRQ_CTRL::EVENTQ_IRQEN::mask);
  settle();
  enable(CR0::SMMUEN::mask | CR0::CMDQEN::mask);
  smmu->write64(Reg::EVENTQ_BASE, 0x10'0000 | 3);  // no memory there
  enable(kOn);
  bad_stream();
  settle();
  EXPECT_EQ(smmu->read(Reg::GERROR), GERROR::EVENTQ_ABT_ERR::mask);
  EXPECT_EQ(recorded(), 0u);
  EXPECT_EQ(irqs, (std::array<unsigned, 4>{0, 0, 0, 1}));
  enable(CR0::SMMUEN::mask | CR0::CMDQEN::mask);
  smmu->write64(Reg::EVENTQ_BASE, evtq.value | 3);
  enable(kOn);
  bad_stream();
  settle();
  EXPECT_EQ(recorded(), 0u) << "the error is still active";
  smmu->write(Reg::GERRORN, smmu->read(Reg::GERROR));
  bad_stream();
  settle();
  EXPECT_EQ(recorded(), 1u);
}

TEST_F(ModelEvents, S3_18_2_AnInterruptWhenTheQueueBecomesNonEmpty) {
  begin(quiet({}));
  bad_stream();
  settle();
  EXPECT_EQ(irqs[0], 0u) << "not enabled";
  smmu->write(Reg::IRQ_CTRL, IRQ_CTRL::EVENTQ_IRQEN::mask);
  settle();
  EXPECT_EQ(irqs[0], 0u) << "it is not about the past";
  bad_stream(17);
  settle();
  EXPECT_EQ(irqs[0], 0u) << "it was not empty";
  smmu->write(Reg::EVENTQ_CONS, 2);
  bad_stream(18);
  settle();
  EXPECT_EQ(irqs[0], 1u);
}

TEST_F(ModelEvents, S3_18_2_MessagesBesideTheWire) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    begin(quiet(Parameters::everything(seed)));
    const PA word = memory.allocate(kPage4K);
    smmu->write64(Reg::EVENTQ_IRQ_CFG0, word.value + 4);
    smmu->write(Reg::EVENTQ_IRQ_CFG1, 0xabcd);
    smmu->write64(Reg::GERROR_IRQ_CFG0, word.value + 8);
    smmu->write(Reg::GERROR_IRQ_CFG1, 0x1111);
    smmu->write(Reg::IRQ_CTRL, IRQ_CTRL::EVENTQ_IRQEN::mask | IRQ_CTRL::GERROR_IRQEN::mask);
    settle();
    bad_stream();
    while (memory.load<std::uint32_t>(word + 4) == 0u) {
      smmu->step();
      // The record is visible before its interrupt.
      ASSERT_TRUE(memory.load<std::uint32_t>(word + 4) == 0u || recorded() == 1);
    }
    EXPECT_EQ(memory.load<std::uint32_t>(word + 4), 0xabcdu);
    settle();
    EXPECT_EQ(irqs, (std::array<unsigned, 4>{1, 0, 0, 0}));
    Command unknown;
    submit({unknown});
    settle();
    EXPECT_EQ(memory.load<std::uint32_t>(word + 8), 0x1111u);
    EXPECT_EQ(irqs[3], 1u);
  }
}

TEST_F(ModelEvents, S7_5_AbortedMessages) {
  begin(quiet(Parameters::everything()));
  smmu->write64(Reg::EVENTQ_IRQ_CFG0, 0x10'0000);
  smmu->write64(Reg::GERROR_IRQ_CFG0, 0x10'0000);
  smmu->write(Reg::IRQ_CTRL, IRQ_CTRL::EVENTQ_IRQEN::mask | IRQ_CTRL::GERROR_IRQEN::mask);
  settle();
  bad_stream();
  settle();
  EXPECT_EQ(smmu->read(Reg::GERROR), GERROR::MSI_EVENTQ_ABT_ERR::mask | GERROR::MSI_GERROR_ABT_ERR::mask)
      << "and the abort of the GERROR message makes no further one";
  EXPECT_EQ(irqs, (std::array<unsigned, 4>{1, 0, 0, 1}));
}

TEST_F(ModelEvents, S6_3_16_NothingComesAfterADisableIsAcknowledged) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Parameters p = quiet({});
    p.seed = seed;
    begin(p);
    smmu->write(Reg::IRQ_CTRL, IRQ_CTRL::EVENTQ_IRQEN::mask);
    settle();
    bad_stream();
    smmu->write(Reg::IRQ_CTRL, 0);
    while (smmu->read(Reg::IRQ_CTRLACK) != 0) smmu->step();
    const auto before = irqs;
    settle();
    EXPECT_EQ(irqs, before);
  }
}

TEST_F(ModelEvents, S4_7_3_EventsBeforeASyncAreVisibleAfterIt) {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    Parameters p;
    p.seed = seed;
    begin(p);
    for (unsigned i = 0; i < 4; ++i) bad_stream(16 + i);
    sync({});
    EXPECT_EQ(recorded(), 4u);
  }
}

TEST_F(ModelEvents, Qemu) {
  Parameters p = Parameters::qemu();
  begin(p);
  smmu->write(Reg::IRQ_CTRL, IRQ_CTRL::EVENTQ_IRQEN::mask | IRQ_CTRL::GERROR_IRQEN::mask);
  for (unsigned i = 0; i < 8; ++i) {
    bad_stream(16 + i);
    EXPECT_EQ(smmu->read(Reg::EVENTQ_PROD), i + 1) << "at once";
  }
  bad_stream();
  EXPECT_EQ(smmu->read(Reg::EVENTQ_PROD), 8u) << "no OVFLG";
  EXPECT_EQ(smmu->read(Reg::GERROR), GERROR::EVENTQ_ABT_ERR::mask);
  submit({atc_inv_all(StreamID{1}), Command{pri_resp(StreamID{1}, std::nullopt, 1, PriResponse::success)},
          Command{resume(StreamID{1}, 3, ResumeAction::retry)}, Command{tlbi_el2_all()}, sync_none()});
  EXPECT_EQ(cons(), 5u) << "no-ops, carried out within the store";
  Command none;
  submit({cfgi_all(), none});
  EXPECT_EQ(cons(), 6u);
  EXPECT_EQ(error(), CmdqError::CERROR_ILL);
}

}  // namespace
}  // namespace weir::model::test
