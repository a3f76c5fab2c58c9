// Addresses for BARs and bridges: what a host has to give, and what a function asks for.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "hyp/pci/config.hpp"
#include "hyp/platform/platform.hpp"

namespace weir::pci {

inline constexpr std::uint64_t kIoGranule = kPage4K;  // of a bridge's I/O window, and of what stage 2 maps

struct BarInfo {
  PA base;                  // for the CPU: a host may translate
  std::uint64_t bytes = 0;  // a multiple of 4 KiB; 0: not there, as far as an owner is concerned
  bool wide = false;        // also occupies the next slot
  bool prefetchable = false;
  bool io = false;
};

// What is odd about a BAR.
enum class BarFault : std::uint8_t {
  none,
  no_size,        // type bits, and no address bits
  bad_size,       // address bits that are no power of two
  bad_type,       // below 1 MiB, or reserved
  no_upper_half,  // 64 bits, in the last slot
  fixed,          // does not take the address that is written to it
  no_address,     // no window of the host and the bridges above has room for it
  no_io_address   // the same for an I/O BAR, which most drivers do without
};
[[nodiscard]] const char* to_string(BarFault fault);
// Faults because of which decoding cannot be turned on: the function cannot be given away.
[[nodiscard]] constexpr bool is_fatal(BarFault fault) {
  return fault == BarFault::fixed || fault == BarFault::no_address;
}

// Addresses on the bus, given out upwards.
struct Range {
  std::uint64_t next = 0;
  std::uint64_t end = 0;
  std::uint64_t to_cpu = 0;  // to be added, modulo 2^64

  [[nodiscard]] bool empty() const { return next >= end; }
  // `bytes` is a power of two; naturally aligned.
  [[nodiscard]] std::optional<std::uint64_t> take(std::uint64_t bytes);
  // What of it lies in whole granules.
  [[nodiscard]] Range within(std::uint64_t granule) const;
};

struct Ranges {
  Range io;
  Range memory32;
  Range memory64;  // for what is 64-bit and prefetchable: the one kind that bridges forward up there
};
// The largest window of each kind. Page 0 of the bus is left out: 0 in a BAR is no address.
[[nodiscard]] Ranges ranges_of(const PciHost& host);

// What a BAR asks for. Decoding is off. `slots`: 6, or 2 in a bridge.
struct BarDemand {
  BarInfo info{};  // without base
  BarFault fault = BarFault::none;
  std::uint32_t raw = 0;  // what it read with all ones written
  bool low = false;       // 64-bit, but with 32 bits of address
  [[nodiscard]] unsigned slots() const { return info.wide ? 2 : 1; }
};
[[nodiscard]] BarDemand size_bar(ConfigPort& config, Rid rid, unsigned bar, unsigned slots);
// Writes the address and reads it back; false: the BAR is fixed.
[[nodiscard]] bool set_bar(ConfigPort& config, Rid rid, unsigned bar, const BarInfo& info, std::uint64_t address);
// nullopt: no room. The address is one of the bus; `info.base` becomes the CPU's.
[[nodiscard]] std::optional<std::uint64_t> place_bar(Ranges& ranges, const BarDemand& demand, BarInfo& info);

// The part of `outer` that a bridge, which is closed, can forward: it may lack the one or the other window.
[[nodiscard]] Ranges behind_bridge(ConfigPort& config, Rid bridge, const Ranges& outer);
// Opens its windows for what was given out of `before` (from behind_bridge()) up to `after`.
void open_windows(ConfigPort& config, Rid bridge, const Ranges& before, const Ranges& after);

}  // namespace weir::pci
