// How a manifest names a PCI function: by the way to it, which does not depend on bus numbers given out at run time.
//
//   08:01.0          device 1, function 0 on root bus 8
//   08:01.0/00.0     device 0, function 0 on the bus behind that bridge; and so on
//   0001:08:01.0     the same in PCI segment 1 (the host bridge's linux,pci-domain); without it, segment 0
//
// All numbers are hexadecimal, of exactly this many digits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace weir {

struct TopologyPath {
  static constexpr std::size_t kMaxDepth = 8;
  static constexpr std::size_t kMaxText = 12 + 5 * (kMaxDepth - 1);

  std::uint16_t segment{};
  std::uint8_t root_bus{};
  std::uint8_t depth{};                         // hops in use, at least 1
  std::array<std::uint8_t, kMaxDepth> devfn{};  // device << 3 | function of each hop; unused ones are 0

  friend constexpr bool operator==(const TopologyPath&, const TopologyPath&) = default;
  // Is this the path of a bridge on the way to `other`?
  [[nodiscard]] constexpr bool above(const TopologyPath& other) const {
    if (segment != other.segment || root_bus != other.root_bus || depth >= other.depth) return false;
    for (unsigned i = 0; i < depth; ++i)
      if (devfn[i] != other.devfn[i]) return false;
    return true;
  }

  // nullopt if `text` is not a path, or one of too many hops.
  [[nodiscard]] static std::optional<TopologyPath> parse(std::string_view text);
  // Writes the path's canonical text; `text` is at least kMaxText long.
  [[nodiscard]] std::string_view print(std::span<char> text) const;
};

}  // namespace weir
