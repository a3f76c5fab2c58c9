// What Weir takes for itself of the machine's memory. Portable: the checker reckons with it, too.
#pragma once

#include <cstdint>

#include "guest-abi/types.hpp"

namespace weir {

// The heap: a fixed part, and a segment of mimalloc for each pCPU, which has at least one of its own.
inline constexpr std::uint64_t kHeapSegment = 4_MiB;
constexpr std::uint64_t heap_bytes(unsigned pcpus) { return 32_MiB + pcpus * kHeapSegment; }
// mimalloc's own bookkeeping, which never shrinks.
constexpr std::uint64_t heap_metadata_bytes(unsigned pcpus) { return 1_MiB + pcpus * 64_KiB; }

// All of it, at most: with the image, the pool of device pages, each pCPU's stacks and thread-locals, EL2's own tables, queues
// and stream tables of SMMUs.
constexpr std::uint64_t weir_bytes(unsigned pcpus) {
  return heap_bytes(pcpus) + heap_metadata_bytes(pcpus) + 10_MiB + pcpus * 256_KiB;
}

}  // namespace weir
