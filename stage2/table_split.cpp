// Blocks become tables and tables become blocks, in ways that hardware which walks them bears: by break-before-make level
// (IHI 0070 3.21.1; Arm ARM D8.17.2).
#include "stage2/table.hpp"
#include "stage2/table_leaf.hpp"
#include "stage2/table_reserve.hpp"

namespace weir::stage2 {

bool Table::walked() const {
  if (walked_.load(std::memory_order_relaxed)) return true;
  for (const Table* sharer = sharers_; sharer != nullptr; sharer = sharer->next_sharer_)
    if (sharer->walked_.load(std::memory_order_relaxed)) return true;
  return false;
}

// --- split -----------------------------------------------------------------------------------------------------------

bool Table::split_allowed(std::uint64_t block) const {
  return !walked() || options_.bbml >= 2 || (options_.bbml == 1 && as<S2Block>(block).get<S2Block::nT>());
}

// Whether a block of `level` at `start` is in the way of a change of `range`.
bool Table::to_split(unsigned level, IPA start, const Range& range) {
  if (level == kLastLevel) return false;
  const IPA end = start + level_size(level);
  if (range.pages) return range.from < end && range.to > start;
  return (start < range.from && range.from < end) || (start < range.to && range.to < end);
}

Table::Count Table::count_split(unsigned level, IPA start, const Range& range) {
  Count needed;
  needed.add(level + 1);
  if (level + 1 == kLastLevel) return needed;
  for (std::size_t i = 0; i < vmsa::kEntries; ++i) {
    const IPA at = start + i * level_size(level + 1);
    if (to_split(level + 1, at, range)) needed += count_split(level + 1, at, range);
  }
  return needed;
}

std::expected<Table::Count, Error> Table::plan_splits(const TableNode& node, unsigned level, IPA from, IPA to,
                                                      const Range& range) const {
  Count needed;
  if (level == kLastLevel) return needed;
  for (std::size_t slot = index(from, level); from < to; ++slot) {
    const IPA end = step_end(from, to, level);
    const IPA start = from.align_down(level_size(level));
    if (to_split(level, start, range)) {
      const std::uint64_t descriptor = load(node, slot);
      const Kind kind = kind_of(descriptor, level);
      if (kind == Kind::block) {
        if (!split_allowed(descriptor)) return std::unexpected{Error::live_block};
        needed += count_split(level, start, range);
      } else if (kind == Kind::table) {
        const auto below = plan_splits(*node.below[slot], level + 1, from, end, range);
        if (!below) return below;
        needed += *below;
      }
    }
    from = end;
  }
  return needed;
}

// A table that means the same as `block`, with all that is split further below it already so: no descriptor in it needs
// to be split once it is walked.
TableNode& Table::build_split(std::uint64_t block, unsigned level, IPA start, const Range& range, Reserve& reserve) {
  const Attributes attributes = attributes_of(block);
  const PA pa = output_of(block, level);
  TableNode& node = reserve.take(level + 1);
  for (std::size_t i = 0; i < vmsa::kEntries; ++i) {
    const std::uint64_t offset = i * level_size(level + 1);
    std::uint64_t descriptor = leaf(level + 1, pa + offset, attributes);
    if (to_split(level + 1, start + offset, range)) {
      TableNode& below = build_split(descriptor, level + 1, start + offset, range, reserve);
      node.below[i] = &below;
      descriptor = table_at(below.at);
    }
    store(node, i, descriptor);
  }
  node.live = vmsa::kEntries;
  publish(node, 0, vmsa::kEntries);
  return node;
}

void Table::apply_splits(TableNode& node, unsigned level, IPA from, IPA to, const Range& range, Reserve& reserve) {
  if (level == kLastLevel) return;
  Written written;
  for (std::size_t slot = index(from, level); from < to; ++slot) {
    const IPA end = step_end(from, to, level);
    const IPA start = from.align_down(level_size(level));
    if (to_split(level, start, range)) {
      const std::uint64_t descriptor = load(node, slot);
      const Kind kind = kind_of(descriptor, level);
      if (kind == Kind::block) {
        TableNode& below = build_split(descriptor, level, start, range, reserve);
        node.below[slot] = &below;
        store(node, slot, table_at(below.at));
        written.add(slot);
      } else if (kind == Kind::table) {
        apply_splits(*node.below[slot], level + 1, from, end, range, reserve);
      }
    }
    from = end;
  }
  publish(node, written.first(), written.count());
}

std::expected<void, Error> Table::split(const Range& range) {
  if (options_.pages_only) return {};
  const unsigned level = geometry_.start_level();
  const auto needed = plan_splits(*root_, level, range.from, range.to, range);
  if (!needed) return std::unexpected{needed.error()};
  Reserve reserve{*this};
  if (!reserve.grow(*needed)) return std::unexpected{Error::out_of_memory};
  if (needed->inner + needed->last != 0) apply_splits(*root_, level, range.from, range.to, range, reserve);
  return {};
}

std::expected<void, Error> Table::split(IPA ipa, std::uint64_t bytes) {
  if (const auto range = check_range(ipa, bytes); !range) return range;
  return split(Range{.from = ipa, .to = ipa + bytes});
}

// --- nT --------------------------------------------------------------------------------------------------------------

// In all blocks that a change of `range` splits; returns whether there were any (that had it, if it is cleared).
bool Table::set_nt(TableNode& node, unsigned level, IPA from, IPA to, const Range& range, bool value) {
  if (level == kLastLevel) return false;
  bool any = false;
  Written written;
  for (std::size_t slot = index(from, level); from < to; ++slot) {
    const IPA end = step_end(from, to, level);
    if (to_split(level, from.align_down(level_size(level)), range)) {
      const std::uint64_t descriptor = load(node, slot);
      const Kind kind = kind_of(descriptor, level);
      if (kind == Kind::table) {
        any |= set_nt(*node.below[slot], level + 1, from, end, range, value);
      } else if (kind == Kind::block) {
        const bool had = as<S2Block>(descriptor).get<S2Block::nT>();
        any |= value || had;
        if (had != value) {
          store(node, slot, as<S2Block>(descriptor).set<S2Block::nT>(value).words[0]);
          written.add(slot);
        }
      }
    }
    from = end;
  }
  publish(node, written.first(), written.count());
  return any;
}

// True also where nT was set before: the invalidation that belongs to that may still be under way.
bool Table::prepare(const Range& range) {
  if (options_.bbml != 1 || options_.pages_only || !walked()) return false;
  return set_nt(*root_, geometry_.start_level(), range.from, range.to, range, true);
}

bool Table::prepare_split(IPA ipa, std::uint64_t bytes) {
  return options_.bbml == 1 && check_range(ipa, bytes) && prepare({.from = ipa, .to = ipa + bytes});
}

bool Table::prepare_log(IPA ipa, std::uint64_t bytes) {
  return check_range(ipa, bytes) && prepare({.from = ipa, .to = ipa + bytes, .pages = true});
}

// --- merge -----------------------------------------------------------------------------------------------------------

// The block that means the same as a whole table of `level`, if there is one.
std::optional<std::uint64_t> Table::merged(const TableNode& node, unsigned level) const {
  if (level < 2 || node.live != vmsa::kEntries) return std::nullopt;  // blocks are of levels 1 and 2
  const std::uint64_t first = load(node, 0);
  if (!is_leaf(kind_of(first, level))) return std::nullopt;
  const PA pa = output_of(first, level);
  if (!pa.aligned(level_size(level - 1))) return std::nullopt;
  const Attributes attributes = attributes_of(first);
  for (std::size_t i = 0; i < vmsa::kEntries; ++i) {
    std::uint64_t descriptor = load(node, i);
    if (level != kLastLevel && kind_of(descriptor, level) == Kind::block)
      descriptor = as<S2Block>(descriptor).set<S2Block::nT>(false).words[0];
    if (descriptor != leaf(level, pa + i * level_size(level), attributes)) return std::nullopt;
  }
  return leaf(level - 1, pa, attributes);
}

void Table::apply_merge(TableNode& node, unsigned level, IPA from, IPA to, Merged& done, RetiredPages& retired) {
  Written written;
  for (std::size_t slot = index(from, level); from < to; ++slot) {
    const IPA end = step_end(from, to, level);
    if (kind_of(load(node, slot), level) == Kind::table) {
      TableNode& below = *node.below[slot];
      if (level + 1 != kLastLevel) apply_merge(below, level + 1, from, end, done, retired);
      if (const auto block = merged(below, level + 1); block) {
        store(node, slot, as<S2Block>(*block).set<S2Block::nT>(walked() && options_.bbml == 1).words[0]);
        written.add(slot);
        node.below[slot] = nullptr;
        retire_tree(below, retired);
        const IPA start = from.align_down(level_size(level));
        const IPA last = std::max(done.ipa + done.bytes, start + level_size(level));
        done.ipa = done.bytes == 0 ? start : std::min(done.ipa, start);
        done.bytes = last - done.ipa;
      }
    }
    from = end;
  }
  publish(node, written.first(), written.count());
}

std::expected<Table::Merged, Error> Table::merge(IPA ipa, std::uint64_t bytes, RetiredPages& retired) {
  if (const auto range = check_range(ipa, bytes); !range) return std::unexpected{range.error()};
  Merged done;
  if (options_.pages_only || logging()) return done;
  if (walked() && options_.bbml == 0) return std::unexpected{Error::live_block};
  apply_merge(*root_, geometry_.start_level(), ipa, ipa + bytes, done, retired);
  return done;
}

bool Table::finish_merge(const Merged& merged) {
  if (merged.bytes == 0 || options_.bbml != 1) return false;
  const Range range{.from = merged.ipa, .to = merged.ipa + merged.bytes, .pages = true};
  return set_nt(*root_, geometry_.start_level(), range.from, range.to, range, false);
}

}  // namespace weir::stage2
