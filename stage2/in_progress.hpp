// What several pCPUs are doing to one object without holding its lock: each registers what its work is about, in a record
// on its own stack, and waits (without the lock) until nothing that conflicts with it is going on or was there before.
#pragma once

#include <atomic>
#include <boost/intrusive/list.hpp>
#include <cstdint>

#include "stage2/support/relax.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir::stage2 {

// `What` has bool conflicts(const What&) const, symmetric.
template <typename What>
class InProgress {
 public:
  // `lock` guards the object, and these records.
  explicit InProgress(SpinLock& lock) : lock_{lock} {}
  InProgress(const InProgress&) = delete;
  InProgress& operator=(const InProgress&) = delete;

  // Its scope is that of the work. It is constructed without the lock and then has it; it may be without it in between,
  // for as long as it likes, because conflicting work waits. Destroyed, it gives up the lock if it has it.
  class Entry : public boost::intrusive::list_base_hook<> {
   public:
    Entry(InProgress& all, const What& about) : what{about}, all_{all} {
      lock();
      all_.entries_.push_back(*this);
      while (blocked()) {
        const std::uint32_t seen = all_.ended_.load(std::memory_order_relaxed);
        unlock();
        while (all_.ended_.load(std::memory_order_relaxed) == seen) relax();
        lock();
      }
      started_ = true;
    }
    ~Entry() {
      if (!locked_) lock();
      all_.entries_.erase(all_.entries_.iterator_to(*this));
      all_.ended_.fetch_add(1, std::memory_order_relaxed);
      unlock();
    }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

    void lock() {
      all_.lock_.lock();
      locked_ = true;
    }
    void unlock() {
      locked_ = false;
      all_.lock_.unlock();
    }

    What what;  // may grow, with the lock held

   private:
    // By work that has begun, and by work that was here first: nobody is overtaken for ever. Nobody who has begun waits
    // for others, so nobody waits in a circle.
    [[nodiscard]] bool blocked() const {
      bool before = true;
      for (const Entry& other : all_.entries_) {
        if (&other == this) {
          before = false;
        } else if ((before || other.started_) && other.what.conflicts(what)) {
          return true;
        }
      }
      return false;
    }
    InProgress& all_;
    bool locked_ = false;
    bool started_ = false;
  };

 private:
  SpinLock& lock_;
  boost::intrusive::list<Entry> entries_;
  std::atomic<std::uint32_t> ended_{0};
};

}  // namespace weir::stage2
