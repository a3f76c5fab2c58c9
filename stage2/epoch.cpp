#include "stage2/epoch.hpp"

#include <algorithm>

#include "stage2/support/relax.hpp"

// The two sides of the protocol, each with a full barrier in the middle, of which one comes first:
//
//   reader: slot = epoch;     barrier; load the pointer     (open(), then the section)
//   writer: change the pointer; barrier; load the slots     (the caller, then retire() or synchronize())
//
// If the reader's is first, the writer sees its slot and waits. If the writer's is first, the reader finds the changed
// pointer. A reader whose slot holds a younger epoch than an object has read that epoch after the object was retired,
// and so, by acquire and release, sees it gone.

namespace weir::stage2 {

void EpochGrace::use(unsigned reader) {
  std::uint32_t used = used_.load(std::memory_order_relaxed);
  while (used <= reader && !used_.compare_exchange_weak(used, reader + 1, std::memory_order_relaxed)) {
  }
}

std::uint64_t EpochGrace::oldest_section() const {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  std::uint64_t oldest = ~std::uint64_t{0};
  for (const Slot& slot : slots_.first(used_.load(std::memory_order_relaxed)))
    if (const std::uint64_t epoch = slot.epoch.load(std::memory_order_acquire); epoch != 0)
      oldest = std::min(oldest, epoch);
  return oldest;
}

void EpochGrace::retire(std::unique_ptr<Retired> object) {
  if (object == nullptr) return;
  {
    const SpinLock::Guard guard{lock_};
    Retired* const added = object.release();
    added->epoch_ = epoch_.fetch_add(1, std::memory_order_acq_rel);
    added->next_ = nullptr;
    (last_ == nullptr ? first_ : last_->next_) = added;
    last_ = added;
    waiting_.fetch_add(1, std::memory_order_relaxed);
  }
  reclaim();
}

void EpochGrace::reclaim() {
  if (!lock_.try_lock()) return;  // somebody is at it; what he misses is for the next time
  const std::uint64_t oldest = oldest_section();
  Retired* expired = nullptr;
  Retired** end = &expired;
  std::size_t count = 0;
  while (first_ != nullptr && first_->epoch_ < oldest) {
    *end = first_;
    end = &first_->next_;
    first_ = first_->next_;
    ++count;
  }
  *end = nullptr;
  if (first_ == nullptr) last_ = nullptr;
  waiting_.fetch_sub(count, std::memory_order_relaxed);
  lock_.unlock();
  while (expired != nullptr) {
    Retired* const next = expired->next_;
    expired->expire();
    expired = next;
  }
}

void EpochGrace::synchronize() {
  const std::uint64_t now = epoch_.fetch_add(1, std::memory_order_acq_rel);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (const Slot& slot : slots_.first(used_.load(std::memory_order_relaxed))) {
    for (;;) {
      const std::uint64_t epoch = slot.epoch.load(std::memory_order_acquire);
      if (epoch == 0 || epoch > now) break;
      relax();
    }
  }
}

EpochGrace::~EpochGrace() {
  while (first_ != nullptr) {
    Retired* const next = first_->next_;
    first_->expire();
    first_ = next;
  }
}

}  // namespace weir::stage2
