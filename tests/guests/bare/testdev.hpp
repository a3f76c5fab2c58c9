// QEMU's iommu-testdev: writes a pattern by DMA to an IOVA, then compares what is at a *physical* address with it.
#pragma once

#include <cstdint>

#include "tests/guests/bare/mmio.hpp"

namespace weir::guest {

class TestDevice {
 public:
  static constexpr std::uint32_t kIdentity = 0x0005'1b36;
  static constexpr std::uint32_t kPattern = 0x1234'5678;

  enum Result : std::uint32_t {
    ok = 0,
    armed = 0xffff'fffe,
    write_fault = 0xdead'0002,
    read_fault = 0xdead'0003,
    mismatch = 0xdead'0004,
  };

  TestDevice() = default;
  explicit TestDevice(std::uint64_t registers) : registers_{registers} {}

  // Writes `bytes` bytes of the pattern to `iova`, compares with `physical`. Runs at once.
  Result dma(std::uint64_t iova, std::uint64_t physical, std::uint32_t bytes = 4) const {
    prepare(iova, physical, bytes);
    (void)load32(trigger());
    const std::uint32_t result = load32(registers_ + kResult);
    barrier();
    return static_cast<Result>(result);
  }
  // The same in parts: after prepare() a 32-bit load from trigger() runs the DMA.
  void prepare(std::uint64_t iova, std::uint64_t physical, std::uint32_t bytes = 4) const {
    constexpr std::uint32_t kNonSecure = 0xa;
    set(kIovaLow, static_cast<std::uint32_t>(iova));
    set(kIovaHigh, static_cast<std::uint32_t>(iova >> 32));
    set(kPhysicalLow, static_cast<std::uint32_t>(physical));
    set(kPhysicalHigh, static_cast<std::uint32_t>(physical >> 32));
    set(kLength, bytes);
    set(kAttributes, kNonSecure);
    barrier();
    set(kDoorbell, 1);
    barrier();
  }
  [[nodiscard]] std::uint64_t trigger() const { return registers_ + kTrigger; }

 private:
  enum Register : std::uint32_t {
    kTrigger = 0x00,
    kIovaLow = 0x04,
    kIovaHigh = 0x08,
    kLength = 0x0c,
    kResult = 0x10,
    kDoorbell = 0x14,
    kAttributes = 0x18,
    kPhysicalLow = 0x1c,
    kPhysicalHigh = 0x20,
  };
  void set(Register r, std::uint32_t v) const { store32(registers_ + r, v); }

  std::uint64_t registers_ = 0;
};

}  // namespace weir::guest
