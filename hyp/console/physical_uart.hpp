// The machine's PL011, as firmware left it: on, at some speed.
#pragma once

#include <cstddef>

#include "hyp/uart/pl011.hpp"

namespace weir {

class PhysicalUart {
 public:
  PhysicalUart() = default;
  explicit PhysicalUart(void* registers) : registers_{static_cast<std::byte*>(registers)} {}

  // Waits for room, as long as it takes.
  void put(char c);
  // False: nothing has been received.
  [[nodiscard]] bool get(char& c);
  void enable_receive_interrupt();

 private:
  [[nodiscard]] std::byte* at(pl011::Reg reg) const { return registers_ + static_cast<std::uint32_t>(reg); }
  std::byte* registers_ = nullptr;
};

}  // namespace weir
