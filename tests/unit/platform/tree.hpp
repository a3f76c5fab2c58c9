// Devicetrees for tests, written as C++ and turned into blobs by libfdt.
//
//   Tree root;
//   root["vms"]["linux"].set("kernel", "Image").set("cpus", cells(2));
//   std::vector<std::byte> blob = root.blob();
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

extern "C" {
#include <libfdt.h>
}

namespace weir::test {

using Bytes = std::vector<std::byte>;

inline Bytes cells(std::initializer_list<std::uint32_t> values) {
  Bytes bytes;
  for (const std::uint32_t v : values)
    for (unsigned shift = 32; shift > 0; shift -= 8) bytes.push_back(static_cast<std::byte>(v >> (shift - 8)));
  return bytes;
}
template <std::same_as<int>... Ints>
Bytes cells(Ints... values) {
  return cells({static_cast<std::uint32_t>(values)...});
}

inline Bytes strings(std::initializer_list<std::string_view> values) {
  Bytes bytes;
  for (const std::string_view s : values) {
    for (const char c : s) bytes.push_back(static_cast<std::byte>(c));
    bytes.push_back(std::byte{0});
  }
  return bytes;
}

class Tree {
 public:
  explicit Tree(std::string name = {}) : name_{std::move(name)} {}

  // The child of that name, made if there is none.
  Tree& operator[](std::string_view name) {
    for (Tree& child : children_)
      if (child.name_ == name) return child;
    return add(name);
  }
  Tree& add(std::string_view name) { return children_.emplace_back(std::string{name}); }

  Tree& set(std::string_view property, Bytes value) {
    for (auto& [name, old] : properties_)
      if (name == property) return old = std::move(value), *this;
    properties_.emplace_back(property, std::move(value));
    return *this;
  }
  Tree& set(std::string_view property, std::string_view value) { return set(property, strings({value})); }
  Tree& set(std::string_view property, const char* value) { return set(property, std::string_view{value}); }
  Tree& set(std::string_view property) { return set(property, Bytes{}); }

  Tree& remove(std::string_view name) {
    std::erase_if(properties_, [&](const auto& p) { return p.first == name; });
    std::erase_if(children_, [&](const Tree& c) { return c.name_ == name; });
    return *this;
  }

  Tree& rename(std::string_view name) { return name_ = name, *this; }

  [[nodiscard]] Bytes blob(std::initializer_list<std::pair<std::uint64_t, std::uint64_t>> reserved = {}) const {
    std::vector<std::uint64_t> space(0x40000 / 8);  // aligned as libfdt wants it
    void* fdt = space.data();
    check(fdt_create(fdt, static_cast<int>(space.size() * 8)));
    for (const auto& [address, bytes] : reserved) check(fdt_add_reservemap_entry(fdt, address, bytes));
    check(fdt_finish_reservemap(fdt));
    write(fdt);
    check(fdt_finish(fdt));
    const auto* begin = reinterpret_cast<const std::byte*>(fdt);
    return {begin, begin + fdt_totalsize(fdt)};
  }

 private:
  static void check(int result) {
    if (result != 0) throw std::runtime_error{fdt_strerror(result)};
  }
  void write(void* fdt) const {
    check(fdt_begin_node(fdt, name_.c_str()));
    for (const auto& [name, value] : properties_)
      check(fdt_property(fdt, name.c_str(), value.data(), static_cast<int>(value.size())));
    for (const Tree& child : children_) child.write(fdt);
    check(fdt_end_node(fdt));
  }

  std::string name_;
  std::vector<std::pair<std::string, Bytes>> properties_;
  std::deque<Tree> children_;  // references stay valid
};

}  // namespace weir::test
