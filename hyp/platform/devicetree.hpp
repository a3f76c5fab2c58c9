// Typed read access to a flattened devicetree, over libfdt. open() checks the blob from end to end, so nodes and
// properties can be used without further care; the values in them are not to be trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "hyp/platform/line.hpp"

namespace weir::dt {

class Property {
 public:
  Property() = default;  // absent
  Property(std::string_view name, const std::byte* data, std::size_t bytes) : name_{name}, data_{data}, bytes_{bytes} {}

  explicit operator bool() const { return !name_.empty(); }
  [[nodiscard]] std::string_view name() const { return name_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

  // As 32-bit cells; `cells()` counts whole ones.
  [[nodiscard]] std::size_t cells() const { return bytes_ / 4; }
  [[nodiscard]] bool is_cells() const { return bytes_ % 4 == 0; }
  [[nodiscard]] std::uint32_t cell(std::size_t i) const;  // i < cells()
  // `count` cells from `first` on as one number, the upper ones first; what exceeds 64 bits is lost.
  [[nodiscard]] std::uint64_t number(std::size_t first, std::size_t count) const;

  // As strings, each with its NUL; the last one must have it, too.
  [[nodiscard]] bool is_strings() const { return bytes_ > 0 && data_[bytes_ - 1] == std::byte{0}; }
  [[nodiscard]] std::size_t strings() const;
  [[nodiscard]] std::string_view string(std::size_t i) const;  // empty if there is none
  [[nodiscard]] bool contains(std::string_view s) const;
  [[nodiscard]] std::optional<std::string_view> single_string() const;  // exactly one

 private:
  std::string_view name_;
  const std::byte* data_{};
  std::size_t bytes_{};
};

// A position in a tree. Of no node, everything is absent.
class Node {
 public:
  Node() = default;  // none
  Node(const void* fdt, int offset) : fdt_{fdt}, offset_{offset} {}

  explicit operator bool() const { return offset_ >= 0; }
  friend bool operator==(Node, Node) = default;
  [[nodiscard]] int offset() const { return offset_; }

  [[nodiscard]] std::string_view name() const;
  [[nodiscard]] Property property(const char* name) const;
  [[nodiscard]] bool has(const char* name) const { return static_cast<bool>(property(name)); }
  [[nodiscard]] bool compatible(const char* name) const;
  [[nodiscard]] bool enabled() const;  // neither it nor a parent has a status other than okay

  [[nodiscard]] Node parent() const;
  [[nodiscard]] Node first_child() const;  // for (Node c = n.first_child(); c; c = c.next_sibling())
  [[nodiscard]] Node next_sibling() const;
  [[nodiscard]] Node child(const char* name) const;
  [[nodiscard]] Node next() const;  // the next node of the tree in the order of the blob
  [[nodiscard]] Node by_phandle(std::uint32_t phandle) const;
  [[nodiscard]] Node by_path(const char* path) const;

  // The property at position `i`, counted from 0, in the order of the blob.
  [[nodiscard]] Property property_at(std::size_t i) const;

 private:
  const void* fdt_{};
  int offset_{-1};
};

// The root of the tree in `blob`, which does not change afterwards; not for several threads at once. Walking is quick in the
// tree that was opened last. Otherwise what is wrong with it, as in "it is a devicetree blob that is damaged".
struct Opened {
  Node root;
  const char* error{};
};
[[nodiscard]] Opened open(const void* blob, std::size_t bytes);

// Path of a node, for example "/vms/linux"; and a property's value as in a .dts file, shortened when it is long.
struct PathOf {
  Node node;
};
struct ValueOf {
  const Property& property;
};
Line& operator<<(Line& line, PathOf path);
Line& operator<<(Line& line, ValueOf value);

}  // namespace weir::dt
