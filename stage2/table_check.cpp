// What must hold of a table at any time; for the tests.
#include "stage2/table.hpp"
#include "stage2/table_leaf.hpp"

namespace weir::stage2 {

bool Table::check_leaf(std::uint64_t descriptor, unsigned level) const {
  const PA pa = output_of(descriptor, level);
  if (!pa.aligned(level_size(level)) || pa >= geometry_.output_end()) return false;
  if (level != kLastLevel) {
    if (level == 0 || options_.pages_only) return false;
    auto block = as<S2Block>(descriptor);
    if (block.get<S2Block::nT>() && options_.bbml != 1) return false;
    return block.set<S2Block::nT>(false).words[0] == leaf(level, pa, attributes_of(descriptor));
  }
  if (is_logged(descriptor) && !logging()) return false;
  // Nothing is set that leaf() does not set, but for what the log knows.
  return unlogged(descriptor) == leaf(level, pa, attributes_of(descriptor));
}

bool Table::check_tree(const TableNode& node, unsigned level, std::size_t& seen, std::size_t& pages) const {
  ++seen;
  pages += node.bytes / kPage4K;
  if (node.entries != pages_.pointer(node.at) || (node.below == nullptr) != (level == kLastLevel)) return false;
  unsigned live = 0;
  for (std::size_t i = 0; i < node.bytes / sizeof(std::uint64_t); ++i) {
    if (&node == root_ && shares(i)) {
      if (node.below[i] != nullptr) return false;
      continue;  // the lender checks it
    }
    const std::uint64_t descriptor = load(node, i);
    const Kind kind = kind_of(descriptor, level);
    TableNode* const below = node.below == nullptr ? nullptr : node.below[i];
    if ((below != nullptr) != (kind == Kind::table)) return false;
    if (kind == Kind::invalid) {
      if (descriptor != 0) return false;
      continue;
    }
    ++live;
    if (kind == Kind::table) {
      if (descriptor != table_at(below->at) || below->bytes != kPage4K || below->live == 0) return false;
      if (!check_tree(*below, level + 1, seen, pages)) return false;
    } else if (!check_leaf(descriptor, level)) {
      return false;
    }
  }
  return live == node.live;
}

bool Table::check_sharers() const {
  if (lender_ != nullptr) {
    bool found = false;
    for (const Table* s = lender_->sharers_; s != nullptr; s = s->next_sharer_) found |= s == this;
    if (!found) return false;
  }
  for (const Table* sharer = sharers_; sharer != nullptr; sharer = sharer->next_sharer_) {
    if (sharer->lender_ != this || sharer->shared_first_ >= sharer->shared_end_) return false;
    for (std::size_t slot = sharer->shared_first_; slot < sharer->shared_end_; ++slot)
      if (load(*sharer->root_, slot) != load(*root_, slot)) return false;
    std::size_t seen = 0, pages = 0;
    if (!sharer->check_tree(*sharer->root_, geometry_.start_level(), seen, pages)) return false;
  }
  return (lender_ == nullptr) == (shared_end_ == 0);
}

bool Table::check_invariants() const {
  std::size_t seen = 0, pages = 0;
  // As many tables in the tree as there are nodes: none is lost, none is linked twice.
  return check_tree(*root_, geometry_.start_level(), seen, pages) && seen == nodes_.size() && page_count_ == pages &&
         check_sharers();
}

}  // namespace weir::stage2
