#include "hyp/vm/mmio_bus.hpp"

#include <algorithm>

namespace weir {

bool MmioBus::add(IPA base, std::uint64_t bytes, MmioDevice& device) {
  if (!base.aligned(kGranule) || bytes % kGranule != 0) return false;
  if (count_ == kMaxDevices || bytes == 0 || base.value + (bytes - 1) < base.value) return false;
  Range* const end = ranges_.data() + count_;
  Range* const next = std::upper_bound(ranges_.data(), end, base, [](IPA at, const Range& r) { return at < r.base; });
  if (next != end && next->base - base < bytes) return false;
  if (next != ranges_.data() && base - next[-1].base < next[-1].bytes) return false;
  std::move_backward(next, end, end + 1);
  *next = {base, bytes, &device};
  ++count_;
  return true;
}

constinit const MmioBus::Range MmioBus::kNobody{};

const MmioBus::Range& MmioBus::range_at(IPA at) const {
  const Range* const end = ranges_.data() + count_;
  const Range* const next = std::upper_bound(ranges_.data(), end, at, [](IPA a, const Range& r) { return a < r.base; });
  return next != ranges_.data() && next[-1].has(at) ? next[-1] : kNobody;
}

MmioBus::Found MmioBus::find(IPA at) const {
  Recent recent;
  return find(at, recent);
}

}  // namespace weir
