#include "vsmmu/register_file.hpp"

#include <set>

#include "tests/unit/vsmmu/fixture.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;
using vsmmu::Effect;

class RegisterFile : public ::testing::Test {
 protected:
  RegisterFile() {
    FakeSmmu smmu{0};
    stage2::SmmuPort* const port = &smmu;
    announced = *vsmmu::announce({&port, 1}, {});
    file.emplace(vsmmu::RegisterPages{page0, page1}, announced);
  }
  Effect write(Reg reg, std::uint64_t value, unsigned size = 4) {
    return file->write(static_cast<std::uint32_t>(reg), size, value);
  }
  std::uint64_t read(Reg reg, unsigned size = 4) { return file->read(static_cast<std::uint32_t>(reg), size); }
  void cr0(std::uint64_t value) {
    EXPECT_EQ(write(Reg::CR0, value), Effect::cr0);
    file->acknowledge_cr0();
  }
  // What sticks after a store of all ones.
  std::uint64_t settable(Reg reg, unsigned size = 4) {
    (void)write(reg, ~std::uint64_t{0}, size);
    return read(reg, size);
  }

  std::array<std::uint32_t, 1024> page0{};
  std::array<std::uint32_t, 1024> page1{};
  vsmmu::Announced announced;
  std::optional<vsmmu::RegisterFile> file;
};

TEST_F(RegisterFile, ResetValues) {
  for (const RegInfo& r : kRegs) {
    const std::uint64_t value = read(r.reg, r.bits / 8);
    switch (r.reg) {
      case Reg::IDR0: EXPECT_EQ(value, announced.idr0.words[0]); break;
      case Reg::IDR1: EXPECT_EQ(value, announced.idr1.words[0]); break;
      case Reg::IDR3: EXPECT_EQ(value, announced.idr3.words[0]); break;
      case Reg::IDR5: EXPECT_EQ(value, announced.idr5.words[0]); break;
      case Reg::AIDR: EXPECT_EQ(value, 1u); break;
      default: EXPECT_EQ(value, 0u) << r.name;
    }
  }
}

// Every register: what a store of ones leaves there in the reset state, whole and by halves.
TEST_F(RegisterFile, WriteMasksOfEveryRegister) {
  const std::uint64_t oas = bit_mask(43, 0);
  const std::map<Reg, std::uint64_t> masks = {
      {Reg::CR0, 0xd},
      {Reg::CR1, 0xfff},
      {Reg::CR2, 0x2},
      {Reg::GBPA, 1u << 31 | 1u << 20},
      {Reg::IRQ_CTRL, 0x5},
      {Reg::GERRORN, 0x1b5},
      {Reg::GERROR_IRQ_CFG0, oas & ~std::uint64_t{3}},
      {Reg::GERROR_IRQ_CFG1, 0xffffffff},
      {Reg::GERROR_IRQ_CFG2, 0x3f},
      {Reg::EVENTQ_IRQ_CFG0, oas & ~std::uint64_t{3}},
      {Reg::EVENTQ_IRQ_CFG1, 0xffffffff},
      {Reg::EVENTQ_IRQ_CFG2, 0x3f},
      {Reg::STRTAB_BASE, std::uint64_t{1} << 62 | (oas & ~std::uint64_t{0x3f})},
      {Reg::STRTAB_BASE_CFG, 0x307ff},
      {Reg::CMDQ_BASE, std::uint64_t{1} << 62 | oas},
      {Reg::CMDQ_CONS, 0x1},  // LOG2SIZE 0: one wrap bit
      {Reg::EVENTQ_BASE, std::uint64_t{1} << 62 | oas},
      {Reg::EVENTQ_PROD, 0x80000001},  // the same
      {Reg::EVENTQ_CONS, 0x800fffff},
  };
  for (const RegInfo& r : kRegs) {
    file->reset();
    if (r.reg == Reg::CMDQ_PROD) continue;  // the command queue's
    const auto found = masks.find(r.reg);
    const std::uint64_t before = read(r.reg, r.bits / 8);
    const std::uint64_t expected = found != masks.end() ? found->second : before;
    EXPECT_EQ(settable(r.reg, r.bits / 8), expected) << r.name;
    if (r.bits == 64) {
      file->reset();
      (void)write(r.reg, 0xffffffff);
      EXPECT_EQ(read(r.reg, 8), expected & 0xffffffff) << r.name;
      (void)file->write(static_cast<std::uint32_t>(r.reg) + 4, 4, 0xffffffff);
      EXPECT_EQ(read(r.reg, 8), expected) << r.name;
      (void)write(r.reg, 0);
      EXPECT_EQ(read(r.reg, 8), expected & ~std::uint64_t{0xffffffff}) << r.name;
    }
  }
}

TEST_F(RegisterFile, EverythingElseIsIgnored) {
  std::set<std::uint32_t> defined;
  for (const RegInfo& r : kRegs)
    for (unsigned b = 0; b < r.bits / 8; b += 4) defined.insert(static_cast<std::uint32_t>(r.reg) + b);
  for (std::uint32_t offset = 0; offset < kWindowSize; offset += 4) {
    if (defined.contains(offset)) continue;
    EXPECT_EQ(file->write(offset, 4, 0xffffffff), Effect::none) << offset;
    EXPECT_EQ(file->read(offset, 4), 0u) << offset;
  }
  EXPECT_EQ(file->write(kWindowSize, 4, 1), Effect::none);
  EXPECT_EQ(file->write(0xfffffffc, 4, 1), Effect::none);
  EXPECT_EQ(file->read(0xfffffffc, 4), 0u);
}

TEST_F(RegisterFile, IllegalSizesAreIgnored) {
  EXPECT_EQ(write(Reg::CR0, 1, 1), Effect::none);
  EXPECT_EQ(write(Reg::CR0, 1, 2), Effect::none);
  EXPECT_EQ(write(Reg::CR0, 1, 8), Effect::none);                    // two 32-bit registers
  EXPECT_EQ(file->write(0x84, 8, ~std::uint64_t{0}), Effect::none);  // unaligned
  EXPECT_EQ(file->write(0x21, 4, 1), Effect::none);
  EXPECT_EQ(file->write(0x20, 0, 1), Effect::none);
  EXPECT_EQ(read(Reg::CR0), 0u);
  EXPECT_EQ(read(Reg::STRTAB_BASE, 8), 0u);
}

TEST_F(RegisterFile, ReadsOfEverySize) {
  (void)write(Reg::STRTAB_BASE, 0x4000'0123'4567'89c0, 8);
  EXPECT_EQ(read(Reg::STRTAB_BASE, 8), 0x4000'0123'4567'89c0u);
  EXPECT_EQ(file->read(0x84, 4), 0x4000'0123u);
  EXPECT_EQ(file->read(0x80, 2), 0x89c0u);
  EXPECT_EQ(file->read(0x81, 1), 0x89u);
  EXPECT_EQ(file->read(0x81, 2), 0u);
}

TEST_F(RegisterFile, GuardedRegistersAreReadOnlyWhileInUse) {
  cr0(CR0::SMMUEN::mask);
  EXPECT_EQ(settable(Reg::STRTAB_BASE, 8), 0u);
  EXPECT_EQ(settable(Reg::STRTAB_BASE_CFG), 0u);
  EXPECT_EQ(settable(Reg::CR2), 0u);
  EXPECT_EQ(settable(Reg::CR1), 0x3fu);  // QUEUE_* only
  (void)write(Reg::CR1, 0);
  cr0(CR0::CMDQEN::mask);
  EXPECT_EQ(settable(Reg::CMDQ_BASE, 8), 0u);
  EXPECT_EQ(settable(Reg::CMDQ_CONS), 0u);
  EXPECT_EQ(settable(Reg::CR1), 0xfc0u);  // TABLE_* only
  (void)write(Reg::CR1, 0);
  EXPECT_NE(settable(Reg::STRTAB_BASE, 8), 0u);
  cr0(CR0::EVENTQEN::mask);
  EXPECT_EQ(settable(Reg::EVENTQ_BASE, 8), 0u);
  EXPECT_EQ(settable(Reg::EVENTQ_PROD), 0u);
  EXPECT_EQ(settable(Reg::EVENTQ_CONS), 0x800fffffu);
  EXPECT_EQ(settable(Reg::CR1), 0xfc0u);
}

TEST_F(RegisterFile, AGuardHoldsUntilTheUpdateCompletes) {
  cr0(CR0::SMMUEN::mask);
  (void)write(Reg::CR0, 0);  // not acknowledged yet
  EXPECT_EQ(settable(Reg::STRTAB_BASE, 8), 0u);
  file->acknowledge_cr0();
  EXPECT_NE(settable(Reg::STRTAB_BASE, 8), 0u);
  (void)write(Reg::CR0, CR0::SMMUEN::mask);  // not acknowledged yet
  EXPECT_EQ(read(Reg::CR0), 1u);
  EXPECT_EQ(read(Reg::CR0ACK), 0u);
  (void)write(Reg::STRTAB_BASE, 0, 8);
  EXPECT_NE(read(Reg::STRTAB_BASE, 8), 0u);
}

TEST_F(RegisterFile, GbpaNeedsUpdate) {
  EXPECT_EQ(write(Reg::GBPA, GBPA::ABORT::mask), Effect::none);
  EXPECT_EQ(read(Reg::GBPA), 0u);
  EXPECT_EQ(write(Reg::GBPA, GBPA::ABORT::mask | GBPA::Update::mask), Effect::gbpa);
  EXPECT_EQ(read(Reg::GBPA), GBPA::ABORT::mask | GBPA::Update::mask);
  EXPECT_EQ(write(Reg::GBPA, GBPA::Update::mask), Effect::none);  // an update is under way
  file->acknowledge_gbpa();
  EXPECT_EQ(read(Reg::GBPA), GBPA::ABORT::mask);
}

TEST_F(RegisterFile, IrqCtrlIsAcknowledged) {
  EXPECT_EQ(write(Reg::IRQ_CTRL, 0x7), Effect::irq_ctrl);
  EXPECT_EQ(read(Reg::IRQ_CTRLACK), 0u);
  file->publish_irq_ctrlack(file->irq_ctrl());
  EXPECT_EQ(read(Reg::IRQ_CTRLACK), 0x5u);
  (void)write(Reg::IRQ_CTRL, 0);
  EXPECT_EQ(read(Reg::IRQ_CTRLACK), 0x5u);
  file->publish_irq_ctrlack(file->irq_ctrl());
  EXPECT_EQ(read(Reg::IRQ_CTRLACK), 0u);
}

TEST_F(RegisterFile, GlobalErrorsToggle) {
  EXPECT_TRUE(file->activate<GERROR::CMDQ_ERR>());
  EXPECT_TRUE(file->errors().get<GERROR::CMDQ_ERR>());
  EXPECT_EQ(read(Reg::GERROR), 1u);
  EXPECT_FALSE(file->activate<GERROR::CMDQ_ERR>());  // already: not toggled again
  EXPECT_EQ(read(Reg::GERROR), 1u);
  EXPECT_EQ(write(Reg::GERRORN, 1), Effect::gerrorn);
  EXPECT_FALSE(file->errors().get<GERROR::CMDQ_ERR>());
  (void)write(Reg::IRQ_CTRL, 1);
  EXPECT_TRUE(file->activate<GERROR::CMDQ_ERR>());
  EXPECT_EQ(read(Reg::GERROR), 0u);
  EXPECT_TRUE(file->errors().get<GERROR::CMDQ_ERR>());
}

TEST_F(RegisterFile, Page0AliasesOfPage1AreNotThere) {
  (void)write(Reg::EVENTQ_CONS, 5);
  EXPECT_EQ(file->write(0xac, 4, 9), Effect::none);
  EXPECT_EQ(file->read(0xac, 4), 0u);
  EXPECT_EQ(read(Reg::EVENTQ_CONS), 5u);
}

// CMDQ_CONS: RD keeps to the queue's size, ERR is the SMMU's.
TEST_F(RegisterFile, CommandIndexIsCutToTheQueue) {
  (void)write(Reg::CMDQ_BASE, 8, 8);
  EXPECT_EQ(settable(Reg::CMDQ_CONS), 0x1ffu);
  (void)write(Reg::CMDQ_BASE, 31, 8);  // capped at IDR1.CMDQS, but read back as written
  EXPECT_EQ(read(Reg::CMDQ_BASE, 8), 31u);
  EXPECT_EQ(settable(Reg::CMDQ_CONS), (2u << announced.cmdq_log2()) - 1);
}

}  // namespace
}  // namespace weir::vsmmu::test
