#include "hyp/pci/resources.hpp"

#include <algorithm>

namespace weir::pci {
namespace {

constexpr std::uint64_t k4GiB = std::uint64_t{1} << 32;
constexpr std::uint64_t kIo16 = std::uint64_t{1} << 16;

constexpr std::uint32_t low(std::uint64_t v) { return static_cast<std::uint32_t>(v); }
constexpr std::uint32_t high(std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); }
constexpr std::uint64_t align_up(std::uint64_t v, std::uint64_t granule) { return (v + granule - 1) & ~(granule - 1); }
constexpr std::uint16_t bar_at(unsigned bar) { return static_cast<std::uint16_t>(kBar0 + 4 * bar); }

Range range_of(const PciHost& host, PciWindowKind kind, std::uint64_t limit) {
  Range best;
  for (const PciWindow& window : host.windows) {
    if (window.kind != kind || window.pci >= limit) continue;
    const std::uint64_t first = std::max<std::uint64_t>(window.pci, kPage4K);
    const std::uint64_t end = window.pci + std::min(window.bytes, limit - window.pci);
    const std::uint64_t to_cpu = window.cpu.value - window.pci;
    if (to_cpu % kPage4K != 0 || end <= first) continue;  // stage 2 maps pages
    if (end - first > best.end - best.next) best = {first, end, to_cpu};
  }
  return best;
}

// The bits of a BAR that can be set are its size (7.5.1.2.1): those from some bit on upwards.
constexpr std::uint64_t size_of(std::uint64_t settable) { return settable & (~settable + 1); }
constexpr bool is_size(std::uint64_t settable, std::uint64_t all) {
  return settable == (all & ~(size_of(settable) - 1));
}

BarDemand io_bar(std::uint32_t raw) {
  BarDemand demand{.raw = raw};
  demand.info.io = true;
  const std::uint64_t bits = IoBar{{{raw}}}.get<IoBar::Base>();
  if (bits == 0) {
    demand.fault = BarFault::no_size;
    return demand;
  }
  const std::uint64_t settable = bits | (k4GiB - kIo16);  // those of 16 bits do without the upper half
  if (!is_size(settable, k4GiB - 1)) {
    demand.fault = BarFault::bad_size;
    return demand;
  }
  demand.info.bytes = std::max<std::uint64_t>(size_of(settable), kIoGranule);
  return demand;
}

}  // namespace

const char* to_string(BarFault fault) {
  switch (fault) {
    case BarFault::none: return "as it should be";
    case BarFault::no_size: return "has type bits and no size: taken as absent";
    case BarFault::bad_size: return "has a size that is no power of two: taken as absent";
    case BarFault::bad_type: return "is of a type that there is not: taken as absent";
    case BarFault::no_upper_half: return "is 64-bit and in the last slot: taken as absent";
    case BarFault::fixed: return "does not take an address: the function cannot be used";
    case BarFault::no_address: return "finds no room in the host's windows: the function cannot be used";
    case BarFault::no_io_address: return "finds no room in an I/O window: taken as absent";
  }
  return "?";
}

std::optional<std::uint64_t> Range::take(std::uint64_t bytes) {
  const std::uint64_t at = align_up(next, bytes);
  if (at < next || at > end || end - at < bytes) return std::nullopt;
  next = at + bytes;
  return at;
}

Range Range::within(std::uint64_t granule) const {
  const Range inner{align_up(next, granule), end & ~(granule - 1), to_cpu};
  return inner.empty() ? Range{} : inner;
}

Ranges ranges_of(const PciHost& host) {
  return {.io = range_of(host, PciWindowKind::io, k4GiB),
          .memory32 = range_of(host, PciWindowKind::memory32, k4GiB),
          .memory64 = range_of(host, PciWindowKind::memory64, ~std::uint64_t{0})};
}

BarDemand size_bar(ConfigPort& config, Rid rid, unsigned bar, unsigned slots) {
  config.write(rid, bar_at(bar), 4, kAbsent);
  const Bar raw{{{config.read(rid, bar_at(bar), 4)}}};
  BarDemand demand{.raw = raw.words[0]};
  const auto fault = [&](BarFault what) {
    demand.fault = what;
    return demand;
  };
  if (raw.words[0] == 0) return demand;
  if (raw.get<Bar::Io>()) return io_bar(raw.words[0]);
  const Bar::Kind kind = raw.get<Bar::Type>();
  if (kind == Bar::Kind::below_1mib || kind == Bar::Kind::reserved) return fault(BarFault::bad_type);
  std::uint64_t settable = raw.get<Bar::Base>();
  std::uint64_t all = k4GiB - 1;
  if (kind == Bar::Kind::bits64) {
    if (bar + 1 >= slots) return fault(BarFault::no_upper_half);
    demand.info.wide = true;
    config.write(rid, bar_at(bar + 1), 4, kAbsent);
    const std::uint64_t upper = config.read(rid, bar_at(bar + 1), 4);
    demand.low = upper == 0;
    if (!demand.low) all = ~std::uint64_t{0};
    settable |= upper << 32;
  }
  demand.info.prefetchable = raw.get<Bar::Prefetchable>();
  if (settable == 0) return fault(BarFault::no_size);
  if (!is_size(settable, all)) return fault(BarFault::bad_size);
  // A page is never shared between two functions: stage 2 maps pages.
  demand.info.bytes = std::max<std::uint64_t>(size_of(settable), kPage4K);
  return demand;
}

bool set_bar(ConfigPort& config, Rid rid, unsigned bar, const BarInfo& info, std::uint64_t address) {
  config.write(rid, bar_at(bar), 4, low(address));
  const std::uint32_t flags = static_cast<std::uint32_t>(info.io ? ~IoBar::Base::mask : ~Bar::Base::mask);
  bool taken = (config.read(rid, bar_at(bar), 4) & ~flags) == low(address);
  if (info.wide) {
    config.write(rid, bar_at(bar + 1), 4, high(address));
    taken = taken && config.read(rid, bar_at(bar + 1), 4) == high(address);
  }
  return taken;
}

std::optional<std::uint64_t> place_bar(Ranges& ranges, const BarDemand& demand, BarInfo& info) {
  const auto from = [&](Range& range) -> std::optional<std::uint64_t> {
    const auto at = range.take(info.bytes);
    if (at) info.base = PA{*at + range.to_cpu};
    return at;
  };
  if (info.io) return from(ranges.io);
  if (info.wide && info.prefetchable && !demand.low)
    if (const auto at = from(ranges.memory64)) return at;
  return from(ranges.memory32);
}

Ranges behind_bridge(ConfigPort& config, Rid bridge, const Ranges& outer) {
  Ranges inner{.io = outer.io.within(kIoGranule),
               .memory32 = outer.memory32.within(kWindowGranule),
               .memory64 = outer.memory64.within(kWindowGranule)};
  // As bring_to_known_state() has left them: a window that is not there does not hold its closed state.
  const Window memory{{{config.read(bridge, kMemoryWindow, 4)}}};
  const Window prefetch{{{config.read(bridge, kPrefetchWindow, 4)}}};
  const IoWindow io{{{config.read(bridge, kIoWindow, 2)}}};
  constexpr auto kKind = static_cast<std::uint32_t>(IoWindow::Kind::mask);
  if (memory.get<Window::Base>() != Window::Base::max) inner.memory32 = {};
  if (prefetch.get<Window::Base>() != Window::Base::max || (prefetch.words[0] & kKind) != kWindowWide ||
      config.read(bridge, kPrefetchBaseUpper, 4) != kAbsent)
    inner.memory64 = {};
  if (io.get<IoWindow::Base>() != IoWindow::Base::max) inner.io = {};
  if (io.get<IoWindow::Kind>() != kWindowWide) inner.io.end = std::min(inner.io.end, kIo16);
  if (inner.io.empty()) inner.io = {};
  return inner;
}

void open_windows(ConfigPort& config, Rid bridge, const Ranges& before, const Ranges& after) {
  const auto window = [](std::uint64_t base, std::uint64_t end) {
    return Window{}.set<Window::Base>(low(base >> 20)).set<Window::Limit>(low((end - 1) >> 20)).words[0];
  };
  if (before.memory32.next != after.memory32.next)
    config.write(bridge, kMemoryWindow, 4, window(before.memory32.next, after.memory32.next));
  if (const std::uint64_t base = before.memory64.next, end = after.memory64.next; base != end) {
    config.write(bridge, kPrefetchBaseUpper, 4, high(base));
    config.write(bridge, kPrefetchLimitUpper, 4, high(end - 1));
    config.write(bridge, kPrefetchWindow, 4, window(base, end));
  }
  if (const std::uint64_t base = before.io.next, end = after.io.next; base != end) {
    config.write(bridge, kIoUpper, 4, low(base >> 16) | low((end - 1) >> 16) << 16);
    config.write(bridge, kIoWindow, 2,
                 IoWindow{}.set<IoWindow::Base>(low(base >> 12)).set<IoWindow::Limit>(low((end - 1) >> 12)).words[0]);
  }
}

}  // namespace weir::pci
