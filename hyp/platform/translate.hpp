// Addresses and interrupts of a devicetree node, as the whole machine sees them: `reg` through each parent's `ranges`,
// `interrupts` through interrupt-parent and interrupt-map up to the GIC. Devicetree Specification 0.4, chapter 2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>

#include "hyp/mem/memory_range.hpp"
#include "hyp/platform/devicetree.hpp"
#include "hyp/platform/platform.hpp"

namespace weir::dt {

// "NODE: PROPERTY = VALUE: PROBLEM; expected EXPECTED", or "NODE: PROPERTY: missing; expected EXPECTED".
[[nodiscard]] PlatformError wrong(Node node, const Property& property, std::string_view problem,
                                  std::string_view expected);
[[nodiscard]] PlatformError missing(Node node, std::string_view property, std::string_view expected);

// #address-cells and so on of `node`, for its children; `otherwise` if it says nothing. More than 4 is an error.
[[nodiscard]] std::expected<std::size_t, PlatformError> cells(Node node, const char* property, std::size_t otherwise);

// Entries in `reg`; entry `i` of it as a physical range.
[[nodiscard]] std::expected<std::size_t, PlatformError> reg_count(Node node);
[[nodiscard]] std::expected<MemoryRange, PlatformError> reg(Node node, std::size_t i);
// The same as the bus that `node` is on numbers it; may be empty.
[[nodiscard]] std::expected<MemoryRange, PlatformError> bus_reg(Node node, std::size_t i);
// What `bus` calls `range`, not empty, as a physical range: through the `ranges` of `bus` and of all buses above it.
[[nodiscard]] std::expected<MemoryRange, PlatformError> translate(Node bus, MemoryRange range);

// Interrupt `i` of `node`; none if it has fewer. Understands interrupts and interrupts-extended.
[[nodiscard]] std::expected<std::optional<Interrupt>, PlatformError> interrupt(Node node, std::size_t i);
// The interrupt that interrupt-names calls `name`; none if there is no such name.
[[nodiscard]] std::expected<std::optional<Interrupt>, PlatformError> interrupt(Node node, const char* name);
// The interrupt that `specifier` names at `controller` (or nexus) for a device with the given unit address; `asker` and
// `source` are for messages.
[[nodiscard]] std::expected<Interrupt, PlatformError> resolve_interrupt(Node asker, const Property& source,
                                                                        Node controller,
                                                                        std::span<const std::uint32_t> address,
                                                                        std::span<const std::uint32_t> specifier);

}  // namespace weir::dt
