#include "tests/race/threads.hpp"

#include <sched.h>

#include <cstdlib>
#include <thread>

#include "tests/race/unseen.hpp"

namespace {

std::atomic<unsigned> reports{0};
thread_local unsigned index_of_thread = 0;

}  // namespace

extern "C" void __tsan_on_report(void*) { reports.fetch_add(1, std::memory_order_relaxed); }

namespace weir::race {

void yield() { sched_yield(); }

unsigned pcpu() { return index_of_thread; }

void Threads::run(std::chrono::milliseconds time, std::uint64_t seed) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < bodies_.size(); ++i)
    threads.emplace_back([&, i] {
      index_of_thread = i;
      std::mt19937_64 random{seed * 1000 + i};
      while (!stop.load(std::memory_order_relaxed)) bodies_[i](random);
    });
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end && reports.load(std::memory_order_relaxed) < 20)
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  stop.store(true, std::memory_order_relaxed);
  for (auto& t : threads) t.join();
}

std::chrono::milliseconds scaled(unsigned milliseconds) {
  const char* const scale = std::getenv("WEIR_RACE_SCALE");
  return std::chrono::milliseconds{milliseconds * (scale == nullptr ? 1 : std::strtoul(scale, nullptr, 10))};
}

std::uint64_t seed() {
  const char* const asked = std::getenv("WEIR_RACE_SEED");
  return asked == nullptr ? 1 : std::strtoull(asked, nullptr, 10);
}

void RaceTest::SetUp() { before_ = reports.load(); }
void RaceTest::TearDown() { EXPECT_EQ(reports.load(), before_) << "ThreadSanitizer has reported something"; }

}  // namespace weir::race
