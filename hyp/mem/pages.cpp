#include "hyp/mem/pages.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <new>

#include "hyp/arch/cache.hpp"
#include "hyp/arch/physical_size.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/boot/image.hpp"
#include "hyp/log/log.hpp"
#include "hyp/mem/page_allocator.hpp"
#include "hyp/mem/ram.hpp"
#include "hyp/mem/translation.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir {

namespace {

constexpr std::uint64_t kDevicePoolBytes = 2_MiB;  // one block: two pages for each of 256 vSMMUs

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
constinit bool freed_pages_kept = false;

constinit SpinLock device_lock;
constinit PA device_pool{};
constinit std::array<std::uint64_t, kDevicePoolBytes / kPage4K / 64> device_pages_used{};
constinit std::span<const MemoryRange> all_ram;

std::uint64_t round_up(std::uint64_t bytes) { return (bytes + kPage4K - 1) & ~(kPage4K - 1); }
MemoryRange image_range() { return {image_base(), image_bytes()}; }

// What EL2 can map one to one: addresses as wide as the CPU's, and not where the image is linked to.
PA end_of_direct_map() {
  return std::min(end_of_addresses(physical_size(READ_SYSREG_AS(IdAa64Mmfr0, id_aa64mmfr0_el1))), PA{kLinkBase});
}

bool map_as(const MemoryRange& r, el2::Memory memory) {
  return el2::map(r.base.value, r.base, r.bytes, el2::Access::read_write, memory) == el2::MapResult::done;
}

struct RamPort {
  bool map(const MemoryRange& r) { return map_as(r, el2::Memory::normal); }
  bool map_device(const MemoryRange& r) { return map_as(r, el2::Memory::device_nGnRE); }
  bool add(const MemoryRange& r) {
    const SpinLock::Guard guard{lock};
    return pages.add(r.base, r.bytes);
  }
  void tables_from_allocator() { el2::use_page_allocator(); }
};

const char* to_string(ram::Problem problem) {
  switch (problem) {
    case ram::Problem::no_block: return "no free, aligned block of this size";
    case ram::Problem::cannot_map: return "cannot be mapped";
    case ram::Problem::twice: return "described twice";
  }
  return "?";
}

// RAM that the CPU's addresses do not reach is left alone.
void report_unreachable(std::span<const MemoryRange> ram, PA end) {
  for (const MemoryRange& r : ram) {
    const std::uint64_t reached = ram::pages_within(r, end).bytes;
    if (r.bytes >= reached + kPage4K && ram::end_of(r) > end)
      log("RAM at %#llx: %llu MiB of it are not used: beyond %#llx, which is all that EL2 can map",
          static_cast<unsigned long long>(r.base.value), static_cast<unsigned long long>((r.bytes - reached) >> 20),
          static_cast<unsigned long long>(end.value));
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
  all_ram = ram;
  const PA end = end_of_direct_map();
  report_unreachable(ram, end);
  RamPort port;
  const auto pool = ram::take_over(port, ram, reserved, image_range(), end, kDevicePoolBytes);
  if (!pool)
    panic("RAM at %#llx, %#llx bytes: %s", static_cast<unsigned long long>(pool.error().at.base.value),
          static_cast<unsigned long long>(pool.error().at.bytes), to_string(pool.error().problem));
  device_pool = *pool;
  // No cacheable alias of the pool exists; what one of the boot loader's left in the caches must go.
  clean_and_invalidate_to_poc(direct(device_pool), kDevicePoolBytes);
}

std::expected<PA, MemoryError> allocate_raw_pages(std::size_t bytes, std::size_t alignment, PA end) {
  if (bytes == 0 || bytes > (std::uint64_t{1} << vmsa::kMaxOutputBits) || !std::has_single_bit(alignment) ||
      alignment < kPage4K) {
    return std::unexpected{MemoryError::bad_argument};
  }
  const std::uint64_t size = round_up(bytes);
  std::optional<PA> at;
  {
    const SpinLock::Guard guard{lock};
    at = pages.take(size, alignment, end);
  }
  if (!at) return std::unexpected{MemoryError::out_of_memory};
  return *at;
}

std::expected<PA, MemoryError> allocate_pages(std::size_t bytes, std::size_t alignment, PA end) {
  const auto at = allocate_raw_pages(bytes, alignment, end);
  if (at) scrub(*at, round_up(bytes));
  return at;
}

std::expected<MemoryPiece, MemoryError> allocate_piece(std::uint64_t bytes, std::uint64_t unit) {
  if (bytes == 0 || !std::has_single_bit(unit) || unit < kPage4K || bytes % unit != 0)
    return std::unexpected{MemoryError::bad_argument};
  std::optional<PageAllocator::Piece> piece;
  {
    const SpinLock::Guard guard{lock};
    piece = pages.take_piece(bytes, unit);
  }
  if (!piece) return std::unexpected{MemoryError::out_of_memory};
  scrub(piece->at, piece->bytes);
  return MemoryPiece{.at = piece->at, .bytes = piece->bytes};
}

std::uint64_t free_units(std::uint64_t unit) {
  const SpinLock::Guard guard{lock};
  return pages.free_units(unit);
}

void free_pages(PA at, std::size_t bytes) {
  const std::uint64_t size = round_up(bytes);
  if (size == 0) return;
  const SpinLock::Guard guard{lock};
  if (freed_pages_kept) return;
  if (!at.aligned(kPage4K) || !pages.add(at, size)) {
    panic("free_pages: %#llx bytes at %#llx are free already", static_cast<unsigned long long>(size),
          static_cast<unsigned long long>(at.value));
  }
}

void keep_freed_pages() {
  const SpinLock::Guard guard{lock};
  freed_pages_kept = true;
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
  const PA end = end_of_direct_map();
  if (bytes == 0 || at >= end || bytes > end - at) return std::unexpected{MemoryError::bad_argument};
  const MemoryRange window = ram::pages_around({at, bytes});
  for (const MemoryRange& r : all_ram) {
    if (ram::overlap(window, r)) return std::unexpected{MemoryError::conflict};
  }
  switch (el2::map(window.base.value, window.base, window.bytes, el2::Access::read_write, el2::Memory::device_nGnRE)) {
    case el2::MapResult::done: return direct(at);
    case el2::MapResult::out_of_memory: return std::unexpected{MemoryError::out_of_memory};
    case el2::MapResult::conflict: break;
  }
  return std::unexpected{MemoryError::conflict};
}

}  // namespace weir
