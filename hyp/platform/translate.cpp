#include "hyp/platform/translate.hpp"

#include <algorithm>
#include <array>

namespace weir::dt {

PlatformError wrong(Node node, const Property& property, std::string_view problem, std::string_view expected) {
  Line line;
  line << PathOf{node} << ": " << property.name() << " = " << ValueOf{property} << ": " << problem << "; expected "
       << expected;
  return PlatformError{line};
}

PlatformError missing(Node node, std::string_view property, std::string_view expected) {
  Line line;
  line << PathOf{node} << ": " << property << ": missing; expected " << expected;
  return PlatformError{line};
}

std::expected<std::size_t, PlatformError> cells(Node node, const char* property, std::size_t otherwise) {
  const Property p = node.property(property);
  if (!p) return otherwise;
  if (p.bytes() != 4 || p.cell(0) > 4) return std::unexpected{wrong(node, p, "not a cell count", "one cell, 0 to 4")};
  return p.cell(0);
}

namespace {

struct BusCells {
  std::size_t address{};
  std::size_t size{};
};

// What `bus` says of its children's addresses: 1 or 2 cells each, or the address does not fit into 64 bits.
std::expected<BusCells, PlatformError> bus_cells(Node bus) {
  const auto address = cells(bus, "#address-cells", 2);
  if (!address) return std::unexpected{address.error()};
  const auto size = cells(bus, "#size-cells", 1);
  if (!size) return std::unexpected{size.error()};
  if (*address < 1 || *address > 2)
    return std::unexpected{wrong(bus, bus.property("#address-cells"), "no physical addresses", "1 or 2")};
  if (*size > 2) return std::unexpected{wrong(bus, bus.property("#size-cells"), "no physical sizes", "1 or 2")};
  return BusCells{.address = *address, .size = *size};
}

// One step up: from an address on `bus` to one on the bus that `bus` is a node of.
std::expected<MemoryRange, PlatformError> step_up(Node bus, Node above, BusCells child, MemoryRange range) {
  const Property ranges = bus.property("ranges");
  if (!ranges) return std::unexpected{missing(bus, "ranges", "a translation of the addresses of its children")};
  if (ranges.bytes() == 0) return range;  // one to one

  const auto parent = bus_cells(above);
  if (!parent) return std::unexpected{parent.error()};
  const std::size_t line = child.address + parent->address + child.size;
  if (!ranges.is_cells() || ranges.cells() % line != 0)
    return std::unexpected{wrong(bus, ranges, "not a whole number of lines", "child address, parent address, size")};
  for (std::size_t at = 0; at < ranges.cells(); at += line) {
    const std::uint64_t from = ranges.number(at, child.address);
    const std::uint64_t to = ranges.number(at + child.address, parent->address);
    const std::uint64_t bytes = ranges.number(at + child.address + parent->address, child.size);
    if (range.base.value < from || range.base.value - from >= bytes) continue;
    if (range.bytes > bytes - (range.base.value - from)) continue;
    const std::uint64_t base = to + (range.base.value - from);
    if (base < to || base + (range.bytes - 1) < base)
      return std::unexpected{
          wrong(bus, ranges, "a line reaches beyond the end of the address space", "parent addresses of 64 bits")};
    return MemoryRange{.base = PA{base}, .bytes = range.bytes};
  }
  Line expected;
  expected << "a line that contains ";
  expected.hex(range.base.value);
  return std::unexpected{wrong(bus, ranges, "does not translate the reg of a child", expected.view())};
}

// The node that `node`'s interrupts are meant for, as Linux finds it. Bounded: phandles may form a ring.
Node interrupt_parent(Node node) {
  Node n = node;
  for (unsigned step = 0; n && step < 32; ++step) {
    const Property p = n.property("interrupt-parent");
    n = p.bytes() == 4 ? n.by_phandle(p.cell(0)) : n.parent();
    if (n.has("#interrupt-cells")) return n;
  }
  return {};
}

std::expected<Interrupt, PlatformError> decode_gic(Node asker, const Property& source,
                                                   std::span<const std::uint32_t> specifier) {
  struct Kind {
    std::uint32_t base, count;
  };
  constexpr std::array<Kind, 4> kinds{{{32, 988}, {16, 16}, {4096, 1024}, {1056, 64}}};  // SPI, PPI, extended ones
  if (specifier.size() < 3 || specifier[0] >= kinds.size() || specifier[1] >= kinds[specifier[0]].count)
    return std::unexpected{wrong(asker, source, "not a GICv3 interrupt",
                                 "three cells: 0 (SPI) or 1 (PPI), number, 1 (edge) or 4 (level)")};
  // Of the flags (1 rising, 2 falling, 4 high, 8 low) the GIC knows edges and levels; what inverts a line is outside of it.
  return Interrupt{.intid = kinds[specifier[0]].base + specifier[1],
                   .trigger = (specifier[2] & 3) != 0 ? Trigger::edge : Trigger::level};
}

}  // namespace

std::expected<std::size_t, PlatformError> reg_count(Node node) {
  const auto bus = bus_cells(node.parent());
  if (!bus) return std::unexpected{bus.error()};
  const Property reg = node.property("reg");
  const std::size_t line = bus->address + bus->size;
  if (!reg) return std::unexpected{missing(node, "reg", "address and size")};
  if (!reg.is_cells() || reg.cells() == 0 || reg.cells() % line != 0) {
    Line expected;
    expected << "address and size, " << line << " cells together";
    return std::unexpected{wrong(node, reg, "not a whole number of ranges", expected.view())};
  }
  return reg.cells() / line;
}

std::expected<MemoryRange, PlatformError> bus_reg(Node node, std::size_t i) {
  const auto count = reg_count(node);
  if (!count) return std::unexpected{count.error()};
  const Property reg = node.property("reg");
  const auto child = bus_cells(node.parent());
  if (!child) return std::unexpected{child.error()};
  if (i >= *count) {
    Line expected;
    expected << "at least " << i + 1 << " ranges";
    return std::unexpected{wrong(node, reg, "too short", expected.view())};
  }
  const std::size_t at = i * (child->address + child->size);
  return MemoryRange{.base = PA{reg.number(at, child->address)}, .bytes = reg.number(at + child->address, child->size)};
}

std::expected<MemoryRange, PlatformError> translate(Node bus, MemoryRange range) {
  for (; bus.offset() > 0; bus = bus.parent()) {
    const auto child = bus_cells(bus);
    if (!child) return std::unexpected{child.error()};
    const auto translated = step_up(bus, bus.parent(), *child, range);
    if (!translated) return translated;
    range = *translated;
  }
  return range;
}

std::expected<MemoryRange, PlatformError> reg(Node node, std::size_t i) {
  const auto range = bus_reg(node, i);
  if (!range) return range;
  if (range->bytes == 0 || range->base.value + (range->bytes - 1) < range->base.value)
    return std::unexpected{
        wrong(node, node.property("reg"), "empty, or beyond the end of the address space", "address and size")};
  return translate(node.parent(), *range);
}

std::expected<Interrupt, PlatformError> resolve_interrupt(Node asker, const Property& source, Node controller,
                                                          std::span<const std::uint32_t> address,
                                                          std::span<const std::uint32_t> specifier) {
  constexpr unsigned kMaxSteps = 8;
  std::array<std::uint32_t, 4> unit{};
  std::array<std::uint32_t, 4> spec{};
  std::size_t spec_cells = std::min(specifier.size(), spec.size());
  std::copy_n(address.begin(), std::min(address.size(), unit.size()), unit.begin());
  std::copy_n(specifier.begin(), spec_cells, spec.begin());

  for (unsigned step = 0; step < kMaxSteps; ++step) {
    if (controller.has("interrupt-controller")) {
      if (!controller.compatible("arm,gic-v3"))
        return std::unexpected{wrong(asker, source, "goes to an interrupt controller other than the GIC",
                                     "an interrupt of the arm,gic-v3 node")};
      return decode_gic(asker, source, std::span{spec}.first(spec_cells));
    }
    const Property map = controller.property("interrupt-map");
    if (!map) {  // a bus that only repeats what its parent says of interrupts
      controller = interrupt_parent(controller);
      if (controller) continue;
    }
    const Property mask = controller.property("interrupt-map-mask");
    const auto address_cells = cells(controller, "#address-cells", 0);
    if (!address_cells) return std::unexpected{address_cells.error()};
    const std::size_t key = *address_cells + spec_cells;
    if (!controller || !map.is_cells() || (mask && mask.cells() != key) || key > 8)
      return std::unexpected{wrong(asker, source,
                                   "leads to a node that is neither an interrupt controller nor has a "
                                   "proper interrupt-map",
                                   "an interrupt of the arm,gic-v3 node")};
    const auto matches = [&](std::size_t at) {
      for (std::size_t i = 0; i < key; ++i) {
        const std::uint32_t want = i < *address_cells ? unit[i] : spec[i - *address_cells];
        const std::uint32_t care = mask ? mask.cell(i) : 0xffff'ffff;
        if (((map.cell(at + i) ^ want) & care) != 0) return false;
      }
      return true;
    };
    Node next;
    for (std::size_t at = 0; at + key < map.cells();) {
      const Node parent = controller.by_phandle(map.cell(at + key));
      const auto parent_address = parent ? cells(parent, "#address-cells", 0) : 0;
      const auto parent_spec = parent ? cells(parent, "#interrupt-cells", 0) : 0;
      if (!parent_address) return std::unexpected{parent_address.error()};
      if (!parent_spec) return std::unexpected{parent_spec.error()};
      const std::size_t to = at + key + 1;
      const std::size_t end = to + *parent_address + *parent_spec;
      if (!parent || *parent_spec == 0 || end > map.cells())
        return std::unexpected{wrong(controller, map, "a line has no interrupt parent, or is cut off",
                                     "address, specifier, phandle of the parent, its address and specifier")};
      if (matches(at)) {
        for (std::size_t i = 0; i < *parent_address; ++i) unit[i] = map.cell(to + i);
        for (std::size_t i = 0; i < *parent_spec; ++i) spec[i] = map.cell(to + *parent_address + i);
        spec_cells = *parent_spec;
        next = parent;
        break;
      }
      at = end;
    }
    if (!next)
      return std::unexpected{
          wrong(asker, source, "in no line of the interrupt-map it leads to", "an interrupt of the arm,gic-v3 node")};
    controller = next;
  }
  return std::unexpected{wrong(asker, source, "passes too many interrupt-maps", "an interrupt of the arm,gic-v3 node")};
}

std::expected<std::optional<Interrupt>, PlatformError> interrupt(Node node, std::size_t i) {
  const Property extended = node.property("interrupts-extended");
  const Property plain = node.property("interrupts");
  const Property& source = extended ? extended : plain;
  if (!source) return std::optional<Interrupt>{};
  if (!source.is_cells()) return std::unexpected{wrong(node, source, "not a list of cells", "interrupt specifiers")};

  // The unit address, as an interrupt-map of a parent may ask for it.
  std::array<std::uint32_t, 4> unit{};
  const Property reg = node.property("reg");
  for (std::size_t c = 0; c < std::min(reg.cells(), unit.size()); ++c) unit[c] = reg.cell(c);

  Node controller = extended ? Node{} : interrupt_parent(node);
  std::size_t at = 0;
  for (;; --i) {
    if (at >= source.cells()) return std::optional<Interrupt>{};
    if (extended) {
      const std::uint32_t phandle = source.cell(at++);
      if (phandle == 0) {  // a hole in the list
        if (i == 0) return std::optional<Interrupt>{};
        continue;
      }
      controller = node.by_phandle(phandle);
    }
    if (!controller)
      return std::unexpected{wrong(node, source, "its interrupt parent is not in the tree",
                                   "interrupt-parent to be the phandle of the arm,gic-v3 node")};
    const auto n = cells(controller, "#interrupt-cells", 0);
    if (!n) return std::unexpected{n.error()};
    if (*n == 0 || *n > source.cells() - at)
      return std::unexpected{wrong(node, source, "cut off", "a whole number of interrupt specifiers")};
    if (i == 0) {
      std::array<std::uint32_t, 4> spec{};
      for (std::size_t c = 0; c < *n; ++c) spec[c] = source.cell(at + c);
      const auto found = resolve_interrupt(node, source, controller, unit, std::span{spec}.first(*n));
      if (!found) return std::unexpected{found.error()};
      return std::optional{*found};
    }
    at += *n;
  }
}

std::expected<std::optional<Interrupt>, PlatformError> interrupt(Node node, const char* name) {
  const Property names = node.property("interrupt-names");
  for (std::size_t i = 0, n = names.strings(); i < n; ++i)
    if (names.string(i) == name) {
      auto found = interrupt(node, i);
      if (found && !*found)
        return std::unexpected{wrong(node, names, "more names than interrupts", "one name for each")};
      return found;
    }
  return std::optional<Interrupt>{};
}

}  // namespace weir::dt
