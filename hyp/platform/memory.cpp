// RAM, what of it is in use, and the initrd.
#include <algorithm>

extern "C" {
#include <libfdt.h>
}

#include "hyp/platform/discovery.hpp"
#include "hyp/platform/translate.hpp"

namespace weir::discovery {
namespace {

using dt::Node;
using dt::Property;

// Physical addresses have at most 52 bits (DDI 0487, D8.1.6). What lies beyond is no memory, and no sum below it wraps.
constexpr std::uint64_t kEndOfMemory = std::uint64_t{1} << 52;

template <std::size_t N>
using Ranges = StaticVector<MemoryRange, N>;

std::uint64_t end_of(const MemoryRange& r) { return r.base.value + r.bytes; }

bool beyond_the_end(const MemoryRange& r) {
  return r.base.value >= kEndOfMemory || r.bytes > kEndOfMemory - r.base.value;
}

// Adds `r` to the sorted, disjoint `ranges`, joined with those that it touches. False: no room, nothing is changed.
template <std::size_t N>
bool join(Ranges<N>& ranges, MemoryRange r) {
  std::size_t at = 0;
  while (at < ranges.size() && end_of(ranges[at]) < r.base.value) ++at;
  std::size_t touched = at;
  for (; touched < ranges.size() && ranges[touched].base.value <= end_of(r); ++touched) {
    const std::uint64_t end = std::max(end_of(r), end_of(ranges[touched]));
    r.base = std::min(r.base, ranges[touched].base);
    r.bytes = end - r.base.value;
  }
  if (touched == at) {
    if (!ranges.push_back(r)) return false;
    std::rotate(ranges.begin() + at, ranges.end() - 1, ranges.end());
    return true;
  }
  ranges[at] = r;
  for (std::size_t gone = at + 1; gone < touched; ++gone) ranges.erase(at + 1);
  return true;
}

// Takes `hole` out of the sorted, disjoint `ranges`, which stay so. Where a range falls into two and there is room for one
// only, the larger one stays: false.
template <std::size_t N>
bool cut_out(Ranges<N>& ranges, const MemoryRange& hole) {
  bool room = true;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const MemoryRange whole = ranges[i];
    if (!overlap(whole, hole)) continue;
    const std::uint64_t before = hole.base > whole.base ? hole.base - whole.base : 0;
    const std::uint64_t after = end_of(whole) > end_of(hole) ? end_of(whole) - end_of(hole) : 0;
    const MemoryRange upper{.base = PA{end_of(hole)}, .bytes = after};
    ranges[i].bytes = before;
    if (before != 0 && after != 0) {
      if (ranges.push_back(upper))
        std::rotate(ranges.begin() + i + 1, ranges.end() - 1, ranges.end());
      else {
        room = false;
        if (after > before) ranges[i] = upper;
      }
    } else if (after != 0) {
      ranges[i] = upper;
    } else if (before == 0) {
      ranges.erase(i--);
    }
  }
  return room;
}

// Whole pages within `r`, or around it.
MemoryRange pages_within(const MemoryRange& r) {
  const std::uint64_t begin = r.base.align_up(kPage4K).value;
  const std::uint64_t end = PA{end_of(r)}.align_down(kPage4K).value;
  return {.base = PA{begin}, .bytes = end > begin ? end - begin : 0};
}
MemoryRange pages_around(const MemoryRange& r) {
  const PA begin = r.base.align_down(kPage4K);
  return {.base = begin, .bytes = PA{end_of(r)}.align_up(kPage4K) - begin};
}

// Reserves what there is of `r`; if no more ranges can be kept, by taking it out of the RAM.
void reserve(Node node, const MemoryRange& r, Platform& platform) {
  if (r.bytes == 0 || r.base.value >= kEndOfMemory) return;
  const MemoryRange within{.base = r.base, .bytes = std::min(r.bytes, kEndOfMemory - r.base.value)};
  if (join(platform.reserved, pages_around(within))) return;
  leave_out_rest(platform.remarks, "RAM that is reserved here is", node, platform.reserved.capacity);
  static_cast<void>(cut_out(platform.ram, pages_around(within)));
}

void discover_bank(Node node, std::size_t i, Platform& platform) {
  const Property reg = node.property("reg");
  const auto left_out = [&](const PlatformError& why) { leave_out(platform.remarks, "memory is", why); };
  const auto bank = dt::bus_reg(node, i);
  if (!bank) return left_out(bank.error());
  if (bank->bytes == 0) return left_out(dt::wrong(node, reg, "an empty bank", "address and size"));
  if (beyond_the_end(*bank))
    return left_out(dt::wrong(node, reg, "a bank beyond the end of the address space", "addresses of 52 bits"));
  for (const MemoryRange& other : platform.ram)
    if (overlap(*bank, other)) {
      dt::Line line;
      line << "memory is counted once: ";
      platform.remarks.add(line << dt::wrong(node, reg, "overlaps other memory", "disjoint ranges").line());
      break;
    }
  if (!join(platform.ram, *bank)) leave_out_rest(platform.remarks, "memory is", node, platform.ram.capacity);
}

// A range of a child of /reserved-memory, whose addresses are those of the machine even if `ranges` does not say so.
std::expected<MemoryRange, PlatformError> reserved_range(Node node, std::size_t i) {
  const auto range = dt::bus_reg(node, i);
  if (!range) return range;
  const Property reg = node.property("reg");
  if (range->bytes == 0) return std::unexpected{dt::wrong(node, reg, "an empty range", "address and size")};
  if (beyond_the_end(*range))
    return std::unexpected{dt::wrong(node, reg, "beyond the end of the address space", "addresses of 52 bits")};
  return node.parent().has("ranges") ? dt::translate(node.parent(), *range) : range;
}

void discover_reserved_node(Node node, Platform& platform) {
  const auto left_out = [&](const PlatformError& why) { leave_out(platform.remarks, "reserved range is", why); };
  const auto count = dt::reg_count(node);
  if (!count) return left_out(count.error());
  for (std::size_t i = 0; i < *count; ++i) {
    const auto range = reserved_range(node, i);
    if (!range) {
      left_out(range.error());
    } else if (!node.has("no-map")) {
      reserve(node, *range, platform);
    } else if (!cut_out(platform.ram, pages_around(*range))) {
      leave_out_rest(platform.remarks, "memory beside a range that may not be mapped is", node, platform.ram.capacity);
    }
  }
}

}  // namespace

Done discover_ram(Node root, Platform& platform) {
  for (Node n = root.first_child(); n; n = n.next_sibling()) {
    if (n.property("device_type").string(0) != "memory" || !n.enabled()) continue;
    const auto count = dt::reg_count(n);
    if (!count) {
      leave_out(platform.remarks, "memory is", count.error());
      continue;
    }
    for (std::size_t i = 0; i < *count; ++i) discover_bank(n, i, platform);
  }
  for (std::size_t i = 0; i < platform.ram.size(); ++i) {
    platform.ram[i] = pages_within(platform.ram[i]);
    if (platform.ram[i].bytes == 0) platform.ram.erase(i--);
  }
  if (platform.ram.empty()) return std::unexpected{no_node("device_type = \"memory\"")};
  return {};
}

void discover_reserved(const void* blob, Node root, Platform& platform) {
  for (int i = 0, n = fdt_num_mem_rsv(blob); i < n; ++i) {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
    if (fdt_get_mem_rsv(blob, i, &address, &bytes) != 0) break;
    reserve(root, {.base = PA{address}, .bytes = bytes}, platform);
  }
  const Node parent = root.child("reserved-memory");
  if (parent.first_child() && !parent.has("ranges")) {
    dt::Line line;
    line << dt::PathOf{parent} << ": ranges: missing; its children are taken to have addresses of the machine";
    platform.remarks.add(line);
  }
  for (Node n = parent.first_child(); n; n = n.next_sibling())
    if (n.enabled() && n.has("reg"))  // without reg: memory an OS may choose for itself
      discover_reserved_node(n, platform);
}

void discover_initrd(Node root, Platform& platform) {
  reserve(root, platform.dtb, platform);
  const Node chosen = root.child("chosen");
  const Property start = chosen.property("linux,initrd-start");
  const Property end = chosen.property("linux,initrd-end");
  if (!start && !end) return;
  const auto left_out = [&](const PlatformError& why) { leave_out(platform.remarks, "initrd is", why); };
  for (const Property& p : {start, end})
    if (p && p.bytes() != 4 && p.bytes() != 8)
      return left_out(dt::wrong(chosen, p, "not an address", "one or two cells"));
  if (!start) return left_out(dt::missing(chosen, "linux,initrd-start", "the address of the initrd"));
  if (!end) return left_out(dt::missing(chosen, "linux,initrd-end", "the address after the initrd"));
  const std::uint64_t from = start.number(0, start.cells());
  const std::uint64_t to = end.number(0, end.cells());
  if (to <= from) return left_out(dt::wrong(chosen, end, "not after linux,initrd-start", "the end of the initrd"));
  platform.initrd = MemoryRange{.base = PA{from}, .bytes = to - from};
  check_initrd(root, platform);
  if (platform.initrd) reserve(chosen, *platform.initrd, platform);
}

void check_initrd(Node root, Platform& platform) {
  if (!platform.initrd) return;
  const MemoryRange& initrd = *platform.initrd;
  const bool in_ram = std::ranges::any_of(
      platform.ram, [&](const MemoryRange& ram) { return initrd.base >= ram.base && end_of(initrd) <= end_of(ram); });
  if (in_ram) return;
  const Node chosen = root.child("chosen");
  dt::Line expected;
  expected << "all of the initrd, up to ";
  expected.hex(end_of(initrd)) << ", in one range of RAM that may be mapped";
  leave_out(platform.remarks, "initrd is",
            dt::wrong(chosen, chosen.property("linux,initrd-start"), "not in memory", expected.view()));
  platform.initrd.reset();
}

}  // namespace weir::discovery

namespace weir {

std::uint64_t Platform::unreserved_units(std::uint64_t unit) const {
  std::uint64_t bytes = 0;
  for (const MemoryRange& range : ram) {
    const std::uint64_t end = range.base.value + range.bytes;
    std::uint64_t from = range.base.value;
    const auto free_until = [&](std::uint64_t to) {
      const std::uint64_t first = (from + unit - 1) & ~(unit - 1);
      const std::uint64_t last = to & ~(unit - 1);
      if (last > first) bytes += last - first;
    };
    for (const MemoryRange& used : reserved) {  // sorted, disjoint
      const std::uint64_t used_end = used.base.value + used.bytes;
      if (used_end <= from || used.base.value >= end) continue;
      free_until(used.base.value);
      from = used_end;
    }
    free_until(end);
  }
  return bytes;
}

}  // namespace weir
