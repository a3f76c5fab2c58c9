// Errors of a physical command queue: who pays for them, and that nothing is lost.
#include "hyp/smmu/command_queue.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <set>

#include "tests/unit/smmu/fake_hardware.hpp"

namespace weir {
namespace {

using namespace smmu;
using test::FakeHardware;

struct Listener final : CommandQueueListener {
  void on_atc_timeout(StreamID sid) override { timeouts.push_back(sid.value); }
  void on_dead_queue() override { ++deaths; }
  std::vector<std::uint32_t> timeouts;
  unsigned deaths = 0;
};

// Adds time-outs of ATCs to the fake: a SYNC behind an ATC_INV of a hung stream fails once.
struct Hardware final : SmmuHardware {
  FakeHardware fake;
  std::set<std::uint32_t> hung;
  bool unreadable = false;
  bool owing = false;  // an ATC_INV that will never complete
  unsigned timeouts = 0;

  std::uint32_t read(Reg reg) override { return fake.read(reg); }
  void write(Reg reg, std::uint32_t value) override { fake.write(reg, value); }
  void write64(Reg reg, std::uint64_t value) override { fake.write64(reg, value); }
  std::optional<PA> allocate(std::size_t bytes) override { return fake.allocate(bytes); }
  void* pointer(PA at) override { return fake.pointer(at); }
  void publish(const void*, std::size_t) override {}
  void collect(const void*, std::size_t) override {}
  std::uint64_t microseconds() override { return fake.microseconds(); }
  void relax() override {
    const CMDQ_CONS cons{{{fake.read(Reg::CMDQ_CONS)}}};
    if (cons.get<CMDQ_CONS::ERR>() != CmdqError::CERROR_NONE) return;
    if (fake.read(Reg::CMDQ_CONS) == fake.read(Reg::CMDQ_PROD)) return;
    if (unreadable) return fail(CmdqError::CERROR_ABT);
    const CMDQ_BASE base{{{fake.registers[Reg::CMDQ_BASE]}}};
    const auto* ring = reinterpret_cast<const Command*>(base.get<CMDQ_BASE::ADDR>());
    const Command& c = ring[cons.get<CMDQ_CONS::RD>() & ((1u << base.get<CMDQ_BASE::LOG2SIZE>()) - 1)];
    if (const auto inv = c.as<AtcInv>(); inv && hung.contains(inv->get<AtcInv::StreamID>())) owing = true;
    if (c.opcode() == Opcode::SYNC && owing) {
      owing = false;
      ++timeouts;
      return fail(CmdqError::CERROR_ATC_INV_SYNC);
    }
    fake.step();
  }
  void fail(CmdqError error) {
    fake.change<CMDQ_CONS>(Reg::CMDQ_CONS, [&](auto& r) { r.template set<CMDQ_CONS::ERR>(error); });
    fake.change<GERROR>(Reg::GERROR,
                        [](auto& r) { r.template set<GERROR::CMDQ_ERR>(!r.template get<GERROR::CMDQ_ERR>()); });
  }
};

struct CommandQueueTest : testing::Test {
  CommandQueueTest() { EXPECT_TRUE(queue.init(4)); }
  void wait(stage2::Ticket t) {
    for (unsigned n = 0; !queue.completed(t); ++n) ASSERT_LT(n, 100'000u);
  }
  unsigned executed(const Command& c) { return static_cast<unsigned>(std::ranges::count(hardware.fake.executed, c)); }
  Hardware hardware;
  Listener listener;
  CommandQueue queue{hardware, "x", &listener};
};

TEST_F(CommandQueueTest, AtcInvalidationsOfTwoStreamsHaveASyncInBetween) {
  const Command batch[] = {atc_inv_all(StreamID{1}), atc_inv_all(StreamID{1}), atc_inv_all(StreamID{2})};
  wait(queue.push(batch, true));
  ASSERT_EQ(hardware.fake.executed.size(), 5u);
  EXPECT_EQ(hardware.fake.executed[2].opcode(), Opcode::SYNC);
  EXPECT_EQ(hardware.fake.executed[4].opcode(), Opcode::SYNC);
}

TEST_F(CommandQueueTest, AHungStreamIsNamedAndCostsOneTimeout) {
  hardware.hung = {2};
  const Command batch[] = {atc_inv_all(StreamID{1}), atc_inv_all(StreamID{2}), atc_inv_all(StreamID{3})};
  const auto first = queue.push(batch, true);
  const auto again = queue.push(batch, true);
  wait(first);
  EXPECT_EQ(listener.timeouts, (std::vector<std::uint32_t>{2}));
  wait(again);
  wait(queue.push(batch, true));
  EXPECT_EQ(hardware.timeouts, 1u);
  EXPECT_EQ(executed(atc_inv_all(StreamID{1})), 3u);
  EXPECT_EQ(executed(atc_inv_all(StreamID{2})), 1u);
  EXPECT_EQ(executed(atc_inv_all(StreamID{3})), 3u);
  hardware.hung.clear();
  queue.allow_atc(StreamID{2});
  wait(queue.push(batch, true));
  EXPECT_EQ(executed(atc_inv_all(StreamID{2})), 2u);
}

TEST_F(CommandQueueTest, SeveralHungStreamsAreEachNamedBeforeTheTicketCompletes) {
  hardware.hung = {1, 3};
  const Command batch[] = {atc_inv_all(StreamID{1}), atc_inv_all(StreamID{2}), atc_inv_all(StreamID{3})};
  wait(queue.push(batch, true));
  EXPECT_EQ(listener.timeouts, (std::vector<std::uint32_t>{1, 3}));
}

TEST_F(CommandQueueTest, ALostCommandIsMadeUpForBeforeTicketsBehindItComplete) {
  Command illegal;
  illegal.words[0] = 0xff;
  const Command one = tlbi_nh_all(VMID{1});
  const auto before = queue.push({&one, 1}, true);
  const auto behind = queue.push({&illegal, 1}, true);
  wait(before);
  EXPECT_EQ(executed(cfgi_all()), 0u);
  wait(behind);
  EXPECT_EQ(executed(cfgi_all()), 1u);
  EXPECT_EQ(executed(tlbi_nsnh_all()), 1u);
  EXPECT_EQ(hardware.fake.executed.back().opcode(), Opcode::SYNC);
  wait(queue.push({&one, 1}, true));
  EXPECT_EQ(executed(cfgi_all()), 1u);
}

TEST_F(CommandQueueTest, AnUnreadableQueueIsTriedAgainButNotForEver) {
  hardware.unreadable = true;
  const Command one = tlbi_nh_all(VMID{1});
  const auto ticket = queue.push({&one, 1}, true);
  wait(ticket);
  EXPECT_EQ(listener.deaths, 1u);
  EXPECT_GT(queue.counters().errors, 2u);
  EXPECT_LT(queue.counters().errors, 20u);
  for (unsigned i = 0; i < 100; ++i) wait(queue.push({&one, 1}, true));  // dropped
  EXPECT_EQ(listener.deaths, 1u);
}

TEST_F(CommandQueueTest, AnAbortThatPassesIsForgotten) {
  hardware.unreadable = true;
  const Command one = tlbi_nh_all(VMID{1});
  const auto ticket = queue.push({&one, 1}, true);
  for (unsigned i = 0; i < 3; ++i) EXPECT_FALSE(queue.completed(ticket));
  hardware.unreadable = false;
  wait(ticket);
  EXPECT_EQ(executed(one), 1u);
  EXPECT_EQ(listener.deaths, 0u);
}

}  // namespace
}  // namespace weir
