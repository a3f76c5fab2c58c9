// The atomic instructions of FEAT_LSE (DDI 0487, C6.2: CAS, CASP, SWP, LDADD and its kind) as fields.
#pragma once

#include <cstdint>
#include <optional>

#include "guest-abi/field.hpp"

namespace weir::patch {

enum class AtomicKind : std::uint8_t {
  // In the order of the field `opc` of the LD<op> instructions.
  add,
  clr,
  eor,
  set,
  smax,
  smin,
  umax,
  umin,
  swap,
  compare,
  compare_pair,
};

// log2 of the bytes, as in the encodings.
enum class AtomicSize : std::uint8_t { byte, half, word, dword };

struct Atomic {
  AtomicKind kind{};
  AtomicSize size{};  // of one register; CASP accesses two of them
  bool acquire{};
  bool release{};
  std::uint8_t rs{};  // operand, or what is compared (and then receives the old value); 31: XZR
  std::uint8_t rt{};  // receives the old value, or what is stored by a comparison; 31: XZR
  std::uint8_t rn{};  // address; 31: SP
  friend constexpr bool operator==(const Atomic&, const Atomic&) = default;
};

// LD<op>, ST<op> and SWP of a byte to a doubleword.
struct AtomicMemoryOperation : Record<AtomicMemoryOperation, 64> {
  using Rt = Field<"Rt", 4, 0, std::uint8_t>;
  using Rn = Field<"Rn", 9, 5, std::uint8_t>;
  using Fixed11 = Field<"0b00", 11, 10, std::uint8_t>;
  using Opc = Field<"opc", 14, 12, std::uint8_t>;
  using O3 = BitField<"o3", 15>;
  using Rs = Field<"Rs", 20, 16, std::uint8_t>;
  using Fixed21 = BitField<"0b1", 21>;
  using R = BitField<"R", 22>;
  using A = BitField<"A", 23>;
  using Fixed29 = Field<"0b111000", 29, 24, std::uint8_t>;
  using Size = Field<"size", 31, 30, AtomicSize>;
  using Layout = weir::Layout<64, Rt, Rn, Fixed11, Opc, O3, Rs, Fixed21, R, A, Fixed29, Size, Res0<63, 32>>;
};

// CAS and CASP.
struct CompareAndSwap : Record<CompareAndSwap, 64> {
  using Rt = Field<"Rt", 4, 0, std::uint8_t>;
  using Rn = Field<"Rn", 9, 5, std::uint8_t>;
  using Rt2 = Field<"0b11111", 14, 10, std::uint8_t>;
  using O0 = BitField<"o0", 15>;  // release
  using Rs = Field<"Rs", 20, 16, std::uint8_t>;
  using Fixed21 = BitField<"0b1", 21>;
  using L = BitField<"L", 22>;  // acquire
  using Single = BitField<"CAS, not CASP", 23>;
  using Fixed29 = Field<"0b001000", 29, 24, std::uint8_t>;
  using Size = Field<"size", 31, 30, AtomicSize>;  // CASP: word or dword less 2
  using Layout = weir::Layout<64, Rt, Rn, Rt2, O0, Rs, Fixed21, L, Single, Fixed29, Size, Res0<63, 32>>;
};

// No value: another instruction.
[[nodiscard]] std::optional<Atomic> decode_atomic(std::uint32_t instruction);
[[nodiscard]] std::uint32_t encode_atomic(const Atomic& atomic);

}  // namespace weir::patch
