// SmmuHardware at EL2: MMIO, pages of the page allocator, the system counter.
#pragma once

#include "hyp/smmu/hardware.hpp"

namespace weir {

class SmmuMmio final : public SmmuHardware {
 public:
  // The SMMU of this index into Platform::smmus; `registers` maps its pages 0 and 1. A non-coherent one gets caches cleaned
  // and invalidated for it.
  SmmuMmio(unsigned index, void* registers, bool coherent)
      : registers_{static_cast<std::byte*>(registers)}, index_{index}, coherent_{coherent} {}

  std::uint32_t read(smmu::Reg reg) override;
  void write(smmu::Reg reg, std::uint32_t value) override;
  void write_after_loads(smmu::Reg reg, std::uint32_t value) override;
  void write_after_stores(smmu::Reg reg, std::uint32_t value) override;
  void write64(smmu::Reg reg, std::uint64_t value) override;
  [[nodiscard]] bool coherent() const override { return coherent_; }
  [[nodiscard]] std::optional<PA> allocate(std::size_t bytes) override;
  [[nodiscard]] void* pointer(PA at) override;
  void publish(const void* at, std::size_t bytes) override;
  void collect(const void* at, std::size_t bytes) override;
  [[nodiscard]] bool cut_off_masters() override;
  [[nodiscard]] std::uint64_t microseconds() override;
  void relax() override;
  [[nodiscard]] unsigned pcpu() override;
  [[nodiscard]] unsigned pcpus() override;

 private:
  [[nodiscard]] std::byte* at(smmu::Reg reg) const { return registers_ + static_cast<std::uint32_t>(reg); }

  std::byte* registers_;
  unsigned index_;
  bool coherent_;
};

}  // namespace weir
