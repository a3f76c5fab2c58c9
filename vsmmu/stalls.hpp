// The stalled transactions of a guest's streams that wait for its answer (IHI 0070, 3.12.2, 4.7.1, 7.2.1).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "guest-abi/types.hpp"
#include "stage2/port.hpp"

namespace weir::vsmmu {

// Ticks (some ten a second) after which a stall that nobody answers is terminated. Ten seconds: what Linux gives a page
// fault's handler, and a stall takes nothing from anybody else meanwhile (stall_share()).
inline constexpr std::uint8_t kStallTicks = 100;

// How many transactions of one vSMMU may be stalled on an instance that can hold `stall_max` of them (IDR5.STALL_MAX):
// a quarter, so that a guest that answers nothing leaves room for others. A stall beyond it is terminated at once. This
// is what a guest may be told as its STALL_MAX.
[[nodiscard]] constexpr unsigned stall_share(unsigned stall_max) { return std::clamp(stall_max / 4, 1U, 64U); }

struct Stall {
  stage2::SmmuPort* port = nullptr;
  StreamID sid;
  std::uint16_t stag = 0;
  bool recorded = false;  // the guest has its event
  std::uint8_t age = 0;   // ticks
};

// Not thread-safe.
class StallTable {
 public:
  static constexpr std::size_t kCapacity = 256;  // over all instances

  // False: the instance's share (or the table) is used up.
  [[nodiscard]] bool has_room(const Stall& stall) const;
  // There is room for it.
  void add(const Stall& stall);
  // Takes out the stall that (port, sid, stag) identify, if the guest has seen it.
  [[nodiscard]] std::optional<Stall> take(const stage2::SmmuPort& port, StreamID sid, std::uint16_t stag);
  // Takes out any stall for which `pred` holds.
  template <typename Pred>
  [[nodiscard]] std::optional<Stall> take_if(Pred pred) {
    for (std::size_t i = 0; i < count_; ++i)
      if (pred(stalls_[i])) return remove(i);
    return std::nullopt;
  }
  // One tick more for all of them.
  void age();

  [[nodiscard]] std::size_t size() const { return count_; }
  [[nodiscard]] std::size_t unrecorded() const;

 private:
  Stall remove(std::size_t i);

  std::array<Stall, kCapacity> stalls_;
  std::size_t count_ = 0;  // in the order of their arrival
};

}  // namespace weir::vsmmu
