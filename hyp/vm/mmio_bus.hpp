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

  // A device has whole granules of that many bytes: no access, which is naturally aligned, goes beyond its end.
  static constexpr std::uint64_t kGranule = 8;

  // False, and nothing is added, if there is no room or the range is not of granules, is empty, wraps or overlaps another
  // device.
  [[nodiscard]] bool add(IPA base, std::uint64_t bytes, MmioDevice& device);

  struct Found {
    MmioDevice* device{};  // nullptr: nobody
    std::uint64_t offset{};
  };
  // The device that an aligned access to `at` goes to.
  [[nodiscard]] Found find(IPA at) const;

 private:
  struct Range {
    IPA base;
    std::uint64_t bytes{};
    MmioDevice* device{};
    [[nodiscard]] bool has(IPA at) const { return at - base < bytes; }
  };

 public:
  // Whoever makes many accesses remembers where the last one went.
  class Recent {
   public:
    [[nodiscard]] Found find(IPA at) const {
      return range_->has(at) ? Found{range_->device, at - range_->base} : Found{};
    }

   private:
    friend MmioBus;
    const Range* range_ = &kNobody;
  };
  [[nodiscard]] Found find(IPA at, Recent& recent) const {
    if (!recent.range_->has(at)) recent.range_ = &range_at(at);
    return recent.find(at);
  }

 private:
  static const Range kNobody;
  [[nodiscard]] const Range& range_at(IPA at) const;  // or kNobody
  std::array<Range, kMaxDevices> ranges_{};           // sorted
  std::size_t count_{};
};

}  // namespace weir
