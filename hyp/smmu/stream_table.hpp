// The stream table of one physical SMMU (IHI 0070, 3.3 and 5): two levels where it has them, every stream aborting
// silently until somebody installs an STE for it.
#pragma once

#include <cstdint>
#include <expected>

#include "guest-abi/smmu/ste.hpp"
#include "hyp/smmu/hardware.hpp"
#include "stage2/port.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir {

class CommandQueue;

class StreamTable {
 public:
  StreamTable(SmmuHardware& hardware, CommandQueue& commands) : hardware_{hardware}, commands_{commands} {}

  // Allocates the table (its first level) for StreamIDs of `sid_bits` bits, up to 32, and points the SMMU at it; SMMUEN is 0.
  // False: out of memory.
  [[nodiscard]] bool init(unsigned sid_bits, bool two_level);

  // See stage2::SmmuPort::install_ste. One caller per StreamID at a time.
  [[nodiscard]] std::expected<void, stage2::Error> install(StreamID sid, const smmu::Ste& ste);

 private:
  [[nodiscard]] std::expected<smmu::Ste*, stage2::Error> entry(StreamID sid);
  void abort_all(smmu::Ste* table, std::size_t count);
  class Sink;

  static constexpr unsigned kSplit = 8;  // StreamIDs per second-level table, log2

  SmmuHardware& hardware_;
  CommandQueue& commands_;
  unsigned sid_bits_ = 0;
  smmu::Ste* linear_ = nullptr;
  smmu::L1Std* level1_ = nullptr;
  SpinLock lock_;  // of level 1
};

}  // namespace weir
