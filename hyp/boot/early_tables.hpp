// Table pages in the image, for what is mapped before there is an allocator: the image (up to 16 MiB: root, 2, 8), the
// page of head.S (3), the devicetree (4), a UART (3), and the tables of the direct map up to the first free RAM.
#pragma once

#include <cstddef>

#include "hyp/mem/translation.hpp"

namespace weir::el2 {

inline constexpr std::size_t kEarlyTables = 64;

struct EarlyTables {
  Table table[kEarlyTables];  // table[0] is the root
  std::size_t used;
};
[[gnu::visibility("hidden")]] extern constinit EarlyTables early_tables;  // see image.hpp

}  // namespace weir::el2
