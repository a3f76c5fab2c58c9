// Walking a function's list of capabilities.
#pragma once

#include "hyp/pci/config.hpp"

namespace weir::pci {

// Calls fn(offset, header) for each capability in the header's list; a list that loops or leaves its range ends.
template <typename Fn>
void for_each_capability(ConfigPort& config, Rid rid, Fn&& fn) {
  if (!StatusBits{{{config.read(rid, kCommand, 4)}}}.get<StatusBits::CapabilitiesList>()) return;
  constexpr unsigned kMost = (kExtended - kHeaderEnd) / 4;
  std::uint32_t at = config.read(rid, kCapabilities, 1) & 0xfc;
  for (unsigned i = 0; i < kMost && at >= kHeaderEnd; ++i) {
    const CapabilityHeader header{{{config.read(rid, static_cast<std::uint16_t>(at), 4)}}};
    fn(static_cast<std::uint16_t>(at), header);
    at = header.get<CapabilityHeader::Next>() & 0xfcu;
  }
}

}  // namespace weir::pci
