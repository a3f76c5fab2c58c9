// The port through which a stage-2 table gets its memory. hyp/ implements it over the page allocator, the tests over
// a fake one that fails on request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "guest-abi/types.hpp"

namespace weir::stage2 {

class TablePages {
 public:
  // `bytes` (4 KiB, or the concatenated root: a power of two up to 64 KiB) of zeroed memory, aligned to its size and
  // published. No value: out of memory.
  [[nodiscard]] virtual std::optional<PA> allocate(std::size_t bytes) = 0;
  virtual void free(PA at, std::size_t bytes) = 0;
  // The pointer to a page that allocate() returned; valid until free().
  [[nodiscard]] virtual void* pointer(PA at) = 0;
  // The same as a sum, if it is one for every table page: pointer(at) == at.value + offset. Walks are faster then.
  [[nodiscard]] virtual std::optional<std::uintptr_t> linear_offset() const { return std::nullopt; }
  // Makes stores to [at, at + bytes) visible to every walker of the table: a clean to the point of coherency where one
  // of them is not coherent, and in any case a barrier (DSB ISHST; DSB OSHST with SMMUs) before it returns.
  virtual void publish(const void* at, std::size_t bytes) = 0;

 protected:
  ~TablePages() = default;
};

}  // namespace weir::stage2
