// Loads and stores of exactly one size, with a syndrome (one general register, no writeback), and barriers.
#pragma once

#include <cstdint>

namespace weir::guest {

inline void store8(std::uint64_t at, std::uint8_t v) { asm volatile("strb %w0, [%1]" ::"r"(v), "r"(at) : "memory"); }
inline void store16(std::uint64_t at, std::uint16_t v) { asm volatile("strh %w0, [%1]" ::"r"(v), "r"(at) : "memory"); }
inline void store32(std::uint64_t at, std::uint32_t v) { asm volatile("str %w0, [%1]" ::"r"(v), "r"(at) : "memory"); }
inline void store64(std::uint64_t at, std::uint64_t v) { asm volatile("str %0, [%1]" ::"r"(v), "r"(at) : "memory"); }
inline std::uint8_t load8(std::uint64_t at) {
  std::uint32_t v;
  asm volatile("ldrb %w0, [%1]" : "=r"(v) : "r"(at) : "memory");
  return static_cast<std::uint8_t>(v);
}
inline std::uint16_t load16(std::uint64_t at) {
  std::uint32_t v;
  asm volatile("ldrh %w0, [%1]" : "=r"(v) : "r"(at) : "memory");
  return static_cast<std::uint16_t>(v);
}
inline std::uint32_t load32(std::uint64_t at) {
  std::uint32_t v;
  asm volatile("ldr %w0, [%1]" : "=r"(v) : "r"(at) : "memory");
  return v;
}
inline std::uint64_t load64(std::uint64_t at) {
  std::uint64_t v;
  asm volatile("ldr %0, [%1]" : "=r"(v) : "r"(at) : "memory");
  return v;
}

// All earlier loads and stores are complete, for devices too.
inline void barrier() { asm volatile("dsb sy" ::: "memory"); }
inline void isb() { asm volatile("isb" ::: "memory"); }

#define WEIR_READ_SYSREG(name)                              \
  ([] {                                                     \
    std::uint64_t value_;                                   \
    asm volatile("mrs %0, " name : "=r"(value_)::"memory"); \
    return value_;                                          \
  }())
#define WEIR_WRITE_SYSREG(name, value) asm volatile("msr " name ", %0" ::"r"(std::uint64_t{value}) : "memory")

}  // namespace weir::guest
