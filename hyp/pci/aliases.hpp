// Under which Requester IDs a function's DMA reaches the SMMU: its own, and those that take its place on the way.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "hyp/pci/config.hpp"
#include "hyp/platform/static_vector.hpp"

namespace weir::pci {

// A bridge on the way from the root bus to a function.
struct BridgeHop {
  Rid rid;
  unsigned secondary = 0;        // the bus behind it
  std::optional<PortType> port;  // none: not PCI Express
};

using RequesterIds = StaticVector<Rid, 12>;

// A PCI Express to PCI bridge sends on what comes from behind as function 0 of device 0 of its secondary bus, unless
// that bus is PCI-X and the ID is kept (PCI Express to PCI/PCI-X Bridge, 2.3); a conventional bridge, and one from
// PCI to PCI Express, as itself. Some functions use the ID of another function of their device. `above`: bridges from
// the root bus on. All that may be seen are returned, the function's own first. Phantom functions are off
// (known_state.hpp). nullopt: there are too many.
[[nodiscard]] std::optional<RequesterIds> requester_ids(Rid rid, std::uint16_t vendor, std::uint16_t device,
                                                        std::span<const BridgeHop> above);

// Does the bridge put an ID of its own in the place of others?
[[nodiscard]] bool replaces_ids(const BridgeHop& bridge);

}  // namespace weir::pci
