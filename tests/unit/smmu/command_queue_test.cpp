// Errors of a physical command queue: who pays for them, and that nothing is lost.
#include "hyp/smmu/command_queue.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <functional>
#include <set>
#include <thread>

#include "tests/unit/smmu/fake_hardware.hpp"

namespace weir {
namespace {

using namespace smmu;
using test::FakeHardware;

struct Listener final : CommandQueueListener {
  void on_atc_timeout(StreamID sid) override { timeouts.push_back(sid.value); }
  bool on_dead_queue() override {
    ++deaths;
    return ends_dma;
  }
  bool ends_dma = true;
  std::vector<std::uint32_t> timeouts;
  unsigned deaths = 0;
};

// Adds time-outs of ATCs to the fake: a SYNC behind an ATC_INV of a hung stream fails once.
struct Hardware final : SmmuHardware {
  FakeHardware fake;
  std::set<std::uint32_t> hung;
  bool unreadable = false;
  bool stuck = false;  // consumes nothing
  bool owing = false;  // an ATC_INV that will never complete
  unsigned cpu = 0, cpus = 1;
  std::uint64_t tick = 1000;  // microseconds from one look at the clock to the next
  std::function<void()> on_relax;
  unsigned timeouts = 0;

  std::uint32_t read(Reg reg) override { return fake.read(reg); }
  void write(Reg reg, std::uint32_t value) override { fake.write(reg, value); }
  void write64(Reg reg, std::uint64_t value) override { fake.write64(reg, value); }
  std::optional<PA> allocate(std::size_t bytes) override { return fake.allocate(bytes); }
  void* pointer(PA at) override { return fake.pointer(at); }
  bool coherent() const override { return fake.coherent(); }
  void publish(const void*, std::size_t) override {}
  void collect(const void*, std::size_t) override {}
  std::uint64_t microseconds() override { return fake.now += tick; }
  unsigned pcpu() override { return cpu; }
  unsigned pcpus() override { return cpus; }
  void relax() override {
    if (on_relax) on_relax();
    if (stuck) return;
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

TEST_F(CommandQueueTest, AHungStreamIsNamedWhenTheSyncIsPushedLater) {
  const Command other = tlbi_nh_all(VMID{1});
  wait(queue.push({&other, 1}, true));
  hardware.hung = {2};
  const Command atc = atc_inv_all(StreamID{2});
  queue.push({&atc, 1}, false);
  wait(queue.push({&other, 1}, true));
  EXPECT_EQ(listener.timeouts, (std::vector<std::uint32_t>{2}));
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

// --- Time

TEST_F(CommandQueueTest, AQueueThatStandsStillIsGivenUp) {
  hardware.stuck = true;
  hardware.tick = 200'000;
  const Command one = tlbi_nh_all(VMID{1});
  const auto ticket = queue.push({&one, 1}, true);
  std::uint64_t n = 0;
  while (!queue.completed(ticket)) ASSERT_LT(++n, 100'000'000u);
  EXPECT_EQ(listener.deaths, 1u);
  EXPECT_GE(hardware.fake.now, CommandQueue::kGiveUp);
  EXPECT_LT(hardware.fake.now, 2 * CommandQueue::kGiveUp);
  const unsigned stores = hardware.fake.prod_stores;
  wait(queue.push({&one, 1}, true));
  EXPECT_EQ(hardware.fake.prod_stores, stores) << "it is not dropped";
  EXPECT_EQ(listener.deaths, 1u);
}

// An SMMU that cannot be turned off may translate with what it was to forget.
TEST_F(CommandQueueTest, NothingIsCompleteWhileDmaMayGoOn) {
  hardware.stuck = true;
  hardware.tick = 200'000;
  listener.ends_dma = false;
  const Command one = tlbi_nh_all(VMID{1});
  const auto ticket = queue.push({&one, 1}, true);
  while (hardware.fake.now < 5 * CommandQueue::kGiveUp) ASSERT_FALSE(queue.completed(ticket));
  EXPECT_GE(listener.deaths, 3u) << "not tried again";
  EXPECT_LE(listener.deaths, 5u);
  EXPECT_FALSE(queue.alive());
  listener.ends_dma = true;
  while (!queue.completed(ticket)) ASSERT_LT(hardware.fake.now, 10 * CommandQueue::kGiveUp);
}

TEST_F(CommandQueueTest, AnErrorIsNotAcknowledgedWhileDmaMayGoOn) {
  listener.ends_dma = false;
  const Command one = tlbi_nh_all(VMID{1});
  const auto ticket = queue.push({&one, 1}, true);
  hardware.unreadable = true;  // ten times, then it is given up
  for (unsigned i = 0; i < 1000; ++i) ASSERT_FALSE(queue.completed(ticket));
  EXPECT_GE(listener.deaths, 1u);
  hardware.unreadable = false;
  for (unsigned i = 0; i < 1000; ++i) ASSERT_FALSE(queue.completed(ticket));
  EXPECT_EQ(executed(one), 0u);
}

TEST_F(CommandQueueTest, AnSmmuThatSaysThatItHasFailedIsDeadAtOnce) {
  hardware.stuck = true;
  const Command one = tlbi_nh_all(VMID{1});
  const auto ticket = queue.push({&one, 1}, true);
  EXPECT_FALSE(queue.completed(ticket));
  queue.fail();
  queue.fail();
  EXPECT_EQ(listener.deaths, 1u);
  EXPECT_TRUE(queue.completed(ticket));
}

// The command that makes up for a lost one is lost itself, or cannot be read: what waits for either waits on.
TEST_F(CommandQueueTest, ASecondErrorWhileTheFirstIsMadeUpFor) {
  Command illegal;
  illegal.words[0] = 0xff;
  const auto behind = queue.push({&illegal, 1}, true);
  bool again = true;
  hardware.on_relax = [&] {
    if (executed(cfgi_all()) != 1 || !std::exchange(again, false)) return;
    queue.push({&illegal, 1}, false);
  };
  wait(behind);
  const auto last = queue.push({}, true);
  wait(last);
  EXPECT_EQ(executed(cfgi_all()), 2u);
  EXPECT_EQ(executed(tlbi_nsnh_all()), 2u);
  EXPECT_EQ(listener.deaths, 0u);
}

TEST_F(CommandQueueTest, AQueueThatFailsWhileAnErrorIsMadeUpForIsDead) {
  Command illegal;
  illegal.words[0] = 0xff;
  const auto behind = queue.push({&illegal, 1}, true);
  hardware.on_relax = [&] { hardware.unreadable = queue.counters().errors != 0; };
  listener.ends_dma = false;
  for (unsigned i = 0; i < 2000; ++i) ASSERT_FALSE(queue.completed(behind));
  EXPECT_EQ(executed(tlbi_nsnh_all()), 0u);
  EXPECT_GE(listener.deaths, 1u);
}

// T264-SMMU-3: CFGI and TLBI, SYNC, the same again, SYNC; the ticket is that of the second.
TEST(CommandQueueTwice, EachInvalidationIsRepeatedBehindASync) {
  Hardware hardware;
  CommandQueue queue{hardware, "x"};
  queue.invalidate_twice();
  ASSERT_TRUE(queue.init(4));
  const auto opcodes = [&] {
    std::vector<Opcode> all;
    for (const Command& c : hardware.fake.executed) all.push_back(c.opcode());
    hardware.fake.executed.clear();
    return all;
  };
  const auto run = [&](std::span<const Command> commands, bool sync) {
    const auto ticket = queue.push(commands, sync);
    while (!queue.completed(ticket)) {
    }
    return opcodes();
  };
  using enum Opcode;
  const Command mixed[] = {cfgi_ste(StreamID{1}, true), tlbi_nh_all(VMID{1}), atc_inv_all(StreamID{1}),
                           tlbi_nh_all(VMID{2})};
  EXPECT_EQ(run(mixed, true),
            (std::vector{CFGI_STE, TLBI_NH_ALL, ATC_INV, TLBI_NH_ALL, SYNC, CFGI_STE, TLBI_NH_ALL, TLBI_NH_ALL, SYNC}));
  // A SYNC that is pushed later is the second one.
  EXPECT_EQ(run({mixed, 1}, false), (std::vector{CFGI_STE, SYNC, CFGI_STE}));
  EXPECT_EQ(run({}, true), (std::vector{SYNC}));
  EXPECT_EQ(run({mixed + 2, 1}, true), (std::vector{ATC_INV, SYNC}));
  // More than the ring holds.
  const std::vector<Command> many(50, Command{tlbi_nh_all(VMID{1})});
  const auto executed = run(many, true);
  EXPECT_EQ(std::ranges::count(executed, TLBI_NH_ALL), 100);
  EXPECT_EQ(executed[50], SYNC);
}

TEST_F(CommandQueueTest, EveryHungStreamIsRemembered) {
  for (std::uint32_t sid = 0; sid < 200; ++sid) {
    hardware.hung = {sid};
    const Command one = atc_inv_all(StreamID{sid});
    wait(queue.push({&one, 1}, true));
  }
  hardware.hung.clear();
  for (std::uint32_t sid = 0; sid < 200; ++sid) EXPECT_TRUE(queue.atc_refused(StreamID{sid})) << sid;
  queue.allow_atc(StreamID{100});
  for (std::uint32_t sid = 0; sid < 200; ++sid) EXPECT_EQ(queue.atc_refused(StreamID{sid}), sid != 100) << sid;
  EXPECT_EQ(listener.deaths, 0u);
}

TEST_F(CommandQueueTest, MoreHungStreamsThanCanBeRememberedAreAFailure) {
  for (std::uint32_t sid = 0; sid <= CommandQueue::kMostRefused; ++sid) {
    EXPECT_EQ(listener.deaths, 0u);
    hardware.hung = {sid};
    const Command one = atc_inv_all(StreamID{sid});
    wait(queue.push({&one, 1}, true));
  }
  EXPECT_EQ(listener.deaths, 1u);
}

TEST_F(CommandQueueTest, AHungStreamThatCannotBeRememberedHoldsUpAllWhileDmaMayGoOn) {
  for (std::uint32_t sid = 0; sid < CommandQueue::kMostRefused; ++sid) {
    hardware.hung = {sid};
    const Command one = atc_inv_all(StreamID{sid});
    wait(queue.push({&one, 1}, true));
  }
  listener.ends_dma = false;
  hardware.hung = {CommandQueue::kMostRefused};
  const Command one = atc_inv_all(StreamID{CommandQueue::kMostRefused});
  const auto ticket = queue.push({&one, 1}, true);
  for (unsigned i = 0; i < 1000; ++i) ASSERT_FALSE(queue.completed(ticket));
  EXPECT_GE(listener.deaths, 1u);
}

TEST_F(CommandQueueTest, WhoeverWaitsForRoomInAQueueThatStandsStillGoesOnWhenItIsGivenUp) {
  hardware.stuck = true;
  hardware.tick = 200'000;
  const std::vector<Command> many(1000, Command{tlbi_nh_all(VMID{1})});
  wait(queue.push(many, true));
  EXPECT_EQ(listener.deaths, 1u);
}

TEST_F(CommandQueueTest, ADeviceThatDoesNotAnswerGetsTheTimeThatPcieGivesIt) {
  hardware.stuck = true;
  hardware.tick = 200'000;
  const Command one = atc_inv_all(StreamID{1});
  const auto ticket = queue.push({&one, 1}, true);
  while (hardware.fake.now < 100'000'000) ASSERT_FALSE(queue.completed(ticket));
  EXPECT_EQ(listener.deaths, 0u);
  hardware.stuck = false;
  wait(ticket);
  EXPECT_EQ(listener.deaths, 0u);
}

TEST_F(CommandQueueTest, APauseIsNoStandstill) {
  hardware.stuck = true;
  const Command one = tlbi_nh_all(VMID{1});
  const auto ticket = queue.push({&one, 1}, true);
  for (unsigned i = 0; i < 100; ++i) {
    for (unsigned polls = 0; polls < 5000; ++polls) ASSERT_FALSE(queue.completed(ticket));
    hardware.fake.now += CommandQueue::kGiveUp / 2;
  }
  EXPECT_EQ(listener.deaths, 0u);
}

// --- Fairness

struct Shared : testing::Test {
  static constexpr unsigned kPcpus = 4;
  Shared() {
    hardware.cpus = kPcpus;
    EXPECT_TRUE(queue.init(20));
  }
  stage2::Ticket push_as(unsigned cpu, std::span<const Command> commands, bool sync) {
    const unsigned before = std::exchange(hardware.cpu, cpu);
    const auto ticket = queue.push(commands, sync);
    hardware.cpu = before;
    return ticket;
  }
  Hardware hardware;
  CommandQueue queue{hardware, "x"};
};

// All others want to put in as much as they can, in batches of any size, whenever anybody waits.
TEST_F(Shared, AFloodDelaysASyncByTheOthersQuotasOnly) {
  for (const std::size_t batch : {std::size_t{1}, std::size_t{7}, std::size_t{64}, std::size_t{5000}}) {
    const std::vector<Command> flood(batch, Command{tlbi_nh_all(VMID{1})});
    // A pCPU that has to wait does not come back: the exception takes it out of push().
    struct Waits {};
    hardware.on_relax = [] { throw Waits{}; };
    for (unsigned cpu = 0; cpu < kPcpus - 1; ++cpu) try {
        for (;;) push_as(cpu, flood, batch == 7);
      } catch (const Waits&) {
      }
    const std::size_t before = hardware.fake.executed.size();
    const Command mine = tlbi_nh_all(VMID{2});
    stage2::Ticket ticket = 0;
    ASSERT_NO_THROW(ticket = push_as(kPcpus - 1, {&mine, 1}, true)) << "had to wait for room";
    hardware.on_relax = nullptr;
    while (!queue.completed(ticket)) {
    }
    EXPECT_LE(hardware.fake.executed.size() - before, kPcpus * CommandQueue::kQuota + 2);
    EXPECT_GE(hardware.fake.executed.size() - before, CommandQueue::kQuota) << "it was no flood";
    while (hardware.fake.step()) {
    }
    EXPECT_TRUE(queue.completed(queue.push({}, false)));
  }
}

TEST_F(Shared, ASmallRingIsShared) {
  Hardware small;
  small.cpus = kPcpus;
  for (const unsigned log2 : {0U, 1U, 3U, 5U}) {
    CommandQueue few{small, "x"};
    ASSERT_TRUE(few.init(log2));
    const std::vector<Command> many(50, Command{tlbi_nh_all(VMID{1})});
    const std::size_t before = small.fake.executed.size();
    for (unsigned cpu = 0; cpu < kPcpus; ++cpu) {
      small.cpu = cpu;
      const auto ticket = few.push(many, true);
      while (!few.completed(ticket)) {
      }
    }
    EXPECT_EQ(small.fake.executed.size() - before, kPcpus * 51);
  }
}

// Many rounds of the ring, in batches of all sizes: each command once and in order, each ticket complete when the SMMU is
// behind it and not before, with CONS anywhere.
TEST_F(Shared, TicketsCompleteInEachRoundOfTheRing) {
  for (const bool snoops : {true, false}) {
    Hardware small;
    small.cpus = 2;
    small.fake.snoops = snoops;
    CommandQueue few{small, "x"};
    ASSERT_TRUE(few.init(5));
    std::deque<std::pair<stage2::Ticket, std::size_t>> waiting;  // and how many commands are ahead of it
    std::vector<Command> pushed;
    for (unsigned n = 0; n < 2000; ++n) {
      std::vector<Command> batch;
      for (unsigned k = 0; k < n * 7 % 5; ++k)
        batch.push_back(tlbi_nh_asid(VMID{1}, ASID{static_cast<std::uint16_t>(n)}));
      small.cpu = n / 3 % 2;
      const auto ticket = few.push(batch, n % 2 == 0);
      pushed.insert(pushed.end(), batch.begin(), batch.end());
      if (n % 2 == 0) pushed.push_back(sync_none());
      waiting.emplace_back(ticket, pushed.size());
      for (unsigned k = 0; k < n * 11 % 5; ++k) small.fake.step();
      for (const auto& [t, ahead] : waiting)
        if (small.fake.executed.size() < ahead) {
          ASSERT_FALSE(few.completed(t));
          break;
        }
      while (!waiting.empty() && small.fake.executed.size() >= waiting.front().second && n % 3 == 0) {
        ASSERT_TRUE(few.completed(waiting.front().first));
        waiting.pop_front();
      }
    }
    while (small.fake.step()) {
    }
    EXPECT_EQ(small.fake.executed, pushed);
  }
}

TEST_F(Shared, OneStoreOfProdForEachBatchThatFits) {
  const std::vector<Command> batch(CommandQueue::kQuota - 2, Command{tlbi_nh_all(VMID{1})});
  for (unsigned i = 1; i < 20; ++i) {
    const auto ticket = push_as(i % kPcpus, batch, true);
    EXPECT_EQ(hardware.fake.prod_stores, i);
    while (!queue.completed(ticket)) {
    }
  }
}

// The SMMU is a thread of its own; so is each pCPU.
struct Threaded final : SmmuHardware {
  static constexpr unsigned kPcpus = 4;
  static inline thread_local unsigned cpu = 0;
  std::unique_ptr<Command[]> ring;
  std::uint32_t size = 0;
  std::atomic<std::uint32_t> prod{0}, cons{0};
  std::atomic<bool> stop{false};
  std::array<std::vector<std::uint64_t>, kPcpus> seen;  // the numbers of each pCPU's commands, as they were executed

  std::uint32_t read(Reg reg) override { return reg == Reg::CMDQ_CONS ? cons.load(std::memory_order_acquire) : 0; }
  void write(Reg reg, std::uint32_t value) override {
    if (reg == Reg::CMDQ_PROD) prod.store(value, std::memory_order_release);
  }
  void write64(Reg, std::uint64_t) override {}
  std::optional<PA> allocate(std::size_t bytes) override {
    ring = std::make_unique<Command[]>(bytes / sizeof(Command));
    size = static_cast<std::uint32_t>(bytes / sizeof(Command));
    return PA{0};
  }
  void* pointer(PA) override { return ring.get(); }
  bool coherent() const override { return true; }
  void publish(const void*, std::size_t) override {}
  void collect(const void*, std::size_t) override {}
  std::uint64_t microseconds() override { return 0; }
  void relax() override { std::this_thread::yield(); }
  unsigned pcpu() override { return cpu; }
  unsigned pcpus() override { return kPcpus; }

  void run() {
    std::uint32_t at = 0;
    for (unsigned n = 0; !stop.load(); ++n) {
      if (at == prod.load(std::memory_order_acquire)) {
        std::this_thread::yield();
        continue;
      }
      const Command c = ring[at & (size - 1)];
      if (const auto t = c.as<TlbiNhVa>())
        seen[t->get<TlbiNhVa::ASID>().value].push_back(t->get<TlbiNhVa::Address>().value / kPage4K);
      at = (at + 1) & (2 * size - 1);
      cons.store(at, std::memory_order_release);
      if (n % 64 == 0) std::this_thread::yield();
    }
  }
};

TEST(CommandQueueThreads, EachPcpusCommandsAreExecutedOnceAndInOrder) {
  constexpr unsigned kBatches = 300;
  Threaded hardware;
  CommandQueue queue{hardware, "x"};
  ASSERT_TRUE(queue.init(9));  // less than the quotas of all together
  std::thread smmu{[&] { hardware.run(); }};
  std::vector<std::thread> pcpus;
  std::array<std::atomic<std::uint64_t>, Threaded::kPcpus> pushed{};
  for (unsigned i = 0; i < Threaded::kPcpus; ++i)
    pcpus.emplace_back([&, i] {
      Threaded::cpu = i;
      std::uint64_t number = 0;
      for (unsigned b = 0; b < kBatches; ++b) {
        std::vector<Command> batch;
        const unsigned count = (b * 37 + i * 11) % 150;
        for (unsigned n = 0; n < count; ++n)
          batch.push_back(tlbi_nh_va(VMID{1}, ASID{static_cast<std::uint16_t>(i)}, IOVA{number++ * kPage4K}, true));
        const bool sync = b % 3 != 0;
        const auto ticket = queue.push(batch, sync);
        while (sync && !queue.completed(ticket)) {
        }
      }
      const auto last = queue.push({}, true);
      while (!queue.completed(last)) {
      }
      pushed[i] = number;
    });
  for (std::thread& t : pcpus) t.join();
  hardware.stop = true;
  smmu.join();
  for (unsigned i = 0; i < Threaded::kPcpus; ++i) {
    ASSERT_EQ(hardware.seen[i].size(), pushed[i].load());
    for (std::size_t n = 0; n < hardware.seen[i].size(); ++n) ASSERT_EQ(hardware.seen[i][n], n) << "pCPU " << i;
  }
}

}  // namespace
}  // namespace weir
