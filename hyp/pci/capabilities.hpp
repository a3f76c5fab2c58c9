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

// The same for the extended capabilities of PCI Express, whose list starts at kExtended.
template <typename Fn>
void for_each_extended_capability(ConfigPort& config, Rid rid, Fn&& fn) {
  constexpr unsigned kMost = (kConfigEnd - kExtended) / 8;
  std::uint32_t at = kExtended;
  for (unsigned i = 0; i < kMost && at >= kExtended; ++i) {
    const ExtendedCapability header{{{config.read(rid, static_cast<std::uint16_t>(at), 4)}}};
    if (header.words[0] == 0 || header.words[0] == kAbsent) return;
    fn(static_cast<std::uint16_t>(at), header);
    at = header.get<ExtendedCapability::Next>() & 0xffcu;
  }
}

// Turns PRI, ATS and PASID off, in this order: none of them may change under one that is built on it. DMA comes first.
inline void disable_translation_services(ConfigPort& config, Rid rid) {
  struct Service {
    std::uint16_t id;
    std::uint16_t control;  // 16 bits, from the capability
  };
  for (const Service& service : {Service{kExtendedPri, kPriControl}, Service{kExtendedAts, kAtsControl + 2},
                                 Service{kExtendedPasid, kPasidControl + 2}})
    for_each_extended_capability(config, rid, [&](std::uint16_t at, ExtendedCapability header) {
      const auto control = static_cast<std::uint16_t>(at + service.control);
      if (header.get<ExtendedCapability::Id>() == service.id && control + 2 <= kConfigEnd)
        config.write(rid, control, 2, 0);
    });
}

}  // namespace weir::pci
