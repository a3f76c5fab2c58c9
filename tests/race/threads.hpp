// Threads as pCPUs.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <random>
#include <vector>

#include "stage2/epoch.hpp"

namespace weir::race {

inline constexpr unsigned kMaxPcpus = 24;

// The index of the calling thread.
[[nodiscard]] unsigned pcpu();

class Threads {
 public:
  Threads() = default;
  // The next pCPU's; `body` is called until the time is up.
  void add(std::function<void(std::mt19937_64&)> body) { bodies_.push_back(std::move(body)); }
  void run(std::chrono::milliseconds time, std::uint64_t seed);

 private:
  std::vector<std::function<void(std::mt19937_64&)>> bodies_;
};

// So many milliseconds, times what WEIR_RACE_SCALE says.
[[nodiscard]] std::chrono::milliseconds scaled(unsigned milliseconds);
// WEIR_RACE_SEED, or 1.
[[nodiscard]] std::uint64_t seed();

[[nodiscard]] inline unsigned pick(std::mt19937_64& random, unsigned n) { return static_cast<unsigned>(random() % n); }

// A grace instance for these threads.
struct PcpuGrace {
  std::array<stage2::EpochGrace::Slot, kMaxPcpus> slots;
  stage2::EpochGrace grace{slots, pcpu};
};

// Fails where ThreadSanitizer has reported something meanwhile.
class RaceTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

 private:
  unsigned before_ = 0;
};

}  // namespace weir::race
