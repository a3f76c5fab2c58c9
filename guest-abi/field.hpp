// Formats as typed fields.
//
// A format (register, command, table entry, event record, PTE) is a class derived from Record<itself, bits>.
// Its Layout lists *every* bit of the format exactly once; overlap or a gap does not compile. Masks (RES0,
// guest-settable), decoders and printers are derived from that one list.
//
//   struct Ste : Record<Ste, 512> {
//     using V      = Field<"V", 0, 0, bool, Guest::may_set>;
//     using Config = Field<"Config", 3, 1, SteConfig, Guest::may_set>;
//     using Layout = weir::Layout<512, V, Config, ..., Res0<511, 480>>;
//   };
//   ste.get<Ste::Config>();  ste.set<Ste::V>(true);  Ste::Layout::guest  (a mask per word)
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace weir {

// A string literal as a template argument.
template <std::size_t N>
struct FixedString {
  char text[N]{};
  consteval FixedString(const char (&literal)[N]) { std::copy_n(literal, N, text); }
  [[nodiscard]] constexpr std::string_view view() const { return {text, N - 1}; }
};

// Who may set a field of a format that a guest writes.
enum class Guest : std::uint8_t {
  may_set,   // any value may come from the guest
  must_be_0  // a set bit is refused, overwritten or ignored: Weir's own, or not offered
};

enum class FieldKind : std::uint8_t {
  value,     // an integer or enumeration, right-aligned by get()
  address,   // an address whose bits sit in place: get() returns the address, low bits zero
  reserved,  // RES0
  ignored    // defined as IGNORED, or not used by Weir in any way: any value is accepted, none is produced
};

constexpr std::uint64_t bit_mask(unsigned hi, unsigned lo) {
  return (hi >= 63 ? ~std::uint64_t{0} : (std::uint64_t{1} << (hi + 1)) - 1) & ~((std::uint64_t{1} << lo) - 1);
}

// Bits [Hi:Lo] of a format, counted over all of its words as the specification does. A field stays within a 64-bit
// word.
template <FixedString Name, unsigned Hi, unsigned Lo, typename T = std::uint64_t, Guest G = Guest::may_set,
          FieldKind K = FieldKind::value>
struct Field {
  static_assert(Hi >= Lo && Hi / 64 == Lo / 64, "a field lies within one 64-bit word");
  using type = T;
  static constexpr std::string_view name = Name.view();
  static constexpr unsigned hi = Hi;
  static constexpr unsigned lo = Lo;
  static constexpr std::size_t word = Lo / 64;
  static constexpr unsigned shift = Lo % 64;
  static constexpr std::uint64_t mask = bit_mask(Hi % 64, Lo % 64);  // in its word
  static constexpr std::uint64_t max = mask >> shift;
  static constexpr Guest guest = G;
  static constexpr FieldKind kind = K;

  // The field's value in word `w`, and the bits of `v` in place (excess bits are cut off).
  [[nodiscard]] static constexpr T decode(std::uint64_t w) {
    const std::uint64_t raw = K == FieldKind::address ? (w & mask) : (w & mask) >> shift;
    if constexpr (std::is_same_v<T, bool>) {
      return raw != 0;
    } else if constexpr (std::is_enum_v<T> || std::is_integral_v<T>) {
      return static_cast<T>(raw);
    } else {
      return T{static_cast<typename T::rep>(raw)};
    }
  }
  [[nodiscard]] static constexpr std::uint64_t encode(T v) {
    std::uint64_t raw{};
    if constexpr (std::is_enum_v<T> || std::is_integral_v<T>) {
      raw = static_cast<std::uint64_t>(v);
    } else {
      raw = static_cast<std::uint64_t>(v.value);
    }
    return (K == FieldKind::address ? raw : raw << shift) & mask;
  }
};

template <FixedString Name, unsigned Hi, unsigned Lo, typename T = std::uint64_t, Guest G = Guest::may_set>
using AddressField = Field<Name, Hi, Lo, T, G, FieldKind::address>;
template <FixedString Name, unsigned Bit, Guest G = Guest::may_set>
using BitField = Field<Name, Bit, Bit, bool, G>;
// Fields that a guest may not set.
template <FixedString Name, unsigned Hi, unsigned Lo, typename T = std::uint64_t>
using OwnField = Field<Name, Hi, Lo, T, Guest::must_be_0>;
template <FixedString Name, unsigned Bit>
using OwnBit = Field<Name, Bit, Bit, bool, Guest::must_be_0>;
template <FixedString Name, unsigned Hi, unsigned Lo, typename T = std::uint64_t>
using OwnAddress = Field<Name, Hi, Lo, T, Guest::must_be_0, FieldKind::address>;
template <unsigned Hi, unsigned Lo>
using Res0 = Field<"RES0", Hi, Lo, std::uint64_t, Guest::must_be_0, FieldKind::reserved>;
template <unsigned Hi, unsigned Lo>
using Ignored = Field<"IGNORED", Hi, Lo, std::uint64_t, Guest::may_set, FieldKind::ignored>;
template <unsigned Hi, unsigned Lo>
using OwnIgnored = Field<"IGNORED", Hi, Lo, std::uint64_t, Guest::must_be_0, FieldKind::ignored>;

// All fields of a format of `Bits` bits.
template <unsigned Bits, typename... Fs>
struct Layout {
  static constexpr std::size_t words = (Bits + 63) / 64;
  using Words = std::array<std::uint64_t, words>;

 private:
  static consteval Words all() {
    Words m{};
    for (unsigned bit = 0; bit < Bits; ++bit) m[bit / 64] |= std::uint64_t{1} << (bit % 64);
    return m;
  }
  static consteval bool disjoint() {
    Words seen{};
    bool ok = true;
    ((ok = ok && Fs::word < words && (seen[Fs::word] & Fs::mask) == 0, seen[Fs::word] |= Fs::mask), ...);
    return ok;
  }
  template <typename Pred>
  static consteval Words mask_where(Pred pred) {
    Words m{};
    ((m[Fs::word] |= pred(Fs{}) ? Fs::mask : 0), ...);
    return m;
  }

 public:
  static_assert(disjoint(), "fields overlap or lie outside of the format");
  static constexpr Words covered = mask_where([](auto) { return true; });
  static_assert(covered == all(), "every bit of the format must belong to a field, Res0 or Ignored");

  static constexpr Words res0 = mask_where([](auto f) { return f.kind == FieldKind::reserved; });
  static constexpr Words guest = mask_where([](auto f) { return f.guest == Guest::may_set; });  // ignored bits included

  // Calls fn(field) for each named field in order; fields are empty objects with static members.
  template <typename Fn>
  static constexpr void for_each(Fn&& fn) {
    (
        [&] {
          if constexpr (Fs::kind == FieldKind::value || Fs::kind == FieldKind::address) fn(Fs{});
        }(),
        ...);
  }
};

// The bytes of a format with typed access; Derived names the fields and defines Layout. Little-endian in memory.
template <typename Derived, unsigned Bits>
struct Record {
  static constexpr std::size_t bits = Bits;
  static constexpr std::size_t bytes = Bits / 8;
  using Word = std::conditional_t<Bits == 32, std::uint32_t, std::uint64_t>;
  std::array<Word, (Bits + 63) / 64> words{};

  template <typename F>
  [[nodiscard]] constexpr typename F::type get() const {
    return F::decode(words[F::word]);
  }
  template <typename F>
  constexpr Derived& set(typename F::type v) {
    words[F::word] = static_cast<Word>((words[F::word] & ~F::mask) | F::encode(v));
    return static_cast<Derived&>(*this);
  }
  // True if no bit outside of `mask` (one entry per word) is set.
  [[nodiscard]] constexpr bool within(const std::array<std::uint64_t, (Bits + 63) / 64>& mask) const {
    for (std::size_t i = 0; i < words.size(); ++i)
      if ((words[i] & ~mask[i]) != 0) return false;
    return true;
  }
  friend constexpr bool operator==(const Record&, const Record&) = default;
};

}  // namespace weir
