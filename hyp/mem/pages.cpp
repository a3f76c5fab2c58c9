#include "hyp/mem/pages.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <new>

#include "hyp/arch/cache.hpp"
#include "hyp/boot/image.hpp"
#include "hyp/log/log.hpp"
#include "hyp/mem/page_allocator.hpp"
#include "hyp/mem/translation.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir {

namespace {

constexpr std::uint64_t kDevicePoolBytes = 2_MiB;  // one block: two pages for each of 256 vSMMUs
constexpr std::size_t kMaxRanges = 1024;           // more than a Platform has of either kind

constinit SpinLock lock;

// Boost's containers have no constexpr constructor: memory_init constructs it.
union Late {
  constexpr Late() : none{} {}
  ~Late() {}  // NOLINT: never destroyed
  char none;
  PageAllocator allocator;
};
constinit Late late{};
PageAllocator& pages = late.allocator;

constinit SpinLock device_lock;
constinit PA device_pool{};
constinit std::array<std::uint64_t, kDevicePoolBytes / kPage4K / 64> device_pages_used{};
constinit std::array<MemoryRange, kMaxRanges> ram_ranges{};
constinit std::size_t ram_count = 0;

std::uint64_t round_up(std::uint64_t bytes) { return (bytes + kPage4K - 1) & ~(kPage4K - 1); }
PA end_of(const MemoryRange& r) { return r.base + r.bytes; }
bool overlap(const MemoryRange& a, const MemoryRange& b) { return a.base < end_of(b) && b.base < end_of(a); }
MemoryRange image_range() { return {image_base(), image_bytes()}; }

// Whole pages inside of (RAM) or around (reserved) a range.
MemoryRange shrink(const MemoryRange& r) {
  const PA base = r.base.align_up(kPage4K);
  const PA end = end_of(r).align_down(kPage4K);
  return end > base ? MemoryRange{base, end - base} : MemoryRange{};
}
MemoryRange widen(const MemoryRange& r) {
  const PA base = r.base.align_down(kPage4K);
  return {base, end_of(r).align_up(kPage4K) - base};
}

// Calls fn for each part of `whole` that none of `holes` (sorted by base) covers.
template <typename Fn>
void for_gaps(const MemoryRange& whole, std::span<const MemoryRange> holes, Fn fn) {
  PA at = whole.base;
  for (const MemoryRange& hole : holes) {
    if (!overlap(hole, whole)) continue;
    if (hole.base > at) fn(MemoryRange{at, hole.base - at});
    at = std::max(at, end_of(hole));
  }
  if (end_of(whole) > at) fn(MemoryRange{at, end_of(whole) - at});
}

// The first aligned place for the device pool in RAM that nothing uses.
PA find_device_pool(std::span<const MemoryRange> ram, std::span<const MemoryRange> holes) {
  PA found{};
  for (const MemoryRange& r : ram) {
    for_gaps(r, holes, [&](const MemoryRange& gap) {
      const PA at = gap.base.align_up(kDevicePoolBytes);
      if (found.value == 0 && at < end_of(gap) && end_of(gap) - at >= kDevicePoolBytes) found = at;
    });
  }
  return found;
}

void map_or_panic(const MemoryRange& r, el2::Memory memory) {
  if (el2::map(r.base.value, r.base, r.bytes, el2::Access::read_write, memory) != el2::MapResult::done) {
    panic("cannot map %#llx bytes at %#llx", static_cast<unsigned long long>(r.bytes),
          static_cast<unsigned long long>(r.base.value));
  }
}

void scrub(PA at, std::uint64_t bytes) {
  zero_pages(direct(at), bytes);
  clean_and_invalidate_to_poc(direct(at), bytes);
}

}  // namespace

const char* to_string(MemoryError error) {
  switch (error) {
    case MemoryError::out_of_memory: return "out of memory";
    case MemoryError::bad_argument: return "bad size or alignment";
    case MemoryError::conflict: return "already mapped as something else";
  }
  return "unknown error";
}

void memory_init(std::span<const MemoryRange> ram, std::span<const MemoryRange> reserved) {
  new (&late.allocator) PageAllocator;
  static constinit std::array<MemoryRange, kMaxRanges> holes{};
  std::size_t hole_count = 0;
  if (ram.size() > kMaxRanges || reserved.size() + 2 > kMaxRanges) panic("too many memory ranges");
  for (const MemoryRange& r : ram) {
    const MemoryRange whole = shrink(r);
    if (whole.bytes != 0) ram_ranges[ram_count++] = whole;
  }
  for (const MemoryRange& r : reserved) {
    if (r.bytes != 0) holes[hole_count++] = widen(r);
  }
  holes[hole_count++] = image_range();
  const auto by_base = [](const MemoryRange& a, const MemoryRange& b) { return a.base < b.base; };
  std::sort(holes.begin(), holes.begin() + hole_count, by_base);
  std::sort(ram_ranges.begin(), ram_ranges.begin() + ram_count, by_base);
  const std::span<const MemoryRange> all{ram_ranges.data(), ram_count};

  device_pool = find_device_pool(all, std::span{holes}.first(hole_count));
  if (device_pool.value == 0) panic("no RAM for a pool of device pages");
  const MemoryRange pool{device_pool, kDevicePoolBytes};

  // The direct map: everything but the image, which has its own addresses and permissions, and the pool.
  std::array<MemoryRange, 2> unmapped{image_range(), pool};
  std::sort(unmapped.begin(), unmapped.end(), by_base);
  for (const MemoryRange& r : all) {
    for_gaps(r, unmapped, [](const MemoryRange& part) { map_or_panic(part, el2::Memory::normal); });
  }
  // No cacheable alias of the pool exists from here on; what one of the boot loader's left in the caches must go.
  map_or_panic(pool, el2::Memory::device_nGnRE);
  clean_and_invalidate_to_poc(direct(device_pool), kDevicePoolBytes);

  holes[hole_count++] = pool;
  std::sort(holes.begin(), holes.begin() + hole_count, by_base);
  {
    const SpinLock::Guard guard{lock};
    for (const MemoryRange& r : all) {
      for_gaps(r, std::span{holes}.first(hole_count), [](const MemoryRange& part) {
        if (!pages.add(part.base, part.bytes)) panic("RAM is described twice");
      });
    }
  }
  el2::use_page_allocator();
}

std::expected<PA, MemoryError> allocate_raw_pages(std::size_t bytes, std::size_t alignment) {
  if (bytes == 0 || bytes > (std::uint64_t{1} << 48) || !std::has_single_bit(alignment) || alignment < kPage4K) {
    return std::unexpected{MemoryError::bad_argument};
  }
  const std::uint64_t size = round_up(bytes);
  std::optional<PA> at;
  {
    const SpinLock::Guard guard{lock};
    at = pages.take(size, alignment);
  }
  if (!at) return std::unexpected{MemoryError::out_of_memory};
  return *at;
}

std::expected<PA, MemoryError> allocate_pages(std::size_t bytes, std::size_t alignment) {
  const auto at = allocate_raw_pages(bytes, alignment);
  if (at) scrub(*at, round_up(bytes));
  return at;
}

void free_pages(PA at, std::size_t bytes) {
  const std::uint64_t size = round_up(bytes);
  if (size == 0) return;
  const SpinLock::Guard guard{lock};
  if (!at.aligned(kPage4K) || !pages.add(at, size)) {
    panic("free_pages: %#llx bytes at %#llx are free already", static_cast<unsigned long long>(size),
          static_cast<unsigned long long>(at.value));
  }
}

std::uint64_t free_bytes() {
  const SpinLock::Guard guard{lock};
  return pages.free_bytes();
}

PA physical(const void* at) {
  const auto va = reinterpret_cast<std::uint64_t>(at);
  return va >= kLinkBase && va - kLinkBase < image_bytes() ? image_physical(at) : PA{va};
}

std::expected<PA, MemoryError> allocate_device_page() {
  const SpinLock::Guard guard{device_lock};
  for (std::size_t word = 0; word < device_pages_used.size(); ++word) {
    if (device_pages_used[word] == ~std::uint64_t{0}) continue;
    const auto bit = static_cast<std::size_t>(std::countr_one(device_pages_used[word]));
    device_pages_used[word] |= std::uint64_t{1} << bit;
    const PA page = device_pool + (word * 64 + bit) * kPage4K;
    auto* words = static_cast<volatile std::uint64_t*>(direct(page));  // DC ZVA would fault on Device memory
    for (std::size_t i = 0; i < kPage4K / sizeof(std::uint64_t); ++i) words[i] = 0;
    return page;
  }
  return std::unexpected{MemoryError::out_of_memory};
}

void free_device_page(PA at) {
  const SpinLock::Guard guard{device_lock};
  const std::uint64_t page = (at - device_pool) / kPage4K;
  device_pages_used[page / 64] &= ~(std::uint64_t{1} << (page % 64));
}

std::expected<void*, MemoryError> map_device(PA at, std::size_t bytes) {
  if (bytes == 0 || bytes > (std::uint64_t{1} << 40)) return std::unexpected{MemoryError::bad_argument};
  const MemoryRange window = widen({at, bytes});
  for (std::size_t i = 0; i < ram_count; ++i) {
    if (overlap(window, ram_ranges[i])) return std::unexpected{MemoryError::conflict};
  }
  if (end_of(window).value > kLinkBase) return std::unexpected{MemoryError::bad_argument};
  switch (el2::map(window.base.value, window.base, window.bytes, el2::Access::read_write, el2::Memory::device_nGnRE)) {
    case el2::MapResult::done: return direct(at);
    case el2::MapResult::out_of_memory: return std::unexpected{MemoryError::out_of_memory};
    case el2::MapResult::conflict: break;
  }
  return std::unexpected{MemoryError::conflict};
}

}  // namespace weir
