// How RAM comes under EL2's direct map and into the page allocator. Portable: hyp/mem/pages.cpp gives it the real ones.
//
// The translation tables of the direct map need pages, and pages need the direct map. Therefore:
//   1. One small block of free RAM is mapped with tables out of the image, and given to the page allocator.
//   2. All other tables come from there, so the number of carve-outs in RAM is not limited by what the image has.
//   3. What is mapped and free goes to the allocator, range by range: large ranges first, since they bring more pages than
//      their tables take, which is not so for a lone page.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>

#include "guest-abi/types.hpp"
#include "hyp/mem/memory_range.hpp"

namespace weir::ram {

// Saturates: a range that ends beyond all addresses ends at the last page.
constexpr PA end_of(const MemoryRange& r) {
  const std::uint64_t end = r.base.value + r.bytes;
  return PA{end < r.base.value ? ~(kPage4K - 1) : end};
}
constexpr bool overlap(const MemoryRange& a, const MemoryRange& b) { return a.base < end_of(b) && b.base < end_of(a); }

// The whole pages of `r` (RAM) below `end`, perhaps none; all pages that `r` (in use) touches.
constexpr MemoryRange pages_within(const MemoryRange& r, PA end) {
  if (r.base >= end) return {};
  const PA from = r.base.align_up(kPage4K);
  const PA to = std::min(end_of(r), end).align_down(kPage4K);
  return to > from ? MemoryRange{from, to - from} : MemoryRange{};
}
constexpr MemoryRange pages_around(const MemoryRange& r) {
  const PA from = r.base.align_down(kPage4K);
  return r.bytes == 0 ? MemoryRange{} : MemoryRange{from, end_of(r).align_up(kPage4K) - from};
}

// What is left out of RAM: in any order, overlapping or not, empty or not.
struct Holes {
  std::span<const MemoryRange> many;
  std::array<MemoryRange, 3> few{};

  // The lowest one that reaches into [at, end).
  [[nodiscard]] std::optional<MemoryRange> next(PA at, PA end) const {
    std::optional<MemoryRange> lowest;
    const auto look = [&](const MemoryRange& r) {
      const MemoryRange hole = pages_around(r);
      if (hole.bytes == 0 || hole.base >= end || end_of(hole) <= at) return;
      if (!lowest || hole.base < lowest->base) lowest = hole;
    };
    for (const MemoryRange& r : many) look(r);
    for (const MemoryRange& r : few) look(r);
    return lowest;
  }
};

// Calls fn for each part of `whole` that no hole covers, upwards, until fn says false; then it is false.
template <std::predicate<MemoryRange> Fn>
bool for_gaps(const MemoryRange& whole, const Holes& holes, Fn fn) {
  const PA end = end_of(whole);
  for (PA at = whole.base; at < end;) {
    const auto hole = holes.next(at, end);
    const PA until = hole ? hole->base : end;
    if (until > at && !fn(MemoryRange{at, until - at})) return false;
    at = hole ? end_of(*hole) : end;
  }
  return true;
}

// The lowest free place of `bytes`, aligned to as much.
inline std::optional<MemoryRange> find_block(std::span<const MemoryRange> ram, const Holes& holes, PA end,
                                             std::uint64_t bytes) {
  for (const MemoryRange& r : ram) {
    std::optional<MemoryRange> found;
    const bool none = for_gaps(pages_within(r, end), holes, [&](const MemoryRange& gap) {
      const PA at = gap.base.align_up(bytes);
      if (at < end_of(gap) && end_of(gap) - at >= bytes) found = MemoryRange{at, bytes};
      return !found;
    });
    if (!none) return found;
  }
  return std::nullopt;
}

// A block of the last level but one: it needs no table of the last.
inline constexpr std::uint64_t kBlock = 2_MiB;

// What RAM is mapped with.
template <typename T>
concept Port = requires(T& port, const MemoryRange& range) {
  { port.map(range) } -> std::same_as<bool>;         // one to one, Normal. False: no table, or mapped as something else
  { port.map_device(range) } -> std::same_as<bool>;  // one to one, Device
  { port.add(range) } -> std::same_as<bool>;         // to the page allocator. False: some of it is there already
  port.tables_from_allocator();                      // from now on
};

enum class Problem : std::uint8_t { no_block, cannot_map, twice };
struct Failure {
  Problem problem;
  MemoryRange at;
};

// Maps `whole_ram` below `end`, all of it but `image`, and makes available what is neither `image` nor `reserved`. Returns
// one block that is mapped as Device only, of `device_bytes` (a power of two, at least kBlock).
template <Port P>
[[nodiscard]] std::expected<PA, Failure> take_over(P& port, std::span<const MemoryRange> whole_ram,
                                                   std::span<const MemoryRange> reserved, const MemoryRange& image,
                                                   PA end, std::uint64_t device_bytes) {
  Holes used{.many = reserved, .few = {image}};
  const auto device = find_block(whole_ram, used, end, device_bytes);
  if (!device) return std::unexpected{Failure{Problem::no_block, {PA{}, device_bytes}}};
  used.few[1] = *device;
  const auto first = find_block(whole_ram, used, end, kBlock);
  if (!first) return std::unexpected{Failure{Problem::no_block, {PA{}, kBlock}}};
  used.few[2] = *first;

  std::optional<Failure> failure;
  const auto add = [&](const MemoryRange& r) {
    if (!port.add(r)) failure = Failure{Problem::twice, r};
    return !failure;
  };
  const auto map = [&](const MemoryRange& r) {
    if (!port.map(r)) failure = Failure{Problem::cannot_map, r};
    return !failure;
  };
  if (!map(*first) || !add(*first)) return std::unexpected{*failure};
  port.tables_from_allocator();
  if (!port.map_device(*device)) return std::unexpected{Failure{Problem::cannot_map, *device}};
  // The image has addresses and permissions of its own.
  const Holes elsewhere{.many = {}, .few = {image, *device, *first}};
  for (const bool large : {true, false}) {
    for (const MemoryRange& r : whole_ram) {
      const bool done = for_gaps(pages_within(r, end), elsewhere, [&](const MemoryRange& gap) {
        return (gap.bytes >= kBlock) != large || (map(gap) && for_gaps(gap, used, add));
      });
      if (!done) return std::unexpected{*failure};
    }
  }
  return device->base;
}

}  // namespace weir::ram
