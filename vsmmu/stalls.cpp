#include "vsmmu/stalls.hpp"

#include "guest-abi/smmu/registers.hpp"

namespace weir::vsmmu {

bool StallTable::has_room(const Stall& stall) const {
  unsigned others = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    const Stall& s = stalls_[i];
    if (s.port != stall.port) continue;
    if (s.sid == stall.sid && s.stag == stall.stag) return true;  // takes its place
    ++others;
  }
  const auto most = static_cast<unsigned>(stall.port->capabilities().idr5.get<smmu::IDR5::STALL_MAX>());
  return count_ < kCapacity && others < stall_share(most);
}

void StallTable::add(const Stall& stall) {
  // A tag that comes again was answered in between, whatever this table believes.
  (void)take_if([&](const Stall& s) { return s.port == stall.port && s.sid == stall.sid && s.stag == stall.stag; });
  if (count_ < kCapacity) stalls_[count_++] = stall;
}

std::optional<Stall> StallTable::take(const stage2::SmmuPort& port, StreamID sid, std::uint16_t stag) {
  return take_if([&](const Stall& s) { return s.recorded && s.port == &port && s.sid == sid && s.stag == stag; });
}

void StallTable::age() {
  for (std::size_t i = 0; i < count_; ++i)
    if (stalls_[i].age < kStallTicks) ++stalls_[i].age;
}

std::size_t StallTable::unrecorded() const {
  const auto first = stalls_.begin();
  return static_cast<std::size_t>(
      std::count_if(first, first + static_cast<std::ptrdiff_t>(count_), [](const Stall& s) { return !s.recorded; }));
}

Stall StallTable::remove(std::size_t i) {
  const Stall gone = stalls_[i];
  std::move(stalls_.begin() + static_cast<std::ptrdiff_t>(i) + 1, stalls_.begin() + static_cast<std::ptrdiff_t>(count_),
            stalls_.begin() + static_cast<std::ptrdiff_t>(i));
  --count_;
  return gone;
}

}  // namespace weir::vsmmu
