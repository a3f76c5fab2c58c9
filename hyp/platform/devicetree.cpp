#include "hyp/platform/devicetree.hpp"

#include <algorithm>
#include <array>

extern "C" {
#include <libfdt.h>
}

namespace weir::dt {

std::uint32_t Property::cell(std::size_t i) const {
  std::uint32_t value = 0;
  for (std::size_t b = 0; b < 4; ++b) value = value << 8 | std::to_integer<std::uint32_t>(data_[i * 4 + b]);
  return value;
}

std::uint64_t Property::number(std::size_t first, std::size_t count) const {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i) value = value << 32 | cell(first + i);
  return value;
}

std::size_t Property::strings() const {
  if (!is_strings()) return 0;
  std::size_t n = 0;
  for (std::size_t i = 0; i < bytes_; ++i) n += data_[i] == std::byte{0};
  return n;
}

std::string_view Property::string(std::size_t i) const {
  if (!is_strings()) return {};
  std::size_t begin = 0;
  for (std::size_t at = 0; at < bytes_; ++at) {
    if (data_[at] != std::byte{0}) continue;
    if (i-- == 0) return {reinterpret_cast<const char*>(data_ + begin), at - begin};  // NOLINT: bytes as text
    begin = at + 1;
  }
  return {};
}

bool Property::contains(std::string_view s) const {
  for (std::size_t i = 0, n = strings(); i < n; ++i)
    if (string(i) == s) return true;
  return false;
}

std::optional<std::string_view> Property::single_string() const {
  if (strings() != 1) return std::nullopt;
  return string(0);
}

std::string_view Node::name() const {
  if (offset_ < 0) return {};
  int length = 0;
  const char* name = fdt_get_name(fdt_, offset_, &length);
  return name != nullptr ? std::string_view{name, static_cast<std::size_t>(length)} : std::string_view{};
}

Property Node::property(const char* name) const {
  if (offset_ < 0) return {};
  int length = 0;
  const void* data = fdt_getprop(fdt_, offset_, name, &length);
  if (data == nullptr) return {};
  return {name, static_cast<const std::byte*>(data), static_cast<std::size_t>(length)};
}

Property Node::property_at(std::size_t i) const {
  if (offset_ < 0) return {};
  int offset = fdt_first_property_offset(fdt_, offset_);
  while (offset >= 0 && i-- > 0) offset = fdt_next_property_offset(fdt_, offset);
  if (offset < 0) return {};
  const char* name = nullptr;
  int length = 0;
  const void* data = fdt_getprop_by_offset(fdt_, offset, &name, &length);
  if (data == nullptr) return {};
  return {name, static_cast<const std::byte*>(data), static_cast<std::size_t>(length)};
}

bool Node::compatible(const char* name) const { return property("compatible").contains(name); }

bool Node::enabled() const {
  for (Node n = *this; n; n = n.parent()) {
    const Property status = n.property("status");
    if (status && status.string(0) != "okay" && status.string(0) != "ok") return false;
  }
  return true;
}

namespace {

// How the nodes of the tree that was opened last hang together: libfdt finds out by walking the blob, byte by byte, for each
// question. Nodes of other trees, and of those with more nodes than this, are asked of libfdt.
class Index {
 public:
  struct Entry {
    int offset;
    std::uint32_t phandle;  // 0: none
    std::uint16_t parent;   // of the root: itself
    std::uint16_t end;      // behind the last node below it
  };

  void build(const void* fdt) {
    fdt_ = nullptr;
    count_ = 0;
    int depth = 0;
    std::size_t open = 0;  // the node that we are in
    for (int at = 0; at >= 0 && depth >= 0; at = fdt_next_node(fdt, at, &depth)) {
      if (count_ == entries_.size()) return;
      // `depth` counts from 0 at the root; nodes at this one and deeper are over.
      for (; count_ != 0 && depths_[open] >= depth; open = entries_[open].parent) close(open);
      entries_[count_] = {at, fdt_get_phandle(fdt, at), static_cast<std::uint16_t>(open), 0};
      depths_[count_] = static_cast<std::int16_t>(depth);
      open = count_++;
    }
    for (; open != 0; open = entries_[open].parent) close(open);
    close(0);
    fdt_ = fdt;
  }

  // nullptr: ask libfdt.
  [[nodiscard]] const Entry* find(const void* fdt, int offset) const {
    if (fdt != fdt_) return nullptr;
    const Entry* const found = std::ranges::lower_bound(entries_.data(), end(), offset, {}, &Entry::offset);
    return found != end() && found->offset == offset ? found : nullptr;
  }
  [[nodiscard]] const Entry* begin() const { return entries_.data(); }
  [[nodiscard]] const Entry* end() const { return entries_.data() + count_; }

 private:
  void close(std::size_t i) { entries_[i].end = static_cast<std::uint16_t>(count_); }

  static constexpr std::size_t kMaxNodes = 2048;  // Linux's largest trees have some 1100

  const void* fdt_ = nullptr;
  std::size_t count_ = 0;
  std::array<Entry, kMaxNodes> entries_{};
  std::array<std::int16_t, kMaxNodes> depths_{};
};
constinit Index index;

}  // namespace

// Of no node, each of these is no node; libfdt would take -1 for "before the root".
Node Node::parent() const {
  if (offset_ <= 0) return {};
  if (const auto* e = index.find(fdt_, offset_)) return {fdt_, index.begin()[e->parent].offset};
  return {fdt_, fdt_parent_offset(fdt_, offset_)};
}
Node Node::first_child() const {
  if (offset_ < 0) return {};
  if (const auto* e = index.find(fdt_, offset_))
    return e + 1 < index.begin() + e->end ? Node{fdt_, e[1].offset} : Node{};
  return {fdt_, fdt_first_subnode(fdt_, offset_)};
}
Node Node::next_sibling() const {
  if (offset_ < 0) return {};
  if (const auto* e = index.find(fdt_, offset_)) {
    const auto* next = index.begin() + e->end;
    return next != index.end() && next->parent == e->parent && offset_ != 0 ? Node{fdt_, next->offset} : Node{};
  }
  return {fdt_, fdt_next_subnode(fdt_, offset_)};
}
Node Node::next() const {
  if (offset_ < 0) return {};
  if (const auto* e = index.find(fdt_, offset_)) return e + 1 != index.end() ? Node{fdt_, e[1].offset} : Node{};
  return {fdt_, fdt_next_node(fdt_, offset_, nullptr)};
}
Node Node::by_phandle(std::uint32_t phandle) const {
  if (offset_ < 0 || phandle == 0 || phandle == ~std::uint32_t{0}) return {};
  if (index.find(fdt_, offset_) == nullptr) return {fdt_, fdt_node_offset_by_phandle(fdt_, phandle)};
  const auto* found = std::ranges::find(index.begin(), index.end(), phandle, &Index::Entry::phandle);
  return found != index.end() ? Node{fdt_, found->offset} : Node{};
}
Node Node::by_path(const char* path) const { return offset_ < 0 ? Node{} : Node{fdt_, fdt_path_offset(fdt_, path)}; }

Node Node::child(const char* name) const {
  for (Node c = first_child(); c; c = c.next_sibling())
    if (c.name() == name) return c;
  return {};
}

namespace {

// Older blobs align and name things in another way; libfdt reads some of them.
constexpr std::uint32_t kOldestVersion = 16;
constexpr std::uint32_t kNewestVersion = 17;
constexpr std::size_t kHeaderBytes = 40;  // of version 17; of version 16, 36

const char* problem_of(const void* blob, std::size_t bytes) {
  if (bytes == 0) return "it is empty";
  if (bytes < kHeaderBytes || fdt_magic(blob) != FDT_MAGIC) return "it does not begin as a devicetree blob does";
  if (fdt_version(blob) < kOldestVersion) return "it is a devicetree blob of a version before 16";
  if (fdt_last_comp_version(blob) > kNewestVersion) return "it is a devicetree blob of a version after 17";
  if (fdt_totalsize(blob) > bytes) return "it is a devicetree blob that is cut off";
  return fdt_check_full(blob, bytes) == 0 ? nullptr : "it is a devicetree blob that is damaged";
}

}  // namespace

Opened open(const void* blob, std::size_t bytes) {
  if (const char* const problem = problem_of(blob, bytes)) return {.root = {}, .error = problem};
  index.build(blob);
  return {.root = {blob, 0}, .error = nullptr};
}

namespace {

bool printable(const Property& p) {
  if (!p.is_strings()) return false;
  for (std::size_t i = 0, n = p.strings(); i < n; ++i) {
    const std::string_view s = p.string(i);
    if (s.empty() && n > 1) return false;
    for (const char c : s)
      if (c < ' ' || c > '~') return false;
  }
  return true;
}

}  // namespace

Line& operator<<(Line& line, PathOf path) {
  // Upwards, then printed downwards; a node further down than this shows its end only.
  constexpr std::size_t kDepth = 16;
  std::string_view names[kDepth];
  std::size_t depth = 0;
  Node n = path.node;
  for (; n && n.offset() != 0 && depth < kDepth; n = n.parent()) names[depth++] = n.name();
  if (n && n.offset() != 0) line << "...";
  if (depth == 0) return line << "/";
  while (depth > 0) line << "/" << names[--depth];
  return line;
}

Line& operator<<(Line& line, ValueOf value) {
  constexpr std::size_t kMaxStrings = 4;
  constexpr std::size_t kMaxString = 64;
  constexpr std::size_t kMaxCells = 8;
  const Property& p = value.property;
  if (p.bytes() == 0) return line << "(empty)";
  if (printable(p)) {
    for (std::size_t i = 0, n = p.strings(); i < n; ++i) {
      if (i == kMaxStrings) return line << ", ...";
      const std::string_view s = p.string(i);
      line << (i == 0 ? "\"" : ", \"") << s.substr(0, kMaxString) << (s.size() > kMaxString ? "...\"" : "\"");
    }
    return line;
  }
  line << "<";
  for (std::size_t i = 0; i < p.cells(); ++i) {
    if (i == kMaxCells) return line << " ...>";
    if (i > 0) line << " ";
    line.hex(p.cell(i));
  }
  line << ">";
  if (!p.is_cells()) line << " and " << p.bytes() % 4 << " bytes";
  return line;
}

}  // namespace weir::dt
