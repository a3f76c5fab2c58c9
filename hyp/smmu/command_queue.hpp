// The command queue of one physical SMMU (IHI 0070, 3.5 and 4), shared by all pCPUs.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

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
  // The SMMU cannot read its queue, or refuses what every SMMU must accept: nothing can be invalidated any more. Once this
  // returns no DMA may be translated: everything counts as complete, and commands are dropped.
  virtual void on_dead_queue() = 0;

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

  // Allocates 2^log2 entries and points the SMMU at them; CR0.CMDQEN is 0. False: out of memory.
  [[nodiscard]] bool init(unsigned log2);

  // Appends `commands`, then a CMD_SYNC if asked; one store of PROD for all that fits at once. Waits for room, first
  // come, first served. Returns the position behind the last one.
  stage2::Ticket push(std::span<const smmu::Command> commands, bool sync);

  // Has everything before `ticket` been consumed? For a position behind a CMD_SYNC this means that the SYNC completed. Whoever
  // waits calls it again and again: if nothing is consumed for a second, the log says so, once.
  [[nodiscard]] bool completed(stage2::Ticket ticket);

  // Acknowledges a command error, if one is active, so that the queue moves again (7.1): a SYNC that waited for a hung
  // endpoint's ATC completes; an illegal command, which no guest can cause, is replaced; a fetch that was aborted is tried
  // again, at growing intervals and not for ever. Any pCPU, any time.
  void recover();
  // ATC_INVs are sent to `sid` again.
  void allow_atc(StreamID sid);
  // An ATC_INV for `sid` timed out, and allow_atc() has not been called since.
  [[nodiscard]] bool atc_refused(StreamID sid) const;
  // Acknowledges all other global errors that are active; returns them (a mask of GERROR). Here because GERRORN is one
  // register for all: a store of it must not undo what recover() does on another pCPU.
  std::uint32_t acknowledge_others();

  struct Counters {
    std::uint64_t commands = 0;  // CMD_SYNC included
    std::uint64_t syncs = 0;
    std::uint64_t errors = 0;
    std::uint64_t atc_timeouts = 0;
  };
  [[nodiscard]] Counters counters() const { return counters_; }

 private:
  // Positions count entries since init(); an index register holds a position modulo twice the queue's size, which is
  // index and wrap flag in one.
  [[nodiscard]] std::uint32_t index_of(std::uint64_t position) const {
    return static_cast<std::uint32_t>(position) & (2 * size_ - 1);
  }
  [[nodiscard]] std::uint64_t consumed();
  void publish_from(std::uint64_t first, std::uint64_t end);
  void watch();
  // Of recover(), with recovery_ held, for the error at `position`. False: not yet.
  [[nodiscard]] bool settle(smmu::CmdqError error, std::uint64_t position);
  [[nodiscard]] bool settle_abort(std::uint64_t position);
  void lose(smmu::Command& slot, std::uint64_t position);
  void atc_timed_out(StreamID sid, std::uint64_t position);
  void die();
  [[nodiscard]] bool covered();
  [[nodiscard]] smmu::Command& slot(std::uint64_t position) const { return ring_[position & (size_ - 1)]; }

  static constexpr std::uint32_t kPollsBetweenLooks = 4096;  // at the clock
  static constexpr std::uint64_t kStandstill = 1'000'000;    // microseconds
  static constexpr std::uint64_t kAbortRetry = 100;          // microseconds before the second fetch; doubles
  static constexpr unsigned kAbortTries = 10;
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};

  SmmuHardware& hardware_;
  std::string_view name_;
  CommandQueueListener* listener_;
  smmu::Command* ring_ = nullptr;
  std::uint32_t size_ = 0;
  SpinLock lock_;  // of PROD and the ring
  std::atomic<std::uint64_t> produced_{0};
  std::atomic<std::uint64_t> consumed_{0};   // a lower bound
  std::atomic<std::uint64_t> lost_{kNever};  // position of the first command that was lost and is not yet made up for
  std::atomic<bool> dead_{false};
  std::array<std::atomic<std::uint32_t>, 64> refused_{};  // streams whose ATC is not spoken to
  std::atomic<std::uint32_t> refused_count_{0};
  std::optional<StreamID> atc_;  // the stream of the ATC_INVs since the last SYNC in the ring; under lock_

  SpinLock recovery_;                    // of the rest; taken inside lock_
  std::atomic<std::uint32_t> polls_{0};  // that found nothing new
  std::uint64_t watched_ = 0;            // what was consumed when progress was last seen,
  std::uint64_t watched_at_ = 0;         // and when
  bool standstill_said_ = false;
  enum class Cover : std::uint8_t { none, owed, issuing, issued } cover_ = Cover::none;  // of what was lost
  stage2::Ticket cover_ticket_ = 0;
  std::uint64_t aborted_at_ = kNever;
  std::uint64_t retry_at_ = 0;
  unsigned abort_tries_ = 0;
  Counters counters_;
};

}  // namespace weir
