#include "stage2/support/spinlock.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace weir {
namespace {

TEST(SpinLock, ExcludesOthers) {
  SpinLock lock;
  long count = 0;
  constexpr int kRounds = 20'000;
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kRounds; ++i) {
        const SpinLock::Guard guard{lock};
        count = count + 1;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(count, 2L * kRounds);
}

TEST(SpinLock, TryLock) {
  SpinLock lock;
  EXPECT_TRUE(lock.try_lock());
  EXPECT_FALSE(lock.try_lock());
  lock.unlock();
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

}  // namespace
}  // namespace weir
