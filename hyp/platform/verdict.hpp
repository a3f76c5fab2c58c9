// What a devicetree's machine is to Weir, in a few words: for the host's tools and tests. Portable.
#pragma once

#include <cstddef>

#include "hyp/platform/line.hpp"

namespace weir {

struct Platform;

// "usable; SMMUv3: 3; PCI hosts: 1", or "lacks GICv3 (arm,gic-400), memory (no node); ...": every required piece that is
// missing, and in brackets what is there instead. `platform` is what discover() made of the `size` bytes at `dtb`.
[[nodiscard]] dt::Line verdict(const void* dtb, std::size_t size, const Platform& platform);

}  // namespace weir
