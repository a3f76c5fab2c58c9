// Where a manifest finds the files it names: the initrd at EL2; an archive or a directory on the host.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace weir {

using FileContent = std::span<const std::byte>;

class FileSource {
 public:
  // `name` as written in the manifest, without leading "/" or "./".
  [[nodiscard]] virtual std::optional<FileContent> find(std::string_view name) const = 0;

 protected:
  ~FileSource() = default;
};

}  // namespace weir
