// The A64 instructions that stubs are made of (DDI 0487, C6.2). Registers are numbers 0 to 31; 31 is XZR, or SP where
// an address is expected. `size` as in Atomic.
#pragma once

#include <cstdint>

#include "hyp/patch/atomic.hpp"

namespace weir::patch::a64 {

using Register = std::uint8_t;
inline constexpr Register kZero = 31, kSp = 31;

constexpr std::uint32_t at(Register r, unsigned lo) { return std::uint32_t{r} << lo; }
constexpr std::uint32_t wide(AtomicSize size) { return size == AtomicSize::dword ? 1U << 31 : 0; }

// Exclusives: acquire and release are bit 15, and pairs know word and dword only.
constexpr std::uint32_t kOrdered = 1U << 15;
constexpr std::uint32_t load_exclusive(AtomicSize size, bool acquire, Register rt, Register rn) {
  return 0x085f7c00 | static_cast<std::uint32_t>(size) << 30 | (acquire ? kOrdered : 0) | at(rn, 5) | rt;
}
constexpr std::uint32_t store_exclusive(AtomicSize size, bool release, Register status, Register rt, Register rn) {
  return 0x08007c00 | static_cast<std::uint32_t>(size) << 30 | (release ? kOrdered : 0) | at(status, 16) | at(rn, 5) |
         rt;
}
constexpr std::uint32_t kDwordPair = 1U << 30;
constexpr std::uint32_t load_exclusive_pair(AtomicSize size, bool acquire, Register rt, Register rt2, Register rn) {
  return 0x887f0000 | (size == AtomicSize::dword ? kDwordPair : 0) | (acquire ? kOrdered : 0) | at(rt2, 10) |
         at(rn, 5) | rt;
}
constexpr std::uint32_t store_exclusive_pair(AtomicSize size, bool release, Register status, Register rt, Register rt2,
                                             Register rn) {
  return 0x88200000 | (size == AtomicSize::dword ? kDwordPair : 0) | (release ? kOrdered : 0) | at(status, 16) |
         at(rt2, 10) | at(rn, 5) | rt;
}

// Arithmetic of W registers, or of X registers for a dword. None but compare() touches the flags.
enum class Op : std::uint32_t { add = 0x0b000000, bic = 0x0a200000, orr = 0x2a000000, eor = 0x4a000000 };
constexpr std::uint32_t operation(Op op, AtomicSize size, Register rd, Register rn, Register rm) {
  return static_cast<std::uint32_t>(op) | wide(size) | at(rm, 16) | at(rn, 5) | rd;
}
constexpr std::uint32_t move(AtomicSize size, Register rd, Register rm) {
  return operation(Op::orr, size, rd, kZero, rm);
}
constexpr std::uint32_t compare(AtomicSize size, Register rn, Register rm) {
  return 0x6b000000 | wide(size) | at(rm, 16) | at(rn, 5) | kZero;
}
enum class Condition : std::uint32_t { lower = 3, higher = 8, less = 11, greater = 12 };
constexpr std::uint32_t select(AtomicSize size, Register rd, Register rn, Register rm, Condition condition) {
  return 0x1a800000 | wide(size) | at(rm, 16) | static_cast<std::uint32_t>(condition) << 12 | at(rn, 5) | rd;
}
// A byte or halfword to 32 bits.
constexpr std::uint32_t extend(AtomicSize size, bool sign, Register rd, Register rn) {
  return (sign ? 0x13000000U : 0x53000000U) | (size == AtomicSize::byte ? 7U : 15U) << 10 | at(rn, 5) | rd;
}
constexpr std::uint32_t read_flags(Register rt) { return 0xd53b4200 | rt; }
constexpr std::uint32_t write_flags(Register rt) { return 0xd51b4200 | rt; }

// The stack, two registers (16 bytes) at a time; `bytes` below 4096.
constexpr std::uint32_t push(Register a, Register b) { return 0xa9bf0000 | at(b, 10) | at(kSp, 5) | a; }
constexpr std::uint32_t pop(Register a, Register b) { return 0xa8c10000 | at(b, 10) | at(kSp, 5) | a; }
constexpr std::uint32_t add_to_sp(Register rd, std::uint32_t bytes) {
  return 0x91000000 | bytes << 10 | at(kSp, 5) | rd;
}

// Branches: `words` from the branch to its target.
constexpr std::uint32_t branch_if_not_zero(AtomicSize size, Register rt, std::int32_t words) {
  return 0x35000000 | wide(size) | (static_cast<std::uint32_t>(words) & 0x7ffff) << 5 | rt;
}
constexpr std::int64_t kBranchWords = std::int64_t{1} << 25;  // reach in either direction
constexpr std::uint32_t branch(std::int64_t words) {
  return 0x14000000 | (static_cast<std::uint32_t>(words) & 0x3ffffff);
}

inline constexpr std::uint32_t kDmbIsh = 0xd5033bbf, kDmbSy = 0xd5033fbf;

// MRS Xt, PAR_EL1.
constexpr std::uint32_t kReadPar = 0xd5387400;
constexpr bool is_read_par(std::uint32_t instruction) { return (instruction & ~31U) == kReadPar; }

}  // namespace weir::patch::a64
