// The guest's command queue as a ring of bytes: which commands are there, each copied out of guest memory once (IHI
// 0070, 3.5.1, 4.1.2, 6.3.26 to 6.3.28). What they mean is not its business.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "guest-abi/smmu/command.hpp"
#include "vsmmu/ports.hpp"
#include "vsmmu/ring.hpp"

namespace weir::vsmmu {

class CommandQueue {
 public:
  enum class Next : std::uint8_t {
    command,
    empty,
    refused  // the guest's PROD: prod() is to be shown instead; look again
  };

  // Any pCPU, at any time: the guest has stored `value` to CMDQ_PROD.
  void post(std::uint32_t value) { posted_.store(kPosted | (value & kIndex)); }
  [[nodiscard]] bool posted() const { return (posted_.load() & kPosted) != 0; }

  // The rest is for whoever owns the vSMMU's command side.

  // CMDQEN becomes 1: the queue starts at `cons`.
  void start(const Ring& ring, std::uint32_t cons);
  // CMDQEN becomes 0, or an error stops consumption: what was copied but not consumed is forgotten.
  void stop() { next_ = end_ = nullptr; }
  // Takes in what was posted. `consuming`: enabled and without an error. PROD then only moves forward: a store that
  // does not is the re-execution of an old one (Progress::again) or against the rules, and is ignored. False: ignored.
  bool take_posted(bool consuming);

  // Takes in what was posted. Is there a command to copy?
  [[nodiscard]] Next look() {
    if (!take_posted(true)) [[unlikely]]
      return Next::refused;
    // Nothing is consumed while the indexes contradict each other (3.5.1).
    return ring_.distance(cons_, prod_) - 1 < ring_.entries() ? Next::command : Next::empty;
  }
  // Copies commands from CONS on, at least one and at most `most`; there is one, and none is copied yet. False: they are
  // not in memory (CERROR_ABT).
  [[nodiscard]] bool fetch(GuestMemory& memory, std::uint32_t most);
  // What has been copied, from CONS on; valid until consumed() or stop().
  [[nodiscard]] std::span<const smmu::Command> copied() const { return {next_, end_}; }
  void consumed(std::uint32_t n = 1) {
    next_ += n;
    cons_ = ring_.next(cons_, n);
  }
  // All that was taken in is consumed.
  [[nodiscard]] bool drained() const { return cons_ == prod_; }
  [[nodiscard]] std::uint32_t cons() const { return cons_; }
  [[nodiscard]] std::uint32_t prod() const { return prod_; }
  // With these indexes, has the guest no room left?
  [[nodiscard]] bool full(std::uint32_t cons, std::uint32_t prod) const {
    return ring_.distance(cons, prod) == ring_.entries();
  }

 private:
  static constexpr std::uint32_t kPosted = 1u << 31;
  static constexpr std::uint32_t kIndex = smmu::CMDQ_PROD::WR::mask;
  static constexpr std::uint32_t kChunk = 64;
  static constexpr unsigned kLog2Command = 4;

  std::atomic<std::uint32_t> posted_{0};
  Ring ring_;
  std::uint32_t prod_ = 0;
  std::uint32_t cons_ = 0;
  const smmu::Command* next_ = nullptr;  // in chunk_: copied, and not consumed
  const smmu::Command* end_ = nullptr;
  std::array<smmu::Command, kChunk> chunk_;
};

}  // namespace weir::vsmmu
