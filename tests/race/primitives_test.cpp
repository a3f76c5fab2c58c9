// Locks, tags and grace alone, with as many threads as there may be.
#include <set>
#include <vector>

#include "stage2/retire.hpp"
#include "stage2/support/spinlock.hpp"
#include "stage2/tag.hpp"
#include "tests/race/threads.hpp"
#include "tests/race/unseen.hpp"

namespace weir::race {
namespace {

constexpr unsigned kThreads = 6;

TEST_F(RaceTest, SpinLockExcludes) {
  SpinLock lock;
  std::uint64_t guarded = 0;  // a race if the lock orders nothing
  std::atomic<std::uint64_t> count{0};
  Threads threads;
  for (unsigned i = 0; i < kThreads; ++i)
    threads.add([&](std::mt19937_64& random) {
      if (pick(random, 2) == 0) {
        const SpinLock::Guard guard{lock};
        ++guarded;
      } else if (lock.try_lock()) {
        ++guarded;
        lock.unlock();
      } else {
        return;
      }
      count.fetch_add(1, std::memory_order_relaxed);
    });
  threads.run(scaled(1000), seed());
  EXPECT_EQ(guarded, count.load());
  EXPECT_GT(guarded, 1000u);
}

TEST_F(RaceTest, NoVmidHasTwoHolders) {
  stage2::VmidAllocator vmids{false};
  // What each holder keeps with its VMID: the last one's stores come before the next one's.
  std::vector<std::uint64_t> kept(0x100);
  std::vector<std::atomic<unsigned>> holders(0x100);
  std::atomic<std::uint64_t> given{0};
  Threads threads;
  for (unsigned i = 0; i < kThreads; ++i)
    threads.add([&](std::mt19937_64& random) {
      std::vector<VMID> mine;
      while (mine.size() < pick(random, 60)) {
        const auto vmid = vmids.allocate();
        if (!vmid) break;
        EXPECT_NE(vmid->value, 0u);
        EXPECT_EQ(holders[vmid->value].fetch_add(1, std::memory_order_relaxed), 0u);
        ++kept[vmid->value];
        mine.push_back(*vmid);
        given.fetch_add(1, std::memory_order_relaxed);
      }
      for (const VMID vmid : mine) {
        holders[vmid.value].fetch_sub(1, std::memory_order_relaxed);
        vmids.free(vmid);
      }
    });
  threads.run(scaled(1000), seed());
  EXPECT_EQ(vmids.in_use(), 0u);
  EXPECT_GT(given.load(), 1000u);
}

struct Object final : stage2::Retired {
  std::uint64_t first = 1;
  std::uint64_t second = 1;
  ~Object() override { first = second = 0; }  // for a reader that comes late
};

TEST_F(RaceTest, NobodyUsesWhatGraceHasDestroyed) {
  PcpuGrace pcpus;
  stage2::EpochGrace& grace = pcpus.grace;
  std::array<std::atomic<Object*>, 3> places{};
  for (auto& p : places) p = new Object;
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::uint64_t> reads{0};
  std::atomic<std::uint64_t> retired{0};
  std::atomic<std::uint64_t> waited{0};
  Threads threads;
  for (unsigned i = 0; i < 3; ++i)
    threads.add([&](std::mt19937_64& random) {
      const stage2::Grace::ReadSection section{grace};
      for (unsigned n = 0; n < 3; ++n) {
        const Object* const object = places[pick(random, 3)].load(std::memory_order_acquire);
        if (pick(random, 64) == 0) yield();
        if (object->first != 1 || object->second != 1) wrong.fetch_add(1, std::memory_order_relaxed);
      }
      reads.fetch_add(1, std::memory_order_relaxed);
    });
  for (unsigned i = 0; i < 3; ++i)
    threads.add([&](std::mt19937_64& random) {
      auto next = std::make_unique<Object>();
      std::unique_ptr<Object> old{places[pick(random, 3)].exchange(next.release(), std::memory_order_acq_rel)};
      if (pick(random, 4) != 0) {
        grace.retire(std::move(old));
        retired.fetch_add(1, std::memory_order_relaxed);
      } else {
        grace.synchronize();
        old.reset();
        waited.fetch_add(1, std::memory_order_relaxed);
      }
    });
  threads.run(scaled(2000), seed());
  EXPECT_EQ(wrong.load(), 0u);
  EXPECT_GT(reads.load(), 1000u);
  EXPECT_GT(retired.load(), 200u);
  EXPECT_GT(waited.load(), 50u);
  for (auto& p : places) delete p.load();
}

}  // namespace
}  // namespace weir::race
