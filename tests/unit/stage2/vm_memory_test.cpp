#include "stage2/vm_memory.hpp"

#include <gtest/gtest.h>

#include "tests/unit/fakes/failing_new.hpp"
#include "tests/unit/stage2/vm_memory_rig.hpp"

namespace weir::stage2::test {
namespace {

constexpr std::uint64_t kAll = ~std::uint64_t{0};

struct VmMemoryTest : testing::Test {
  Machine m;
  VmMemory& a = m.memory(0);
  VmMemory& b = m.memory(1);

  static IPA page(std::uint64_t n) { return kRam + n * kPage4K; }
  static IPA loan(std::uint64_t n) { return kLoans + n * kPage4K; }
  std::uint64_t& word(unsigned vm, IPA at) { return m.pool.word(*m.where(vm, at, false)); }
  // Makes a call until it is over.
  static void finish(auto&& call, std::uint64_t pages) {
    for (std::uint64_t done = 0; done < pages;) {
      const MemoryOutcome got = call(done);
      ASSERT_EQ(got.result, Result::success) << done;
      ASSERT_GT(got.done, 0u);
      done += got.done;
    }
  }
  void relinquish(VmMemory& vm, std::uint64_t first, std::uint64_t pages) {
    finish([&](std::uint64_t done) { return vm.relinquish(page(first + done), pages - done); }, pages);
  }
  void reclaim(VmMemory& vm, std::uint64_t first, std::uint64_t pages) {
    finish([&](std::uint64_t done) { return vm.reclaim(page(first + done), pages - done); }, pages);
  }
  // 0: refused.
  std::uint64_t offer(VmMemory& vm, std::uint64_t first, std::uint64_t pages, bool loan, bool write = true) {
    MemoryOutcome got{.done = 0};
    do {
      got = vm.offer({page(first), pages, vm.config().id ^ 1, write, loan}, got.extra);
      if (got.result != Result::success) return 0;
    } while (got.done < pages);
    return got.extra;
  }
  void accept(VmMemory& vm, std::uint64_t handle, std::uint64_t at, std::uint64_t pages) {
    for (MemoryOutcome got; got.done < pages;) {
      got = vm.accept(handle, loan(at), pages);
      ASSERT_EQ(got.result, Result::success);
    }
  }
  void take_back(VmMemory& vm, std::uint64_t handle) {
    for (MemoryOutcome got{.done = 1}; got.done != 0;) {
      got = vm.take_back(handle);
      ASSERT_EQ(got.result, Result::success);
    }
  }
};

// --- Relinquish and reclaim ------------------------------------------------------------------------------------------

TEST_F(VmMemoryTest, APageGoesWhenNobodyReachesItAndComesBackEmpty) {
  word(0, page(5)) = 0x5ec7e7;
  const PA was = *m.where(0, page(5));
  m.touch(0, page(5));
  const unsigned periods = m.grace.periods;
  const MemoryOutcome got = a.relinquish(page(5), 1);  // Machine::unreachable() looks, before it is scrubbed
  EXPECT_EQ(got.result, Result::success);
  EXPECT_EQ(got.done, 1u);
  EXPECT_FALSE(m.pool.used(was));
  EXPECT_EQ(m.pool.word(was), 0u);
  EXPECT_EQ(m.grace.periods, periods + 1);
  EXPECT_FALSE(m.where(0, page(5)));
  EXPECT_TRUE(m.where(0, page(4)) && m.where(0, page(6))) << "its neighbours stay";
  EXPECT_EQ(a.relinquish(page(5), 1).result, Result::wrong_state) << "twice";
  EXPECT_EQ(b.relinquish(page(5), 1).result, Result::success) << "another VM's is another page";

  EXPECT_EQ(a.reclaim(page(4), 2).result, Result::wrong_state) << "it is there";
  EXPECT_EQ(a.reclaim(page(5), 2).done, 1u) << "as far as there is nothing";
  EXPECT_EQ(word(0, page(5)), 0u);
  EXPECT_TRUE(m.sound());
}

TEST_F(VmMemoryTest, WhatEl2WasWritingDoesNotReachTheNextOwner) {
  const PA was = *m.where(0, page(9));
  m.grace.late_copy = [&] {
    EXPECT_TRUE(m.pool.used(was)) << "freed before the copy was over";
    EXPECT_FALSE(m.where(0, page(9))) << "a copy that begins now could still find it";
    m.pool.word(was) = 0xe7e17;
  };
  EXPECT_EQ(a.relinquish(page(9), 1).done, 1u);
  EXPECT_FALSE(m.grace.late_copy) << "nobody waited";
  EXPECT_EQ(b.relinquish(page(0), 1).done, 1u);
  for (unsigned i = 0; i < 2; ++i) {  // one of them is that page
    const auto next = m.pool.allocate(kPage4K);
    EXPECT_EQ(m.pool.word(*next), 0u);
    m.pool.free(*next, kPage4K);
  }
}

TEST_F(VmMemoryTest, ACallIsBoundedAndSaysHowFarItCame) {
  EXPECT_EQ(a.relinquish(page(1), 1000).done, VmMemory::kSinglePages);
  EXPECT_EQ(a.relinquish(page(512), 1000).done, 512u) << "a block as a whole";
  relinquish(a, 65, 447);
  relinquish(a, 1024, 3);
  EXPECT_EQ(a.relinquish(page(1024 - 512), 100).result, Result::wrong_state);
  EXPECT_EQ(a.reclaim(page(1), 1000).done, VmMemory::kSinglePages);
  EXPECT_EQ(a.reclaim(page(512), 1000).done, 512u);
  EXPECT_EQ(m.vms[0].domain->lookup(page(512))->level, 2u) << "a block again";
  reclaim(a, 65, 447);
  reclaim(a, 1024, 3);
  EXPECT_TRUE(m.sound());
}

TEST_F(VmMemoryTest, ForeignAndSenselessRangesAreRefused) {
  for (const bool back : {false, true}) {
    const auto call = [&](IPA at, std::uint64_t pages) {
      return (back ? a.reclaim(at, pages) : a.relinquish(at, pages)).result;
    };
    EXPECT_EQ(call(page(0) + 8, 1), Result::invalid);
    EXPECT_EQ(call(page(0), 0), Result::invalid);
    EXPECT_EQ(call(page(0) - kPage4K, 1), Result::invalid);
    EXPECT_EQ(call(page(0), kRamBytes / kPage4K + 1), Result::invalid);
    EXPECT_EQ(call(page(1), kAll), Result::invalid);
    EXPECT_EQ(call(page(1), kAll / kPage4K), Result::invalid);
    EXPECT_EQ(call(IPA{kAll - 0xfff}, 1), Result::invalid);
    EXPECT_EQ(call(kRam + kRamBytes, 1), Result::invalid);
    EXPECT_EQ(call(kLoans, 1), Result::invalid);
    EXPECT_EQ(call(IPA{0x0900'0000}, 1), Result::invalid);
  }
  EXPECT_EQ(m.memory(2).relinquish(page(0), 1).result, Result::not_supported);
  EXPECT_EQ(m.memory(2).reclaim(page(0), 1).result, Result::not_supported);
  EXPECT_EQ(m.mapped(kPhysical, FakePool::kBytes), 3 * kRamBytes / kPage4K);
}

TEST_F(VmMemoryTest, BlocksThatMustNotBeSplitStay) {
  Machine stiff{Table::Options{.bbml = 0}};
  EXPECT_EQ(stiff.memory(0).relinquish(page(3), 1).result, Result::cannot_split);
  EXPECT_TRUE(stiff.where(0, page(3)));
  EXPECT_EQ(stiff.memory(0).relinquish(page(512), 512).done, 512u);
  Machine fine{Table::Options{.pages_only = true, .bbml = 0}};
  EXPECT_EQ(fine.memory(0).relinquish(page(3), 1).result, Result::success);
  Machine marked{Table::Options{.bbml = 1}};
  EXPECT_EQ(marked.memory(0).relinquish(page(3), 1).result, Result::success);
}

// --- Grants ----------------------------------------------------------------------------------------------------------

TEST_F(VmMemoryTest, SharedPagesAreTheSamePages) {
  word(0, page(7)) = 77;
  const std::uint64_t handle = offer(a, 7, 3, false);
  ASSERT_NE(handle, 0u);
  EXPECT_FALSE(m.where(1, loan(100)));
  accept(b, handle, 100, 3);
  EXPECT_EQ(word(1, loan(100)), 77u);
  EXPECT_EQ(m.where(1, loan(102)), m.where(0, page(9)));
  EXPECT_TRUE(m.where(0, page(7))) << "the owner keeps it";
  EXPECT_FALSE(m.vms[1].domain->lookup(loan(100))->attributes.execute);
  EXPECT_EQ(a.relinquish(page(8), 1).result, Result::wrong_state) << "not while it is shared";
  EXPECT_EQ(b.relinquish(loan(100), 1).result, Result::invalid) << "not the peer's to give";
  EXPECT_EQ(b.offer({loan(100), 1, 0, true, false}, 0).result, Result::invalid);
  take_back(a, handle);
  EXPECT_FALSE(m.where(1, loan(100), false));
  EXPECT_EQ(word(0, page(7)), 77u);
  EXPECT_EQ(a.relinquish(page(8), 1).result, Result::success);
}

TEST_F(VmMemoryTest, APeerMayBeAllowedToReadOnly) {
  const std::uint64_t handle = offer(a, 7, 1, false, false);
  accept(b, handle, 0, 1);
  EXPECT_TRUE(m.where(1, loan(0), false));
  EXPECT_FALSE(m.where(1, loan(0), true));
}

TEST_F(VmMemoryTest, ALoanGoesWithItsContentAndComesBackWithIt) {
  word(0, page(20)) = 1;
  m.touch(0, page(20));
  const PA lent = *m.where(0, page(20));
  const std::uint64_t handle = offer(a, 20, 1, true);
  ASSERT_NE(handle, 0u);
  EXPECT_FALSE(m.where(0, page(20), false));
  EXPECT_FALSE(m.vms[0].cpus.holds(lent)) << "before anybody else has it";
  EXPECT_FALSE(m.vms[0].devices[1]->holds(lent));
  EXPECT_EQ(a.reclaim(page(20), 1).result, Result::wrong_state);
  EXPECT_EQ(a.relinquish(page(20), 1).result, Result::wrong_state);
  accept(b, handle, 0, 1);
  EXPECT_EQ(word(1, loan(0)), 1u);
  word(1, loan(0)) = 2;
  m.touch(1, loan(0));
  take_back(a, handle);
  EXPECT_FALSE(m.vms[1].cpus.holds(lent));
  EXPECT_FALSE(m.vms[1].devices[0]->holds(lent));
  EXPECT_EQ(word(0, page(20)), 2u);
  EXPECT_EQ(m.where(0, page(20)), lent);
  EXPECT_TRUE(m.vms[0].domain->lookup(page(20))->attributes.execute) << "all of its rights";
}

TEST_F(VmMemoryTest, El2sCopiesForALenderEndBeforeThePeerHasThePage) {
  bool over = false;
  m.grace.late_copy = [&] {
    EXPECT_FALSE(m.where(0, page(20)));
    over = true;
  };
  const std::uint64_t handle = offer(a, 20, 1, true);
  EXPECT_TRUE(over);
  accept(b, handle, 0, 1);
  over = false;
  m.grace.late_copy = [&] {
    EXPECT_FALSE(m.where(1, loan(0)));
    EXPECT_FALSE(m.where(0, page(20))) << "not before the peer's last copy";
    over = true;
  };
  take_back(a, handle);
  EXPECT_TRUE(over);
}

TEST_F(VmMemoryTest, LongGrantsGoInSteps) {
  constexpr std::uint64_t kPages = 1200;
  MemoryOutcome got = a.offer({page(100), kPages, 1, true, true}, 0);
  EXPECT_EQ(got.done, 412u) << "up to the next 2 MiB";
  const std::uint64_t handle = got.extra;
  EXPECT_EQ(b.accept(handle, loan(0), kPages).result, Result::wrong_state) << "not yet";
  EXPECT_EQ(a.offer({page(100), kPages, 1, true, false}, handle).result, Result::invalid) << "another grant";
  EXPECT_EQ(a.offer({page(100), kPages - 1, 1, true, true}, handle).result, Result::invalid);
  EXPECT_EQ(b.offer({page(100), kPages, 0, true, true}, handle).result, Result::denied) << "not its own";
  while (got.done < kPages) got = a.offer({page(100), kPages, 1, true, true}, handle);
  EXPECT_EQ(b.accept(handle, loan(3), kPages).done, 509u);
  EXPECT_EQ(b.accept(handle, loan(4), kPages).result, Result::wrong_state) << "somewhere else";
  accept(b, handle, 3, kPages);
  for (std::uint64_t i = 0; i < kPages; ++i) ASSERT_EQ(m.where(1, loan(3 + i)), m.vms[0].first + (100 + i) * kPage4K);
  got = b.release(handle);
  EXPECT_LT(got.done, kPages);
  EXPECT_EQ(b.accept(handle, loan(3), kPages).result, Result::wrong_state) << "on its way out";
  take_back(a, handle);
  for (std::uint64_t i = 0; i < kPages; ++i) {
    ASSERT_FALSE(m.where(1, loan(3 + i)));
    ASSERT_EQ(m.where(0, page(100 + i)), m.vms[0].first + (100 + i) * kPage4K);
  }
  EXPECT_EQ(a.take_back(handle).result, Result::denied) << "it is gone";
  EXPECT_EQ(b.release(handle).result, Result::denied);
  EXPECT_TRUE(m.sound());
}

TEST_F(VmMemoryTest, AReleasedGrantMayBeAcceptedAgainUntilItIsTakenBack) {
  const std::uint64_t handle = offer(a, 0, 2, true);
  accept(b, handle, 0, 2);
  EXPECT_EQ(b.release(handle).done, 0u);
  EXPECT_EQ(b.release(handle).result, Result::wrong_state);
  accept(b, handle, 8, 2);
  EXPECT_FALSE(m.where(1, loan(0)));
  take_back(a, handle);
}

TEST_F(VmMemoryTest, ForgedHandlesAreDenied) {
  const std::uint64_t handle = offer(a, 0, 1, false);
  for (const std::uint64_t wrong :
       {std::uint64_t{0}, kAll, handle + 1, handle + 0x10000, handle | std::uint64_t{1} << 48, std::uint64_t{0x10000},
        std::uint64_t{GrantTable::kMaxGrants + 1}}) {
    EXPECT_EQ(b.accept(wrong, loan(0), 1).result, Result::denied) << wrong;
    EXPECT_EQ(b.release(wrong).result, Result::denied);
    EXPECT_EQ(a.take_back(wrong).result, Result::denied);
    if (wrong != 0) EXPECT_EQ(a.offer({page(0), 1, 1, true, false}, wrong).result, Result::denied);
  }
  EXPECT_EQ(a.accept(handle, loan(0), 1).result, Result::denied) << "its own";
  EXPECT_EQ(b.take_back(handle).result, Result::denied);
  EXPECT_EQ(m.memory(2).accept(handle, loan(0), 1).result, Result::not_supported);
  EXPECT_EQ(b.accept(handle, loan(0), 2).result, Result::invalid);
  EXPECT_EQ(b.accept(handle, page(0), 1).result, Result::invalid) << "over its own RAM";
  EXPECT_EQ(b.accept(handle, loan(0) + 1, 1).result, Result::invalid);
  EXPECT_EQ(b.accept(handle, kLoans + 1_GiB, 1).result, Result::invalid);
}

TEST_F(VmMemoryTest, OnlyWhomTheManifestNames) {
  EXPECT_EQ(a.offer({page(0), 1, 0, true, false}, 0).result, Result::denied) << "itself";
  EXPECT_EQ(a.offer({page(0), 1, 2, true, false}, 0).result, Result::denied) << "one that makes no calls";
  EXPECT_EQ(a.offer({page(0), 1, 3, true, false}, 0).result, Result::denied);
  EXPECT_EQ(a.offer({page(0), 1, 64, true, false}, 0).result, Result::denied);
  EXPECT_EQ(a.offer({page(0), 1, kAll, true, false}, 0).result, Result::denied);
  EXPECT_EQ(m.memory(2).offer({page(0), 1, 0, true, false}, 0).result, Result::not_supported);
}

TEST_F(VmMemoryTest, APageIsInOneGrantAtATime) {
  EXPECT_NE(offer(a, 10, 5, false), 0u);
  for (const bool loan : {false, true}) {
    EXPECT_EQ(a.offer({page(8), 3, 1, true, loan}, 0).result, Result::wrong_state);
    EXPECT_EQ(a.offer({page(14), 9, 1, true, loan}, 0).result, Result::wrong_state);
    EXPECT_EQ(a.offer({page(11), 1, 1, true, loan}, 0).result, Result::wrong_state);
  }
  EXPECT_NE(offer(a, 15, 1, true), 0u);
  EXPECT_NE(offer(a, 9, 1, true), 0u);
}

TEST_F(VmMemoryTest, AGrantStopsAtAPageThatIsNotTheOwners) {
  EXPECT_EQ(a.relinquish(page(12), 1).done, 1u);
  const MemoryOutcome first = a.offer({page(10), 5, 1, true, true}, 0);
  EXPECT_EQ(first.result, Result::success);
  EXPECT_EQ(first.done, 2u);
  EXPECT_EQ(a.offer({page(10), 5, 1, true, true}, first.extra).result, Result::wrong_state);
  EXPECT_EQ(a.reclaim(page(12), 1).result, Result::wrong_state) << "it has been promised";
  take_back(a, first.extra);
  EXPECT_TRUE(m.where(0, page(10)));
  EXPECT_EQ(a.offer({page(12), 1, 1, true, true}, 0).result, Result::wrong_state);
  EXPECT_EQ(a.offer({page(12), 1, 1, true, true}, 0).extra, 0u) << "nothing to take back";
  reclaim(a, 12, 1);
}

TEST_F(VmMemoryTest, HandlesAndAcceptedOnesAreLimited) {
  std::vector<std::uint64_t> handles;
  for (unsigned i = 0; i < GrantTable::kPerVm; ++i) handles.push_back(offer(a, i, 1, false));
  EXPECT_EQ(a.offer({page(100), 1, 1, true, false}, 0).result, Result::limit);
  EXPECT_NE(offer(b, 0, 1, false), 0u) << "the other VM has its own";
  for (unsigned i = 0; i < GrantTable::kAccepted; ++i) accept(b, handles[i], i, 1);
  EXPECT_EQ(b.accept(handles[0], loan(50), 1).result, Result::wrong_state);
  take_back(a, handles[3]);
  handles[3] = offer(a, 100, 1, false);
  EXPECT_EQ(b.accept(handles[3], loan(4), 1).result, Result::wrong_state) << "something is there";
  accept(b, handles[3], 3, 1);
}

// --- The end of a VM -------------------------------------------------------------------------------------------------

TEST_F(VmMemoryTest, WhatAStoppedVmLentGoesWithIt) {
  const std::uint64_t handle = offer(a, 0, 600, true);
  accept(b, handle, 0, 600);
  const std::uint64_t half = offer(a, 1000, 3, false);
  EXPECT_NE(half, 0u);
  m.touch(1, loan(5));
  m.stop(0);
  EXPECT_FALSE(m.where(1, loan(0), false));
  EXPECT_FALSE(m.vms[1].cpus.holds(m.vms[0].first + 5 * kPage4K));
  EXPECT_EQ(b.release(handle).result, Result::denied);
  EXPECT_EQ(b.accept(half, loan(0), 3).result, Result::denied);
  EXPECT_EQ(b.offer({page(0), 1, 0, true, true}, 0).result, Result::denied) << "to one that has stopped";
  EXPECT_EQ(a.relinquish(page(0), 1).result, Result::denied);
}

TEST_F(VmMemoryTest, WhatAStoppedVmBorrowedGoesBack) {
  const std::uint64_t lent = offer(a, 0, 600, true);
  accept(b, lent, 0, 600);
  const std::uint64_t offered = offer(a, 700, 1, true);
  const MemoryOutcome begun = a.offer({page(800), 1000, 1, true, true}, 0);
  m.stop(1);
  EXPECT_FALSE(m.where(1, loan(0), false));
  EXPECT_EQ(a.offer({page(800), 1000, 1, true, true}, begun.extra).result, Result::invalid) << "to nobody";
  take_back(a, lent);
  take_back(a, offered);
  take_back(a, begun.extra);
  EXPECT_TRUE(m.where(0, page(0)) && m.where(0, page(700)) && m.where(0, page(800)));
}

// --- Concurrency and exhaustion --------------------------------------------------------------------------------------

TEST_F(VmMemoryTest, OtherCallsOnTheSamePagesAreTurnedAway) {
  std::uint64_t handle = 0;
  m.grace.late_copy = [&] {  // another vCPU, in the middle of the first one's call
    EXPECT_EQ(a.relinquish(page(5), 1).result, Result::busy);
    EXPECT_EQ(a.reclaim(page(5), 1).result, Result::busy);
    EXPECT_EQ(a.offer({page(0), 600, 1, true, true}, 0).result, Result::busy);
    EXPECT_EQ(a.relinquish(page(100), 1).result, Result::success) << "elsewhere it may go on";
    handle = offer(a, 200, 1, false);
    EXPECT_NE(handle, 0u);
  };
  EXPECT_EQ(a.relinquish(page(0), 10).done, 10u);
  EXPECT_FALSE(m.grace.late_copy);
  accept(b, handle, 0, 1);
  m.grace.late_copy = [&] {
    EXPECT_EQ(b.release(handle).result, Result::busy);
    EXPECT_EQ(b.accept(handle, loan(0), 1).result, Result::wrong_state);
    EXPECT_EQ(a.take_back(handle).result, Result::busy);
  };
  take_back(a, handle);
}

TEST_F(VmMemoryTest, EachAllocationMayFail) {
  const std::size_t before = m.pool.in_use;
  for (const auto& call : std::vector<std::function<MemoryOutcome()>>{
           [&] { return a.relinquish(page(513), 1); },
           [&] { return a.offer({page(1025), 1, 1, true, true}, 0); },
       }) {
    MemoryOutcome got;
    unsigned failures = 0;
    for (int n = 0;; ++n) {
      const std::size_t tables = m.pages.in_use;
      m.pages.fail_after = n;
      got = call();
      m.pages.fail_after = -1;
      if (got.result == Result::success) break;
      ++failures;
      EXPECT_EQ(got.result, Result::no_memory);
      EXPECT_EQ(got.extra, 0u) << "no handle of nothing";
      EXPECT_EQ(m.pages.in_use, tables);
      EXPECT_TRUE(m.where(0, page(513)) || failures == 0 || m.where(0, page(1025)));
      EXPECT_TRUE(m.sound());
      ASSERT_LT(n, 20);
    }
    EXPECT_GT(failures, 0u);
    if (got.extra != 0) {
      unsigned refused = 0;
      for (int n = 0;; ++n) {
        m.pages.fail_after = n;
        const auto accepted = b.accept(got.extra, loan(0), 1);
        m.pages.fail_after = -1;
        if (accepted.result == Result::success) break;
        ++refused;
        EXPECT_EQ(accepted.result, Result::no_memory);
        EXPECT_EQ(b.release(got.extra).result, Result::wrong_state) << "nothing of it is there";
        ASSERT_LT(n, 20);
      }
      EXPECT_GT(refused, 0u);
      m.pages.fail_after = 0;  // taking back needs none
      take_back(a, got.extra);
      m.pages.fail_after = -1;
    }
  }
  EXPECT_EQ(m.pool.in_use, before - 1);
}

TEST_F(VmMemoryTest, ReclaimWithoutMemoryTakesWhatThereIs) {
  relinquish(a, 0, 512);
  for (const int pages : {0, 1, 5}) {
    m.pool.fail_after = pages;
    const MemoryOutcome got = a.reclaim(page(0), 9);
    m.pool.fail_after = -1;
    EXPECT_EQ(got.result, pages == 0 ? Result::no_memory : Result::success);
    EXPECT_EQ(got.done, static_cast<std::uint64_t>(pages));
    if (pages != 0) relinquish(a, 0, static_cast<std::uint64_t>(pages));
  }
  const std::size_t before = m.pool.in_use;
  for (int n = 0;; ++n) {  // the tables' pages
    m.pages.fail_after = n;
    const MemoryOutcome got = a.reclaim(page(3), 1);
    m.pages.fail_after = -1;
    if (got.result == Result::success) break;
    EXPECT_EQ(got.result, Result::no_memory);
    EXPECT_EQ(m.pool.in_use, before) << "the page is not lost";
    ASSERT_LT(n, 20);
  }
}

// A long random exchange. After each call every page has one owner, and no content has come from another VM except by a
// grant.
TEST(VmMemoryRandom, NoPageHasTwoOwners) {
  Machine m;
  std::uint64_t state = 12345;
  const auto random = [&](std::uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  std::vector<std::pair<unsigned, std::uint64_t>> handles;  // owner
  for (unsigned step = 0; step < 3000; ++step) {
    const auto vm = static_cast<unsigned>(random(2));
    const IPA at = kRam + random(64) * kPage4K + random(4) * 2_MiB;
    const std::uint64_t pages = 1 + random(random(8) == 0 ? 600 : 6);
    m.touch(vm, at);
    const std::size_t pick = handles.empty() ? 0 : random(handles.size());
    switch (random(6)) {
      case 0: static_cast<void>(m.memory(vm).relinquish(at, pages)); break;
      case 1: static_cast<void>(m.memory(vm).reclaim(at, pages)); break;
      case 2: {
        const auto got = m.memory(vm).offer({at, pages, vm ^ 1, random(2) == 0, random(2) == 0}, 0);
        if (got.extra != 0) handles.emplace_back(vm, got.extra);
        break;
      }
      case 3:
        if (!handles.empty())
          for (std::uint64_t n = 1; n <= 6; ++n)
            static_cast<void>(
                m.memory(handles[pick].first ^ 1).accept(handles[pick].second, kLoans + random(900) * kPage4K, n));
        break;
      case 4:
        if (!handles.empty()) static_cast<void>(m.memory(handles[pick].first ^ 1).release(handles[pick].second));
        break;
      default:
        if (!handles.empty() && m.memory(handles[pick].first).take_back(handles[pick].second).done == 0)
          handles.erase(handles.begin() + static_cast<std::ptrdiff_t>(pick));
    }
    if (step % 50 != 0) continue;
    ASSERT_TRUE(m.sound()) << step;
    std::map<std::uint64_t, unsigned> owners;
    for (unsigned i = 0; i < m.vms.size(); ++i)
      for (std::uint64_t b = 0; b < kRamBytes; b += kPage4K)
        if (const auto mapped = m.vms[i].domain->lookup(kRam + b)) {
          ASSERT_TRUE(m.pool.used(mapped->at)) << step;
          ASSERT_EQ(++owners[mapped->at.value], 1u) << step;
        }
    ASSERT_EQ(owners.size(), m.pool.in_use) << step << ": none is lost";
  }
}

}  // namespace
}  // namespace weir::stage2::test
