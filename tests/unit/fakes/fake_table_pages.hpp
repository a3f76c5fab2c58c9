// Memory for stage-2 tables in unit tests: aligned host memory, poisoned when freed, failing on request.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <optional>

#include "stage2/table_pages.hpp"

namespace weir::test {

class FakeTablePages final : public stage2::TablePages {
 public:
  explicit FakeTablePages(PA first = PA{0x5000'0000}) : next_{first} {}
  FakeTablePages(const FakeTablePages&) = delete;
  FakeTablePages& operator=(const FakeTablePages&) = delete;
  ~FakeTablePages() {
    for (const auto& [at, page] : pages_) std::free(page.memory);  // NOLINT
  }

  [[nodiscard]] std::optional<PA> allocate(std::size_t bytes) override {
    ++allocations;
    if (fail_after == 0) return std::nullopt;
    if (fail_after > 0) --fail_after;
    void* memory = std::aligned_alloc(bytes, bytes);
    std::memset(memory, 0, bytes);
    const PA at = next_.align_up(bytes);  // not the host's address: a mix-up of the two does not go unseen
    next_ = at + bytes;
    pages_[at.value] = {memory, bytes};
    in_use += bytes / kPage4K;
    return at;
  }
  void free(PA at, std::size_t bytes) override {
    const auto page = pages_.find(at.value);
    if (page == pages_.end() || page->second.bytes != bytes) std::abort();
    if (on_free) on_free(at);
    std::free(page->second.memory);  // NOLINT
    pages_.erase(page);
    in_use -= bytes / kPage4K;
    ++frees;
  }
  [[nodiscard]] void* pointer(PA at) override {
    const auto page = pages_.find(at.value);
    if (page == pages_.end() && beside != nullptr) return beside->pointer(at);
    if (page == pages_.end()) std::abort();
    return page->second.memory;
  }
  void publish(const void* at, std::size_t bytes) override {
    ++publishes;
    if (on_publish) on_publish(at, bytes);
  }

  int fail_after = -1;  // allocations that still succeed; negative: all
  std::size_t in_use = 0;
  unsigned allocations = 0;
  unsigned frees = 0;
  unsigned publishes = 0;
  std::function<void(PA)> on_free;
  FakeTablePages* beside = nullptr;  // whose pages pointer() knows, too: of a table that shares
  std::function<void(const void*, std::size_t)> on_publish;

 private:
  struct Page {
    void* memory;
    std::size_t bytes;
  };
  std::map<std::uint64_t, Page> pages_;
  PA next_;
};

}  // namespace weir::test
