#include "vsmmu/register_file.hpp"

#include <random>
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

// --- Everything announced, and nothing --------------------------------------------------------------------------------

constexpr std::uint64_t kOas = bit_mask(43, 0);

vsmmu::Announced everything_announced() {
  vsmmu::Announced a;
  a.idr0.set<IDR0::S1P>(true).set<IDR0::ATS>(true).set<IDR0::PRI>(true).set<IDR0::MSI>(true).set<IDR0::SEV>(true);
  a.idr0.set<IDR0::ATSRECERR>(true).set<IDR0::ST_LEVEL>(StLevel::two_level);
  a.idr1.set<IDR1::CMDQS>(8).set<IDR1::EVENTQS>(7).set<IDR1::PRIQS>(6).set<IDR1::SIDSIZE>(16);
  a.idr3.set<IDR3::HAD>(true);
  a.idr5.set<IDR5::OAS>(AddressSize::bits44).set<IDR5::GRAN4K>(true);
  a.aidr.set<AIDR::ArchMinorRev>(1);
  return a;
}
vsmmu::Announced nothing_announced() {
  vsmmu::Announced a = everything_announced();
  a.idr0 = IDR0{}.set<IDR0::S1P>(true);
  a.idr1.set<IDR1::PRIQS>(0);
  return a;
}

// Written from 6.3, not from the table under test: what a guest can set in each register while everything is off, the
// queues having their largest sizes; and what may ever be read there.
struct Expected {
  std::uint64_t settable;
  std::uint64_t visible;  // besides `settable`
};
using Masks = std::map<Reg, Expected>;

Masks masks_with_everything() {
  constexpr std::uint64_t hint = std::uint64_t{1} << 62;
  constexpr std::uint64_t msi_address = kOas & ~std::uint64_t{3};
  constexpr std::uint64_t queue_base = hint | kOas;  // ADDR and LOG2SIZE
  return {
      {Reg::CR0, {0x1f, 0}},
      {Reg::CR0ACK, {0, 0x1f}},
      {Reg::CR1, {0xfff, 0}},
      {Reg::CR2, {0xa, 0}},
      {Reg::GBPA, {0x80100000, 0}},
      {Reg::IRQ_CTRL, {0x7, 0}},
      {Reg::IRQ_CTRLACK, {0, 0x7}},
      {Reg::GERROR, {0, 0x1fd}},
      {Reg::GERRORN, {0x1fd, 0}},
      {Reg::GERROR_IRQ_CFG0, {msi_address, 0}},
      {Reg::GERROR_IRQ_CFG1, {0xffffffff, 0}},
      {Reg::GERROR_IRQ_CFG2, {0x3f, 0}},
      {Reg::STRTAB_BASE, {hint | (kOas & ~std::uint64_t{0x3f}), 0}},
      {Reg::STRTAB_BASE_CFG, {0x307ff, 0}},
      {Reg::CMDQ_BASE, {queue_base, 0}},
      {Reg::CMDQ_CONS, {0x1ff, 0x7f000000}},
      {Reg::EVENTQ_BASE, {queue_base, 0}},
      {Reg::EVENTQ_IRQ_CFG0, {msi_address, 0}},
      {Reg::EVENTQ_IRQ_CFG1, {0xffffffff, 0}},
      {Reg::EVENTQ_IRQ_CFG2, {0x3f, 0}},
      {Reg::PRIQ_BASE, {queue_base, 0}},
      {Reg::PRIQ_IRQ_CFG0, {msi_address, 0}},
      {Reg::PRIQ_IRQ_CFG1, {0xffffffff, 0}},
      {Reg::PRIQ_IRQ_CFG2, {0x8000003f, 0}},
      {Reg::EVENTQ_PROD, {0x800000ff, 0}},
      {Reg::EVENTQ_CONS, {0x800fffff, 0}},
      {Reg::PRIQ_PROD, {0x8000007f, 0}},
      {Reg::PRIQ_CONS, {0x800fffff, 0}},
  };
}
Masks masks_with_nothing() {
  Masks m = masks_with_everything();
  m[Reg::CR0] = {0xd, 0};
  m[Reg::CR0ACK] = {0, 0xd};
  m[Reg::CR2] = {0x2, 0};
  m[Reg::IRQ_CTRL] = {0x5, 0};
  m[Reg::IRQ_CTRLACK] = {0, 0x5};
  m[Reg::GERROR] = {0, 0x105};
  m[Reg::GERRORN] = {0x105, 0};
  m[Reg::STRTAB_BASE_CFG] = {0x3f, 0};
  for (const RegInfo& r : kRegs)
    if (r.name.find("IRQ_CFG") != std::string_view::npos || r.name.starts_with("PRIQ")) m.erase(r.reg);
  return m;
}

class Window : public ::testing::Test {
 protected:
  void make(const vsmmu::Announced& a, Masks m) {
    announced = a;
    masks = std::move(m);
    file.emplace(vsmmu::RegisterPages{page0, page1}, announced);
  }
  Effect write(Reg reg, std::uint64_t value, unsigned size = 4) {
    return file->write(static_cast<std::uint32_t>(reg), size, value);
  }
  std::uint64_t read(const RegInfo& r) { return file->read(static_cast<std::uint32_t>(r.reg), r.bits / 8); }
  std::uint64_t read(Reg reg) { return read(*find_reg(static_cast<std::uint32_t>(reg))); }
  // Off, with queues of the largest size.
  void begin() {
    file->reset();
    for (const Reg base : {Reg::CMDQ_BASE, Reg::EVENTQ_BASE, Reg::PRIQ_BASE}) (void)write(base, 31, 8);
  }
  [[nodiscard]] Expected expected(Reg reg) const {
    const auto found = masks.find(reg);
    return found == masks.end() ? Expected{} : found->second;
  }
  // Bytes that a store of `size` bytes of ones at `offset` may change, as the two pages show them.
  void every_store() {
    for (unsigned size : {1u, 2u, 4u, 8u}) {
      begin();
      const auto before0 = page0;
      const auto before1 = page1;
      for (std::uint32_t offset = 0; offset < kWindowSize; ++offset) {
        (void)file->write(offset, size, ~std::uint64_t{0});
        auto wanted0 = before0;
        auto wanted1 = before1;
        const RegInfo* r = find_reg(offset);
        const bool legal = r != nullptr && offset % size == 0 && (size == 4 || (size == 8 && r->bits == 64));
        if (legal && r->reg != Reg::CMDQ_PROD) {
          const auto first = static_cast<std::uint32_t>(r->reg);
          auto& page = first >= kPage1 ? wanted1 : wanted0;
          const std::uint64_t mask = expected(r->reg).settable;
          for (std::uint32_t o = offset; o < offset + size; o += 4)
            page[o % kPage1 / 4] |= static_cast<std::uint32_t>(mask >> (o - first) * 8);
        }
        if (page0 == wanted0 && page1 == wanted1) {
          if (legal) begin();
          continue;
        }
        ADD_FAILURE() << "a store of " << size << " bytes at " << std::hex << offset;
        return;
      }
    }
  }
  // Stores and acknowledges at random: nothing reserved is ever read as 1.
  void random_stores() {
    std::mt19937_64 random{7};
    for (unsigned step = 0; step < 300000; ++step) {
      const RegInfo& r = kRegs[random() % kRegs.size()];
      const unsigned size = r.bits == 64 && random() % 2 != 0 ? 8 : 4;
      const std::uint32_t half = size == 4 && r.bits == 64 && random() % 2 != 0 ? 4 : 0;
      (void)file->write(static_cast<std::uint32_t>(r.reg) + half, size, random());
      switch (random() % 16) {
        case 0: file->acknowledge_cr0(); break;
        case 1: file->publish_irq_ctrlack(file->irq_ctrl()); break;
        case 2: file->acknowledge_gbpa(); break;
        case 3: (void)file->activate<GERROR::CMDQ_ERR>(); break;
        case 4: file->publish_cmdq_error(file->cmdq_cons().get<CMDQ_CONS::RD>(), CmdqError::CERROR_ILL); break;
        default: break;
      }
      const std::uint64_t allowed = expected(r.reg).settable | expected(r.reg).visible;
      const bool id = vsmmu::access_of(r.reg) == vsmmu::Access::constant;
      if (!id) ASSERT_EQ(read(r) & ~allowed, 0u) << r.name << " in step " << step;
    }
    // And what is constant stays.
    EXPECT_EQ(read(Reg::IDR0), announced.idr0.words[0]);
    EXPECT_EQ(read(Reg::IDR1), announced.idr1.words[0]);
    EXPECT_EQ(read(Reg::IDR3), announced.idr3.words[0]);
    EXPECT_EQ(read(Reg::IDR5), announced.idr5.words[0]);
    EXPECT_EQ(read(Reg::AIDR), 1u);
    for (const Reg zero :
         {Reg::IDR2, Reg::IDR4, Reg::IIDR, Reg::IDR6, Reg::PIDR0, Reg::CIDR3, Reg::STATUSR, Reg::AGBPA})
      EXPECT_EQ(read(zero), 0u);
  }
  // The registers that take no store any more, or less of it, while `locked` holds.
  void expect_locked(const std::map<Reg, std::uint64_t>& locked, std::string_view when) {
    for (const RegInfo& r : kRegs) {
      const std::uint64_t settable = expected(r.reg).settable;
      if (settable == 0 || r.reg == Reg::CR0 || r.reg == Reg::IRQ_CTRL || r.reg == Reg::GBPA) continue;
      const auto found = locked.find(r.reg);
      const std::uint64_t open = settable & ~(found == locked.end() ? 0 : found->second);
      const std::uint64_t before = read(r);
      (void)file->write(static_cast<std::uint32_t>(r.reg), r.bits / 8, ~before);
      EXPECT_EQ(read(r) ^ before, open & settable) << r.name << " while " << when;
      (void)file->write(static_cast<std::uint32_t>(r.reg), r.bits / 8, before);
    }
  }

  std::array<std::uint32_t, 1024> page0{};
  std::array<std::uint32_t, 1024> page1{};
  vsmmu::Announced announced;
  Masks masks;
  std::optional<vsmmu::RegisterFile> file;
};

TEST_F(Window, EveryStoreWithEverythingAnnounced) {
  make(everything_announced(), masks_with_everything());
  every_store();
}

TEST_F(Window, EveryStoreWithNothingAnnounced) {
  make(nothing_announced(), masks_with_nothing());
  every_store();
}

TEST_F(Window, ReservedBitsStay0) {
  make(everything_announced(), masks_with_everything());
  random_stores();
  make(nothing_announced(), masks_with_nothing());
  random_stores();
}

// 6.3.9, 6.3.11, 6.3.12, 6.3.24 to 6.3.36: which enable locks what, while it or its acknowledge is 1.
TEST_F(Window, EveryGuard) {
  constexpr std::uint64_t all = ~std::uint64_t{0};
  struct Lock {
    Reg control;
    std::uint64_t enable;
    std::map<Reg, std::uint64_t> locked;
    std::string_view name;
  };
  const std::vector<Lock> locks = {
      {Reg::CR0,
       CR0::SMMUEN::mask,
       {{Reg::CR1, 0xfc0}, {Reg::CR2, all}, {Reg::STRTAB_BASE, all}, {Reg::STRTAB_BASE_CFG, all}},
       "SMMUEN"},
      {Reg::CR0, CR0::CMDQEN::mask, {{Reg::CR1, 0x3f}, {Reg::CMDQ_BASE, all}, {Reg::CMDQ_CONS, all}}, "CMDQEN"},
      {Reg::CR0, CR0::EVENTQEN::mask, {{Reg::CR1, 0x3f}, {Reg::EVENTQ_BASE, all}, {Reg::EVENTQ_PROD, all}}, "EVENTQEN"},
      {Reg::CR0, CR0::PRIQEN::mask, {{Reg::CR1, 0x3f}, {Reg::PRIQ_BASE, all}, {Reg::PRIQ_PROD, all}}, "PRIQEN"},
      {Reg::CR0, CR0::ATSCHK::mask, {}, "ATSCHK"},
      {Reg::IRQ_CTRL,
       IRQ_CTRL::EVENTQ_IRQEN::mask,
       {{Reg::EVENTQ_IRQ_CFG0, all}, {Reg::EVENTQ_IRQ_CFG1, all}, {Reg::EVENTQ_IRQ_CFG2, all}},
       "EVENTQ_IRQEN"},
      {Reg::IRQ_CTRL,
       IRQ_CTRL::PRIQ_IRQEN::mask,
       {{Reg::PRIQ_IRQ_CFG0, all}, {Reg::PRIQ_IRQ_CFG1, all}, {Reg::PRIQ_IRQ_CFG2, all}},
       "PRIQ_IRQEN"},
      {Reg::IRQ_CTRL,
       IRQ_CTRL::GERROR_IRQEN::mask,
       {{Reg::GERROR_IRQ_CFG0, all}, {Reg::GERROR_IRQ_CFG1, all}, {Reg::GERROR_IRQ_CFG2, all}},
       "GERROR_IRQEN"},
  };
  make(everything_announced(), masks_with_everything());
  const auto acknowledge = [&] {
    file->acknowledge_cr0();
    file->publish_irq_ctrlack(file->irq_ctrl());
  };
  for (const Lock& lock : locks) {
    begin();
    expect_locked({}, "everything is off");
    (void)write(lock.control, lock.enable);
    expect_locked(lock.locked, std::string{lock.name} + " is being set");
    acknowledge();
    expect_locked(lock.locked, std::string{lock.name} + " is set");
    (void)write(lock.control, 0);
    expect_locked(lock.locked, std::string{lock.name} + " is being cleared");
    acknowledge();
    expect_locked({}, "everything is off again");
  }
}

// PRIQEN guards by its actual value, whatever SMMUEN makes of it (6.3.9.5).
TEST_F(Window, EffectivePriqen) {
  make(everything_announced(), masks_with_everything());
  begin();
  (void)write(Reg::CR0, CR0::PRIQEN::mask);
  file->acknowledge_cr0();
  EXPECT_FALSE(file->priq_enabled());
  EXPECT_EQ(read(Reg::CR0ACK), CR0::PRIQEN::mask);
  (void)write(Reg::PRIQ_BASE, 0, 8);
  EXPECT_NE(read(Reg::PRIQ_BASE), 0u);
  (void)write(Reg::CR0, CR0::PRIQEN::mask | CR0::SMMUEN::mask);
  EXPECT_TRUE(file->priq_enabled());
}

// 6.3.1 and 6.3.36: LO concerns wired interrupts as well.
TEST_F(Window, LastOnlyNeedsNoMsi) {
  auto a = everything_announced();
  a.idr0.set<IDR0::MSI>(false);
  make(a, {});
  (void)write(Reg::PRIQ_IRQ_CFG2, 0xffffffff);
  EXPECT_EQ(read(Reg::PRIQ_IRQ_CFG2), 0x80000000u);
  (void)write(Reg::PRIQ_IRQ_CFG1, 0xffffffff);
  EXPECT_EQ(read(Reg::PRIQ_IRQ_CFG1), 0u);
  (void)write(Reg::GERRORN, 0xffffffff);
  EXPECT_EQ(read(Reg::GERRORN), 0x10du);
}

// 6.3.28, 6.3.95, 6.3.97: what lies above the wrap flag reads as 0, and a smaller queue truncates its index.
TEST_F(Window, IndexesAreCutToTheirQueues) {
  struct Queue {
    Reg base, index;
    unsigned most;  // as announced
  };
  make(everything_announced(), masks_with_everything());
  for (const Queue& q : {Queue{Reg::CMDQ_BASE, Reg::CMDQ_CONS, 8}, Queue{Reg::EVENTQ_BASE, Reg::EVENTQ_PROD, 7},
                         Queue{Reg::PRIQ_BASE, Reg::PRIQ_PROD, 6}}) {
    file->reset();
    for (unsigned log2 = 0; log2 < 32; ++log2) {
      (void)write(q.base, log2, 8);
      EXPECT_EQ(read(q.base), log2);
      (void)write(q.index, 0xfffff);
      EXPECT_EQ(read(q.index), (2u << std::min(log2, q.most)) - 1);
    }
    (void)write(q.base, 3);  // the low half alone
    EXPECT_EQ(read(q.index), 0xfu);
    (void)file->write(static_cast<std::uint32_t>(q.base) + 4, 4, 0);
    EXPECT_EQ(read(q.index), 0xfu);
  }
}

TEST_F(Window, EffectsAreNamed) {
  make(everything_announced(), masks_with_everything());
  const std::map<Reg, Effect> effects = {
      {Reg::CR0, Effect::cr0},
      {Reg::GBPA, Effect::gbpa},
      {Reg::IRQ_CTRL, Effect::irq_ctrl},
      {Reg::GERRORN, Effect::gerrorn},
      {Reg::CMDQ_PROD, Effect::cmdq_prod},
      {Reg::EVENTQ_CONS, Effect::evtq_cons},
      {Reg::PRIQ_CONS, Effect::priq_cons},
  };
  for (const RegInfo& r : kRegs) {
    const auto found = effects.find(r.reg);
    EXPECT_EQ(write(r.reg, 0xffffffff), found == effects.end() ? Effect::none : found->second) << r.name;
  }
}

TEST_F(Window, ResetUndoesEverything) {
  make(everything_announced(), masks_with_everything());
  const auto fresh0 = page0;
  const auto fresh1 = page1;
  random_stores();
  EXPECT_NE(page0, fresh0);
  EXPECT_NE(page1, fresh1);
  file->reset();
  EXPECT_EQ(page0, fresh0);
  EXPECT_EQ(page1, fresh1);
  EXPECT_EQ(file->cr0().words[0], 0u);
  EXPECT_EQ(file->priq_base().words[0], 0u);
}

// Each page has its own registers, and page 1 is no alias of page 0 (6.2).
TEST_F(Window, ThePagesAreNoAliases) {
  make(everything_announced(), masks_with_everything());
  EXPECT_EQ(file->write(kPage1 + 0x20, 4, 1), Effect::none);
  EXPECT_EQ(file->read(kPage1 + 0x20, 4), 0u);
  EXPECT_EQ(read(Reg::CR0), 0u);
  for (const std::uint32_t offset : {0xa8u, 0xacu, 0xc8u, 0xccu}) {
    EXPECT_EQ(file->write(offset, 4, 1), Effect::none);
    EXPECT_EQ(file->read(kPage1 + offset, 4), 0u);
  }
  // Nor do the pages continue beyond 4 KiB.
  EXPECT_EQ(file->write(0x1020, 4, 1), Effect::none);
  EXPECT_EQ(file->read(0x1000, 4), 0u);
}

// The table itself: in order, without overlap, nothing that is reserved.
TEST(RegisterRules, AreWellFormed) {
  std::map<Reg, std::uint64_t> seen;
  Reg last{};
  for (const vsmmu::FieldRule& rule : vsmmu::kFieldRules) {
    EXPECT_GE(static_cast<std::uint32_t>(rule.reg), static_cast<std::uint32_t>(last)) << rule.field;
    last = rule.reg;
    EXPECT_EQ(seen[rule.reg] & rule.mask, 0u) << rule.field;
    seen[rule.reg] |= rule.mask;
    EXPECT_FALSE(describe(rule.guard).empty());
    EXPECT_EQ(describe(rule.needs).empty(), rule.needs == vsmmu::Needs::nothing);
  }
  for (const RegInfo& r : kRegs)
    EXPECT_EQ(vsmmu::access_of(r.reg) == vsmmu::Access::stores, seen.contains(r.reg)) << r.name;
}

}  // namespace
}  // namespace weir::vsmmu::test
