// What takes no lock: walk() and mark_dirty().
#include "stage2/table.hpp"
#include "stage2/table_leaf.hpp"

namespace weir::stage2 {

std::uint64_t* Table::entries_at(PA table) const {
  if (linear_) return reinterpret_cast<std::uint64_t*>(table.value + *linear_);  // NOLINT: the port says so
  return static_cast<std::uint64_t*>(pages_.pointer(table));
}

// Each descriptor is loaded once. What it points to was filled before it was stored, and stays until the read section
// of the caller ends.
template <typename EntriesAt>
[[gnu::always_inline]] inline Table::Found Table::descend(IPA ipa, EntriesAt&& entries) const {
  Found found{.entry = root_->entries, .level = geometry_.start_level()};
  if (ipa >= geometry_.input_end()) return found;
  found.shift = geometry_.start_shift();
  std::size_t slot = ipa.value >> found.shift;  // the root is one table, if of several pages
  for (;;) {
    found.entry += slot;
    found.descriptor = std::atomic_ref<std::uint64_t>{*found.entry}.load(std::memory_order_acquire);
    found.kind = kind_of(found.descriptor, found.level);
    if (found.kind != Kind::table) return found;
    found.entry = entries(as<S2Table>(found.descriptor).get<S2Table::NLTA>());
    ++found.level;
    found.shift -= kStrideBits;
    slot = (ipa.value >> found.shift) % vmsa::kEntries;
  }
}

Table::Found Table::find(IPA ipa) const {
  return descend(ipa, [this](PA table) { return entries_at(table); });
}

// Where `ipa` is, if the leaf allows the access.
std::optional<PA> Table::reached(const Found& found, IPA ipa, bool write) {
  const std::uint64_t leaf = found.descriptor;
  if (!is_leaf(found.kind)) return std::nullopt;
  if (!(write ? stores_pass(leaf) || is_logged(leaf) : readable(leaf))) return std::nullopt;
  const std::uint64_t offset = (std::uint64_t{1} << found.shift) - 1;
  return PA{(as<S2Page>(leaf).get<S2Page::OA>().value & ~offset) | (ipa.value & offset)};
}

[[gnu::noinline]] std::optional<PA> Table::reach_by_port(IPA ipa, bool write) const {
  return reached(find(ipa), ipa, write);
}

std::optional<PA> Table::reach(IPA ipa, bool write) const {
  if (!linear_) [[unlikely]]
    return reach_by_port(ipa, write);
  const auto entries = [offset = *linear_](PA table) {
    return reinterpret_cast<std::uint64_t*>(table.value + offset);  // NOLINT: as entries_at()
  };
  return reached(descend(ipa, entries), ipa, write);
}

std::optional<Mapping> Table::walk(IPA ipa) const {
  const Found found = find(ipa);
  if (!is_leaf(found.kind)) return std::nullopt;
  const std::uint64_t offset = ipa - ipa.align_down(level_size(found.level));
  return Mapping{.at = output_of(found.descriptor, found.level) + offset,
                 .attributes = attributes_of(found.descriptor),
                 .level = found.level};
}

bool Table::mark_dirty(IPA ipa) const {
  // The write before the look at the descriptor: else a collector that cleans the page between the two could read the
  // page without the write.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const Found found = find(ipa);
  if (!is_leaf(found.kind)) return false;
  if (found.kind == Kind::block) return stores_pass(found.descriptor);
  bool writable = false;
  std::uint64_t old = 0;
  const bool changed = update(*found.entry, old, [&](std::uint64_t page) {
    writable = false;
    if (kind_of(page, kLastLevel) != Kind::page) return page;  // unmapped meanwhile
    writable = stores_pass(page) || is_logged(page);
    // Was it just made read-only, the log still has to know.
    return stores_pass(page) ? page : logged(page, writable, true);
  });
  if (changed) pages_.publish(found.entry, sizeof(std::uint64_t));
  return writable;
}

}  // namespace weir::stage2
