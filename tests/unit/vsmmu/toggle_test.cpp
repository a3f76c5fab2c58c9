// The enables of CR0, toggled at any time and in any order (IHI 0070, 6.3.9), and reset.
#include <random>

#include "tests/unit/vsmmu/fixture.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;

constexpr StreamID kFirstSid{0x100};

stage2::Capabilities with_pri() {
  auto c = qemu_like_capabilities();
  c.idr0.set<IDR0::ATS>(true).set<IDR0::PRI>(true);
  return c;
}

// A vSMMU with some streams, whose exits do very little each.
class Toggles : public ::testing::Test {
 protected:
  static constexpr unsigned kStreams = 5;
  Toggles() {
    for (unsigned i = 0; i < kStreams; ++i) {
      EXPECT_TRUE(virt.vsmmu->attach(VStreamID{i}, smmu0, StreamID{kFirstSid.value + i}));
      guest.put_ste(i, Guest::s1_ste());
    }
  }
  void cr0(std::uint32_t value) {
    guest.write(Reg::CR0, value);
    EXPECT_EQ(guest.read(Reg::CR0ACK), value);
  }
  // Of the TLBI_NH_VA that reached the instance.
  [[nodiscard]] std::vector<std::uint64_t> pages() {
    std::vector<std::uint64_t> p;
    for (const auto& c : smmu0.all<TlbiNhVa>()) p.push_back(c.get<TlbiNhVa::Address>().value >> 12);
    return p;
  }

  static constexpr std::uint32_t kCmdq = CR0::CMDQEN::mask;
  static constexpr std::uint32_t kSmmu = CR0::SMMUEN::mask;
  Machine machine{1, with_pri()};
  FakeSmmu& smmu0 = *machine.smmus[0];
  Virtual virt{machine, {.ats = true, .pri = true}, {.commands = 2, .polls = 1, .installs = 1}};
  Guest guest{virt};
};

// 6.3.9.3: CONS says what was consumed before CMDQEN is acknowledged as 0, in the middle of a command of many steps too.
TEST_F(Toggles, ConsIsExactWhenTheQueueIsOff) {
  guest.enable();
  const std::uint32_t on = guest.read(Reg::CR0);
  guest.queue(nh_va(1, 0x1000));
  guest.queue(cfgi_all());
  guest.queue(nh_va(1, 0x2000));
  for (unsigned i = 0; i < kStreams; ++i) guest.put_ste(i, Ste{});
  // Two exits: CFGI_ALL has begun.
  for (unsigned exit = 0; exit < 2; ++exit)
    ASSERT_EQ(virt.vsmmu->write(static_cast<std::uint32_t>(Reg::CMDQ_PROD), 4, guest.prod), Progress::again);
  EXPECT_LE(guest.cons(), 1u);
  cr0(on & ~kCmdq);
  const auto counted = virt.vsmmu->counters().commands;
  const auto consumed =
      counted[static_cast<std::size_t>(Opcode::TLBI_NH_VA)] + counted[static_cast<std::size_t>(Opcode::CFGI_STE_RANGE)];
  EXPECT_EQ(consumed, 2u);
  EXPECT_EQ(guest.cons(), consumed);
  EXPECT_EQ(pages(), (std::vector<std::uint64_t>{1}));
  cr0(on);
  EXPECT_EQ(guest.cons(), 3u);
  EXPECT_EQ(pages(), (std::vector<std::uint64_t>{1, 2}));
}

TEST_F(Toggles, AnIndexStoredWhileOffSurvivesOtherEnables) {
  guest.enable();
  cr0(0);
  guest.write(Reg::CMDQ_CONS, 4);
  cr0(CR0::EVENTQEN::mask);
  EXPECT_EQ(guest.cons(), 4u);
  guest.prod = 4;
  guest.kick();
  guest.queue(nh_va(1, 0x7000));
  guest.kick();
  EXPECT_TRUE(pages().empty());
  cr0(kCmdq);
  EXPECT_EQ(guest.cons(), 5u);
  EXPECT_EQ(pages(), (std::vector<std::uint64_t>{7}));
}

TEST_F(Toggles, EveryEnableFromEveryOther) {
  guest.write64(Reg::CMDQ_BASE, weir::vsmmu::test::kCmdq.value | Guest::kLog2);
  constexpr std::uint32_t kBits = 0x1f;
  for (std::uint32_t from = 0; from <= kBits; ++from) {
    for (std::uint32_t to = 0; to <= kBits; ++to) {
      cr0(from);
      cr0(to);
      const bool translating = (to & kSmmu) != 0;
      // An abort of the stream table's fetch, or stage 2 alone.
      EXPECT_EQ(smmu0.stes[kFirstSid].get<Ste::V>(), !translating);
    }
  }
}

// Commands are carried out once each and in order, whatever is toggled by whichever vCPU.
TEST_F(Toggles, NoCommandIsLostOrRepeated) {
  std::mt19937 random{42};
  guest.enable();
  bool nested = false;
  guest.on_again = [&] {  // another vCPU
    if (nested || random() % 4 != 0) return;
    nested = true;
    guest.write(Reg::CR0, random() & 0x1f);
    nested = false;
  };
  std::uint64_t page = 0;
  std::vector<std::uint64_t> wanted;
  for (unsigned round = 0; round < 3000; ++round) {
    const auto in_queue = (guest.prod - guest.cons()) & ((2u << Guest::kLog2) - 1);
    if (in_queue < 200) {
      for (unsigned n = random() % 6; n != 0; --n) {
        switch (random() % 8) {
          case 0: guest.queue(cfgi_all()); break;
          case 1: guest.queue(sync_none()); break;
          default: wanted.push_back(++page); guest.queue(nh_va(1, page << 12));
        }
      }
      guest.kick();
    }
    // CONS stands still while the queue is off.
    guest.write(Reg::CR0, random() & 0x1f);
    if ((guest.read(Reg::CR0ACK) & kCmdq) == 0) {
      const std::uint32_t cons = guest.cons();
      guest.kick();
      if ((guest.read(Reg::CR0ACK) & kCmdq) == 0) EXPECT_EQ(guest.cons(), cons);
    }
    EXPECT_FALSE(guest.cmdq_error());
  }
  guest.on_again = nullptr;
  cr0(kCmdq | kSmmu);
  guest.kick();
  EXPECT_EQ(guest.cons(), guest.prod);
  EXPECT_EQ(pages(), wanted);
}

TEST_F(Toggles, ResetReturnsEverything) {
  const auto fresh0 = virt.page0;
  const auto fresh1 = virt.page1;
  guest.write64(Reg::PRIQ_BASE, 0x4011'0000 | 5);
  guest.write(Reg::PRIQ_PROD, 3);
  guest.write(Reg::PRIQ_CONS, 2);
  for (const Reg r : {Reg::EVENTQ_IRQ_CFG0, Reg::PRIQ_IRQ_CFG0, Reg::GERROR_IRQ_CFG0}) guest.write64(r, 0x808'0040);
  for (const Reg r : {Reg::EVENTQ_IRQ_CFG1, Reg::PRIQ_IRQ_CFG1, Reg::GERROR_IRQ_CFG1}) guest.write(r, 1);
  guest.write(Reg::PRIQ_IRQ_CFG2, 0x8000'0011);
  guest.write(Reg::GBPA, GBPA::Update::mask | GBPA::ABORT::mask);
  guest.enable(0x1f);
  guest.write(Reg::IRQ_CTRL, 7);
  guest.submit({nh_va(1, 0x1000), sync_none(), Command{}});  // the last is illegal
  EXPECT_TRUE(guest.cmdq_error());
  EXPECT_EQ(guest.read(Reg::IRQ_CTRLACK), 7u);
  virt.vsmmu->reset();
  EXPECT_EQ(virt.page0, fresh0);
  EXPECT_EQ(virt.page1, fresh1);
  EXPECT_EQ(smmu0.stes[kFirstSid].get<Ste::Config>(), SteConfig::s2);
  // CMDQ_PROD reads as 0, and is: nothing is consumed before the guest stores to it.
  machine.forget();
  guest.write64(Reg::CMDQ_BASE, weir::vsmmu::test::kCmdq.value | Guest::kLog2);
  cr0(kCmdq);
  EXPECT_EQ(guest.cons(), 0u);
  EXPECT_TRUE(smmu0.commands.empty());
}

}  // namespace
}  // namespace weir::vsmmu::test
