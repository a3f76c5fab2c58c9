#include "hyp/pci/topology.hpp"

#include <algorithm>
#include <bit>

#include "hyp/pci/capabilities.hpp"

namespace weir::pci {
namespace {

constexpr unsigned kDevices = 32;
constexpr unsigned kFunctions = 8;

// Addresses of one window, given out upwards.
struct Cursor {
  std::uint64_t next = 0;
  std::uint64_t end = 0;

  [[nodiscard]] bool align(std::uint64_t granule) {
    next = (next + granule - 1) & ~(granule - 1);
    return next <= end;
  }
  // `bytes` is a power of two; naturally aligned.
  [[nodiscard]] std::optional<std::uint64_t> take(std::uint64_t bytes) {
    if (!align(bytes) || end - next < bytes) return std::nullopt;
    next += bytes;
    return next - bytes;
  }
};

Cursor cursor_of(const PciHost& host, PciWindowKind kind) {
  for (const PciWindow& window : host.windows)
    // Weir's BARs and the CPU's addresses are the same numbers; a host that translates offers nothing here.
    if (window.kind == kind && window.pci == window.cpu.value) return {window.pci, window.pci + window.bytes};
  return {};
}

// INTA..INTD of a device, as it leaves the bridge above (PCI-to-PCI Bridge Architecture, 9.1).
constexpr unsigned swizzle(unsigned pin, unsigned device) { return (pin - 1 + device) % 4 + 1; }

}  // namespace

const char* to_string(EnumerationError error) {
  switch (error) {
    case EnumerationError::too_many_functions: return "too many functions";
    case EnumerationError::too_deep: return "too many bridges behind one another";
    case EnumerationError::no_bus_number: return "no bus numbers left below the next root bus";
    case EnumerationError::no_address: return "a memory window is full";
  }
  return "?";
}

struct Topology::Scan {
  ConfigPort& config;
  const PciHost& host;
  Cursor memory32;
  Cursor memory64;
  unsigned next_bus = 0;  // the next number for the bus behind a bridge
  unsigned bus_end = 0;   // the next root bus, or one past the last number
  // For each hop, the device number: INTx is swizzled from the function up to the root bus.
  std::array<std::uint8_t, TopologyPath::kMaxDepth> devices{};

  [[nodiscard]] bool present(Rid rid) const { return config.read(rid, kVendorId, 2) != (kAbsent & 0xffff); }
  [[nodiscard]] bool multi_function(Rid rid) const {
    return HeaderType{{{config.read(rid, kHeaderType, 1)}}}.get<HeaderType::MultiFunction>();
  }
  [[nodiscard]] bool is_bridge(Rid rid) const {
    return HeaderType{{{config.read(rid, kHeaderType, 1)}}}.get<HeaderType::Kind>() == kHeaderBridge;
  }
  // Calls fn(rid) for each function on `bus` until it returns false.
  template <typename Fn>
  void for_each(unsigned bus, Fn&& fn) const {
    for (unsigned device = 0; device < kDevices; ++device) {
      if (!present(Rid{bus, device, 0})) continue;
      const unsigned functions = multi_function(Rid{bus, device, 0}) ? kFunctions : 1;
      for (unsigned function = 0; function < functions; ++function)
        if (present(Rid{bus, device, function}) && !fn(Rid{bus, device, function})) return;
    }
  }
  // What passes between functions below one port passes the SMMU too: source validation, no translated requests, requests
  // and completions redirected upstream, as far as the function offers it.
  void isolate(Rid rid) const {
    for_each_extended_capability(config, rid, [&](std::uint16_t at, ExtendedCapability header) {
      if (header.get<ExtendedCapability::Id>() != kExtendedAcs) return;
      const auto control = static_cast<std::uint16_t>(at + kAcsControl);
      Acs acs{{{config.read(rid, control, 4)}}};
      config.write(rid, control, 4, acs.set<Acs::Enabled>(acs.get<Acs::Offered>()).words[0]);
    });
  }
  // Quiet: no decoding, no DMA, no ATS, no interrupts of any kind.
  void silence(Rid rid) const {
    config.write(rid, kCommand, 2, pci::Command{}.set<pci::Command::IntxDisable>(true).words[0]);
    for_each_capability(config, rid, [&](std::uint16_t at, CapabilityHeader header) {
      if (header.get<CapabilityHeader::Id>() == kCapMsi)
        config.write(rid, at, 4, MsiControl{{{header.words[0]}}}.set<MsiControl::Enable>(false).words[0]);
      if (header.get<CapabilityHeader::Id>() == kCapMsix)
        config.write(rid, at, 4, MsixControl{{{header.words[0]}}}.set<MsixControl::Enable>(false).words[0]);
    });
    disable_translation_services(config, rid);
  }
  [[nodiscard]] bool assign_bars(Function& function, unsigned slots);
};

// The bits of a BAR that can be set are its size (7.5.1.2.1).
bool Topology::Scan::assign_bars(Function& function, unsigned slots) {
  for (unsigned i = 0; i < slots; ++i) {
    const auto at = static_cast<std::uint16_t>(kBar0 + 4 * i);
    config.write(function.rid, at, 4, kAbsent);
    const Bar low{{{config.read(function.rid, at, 4)}}};
    if (low.words[0] == 0) continue;
    if (low.get<Bar::Io>()) {
      config.write(function.rid, at, 4, 0);
      continue;
    }
    BarInfo& bar = function.bars[i];
    bar.wide = low.get<Bar::Wide>() && i + 1 < slots;
    bar.prefetchable = low.get<Bar::Prefetchable>();
    std::uint64_t settable = low.get<Bar::Base>() | ~std::uint64_t{0xffffffff};
    if (bar.wide) {
      config.write(function.rid, static_cast<std::uint16_t>(at + 4), 4, kAbsent);
      settable =
          std::uint64_t{config.read(function.rid, static_cast<std::uint16_t>(at + 4), 4)} << 32 | low.get<Bar::Base>();
    }
    // A page is never shared between two functions: stage 2 maps pages.
    bar.bytes = std::max<std::uint64_t>(std::uint64_t{1} << std::countr_zero(settable), kPage4K);
    Cursor& cursor = bar.wide && bar.prefetchable && memory64.end != 0 ? memory64 : memory32;
    const auto base = cursor.take(bar.bytes);
    if (!base) return false;
    bar.base = PA{*base};
    config.write(function.rid, at, 4, static_cast<std::uint32_t>(*base));
    if (bar.wide) {
      config.write(function.rid, static_cast<std::uint16_t>(at + 4), 4, static_cast<std::uint32_t>(*base >> 32));
      ++i;
    }
  }
  return true;
}

std::expected<void, EnumerationError> Topology::enumerate(ConfigPort& config, const PciHost& host) {
  Scan scan{.config = config,
            .host = host,
            .memory32 = cursor_of(host, PciWindowKind::memory32),
            .memory64 = cursor_of(host, PciWindowKind::memory64)};
  // Close every bridge, lowest bus first: what still answers afterwards is on a root bus.
  std::array<bool, 256> root{};
  for (unsigned bus = host.first_bus; bus <= host.last_bus; ++bus) {
    scan.for_each(bus, [&](Rid rid) {
      root[bus] = true;
      scan.silence(rid);
      if (scan.is_bridge(rid)) config.write(rid, kBusNumbers, 4, 0);
      return true;
    });
  }
  for (unsigned bus = host.first_bus; bus <= host.last_bus; ++bus) {
    if (!root[bus]) continue;
    scan.next_bus = bus + 1;
    scan.bus_end = bus + 1;
    while (scan.bus_end <= host.last_bus && !root[scan.bus_end]) ++scan.bus_end;
    TopologyPath path{};
    path.segment = host.segment;
    path.root_bus = static_cast<std::uint8_t>(bus);
    if (auto ok = scan_bus(scan, bus, path); !ok) return ok;
  }
  return {};
}

std::expected<void, EnumerationError> Topology::scan_bus(Scan& scan, unsigned bus, const TopologyPath& above) {
  if (above.depth == TopologyPath::kMaxDepth) return std::unexpected{EnumerationError::too_deep};
  Result result{};
  scan.for_each(bus, [&](Rid rid) {
    result = scan_function(scan, rid, above);
    return result.has_value();
  });
  return result;
}

std::expected<void, EnumerationError> Topology::scan_function(Scan& scan, Rid rid, const TopologyPath& above) {
  if (count_ == kMaxFunctions) return std::unexpected{EnumerationError::too_many_functions};
  Function& function = functions_[count_++];
  scan.silence(rid);
  scan.isolate(rid);
  function = {.rid = rid,
              .path = above,
              .vendor = static_cast<std::uint16_t>(scan.config.read(rid, kVendorId, 2)),
              .device_id = static_cast<std::uint16_t>(scan.config.read(rid, kDeviceId, 2)),
              .class_code = scan.config.read(rid, kRevision, 4) >> 8,
              .bridge = scan.is_bridge(rid),
              .bars = {},
              .stream = scan.host.stream(static_cast<std::uint16_t>(rid.value())),
              .line = {}};
  const auto hop = above.depth;
  function.path.depth = static_cast<std::uint8_t>(hop + 1);
  function.path.devfn[hop] = static_cast<std::uint8_t>(rid.value());
  scan.devices[hop] = static_cast<std::uint8_t>(rid.device());

  if (unsigned pin = scan.config.read(rid, kInterruptPin, 1); pin >= 1 && pin <= 4) {
    for (unsigned i = hop; i > 0; --i) pin = swizzle(pin, scan.devices[i]);
    function.line = scan.host.route(above.root_bus, function.path.devfn[0], pin);
  }
  if (!scan.assign_bars(function, function.bridge ? 2 : kBars)) return std::unexpected{EnumerationError::no_address};
  if (function.bridge) return open_bridge(scan, function);
  return {};
}

std::expected<void, EnumerationError> Topology::open_bridge(Scan& scan, const Function& bridge) {
  if (scan.next_bus >= scan.bus_end) return std::unexpected{EnumerationError::no_bus_number};
  if (!scan.memory32.align(kWindowGranule) || !scan.memory64.align(kWindowGranule))
    return std::unexpected{EnumerationError::no_address};
  const unsigned secondary = scan.next_bus++;
  const std::uint64_t base32 = scan.memory32.next;
  const std::uint64_t base64 = scan.memory64.next;

  // While its bus is scanned, everything up to the next root bus lies behind the bridge.
  BusNumbers numbers{};
  numbers.set<BusNumbers::Primary>(bridge.rid.bus()).set<BusNumbers::Secondary>(secondary);
  const auto set_subordinate = [&](unsigned last) {
    scan.config.write(bridge.rid, kBusNumbers, 4, numbers.set<BusNumbers::Subordinate>(last).words[0]);
  };
  set_subordinate(scan.bus_end - 1);
  if (auto ok = scan_bus(scan, secondary, bridge.path); !ok) return ok;
  set_subordinate(scan.next_bus - 1);

  if (!scan.memory32.align(kWindowGranule) || !scan.memory64.align(kWindowGranule))
    return std::unexpected{EnumerationError::no_address};
  // An empty window has its limit below its base.
  const auto window = [](std::uint64_t base, std::uint64_t end) {
    const bool empty = base == end;
    return Window{}
        .set<Window::Base>(empty ? static_cast<std::uint32_t>(Window::Base::max)
                                 : static_cast<std::uint32_t>(base >> 20))
        .set<Window::Limit>(empty ? 0 : static_cast<std::uint32_t>((end - 1) >> 20));
  };
  const std::uint64_t end32 = scan.memory32.next;
  const std::uint64_t end64 = scan.memory64.next;
  scan.config.write(bridge.rid, kMemoryWindow, 4, window(base32, end32).words[0]);
  scan.config.write(bridge.rid, kPrefetchWindow, 4, window(base64, end64).words[0]);
  scan.config.write(bridge.rid, kPrefetchBaseUpper, 4, base64 == end64 ? 0 : static_cast<std::uint32_t>(base64 >> 32));
  scan.config.write(bridge.rid, kPrefetchLimitUpper, 4,
                    base64 == end64 ? 0 : static_cast<std::uint32_t>((end64 - 1) >> 32));
  scan.config.write(bridge.rid, kIoUpper, 4, 0);
  // Forward both ways. Which functions behind it may start DMA is each function's own Bus Master bit and its STE.
  scan.config.write(bridge.rid, kCommand, 2,
                    pci::Command{}
                        .set<pci::Command::Memory>(true)
                        .set<pci::Command::BusMaster>(true)
                        .set<pci::Command::IntxDisable>(true)
                        .words[0]);
  return {};
}

void Topology::pass_translated(ConfigPort& config, const Function& function) const {
  for (const Function& bridge : functions()) {
    if (!bridge.bridge || !bridge.path.above(function.path)) continue;
    for_each_extended_capability(config, bridge.rid, [&](std::uint16_t at, ExtendedCapability header) {
      if (header.get<ExtendedCapability::Id>() != kExtendedAcs) return;
      const auto control = static_cast<std::uint16_t>(at + kAcsControl);
      Acs acs{{{config.read(bridge.rid, control, 4)}}};
      const unsigned on = acs.get<Acs::Enabled>() & ~Acs::kTranslationBlocking;
      config.write(bridge.rid, control, 4, acs.set<Acs::Enabled>(on).words[0]);
    });
  }
}

const Function* Topology::find(const TopologyPath& path) const {
  const auto it = std::ranges::find(functions(), path, &Function::path);
  return it == functions().end() ? nullptr : &*it;
}

}  // namespace weir::pci
