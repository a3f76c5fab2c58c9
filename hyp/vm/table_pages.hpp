// The page allocator as stage-2 tables want it.
#pragma once

#include "stage2/table_pages.hpp"

namespace weir {

// For tables that only coherent walkers use (publish is a barrier), and for those that someone walks past the caches
// (publish cleans to the point of coherency: stage2::S2Domain::Options::clean_to_memory).
[[nodiscard]] stage2::TablePages& coherent_table_pages();
[[nodiscard]] stage2::TablePages& cleaned_table_pages();

}  // namespace weir
