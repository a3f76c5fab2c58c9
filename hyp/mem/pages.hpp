// Physical memory at EL2. RAM is mapped one to one, cacheable; devices one to one, Device-nGnRE, as they are asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "guest-abi/types.hpp"
#include "hyp/mem/memory_range.hpp"

namespace weir {

enum class MemoryError : std::uint8_t {
  out_of_memory,
  bad_argument,  // size 0, alignment not a power of two, beyond the CPU's physical addresses
  conflict,      // a device window overlaps RAM
};
[[nodiscard]] const char* to_string(MemoryError error);

// Maps all of `ram` (what must stay unmapped has been left out of it) and makes everything outside of `reserved` and of
// Weir's own image available. `ram`, disjoint ranges, stays as it is for ever. RAM beyond the CPU's physical addresses is
// reported and not used. Boot pCPU only, once. Panics if there is not even enough for Weir itself.
void memory_init(std::span<const MemoryRange> ram, std::span<const MemoryRange> reserved);

// Makes the heap of operator new: a fixed 32 MiB and 4 MiB for each of `pcpus`. After memory_init.
void heap_init(unsigned pcpus);

// Physically contiguous memory: zeroed, cleaned and invalidated to the point of coherency. `bytes` is rounded up to
// 4 KiB; `alignment` is a power of two, at least 4 KiB. All of it lies below `end`: for what a device with short addresses
// reads or writes.
inline constexpr PA kAnyAddress{~std::uint64_t{0}};
[[nodiscard]] std::expected<PA, MemoryError> allocate_pages(std::size_t bytes, std::size_t alignment = kPage4K,
                                                            PA end = kAnyAddress);
// The same with whatever the memory holds: for what only EL2 itself reads, and not before it has written it.
[[nodiscard]] std::expected<PA, MemoryError> allocate_raw_pages(std::size_t bytes, std::size_t alignment = kPage4K,
                                                                PA end = kAnyAddress);
// Up to `bytes`, a multiple of `unit` (a power of two, at least 4 KiB), likewise zeroed: in one piece if there is one, else the
// largest piece of whole units, aligned to `unit`.
struct MemoryPiece {
  PA at;
  std::uint64_t bytes{};
};
[[nodiscard]] std::expected<MemoryPiece, MemoryError> allocate_piece(std::uint64_t bytes, std::uint64_t unit);
// What allocate_piece() could give in all.
[[nodiscard]] std::uint64_t free_units(std::uint64_t unit);
// Gives back what allocate_pages gave, or any page-aligned part of it.
void free_pages(PA at, std::size_t bytes);
// From now on free_pages() loses what it is given: something may still reach it. For good, on any pCPU.
void keep_freed_pages();
[[nodiscard]] std::uint64_t free_bytes();

// The EL2 pointer to RAM or to a mapped device, and back. `physical` knows the image's own addresses too.
[[nodiscard]] inline void* direct(PA at) { return reinterpret_cast<void*>(at.value); }  // NOLINT: VA = PA
[[nodiscard]] PA physical(const void* at);

// One zeroed page that EL2 maps as Device-nGnRE only, for registers that a guest polls; direct(PA) is its pointer.
[[nodiscard]] std::expected<PA, MemoryError> allocate_device_page();
void free_device_page(PA at);

// Maps a device's registers; widened to whole pages. Mapping the same window again is fine.
[[nodiscard]] std::expected<void*, MemoryError> map_device(PA at, std::size_t bytes);

}  // namespace weir
