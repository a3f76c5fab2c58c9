// A vector of fixed capacity, for tables that are filled once from a devicetree, before there is a heap.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <type_traits>

namespace weir {

template <typename T, std::size_t Capacity>
class StaticVector {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  static constexpr std::size_t capacity = Capacity;

  // False, and nothing is added, when the vector is full.
  [[nodiscard]] constexpr bool push_back(const T& value) {
    if (size_ == Capacity) return false;
    items_[size_++] = value;
    return true;
  }
  // A new, value-initialised element to be filled in place; nullptr when the vector is full.
  [[nodiscard]] constexpr T* add() {
    if (size_ == Capacity) return nullptr;
    return std::construct_at(&items_[size_++]);
  }
  // Removes element `i`; later ones move up.
  constexpr void erase(std::size_t i) {
    for (; i + 1 < size_; ++i) items_[i] = items_[i + 1];
    --size_;
  }
  constexpr void clear() { size_ = 0; }

  [[nodiscard]] constexpr std::size_t size() const { return size_; }
  [[nodiscard]] constexpr bool empty() const { return size_ == 0; }
  [[nodiscard]] constexpr T& operator[](std::size_t i) { return items_[i]; }
  [[nodiscard]] constexpr const T& operator[](std::size_t i) const { return items_[i]; }
  [[nodiscard]] constexpr T& back() { return items_[size_ - 1]; }
  [[nodiscard]] constexpr T* data() { return items_.data(); }
  [[nodiscard]] constexpr const T* data() const { return items_.data(); }
  [[nodiscard]] constexpr T* begin() { return items_.data(); }
  [[nodiscard]] constexpr T* end() { return items_.data() + size_; }
  [[nodiscard]] constexpr const T* begin() const { return items_.data(); }
  [[nodiscard]] constexpr const T* end() const { return items_.data() + size_; }

 private:
  std::array<T, Capacity> items_{};
  std::size_t size_{};
};

}  // namespace weir
