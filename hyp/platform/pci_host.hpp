// Host bridges: pci-host-ecam-generic (the PCI Bus Binding, and Linux's pci-iommu.yaml for iommu-map).
#pragma once

#include <expected>

#include "hyp/platform/devicetree.hpp"
#include "hyp/platform/platform.hpp"

namespace weir {

// Appends the host at `node` to platform.pci_hosts. The SMMUs must be there already.
[[nodiscard]] std::expected<void, PlatformError> discover_pci_host(dt::Node node, Platform& platform);

// dma-coherent, at the node or inherited from the nearest parent that says anything.
[[nodiscard]] bool is_coherent(dt::Node node);

}  // namespace weir
