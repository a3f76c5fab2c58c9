#include "tests/model/memory.hpp"

#include <algorithm>

namespace weir::model {

PA PhysicalMemory::allocate(std::size_t bytes) {
  if (bytes < kPage4K) bytes = kPage4K;
  const PA at = next_.align_up(bytes);  // not the host's address: a mix-up of the two does not go unseen
  next_ = at + bytes + kPage4K;
  auto* const memory = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{kPage4K}));
  std::memset(memory, 0, bytes);
  blocks_.push_back({memory, bytes, at});
  for (std::size_t offset = 0; offset < bytes; offset += kPage4K) {
    const std::uint64_t number = (at.value + offset) / kPage4K;
    Page& page = pages_[number];
    page.bytes = memory + offset;
    order_.push_back(number);
    if (typed_) back(page);
  }
  return at;
}

void PhysicalMemory::free(PA at, std::size_t bytes) {
  for (std::size_t offset = 0; offset < bytes; offset += kPage4K) {
    const std::uint64_t page = (at.value + offset) / kPage4K;
    std::memset(pages_.at(page).bytes, 0xa5, kPage4K);
    pages_.erase(page);
    freed_[page] = true;
  }
}

void PhysicalMemory::back(Page& page) {
  page.behind = std::make_unique<Behind>();
  std::memcpy(page.behind->memory.data(), page.bytes, kPage4K);
  std::memcpy(page.behind->clean.data(), page.bytes, kPage4K);
}

void PhysicalMemory::types() {
  typed_ = true;
  for (auto& [number, page] : pages_)
    if (!page.behind) back(page);
}

bool PhysicalMemory::dirty(const Page& page, std::size_t line) {
  return std::memcmp(page.bytes + line, page.behind->clean.data() + line, kLine) != 0;
}

template <typename Fn>
void PhysicalMemory::lines(PA at, std::size_t bytes, Fn&& fn) {
  const std::uint64_t end = at.value + bytes;
  for (std::uint64_t line = at.value & ~(kLine - 1); line < end; line += kLine) {
    const auto page = pages_.find(line / kPage4K);
    if (page != pages_.end()) fn(page->second, static_cast<std::size_t>(line % kPage4K));
  }
}

std::byte* PhysicalMemory::reach_typed(Page& page, std::size_t offset, std::size_t bytes, bool snoop) {
  Behind& behind = *page.behind;
  const bool was_mixed = behind.cached && behind.uncached;
  (snoop ? behind.cached : behind.uncached) = true;
  mismatched_pages_ += !was_mixed && behind.cached && behind.uncached ? 1 : 0;
  if (snoop) {
    // A line that is not cached comes from memory.
    for (std::size_t line = offset & ~(kLine - 1); line < offset + bytes; line += kLine)
      if (!dirty(page, line)) {
        std::memcpy(page.bytes + line, behind.memory.data() + line, kLine);
        std::memcpy(behind.clean.data() + line, behind.memory.data() + line, kLine);
      }
    return page.bytes + offset;
  }
  for (std::size_t line = offset & ~(kLine - 1); line < offset + bytes; line += kLine)
    stale_accesses_ += dirty(page, line) ? 1 : 0;
  return behind.memory.data() + offset;
}

// A coherent store: in the cache, and in memory, too, as it may be at any time.
void PhysicalMemory::settled(PA at, std::size_t bytes) {
  Page& page = pages_.at(at.value / kPage4K);
  const std::size_t offset = at.value % kPage4K;
  std::memcpy(page.behind->memory.data() + offset, page.bytes + offset, bytes);
  std::memcpy(page.behind->clean.data() + offset, page.bytes + offset, bytes);
}

void PhysicalMemory::clean(PA at, std::size_t bytes) {
  if (!typed_) return;
  lines(at, bytes, [](Page& page, std::size_t line) {
    if (!dirty(page, line)) return;
    std::memcpy(page.behind->memory.data() + line, page.bytes + line, kLine);
    std::memcpy(page.behind->clean.data() + line, page.bytes + line, kLine);
  });
}

void PhysicalMemory::invalidate(PA at, std::size_t bytes) {
  if (!typed_) return;
  lines(at, bytes, [](Page& page, std::size_t line) {
    std::memcpy(page.bytes + line, page.behind->memory.data() + line, kLine);
    std::memcpy(page.behind->clean.data() + line, page.behind->memory.data() + line, kLine);
  });
}

std::optional<PA> PhysicalMemory::address_of(const void* pointer) const {
  const auto* const at = static_cast<const std::byte*>(pointer);
  for (const Block& b : blocks_)
    if (at >= b.memory && at < b.memory + b.bytes) return b.at + static_cast<std::uint64_t>(at - b.memory);
  return std::nullopt;
}

void PhysicalMemory::drift(std::mt19937_64& random) {
  if (!typed_ || order_.empty()) return;
  const auto page = pages_.find(order_[random() % order_.size()]);
  if (page == pages_.end()) return;
  const std::size_t line = (random() % (kPage4K / kLine)) * kLine;
  const PA at{page->first * kPage4K + line};
  if (dirty(page->second, line)) {
    clean(at, kLine);
  } else {
    invalidate(at, kLine);
  }
}

}  // namespace weir::model
