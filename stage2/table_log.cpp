// The dirty log.
#include "stage2/table.hpp"
#include "stage2/table_leaf.hpp"

namespace weir::stage2 {

namespace {

constexpr std::size_t kBitsPerWord = 64;

void set_bits(std::span<std::uint64_t> bits, std::size_t first, std::size_t past) {
  for (; first < past; ++first) bits[first / kBitsPerWord] |= std::uint64_t{1} << (first % kBitsPerWord);
}

}  // namespace

// Calls change(entry, descriptor, from, end, level) for every leaf, which returns whether it has written it.
template <typename Change>
void Table::for_each_leaf(TableNode& node, unsigned level, IPA from, IPA to, Change&& change) {
  Written written;
  for (std::size_t slot = index(from, level); from < to; ++slot) {
    const IPA end = step_end(from, to, level);
    const std::uint64_t descriptor = load(node, slot);
    const Kind kind = kind_of(descriptor, level);
    if (kind == Kind::table) {
      for_each_leaf(*node.below[slot], level + 1, from, end, change);
    } else if (is_leaf(kind) && change(node.entries[slot], descriptor, from, end, level)) {
      written.add(slot);
    }
    from = end;
  }
  publish(node, written.first(), written.count());
}

std::expected<void, Error> Table::start_log(IPA ipa, std::uint64_t bytes) {
  if (const auto range = check_range(ipa, bytes); !range) return range;
  if (!options_.dirty_state) return std::unexpected{Error::incompatible};
  if (const auto pages = split({.from = ipa, .to = ipa + bytes, .pages = true}); !pages) return pages;
  logging_.store(true, std::memory_order_relaxed);
  for_each_leaf(
      *root_, geometry_.start_level(), ipa, ipa + bytes, [](std::uint64_t& entry, std::uint64_t, IPA, IPA, unsigned) {
        std::uint64_t old = 0;
        return update(entry, old,
                      [](std::uint64_t page) { return logged(page, stores_pass(page) || is_logged(page), false); });
      });
  return {};
}

std::expected<std::size_t, Error> Table::collect_dirty(IPA ipa, std::size_t pages, std::span<std::uint64_t> dirty) {
  if (pages > geometry_.input_end().value / kPage4K || pages > dirty.size() * kBitsPerWord)
    return std::unexpected{Error::out_of_range};
  if (const auto range = check_range(ipa, pages * kPage4K); !range) return std::unexpected{range.error()};
  std::size_t cleaned = 0;
  for_each_leaf(*root_, geometry_.start_level(), ipa, ipa + pages * kPage4K,
                [&](std::uint64_t& entry, std::uint64_t descriptor, IPA from, IPA end, unsigned level) {
                  if (!is_dirty(descriptor)) return false;  // if it becomes so now, the next call finds it
                  set_bits(dirty, (from - ipa) / kPage4K, (end - ipa) / kPage4K);
                  if (level != kLastLevel || (!is_logged(descriptor) && stores_pass(descriptor))) return false;
                  std::uint64_t old = 0;
                  const bool changed =
                      update(entry, old, [](std::uint64_t page) { return logged(page, is_logged(page), false); });
                  if (is_logged(old)) ++cleaned;
                  return changed;
                });
  return cleaned;
}

std::expected<void, Error> Table::stop_log(IPA ipa, std::uint64_t bytes) {
  if (const auto range = check_range(ipa, bytes); !range) return range;
  for_each_leaf(*root_, geometry_.start_level(), ipa, ipa + bytes,
                [](std::uint64_t& entry, std::uint64_t, IPA, IPA, unsigned level) {
                  std::uint64_t old = 0;
                  return level == kLastLevel && update(entry, old, unlogged);
                });
  return {};
}

}  // namespace weir::stage2
