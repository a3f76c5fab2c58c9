// Which emulated device answers at which IPA. Filled before the VM runs, then only read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "guest-abi/types.hpp"
#include "hyp/vm/mmio_device.hpp"

namespace weir {

class MmioBus {
 public:
  static constexpr std::size_t kMaxDevices = 32;

  // False, and nothing is added, if there is no room or the range is empty, wraps or overlaps another device.
  [[nodiscard]] bool add(IPA base, std::uint64_t bytes, MmioDevice& device);

  struct Found {
    MmioDevice* device{};  // nullptr: nobody
    std::uint64_t offset{};
  };
  // The device that has all of [at, at + size).
  [[nodiscard]] Found find(IPA at, unsigned size) const;

 private:
  struct Range {
    IPA base;
    std::uint64_t bytes{};
    MmioDevice* device{};
    [[nodiscard]] bool has(IPA at, unsigned size) const {
      const std::uint64_t offset = at - base;
      return offset < bytes && size <= bytes - offset;
    }
  };

 public:
  // Whoever makes many accesses remembers where the last one went.
  class Recent {
    friend MmioBus;
    const Range* range_ = &kNobody;
  };
  [[nodiscard]] Found find(IPA at, unsigned size, Recent& recent) const {
    if (!recent.range_->has(at, size)) [[unlikely]]
      recent.range_ = &range_at(at, size);
    const Range& r = *recent.range_;
    return {r.device, at - r.base};
  }

 private:
  static const Range kNobody;
  [[nodiscard]] const Range& range_at(IPA at, unsigned size) const;  // or kNobody
  std::array<Range, kMaxDevices> ranges_{};                          // sorted
  std::size_t count_{};
};

}  // namespace weir
