// Any UART, for a few lines of text before there is a driver, or when there is nothing left to rely on. As firmware left it:
// on, at some speed. Portable: registers are reached through a Bus. Usable with the MMU off.
#pragma once

#include <concepts>
#include <cstdint>

namespace weir::early {

enum class UartKind : std::uint8_t {
  none,
  pl011,  // Arm DDI 0183, and the subset of it that SBSA knows
  ns8250  // 8250, 16550 and DesignWare APB: the registers of the PC
};

struct Uart {
  std::uint64_t base;  // physical address
  UartKind kind;
  std::uint8_t shift;  // 8250: register n lies at n << shift
  std::uint8_t width;  // bytes of an access: 1, 2 or 4
};

template <typename T>
concept Bus = requires(T& bus, std::uint64_t at, unsigned width, std::uint32_t value) {
  { bus.read(at, width) } -> std::same_as<std::uint32_t>;
  bus.write(at, width, value);
};

// A transmitter that is not ready after so many looks never will be: it is not clocked, or somebody holds it.
inline constexpr unsigned kPatience = 1'000'000;

// Writes one character as soon as there is room. False: there is no UART, or it takes nothing.
template <Bus B>
bool put(const Uart& uart, B& bus, char c) {
  constexpr std::uint64_t kPl011Data = 0x00, kPl011Flags = 0x18;
  constexpr std::uint32_t kPl011Full = 1U << 5;  // FR.TXFF
  constexpr std::uint64_t kLineStatus = 5;
  constexpr std::uint32_t kEmpty = 1U << 5;  // LSR.THRE
  if (uart.kind == UartKind::none) return false;
  const bool pl011 = uart.kind == UartKind::pl011;
  const std::uint64_t status = uart.base + (pl011 ? kPl011Flags : kLineStatus << uart.shift);
  for (unsigned looks = 0; looks < kPatience; ++looks) {
    const std::uint32_t now = bus.read(status, uart.width);
    if (pl011 ? (now & kPl011Full) != 0 : (now & kEmpty) == 0) continue;
    bus.write(uart.base + (pl011 ? kPl011Data : 0), uart.width, static_cast<unsigned char>(c));
    return true;
  }
  return false;
}

}  // namespace weir::early
