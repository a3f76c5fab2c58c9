// How many events a stream may cause before it counts as flooding (design: "A stream that floods is aborted").
#pragma once

#include <algorithm>
#include <cstdint>

namespace weir::vsmmu {

// A token bucket: each event of the stream, of whatever kind, takes one token.
//
// The burst is four times what the largest event queue of a guest holds by default (4096): a driver that faults a buffer
// of some megabytes, or a test suite that provokes every fault there is, stays below it, and of more than that the guest
// would see nothing but an overflow. At 10 ticks a second the refill allows 5120 events a second for ever, a few
// thousandths of a pCPU's time. A guest that repairs a silenced stream (by invalidating its configuration) hears of at
// least kFloodFloor errors more: it may have repaired the wrong thing.
class EventBudget {
 public:
  static constexpr unsigned kBurst = 16384;
  static constexpr unsigned kRefill = 512;  // per tick
  static constexpr unsigned kFloodFloor = 256;

  // Takes one. False: nothing is left, the stream floods.
  [[nodiscard]] bool take() {
    if (left_ == 0) return false;
    --left_;
    return true;
  }
  void refill() { left_ = std::min(left_ + kRefill, kBurst); }
  void repaired() { left_ = std::max(left_, kFloodFloor); }
  [[nodiscard]] unsigned left() const { return left_; }

 private:
  unsigned left_ = kBurst;
};

}  // namespace weir::vsmmu
