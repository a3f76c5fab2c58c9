#include "hyp/pci/aliases.hpp"

#include <algorithm>

namespace weir::pci {
namespace {

// Devices whose functions do DMA under the ID of function 0 or 1.
struct Sharing {
  std::uint16_t vendor;
  std::uint16_t device;
  unsigned function;
};
constexpr Sharing kSharing[] = {
    {0x1180, 0xe476, 0}, {0x1180, 0xe832, 0},                                            // Ricoh
    {0x6766, 0x3d40, 0}, {0x6766, 0x3d41, 0},                                            // Glenfly
    {0x1b4b, 0x9120, 1}, {0x1b4b, 0x9123, 1}, {0x1b4b, 0x9125, 1}, {0x1b4b, 0x9128, 1},  // Marvell
    {0x1b4b, 0x9130, 1}, {0x1b4b, 0x9170, 1}, {0x1b4b, 0x9172, 1}, {0x1b4b, 0x917a, 1}, {0x1b4b, 0x9182, 1},
    {0x1b4b, 0x9183, 1}, {0x1b4b, 0x91a0, 1}, {0x1b4b, 0x9215, 1}, {0x1b4b, 0x9220, 1}, {0x1b4b, 0x9230, 1},
    {0x1b4b, 0x9235, 1}, {0x1103, 0x0642, 1}, {0x1103, 0x0645, 1},  // HighPoint
    {0x197b, 0x2392, 1},                                            // JMicron
    {0x1c28, 0x0122, 1},                                            // Lite-On
};

bool add(RequesterIds& ids, Rid rid) {
  return std::ranges::find(ids, rid.value(), &Rid::value) != ids.end() || ids.push_back(rid);
}

bool is_port(const BridgeHop& hop) {
  return hop.port == PortType::root_port || hop.port == PortType::downstream || hop.port == PortType::upstream;
}

}  // namespace

bool replaces_ids(const BridgeHop& bridge) { return !is_port(bridge); }

std::optional<RequesterIds> requester_ids(Rid rid, std::uint16_t vendor, std::uint16_t device,
                                          std::span<const BridgeHop> above) {
  RequesterIds ids;
  bool fits = add(ids, rid);
  for (const Sharing& known : kSharing)
    if (known.vendor == vendor && known.device == device)
      fits = fits && add(ids, Rid{rid.bus(), rid.device(), known.function});
  for (std::size_t i = above.size(); i-- > 0;) {
    const BridgeHop& bridge = above[i];
    if (!replaces_ids(bridge)) continue;
    // A bridge on a link is one from PCI Express, whether it has that capability or not.
    const bool on_link = i > 0 && is_port(above[i - 1]);
    if (bridge.port == PortType::to_pci || (!bridge.port && on_link))
      fits = fits && add(ids, Rid{bridge.secondary, 0, 0});
    if (bridge.port != PortType::to_pci) fits = fits && add(ids, bridge.rid);
  }
  if (!fits) return std::nullopt;
  return ids;
}

}  // namespace weir::pci
