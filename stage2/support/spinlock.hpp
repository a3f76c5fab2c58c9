// A ticket lock, for stage2, vsmmu and hyp alike: first come, first served among pCPUs. Portable. Not recursive; EL2 runs
// with interrupts masked, so a holder is never interrupted.
#pragma once

#include <atomic>
#include <cstdint>

#include "stage2/support/relax.hpp"

namespace weir {

class SpinLock {
 public:
  constexpr SpinLock() = default;
  SpinLock(const SpinLock&) = delete;
  SpinLock& operator=(const SpinLock&) = delete;

  void lock() {
    const std::uint32_t mine = next_.fetch_add(1, std::memory_order_relaxed);
    while (serving_.load(std::memory_order_acquire) != mine) relax();
  }
  [[nodiscard]] bool try_lock() {
    std::uint32_t expected = serving_.load(std::memory_order_acquire);
    return next_.compare_exchange_strong(expected, expected + 1, std::memory_order_acquire, std::memory_order_relaxed);
  }
  void unlock() { serving_.store(serving_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

  // Holds the lock for a scope.
  class [[nodiscard]] Guard {
   public:
    explicit Guard(SpinLock& lock) : lock_{lock} { lock_.lock(); }
    ~Guard() { lock_.unlock(); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    SpinLock& lock_;
  };

 private:
  std::atomic<std::uint32_t> next_{0};
  std::atomic<std::uint32_t> serving_{0};
};

}  // namespace weir
