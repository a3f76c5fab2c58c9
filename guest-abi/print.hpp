// Prints any Record from its Layout: "NAME Field=3 Other=0x1000". Numbers below 10 are decimal, others hexadecimal.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "guest-abi/field.hpp"
#include "guest-abi/text.hpp"

namespace weir {

namespace detail {

// A field without its types, so that one function prints every format.
struct FieldInfo {
  std::string_view name;
  std::uint64_t mask{};  // in its word
  std::uint8_t word{};
  std::uint8_t shift{};                             // 0 for an address, which prints in place
  std::string_view (*value_name)(std::uint64_t){};  // of an enumeration with name_of(), else null
};

template <typename T>
concept Named = std::is_enum_v<T> && requires(T v) {
  { name_of(v) } -> std::convertible_to<std::string_view>;
};

template <typename F>
consteval FieldInfo field_info() {
  FieldInfo info{F::name, F::mask, static_cast<std::uint8_t>(F::word),
                 static_cast<std::uint8_t>(F::kind == FieldKind::address ? 0 : F::shift), nullptr};
  if constexpr (Named<typename F::type>) {
    info.value_name = [](std::uint64_t v) -> std::string_view { return name_of(static_cast<typename F::type>(v)); };
  }
  return info;
}

template <typename L>
consteval std::size_t field_count() {
  std::size_t n = 0;
  L::for_each([&](auto) { ++n; });
  return n;
}
template <typename L>
consteval auto field_table() {
  std::array<FieldInfo, field_count<L>()> table{};
  std::size_t n = 0;
  L::for_each([&]<typename F>(F) { table[n++] = field_info<F>(); });
  return table;
}
template <typename L>
inline constexpr auto kFieldTable = field_table<L>();

inline void print_number(TextBuffer& out, std::uint64_t v) {
  if (v < 10) {
    out.dec(v);
  } else {
    out.hex(v);
  }
}

// The spans of words are as long as the format.
[[gnu::noinline]] inline void print_fields(TextBuffer& out, std::span<const FieldInfo> fields,
                                           std::span<const std::uint64_t> words, std::span<const std::uint64_t> res0,
                                           std::span<const std::uint64_t> skip, std::span<const std::uint64_t> always) {
  for (const FieldInfo& f : fields) {
    if ((f.mask & skip[f.word]) != 0) continue;
    const std::uint64_t v = (words[f.word] & f.mask) >> f.shift;
    if (v == 0 && (f.mask & always[f.word]) == 0) continue;
    out.put(' ').put(f.name).put('=');
    const std::string_view name = f.value_name != nullptr ? f.value_name(v) : std::string_view{};
    if (name.empty()) {
      print_number(out, v);
    } else {
      out.put(name);
    }
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::uint64_t reserved = words[i] & res0[i];
    if (reserved != 0) out.put(" RES0[").dec(i).put("]=").hex(reserved);
  }
}

}  // namespace detail

// Which fields a line leaves out (`skip`), and which it has even if they are 0 (`always`): a mask per word.
template <typename Layout>
struct PrintMasks {
  typename Layout::Words skip{};
  typename Layout::Words always{};
};

// Appends " Field=value" for the fields of `r`, then " RES0[word]=mask" for reserved bits that are set.
template <typename R>
void print_fields(TextBuffer& out, const R& r, const PrintMasks<typename R::Layout>& masks = {}) {
  using L = typename R::Layout;
  typename L::Words words{};
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = r.words[i];
  detail::print_fields(out, detail::kFieldTable<L>, words, L::res0, masks.skip, masks.always);
}

}  // namespace weir
