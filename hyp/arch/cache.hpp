// Data cache maintenance by address to the point of coherency, over every line that the range touches. Each call ends
// with a DSB SY.
#pragma once

#include <cstddef>

namespace weir {

void clean_to_poc(const void* at, std::size_t bytes);  // makes stores visible to non-coherent observers
// After all earlier accesses: when an index has said that there is something new, nothing older comes back from here on.
void clean_and_invalidate_to_poc(const void* at, std::size_t bytes);

// Makes instructions just written at `at` executable: clean to PoU, invalidate the instruction caches, ISB.
void synchronize_instructions(const void* at, std::size_t bytes);

// Drops what the instruction caches of all pCPUs hold.
void invalidate_instructions();

// Zeroes memory, and its allocation tags, with DC ZVA or GZVA where allowed. Normal memory only; `at` and `bytes` multiples of 4 KiB. No maintenance.
void zero_pages(void* at, std::size_t bytes);

}  // namespace weir
