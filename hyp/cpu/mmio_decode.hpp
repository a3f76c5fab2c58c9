// Loads and stores for which the CPU reports no syndrome (ESR_EL2.ISS.ISV = 0): what they do, from their encoding.
//
// Decoded: LDR, STR, LDUR, STUR, LDTR, STTR, LDP, STP, LDNP, STNP, acquire and release forms, of general and of SIMD&FP
// registers, with every addressing mode but PC-relative.
// Refused: exclusives and atomics, because Device memory need not support them (Arm ARM B2.9, B2.2.6), and no emulated
// register does: the guest takes what a CPU gives there, an abort. Vector structures (LD1..), SVE, SME, LD64B, memory
// copies, PAC loads, tags: no driver uses them on registers. Portable: Capstone decodes, on the host and at EL2 alike.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>

#include "stage2/support/spinlock.hpp"

namespace weir {

enum class DecodeError : std::uint8_t {
  no_decoder,           // it was not opened, or there was no memory
  undecodable,          // not an A64 instruction that Capstone decodes (which leaves out most unpredictable forms)
  not_supported,        // no load or store, or none that makes sense on registers
  exclusive_or_atomic,  // see above
  unpredictable,        // writeback to a transferred register, or the same register loaded twice
  mismatch              // not the access that faulted: memory changed, or part of it is elsewhere
};
[[nodiscard]] const char* to_string(DecodeError error);

enum class RegisterClass : std::uint8_t { general, vector };

// An index register becomes an offset: extended from 32 bits or taken whole, then shifted left.
enum class IndexExtension : std::uint8_t { none, zero_32, sign_32 };
struct IndexRegister {
  unsigned reg{};  // 31: XZR
  IndexExtension extension{};
  unsigned shift{};
  friend constexpr bool operator==(const IndexRegister&, const IndexRegister&) = default;
};

struct DecodedAccess {
  bool store{};
  RegisterClass register_class{};
  unsigned size{};                 // bytes of each access: 1, 2, 4, 8; with vector registers 16, too
  bool sign_extend{};              // loads of general registers: to `register_bits`; else zero-extended
  unsigned register_bits{64};      // general registers: 32 clears the upper half
  unsigned count{1};               // 1, or 2: the second `size` bytes after the first
  std::array<unsigned, 2> regs{};  // 31: XZR for general registers

  unsigned base{};                        // 31: SP
  std::int64_t offset{};                  // of the first access from the base, if there is no index
  std::optional<IndexRegister> index;     // never together with writeback
  std::optional<std::int64_t> writeback;  // what is added to the base register afterwards
  friend constexpr bool operator==(const DecodedAccess&, const DecodedAccess&) = default;
};

// Capstone's state. Thread-safe. Allocates when opened, not afterwards.
class MmioDecoder {
 public:
  constexpr MmioDecoder() = default;
  MmioDecoder(const MmioDecoder&) = delete;
  MmioDecoder& operator=(const MmioDecoder&) = delete;

  // False: out of memory; decode() then gives no_decoder.
  [[nodiscard]] bool open();
  void close();
  [[nodiscard]] std::expected<DecodedAccess, DecodeError> decode(std::uint32_t instruction);

 private:
  SpinLock lock_;
  std::size_t handle_ = 0;       // Capstone's csh
  void* instruction_ = nullptr;  // cs_insn
};

}  // namespace weir
