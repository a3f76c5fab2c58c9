#include "stage2/dirty_log.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "stage2/epoch.hpp"
#include "tests/unit/fakes/failing_new.hpp"
#include "tests/unit/stage2/vm_memory_rig.hpp"

namespace weir::stage2::test {
namespace {

using hypercall::DirtyLimits;
using weir::test::FailingNew;

constexpr std::uint64_t kDevices = DirtyLimits::Devices::mask, kPeers = DirtyLimits::Peers::mask;
constexpr std::uint64_t kPages = kRamBytes / kPage4K;

IPA page(std::uint64_t n) { return kRam + n * kPage4K; }
IPA loan(std::uint64_t n) { return kLoans + n * kPage4K; }

struct Bits final : VmMemory::DirtyBits {
  bool take(std::span<const std::uint64_t> dirty) override {
    if (meanwhile) meanwhile();
    if (!takes) return false;
    for (std::size_t i = 0; i < dirty.size() * 64; ++i)
      if ((dirty[i / 64] >> i % 64 & 1) != 0) pages.insert(i);
    return true;
  }
  bool takes = true;
  std::set<std::uint64_t> pages;
  std::function<void()> meanwhile;
};
using Pages = std::set<std::uint64_t>;

class LogRig : public testing::Test {
 protected:
  explicit LogRig(Table::Options options) : m{options} {}

  static void start(VmMemory& vm) {
    for (int n = 0;; ++n) {
      const MemoryOutcome got = vm.dirty_start();
      ASSERT_EQ(got.result, Result::success);
      if (got.done == 0) return;
      ASSERT_LT(n, 1000);
    }
  }
  static void stop(VmMemory& vm) {
    for (int n = 0;; ++n) {
      const MemoryOutcome got = vm.dirty_stop();
      ASSERT_EQ(got.result, Result::success);
      if (got.done == 0) return;
      ASSERT_LT(n, 1000);
    }
  }
  // What has been written, as far as it was seen.
  static Pages seen(VmMemory& vm, std::uint64_t limits) {
    Bits bits;
    const MemoryOutcome got = vm.dirty_read(kRam, kPages, true, bits);
    EXPECT_EQ(got.result, Result::success);
    EXPECT_EQ(got.done, kPages);
    EXPECT_EQ(got.extra, limits);
    return bits.pages;
  }
  // And what may have been written besides.
  static Pages all(VmMemory& vm) {
    Bits bits;
    EXPECT_EQ(vm.dirty_read(kRam, kPages, false, bits).result, Result::success);
    return bits.pages;
  }
  std::uint64_t offer(VmMemory& vm, std::uint64_t first, std::uint64_t pages, bool loan, bool write) {
    const auto got = vm.offer({page(first), pages, vm.config().id ^ 1, write, loan}, 0);
    EXPECT_EQ(got.done, pages);
    return got.extra;
  }
  static void take_back(VmMemory& vm, std::uint64_t handle) {
    for (MemoryOutcome got{.done = 1}; got.done != 0;) {
      got = vm.take_back(handle);
      ASSERT_EQ(got.result, Result::success);
    }
  }
  bool store(unsigned vm, IPA at) { return m.vms[vm].cpus.store(at, m.memory(vm).log()); }

  void moves(std::uint64_t limits);

  Machine m;
  VmMemory& a = m.memory(0);
  VmMemory& b = m.memory(1);
};
struct DirtyLogTest : LogRig {
  DirtyLogTest() : LogRig{{.bbml = 2}} {}
};
struct HttuLogTest : LogRig {
  HttuLogTest() : LogRig{{.bbml = 2, .dirty_state = true}} {}
};

TEST_F(DirtyLogTest, SaysWhatTheCpusWrote) {
  EXPECT_TRUE(a.log().possible());
  Bits bits;
  EXPECT_EQ(a.dirty_read(kRam, kPages, true, bits).result, Result::wrong_state);
  for (const bool hardware : {true, false}) {
    SCOPED_TRACE(hardware);
    m.vms[0].cpus.keeps_dirty_state = hardware;
    EXPECT_TRUE(store(0, page(9))) << "before";
    start(a);
    EXPECT_EQ(a.dirty_start().done, 0u) << "it is on, and forgets nothing";
    EXPECT_EQ(seen(a, kDevices), Pages{});
    EXPECT_TRUE(store(0, page(0)) && store(0, page(9)) && store(0, page(kPages - 1)));
    EXPECT_EQ(a.dirty_start().done, 0u);
    EXPECT_EQ(seen(a, kDevices), (Pages{0, 9, kPages - 1}));
    EXPECT_EQ(seen(a, kDevices), Pages{});
    EXPECT_TRUE(store(0, page(9))) << "no TLB goes on taking it for dirty";
    a.log().written(page(700), 1);  // EL2
    EXPECT_EQ(seen(a, kDevices), (Pages{9, 700}));
    EXPECT_TRUE(m.sound());
    stop(a);
    EXPECT_EQ(a.dirty_read(kRam, kPages, true, bits).result, Result::wrong_state);
    EXPECT_TRUE(store(0, page(3)));
    EXPECT_EQ(m.vms[0].domain->lookup(kRam)->level, 2u) << "devices never had less than blocks";
  }
  EXPECT_EQ(b.dirty_read(kRam, kPages, true, bits).result, Result::wrong_state) << "each VM has its own";
}

TEST_F(DirtyLogTest, WhatIsRefused) {
  Bits bits;
  EXPECT_EQ(m.memory(2).dirty_start().result, Result::not_supported);
  EXPECT_EQ(m.memory(2).dirty_read(kRam, 1, true, bits).result, Result::not_supported);
  EXPECT_EQ(m.memory(2).dirty_stop().result, Result::not_supported);
  start(a);
  EXPECT_EQ(a.dirty_read(kRam + 8, 1, true, bits).result, Result::invalid);
  EXPECT_EQ(a.dirty_read(kRam, 0, true, bits).result, Result::invalid);
  EXPECT_EQ(a.dirty_read(kRam, kPages + 1, true, bits).result, Result::invalid);
  EXPECT_EQ(a.dirty_read(kLoans, 1, true, bits).result, Result::invalid);
  bits.meanwhile = [&] {
    Bits other;
    EXPECT_EQ(a.dirty_read(kRam, 1, true, other).result, Result::busy);
    EXPECT_EQ(a.dirty_start().result, Result::busy);
    EXPECT_EQ(a.dirty_stop().result, Result::busy);
  };
  EXPECT_EQ(a.dirty_read(kRam, 70, true, bits).done, 70u);
}

TEST_F(DirtyLogTest, WhatCannotBeDeliveredIsNotLost) {
  start(a);
  EXPECT_TRUE(store(0, page(5)) && store(0, page(1000)));
  Bits bits;
  bits.takes = false;
  EXPECT_EQ(a.dirty_read(kRam, kPages, false, bits).result, Result::invalid);
  EXPECT_EQ(seen(a, kDevices), (Pages{5, 1000})) << "those, and not what might have been written besides";
}

TEST_F(DirtyLogTest, WhatDevicesMayWriteCounts) {
  start(a);
  const auto handle = offer(a, 600, 2, true, false);
  EXPECT_EQ(a.relinquish(page(3), 1).done, 1u);
  const auto may = all(a);
  EXPECT_EQ(may.size(), kPages - 3);
  EXPECT_FALSE(may.contains(3) || may.contains(600) || may.contains(601)) << "given away, lent";
  EXPECT_EQ(seen(a, kDevices), Pages{});
  take_back(a, handle);
  // They may have written until they left.
  Machine::detach(m.vms[0]);
  EXPECT_EQ(seen(a, kDevices), Pages{});
  stop(a);
  start(a);
  EXPECT_TRUE(store(0, page(8)));
  EXPECT_EQ(seen(a, 0), Pages{8}) << "there are none";
  EXPECT_TRUE(store(0, page(8)));
  EXPECT_EQ(all(a), Pages{8});
}

TEST_F(HttuLogTest, WhatDevicesWriteIsSeen) {
  start(a);
  EXPECT_EQ(all(a), Pages{});
  const Table& devices = m.vms[0].domain->table_of(*m.vms[0].tags[1]);
  EXPECT_TRUE(devices.mark_dirty(page(77)));  // S2HD
  EXPECT_TRUE(store(0, page(78)));
  a.log().written(page(79), 1);
  EXPECT_EQ(all(a), (Pages{77, 78, 79}));
  EXPECT_EQ(all(a), Pages{});
  EXPECT_TRUE(m.sound());
  // A device behind an SMMU without dirty state comes.
  FakeSmmu plain{7};
  auto tag = *HostTag::create(plain);
  ASSERT_TRUE(m.vms[0].domain->attach(*tag));
  EXPECT_EQ(seen(a, kDevices), Pages{});
  EXPECT_EQ(all(a).size(), kPages);
  m.vms[0].domain->detach(std::move(tag));
  EXPECT_EQ(seen(a, kDevices), Pages{}) << "what it wrote was not seen";
  EXPECT_TRUE(b.dirty_start().result == Result::success);
  stop(b);  // half way
  stop(a);
  EXPECT_TRUE(m.vms[0].domain->check_invariants());
  start(a);
  EXPECT_EQ(seen(a, 0), Pages{});
}

// --- Memory that moves meanwhile -------------------------------------------------------------------------------------

void LogRig::moves(std::uint64_t limits) {
  EXPECT_EQ(a.relinquish(page(10), 2).done, 2u);
  EXPECT_FALSE(store(0, page(10)));
  EXPECT_EQ(a.reclaim(page(10), 1).done, 1u);
  EXPECT_TRUE(seen(a, limits).contains(10)) << "a new page is another one than was read before";
  EXPECT_EQ(seen(a, limits), Pages{});
  EXPECT_TRUE(store(0, page(10)));
  EXPECT_EQ(seen(a, limits), Pages{10});
  for (std::uint64_t n = 512; n < 1024;) n += std::max(a.relinquish(page(n), 1024 - n).done, std::uint64_t{1});
  for (std::uint64_t n = 512; n < 1024;) n += std::max(a.reclaim(page(n), 1024 - n).done, std::uint64_t{1});
  EXPECT_EQ(seen(a, limits).size(), 512u);
  EXPECT_EQ(seen(a, limits), Pages{});
  // Lent for reading: it comes back as it was.
  EXPECT_TRUE(store(0, page(20)));
  auto handle = offer(a, 20, 2, true, false);
  EXPECT_FALSE(store(0, page(20)));
  EXPECT_EQ(seen(a, limits), Pages{20}) << "written before it was lent";
  EXPECT_EQ(b.accept(handle, loan(0), 2).done, 2u);
  EXPECT_FALSE(store(1, loan(0)));
  take_back(a, handle);
  EXPECT_EQ(seen(a, limits), Pages{});
  EXPECT_TRUE(store(0, page(20)));
  EXPECT_EQ(seen(a, limits), Pages{20});
  EXPECT_TRUE(m.sound());
}

TEST_F(DirtyLogTest, FollowsMemoryThatMoves) {
  start(a);
  moves(kDevices);
}

TEST_F(HttuLogTest, FollowsMemoryThatMoves) {
  start(a);
  moves(0);
}

TEST_F(DirtyLogTest, WhatAPeerMayWriteCountsUntilItHasGone) {
  start(a);
  for (const bool loaned : {false, true}) {
    SCOPED_TRACE(loaned);
    const auto handle = offer(a, 30, 4, loaned, true);
    EXPECT_EQ(b.accept(handle, loan(0), 4).done, 4u);
    EXPECT_EQ(seen(a, kDevices | kPeers), Pages{});
    EXPECT_TRUE(store(1, loan(1)));
    EXPECT_EQ(seen(a, kDevices | kPeers), Pages{}) << "not known";
    Machine::detach(m.vms[0]);
    stop(a);
    start(a);
    EXPECT_EQ(all(a), (Pages{30, 31, 32, 33})) << "and so all of them";
    EXPECT_TRUE(store(1, loan(2)));
    if (loaned) {
      EXPECT_EQ(b.release(handle).done, 0u);
      EXPECT_EQ(seen(a, kPeers), (Pages{30, 31, 32, 33}));
      take_back(a, handle);
      EXPECT_EQ(seen(a, 0), Pages{});
    } else {
      take_back(a, handle);
      EXPECT_EQ(seen(a, 0), (Pages{30, 31, 32, 33})) << "nobody would say so any more";
    }
    EXPECT_EQ(all(a), Pages{});
    // One that only reads is none.
    const auto readable = offer(a, 30, 4, loaned, false);
    EXPECT_EQ(b.accept(readable, loan(0), 4).done, 4u);
    EXPECT_EQ(all(a), Pages{});
    take_back(a, readable);
    EXPECT_EQ(all(a), Pages{});
    for (unsigned s = 0; s < 2; ++s) {
      m.vms[0].tags[s] = *HostTag::create(m.smmus[s]);
      EXPECT_TRUE(m.vms[0].domain->attach(*m.vms[0].tags[s]));
    }
  }
}

// A borrower's own log: what it has from others is there, and no part of it.
TEST_F(DirtyLogTest, LoansStayWhileTheBorrowersLogIsOn) {
  const auto before = offer(a, 0, 4, true, true);
  EXPECT_EQ(b.accept(before, loan(5), 4).done, 4u);
  start(b);
  EXPECT_TRUE(store(1, loan(5)));
  const auto after = offer(a, 8, 4, false, true);
  EXPECT_EQ(b.accept(after, loan(100), 4).done, 4u);
  EXPECT_TRUE(store(1, loan(100)));
  EXPECT_EQ(seen(b, kDevices), Pages{});
  take_back(a, before);
  EXPECT_FALSE(store(1, loan(5)));
  stop(b);
  EXPECT_TRUE(store(1, loan(100)));
  start(b);
  EXPECT_TRUE(store(1, loan(100)));
  m.stop(1);
  EXPECT_TRUE(m.sound());
}

// More than a step copies, with holes in between.
TEST(DirtyLogSteps, AllThatWasLentIsInTheLogsTable) {
  struct Cpus final : CpuTables {
    [[nodiscard]] std::expected<void, Error> use_log(S2Domain&, bool) override { return {}; }
  } cpus;
  FakeTablePages pages;
  ImmediateGrace grace;
  auto domain = *S2Domain::create(*Geometry::make(40, smmu::AddressSize::bits44), pages, grace, {.table = {.bbml = 2}});
  ASSERT_TRUE(domain->map(kRam, kPhysical, 2_MiB, {}));
  for (const std::uint64_t at : {std::uint64_t{0}, 100_MiB, 900_MiB})
    ASSERT_TRUE(domain->map(kLoans + at, kPhysical + 1_GiB + at, 3 * DirtyLog::kStep / 2, {}));
  DirtyLog log{*domain, &cpus, {kRam, 2_MiB}, {kLoans, 1_GiB}};
  unsigned steps = 1;
  for (std::uint64_t left = 1; left != 0; ++steps) {
    const auto got = log.start();
    ASSERT_TRUE(got);
    left = *got;
    ASSERT_LT(steps, 1000u);
  }
  EXPECT_GT(steps, 5u);
  for (std::uint64_t at = 0; at < 1_GiB; at += 1_MiB) {
    const auto meant = domain->table().lookup(kLoans + at);
    const auto found = domain->logged().lookup(kLoans + at);
    ASSERT_EQ(found.has_value(), meant.has_value()) << at;
    if (found) {
      EXPECT_EQ(found->at, meant->at) << at;
    }
  }
  while (log.stop() != 0) {
  }
}

// --- Failures --------------------------------------------------------------------------------------------------------

TEST_F(DirtyLogTest, EachAllocationMayFail) {
  const std::size_t tables = m.pages.in_use;
  for (const bool give_up : {true, false}) {
    unsigned failures = 0;
    for (int source = 0; source < 2; ++source)
      for (int n = 0;; ++n) {
        MemoryOutcome got{.done = 1};
        {
          std::optional<FailingNew> failing;
          if (source == 0) failing.emplace(n);
          m.pages.fail_after = source == 1 ? n : -1;
          while (got.result == Result::success && got.done != 0) got = a.dirty_start();
          m.pages.fail_after = -1;
        }
        EXPECT_TRUE(m.vms[0].domain->check_invariants());
        EXPECT_TRUE(store(0, page(1))) << "the CPUs have their memory";
        Bits bits;
        if (got.result == Result::success) break;
        EXPECT_EQ(got.result, Result::no_memory);
        EXPECT_EQ(a.dirty_read(kRam, 1, true, bits).result, Result::wrong_state);
        ++failures;
        if (give_up) {
          stop(a);
          EXPECT_EQ(m.pages.in_use, tables);
        } else {
          start(a);
          EXPECT_TRUE(store(0, page(2)));
          EXPECT_TRUE(seen(a, kDevices).contains(2));
          stop(a);
        }
        ASSERT_LT(n, 200);
      }
    EXPECT_GT(failures, 5u);
    stop(a);
    EXPECT_EQ(m.pages.in_use, tables);
  }
}

TEST_F(DirtyLogTest, CpusThatCannotUseItKeepTheirMemory) {
  m.vms[0].cpus.refuse_log = true;
  MemoryOutcome got{.done = 1};
  while (got.result == Result::success && got.done != 0) got = a.dirty_start();
  EXPECT_EQ(got.result, Result::wrong_state);
  EXPECT_TRUE(store(0, page(1)));
  stop(a);
  m.vms[0].cpus.refuse_log = false;
  start(a);
}

// A VM may end at any moment.
TEST_F(DirtyLogTest, EndsWithItsVm) {
  start(a);
  EXPECT_TRUE(store(0, page(1)));
  static_cast<void>(b.dirty_start());
  m.stop(0);
  m.stop(1);
  EXPECT_TRUE(m.sound());
}

// --- Races -----------------------------------------------------------------------------------------------------------

// EL2 writes, and a migrating guest copies what is said to have changed: in the end it has everything.
TEST(DirtyLogRace, NoWriteIsLost) {
  constexpr unsigned kWriters = 3, kSome = 64;
  static thread_local unsigned reader;
  std::array<EpochGrace::Slot, kWriters + 1> slots;
  EpochGrace grace{slots, [] { return reader; }};
  FakeTablePages pages;
  FakeCpus cpus;
  auto domain = *S2Domain::create(*Geometry::make(40, smmu::AddressSize::bits44), pages, grace,
                                  {.table = {.bbml = 2}, .cpu = &cpus});
  ASSERT_TRUE(domain->map(kRam, kPhysical, 4_MiB, {}));
  cpus.table = *Table::create(domain->table().geometry(), pages, {.bbml = 2, .dirty_state = true});
  cpus.table->set_walked(true);
  ASSERT_TRUE(domain->share_root(*cpus.table, kRam, FakeCpus::kShared));
  DirtyLog log{*domain, &cpus, {kRam, 4_MiB}, {kLoans, 1_GiB}};

  std::array<std::atomic<std::uint64_t>, kSome> content{};
  std::atomic<bool> over{false};
  std::vector<std::thread> writers;
  for (unsigned w = 0; w < kWriters; ++w)
    writers.emplace_back([&, w] {
      reader = w;
      for (std::uint64_t n = 1; !over.load(std::memory_order_relaxed); ++n) {
        const unsigned at = (n * 7 + w * 13) % kSome;
        const Grace::ReadSection section{grace};
        content[at].fetch_add(1, std::memory_order_relaxed);
        log.written(page(at));
      }
    });
  reader = kWriters;
  for (int round = 0; round < 20; ++round) {
    for (;;) {
      const auto left = log.start();
      ASSERT_TRUE(left);
      if (*left == 0) break;
    }
    std::array<std::uint64_t, kSome> copy{};
    for (unsigned i = 0; i < kSome; ++i) copy[i] = content[i].load(std::memory_order_relaxed);
    const auto collect_and_copy = [&] {
      std::array<std::uint64_t, 1> dirty{};
      ASSERT_TRUE(log.collect(kRam, kSome, dirty));
      for (unsigned i = 0; i < kSome; ++i)
        if ((dirty[0] >> i & 1) != 0) copy[i] = content[i].load(std::memory_order_relaxed);
    };
    for (int n = 0; n < 50; ++n) collect_and_copy();
    if (round == 19) {
      over = true;
      for (auto& writer : writers) writer.join();
      collect_and_copy();
      for (unsigned i = 0; i < kSome; ++i) EXPECT_EQ(copy[i], content[i].load()) << i;
    }
    while (log.stop() != 0) {
    }
  }
}

}  // namespace
}  // namespace weir::stage2::test
