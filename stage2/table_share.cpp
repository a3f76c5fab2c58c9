// Root slots that one table has from another, and copies of one table in another.
#include "stage2/table.hpp"
#include "stage2/table_leaf.hpp"

namespace weir::stage2 {

void Table::unlink_sharer(Table& sharer) {
  for (Table** link = &sharers_; *link != nullptr; link = &(*link)->next_sharer_) {
    if (*link != &sharer) continue;
    *link = sharer.next_sharer_;
    break;
  }
  sharer.next_sharer_ = nullptr;
  sharer.lender_ = nullptr;
}

std::expected<void, Error> Table::share_root(Table& sharer, IPA ipa, std::uint64_t bytes) {
  const IPA end = geometry_.input_end();
  if (ipa >= end || bytes > end - ipa) return std::unexpected{Error::out_of_range};
  if (bytes == 0 || !ipa.aligned(root_slot_bytes()) || bytes % root_slot_bytes() != 0)
    return std::unexpected{Error::misaligned};

  const Options& theirs = sharer.options_;
  // Equal input sizes have equal roots. What this table points to must be within reach of the sharer's walkers.
  if (&sharer == this || sharer.geometry_.input_bits() != geometry_.input_bits() ||
      sharer.geometry_.output_bits() < geometry_.output_bits() || theirs.fwb != options_.fwb ||
      (theirs.bbml < options_.bbml && !options_.pages_only) || (options_.dirty_state && !theirs.dirty_state))
    return std::unexpected{Error::incompatible};

  const unsigned level = geometry_.start_level();
  const std::size_t first = index(ipa, level), past = index(ipa + (bytes - 1), level) + 1;
  const bool has = sharer.lender_ != nullptr;
  if (lender_ != nullptr || sharer.sharers_ != nullptr ||
      (has && (sharer.shared_first_ != first || sharer.shared_end_ != past)))
    return std::unexpected{Error::shared};
  if (has && sharer.lender_ != this && sharer.walked_.load(std::memory_order_relaxed) && theirs.bbml < 2)
    return std::unexpected{Error::live_block};
  for (std::size_t slot = first; !has && slot < past; ++slot)
    if (load(*sharer.root_, slot) != 0) return std::unexpected{Error::already_mapped};

  if (has) sharer.lender_->unlink_sharer(sharer);
  sharer.lender_ = this;
  sharer.next_sharer_ = sharers_;
  sharer.shared_first_ = first;
  sharer.shared_end_ = past;
  sharers_ = &sharer;
  for (std::size_t slot = first; slot < past; ++slot) sharer.store(*sharer.root_, slot, load(*root_, slot));
  sharer.publish(*sharer.root_, first, past - first);
  return {};
}

void Table::unshare_root(Table& sharer) {
  if (sharer.lender_ != this) return;
  unlink_sharer(sharer);
  const std::size_t first = sharer.shared_first_, past = sharer.shared_end_;
  for (std::size_t slot = first; slot < past; ++slot) sharer.store(*sharer.root_, slot, 0);
  sharer.publish(*sharer.root_, first, past - first);
  sharer.shared_first_ = sharer.shared_end_ = 0;
}

std::expected<std::uint64_t, Error> Table::copy(const Table& other, IPA ipa, std::uint64_t bytes, std::uint64_t most) {
  if (const auto range = check_range(ipa, bytes); !range) return std::unexpected{range.error()};
  // A run of what goes on in one piece: [start, at) to [from, ...).
  IPA start = ipa;
  Mapping run{};
  const auto map_run = [&](IPA at) -> std::expected<void, Error> {
    if (at == start) return {};
    return map(start, run.at, at - start, run.attributes);
  };
  IPA at = ipa;
  while (at < ipa + bytes && most != 0) {
    const Found theirs = other.find(at);
    const Found mine = find(at);
    // Both stay what they are up to the nearer of the two ends.
    IPA end = std::min(step_end(at, ipa + bytes, theirs.level), step_end(at, ipa + bytes, mine.level));
    const bool fresh = is_leaf(theirs.kind) && !is_leaf(mine.kind);
    if (fresh) {
      end = at + std::min(end - at, most);
      most -= end - at;
      const Mapping next = *other.walk(at);
      if (at == start) {
        run = next;
      } else if (next.at != run.at + (at - start) || next.attributes != run.attributes) {
        if (const auto mapped = map_run(at); !mapped) return std::unexpected{mapped.error()};
        start = at;
        run = next;
      }
    } else {
      if (const auto mapped = map_run(at); !mapped) return std::unexpected{mapped.error()};
      start = end;
    }
    at = end;
  }
  if (const auto mapped = map_run(at); !mapped) return std::unexpected{mapped.error()};
  return at - ipa;
}

}  // namespace weir::stage2
