#include "hyp/early/devicetree.hpp"

namespace weir::early {
namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

struct Text {  // not terminated
  const char* at;
  u32 length;
};

// No pointers in memory: a string literal is an array, and its names are looked at one after the other.
template <std::size_t N>
bool is(Text text, const char (&name)[N]) {
  if (text.length != N - 1) return false;
  for (u32 i = 0; i < N - 1; ++i)
    if (text.at[i] != name[i]) return false;
  return true;
}

bool is_any(Text text, const char* names) {  // "one\0two\0"
  while (*names != 0) {
    u32 i = 0;
    while (i < text.length && names[i] != 0 && names[i] == text.at[i]) ++i;
    if (i == text.length && names[i] == 0) return true;
    while (names[i] != 0) ++i;
    names += i + 1;
  }
  return false;
}

struct Cells {  // a property's value
  const std::byte* at;
  u32 bytes;

  [[nodiscard]] u32 count() const { return bytes / 4; }
  [[nodiscard]] u32 cell(u32 i) const { return __builtin_bswap32(reinterpret_cast<const u32*>(at)[i]); }
  [[nodiscard]] u64 number(u32 first, u32 cells) const {
    u64 value = 0;
    for (u32 i = 0; i < cells; ++i) value = value << 32 | cell(first + i);
    return value;
  }
  [[nodiscard]] u32 one(u32 otherwise) const { return bytes == 4 ? cell(0) : otherwise; }
  // String `i` of a list; empty: there is none.
  [[nodiscard]] Text string(u32 i) const {
    const auto* text = reinterpret_cast<const char*>(at);
    u32 from = 0;
    for (u32 to = 0; to < bytes; ++to) {
      if (text[to] != 0) continue;
      if (i-- == 0) return {text + from, to - from};
      from = to + 1;
    }
    return {text, 0};
  }
};

enum class Token : u32 { begin_node = 1, end_node = 2, property = 3, nop = 4, end = 9 };

// The tokens of the structure block, one after the other.
class Reader {
 public:
  explicit Reader(const std::byte* blob) : blob_{blob} {
    const u32 total = devicetree_bytes(blob);
    if (total < kHeaderBytes) return;
    const u32 structure = header(2), strings = header(3), strings_bytes = header(8), structure_bytes = header(9);
    if (structure % 4 != 0 || structure > total || structure_bytes > total - structure) return;
    if (strings > total || strings_bytes > total - strings) return;
    at_ = structure;
    end_ = structure + structure_bytes / 4 * 4;
    strings_ = {reinterpret_cast<const char*>(blob) + strings, strings_bytes};
  }

  // Token::end as well where the block is broken off.
  Token next() {
    for (;;) {
      if (end_ - at_ < 4) return Token::end;
      const auto token = static_cast<Token>(word(at_));
      at_ += 4;
      switch (token) {
        case Token::nop: continue;
        case Token::begin_node: return take_text() ? token : Token::end;
        case Token::property: return take_property() ? token : Token::end;
        case Token::end_node: return token;
        case Token::end: break;
      }
      return Token::end;
    }
  }
  Text name{};    // of the node or property
  Cells value{};  // of the property

 private:
  static constexpr u32 kHeaderBytes = 40;

  [[nodiscard]] u32 word(u32 offset) const { return __builtin_bswap32(*reinterpret_cast<const u32*>(blob_ + offset)); }
  [[nodiscard]] u32 header(u32 i) const { return word(4 * i); }

  bool take_text() {
    const auto* text = reinterpret_cast<const char*>(blob_) + at_;
    for (u32 length = 0; length < end_ - at_; ++length) {
      if (text[length] != 0) continue;
      name = {text, length};
      at_ += (length + 4) / 4 * 4;
      return true;
    }
    return false;
  }
  bool take_property() {
    if (end_ - at_ < 8) return false;
    const u32 bytes = word(at_), string = word(at_ + 4);
    at_ += 8;
    if (bytes > end_ - at_ || string >= strings_.length) return false;
    value = {blob_ + at_, bytes};
    at_ += (bytes + 3) / 4 * 4;
    u32 length = 0;
    while (string + length < strings_.length && strings_.at[string + length] != 0) ++length;
    name = {strings_.at + string, length};
    return true;
  }

  const std::byte* blob_;
  u32 at_ = 0, end_ = 0;
  Text strings_{};
};

constexpr u32 kLost = ~u32{0};
constexpr unsigned kMaxDepth = 12;

// A path as far as the nodes above have followed it.
struct Path {
  Text text;
  u32 matched[kMaxDepth];  // characters, at each depth; kLost: another branch

  void start() { matched[0] = text.length > 1 && text.at[0] == '/' ? 0 : kLost; }
  void enter(unsigned depth, Text node) {
    const u32 from = matched[depth - 1];
    matched[depth] = kLost;
    if (from == kLost || from + 1 >= text.length) return;
    u32 to = from + 1;  // behind the slash
    bool unit = false;
    while (to < text.length && text.at[to] != '/') unit |= text.at[to++] == '@';
    const u32 length = to - (from + 1);
    if (node.length < length || (node.length > length && (unit || node.at[length] != '@'))) return;
    for (u32 i = 0; i < length; ++i)
      if (node.at[i] != text.at[from + 1 + i]) return;
    matched[depth] = to;
  }
  [[nodiscard]] bool ends_at(unsigned depth) const { return matched[depth] == text.length; }
};

// A node on the way down from the root.
struct Level {
  u32 address_cells, size_cells;  // of what is below it
  Cells ranges;
  bool has_ranges;
  bool enabled;
  bool looked_at;
  Cells compatible, reg;
  u32 shift, width, offset;

  void take(Text name, Cells value) {
    if (is(name, "#address-cells")) address_cells = value.one(address_cells);
    if (is(name, "#size-cells")) size_cells = value.one(size_cells);
    if (is(name, "ranges")) has_ranges = true, ranges = value;
    if (is(name, "compatible")) compatible = value;
    if (is(name, "reg")) reg = value;
    if (is(name, "reg-shift")) shift = value.one(0);
    if (is(name, "reg-io-width")) width = value.one(0);
    if (is(name, "reg-offset")) offset = value.one(0);
    if (is(name, "status")) enabled = enabled && (is(value.string(0), "okay") || is(value.string(0), "ok"));
  }
  // An address below this node as the node's parent sees it.
  [[nodiscard]] bool translate(u32 parent_cells, u64& address) const {
    if (!has_ranges) return false;
    if (ranges.bytes == 0) return true;
    const u32 line = address_cells + parent_cells + size_cells;
    if (address_cells > 2 || parent_cells > 2 || size_cells > 2 || line == 0) return false;
    for (u32 i = 0; i + line <= ranges.count(); i += line) {
      const u64 child = ranges.number(i, address_cells);
      const u64 bytes = ranges.number(i + address_cells + parent_cells, size_cells);
      if (address < child || address - child >= bytes) continue;
      address = ranges.number(i + address_cells, parent_cells) + (address - child);
      return true;
    }
    return false;
  }
};

UartKind kind_of(const Cells& compatible) {
  for (u32 i = 0;; ++i) {
    const Text name = compatible.string(i);
    if (name.length == 0) return UartKind::none;
    if (is_any(name, "arm,pl011\0arm,sbsa-uart\0")) return UartKind::pl011;
    if (is_any(name, "ns16550a\0ns16550\0ns8250\0snps,dw-apb-uart\0ti,am654-uart\0nvidia,tegra20-uart\0"))
      return UartKind::ns8250;
  }
}

class Search {
 public:
  explicit Search(const std::byte* blob) : blob_{blob} {}  // NOLINT: the rest is written before it is read

  FoundUart run() {
    stdout_.text = chosen_path();
    serial0_.text = alias("serial0");
    walk();
    return best_;
  }

 private:
  // Calls fn with the name and value of each property of the node `name` below the root.
  template <std::size_t N, typename Fn>
  void for_properties(const char (&name)[N], Fn fn) {
    Reader reader{blob_};
    bool inside = false;
    for (unsigned depth = 0;;) {
      switch (reader.next()) {
        case Token::begin_node: inside = ++depth == 2 && is(reader.name, name); break;
        case Token::end_node:
          if (depth-- <= 1) return;
          inside = false;
          break;
        case Token::property:
          if (inside) fn(reader.name, reader.value);
          break;
        default: return;
      }
    }
  }
  template <typename Matches>
  Text path_in_aliases(Matches matches) {
    Text found{};
    for_properties("aliases", [&](Text name, Cells value) {
      if (matches(name)) found = value.string(0);
    });
    return found;
  }
  template <std::size_t N>
  Text alias(const char (&wanted)[N]) {
    return path_in_aliases([&](Text name) { return is(name, wanted); });
  }
  // stdout-path is a path or an alias, and may go on with ":" and options.
  Text chosen_path() {
    Text path{};
    for_properties("chosen", [&](Text name, Cells value) {
      if (is(name, "stdout-path") || (path.length == 0 && is(name, "linux,stdout-path"))) path = value.string(0);
    });
    for (u32 i = 0; i < path.length; ++i)
      if (path.at[i] == ':') path.length = i;
    if (path.length == 0 || path.at[0] == '/') return path;
    return path_in_aliases([&](Text name) {
      if (name.length != path.length) return false;
      for (u32 i = 0; i < name.length; ++i)
        if (name.at[i] != path.at[i]) return false;
      return true;
    });
  }

  void walk() {
    Reader reader{blob_};
    unsigned deep = 0;  // nodes below kMaxDepth, which are passed over
    for (bool inside = false;;) {
      switch (reader.next()) {
        case Token::begin_node:
          if (inside && deep == 0) look(depth_);
          if (inside && (deep != 0 || depth_ + 1 == kMaxDepth)) {
            ++deep;
            break;
          }
          if (inside) ++depth_;
          inside = true;
          enter(reader.name);
          break;
        case Token::end_node:
          if (!inside) return;
          if (deep != 0) {
            --deep;
            break;
          }
          look(depth_);
          if (depth_ == 0) return;
          --depth_;
          break;
        case Token::property:
          if (inside && deep == 0) levels_[depth_].take(reader.name, reader.value);
          break;
        default: return;
      }
    }
  }
  void enter(Text name) {
    Level& level = levels_[depth_];
    level.address_cells = 2;
    level.size_cells = 1;
    level.has_ranges = level.looked_at = false;
    level.compatible.bytes = level.reg.bytes = level.ranges.bytes = 0;
    level.shift = level.width = level.offset = 0;
    level.enabled = depth_ == 0 || levels_[depth_ - 1].enabled;
    if (depth_ == 0) {
      stdout_.start();
      serial0_.start();
      return;
    }
    stdout_.enter(depth_, name);
    serial0_.enter(depth_, name);
  }

  // All properties of the node at `depth` are known.
  void look(unsigned depth) {
    Level& level = levels_[depth];
    if (level.looked_at || depth == 0) return;
    level.looked_at = true;
    const UartKind kind = kind_of(level.compatible);
    if (kind == UartKind::none || !level.enabled) return;
    Chosen by = Chosen::first;
    if (serial0_.ends_at(depth)) by = Chosen::serial0;
    if (stdout_.ends_at(depth)) by = Chosen::stdout_path;
    u64 address = 0;
    if (by <= best_.by || !physical(depth, address)) return;
    const bool pl011 = kind == UartKind::pl011;
    const bool known = level.width == 1 || level.width == 2 || level.width == 4;
    best_.by = by;
    best_.uart.base = address + level.offset;
    best_.uart.kind = kind;
    best_.uart.shift = static_cast<std::uint8_t>(level.shift & 7);
    best_.uart.width = static_cast<std::uint8_t>(known ? level.width : pl011 ? 4 : 1);
  }
  [[nodiscard]] bool physical(unsigned depth, u64& address) const {
    const u32 cells = levels_[depth - 1].address_cells;
    const Cells& reg = levels_[depth].reg;
    if (cells == 0 || cells > 2 || reg.count() < cells) return false;
    address = reg.number(0, cells);
    for (unsigned bus = depth - 1; bus > 0; --bus)
      if (!levels_[bus].translate(levels_[bus - 1].address_cells, address)) return false;
    return true;
  }

  const std::byte* blob_;
  // Not cleared: that would be a call of memset.
  Path stdout_, serial0_;
  unsigned depth_ = 0;
  Level levels_[kMaxDepth];
  FoundUart best_{};
};

}  // namespace

std::uint32_t devicetree_bytes(const std::byte* blob) {
  constexpr u32 kMagic = 0xd00dfeed;
  const auto* words = reinterpret_cast<const u32*>(blob);
  const u32 bytes = __builtin_bswap32(words[1]);
  return __builtin_bswap32(words[0]) == kMagic && bytes <= kMaxDevicetree ? bytes : 0;
}

FoundUart find_uart(const std::byte* blob) { return Search{blob}.run(); }

}  // namespace weir::early
