// Host bridges: pci-host-ecam-generic (the PCI Bus Binding, and Linux's pci-iommu.yaml for iommu-map).
#pragma once

#include "hyp/platform/devicetree.hpp"
#include "hyp/platform/platform.hpp"

namespace weir {

// dma-coherent, at the node or inherited from the nearest parent that says anything.
[[nodiscard]] bool is_coherent(dt::Node node);

}  // namespace weir
