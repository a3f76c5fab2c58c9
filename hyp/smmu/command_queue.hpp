// The command queue of one physical SMMU (IHI 0070, 3.5 and 4), shared by all pCPUs.
#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

#include "guest-abi/smmu/command.hpp"
#include "hyp/smmu/hardware.hpp"
#include "stage2/port.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir {

class CommandQueue {
 public:
  // `name`, for messages, outlives the queue.
  CommandQueue(SmmuHardware& hardware, std::string_view name) : hardware_{hardware}, name_{name} {}

  // Allocates 2^log2 entries and points the SMMU at them; CR0.CMDQEN is 0. False: out of memory.
  [[nodiscard]] bool init(unsigned log2);

  // Appends `commands`, then a CMD_SYNC if asked; one store of PROD for all that fits at once. Waits for room, first
  // come, first served. Returns the position behind the last one.
  stage2::Ticket push(std::span<const smmu::Command> commands, bool sync);

  // Has everything before `ticket` been consumed? For a position behind a CMD_SYNC this means that the SYNC completed. Whoever
  // waits calls it again and again: if nothing is consumed for a second, the log says so, once.
  [[nodiscard]] bool completed(stage2::Ticket ticket);

  // Acknowledges a command error, if one is active, so that the queue moves again: an illegal command, which no guest
  // can cause, is replaced by a CMD_SYNC; a SYNC that waited for a hung endpoint's ATC completes (7.1). Any pCPU, any time.
  void recover();
  // Acknowledges all other global errors that are active; returns them (a mask of GERROR). Here because GERRORN is one
  // register for all: a store of it must not undo what recover() does on another pCPU.
  std::uint32_t acknowledge_others();

  struct Counters {
    std::uint64_t commands = 0;  // CMD_SYNC included
    std::uint64_t syncs = 0;
    std::uint64_t errors = 0;
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

  static constexpr std::uint32_t kPollsBetweenLooks = 4096;  // at the clock
  static constexpr std::uint64_t kStandstill = 1'000'000;    // microseconds

  SmmuHardware& hardware_;
  std::string_view name_;
  smmu::Command* ring_ = nullptr;
  std::uint32_t size_ = 0;
  SpinLock lock_;  // of PROD and the ring
  std::atomic<std::uint64_t> produced_{0};
  std::atomic<std::uint64_t> consumed_{0};  // a lower bound
  SpinLock recovery_;                       // of the rest
  std::atomic<std::uint32_t> polls_{0};     // that found nothing new
  std::uint64_t watched_ = 0;               // what was consumed when progress was last seen,
  std::uint64_t watched_at_ = 0;            // and when
  bool standstill_said_ = false;
  Counters counters_;
};

}  // namespace weir
