// Arm IHI 0070, chapter 6: who may access what, how, and when.
#include "tests/unit/model/fixture.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

constexpr Parameters quiet(Parameters p) {
  p.prefetches = false;
  p.evicts = false;
  return p;
}
constexpr std::uint32_t at(Reg reg) { return static_cast<std::uint32_t>(reg); }

class ModelRegisters : public Model {
 protected:
  void bare(Parameters p = quiet(Parameters::everything())) { smmu = std::make_unique<model::Smmu>(memory, p); }
  // A store, and whether it was in order.
  bool accepted(Reg reg, unsigned size, std::uint64_t value) {
    const auto before = smmu->misuses();
    smmu->mmio_write(at(reg), size, value);
    return smmu->misuses() == before;
  }
};

TEST_F(ModelRegisters, S6_2_AccessSizesAndPlaces) {
  bare();
  const auto before = smmu->misuses();
  smmu->mmio_write(at(Reg::CMDQ_BASE), 4, 0x5005);
  smmu->mmio_write(at(Reg::CMDQ_BASE) + 4, 4, 0x4000'0007);
  EXPECT_EQ(smmu->mmio_read(at(Reg::CMDQ_BASE), 8), 0x4000'0007'0000'5005u);
  EXPECT_EQ(smmu->mmio_read(at(Reg::CMDQ_BASE) + 4, 4), 0x4000'0007u);
  EXPECT_EQ(smmu->misuses(), before);
  for (const unsigned size : {1u, 2u, 16u}) {
    EXPECT_EQ(smmu->mmio_read(0, size), 0u);
    smmu->mmio_write(at(Reg::CMDQ_PROD), size, 1);
  }
  EXPECT_EQ(smmu->mmio_read(at(Reg::CMDQ_BASE) + 4, 8), 0u) << "not aligned to its size";
  EXPECT_EQ(smmu->mmio_read(2, 4), 0u);
  EXPECT_EQ(smmu->mmio_read(at(Reg::IDR0), 8), 0u) << "two registers at once";
  smmu->mmio_write(at(Reg::CMDQ_PROD), 8, 0x1'0000'0001);
  EXPECT_EQ(smmu->read(Reg::CMDQ_PROD), 0u);
  EXPECT_EQ(smmu->misuses(), before + 10);
  // Undefined places, page 0's aliases of page 1 among them.
  for (const std::uint32_t offset : {0x034u, 0x0a8u, 0x0acu, 0x0c8u, 0x200u, 0x8000u, 0x10000u, 0x1fffcu}) {
    smmu->mmio_write(offset, 4, ~0u);
    EXPECT_EQ(smmu->mmio_read(offset, 4), 0u) << offset;
  }
  EXPECT_EQ(smmu->mmio_read(0x20000, 4), 0u);
}

TEST_F(ModelRegisters, S6_3_1_IdentificationFollowsTheParameters) {
  bare(Parameters::qemu());
  EXPECT_EQ(smmu->read(Reg::IDR0), 0x0d44101bu);
  EXPECT_EQ(smmu->read(Reg::IDR1), 0x02730010u);
  EXPECT_EQ(smmu->read(Reg::IDR3), 0x1414u);
  EXPECT_EQ(smmu->read(Reg::IDR5), 0x74u);
  EXPECT_EQ(smmu->read(Reg::AIDR), 1u);
  bare();
  const IDR0 idr0{{{smmu->read(Reg::IDR0)}}};
  EXPECT_TRUE(idr0.get<IDR0::ATS>() && idr0.get<IDR0::PRI>() && idr0.get<IDR0::MSI>() && idr0.get<IDR0::SEV>());
  EXPECT_EQ(idr0.get<IDR0::STALL_MODEL>(), StallModel::stall_and_terminate);
  EXPECT_EQ(IDR5{{{smmu->read(Reg::IDR5)}}}.get<IDR5::STALL_MAX>(), 8u);
  EXPECT_EQ(IDR1{{{smmu->read(Reg::IDR1)}}}.get<IDR1::PRIQS>(), 6u);
  Parameters no_ats = Parameters::everything();
  no_ats.ats = false;
  bare(no_ats);
  const IDR0 none{{{smmu->read(Reg::IDR0)}}};
  EXPECT_FALSE(none.get<IDR0::PRI>() || none.get<IDR0::ATSRECERR>()) << "RES0 without ATS";
  for (const Reg id : {Reg::IDR0, Reg::IDR1, Reg::IDR5, Reg::AIDR, Reg::CR0ACK, Reg::STATUSR, Reg::GERROR,
                       Reg::IRQ_CTRLACK, Reg::CIDR0}) {
    const auto value = smmu->read(id);
    EXPECT_FALSE(accepted(id, 4, ~0u)) << name_of(id);
    EXPECT_EQ(smmu->read(id), value);
  }
}

TEST_F(ModelRegisters, S6_3_9_Cr0IsAcknowledgedLaterAndEachBitOnItsOwn) {
  bare();
  EXPECT_TRUE(accepted(Reg::CR0, 4, CR0::CMDQEN::mask));
  EXPECT_EQ(smmu->read(Reg::CR0), CR0::CMDQEN::mask);
  EXPECT_EQ(smmu->read(Reg::CR0ACK), 0u);
  EXPECT_FALSE(accepted(Reg::CR0, 4, 0)) << "its change is not acknowledged";
  EXPECT_EQ(smmu->read(Reg::CR0), CR0::CMDQEN::mask);
  EXPECT_TRUE(accepted(Reg::CR0, 4, CR0::CMDQEN::mask | CR0::EVENTQEN::mask)) << "another bit";
  smmu->settle();
  EXPECT_EQ(smmu->read(Reg::CR0ACK), CR0::CMDQEN::mask | CR0::EVENTQEN::mask);
  EXPECT_FALSE(accepted(Reg::CR0, 4, CR0::CMDQEN::mask | 1u << 5)) << "RES0";
  smmu->settle();
  EXPECT_EQ(smmu->read(Reg::CR0ACK), CR0::CMDQEN::mask);
  Parameters no_pri = quiet({});
  bare(no_pri);
  smmu->write(Reg::CR0, CR0::PRIQEN::mask | CR0::ATSCHK::mask | CR0::SMMUEN::mask);
  smmu->settle();
  EXPECT_EQ(smmu->read(Reg::CR0ACK), CR0::SMMUEN::mask) << "RES0 without PRI, without ATS";
}

TEST_F(ModelRegisters, S6_3_9_GuardedByTheEnableAndItsAcknowledge) {
  struct Case {
    Reg reg;
    unsigned size;
    std::uint64_t guards;
  };
  const std::uint64_t queues = CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::PRIQEN::mask;
  for (const Case& c : {Case{Reg::STRTAB_BASE, 8, CR0::SMMUEN::mask}, Case{Reg::STRTAB_BASE_CFG, 4, CR0::SMMUEN::mask},
                        Case{Reg::CR2, 4, CR0::SMMUEN::mask}, Case{Reg::CMDQ_BASE, 8, CR0::CMDQEN::mask},
                        Case{Reg::CMDQ_CONS, 4, CR0::CMDQEN::mask}, Case{Reg::EVENTQ_BASE, 8, CR0::EVENTQEN::mask},
                        Case{Reg::EVENTQ_PROD, 4, CR0::EVENTQEN::mask}, Case{Reg::PRIQ_BASE, 8, CR0::PRIQEN::mask},
                        Case{Reg::PRIQ_PROD, 4, CR0::PRIQEN::mask}, Case{Reg::CR1, 4, queues}}) {
    const std::uint64_t value = c.reg == Reg::CR2         ? CR2::PTM::mask
                                : c.reg == Reg::CR1       ? CR1::QUEUE_IC::mask
                                : c.reg == Reg::CMDQ_CONS ? 1  // of a ring of one
                                                          : 0x40;
    for (const std::uint64_t bit : {CR0::SMMUEN::mask, CR0::PRIQEN::mask, CR0::EVENTQEN::mask, CR0::CMDQEN::mask}) {
      bare();
      const bool guarded = (c.guards & bit) != 0;
      const std::uint64_t reset = smmu->mmio_read(at(c.reg), c.size);
      smmu->write(Reg::CR0, static_cast<std::uint32_t>(bit));
      EXPECT_EQ(accepted(c.reg, c.size, value), !guarded) << name_of(c.reg) << " while an enable is on its way";
      EXPECT_EQ(smmu->mmio_read(at(c.reg), c.size), guarded ? reset : value) << name_of(c.reg);
      smmu->settle();
      EXPECT_EQ(accepted(c.reg, c.size, value), !guarded) << name_of(c.reg);
      smmu->write(Reg::CR0, 0);
      EXPECT_EQ(accepted(c.reg, c.size, value), !guarded) << name_of(c.reg) << " while a disable is on its way";
      smmu->settle();
      EXPECT_TRUE(accepted(c.reg, c.size, value)) << name_of(c.reg);
      EXPECT_EQ(smmu->mmio_read(at(c.reg), c.size), value) << name_of(c.reg);
    }
  }
  // CR1.TABLE_*
  bare();
  smmu->write(Reg::CR0, CR0::SMMUEN::mask);
  EXPECT_FALSE(accepted(Reg::CR1, 4, CR1::TABLE_SH::mask | CR1::QUEUE_SH::mask));
  EXPECT_EQ(smmu->read(Reg::CR1), CR1::QUEUE_SH::mask) << "the fields are guarded one by one";
}

TEST_F(ModelRegisters, S6_3_14_GbpaNeedsUpdateAndTakesOneAtATime) {
  bare();
  const GBPA abort = GBPA{}.set<GBPA::ABORT>(true);
  EXPECT_FALSE(accepted(Reg::GBPA, 4, abort.words[0])) << "without Update";
  EXPECT_EQ(smmu->read(Reg::GBPA), 0u);
  EXPECT_TRUE(accepted(Reg::GBPA, 4, GBPA{abort}.set<GBPA::Update>(true).words[0]));
  EXPECT_EQ(smmu->read(Reg::GBPA), GBPA{abort}.set<GBPA::Update>(true).words[0]);
  EXPECT_FALSE(accepted(Reg::GBPA, 4, GBPA::Update::mask)) << "one is under way";
  EXPECT_EQ(read(0, 0x1000), 0x1000u) << "not yet in effect";
  smmu->settle();
  EXPECT_EQ(smmu->read(Reg::GBPA), abort.words[0]);
  EXPECT_EQ(read(0, 0x1000), 0u);
}

TEST_F(ModelRegisters, S6_3_16_IrqConfigurationIsGuardedByItsEnable) {
  struct Case {
    std::uint64_t enable;
    Reg cfg0;
  };
  for (const Case& c : {Case{IRQ_CTRL::GERROR_IRQEN::mask, Reg::GERROR_IRQ_CFG0},
                        Case{IRQ_CTRL::EVENTQ_IRQEN::mask, Reg::EVENTQ_IRQ_CFG0},
                        Case{IRQ_CTRL::PRIQ_IRQEN::mask, Reg::PRIQ_IRQ_CFG0}}) {
    bare();
    EXPECT_TRUE(accepted(c.cfg0, 8, 0x1234'5678));
    const Reg cfg1{at(c.cfg0) + 8};
    const Reg cfg2{at(c.cfg0) + 12};
    EXPECT_TRUE(accepted(cfg1, 4, 0xdead));
    EXPECT_TRUE(accepted(cfg2, 4, 0x8000'003f));
    EXPECT_EQ(smmu->mmio_read(at(c.cfg0), 8), 0x1234'5678u);
    EXPECT_EQ(smmu->read(cfg1), 0xdeadu);
    EXPECT_EQ(smmu->read(cfg2), c.cfg0 == Reg::PRIQ_IRQ_CFG0 ? 0x8000'003fu : 0x3fu) << "LO";
    smmu->write(Reg::IRQ_CTRL, static_cast<std::uint32_t>(c.enable));
    for (int i = 0; i < 2; ++i) {
      EXPECT_FALSE(accepted(c.cfg0, 8, 0));
      EXPECT_FALSE(accepted(cfg1, 4, 0));
      EXPECT_FALSE(accepted(cfg2, 4, 0));
      smmu->settle();
    }
    EXPECT_EQ(smmu->read(Reg::IRQ_CTRLACK), c.enable);
    EXPECT_EQ(smmu->mmio_read(at(c.cfg0), 8), 0x1234'5678u);
  }
}

TEST_F(ModelRegisters, S6_3_1_WithoutMsiTheirFieldsAreRes0) {
  Parameters p = quiet(Parameters::everything());
  p.msi = false;
  bare(p);
  for (const Reg reg : {Reg::EVENTQ_IRQ_CFG0, Reg::PRIQ_IRQ_CFG0, Reg::GERROR_IRQ_CFG0}) {
    smmu->mmio_write(at(reg), 8, 0x1234'5678);
    smmu->mmio_write(at(reg) + 8, 4, ~0u);
    smmu->mmio_write(at(reg) + 12, 4, ~0u);
    EXPECT_EQ(smmu->mmio_read(at(reg), 8), 0u);
    EXPECT_EQ(smmu->mmio_read(at(reg) + 8, 4), 0u);
    EXPECT_EQ(smmu->mmio_read(at(reg) + 12, 4), reg == Reg::PRIQ_IRQ_CFG0 ? 0x8000'0000u : 0u) << "but LO";
  }
  p.pri = false;
  bare(p);
  for (const Reg reg : {Reg::PRIQ_BASE, Reg::PRIQ_IRQ_CFG0, Reg::PRIQ_PROD, Reg::PRIQ_CONS, Reg::PRIQ_IRQ_CFG2}) {
    smmu->mmio_write(at(reg), 4, 0x8000'0040);
    EXPECT_EQ(smmu->mmio_read(at(reg), 4), 0u) << name_of(reg);
  }
  smmu->write(Reg::IRQ_CTRL, IRQ_CTRL::PRIQ_IRQEN::mask);
  EXPECT_EQ(smmu->read(Reg::IRQ_CTRL), 0u);
}

TEST_F(ModelRegisters, S6_3_20_GerrornTogglesActiveErrorsOnly) {
  start();
  Command unknown;
  unknown.words[0] = 0xff;
  submit({unknown});
  settle();
  ASSERT_EQ(smmu->read(Reg::GERROR), GERROR::CMDQ_ERR::mask);
  EXPECT_FALSE(accepted(Reg::GERRORN, 4, GERROR::EVENTQ_ABT_ERR::mask));
  EXPECT_EQ(smmu->read(Reg::GERRORN), 0u);
  EXPECT_TRUE(accepted(Reg::GERRORN, 4, GERROR::CMDQ_ERR::mask));
  EXPECT_EQ(smmu->read(Reg::GERRORN), GERROR::CMDQ_ERR::mask);
}

TEST_F(ModelRegisters, S6_3_26_QueueSizesAreCappedAndBasesAligned) {
  Parameters p = quiet({});
  p.eventqs = 2;
  bare(p);
  const PA queue = memory.allocate(kPage4K);
  smmu->write64(Reg::EVENTQ_BASE, queue.value | 0x60 | 9);  // 4 events of 32 bytes
  EXPECT_EQ(smmu->mmio_read(at(Reg::EVENTQ_BASE), 8), queue.value | 0x69) << "reads as written";
  smmu->write(Reg::CR2, CR2::RECINVSID::mask);
  enable(CR0::SMMUEN::mask | CR0::EVENTQEN::mask);
  for (unsigned i = 0; i < 5; ++i) EXPECT_EQ(read(1u << 9 | i, kVa), 0u);
  settle();
  EXPECT_EQ(smmu->read(Reg::EVENTQ_PROD), 0x8000'0004u);
  EXPECT_EQ(memory.load<Event>(queue)->id(), EventId::C_BAD_STREAMID);
}

// As seen with QEMU 11.1.3 by its qtest protocol.
TEST_F(ModelRegisters, Qemu) {
  bare(Parameters::qemu());
  const auto reg = [&](Reg r) { return smmu->read(r); };
  EXPECT_EQ(reg(Reg::GBPA), 0x1000u);
  constexpr std::array<std::uint32_t, 12> kIdentity{0x04, 0, 0, 0, 0x84, 0xb4, 0xf0, 0x10, 0x0d, 0xf0, 0x05, 0xb1};
  for (std::uint32_t i = 0; i < 12; ++i) EXPECT_EQ(smmu->mmio_read(0xfd0 + 4 * i, 4), kIdentity[i]);
  EXPECT_EQ(smmu->mmio_read(0, 8), 0u);
  smmu->write(Reg::CR0, ~0u);
  EXPECT_EQ(reg(Reg::CR0), ~0u);
  EXPECT_EQ(reg(Reg::CR0ACK), 0x5dfu);
  // Nothing is guarded.
  for (const Reg r : {Reg::CR1, Reg::CR2, Reg::STRTAB_BASE_CFG, Reg::GERROR_IRQ_CFG1, Reg::GERROR_IRQ_CFG2}) {
    smmu->write(r, ~0u);
    EXPECT_EQ(reg(r), ~0u) << name_of(r);
  }
  smmu->write(Reg::CMDQ_CONS, 0);
  smmu->write(Reg::IRQ_CTRL, ~0u);
  EXPECT_EQ(reg(Reg::IRQ_CTRLACK), ~0u);
  smmu->write(Reg::GBPA, 0x10'0000);
  EXPECT_EQ(reg(Reg::GBPA), 0x1000u);
  smmu->write(Reg::GBPA, 0x8010'0060);
  EXPECT_EQ(reg(Reg::GBPA), 0x10'0060u);
  smmu->mmio_write(0xa8, 4, 5);
  EXPECT_EQ(reg(Reg::EVENTQ_PROD), 5u) << "one page, twice";
  smmu->mmio_write(0x100ac, 4, 5);
  EXPECT_EQ(smmu->mmio_read(0xac, 4), 5u);
  for (const Reg r : {Reg::EVENTQ_IRQ_CFG0, Reg::EVENTQ_IRQ_CFG1, Reg::PRIQ_BASE, Reg::PRIQ_PROD, Reg::STATUSR}) {
    smmu->write(r, ~0u);
    EXPECT_EQ(reg(r), 0u) << name_of(r);
  }
  // Whatever PROD is, it runs after it.
  bare(Parameters::qemu());
  const PA queue = memory.allocate(kPage4K);
  for (unsigned i = 0; i < 16; ++i) ASSERT_TRUE(memory.store(queue + i * sizeof(Command), Command{sync_none()}));
  smmu->write64(Reg::CMDQ_BASE, queue.value | 1);
  smmu->write(Reg::CR0, CR0::CMDQEN::mask);
  smmu->write(Reg::CMDQ_PROD, 3);
  EXPECT_EQ(reg(Reg::CMDQ_CONS), 3u);
  smmu->write(Reg::CR0, 0);
  smmu->write(Reg::CMDQ_CONS, 0);
  smmu->write(Reg::CMDQ_PROD, 0);
  smmu->write64(Reg::CMDQ_BASE, queue.value | 0x20 | 4);
  smmu->write(Reg::CR0, CR0::CMDQEN::mask);
  smmu->write(Reg::CMDQ_PROD, 0x105);
  EXPECT_EQ(reg(Reg::CMDQ_PROD), 0x105u);
  EXPECT_EQ(reg(Reg::CMDQ_CONS), 5u);
  smmu->write(Reg::CMDQ_PROD, 0);
  EXPECT_EQ(reg(Reg::CMDQ_CONS), 0u);
  // A GERRORN of an error that is not there makes one.
  smmu->write(Reg::GERRORN, 4);
  EXPECT_EQ(reg(Reg::GERRORN), 4u);
}

}  // namespace
}  // namespace weir::model::test
