// The parts of discover(), one for each piece of the machine, in the order in which it calls them. A part that returns an
// error has not found what Weir cannot do without. Everything else that is odd is a remark, and left out.
#pragma once

#include <expected>
#include <string_view>

#include "hyp/platform/devicetree.hpp"
#include "hyp/platform/platform.hpp"

namespace weir::discovery {

using Done = std::expected<void, PlatformError>;

[[nodiscard]] Done discover_ram(dt::Node root, Platform& platform);
// First of what is reserved, so that there is room for it: the tree itself, and the initrd if it lies in RAM.
void discover_initrd(dt::Node root, Platform& platform);
// RAM that is in use (memreserve, reserved-memory) or may not be mapped at all.
void discover_reserved(const void* blob, dt::Node root, Platform& platform);
// Does the initrd lie in the RAM that is left? If not, there is none.
void check_initrd(dt::Node root, Platform& platform);
[[nodiscard]] Done discover_cpus(dt::Node root, Platform& platform);
[[nodiscard]] Done discover_psci(dt::Node root);
[[nodiscard]] Done discover_gic(dt::Node root, Platform& platform);
[[nodiscard]] Done discover_timers(dt::Node root, Timers& timers);
// `remarks` may be null.
[[nodiscard]] std::expected<Uart, PlatformError> discover_uart(dt::Node root, Remarks* remarks);
void discover_rtc(dt::Node root, Platform& platform);
void discover_smmus(dt::Node root, Platform& platform);
// All hosts. The SMMUs are there already.
void discover_pci_hosts(dt::Node root, Platform& platform);

// The next enabled node after `from` that says it is compatible with `what`.
[[nodiscard]] dt::Node next_compatible(dt::Node from, const char* what);
// "/: WHAT: no such node; expected one"
[[nodiscard]] PlatformError no_node(std::string_view what);

// Remarks: "WHAT left out: WHY", and the same for all that exceeds a limit: "WHAT left out: PATH: room for MOST only".
void leave_out(Remarks& remarks, std::string_view what, const PlatformError& why);
void leave_out_rest(Remarks& remarks, std::string_view what, dt::Node node, std::size_t most);

[[nodiscard]] constexpr bool overlap(const MemoryRange& a, const MemoryRange& b) {
  return a.base.value < b.base.value + b.bytes && b.base.value < a.base.value + a.bytes;
}
// The RAM that `window`, a device's registers, would be mapped on top of, with another memory type; as an error.
[[nodiscard]] Done check_window(dt::Node node, const MemoryRange& window, const Platform& platform);

}  // namespace weir::discovery
