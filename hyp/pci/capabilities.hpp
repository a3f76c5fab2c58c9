// Walking a function's lists of capabilities.
#pragma once

#include <bitset>

#include "hyp/pci/config.hpp"

namespace weir::pci {

// Calls fn(offset, header) once for each capability in the header's list. False: the list loops, leads out of its
// range or is cut off by a function that does not answer any more; fn was called for what came before.
template <typename Fn>
[[nodiscard]] bool walk_capabilities(ConfigPort& config, Rid rid, Fn&& fn) {
  if (!StatusBits{{{config.read(rid, kCommand, 4)}}}.get<StatusBits::CapabilitiesList>()) return true;
  std::bitset<kExtended / 4> seen;
  std::uint32_t at = config.read(rid, kCapabilities, 1) & 0xfc;
  while (at != 0) {
    if (at < kHeaderEnd || seen.test(at / 4)) return false;
    seen.set(at / 4);
    const CapabilityHeader header{{{config.read(rid, static_cast<std::uint16_t>(at), 4)}}};
    if (header.words[0] == kAbsent) return false;
    fn(static_cast<std::uint16_t>(at), header);
    at = header.get<CapabilityHeader::Next>() & 0xfcu;
  }
  return true;
}

// The same for the extended capabilities of PCI Express, whose list starts at kExtended. A function that is not PCI
// Express reads as zeros or ones there.
template <typename Fn>
[[nodiscard]] bool walk_extended_capabilities(ConfigPort& config, Rid rid, Fn&& fn) {
  std::bitset<kConfigEnd / 4> seen;
  std::uint32_t at = kExtended;
  while (at != 0) {
    if (at < kExtended || seen.test(at / 4)) return false;
    seen.set(at / 4);
    const ExtendedCapability header{{{config.read(rid, static_cast<std::uint16_t>(at), 4)}}};
    if (header.words[0] == 0 || header.words[0] == kAbsent) return at == kExtended;
    fn(static_cast<std::uint16_t>(at), header);
    at = header.get<ExtendedCapability::Next>() & 0xffcu;
  }
  return true;
}

// Where what there is of a damaged list will do: Topology says that it is damaged.
template <typename Fn>
void for_each_capability(ConfigPort& config, Rid rid, Fn&& fn) {
  static_cast<void>(walk_capabilities(config, rid, fn));
}
template <typename Fn>
void for_each_extended_capability(ConfigPort& config, Rid rid, Fn&& fn) {
  static_cast<void>(walk_extended_capabilities(config, rid, fn));
}

}  // namespace weir::pci
