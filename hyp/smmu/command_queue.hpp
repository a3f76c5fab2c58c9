// The command queue of one physical SMMU (IHI 0070, 3.5 and 4), shared by all pCPUs.
//
// Fairness: while more than kQuota commands are in the ring and not consumed, at most kQuota of those that are added come
// from one pCPU (fewer only if the ring is too small for that many from each). A pCPU that has more to say waits for its own
// commands, with no lock held, so the ring always has room for the others: whatever they do, a CMD_SYNC is submitted at
// once, and waits for at most pCPUs * kQuota commands of theirs.
//
// Costs, without errors: push() is one DMB and one store of PROD for what the quota lets through at once, and no load from the
// SMMU; completed() is one load of CONS, or none if another pCPU has seen far enough, and two if it is not complete.
//
// SYNCs are awaited at CONS and not by their MSI to memory (IDR0.MSI), which would spare these loads: an MSI does not
// come when the queue stops at an error, so CONS has to be looked at all the same.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "guest-abi/smmu/command.hpp"
#include "hyp/smmu/hardware.hpp"
#include "stage2/port.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir {

// Hears of what the queue cannot settle alone. Called on any pCPU, with locks of the queue held: issues no command.
class CommandQueueListener {
 public:
  // A CMD_SYNC found that the ATC of `sid` did not answer an invalidation in time (3.9.1.4). That SYNC completes after
  // this call, as if the ATC had; from now on ATC_INVs for `sid` are left out, until allow_atc().
  virtual void on_atc_timeout(StreamID sid) = 0;
  // The SMMU cannot read its queue, or refuses what every SMMU must accept: nothing can be invalidated any more. True: no DMA
  // is translated any more, and none will be; everything counts as complete, and commands are dropped. False: DMA may go
  // on. Tickets that are not complete stay so, and this is called again after a while.
  [[nodiscard]] virtual bool on_dead_queue() = 0;

 protected:
  ~CommandQueueListener() = default;
};

// Two rules make errors harmless to those who did not cause them. ATC_INVs of two streams never wait for the same
// CMD_SYNC (push() puts one in between), so CERROR_ATC_INV_SYNC names one stream, and costs the others the hardware's
// timeout, once. And a command that was lost to CERROR_ILL is made up for by invalidating everything: tickets behind
// it are not complete before that is.
class CommandQueue {
 public:
  // `name`, for messages, and `listener`, if any, outlive the queue.
  CommandQueue(SmmuHardware& hardware, std::string_view name, CommandQueueListener* listener = nullptr)
      : hardware_{hardware}, name_{name}, listener_{listener} {}

  // Allocates a ring for all pCPUs' quotas, at most 2^most_log2 entries, and points the SMMU at it; CR0.CMDQEN is 0. False:
  // out of memory.
  [[nodiscard]] bool init(unsigned most_log2);

  // For an SMMU that may lose an invalidation, but not its repetition behind a CMD_SYNC: from now on push() appends CFGI and
  // TLBI commands, a CMD_SYNC, and the same commands again. ATC_INVs are sent once. Before init().
  void invalidate_twice() { twice_ = true; }

  // Appends `commands`, then a CMD_SYNC if asked. Commands of other pCPUs may come in between. Returns the position behind
  // the last one.
  stage2::Ticket push(std::span<const smmu::Command> commands, bool sync);

  // Has everything before `ticket` been consumed? For a position behind a CMD_SYNC this means that the SYNC completed. Whoever
  // waits calls it again and again: if nothing is consumed for a second, the log says so, once; after kGiveUp, or
  // kGiveUpAtc if it may be a device that does not answer, the queue counts as dead.
  [[nodiscard]] bool completed(stage2::Ticket ticket);

  // Acknowledges a command error, if one is active, so that the queue moves again (7.1): a SYNC that waited for a hung
  // endpoint's ATC completes; an illegal command, which no guest can cause, is replaced; a fetch that was aborted is tried
  // again, at growing intervals and not for ever. Any pCPU, any time.
  [[gnu::cold]] void recover();
  // ATC_INVs are sent to `sid` again.
  void allow_atc(StreamID sid);
  // An ATC_INV for `sid` timed out, and allow_atc() has not been called since.
  [[nodiscard]] bool atc_refused(StreamID sid) const;
  // The SMMU says that it has failed (service failure mode, 12.3): the queue is dead.
  [[gnu::cold]] void fail();
  // Acknowledges all other global errors that are active; returns them (a mask of GERROR). Here because GERRORN is one
  // register for all: a store of it must not undo what recover() does on another pCPU.
  std::uint32_t acknowledge_others();

  // False: dead, or about to be.
  [[nodiscard]] bool alive() const { return !failed_.load(std::memory_order_acquire); }

  struct Counters {
    std::uint64_t commands = 0;  // appended, CMD_SYNC included
    std::uint64_t syncs = 0;
    std::uint64_t errors = 0;
    std::uint64_t atc_timeouts = 0;
  };
  [[nodiscard]] Counters counters() const {
    Counters c = counters_;
    c.commands = produced_.load(std::memory_order_relaxed);
    c.syncs = syncs_;
    return c;
  }

  static constexpr std::uint32_t kQuota = 128;  // commands
  // Streams whose ATC does not answer; with one more the queue counts as dead, because none of them may be forgotten.
  static constexpr std::size_t kMostRefused = 1024;
  // Microseconds without progress until the queue counts as dead. A PCIe endpoint may take 90 seconds to answer an
  // invalidation before its time-out lets the queue go on (PCIe 10.3.1): its SMMU is not to be given up for that.
  static constexpr std::uint64_t kGiveUp = 10'000'000;
  static constexpr std::uint64_t kGiveUpAtc = 120'000'000;

 private:
  // What one pCPU has in the ring: two runs of commands, the second open. More than there are, never fewer.
  class Share {
   public:
    [[nodiscard]] std::uint32_t outstanding(std::uint64_t consumed) {
      if (older_ != 0 && consumed >= older_end_) {
        older_ = std::exchange(newer_, 0);
        older_end_ = newer_end_;
        if (consumed >= older_end_) older_ = 0;
      }
      return older_ + newer_;
    }
    void add(std::uint32_t count, std::uint64_t end) {
      const bool first = older_ == 0;
      (first ? older_ : newer_) += count;
      (first ? older_end_ : newer_end_) = end;
    }

   private:
    std::uint64_t older_end_ = 0, newer_end_ = 0;
    std::uint32_t older_ = 0, newer_ = 0;
  };

  // Positions count entries since init(); an index register holds a position modulo twice the queue's size, which is
  // index and wrap flag in one.
  [[nodiscard]] std::uint32_t index_of(std::uint64_t position) const {
    return static_cast<std::uint32_t>(position) & index_mask_;
  }
  [[nodiscard]] std::uint32_t size() const { return slot_mask_ + 1; }
  // Loads CONS, recovers the queue if there is an error. What was consumed, or less.
  [[nodiscard]] std::uint64_t look();
  [[nodiscard]] bool completed_after_all(stage2::Ticket ticket);
  // Of push(), with lock_ held. append_plain() is for the many that end before plain_until_ and have no ATC_INV among them;
  // false: these were not, and nothing is appended. append() takes as many of `commands` as there is room for and leaves
  // the rest in it; true: all of it, and the SYNC.
  [[nodiscard]] bool append_plain(std::span<const smmu::Command> commands, bool sync);
  [[nodiscard]] bool append(std::span<const smmu::Command>& commands, bool sync);
  [[nodiscard]] std::uint64_t find_plain_until() const;
  stage2::Ticket push_in_parts(std::span<const smmu::Command> commands, bool sync);
  stage2::Ticket push_once(std::span<const smmu::Command> commands, bool sync);
  stage2::Ticket push_twice(std::span<const smmu::Command> commands, bool sync);
  void submit(std::uint64_t first, std::uint64_t end);
  [[gnu::cold]] void poll_in_vain();
  [[gnu::cold]] void watch();
  // Of recover(), with recovery_ held, for the error at `position`. False: not yet.
  [[nodiscard]] bool settle(smmu::CmdqError error, std::uint64_t position);
  [[nodiscard]] bool settle_abort(std::uint64_t position);
  void lose(smmu::Command& slot, std::uint64_t position);
  [[gnu::cold]] void atc_timed_out(StreamID sid, std::uint64_t position);
  [[gnu::cold]] void die();
  [[nodiscard]] bool covered();
  [[nodiscard]] std::uint64_t appended();
  [[nodiscard]] smmu::Command& slot(std::uint64_t position) const { return ring_[position & slot_mask_]; }

  static constexpr std::uint32_t kPollsBetweenLooks = 4096;  // at the clock
  static constexpr std::uint64_t kStandstill = 1'000'000;    // microseconds until the log says so
  static constexpr std::uint64_t kPause = 500'000;           // between looks: nobody has waited meanwhile
  static constexpr unsigned kMaxPcpus = 64;
  static constexpr std::uint64_t kAbortRetry = 100;  // microseconds before the second fetch; doubles
  static constexpr unsigned kAbortTries = 10;
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};

  // First what every push() and completed() needs. lock_ is of PROD and the ring, and of what is appended next; nobody
  // waits for the SMMU with it held.
  SpinLock lock_;
  std::atomic<std::uint64_t> produced_{0};  // stored to with lock_ held
  // Up to here a push() has nothing to look out for: the ring does not end, no more than the quota is in it, no ATC_INV waits
  // for its SYNC, and the queue is not dead. Found anew when it is reached; under lock_.
  std::uint64_t plain_until_ = 0;
  smmu::Command* ring_ = nullptr;
  std::uint32_t slot_mask_ = 0;
  std::uint32_t index_mask_ = 0;
  SmmuHardware& hardware_;
  std::uint64_t syncs_ = 0;                  // under lock_
  std::atomic<std::uint64_t> consumed_{0};   // a lower bound; may go back when two store to it at once
  std::atomic<std::uint64_t> lost_{kNever};  // position of the first command that was lost and is not yet made up for

  std::uint32_t quota_ = 0;
  bool twice_ = false;
  std::string_view name_;
  CommandQueueListener* listener_;
  std::optional<StreamID> atc_;  // the stream of the ATC_INVs since the last SYNC in the ring; under lock_
  std::array<Share, kMaxPcpus> shares_{};
  std::atomic<bool> dead_{false};                                   // stored to with lock_ held
  std::atomic<std::uint64_t> atc_end_{0};                           // behind the last ATC_INV, or the SYNC behind it
  std::array<std::atomic<std::uint32_t>, kMostRefused> refused_{};  // streams whose ATC is not spoken to
  std::atomic<std::uint32_t> refused_count_{0};

  SpinLock recovery_;                    // of the rest; taken before lock_
  std::atomic<std::uint32_t> polls_{0};  // that found nothing new
  std::uint64_t watched_ = 0;            // what was consumed when progress was last seen,
  std::uint64_t watched_at_ = 0;         // and when,
  std::uint64_t looked_at_ = 0;          // and when somebody looked last
  bool standstill_said_ = false;
  std::atomic<bool> failed_{false};  // it is to be dead, but DMA may go on: nothing is recovered any more
  enum class Cover : std::uint8_t { none, owed, issuing, issued } cover_ = Cover::none;  // of what was lost
  stage2::Ticket cover_ticket_ = 0;
  std::uint64_t aborted_at_ = kNever;
  std::uint64_t retry_at_ = 0;
  unsigned abort_tries_ = 0;
  Counters counters_;
};

}  // namespace weir
