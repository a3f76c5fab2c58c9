// How many events a stream may cause before it counts as flooding (docs/threat-model.md, "floods of faults").
#pragma once

#include <algorithm>
#include <cstdint>

namespace weir::vsmmu {

// A token bucket: each event of the stream, of whatever kind, takes one token. A stream without any is silenced: it aborts
// until the guest has invalidated its configuration and the bucket holds enough for a repair.
//
// The burst is four times what the largest event queue of a guest holds by default (4096): a driver that faults a buffer
// of some megabytes, or a test suite that provokes every fault there is, stays below it, and of more than that the guest
// would see nothing but an overflow. At 10 ticks a second the refill allows 5120 events a second for ever, a few
// thousandths of a pCPU's time. No command of the guest's adds to it: in n ticks a stream causes at most
// kBurst + n * kRefill events that are looked at.
//
// A repair needs kFloodFloor tokens, so that the guest hears of at least as many errors more: it may have repaired the
// wrong thing. Each further one needs twice as many, up to the whole bucket, until the bucket has been full again: a
// guest that repairs without end makes the stream's STE be replaced less and less often.
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
  void refill() {
    left_ = std::min(left_ + kRefill, kBurst);
    if (left_ == kBurst) needed_ = kFloodFloor;
  }
  // False: a silenced stream stays so for now.
  [[nodiscard]] bool repair() {
    if (left_ < needed_) return false;
    needed_ = std::min(2 * needed_, kBurst);
    return true;
  }
  [[nodiscard]] bool may_repair() const { return left_ >= needed_; }

 private:
  unsigned left_ = kBurst;
  unsigned needed_ = kFloodFloor;  // for the next repair
};

}  // namespace weir::vsmmu
