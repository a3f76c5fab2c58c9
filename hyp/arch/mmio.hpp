// Device registers. One access of exactly the stated width, never merged, split or reordered by the compiler, and of a
// form that a virtual machine's exit can describe (no pair, no writeback). Ordering against memory is the caller's.
#pragma once

#include <cstdint>

namespace weir {

inline std::uint8_t read8(const volatile void* at) {
  std::uint32_t v;
  asm volatile("ldrb %w0, [%1]" : "=r"(v) : "r"(at) : "memory");
  return static_cast<std::uint8_t>(v);
}
inline std::uint16_t read16(const volatile void* at) {
  std::uint32_t v;
  asm volatile("ldrh %w0, [%1]" : "=r"(v) : "r"(at) : "memory");
  return static_cast<std::uint16_t>(v);
}
inline std::uint32_t read32(const volatile void* at) {
  std::uint32_t v;
  asm volatile("ldr %w0, [%1]" : "=r"(v) : "r"(at) : "memory");
  return v;
}
inline std::uint64_t read64(const volatile void* at) {
  std::uint64_t v;
  asm volatile("ldr %0, [%1]" : "=r"(v) : "r"(at) : "memory");
  return v;
}
inline void write8(volatile void* at, std::uint8_t v) {
  asm volatile("strb %w0, [%1]" : : "rZ"(v), "r"(at) : "memory");
}
inline void write16(volatile void* at, std::uint16_t v) {
  asm volatile("strh %w0, [%1]" : : "rZ"(v), "r"(at) : "memory");
}
inline void write32(volatile void* at, std::uint32_t v) {
  asm volatile("str %w0, [%1]" : : "rZ"(v), "r"(at) : "memory");
}
inline void write64(volatile void* at, std::uint64_t v) {
  asm volatile("str %x0, [%1]" : : "rZ"(v), "r"(at) : "memory");
}

}  // namespace weir
