// What a file is that is not what it should be, by how it begins: for messages. Portable.
#pragma once

#include <string_view>

#include "hyp/manifest/files.hpp"

namespace weir {

// As in "gzip data" or "a tar archive"; empty: of no kind that is known here.
[[nodiscard]] std::string_view kind_of(FileContent file);
// Is it data that gzip, xz and their like have compressed?
[[nodiscard]] bool is_compressed(FileContent file);

}  // namespace weir
