// Memory for stage-2 tables that threads walk: one piece, so that pointers are sums, and safe to be called by several
// threads. Freed pages are filled with descriptors of a place that nobody maps.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <vector>

#include "stage2/table_pages.hpp"

namespace weir::test {

class ArenaTablePages final : public stage2::TablePages {
 public:
  static constexpr PA kFirst{0x5000'0000};
  // A page, or a block: valid, readable, at 0x7dd_dd00_0000.
  static constexpr std::uint64_t kFreed = 0x07dd'dd00'07ff;

  explicit ArenaTablePages(std::size_t pages = 256) : bytes_{pages * kPage4K} {
    memory_ = static_cast<std::byte*>(std::aligned_alloc(kRoot, bytes_));
    std::memset(memory_, 0, bytes_);
  }
  ~ArenaTablePages() { std::free(memory_); }  // NOLINT
  ArenaTablePages(const ArenaTablePages&) = delete;
  ArenaTablePages& operator=(const ArenaTablePages&) = delete;

  [[nodiscard]] std::optional<PA> allocate(std::size_t bytes) override {
    const std::scoped_lock lock{mutex_};
    PA at{};
    if (bytes == kPage4K && !free_.empty()) {
      at = free_.front();  // the one that was freed first, so that it stays free for long
      free_.erase(free_.begin());
    } else {
      at = next_.align_up(bytes);
      if (at - kFirst + bytes > bytes_) return std::nullopt;
      next_ = at + bytes;
    }
    std::memset(pointer(at), 0, bytes);
    ++in_use_;
    return at;
  }
  void free(PA at, std::size_t bytes) override {
    const std::scoped_lock lock{mutex_};
    auto* words = static_cast<std::uint64_t*>(pointer(at));
    for (std::size_t i = 0; i < bytes / sizeof *words; ++i) words[i] = kFreed;
    if (bytes == kPage4K) free_.push_back(at);
    --in_use_;
  }
  [[nodiscard]] void* pointer(PA at) override { return memory_ + (at - kFirst); }
  [[nodiscard]] std::optional<std::uintptr_t> linear_offset() const override {
    return reinterpret_cast<std::uintptr_t>(memory_) - kFirst.value;  // NOLINT
  }
  void publish(const void*, std::size_t) override {}
  [[nodiscard]] std::size_t in_use() const { return in_use_; }

 private:
  static constexpr std::size_t kRoot = 0x1'0000;
  std::size_t bytes_;
  std::byte* memory_ = nullptr;
  std::mutex mutex_;
  PA next_ = kFirst;
  std::vector<PA> free_;
  std::size_t in_use_ = 0;
};

}  // namespace weir::test
