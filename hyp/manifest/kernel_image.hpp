// The header of an arm64 kernel (Linux, Documentation/arch/arm64/booting.rst).
#pragma once

#include <cstdint>
#include <optional>

#include "hyp/manifest/files.hpp"

namespace weir {

struct KernelImage {
  std::uint64_t text_offset{};  // where it goes, from a 2 MiB boundary
  std::uint64_t bytes{};        // memory it occupies there, bss included; at least the file's size

  // nullopt if `file` has no such header.
  [[nodiscard]] static std::optional<KernelImage> parse(FileContent file);
};

}  // namespace weir
