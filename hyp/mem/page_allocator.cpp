#include "hyp/mem/page_allocator.hpp"

#include <iterator>
#include <new>

namespace weir {

void PageAllocator::insert(std::uint64_t base, std::uint64_t bytes) {
  auto* range = new (reinterpret_cast<void*>(base)) Range;  // NOLINT: the node lies in the free memory
  range->bytes = bytes;
  by_address_.insert(*range);
  by_size_.insert(*range);
  free_bytes_ += bytes;
}

void PageAllocator::remove(Range& range) {
  free_bytes_ -= range.bytes;
  by_address_.erase(by_address_.iterator_to(range));
  by_size_.erase(by_size_.iterator_to(range));
}

void PageAllocator::add(PA at, std::uint64_t bytes) {
  std::uint64_t base = at.value;
  std::uint64_t end = base + bytes;
  const auto next = by_address_.lower_bound(base);
  if (next != by_address_.begin()) {
    Range& before = *std::prev(next);
    if (before.end() == base) {
      base = before.base();
      // `next` stays valid: erasing one element of a set leaves iterators to the others alone.
      remove(before);
    }
  }
  if (next != by_address_.end() && next->base() == end) {
    end = next->end();
    remove(*next);
  }
  insert(base, end - base);
}

std::optional<PA> PageAllocator::take(std::uint64_t bytes, std::uint64_t alignment) {
  for (auto it = by_size_.lower_bound(bytes); it != by_size_.end(); ++it) {
    Range& range = *it;
    const std::uint64_t base = range.base();
    const std::uint64_t end = range.end();
    const std::uint64_t at = (base + alignment - 1) & ~(alignment - 1);
    if (at < base || at > end || end - at < bytes) continue;
    remove(range);
    if (at != base) insert(base, at - base);
    if (at + bytes != end) insert(at + bytes, end - (at + bytes));
    return PA{at};
  }
  return std::nullopt;
}

bool PageAllocator::in_use(PA at, std::uint64_t bytes) const {
  const auto next = by_address_.lower_bound(at.value);
  if (next != by_address_.end() && next->base() < at.value + bytes) return false;
  return next == by_address_.begin() || std::prev(next)->end() <= at.value;
}

}  // namespace weir
