// The first SMMU of the devicetree as a rig (tests/conformance/rig.hpp), with iommu-testdevs as its devices.
#pragma once

#include <array>
#include <cstdint>

#include "guest-abi/smmu/registers.hpp"
#include "tests/conformance/rig.hpp"
#include "tests/guests/bare/testdev.hpp"

namespace weir::guest {

class GuestRig final : public conformance::Rig {
 public:
  static constexpr unsigned kMaxDevices = 4;

  // False: the machine has not what it takes, and a failure was reported.
  bool init();
  // A new case: registers as after reset as far as stores can do that, memory given back, interrupts from 0.
  void restart();
  [[nodiscard]] unsigned devices() const { return device_count_; }

  std::uint64_t read(std::uint32_t offset, unsigned size) override;
  void write(std::uint32_t offset, unsigned size, std::uint64_t value) override;
  std::uint32_t at_reset(std::uint32_t offset) override;
  std::uint64_t allocate(std::uint64_t bytes, std::uint64_t alignment) override;
  std::uint64_t data_page() override;
  std::uint64_t load(std::uint64_t at) override;
  void store(std::uint64_t at, std::uint64_t value) override;
  std::uint64_t nowhere() override { return 0x30'0000'0000; }
  std::uint32_t stream(unsigned device) override { return devices_[device].sid; }
  conformance::Reply dma(unsigned device, const conformance::Transaction& transaction) override;
  unsigned interrupts(conformance::Wire wire) override;
  void pass() override;
  void settle() override;
  [[nodiscard]] bool can(conformance::Ability ability) const override {
    return ability == conformance::Ability::wires || ability == conformance::Ability::messages;
  }

 private:
  static constexpr std::uint64_t kArena = 0x40'0000;  // bytes
  static constexpr unsigned kDataPages = 16;
  struct Device {
    std::uint32_t sid = 0;
    TestDevice dma;
  };

  std::uint64_t allocate_copy();
  [[nodiscard]] std::uint32_t get(smmu::Reg reg) {
    return static_cast<std::uint32_t>(read(static_cast<std::uint32_t>(reg), 4));
  }
  void set(smmu::Reg reg, std::uint32_t value) { write(static_cast<std::uint32_t>(reg), 4, value); }

  std::uint64_t base_ = 0;
  std::uint32_t first_intid_ = 0;
  std::uint64_t arena_ = 0, next_ = 0;
  std::uint64_t reset_ = 0;  // a copy of the defined registers, in memory of its own
  std::array<Device, kMaxDevices> devices_{};
  unsigned device_count_ = 0;
  std::array<std::uint64_t, kDataPages> pages_{};
  unsigned page_count_ = 0;
  std::array<unsigned, 4> interrupts_before_{};
};

}  // namespace weir::guest
