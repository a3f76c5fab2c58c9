#include "hyp/mem/page_allocator.hpp"

#include <algorithm>
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

// At its end. Most ranges are far from the next bigger one, and keep their places.
void PageAllocator::grow(Range& range, std::uint64_t bytes) {
  free_bytes_ += bytes;
  const auto at = by_size_.iterator_to(range);
  const auto bigger = std::next(at);
  const bool stays = bigger == by_size_.end() || bigger->bytes >= range.bytes + bytes;
  if (!stays) by_size_.erase(at);
  range.bytes += bytes;
  if (!stays) by_size_.insert(range);
}

bool PageAllocator::add(PA at, std::uint64_t bytes) {
  std::uint64_t base = at.value;
  std::uint64_t end = base + bytes;
  const auto next = by_address_.lower_bound(base);
  const bool last = next == by_address_.end();
  if (!last && next->base() < end) return false;
  const bool joins_next = !last && next->base() == end;
  if (next != by_address_.begin()) {
    Range& before = *std::prev(next);
    if (before.end() > base) return false;
    if (before.end() == base) {
      if (!joins_next) {
        grow(before, bytes);
        return true;
      }
      base = before.base();
      // `next` stays valid: erasing one element of a set leaves iterators to the others alone.
      remove(before);
    }
  }
  if (joins_next) {
    end = next->end();
    remove(*next);
  }
  insert(base, end - base);
  return true;
}

std::optional<PA> PageAllocator::take(std::uint64_t bytes, std::uint64_t alignment, PA below) {
  for (auto it = by_size_.lower_bound(bytes); it != by_size_.end(); ++it) {
    Range& range = *it;
    const std::uint64_t base = range.base();
    const std::uint64_t end = range.end();
    const std::uint64_t last = std::min(end, below.value);
    const std::uint64_t at = (base + alignment - 1) & ~(alignment - 1);
    if (at < base || at > last || last - at < bytes) continue;
    remove(range);
    if (at != base) insert(base, at - base);
    if (at + bytes != end) insert(at + bytes, end - (at + bytes));
    return PA{at};
  }
  return std::nullopt;
}

std::optional<PageAllocator::Piece> PageAllocator::take_piece(std::uint64_t bytes, std::uint64_t unit) {
  if (const auto whole = take(bytes, unit)) return Piece{.at = *whole, .bytes = bytes};
  // A larger range has more units but for the alignment at its ends: the search ends where no smaller range can have more.
  const Range* best = nullptr;
  for (auto it = by_size_.rbegin(); it != by_size_.rend(); ++it) {
    if (best != nullptr && it->bytes <= best->units(unit)) break;
    if (it->units(unit) > (best != nullptr ? best->units(unit) : 0)) best = &*it;
  }
  if (best == nullptr) return std::nullopt;
  const std::uint64_t most = best->units(unit);
  const auto taken = take(most, unit);  // from this range, or from one of the same size that is as good
  if (!taken) return std::nullopt;
  return Piece{.at = *taken, .bytes = most};
}

std::uint64_t PageAllocator::free_units(std::uint64_t unit) const {
  std::uint64_t bytes = 0;
  for (const Range& range : by_address_) bytes += range.units(unit);
  return bytes;
}

}  // namespace weir
