// Physical PCI configuration space through the hosts' ECAM windows (PCI Express Base Specification, 7.2.2).
#pragma once

#include <cstddef>

#include "hyp/pci/config.hpp"
#include "hyp/platform/platform.hpp"

namespace weir {

class Ecam final : public pci::ConfigPort {
 public:
  // `registers` maps the window of `host`.
  Ecam(void* registers, const PciHost& host)
      : registers_{static_cast<std::byte*>(registers)}, first_bus_{host.first_bus}, last_bus_{host.last_bus} {}

  std::uint32_t read(pci::Rid rid, std::uint16_t offset, unsigned size) override;
  void write(pci::Rid rid, std::uint16_t offset, unsigned size, std::uint32_t value) override;
  void wait(std::uint32_t microseconds) override;

 private:
  [[nodiscard]] std::byte* at(pci::Rid rid, std::uint16_t offset) const;  // nullptr: not this host's

  std::byte* registers_;
  unsigned first_bus_;
  unsigned last_bus_;
};

}  // namespace weir
