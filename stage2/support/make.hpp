// Allocation that can fail. The only way memory is had from the heap; plain `new` panics when there is none.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <utility>

namespace weir {

// nullptr when out of memory.
template <typename T, typename... Args>
[[nodiscard]] std::unique_ptr<T> make(Args&&... args) {
  return std::unique_ptr<T>{new (std::nothrow) T(std::forward<Args>(args)...)};
}

// `n` value-initialised elements; nullptr when out of memory (or when n * sizeof(T) overflows).
template <typename T>
[[nodiscard]] std::unique_ptr<T[]> make_array(std::size_t n) {
  // NOLINTNEXTLINE(bugprone-sizeof-expression): T may be a pointer
  if (n > static_cast<std::size_t>(-1) / 2 / sizeof(T)) return nullptr;
  return std::unique_ptr<T[]>{new (std::nothrow) T[n]()};
}

}  // namespace weir
