// mimalloc over one fixed region, and C++'s operators over mimalloc. What mimalloc asks of an operating system is
// declared in tools/el2/mimalloc.c.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string_view>

#include "hyp/arch/counter.hpp"
#include "hyp/libc/malloc.hpp"
#include "hyp/log/log.hpp"
#include "hyp/mem/needs.hpp"
#include "hyp/mem/pages.hpp"

// From mimalloc.h, which is not for freestanding C++.
extern "C" {
void* mi_malloc(std::size_t size);
void* mi_calloc(std::size_t count, std::size_t size);
void* mi_realloc(void* at, std::size_t size);
void* mi_malloc_aligned(std::size_t size, std::size_t alignment);
void mi_free(void* at);
void mi_process_init();
bool mi_manage_os_memory(void* start, std::size_t size, bool is_committed, bool is_large, bool is_zero, int numa_node);
void mi_option_set(int option, long value);
}

namespace weir {

namespace {

constexpr int kLimitOsAlloc = 17;  // mi_option_limit_os_alloc: nothing but the region below

constinit std::uint64_t metadata_base = 0;
constinit std::uint64_t metadata_bytes = 0;
constinit std::atomic<std::uint64_t> metadata_used{0};

}  // namespace

void heap_init(unsigned pcpus) {
  const std::uint64_t bytes = heap_bytes(pcpus);
  metadata_bytes = heap_metadata_bytes(pcpus);
  const auto region = allocate_raw_pages(bytes, kHeapSegment);  // mimalloc clears what is to be clear
  const auto metadata = allocate_pages(metadata_bytes);
  if (!region || !metadata) panic("no %llu MiB for the heap", static_cast<unsigned long long>(bytes >> 20));
  metadata_base = reinterpret_cast<std::uint64_t>(direct(*metadata));
  mi_process_init();
  mi_option_set(kLimitOsAlloc, 1);
  const bool zeroed = false;
  const bool committed = true;  // always there: nothing to commit, nothing to give back
  if (!mi_manage_os_memory(direct(*region), bytes, committed, false, zeroed, -1)) panic("mimalloc refuses its region");
}

extern "C" {

void* weir_sbrk(std::ptrdiff_t size) {
  void* const none = reinterpret_cast<void*>(-1);  // NOLINT: sbrk's way
  if (size < 0 || metadata_bytes == 0) return none;
  std::uint64_t used = metadata_used.load(std::memory_order_relaxed);
  do {
    if (static_cast<std::uint64_t>(size) > metadata_bytes - used) return none;
  } while (
      !metadata_used.compare_exchange_weak(used, used + static_cast<std::uint64_t>(size), std::memory_order_relaxed));
  return reinterpret_cast<void*>(metadata_base + used);  // NOLINT
}

std::uint64_t weir_clock_ms() { return counter() / (counter_hz() / 1000); }

void weir_heap_message(const char* text) {
  const std::string_view line{text};
  if (line.empty()) return;
  log("heap: %.*s", static_cast<int>(line.ends_with('\n') ? line.size() - 1 : line.size()), text);
}

// C's names, for third-party code (capstone).
void* malloc(std::size_t size) { return mi_malloc(size); }
void* calloc(std::size_t count, std::size_t size) { return mi_calloc(count, size); }
void* realloc(void* at, std::size_t size) { return mi_realloc(at, size); }
void free(void* at) { mi_free(at); }

}  // extern "C"

}  // namespace weir

constinit const std::nothrow_t std::nothrow{};

// Sizes and alignments beyond any object come back as nullptr or, from the plain forms, as a panic.
void* operator new(std::size_t n, const std::nothrow_t& /*tag*/) noexcept { return mi_malloc(n); }
void* operator new[](std::size_t n, const std::nothrow_t& /*tag*/) noexcept { return mi_malloc(n); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t& /*tag*/) noexcept {
  return mi_malloc_aligned(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t& /*tag*/) noexcept {
  return mi_malloc_aligned(n, static_cast<std::size_t>(a));
}
void* operator new(std::size_t n) {
  void* at = mi_malloc(n);
  if (at == nullptr) weir::panic("out of heap memory for %zu bytes", n);
  return at;
}
void* operator new[](std::size_t n) { return operator new(n); }
void* operator new(std::size_t n, std::align_val_t a) {
  void* at = mi_malloc_aligned(n, static_cast<std::size_t>(a));
  if (at == nullptr) weir::panic("out of heap memory for %zu bytes", n);
  return at;
}
void* operator new[](std::size_t n, std::align_val_t a) { return operator new(n, a); }
void operator delete(void* at) noexcept { mi_free(at); }
void operator delete[](void* at) noexcept { mi_free(at); }
void operator delete(void* at, std::size_t /*n*/) noexcept { mi_free(at); }
void operator delete[](void* at, std::size_t /*n*/) noexcept { mi_free(at); }
void operator delete(void* at, std::align_val_t /*a*/) noexcept { mi_free(at); }
void operator delete[](void* at, std::align_val_t /*a*/) noexcept { mi_free(at); }
void operator delete(void* at, std::size_t /*n*/, std::align_val_t /*a*/) noexcept { mi_free(at); }
void operator delete[](void* at, std::size_t /*n*/, std::align_val_t /*a*/) noexcept { mi_free(at); }
void operator delete(void* at, const std::nothrow_t& /*tag*/) noexcept { mi_free(at); }
void operator delete[](void* at, const std::nothrow_t& /*tag*/) noexcept { mi_free(at); }
