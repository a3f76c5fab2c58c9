#include "hyp/cpu/stage1_walk.hpp"

#include <algorithm>

#include "guest-abi/field.hpp"

namespace weir {
namespace {

struct TcrEl1 : Record<TcrEl1, 64> {
  using T0SZ = Field<"T0SZ", 5, 0, std::uint8_t>;
  using TG0 = Field<"TG0", 15, 14, std::uint8_t>;
  using T1SZ = Field<"T1SZ", 21, 16, std::uint8_t>;
  using TG1 = Field<"TG1", 31, 30, std::uint8_t>;
  using Layout = weir::Layout<64, T0SZ, Ignored<13, 6>, TG0, T1SZ, Ignored<29, 22>, TG1, Ignored<63, 32>>;
};

constexpr unsigned kLast = 3;
constexpr unsigned kUpperHalf = 55;  // the bit of an address that chooses TTBR1_EL1, whatever TBI is
constexpr std::uint64_t kAddress = bit_mask(47, 12);
constexpr std::uint64_t kTtbrAddress = bit_mask(47, 1);
constexpr std::uint64_t kTable = 3;

// log2 of the granule. Reserved encodings are taken as 4 KiB.
unsigned granule0(unsigned tg0) { return tg0 == 1 ? 16 : (tg0 == 2 ? 14 : 12); }
unsigned granule1(unsigned tg1) { return tg1 == 3 ? 16 : (tg1 == 1 ? 14 : 12); }

struct Walk {
  unsigned granule;  // log2
  unsigned bits;     // of the input address
  std::uint64_t table;

  [[nodiscard]] unsigned stride() const { return granule - 3; }
  [[nodiscard]] unsigned shift(unsigned level) const { return granule + stride() * (kLast - level); }
  [[nodiscard]] unsigned first_level() const { return kLast - (bits - granule - 1) / stride(); }
};

Walk start(const Stage1Regime& regime, std::uint64_t va) {
  TcrEl1 tcr;
  tcr.words[0] = regime.tcr;
  const bool upper = (va >> kUpperHalf & 1) != 0;
  const unsigned granule = upper ? granule1(tcr.get<TcrEl1::TG1>()) : granule0(tcr.get<TcrEl1::TG0>());
  const unsigned size = upper ? tcr.get<TcrEl1::T1SZ>() : tcr.get<TcrEl1::T0SZ>();
  // 64 KiB granules have 52 bits at most, the others 48; and there is always something to look up.
  const unsigned bits = std::clamp(64 - size, granule + 1, granule == 16 ? 52U : 48U);
  Walk w{granule, bits, (upper ? regime.ttbr1 : regime.ttbr0) & kTtbrAddress};
  // The first table is as large as what is left of the address, 64 bytes at least, and aligned to that.
  const unsigned index_bits = bits - w.shift(w.first_level());
  w.table &= ~bit_mask(std::max(index_bits + 3, 6U) - 1, 0);
  return w;
}

std::uint64_t swap(std::uint64_t value, bool big_endian) { return big_endian ? __builtin_bswap64(value) : value; }

}  // namespace

unsigned stage1_fault_level(const Stage1Regime& regime, std::uint64_t va, IPA fault, bool update,
                            DescriptorReader& memory) {
  Walk w = start(regime, va);
  const std::uint64_t page = fault.value / kPage4K;
  std::optional<unsigned> met;
  for (unsigned level = w.first_level();; ++level) {
    const unsigned shift = w.shift(level);
    const unsigned top = level == w.first_level() ? w.bits - 1 : shift + w.stride() - 1;
    const IPA at{w.table + ((va & bit_mask(top, 0)) >> shift) * sizeof(std::uint64_t)};
    if (at.value / kPage4K == page) {
      if (!update) return level;
      met = level;  // a table may refer to itself: what is written is the last
    }
    if (level == kLast) return met.value_or(level);
    const auto descriptor = memory.read(at);
    if (!descriptor) return met.value_or(level);
    const std::uint64_t value = swap(*descriptor, regime.big_endian);
    if ((value & kTable) != kTable) return met.value_or(level);
    w.table = value & kAddress & ~bit_mask(w.granule - 1, 0);
  }
}

}  // namespace weir
