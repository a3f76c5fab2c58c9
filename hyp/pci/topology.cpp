#include "hyp/pci/topology.hpp"

#include <algorithm>

#include "hyp/pci/capabilities.hpp"
#include "hyp/pci/known_state.hpp"

namespace weir::pci {
namespace {

constexpr unsigned kDevices = 32;
constexpr unsigned kFunctions = 8;
constexpr unsigned kBridgeBars = 2;

// INTA..INTD of a device, as it leaves the bridge above (PCI-to-PCI Bridge Architecture, 9.1).
constexpr unsigned swizzle(unsigned pin, unsigned device) { return (pin - 1 + device) % 4 + 1; }

// Functions that are a part of the machine, by class code: no driver in a VM could do anything with them.
const char* problem_of(std::uint32_t class_code) {
  constexpr std::uint32_t kBridge = 0x06, kIommu = 0x0806, kEventCollector = 0x0807;
  if (class_code >> 16 == kBridge) return "a host bridge, or another that belongs to the machine";
  if (class_code >> 8 == kIommu) return "an IOMMU";
  if (class_code >> 8 == kEventCollector) return "a root complex event collector";
  return nullptr;
}

std::optional<PortType> port_type(ConfigPort& config, Rid rid) {
  std::optional<PortType> type;
  for_each_capability(config, rid, [&](std::uint16_t, CapabilityHeader header) {
    if (header.get<CapabilityHeader::Id>() == kCapExpress)
      type = ExpressHeader{{{header.words[0]}}}.get<ExpressHeader::Port>();
  });
  return type;
}

// Calls fn(offset of the Control, Acs) if the function has Access Control Services.
template <typename Fn>
void with_acs(ConfigPort& config, Rid rid, Fn&& fn) {
  for_each_extended_capability(config, rid, [&](std::uint16_t at, ExtendedCapability header) {
    const auto control = static_cast<std::uint16_t>(at + kAcsControl);
    if (header.get<ExtendedCapability::Id>() == kExtendedAcs && control + 4 <= kConfigEnd)
      fn(control, Acs{{{config.read(rid, control, 4)}}});
  });
}

// What passes between functions below one port passes the SMMU too: source validation, no translated requests, requests
// and completions redirected upstream, as far as the function offers it; and no way past that.
void isolate(ConfigPort& config, Rid rid) {
  with_acs(config, rid, [&](std::uint16_t control, Acs acs) {
    config.write(rid, control, 4, acs.set<Acs::Enabled>(acs.get<Acs::Offered>()).set<Acs::Direct>(0).words[0]);
  });
}

}  // namespace

struct Topology::Scan {
  ConfigPort& config;
  const PciHost& host;
  Ranges ranges;
  unsigned next_bus = 0;  // the next number for the bus behind a bridge
  unsigned bus_end = 0;   // the next root bus, or one past the last number
  // The bridges above what is being scanned, and the device number of each hop: INTx is swizzled up to the root bus.
  StaticVector<BridgeHop, TopologyPath::kMaxDepth> above{};
  std::array<std::uint8_t, TopologyPath::kMaxDepth> devices{};

  [[nodiscard]] bool present(Rid rid) const { return config.read(rid, kVendorId, 2) != (kAbsent & 0xffff); }
  [[nodiscard]] bool multi_function(Rid rid) const {
    return HeaderType{{{config.read(rid, kHeaderType, 1)}}}.get<HeaderType::MultiFunction>();
  }
  // Calls fn(rid) for each function on `bus`.
  template <typename Fn>
  void for_each(unsigned bus, Fn&& fn) const {
    for (unsigned device = 0; device < kDevices; ++device) {
      if (!present(Rid{bus, device, 0})) continue;
      const unsigned functions = multi_function(Rid{bus, device, 0}) ? kFunctions : 1;
      for (unsigned function = 0; function < functions; ++function)
        if (present(Rid{bus, device, function})) fn(Rid{bus, device, function});
    }
  }
};

// All of the function's memory BARs have addresses, or none, and then it cannot be used. False: decoding must stay off.
bool Topology::assign_bars(Scan& scan, Function& function) {
  const unsigned slots = function.bridge ? kBridgeBars : kBars;
  Ranges ranges = scan.ranges;
  bool usable = true;
  for (unsigned i = 0; i < slots;) {
    const unsigned bar = i;
    BarDemand demand = size_bar(scan.config, function.rid, bar, slots);
    BarInfo& info = function.bars[bar];
    info = demand.info;
    i += demand.slots();
    std::uint64_t address = 0;
    if (info.bytes != 0) {
      const auto place = place_bar(ranges, demand, info);
      if (!place) demand.fault = info.io ? BarFault::no_io_address : BarFault::no_address;
      address = place.value_or(0);
    }
    if (!set_bar(scan.config, function.rid, bar, info, address))
      demand.fault = info.io ? BarFault::no_io_address : BarFault::fixed;
    if (demand.fault == BarFault::none) continue;
    remark({.what = Remark::What::bar,
            .path = function.path,
            .fault = demand.fault,
            .bar = static_cast<std::uint8_t>(bar),
            .value = info.bytes != 0 ? info.bytes : demand.raw});
    info.bytes = 0;
    usable = usable && !is_fatal(demand.fault);
  }
  if (usable) {
    scan.ranges = ranges;
    return true;
  }
  for (unsigned i = 0; i < slots; ++i) static_cast<void>(set_bar(scan.config, function.rid, i, {}, 0));
  function.bars = {};
  function.problem = "a BAR that has no address";
  return false;
}

void Topology::find_streams(const Scan& scan, Function& function) {
  const auto ids =
      requester_ids(function.rid, function.vendor, function.device_id, {scan.above.data(), scan.above.size()});
  if (!ids) {
    remark({.what = Remark::What::too_many_ids, .path = function.path});
    return;
  }
  for (const Rid id : *ids) {
    const auto stream = scan.host.stream(static_cast<std::uint16_t>(id.value()));
    if (!stream) return function.streams.clear();  // what arrives under this one is not translated
    if (std::ranges::find(function.streams, *stream) == function.streams.end())
      static_cast<void>(function.streams.push_back(*stream));  // as many as there are IDs
  }
  for (std::size_t i = 0; i < scan.above.size(); ++i) {
    if (!replaces_ids(scan.above[i])) continue;
    function.requester = function.path;
    function.requester.depth = static_cast<std::uint8_t>(i + 1);
    for (std::size_t hop = i + 1; hop < TopologyPath::kMaxDepth; ++hop) function.requester.devfn[hop] = 0;
    return;
  }
}

// Each function is in the group of the first one that it shares a stream with, or that shares one with such a one.
void Topology::find_groups() {
  for (unsigned i = 0; i < count_; ++i) functions_[i].group = i;
  const auto share = [](const Function& a, const Function& b) {
    return std::ranges::find_first_of(a.streams, b.streams) != a.streams.end();
  };
  for (unsigned i = 0; i < count_; ++i)
    for (unsigned j = 0; j < i; ++j) {
      const unsigned from = std::max(functions_[i].group, functions_[j].group);
      const unsigned to = std::min(functions_[i].group, functions_[j].group);
      if (from == to || !share(functions_[i], functions_[j])) continue;
      for (unsigned k = 0; k <= i; ++k)
        if (functions_[k].group == from) functions_[k].group = to;
    }
}

void Topology::enumerate(ConfigPort& config, const PciHost& host) {
  Scan scan{.config = config, .host = host, .ranges = ranges_of(host)};
  // Close every bridge, lowest bus first: what still answers afterwards is on a root bus.
  std::array<bool, 256> root{};
  for (unsigned bus = host.first_bus; bus <= host.last_bus; ++bus)
    scan.for_each(bus, [&](Rid rid) {
      root[bus] = true;
      bring_to_known_state(config, rid);
    });
  for (unsigned bus = host.first_bus; bus <= host.last_bus; ++bus) {
    if (!root[bus]) continue;
    scan.next_bus = bus + 1;
    scan.bus_end = bus + 1;
    while (scan.bus_end <= host.last_bus && !root[scan.bus_end]) ++scan.bus_end;
    TopologyPath path{};
    path.segment = host.segment;
    path.root_bus = static_cast<std::uint8_t>(bus);
    scan_bus(scan, bus, path);
  }
  find_groups();
}

void Topology::scan_bus(Scan& scan, unsigned bus, const TopologyPath& above) {
  scan.for_each(bus, [&](Rid rid) { scan_function(scan, rid, above); });
}

void Topology::scan_function(Scan& scan, Rid rid, const TopologyPath& above) {
  bring_to_known_state(scan.config, rid);
  isolate(scan.config, rid);
  const auto hop = above.depth;
  TopologyPath path = above;
  path.depth = static_cast<std::uint8_t>(hop + 1);
  path.devfn[hop] = static_cast<std::uint8_t>(rid.value());
  if (count_ == kMaxFunctions) {
    if (std::ranges::find(remarks_, Remark::What::too_many_functions, &Remark::what) == remarks_.end())
      remark({.what = Remark::What::too_many_functions, .path = path});
    return;
  }
  Function& function = functions_[count_];
  function = {.rid = rid,
              .path = path,
              .vendor = static_cast<std::uint16_t>(scan.config.read(rid, kVendorId, 2)),
              .device_id = static_cast<std::uint16_t>(scan.config.read(rid, kDeviceId, 2)),
              .class_code = scan.config.read(rid, kRevision, 4) >> 8,
              .bridge = is_bridge(scan.config, rid),
              .bars = {},
              .streams = {},
              .requester = {},
              .line = {}};
  const HeaderType header{{{scan.config.read(rid, kHeaderType, 1)}}};
  if (!scan.present(rid)) return remark({.what = Remark::What::vanished, .path = path});
  ++count_;
  function.problem = function.bridge ? "a bridge" : problem_of(function.class_code);
  if (!function.bridge && header.get<HeaderType::Kind>() != kHeaderEndpoint) {
    function.problem = "of a header type that there is not";
    return remark({.what = Remark::What::bad_header, .path = path, .value = header.get<HeaderType::Kind>()});
  }
  const auto ignore = [](std::uint16_t, auto) {};
  if (!walk_capabilities(scan.config, rid, ignore) || !walk_extended_capabilities(scan.config, rid, ignore))
    remark({.what = Remark::What::bad_list, .path = path});
  scan.devices[hop] = static_cast<std::uint8_t>(rid.device());
  if (unsigned pin = scan.config.read(rid, kInterruptPin, 1); pin >= 1 && pin <= 4) {
    for (unsigned i = hop; i > 0; --i) pin = swizzle(pin, scan.devices[i]);
    function.line = scan.host.route(above.root_bus, path.devfn[0], pin);
  }
  find_streams(scan, function);
  if (assign_bars(scan, function)) {
    if (function.bridge) open_bridge(scan, function);
  } else if (function.bridge) {
    remark({.what = Remark::What::fixed_bridge, .path = path});
  }
}

void Topology::open_bridge(Scan& scan, Function& bridge) {
  if (bridge.path.depth == TopologyPath::kMaxDepth)
    return remark({.what = Remark::What::too_deep, .path = bridge.path});
  if (scan.next_bus >= scan.bus_end) return remark({.what = Remark::What::no_bus_number, .path = bridge.path});
  const unsigned secondary = scan.next_bus++;
  const Ranges outer = scan.ranges;
  const Ranges inner = behind_bridge(scan.config, bridge.rid, outer);

  // While its bus is scanned, everything up to the next root bus lies behind the bridge.
  BusNumbers numbers{};
  numbers.set<BusNumbers::Primary>(bridge.rid.bus()).set<BusNumbers::Secondary>(secondary);
  const auto set_subordinate = [&](unsigned last) {
    scan.config.write(bridge.rid, kBusNumbers, 4, numbers.set<BusNumbers::Subordinate>(last).words[0]);
  };
  set_subordinate(scan.bus_end - 1);
  scan.ranges = inner;
  static_cast<void>(scan.above.push_back({bridge.rid, secondary, port_type(scan.config, bridge.rid)}));
  scan_bus(scan, secondary, bridge.path);
  scan.above.erase(scan.above.size() - 1);
  set_subordinate(scan.next_bus - 1);

  // Whole granules of each window are the bridge's.
  const auto used = [](const Range& before, const Range& after, std::uint64_t granule) {
    return before.next == after.next ? before.next : (after.next + granule - 1) & ~(granule - 1);
  };
  Ranges end = scan.ranges;
  end.io.next = used(inner.io, end.io, kIoGranule);
  end.memory32.next = used(inner.memory32, end.memory32, kWindowGranule);
  end.memory64.next = used(inner.memory64, end.memory64, kWindowGranule);
  open_windows(scan.config, bridge.rid, inner, end);
  scan.ranges = outer;
  if (end.io.next != inner.io.next) scan.ranges.io.next = end.io.next;
  if (end.memory32.next != inner.memory32.next) scan.ranges.memory32.next = end.memory32.next;
  if (end.memory64.next != inner.memory64.next) scan.ranges.memory64.next = end.memory64.next;
  // Forward both ways. Which functions behind it may start DMA is each function's own Bus Master bit and its STE.
  scan.config.write(bridge.rid, kCommand, 2,
                    pci::Command{}
                        .set<pci::Command::Io>(end.io.next != inner.io.next)
                        .set<pci::Command::Memory>(true)
                        .set<pci::Command::BusMaster>(true)
                        .set<pci::Command::IntxDisable>(true)
                        .words[0]);
}

void Topology::pass_translated(ConfigPort& config, const Function& function) const {
  for (const Function& bridge : functions()) {
    if (!bridge.bridge || !bridge.path.above(function.path)) continue;
    with_acs(config, bridge.rid, [&](std::uint16_t control, Acs acs) {
      const unsigned on = acs.get<Acs::Enabled>() & ~Acs::kTranslationBlocking;
      config.write(bridge.rid, control, 4, acs.set<Acs::Enabled>(on).words[0]);
    });
  }
}

const Function* Topology::find(const TopologyPath& path) const {
  const auto it = std::ranges::find(functions(), path, &Function::path);
  return it == functions().end() ? nullptr : &*it;
}

void Topology::remark(const Remark& remark) {
  if (!remarks_.push_back(remark)) ++remarks_lost_;
}

void print(TextBuffer& text, const Remark& remark) {
  using enum Remark::What;
  std::array<char, TopologyPath::kMaxText> path{};
  text.put("PCI function ").put(remark.path.print(path)).put(": ");
  switch (remark.what) {
    case too_many_functions: text.put("skipped: more than ").dec(kMaxFunctions).put(" functions"); return;
    case too_deep: text.put("nothing behind this bridge is used: too many bridges behind one another"); return;
    case no_bus_number: text.put("nothing behind this bridge is used: no bus number is left for it"); return;
    case fixed_bridge: text.put("nothing behind this bridge is used: its BARs cannot be assigned"); return;
    case vanished: text.put("skipped: it does not answer any more"); return;
    case bad_header: text.put("skipped: header type ").hex(remark.value); return;
    case bad_list: text.put("its list of capabilities loops or leaves its range: used up to there"); return;
    case too_many_ids: text.put("skipped: its DMA may have too many Requester IDs"); return;
    case bar: break;
  }
  text.put("BAR ").dec(remark.bar).put(", ");
  if (remark.fault == BarFault::no_address || remark.fault == BarFault::no_io_address) {
    text.dec(remark.value).put(" bytes, ");
  } else {
    text.hex(remark.value, 8).put(", ");
  }
  text.put(to_string(remark.fault));
}

}  // namespace weir::pci
