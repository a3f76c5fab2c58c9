// The physical memory of the software model: sparse, in pages of 4 KiB. Coherent only: it has no memory types,
// so a missing clean or a mismatched alias is not seen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <optional>
#include <span>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "guest-abi/types.hpp"

namespace weir::model {

class PhysicalMemory {
 public:
  PhysicalMemory() = default;
  PhysicalMemory(const PhysicalMemory&) = delete;
  PhysicalMemory& operator=(const PhysicalMemory&) = delete;
  ~PhysicalMemory() {
    for (const Block& b : blocks_) ::operator delete(b.memory, std::align_val_t{kPage4K});
  }

  // Zeroed memory, aligned to its size (a power of two; less than a page counts as one); contiguous for the host, too.
  // There is a hole behind each block, so that an access beyond it aborts.
  [[nodiscard]] PA allocate(std::size_t bytes) {
    if (bytes < kPage4K) bytes = kPage4K;
    const PA at = next_.align_up(bytes);  // not the host's address: a mix-up of the two does not go unseen
    next_ = at + bytes + kPage4K;
    auto* const memory = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{kPage4K}));
    std::memset(memory, 0, bytes);
    blocks_.push_back({memory, bytes});
    for (std::size_t offset = 0; offset < bytes; offset += kPage4K)
      pages_[(at.value + offset) / kPage4K] = memory + offset;
    return at;
  }
  // From now on an access aborts, and is counted if it was the SMMU's.
  void free(PA at, std::size_t bytes) {
    for (std::size_t offset = 0; offset < bytes; offset += kPage4K) {
      const std::uint64_t page = (at.value + offset) / kPage4K;
      std::memset(pages_.at(page), 0xa5, kPage4K);
      pages_.erase(page);
      freed_[page] = true;
    }
  }

  // nullptr: no memory there.
  [[nodiscard]] std::byte* pointer(PA at) {
    const auto page = pages_.find(at.value / kPage4K);
    return page == pages_.end() ? nullptr : page->second + at.value % kPage4K;
  }
  // An aligned access, which therefore lies within a page; no value: an external abort.
  template <typename T>
  [[nodiscard]] std::optional<T> load(PA at) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kPage4K);
    const std::byte* const from = pointer(at);
    if (from == nullptr) {
      touched_freed_ += freed_.contains(at.value / kPage4K) ? 1 : 0;
      return std::nullopt;
    }
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  template <typename T>
  bool store(PA at, const T& value) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kPage4K);
    std::byte* const to = pointer(at);
    if (to == nullptr) {
      touched_freed_ += freed_.contains(at.value / kPage4K) ? 1 : 0;
      return false;
    }
    std::memcpy(to, &value, sizeof value);
    return true;
  }

  // Accesses by load() and store() to memory that had been freed.
  [[nodiscard]] std::uint64_t touched_freed() const { return touched_freed_; }

 private:
  struct Block {
    std::byte* memory;
    std::size_t bytes;
  };
  std::vector<Block> blocks_;
  std::unordered_map<std::uint64_t, std::byte*> pages_;
  std::unordered_map<std::uint64_t, bool> freed_;
  PA next_{0x8'0000'0000};
  std::uint64_t touched_freed_ = 0;
};

}  // namespace weir::model
