// Grace periods by epochs. Portable: whoever owns it says which reader is running.
//
// Each reader has a slot, with the epoch in which its read section began; 0: it is outside. What is retired carries the
// epoch of that moment, and expires when no slot holds that epoch or an older one.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "stage2/retire.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir::stage2 {

class EpochGrace final : public Grace {
 public:
  struct alignas(64) Slot {  // a cache line each: entering touches nobody else's
    std::atomic<std::uint64_t> epoch{0};
  };

  // `reader` returns the caller's index into `slots`, which outlive this object: the pCPU's, or a thread's. A reader
  // changes neither index nor thread within a section.
  constexpr EpochGrace(std::span<Slot> slots, unsigned (*reader)()) : slots_{slots}, reader_{reader} {}
  // Nobody reads any more: everything expires.
  ~EpochGrace();
  EpochGrace(const EpochGrace&) = delete;
  EpochGrace& operator=(const EpochGrace&) = delete;

  void enter() override { (void)open(); }
  void leave() override { close(slots_[reader_()]); }
  void retire(std::unique_ptr<Retired> object) override;
  void synchronize() override;

  // As Grace::ReadSection, with fewer instructions.
  class [[nodiscard]] Section {
   public:
    explicit Section(EpochGrace& grace) : grace_{grace}, slot_{grace.open()} {}
    ~Section() { grace_.close(slot_); }
    Section(const Section&) = delete;
    Section& operator=(const Section&) = delete;

   private:
    EpochGrace& grace_;
    Slot& slot_;
  };

  // Retired, and not expired yet.
  [[nodiscard]] std::size_t waiting() const { return waiting_.load(std::memory_order_relaxed); }

 private:
  [[nodiscard]] Slot& open() {
    const unsigned reader = reader_();
    if (used_.load(std::memory_order_relaxed) <= reader) [[unlikely]]
      use(reader);
    Slot& slot = slots_[reader];
    // Release: who reads this epoch, and not the 0 of close() before it, sees that section's end all the same.
    slot.epoch.store(epoch_.load(std::memory_order_acquire), std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return slot;
  }
  // Lets expire what waited for this section, if nobody else is at it.
  void close(Slot& slot) {
    // Release: what was read in the section comes before whatever is done to it now.
    slot.epoch.store(0, std::memory_order_release);
    if (waiting() != 0) [[unlikely]]
      reclaim();
  }
  void use(unsigned reader);
  [[nodiscard]] std::uint64_t oldest_section() const;
  void reclaim();

  std::span<Slot> slots_;
  unsigned (*reader_)();
  std::atomic<std::uint32_t> used_{0};  // slots before this one have been used
  std::atomic<std::uint64_t> epoch_{1};
  std::atomic<std::size_t> waiting_{0};
  SpinLock lock_;  // of the list, which is in the order of epochs
  Retired* first_ = nullptr;
  Retired* last_ = nullptr;
};

}  // namespace weir::stage2
