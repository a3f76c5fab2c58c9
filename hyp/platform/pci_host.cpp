#include "hyp/platform/pci_host.hpp"

#include <algorithm>
#include <array>

#include "guest-abi/field.hpp"
#include "hyp/platform/discovery.hpp"
#include "hyp/platform/translate.hpp"

namespace weir {
namespace {

using discovery::Done;
using discovery::leave_out;
using discovery::leave_out_rest;
using dt::Node;
using dt::Property;

constexpr const char* kEcamGeneric = "pci-host-ecam-generic";

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

// `bus-range`, as far as the ECAM reaches.
Done read_buses(Node node, PciHost& host, Remarks& remarks) {
  const auto ecam = dt::reg(node, 0);
  if (!ecam) return std::unexpected{ecam.error()};
  host.ecam = *ecam;
  const std::uint64_t buses = host.ecam.bytes / kEcamBusBytes;
  if (buses == 0)
    return std::unexpected{dt::wrong(node, node.property("reg"), "too small for a bus", "1 MiB for each bus")};
  host.last_bus = static_cast<std::uint8_t>(std::min<std::uint64_t>(buses, 256) - 1);
  const Property range = node.property("bus-range");
  if (!range) return {};
  if (range.bytes() != 8 || range.cell(0) > range.cell(1) || range.cell(1) > 255)
    return std::unexpected{dt::wrong(node, range, "not a range of buses", "first and last bus, 0 to 255")};
  host.first_bus = static_cast<std::uint8_t>(range.cell(0));
  host.last_bus = static_cast<std::uint8_t>(range.cell(1));
  if (host.last_bus - host.first_bus + 1U > buses) {
    host.last_bus = static_cast<std::uint8_t>(host.first_bus + buses - 1);
    const auto why = dt::wrong(node, node.property("reg"), "too small for its bus-range", "1 MiB for each bus");
    leave_out(remarks, "the last buses are", why);
  }
  return {};
}

// One line of `ranges`.
std::expected<std::optional<PciWindow>, PlatformError> read_window(Node node, std::size_t parent_cells, std::size_t at,
                                                                   const Platform& platform) {
  const Property ranges = node.property("ranges");
  PhysHi hi;
  hi.words[0] = ranges.cell(at);
  PciWindow window{.kind = PciWindowKind::memory32,
                   .prefetchable = hi.get<PhysHi::Prefetchable>(),
                   .pci = ranges.number(at + 1, 2),
                   .cpu = PA{ranges.number(at + kPciAddressCells, parent_cells)},
                   .bytes = ranges.number(at + kPciAddressCells + parent_cells, kPciSizeCells)};
  switch (hi.get<PhysHi::SpaceCode>()) {
    case PhysHi::Space::configuration: return std::nullopt;
    case PhysHi::Space::io: window.kind = PciWindowKind::io; break;
    case PhysHi::Space::memory32: break;
    case PhysHi::Space::memory64: window.kind = PciWindowKind::memory64; break;
  }
  const std::uint64_t last = window.bytes - 1;
  if (window.bytes == 0 || window.pci + last < last || window.cpu.value + last < last) {
    dt::Line problem;
    problem << "the window of line " << at / (kPciAddressCells + parent_cells + kPciSizeCells) + 1
            << " is empty, or beyond the end of the address space";
    return std::unexpected{dt::wrong(node, ranges, problem.view(), "PCI address, CPU address, size")};
  }
  const auto physical = dt::translate(node.parent(), {.base = window.cpu, .bytes = window.bytes});
  if (!physical) return std::unexpected{physical.error()};
  window.cpu = physical->base;
  if (const auto ok = discovery::check_window(node, *physical, platform); !ok) return std::unexpected{ok.error()};
  return window;
}

Done read_windows(Node node, std::size_t parent_cells, PciHost& host, Platform& platform) {
  const Property ranges = node.property("ranges");
  if (!ranges) return std::unexpected{dt::missing(node, "ranges", "the windows of the host bridge")};
  const std::size_t line = kPciAddressCells + parent_cells + kPciSizeCells;
  if (!ranges.is_cells() || ranges.cells() % line != 0)
    return std::unexpected{dt::wrong(node, ranges, "not a whole number of lines", "PCI address, CPU address, size")};
  for (std::size_t at = 0; at < ranges.cells(); at += line) {
    const auto window = read_window(node, parent_cells, at, platform);
    if (!window) {
      leave_out(platform.remarks, "PCI window is", window.error());
    } else if (*window && !host.windows.push_back(**window)) {
      leave_out_rest(platform.remarks, "PCI windows are", node, host.windows.capacity);
      break;
    }
  }
  return {};
}

// The cells of a line of interrupt-map behind the key of kPciAddressCells and a pin.
struct MapLine {
  Node parent;
  std::size_t address_at{}, address_cells{};
  std::size_t specifier_at{}, specifier_cells{};
  std::size_t end{};
};

std::expected<MapLine, PlatformError> map_line(Node node, const Property& map, std::size_t at) {
  constexpr std::size_t kKey = kPciAddressCells + 1;
  MapLine line;
  line.parent = at + kKey < map.cells() ? node.by_phandle(map.cell(at + kKey)) : Node{};
  const auto address_cells = dt::cells(line.parent, "#address-cells", 0);
  if (!address_cells) return std::unexpected{address_cells.error()};
  const auto specifier_cells = dt::cells(line.parent, "#interrupt-cells", 0);
  if (!specifier_cells) return std::unexpected{specifier_cells.error()};
  line.address_at = at + kKey + 1;
  line.address_cells = *address_cells;
  line.specifier_at = line.address_at + *address_cells;
  line.specifier_cells = *specifier_cells;
  line.end = line.specifier_at + *specifier_cells;
  if (!map.is_cells() || !line.parent || *specifier_cells == 0 || line.end > map.cells())
    return std::unexpected{dt::wrong(node, map, "a line has no interrupt parent, or is cut off",
                                     "PCI address, pin, phandle of the parent, its address and specifier")};
  return line;
}

// INTx. A line that does not end at the GIC, as in the host's own controller, is left out: there are MSIs.
Done read_interrupts(Node node, PciHost& host, Remarks& remarks) {
  const Property map = node.property("interrupt-map");
  const Property mask = node.property("interrupt-map-mask");
  if (!map) return {};  // no INTx
  if (mask && mask.bytes() != (kPciAddressCells + 1) * 4)
    return std::unexpected{dt::wrong(node, mask, "not a mask", "four cells: PCI address and pin")};
  const auto pin_cells = dt::cells(node, "#interrupt-cells", 0);
  if (!pin_cells) return std::unexpected{pin_cells.error()};
  if (*pin_cells != 1) return std::unexpected{dt::missing(node, "#interrupt-cells", "1: an interrupt pin")};
  host.route_address_mask = mask ? mask.cell(0) : 0xffff'ffff;
  host.route_pin_mask = mask ? mask.cell(kPciAddressCells) : 0xffff'ffff;

  bool all = true;
  for (std::size_t at = 0; at < map.cells();) {
    const auto line = map_line(node, map, at);
    if (!line) return std::unexpected{line.error()};
    std::array<std::uint32_t, 4> address{};
    std::array<std::uint32_t, 4> specifier{};
    for (std::size_t i = 0; i < line->address_cells; ++i) address[i] = map.cell(line->address_at + i);
    for (std::size_t i = 0; i < line->specifier_cells; ++i) specifier[i] = map.cell(line->specifier_at + i);
    const auto interrupt = dt::resolve_interrupt(node, map, line->parent, std::span{address}.first(line->address_cells),
                                                 std::span{specifier}.first(line->specifier_cells));
    if (!interrupt && all) {
      leave_out(remarks, "INTx is", interrupt.error());
      all = false;
    }
    if (interrupt && !host.routes.push_back({.address = map.cell(at) & host.route_address_mask,
                                             .pin = map.cell(at + kPciAddressCells) & host.route_pin_mask,
                                             .interrupt = *interrupt})) {
      leave_out_rest(remarks, "lines of interrupt-map are", node, host.routes.capacity);
      return {};
    }
    at = line->end;
  }
  return {};
}

std::optional<unsigned> smmu_at(Node node, const Platform& platform) {
  for (unsigned i = 0; i < platform.smmus.size(); ++i)
    if (platform.smmus[i].node == node.offset()) return i;
  return std::nullopt;
}

// One line of iommu-map; none if its RIDs have no translation, so that their devices stay out.
std::expected<std::optional<StreamRange>, PlatformError> read_stream_range(Node node, std::size_t at,
                                                                           const Platform& platform) {
  constexpr std::string_view kExpected = "lines of RID, phandle of an SMMU, StreamID, count";
  const Property map = node.property("iommu-map");
  const Node iommu = node.by_phandle(map.cell(at + 1));
  if (!iommu) return std::unexpected{dt::wrong(node, map, "a phandle is in no node", kExpected)};
  const auto smmu = smmu_at(iommu, platform);
  if (!smmu) return std::nullopt;  // not an SMMUv3, switched off, or left out
  const auto cells = dt::cells(iommu, "#iommu-cells", 0);
  if (!cells) return std::unexpected{cells.error()};
  if (*cells != 1) return std::unexpected{dt::missing(iommu, "#iommu-cells", "1: a StreamID")};
  const StreamRange range{
      .rid = map.cell(at), .count = map.cell(at + 3), .smmu = *smmu, .stream = StreamID{map.cell(at + 2)}};
  if (range.count == 0 || range.count > 0x10000 || range.rid > 0x10000 - range.count ||
      range.stream.value > 0xffff'ffff - (range.count - 1))
    return std::unexpected{dt::wrong(node, map, "a line reaches beyond the last RID or StreamID", kExpected)};
  return range;
}

// Of lines that contain the same RID the first counts, as in Linux.
Done read_streams(Node node, PciHost& host, Platform& platform) {
  const Property map = node.property("iommu-map");
  const Property mask = node.property("iommu-map-mask");
  if (mask && mask.bytes() != 4) return std::unexpected{dt::wrong(node, mask, "not a mask", "one cell")};
  if (mask) host.rid_mask = mask.cell(0) & 0xffff;
  if (!map) return {};
  constexpr std::size_t kLine = 4;
  if (!map.is_cells() || map.cells() % kLine != 0)
    return std::unexpected{
        dt::wrong(node, map, "not a whole number of lines", "lines of RID, phandle of an SMMU, StreamID, count")};
  for (std::size_t at = 0; at < map.cells(); at += kLine) {
    const auto range = read_stream_range(node, at, platform);
    if (!range) {
      leave_out(platform.remarks, "line of iommu-map is", range.error());
      continue;
    }
    if (!*range) continue;
    for (const StreamRange& other : host.streams)
      if ((*range)->rid < other.rid + other.count && other.rid < (*range)->rid + (*range)->count) {
        const auto why = dt::wrong(node, map, "two lines contain the same RID", "disjoint lines");
        leave_out(platform.remarks, "RID of the second line is", why);
        break;
      }
    if (!host.streams.push_back(**range)) {
      leave_out_rest(platform.remarks, "lines of iommu-map are", node, host.streams.capacity);
      break;
    }
  }
  return {};
}

// linux,pci-domain; none if the host does not say.
std::expected<std::optional<std::uint16_t>, PlatformError> segment_of(Node node) {
  const Property domain = node.property("linux,pci-domain");
  if (!domain) return std::nullopt;
  if (domain.bytes() != 4 || domain.cell(0) > 0xffff)
    return std::unexpected{dt::wrong(node, domain, "not a PCI segment", "one cell, 0 to 0xffff")};
  return static_cast<std::uint16_t>(domain.cell(0));
}

bool segment_is_free(std::uint16_t segment, const PciHost& host, const Platform& platform) {
  return std::ranges::none_of(platform.pci_hosts,
                              [&](const PciHost& other) { return &other != &host && other.segment == segment; });
}

Done read_segment(Node node, PciHost& host, const Platform& platform) {
  const auto segment = segment_of(node);
  if (!segment) return std::unexpected{segment.error()};
  if (*segment) {
    host.segment = **segment;
    if (segment_is_free(host.segment, host, platform)) return {};
    dt::Line line;
    line << dt::PathOf{node} << ": PCI segment " << host.segment
         << " is that of another host, too; expected linux,pci-domain to give each its own";
    return std::unexpected{PlatformError{line}};
  }
  while (!segment_is_free(host.segment, host, platform)) ++host.segment;
  return {};
}

Done read_host(Node node, PciHost& host, Platform& platform) {
  const auto address_cells = dt::cells(node, "#address-cells", 0);
  if (!address_cells) return std::unexpected{address_cells.error()};
  const auto size_cells = dt::cells(node, "#size-cells", 0);
  if (!size_cells) return std::unexpected{size_cells.error()};
  const auto parent_cells = dt::cells(node.parent(), "#address-cells", 2);
  if (!parent_cells) return std::unexpected{parent_cells.error()};
  if (*address_cells != kPciAddressCells)
    return std::unexpected{dt::missing(node, "#address-cells", "3: a PCI address")};
  if (*size_cells != kPciSizeCells) return std::unexpected{dt::missing(node, "#size-cells", "2: a PCI size")};

  host.name = node.name();
  host.coherent = is_coherent(node);
  Done done = read_buses(node, host, platform.remarks);
  if (done) done = discovery::check_window(node, host.ecam, platform);
  if (done) done = read_windows(node, *parent_cells, host, platform);
  if (done) done = read_streams(node, host, platform);
  if (done) done = read_segment(node, host, platform);
  if (!done) return done;
  if (const auto ok = read_interrupts(node, host, platform.remarks); !ok) {
    leave_out(platform.remarks, "INTx is", ok.error());
    host.routes.clear();
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

namespace discovery {

namespace {

void discover_pci_host(Node node, Platform& platform) {
  PciHost* const host = platform.pci_hosts.add();
  if (host == nullptr) {
    ++platform.pci_hosts_beyond;
    return;
  }
  if (const auto done = read_host(node, *host, platform); !done) {
    platform.pci_hosts.erase(platform.pci_hosts.size() - 1);
    leave_out(platform.remarks, "PCI host is", done.error());
  }
}

}  // namespace

// Hosts that name their segment come first: the others take what is left.
void discover_pci_hosts(Node root, Platform& platform) {
  for (const bool named : {true, false})
    for (Node n = next_compatible(root, kEcamGeneric); n; n = next_compatible(n, kEcamGeneric))
      if (n.has("linux,pci-domain") == named) discover_pci_host(n, platform);
  if (platform.pci_hosts_beyond != 0) {
    dt::Line what;
    what << platform.pci_hosts_beyond << " PCI hosts are";
    leave_out_rest(platform.remarks, what.view(), root, platform.pci_hosts.capacity);
  }
  for (Node n = root.next(); n; n = n.next()) {
    // Below a host there are nodes for bridges, of the same device_type.
    if (n.property("device_type").string(0) != "pci" || n.parent().property("device_type").string(0) == "pci") continue;
    if (n.compatible(kEcamGeneric) || !n.enabled()) continue;
    ++platform.pci_hosts_of_other_kinds;
    const auto why = dt::wrong(n, n.property("compatible"), "a kind of PCI host that Weir cannot drive",
                               "\"pci-host-ecam-generic\"");
    leave_out(platform.remarks, "PCI host is", why);
  }
}

}  // namespace discovery
}  // namespace weir
