#include "hyp/vm/mmio_bus.hpp"

#include <algorithm>

namespace weir {

bool MmioBus::add(IPA base, std::uint64_t bytes, MmioDevice& device) {
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

MmioBus::Found MmioBus::find(IPA at, unsigned size) const {
  const Range* const end = ranges_.data() + count_;
  const Range* const next = std::upper_bound(ranges_.data(), end, at, [](IPA a, const Range& r) { return a < r.base; });
  if (next == ranges_.data()) return {};
  const Range& r = next[-1];
  const std::uint64_t offset = at - r.base;
  if (offset >= r.bytes || size > r.bytes - offset) return {};
  return {r.device, offset};
}

}  // namespace weir
