#include "hyp/platform/pci_host.hpp"

#include <algorithm>
#include <array>

#include "guest-abi/field.hpp"
#include "hyp/platform/translate.hpp"

namespace weir {
namespace {

using dt::Node;
using dt::Property;
using Done = std::expected<void, PlatformError>;

constexpr std::size_t kPciAddressCells = 3;
constexpr std::size_t kPciSizeCells = 2;
constexpr std::uint64_t kEcamBusBytes = 0x10'0000;

// phys.hi, the first cell of a PCI address (PCI Bus Binding to Open Firmware, 2.2.1.1).
struct PhysHi : Record<PhysHi, 32> {
  enum class Space : std::uint8_t { configuration = 0, io = 1, memory32 = 2, memory64 = 3 };
  using Register = Field<"register", 7, 0>;
  using Devfn = Field<"devfn", 15, 8, std::uint8_t>;
  using Bus = Field<"bus", 23, 16, std::uint8_t>;
  using SpaceCode = Field<"ss", 25, 24, Space>;
  using Aliased = Field<"t", 29, 29, bool>;
  using Prefetchable = Field<"p", 30, 30, bool>;
  using NotRelocatable = Field<"n", 31, 31, bool>;
  using Layout = weir::Layout<32, Register, Devfn, Bus, SpaceCode, Res0<28, 26>, Aliased, Prefetchable, NotRelocatable>;
};

Done read_buses(Node node, PciHost& host) {
  const auto ecam = dt::reg(node, 0);
  if (!ecam) return std::unexpected{ecam.error()};
  host.ecam = *ecam;
  const std::uint64_t buses = host.ecam.bytes / kEcamBusBytes;
  host.last_bus = static_cast<std::uint8_t>(std::clamp<std::uint64_t>(buses, 1, 256) - 1);
  const Property range = node.property("bus-range");
  if (range) {
    if (range.bytes() != 8 || range.cell(0) > range.cell(1) || range.cell(1) > 255)
      return std::unexpected{dt::wrong(node, range, "not a range of buses", "first and last bus, 0 to 255")};
    host.first_bus = static_cast<std::uint8_t>(range.cell(0));
    host.last_bus = static_cast<std::uint8_t>(range.cell(1));
  }
  if (host.last_bus - host.first_bus + 1U > buses)
    return std::unexpected{dt::wrong(node, node.property("reg"), "too small for its bus-range", "1 MiB for each bus")};
  if (const Property domain = node.property("linux,pci-domain")) {
    if (domain.bytes() != 4 || domain.cell(0) > 0xffff)
      return std::unexpected{dt::wrong(node, domain, "not a PCI segment", "one cell, 0 to 0xffff")};
    host.segment = static_cast<std::uint16_t>(domain.cell(0));
  }
  return {};
}

Done read_windows(Node node, std::size_t parent_cells, PciHost& host) {
  const Property ranges = node.property("ranges");
  if (!ranges) return std::unexpected{dt::missing(node, "ranges", "the windows of the host bridge")};
  const std::size_t line = kPciAddressCells + parent_cells + kPciSizeCells;
  if (!ranges.is_cells() || ranges.cells() % line != 0)
    return std::unexpected{dt::wrong(node, ranges, "not a whole number of lines", "PCI address, CPU address, size")};
  for (std::size_t at = 0; at < ranges.cells(); at += line) {
    PhysHi hi;
    hi.words[0] = ranges.cell(at);
    PciWindow window{.kind = PciWindowKind::memory32,
                     .prefetchable = hi.get<PhysHi::Prefetchable>(),
                     .pci = ranges.number(at + 1, 2),
                     .cpu = PA{ranges.number(at + kPciAddressCells, parent_cells)},
                     .bytes = ranges.number(at + kPciAddressCells + parent_cells, kPciSizeCells)};
    switch (hi.get<PhysHi::SpaceCode>()) {
      case PhysHi::Space::configuration: continue;
      case PhysHi::Space::io: window.kind = PciWindowKind::io; break;
      case PhysHi::Space::memory32: break;
      case PhysHi::Space::memory64: window.kind = PciWindowKind::memory64; break;
    }
    const std::uint64_t last = window.bytes - 1;
    if (window.bytes == 0 || window.pci + last < last || window.cpu.value + last < last)
      return std::unexpected{dt::wrong(node, ranges, "a window is empty, or beyond the end of the address space",
                                       "PCI address, CPU address, size")};
    if (!host.windows.push_back(window))
      return std::unexpected{dt::wrong(node, ranges, "too many windows", "at most 8")};
  }
  return {};
}

Done read_interrupts(Node node, PciHost& host) {
  const Property map = node.property("interrupt-map");
  const Property mask = node.property("interrupt-map-mask");
  if (!map) return {};  // no INTx
  constexpr std::size_t kKey = kPciAddressCells + 1;
  if (mask && mask.bytes() != kKey * 4)
    return std::unexpected{dt::wrong(node, mask, "not a mask", "four cells: PCI address and pin")};
  const auto pin_cells = dt::cells(node, "#interrupt-cells", 0);
  if (!pin_cells) return std::unexpected{pin_cells.error()};
  if (*pin_cells != 1) return std::unexpected{dt::missing(node, "#interrupt-cells", "1: an interrupt pin")};
  host.route_address_mask = mask ? mask.cell(0) : 0xffff'ffff;
  host.route_pin_mask = mask ? mask.cell(kPciAddressCells) : 0xffff'ffff;

  for (std::size_t at = 0; at < map.cells();) {
    const Node parent = at + kKey < map.cells() ? node.by_phandle(map.cell(at + kKey)) : Node{};
    const auto address_cells = dt::cells(parent, "#address-cells", 0);
    if (!address_cells) return std::unexpected{address_cells.error()};
    const auto specifier_cells = dt::cells(parent, "#interrupt-cells", 0);
    if (!specifier_cells) return std::unexpected{specifier_cells.error()};
    const std::size_t to = at + kKey + 1;
    const std::size_t end = to + *address_cells + *specifier_cells;
    if (!map.is_cells() || !parent || *specifier_cells == 0 || end > map.cells())
      return std::unexpected{dt::wrong(node, map, "a line has no interrupt parent, or is cut off",
                                       "PCI address, pin, phandle of the parent, its address and specifier")};
    std::array<std::uint32_t, 4> address{};
    std::array<std::uint32_t, 4> specifier{};
    for (std::size_t i = 0; i < *address_cells; ++i) address[i] = map.cell(to + i);
    for (std::size_t i = 0; i < *specifier_cells; ++i) specifier[i] = map.cell(to + *address_cells + i);
    const auto interrupt = dt::resolve_interrupt(node, map, parent, std::span{address}.first(*address_cells),
                                                 std::span{specifier}.first(*specifier_cells));
    if (!interrupt) return std::unexpected{interrupt.error()};
    if (!host.routes.push_back({.address = map.cell(at) & host.route_address_mask,
                                .pin = map.cell(at + kPciAddressCells) & host.route_pin_mask,
                                .interrupt = *interrupt}))
      return std::unexpected{dt::wrong(node, map, "too many lines", "at most 128")};
    at = end;
  }
  return {};
}

// Index of the enabled SMMU at `node`, by its registers: names are unique, too, but this needs no text.
std::optional<unsigned> smmu_at(Node node, const Platform& platform) {
  if (!node.compatible("arm,smmu-v3") || !node.enabled()) return std::nullopt;
  for (unsigned i = 0; i < platform.smmus.size(); ++i)
    if (platform.smmus[i].name == node.name()) return i;
  return std::nullopt;
}

Done read_streams(Node node, const Platform& platform, PciHost& host) {
  const Property map = node.property("iommu-map");
  const Property mask = node.property("iommu-map-mask");
  if (mask && mask.bytes() != 4) return std::unexpected{dt::wrong(node, mask, "not a mask", "one cell")};
  if (mask) host.rid_mask = mask.cell(0) & 0xffff;
  if (!map) return {};
  constexpr std::size_t kLine = 4;
  constexpr std::string_view kExpected = "lines of RID, phandle of an SMMU, StreamID, count";
  if (!map.is_cells() || map.cells() % kLine != 0)
    return std::unexpected{dt::wrong(node, map, "not a whole number of lines", kExpected)};
  for (std::size_t at = 0; at < map.cells(); at += kLine) {
    const Node iommu = node.by_phandle(map.cell(at + 1));
    if (!iommu) return std::unexpected{dt::wrong(node, map, "a phandle is in no node", kExpected)};
    const auto smmu = smmu_at(iommu, platform);
    if (!smmu) continue;  // not an SMMUv3, or switched off: these RIDs have no translation, so their devices stay out
    const auto cells = dt::cells(iommu, "#iommu-cells", 0);
    if (!cells) return std::unexpected{cells.error()};
    if (*cells != 1) return std::unexpected{dt::missing(iommu, "#iommu-cells", "1: a StreamID")};
    const StreamRange range{
        .rid = map.cell(at), .count = map.cell(at + 3), .smmu = *smmu, .stream = StreamID{map.cell(at + 2)}};
    if (range.count == 0 || range.count > 0x10000 || range.rid > 0x10000 - range.count ||
        range.stream.value > 0xffff'ffff - (range.count - 1))
      return std::unexpected{dt::wrong(node, map, "a line reaches beyond the last RID or StreamID", kExpected)};
    for (const StreamRange& other : host.streams)
      if (range.rid < other.rid + other.count && other.rid < range.rid + range.count)
        return std::unexpected{dt::wrong(node, map, "two lines contain the same RID", "disjoint lines")};
    if (!host.streams.push_back(range)) return std::unexpected{dt::wrong(node, map, "too many lines", "at most 32")};
  }
  return {};
}

}  // namespace

std::optional<Interrupt> PciHost::route(std::uint8_t bus, std::uint8_t devfn, unsigned pin) const {
  const std::uint32_t address = PhysHi{}.set<PhysHi::Bus>(bus).set<PhysHi::Devfn>(devfn).words[0] & route_address_mask;
  for (const PciInterruptRoute& route : routes)
    if (route.address == address && route.pin == (pin & route_pin_mask)) return route.interrupt;
  return std::nullopt;
}

std::optional<StreamRef> PciHost::stream(std::uint16_t rid) const {
  const std::uint32_t masked = rid & rid_mask;
  for (const StreamRange& range : streams)
    if (masked >= range.rid && masked - range.rid < range.count)
      return StreamRef{.smmu = range.smmu, .stream = StreamID{range.stream.value + (masked - range.rid)}};
  return std::nullopt;
}

Done discover_pci_host(Node node, Platform& platform) {
  const auto address_cells = dt::cells(node, "#address-cells", 0);
  if (!address_cells) return std::unexpected{address_cells.error()};
  const auto size_cells = dt::cells(node, "#size-cells", 0);
  if (!size_cells) return std::unexpected{size_cells.error()};
  const auto parent_cells = dt::cells(node.parent(), "#address-cells", 2);
  if (!parent_cells) return std::unexpected{parent_cells.error()};
  if (*address_cells != kPciAddressCells)
    return std::unexpected{dt::missing(node, "#address-cells", "3: a PCI address")};
  if (*size_cells != kPciSizeCells) return std::unexpected{dt::missing(node, "#size-cells", "2: a PCI size")};

  PciHost* host = platform.pci_hosts.add();
  if (host == nullptr) {
    dt::Line line;
    line << dt::PathOf{node} << ": too many PCI hosts; expected at most " << platform.pci_hosts.capacity;
    return std::unexpected{PlatformError{line}};
  }
  host->name = node.name();
  host->coherent = is_coherent(node);
  Done done = read_buses(node, *host);
  if (done) done = read_windows(node, *parent_cells, *host);
  if (done) done = read_interrupts(node, *host);
  if (done) done = read_streams(node, platform, *host);
  if (!done) return done;
  for (const PciHost& other : platform.pci_hosts)
    if (&other != host && other.segment == host->segment) {
      dt::Line line;
      line << dt::PathOf{node} << ": PCI segment " << host->segment << " is that of " << other.name
           << ", too; expected linux,pci-domain to give each host its own";
      return std::unexpected{PlatformError{line}};
    }
  return {};
}

}  // namespace weir
