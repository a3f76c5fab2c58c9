#include "hyp/manifest/kernel_image.hpp"

#include <algorithm>

namespace weir {
namespace {

// Offsets in the header; all numbers are little-endian.
enum class HeaderOffset : std::uint8_t { text_offset = 8, image_size = 16, magic = 56 };
constexpr std::size_t kHeaderBytes = 64;
constexpr std::uint64_t kMagic = 0x644d5241;  // "ARM\x64"
constexpr std::uint64_t kOldTextOffset = 0x80000;

std::uint64_t read(FileContent file, HeaderOffset offset, std::size_t bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes; i-- > 0;)
    value = value << 8 | std::to_integer<std::uint64_t>(file[static_cast<std::size_t>(offset) + i]);
  return value;
}

}  // namespace

std::optional<KernelImage> KernelImage::parse(FileContent file) {
  if (file.size() < kHeaderBytes || read(file, HeaderOffset::magic, 4) != kMagic) return std::nullopt;
  const std::uint64_t image_size = read(file, HeaderOffset::image_size, 8);
  // Kernels before 3.17 have an image_size of 0 and a text_offset in no fixed byte order.
  return KernelImage{
      .text_offset = image_size == 0 ? kOldTextOffset : read(file, HeaderOffset::text_offset, 8),
      .bytes = std::max<std::uint64_t>(image_size, file.size()),
  };
}

}  // namespace weir
