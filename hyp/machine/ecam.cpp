#include "hyp/machine/ecam.hpp"

#include "hyp/arch/counter.hpp"
#include "hyp/arch/mmio.hpp"

namespace weir {

std::byte* Ecam::at(pci::Rid rid, std::uint16_t offset) const {
  if (rid.bus() < first_bus_ || rid.bus() > last_bus_) return nullptr;
  const pci::Rid within{rid.bus() - first_bus_, rid.device(), rid.function()};
  return registers_ + pci::EcamAddress{within, offset}.words[0];
}

std::uint32_t Ecam::read(pci::Rid rid, std::uint16_t offset, unsigned size) {
  const std::byte* registers = at(rid, offset);
  if (registers == nullptr) return static_cast<std::uint32_t>(bit_mask(size * 8 - 1, 0));
  switch (size) {
    case 1: return read8(registers);
    case 2: return read16(registers);
    default: return read32(registers);
  }
}

void Ecam::write(pci::Rid rid, std::uint16_t offset, unsigned size, std::uint32_t value) {
  std::byte* registers = at(rid, offset);
  if (registers == nullptr) return;
  switch (size) {
    case 1: return write8(registers, static_cast<std::uint8_t>(value));
    case 2: return write16(registers, static_cast<std::uint16_t>(value));
    default: return write32(registers, value);
  }
}

void Ecam::wait(std::uint32_t microseconds) {
  const std::uint64_t start = counter();
  while (counter() - start < microseconds_to_ticks(microseconds)) {
  }
}

}  // namespace weir
