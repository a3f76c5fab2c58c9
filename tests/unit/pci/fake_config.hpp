// PCI functions with just enough behaviour to be enumerated: BAR sizing, bridges that forward by bus number.
#pragma once

#include <cstring>
#include <map>
#include <vector>

#include "hyp/pci/config.hpp"

namespace weir::pci::test {

// Configuration space of one function; `writable` masks what a write changes.
struct FakeFunction {
  std::array<std::uint8_t, kConfigEnd> bytes{};
  std::array<std::uint8_t, kConfigEnd> writable{};
  std::vector<FakeFunction*> behind = std::vector<FakeFunction*>(256);  // by devfn, if it is a bridge

  void set(std::uint16_t at, unsigned size, std::uint32_t value) { std::memcpy(&bytes[at], &value, size); }
  void allow(std::uint16_t at, unsigned size, std::uint32_t mask) { std::memcpy(&writable[at], &mask, size); }
  [[nodiscard]] std::uint32_t get(std::uint16_t at, unsigned size) const {
    std::uint32_t v = 0;
    std::memcpy(&v, &bytes[at], size);
    return v;
  }
};

inline FakeFunction endpoint(std::uint16_t vendor, std::uint16_t device, unsigned pin) {
  FakeFunction f;
  f.set(kVendorId, 2, vendor);
  f.set(kDeviceId, 2, device);
  f.set(kInterruptPin, 1, pin);
  f.allow(kCommand, 2, 0x547);
  return f;
}

// A memory BAR of `bytes` (power of two).
inline void add_bar(FakeFunction& f, unsigned i, std::uint64_t bytes, bool wide, bool prefetchable) {
  const auto at = static_cast<std::uint16_t>(kBar0 + 4 * i);
  f.set(at, 4, Bar{}.set<Bar::Wide>(wide).set<Bar::Prefetchable>(prefetchable).words[0]);
  f.allow(at, 4, static_cast<std::uint32_t>(~(bytes - 1)) & ~0xfu);
  if (wide) f.allow(static_cast<std::uint16_t>(at + 4), 4, static_cast<std::uint32_t>(~(bytes - 1) >> 32));
}

// An I/O BAR of `bytes` (power of two).
inline void add_io_bar(FakeFunction& f, unsigned i, std::uint32_t bytes) {
  const auto at = static_cast<std::uint16_t>(kBar0 + 4 * i);
  f.set(at, 4, IoBar{}.set<IoBar::Io>(true).words[0]);
  f.allow(at, 4, ~(bytes - 1) & ~0x3u);
}

// A PCI Express capability at 0x40, version 2, the only one.
inline void add_express(FakeFunction& f, PortType type) {
  f.set(kStatus, 2, 0x10);
  f.set(kCapabilities, 1, 0x40);
  f.set(0x40, 4, ExpressHeader{}.set<ExpressHeader::Version>(2).set<ExpressHeader::Port>(type).words[0] | kCapExpress);
}

// A bridge with a conventional bridge's registers alone.
inline FakeFunction conventional_bridge() {
  FakeFunction f = endpoint(0x1b36, 0x0001, 1);
  f.set(kHeaderType, 1, kHeaderBridge);
  f.allow(kBusNumbers, 4, 0x00ffffff);
  f.set(kIoWindow, 2, 0x0101);
  f.allow(kIoWindow, 2, 0xf0f0);
  f.allow(kIoUpper, 4, 0xffffffff);
  f.allow(kMemoryWindow, 4, 0xfff0fff0);
  f.set(kPrefetchWindow, 4, 0x00010001);
  f.allow(kPrefetchWindow, 4, 0xfff0fff0);
  f.allow(kPrefetchBaseUpper, 4, 0xffffffff);
  f.allow(kPrefetchLimitUpper, 4, 0xffffffff);
  return f;
}
// A root port.
inline FakeFunction bridge(PortType type = PortType::root_port) {
  FakeFunction f = conventional_bridge();
  f.set(kDeviceId, 2, 0x000c);
  add_express(f, type);
  return f;
}

struct FakeBus final : ConfigPort {
  std::map<unsigned, std::vector<FakeFunction*>> roots;  // by bus number, then devfn
  unsigned writes = 0;
  std::uint32_t waited = 0;  // microseconds

  void put(unsigned bus, unsigned devfn, FakeFunction& f) {
    auto& slots = roots[bus];
    slots.resize(256);
    slots[devfn] = &f;
  }
  static FakeFunction* below(const std::vector<FakeFunction*>& bus, unsigned number, unsigned devfn) {
    for (FakeFunction* f : bus) {
      if (f == nullptr || f->get(kHeaderType, 1) != kHeaderBridge) continue;
      const BusNumbers n{{{f->get(kBusNumbers, 4)}}};
      if (n.get<BusNumbers::Secondary>() == 0 || number < n.get<BusNumbers::Secondary>() ||
          number > n.get<BusNumbers::Subordinate>())
        continue;
      return number == n.get<BusNumbers::Secondary>() ? f->behind[devfn] : below(f->behind, number, devfn);
    }
    return nullptr;
  }
  FakeFunction* find(Rid rid) {
    const unsigned devfn = rid.value() & 0xff;
    if (auto it = roots.find(rid.bus()); it != roots.end()) return it->second[devfn];
    for (auto& [number, bus] : roots)
      if (FakeFunction* f = below(bus, rid.bus(), devfn)) return f;
    return nullptr;
  }
  void wait(std::uint32_t microseconds) override { waited += microseconds; }
  std::uint32_t read(Rid rid, std::uint16_t offset, unsigned size) override {
    const FakeFunction* f = find(rid);
    return f != nullptr ? f->get(offset, size) : static_cast<std::uint32_t>(bit_mask(size * 8 - 1, 0));
  }
  void write(Rid rid, std::uint16_t offset, unsigned size, std::uint32_t value) override {
    ++writes;
    FakeFunction* f = find(rid);
    if (f == nullptr) return;
    for (unsigned i = 0; i < size; ++i) {
      const auto byte = static_cast<std::uint8_t>(value >> (8 * i));
      auto& b = f->bytes[offset + i];
      const std::uint8_t m = f->writable[offset + i];
      b = static_cast<std::uint8_t>((b & ~m) | (byte & m));
    }
  }
};

}  // namespace weir::pci::test
