#include "hyp/boot/devicetree_blob.hpp"

#include <cstdint>

#include "hyp/mem/translation.hpp"

namespace weir {

namespace {

struct Header {  // the start of a flattened devicetree, big-endian
  std::uint32_t magic;
  std::uint32_t total_size;
};
constexpr std::uint32_t kMagic = 0xd00dfeed;
constexpr std::uint64_t kMaxBytes = 2_MiB;

std::expected<void, MemoryError> map_pages(PA at, std::uint64_t bytes) {
  const PA base = at.align_down(kPage4K);
  switch (
      el2::map(base.value, base, (at + bytes).align_up(kPage4K) - base, el2::Access::read_write, el2::Memory::normal)) {
    case el2::MapResult::done: return {};
    case el2::MapResult::out_of_memory: return std::unexpected{MemoryError::out_of_memory};
    case el2::MapResult::conflict: break;
  }
  return std::unexpected{MemoryError::conflict};
}

}  // namespace

std::expected<std::span<const std::byte>, MemoryError> map_devicetree(PA at) {
  if (at.value == 0 || !at.aligned(8)) return std::unexpected{MemoryError::bad_argument};
  if (const auto mapped = map_pages(at, sizeof(Header)); !mapped) return std::unexpected{mapped.error()};
  const auto* header = static_cast<const Header*>(direct(at));
  const std::uint32_t bytes = __builtin_bswap32(header->total_size);
  if (__builtin_bswap32(header->magic) != kMagic || bytes < sizeof(Header) || bytes > kMaxBytes) {
    return std::unexpected{MemoryError::bad_argument};
  }
  if (const auto mapped = map_pages(at, bytes); !mapped) return std::unexpected{mapped.error()};
  return std::span{static_cast<const std::byte*>(direct(at)), bytes};
}

}  // namespace weir
