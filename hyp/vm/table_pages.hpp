// The page allocator as stage-2 tables want it.
#pragma once

#include "stage2/table_pages.hpp"

namespace weir {

// For tables that only coherent walkers use (publish is a barrier), and for those that someone walks past the caches.
[[nodiscard]] stage2::TablePages& coherent_table_pages();
[[nodiscard]] stage2::TablePages& cleaned_table_pages();

}  // namespace weir
