#include "hyp/manifest/topology_path.hpp"

namespace weir {
namespace {

// Takes exactly `digits` hexadecimal digits from the front of `text`.
std::optional<std::uint16_t> take_hex(std::string_view& text, std::size_t digits) {
  if (text.size() < digits) return std::nullopt;
  unsigned value = 0;
  for (const char c : text.substr(0, digits)) {
    unsigned digit = 0;
    if (c >= '0' && c <= '9')
      digit = static_cast<unsigned>(c - '0');
    else if (c >= 'a' && c <= 'f')
      digit = static_cast<unsigned>(c - 'a') + 10;
    else if (c >= 'A' && c <= 'F')
      digit = static_cast<unsigned>(c - 'A') + 10;
    else
      return std::nullopt;
    value = value << 4 | digit;
  }
  text.remove_prefix(digits);
  return static_cast<std::uint16_t>(value);
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::optional<TopologyPath> TopologyPath::parse(std::string_view text) {
  TopologyPath path;
  if (text.size() > 4 && text[4] == ':') {
    const auto segment = take_hex(text, 4);
    if (!segment) return std::nullopt;
    path.segment = *segment;
    (void)take(text, ':');
  }
  const auto bus = take_hex(text, 2);
  if (!bus || !take(text, ':')) return std::nullopt;
  path.root_bus = static_cast<std::uint8_t>(*bus);
  do {
    const auto device = take_hex(text, 2);
    if (!device || *device > 31 || !take(text, '.')) return std::nullopt;
    const auto function = take_hex(text, 1);
    if (!function || *function > 7 || path.depth == kMaxDepth) return std::nullopt;
    path.devfn[path.depth++] = static_cast<std::uint8_t>(*device << 3 | *function);
  } while (take(text, '/'));
  if (!text.empty()) return std::nullopt;
  return path;
}

std::string_view TopologyPath::print(std::span<char> text) const {
  std::size_t n = 0;
  const auto put_hex = [&](unsigned value, unsigned digits) {
    while (digits-- > 0) text[n++] = "0123456789abcdef"[value >> (digits * 4) & 0xf];
  };
  if (segment != 0) {
    put_hex(segment, 4);
    text[n++] = ':';
  }
  put_hex(root_bus, 2);
  for (std::size_t i = 0; i < depth; ++i) {
    text[n++] = i == 0 ? ':' : '/';
    put_hex(devfn[i] >> 3U, 2);
    text[n++] = '.';
    put_hex(devfn[i] & 7U, 1);
  }
  return {text.data(), n};
}

}  // namespace weir
