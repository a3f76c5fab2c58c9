// PCI functions through ECAM, all on bus 0.
#pragma once

#include <cstdint>

namespace weir::guest::pci {

inline constexpr unsigned kSlots = 32;

// Address of register `reg` of function 0 of `slot`.
[[nodiscard]] std::uint64_t config(unsigned slot, unsigned reg = 0);
constexpr std::uint32_t rid(unsigned slot) { return slot << 3; }
// Vendor in the low half, device in the high one; all ones if there is nothing.
[[nodiscard]] std::uint32_t identity(unsigned slot);
// Assigns BAR 0 (32-bit, memory), if nobody did, and lets the function decode and master. 0: it has no such BAR.
[[nodiscard]] std::uint64_t enable(unsigned slot);

}  // namespace weir::guest::pci
