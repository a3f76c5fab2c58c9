// The physical memory of the software model: sparse, in pages of 4 KiB.
//
// By default all agents see the same bytes. With types(): the host's bytes, which the code under test and the tests reach
// by pointer(), are what the CPUs' caches hold, and behind them lies what memory itself holds. An agent that snoops sees
// the former, one that does not (a non-coherent SMMU, or an access of a Device or Non-cacheable type) the latter.
// clean() and invalidate() carry bytes across, as the instructions do; drift() does it for lines of its own choice, as
// caches may at any time. So a missing clean, a missing invalidate and an alias of another type are seen, sooner or later.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "guest-abi/types.hpp"

namespace weir::model {

class PhysicalMemory {
 public:
  static constexpr std::size_t kLine = 64;

  PhysicalMemory() = default;
  PhysicalMemory(const PhysicalMemory&) = delete;
  PhysicalMemory& operator=(const PhysicalMemory&) = delete;
  ~PhysicalMemory() {
    for (const Block& b : blocks_) ::operator delete(b.memory, std::align_val_t{kPage4K});
  }

  // Zeroed memory, aligned to its size (a power of two; less than a page counts as one); contiguous for the host, too.
  // There is a hole behind each block, so that an access beyond it aborts.
  [[nodiscard]] PA allocate(std::size_t bytes);
  // From now on an access aborts, and is counted if it was the SMMU's.
  void free(PA at, std::size_t bytes);

  // nullptr: no memory there.
  [[nodiscard]] std::byte* pointer(PA at) {
    const auto page = pages_.find(at.value / kPage4K);
    return page == pages_.end() ? nullptr : page->second.bytes + at.value % kPage4K;
  }
  // An aligned access, which therefore lies within a page; no value: an external abort. `snoop`: by an agent that is
  // coherent with the CPUs' caches, with a cacheable type.
  template <typename T>
  [[nodiscard]] std::optional<T> load(PA at, bool snoop = true) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kPage4K);
    const std::byte* const from = reach(at, sizeof(T), snoop);
    if (from == nullptr) return std::nullopt;
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  template <typename T>
  bool store(PA at, const T& value, bool snoop = true) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kPage4K);
    std::byte* const to = reach(at, sizeof(T), snoop);
    if (to == nullptr) return false;
    std::memcpy(to, &value, sizeof value);
    if (snoop && typed_) settled(at, sizeof(T));
    return true;
  }

  // A store in one piece with the comparison before it, for what CPUs change at the same time; false: it was not `expected`.
  [[nodiscard]] std::optional<bool> exchange(PA at, std::uint64_t expected, std::uint64_t value, bool snoop = true) {
    std::byte* const to = reach(at, sizeof value, snoop);
    if (to == nullptr) return std::nullopt;
    if (!std::atomic_ref{*reinterpret_cast<std::uint64_t*>(to)}.compare_exchange_strong(expected, value)) return false;
    if (snoop && typed_) settled(at, sizeof value);
    return true;
  }

  // Accesses by load() and store() to memory that had been freed.
  [[nodiscard]] std::uint64_t touched_freed() const { return touched_freed_; }

  // --- Memory types ---
  // From now on there are caches; what has been stored is in memory.
  void types();
  [[nodiscard]] bool typed() const { return typed_; }
  // The CPU's stores to [at, at + bytes) reach memory (DC CVAC). By the host's pointer, too.
  void clean(PA at, std::size_t bytes);
  // The CPU's loads see what memory holds (DC IVAC); of a dirty line, the stores are lost.
  void invalidate(PA at, std::size_t bytes);
  [[nodiscard]] std::optional<PA> address_of(const void* pointer) const;
  // Some lines are written back, some clean ones dropped.
  void drift(std::mt19937_64& random);
  // Accesses past the caches to a line that was dirty there.
  [[nodiscard]] std::uint64_t stale_accesses() const { return stale_accesses_; }
  // Pages that were accessed both ways.
  [[nodiscard]] std::uint64_t mismatched_pages() const { return mismatched_pages_; }

 private:
  struct Block {
    std::byte* memory;
    std::size_t bytes;
    PA at;
  };
  struct Behind {
    std::array<std::byte, kPage4K> memory;  // what lies behind the caches
    std::array<std::byte, kPage4K> clean;   // the cached bytes as of their last exchange with it: a difference is dirt
    bool cached = false;                    // accessed through the caches
    bool uncached = false;
  };
  struct Page {
    std::byte* bytes = nullptr;
    std::unique_ptr<Behind> behind;
  };

  // The bytes for an access; nullptr: abort.
  [[nodiscard]] std::byte* reach(PA at, std::size_t bytes, bool snoop) {
    const auto page = pages_.find(at.value / kPage4K);
    if (page == pages_.end()) {
      touched_freed_ += freed_.contains(at.value / kPage4K) ? 1 : 0;
      return nullptr;
    }
    if (!typed_) return page->second.bytes + at.value % kPage4K;
    return reach_typed(page->second, at.value % kPage4K, bytes, snoop);
  }
  [[nodiscard]] std::byte* reach_typed(Page& page, std::size_t offset, std::size_t bytes, bool snoop);
  void settled(PA at, std::size_t bytes);
  [[nodiscard]] static bool dirty(const Page& page, std::size_t line);
  template <typename Fn>
  void lines(PA at, std::size_t bytes, Fn&& fn);
  void back(Page& page);

  std::vector<Block> blocks_;
  std::unordered_map<std::uint64_t, Page> pages_;
  std::unordered_map<std::uint64_t, bool> freed_;
  PA next_{0x8'0000'0000};
  std::uint64_t touched_freed_ = 0;
  bool typed_ = false;
  std::vector<std::uint64_t> order_;  // page numbers, for drift()
  std::uint64_t stale_accesses_ = 0;
  std::uint64_t mismatched_pages_ = 0;
};

}  // namespace weir::model
