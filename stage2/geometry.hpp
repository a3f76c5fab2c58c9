// The shape of a stage-2 translation: input and output size, start level, concatenated root tables.
// VMSAv8-64, 4 KiB granule, without FEAT_LPA2 and FEAT_TTST (Arm ARM D8.2; IHI 0070 5.2, STE.S2T0SZ, S2SL0, S2PS).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "guest-abi/smmu/types.hpp"
#include "guest-abi/types.hpp"
#include "guest-abi/vmsa.hpp"

namespace weir::stage2 {

using vmsa::kLastLevel;
using vmsa::level_shift;  // low address bits that a descriptor of a level leaves untranslated: 39, 30, 21, 12
using vmsa::level_size;   // what one descriptor of a level maps: 512 GiB, 1 GiB, 2 MiB, 4 KiB
inline constexpr unsigned kGranuleBits = 12;
inline constexpr unsigned kStrideBits = 9;  // a table resolves 9 bits: 512 descriptors of 8 bytes

class Geometry {
 public:
  static constexpr unsigned kMinInputBits = 32;
  static constexpr unsigned kMaxInputBits = 48;

  // `input_bits`: size of the IPA space, 32..48. `output`: size of the physical addresses, the smallest of all that
  // share the table; 52 bits and more count as 48 (all that a 4 KiB granule can say). No value if the combination is
  // not legal: the IPA space may not be larger than the PA space (STE.S2T0SZ >= 64 - IAS, and IAS = OAS).
  [[nodiscard]] static constexpr std::optional<Geometry> make(unsigned input_bits, smmu::AddressSize output) {
    if (bits(output) > vmsa::kMaxOutputBits) output = smmu::AddressSize::bits48;
    if (input_bits < kMinInputBits || input_bits > kMaxInputBits || input_bits > bits(output)) return std::nullopt;
    return Geometry{input_bits, output};
  }

  [[nodiscard]] constexpr unsigned input_bits() const { return input_bits_; }
  [[nodiscard]] constexpr unsigned output_bits() const { return bits(output_); }
  [[nodiscard]] constexpr IPA input_end() const { return IPA{std::uint64_t{1} << input_bits_}; }
  [[nodiscard]] constexpr PA output_end() const { return PA{std::uint64_t{1} << output_bits()}; }

  // The deepest level at which at most 16 concatenated tables cover the input: the shortest walk.
  [[nodiscard]] constexpr unsigned start_level() const { return start_level_; }
  [[nodiscard]] constexpr unsigned start_shift() const { return start_shift_; }  // level_shift() of it
  // Tables of 4 KiB, side by side, that form the root: 1, 2, 4, 8 or 16.
  [[nodiscard]] constexpr unsigned root_tables() const {
    const unsigned one_table = level_shift(start_level()) + kStrideBits;
    return input_bits_ > one_table ? 1U << (input_bits_ - one_table) : 1U;
  }
  // Size, and alignment too, of the root.
  [[nodiscard]] constexpr std::size_t root_bytes() const { return root_tables() * kPage4K; }

  // The fields of VTCR_EL2 and of an STE.
  [[nodiscard]] constexpr std::uint8_t t0sz() const { return static_cast<std::uint8_t>(64 - input_bits_); }
  [[nodiscard]] constexpr std::uint8_t sl0() const { return static_cast<std::uint8_t>(2 - start_level()); }
  [[nodiscard]] constexpr smmu::AddressSize ps() const { return output_; }

  friend constexpr bool operator==(const Geometry&, const Geometry&) = default;

 private:
  constexpr Geometry(unsigned input_bits, smmu::AddressSize output) : input_bits_{input_bits}, output_{output} {
    while (start_level_ > 0 && input_bits > level_shift(start_level_) + kStrideBits + 4) --start_level_;
    start_shift_ = level_shift(start_level_);
  }
  unsigned input_bits_;
  unsigned start_level_ = kLastLevel - 1;
  unsigned start_shift_ = 0;
  smmu::AddressSize output_;
};

// True if {T0SZ, SL0} is consistent as the architecture's pseudocode has it (AArch64.S2InvalidSL, S2InconsistentSL).
constexpr bool consistent(unsigned t0sz, unsigned sl0, unsigned output_bits) {
  if (t0sz < 16 || t0sz > 39 || sl0 > 2) return false;
  if (sl0 == 2 && output_bits < 44) return false;  // level 0 needs 44 bits of physical address
  const unsigned levels = kLastLevel - (2 - sl0);
  const unsigned smallest = levels * kStrideBits + kGranuleBits + 1;
  const unsigned largest = smallest + (kStrideBits - 1) + 4;
  return 64 - t0sz >= smallest && 64 - t0sz <= largest;
}

namespace geometry_proof {
consteval bool all_consistent() {
  for (unsigned out = 0; out < 8; ++out)
    for (unsigned in = 0; in < 64; ++in) {
      const auto g = Geometry::make(in, static_cast<smmu::AddressSize>(out));
      if (!g) continue;
      if (!consistent(g->t0sz(), g->sl0(), g->output_bits())) return false;
      const unsigned tables = g->root_tables();
      if (tables > 16 || (tables & (tables - 1)) != 0) return false;
      // The root resolves exactly the input size, or (one table) at least that.
      const std::uint64_t reach = level_size(g->start_level()) * vmsa::kEntries * tables;
      if (reach < g->input_end().value || (tables > 1 && reach != g->input_end().value)) return false;
    }
  return true;
}
consteval bool is(unsigned in, smmu::AddressSize out, unsigned level, unsigned tables, unsigned sl0) {
  const auto g = Geometry::make(in, out);
  return g && g->start_level() == level && g->root_tables() == tables && g->sl0() == sl0 && g->t0sz() == 64 - in;
}
static_assert(all_consistent());
static_assert(is(32, smmu::AddressSize::bits32, 2, 4, 0));
static_assert(is(34, smmu::AddressSize::bits36, 2, 16, 0));
static_assert(is(35, smmu::AddressSize::bits36, 1, 1, 1));
static_assert(is(39, smmu::AddressSize::bits44, 1, 1, 1));
static_assert(is(40, smmu::AddressSize::bits44, 1, 2, 1));
static_assert(is(43, smmu::AddressSize::bits44, 1, 16, 1));
static_assert(is(44, smmu::AddressSize::bits44, 0, 1, 2));
static_assert(is(48, smmu::AddressSize::bits52, 0, 1, 2));
static_assert(!Geometry::make(31, smmu::AddressSize::bits48) && !Geometry::make(49, smmu::AddressSize::bits52));
static_assert(!Geometry::make(44, smmu::AddressSize::bits42));
}  // namespace geometry_proof

}  // namespace weir::stage2
