#include "stage2/table.hpp"

#include "stage2/table_leaf.hpp"
#include "stage2/table_reserve.hpp"

namespace weir::stage2 {

void RetiredPages::release(TablePages& pages) {
  list_.clear_and_dispose([&pages](TableNode* node) {
    pages.free(node->at, node->bytes);
    delete node;
  });
}

std::expected<std::unique_ptr<Table>, Error> Table::create(const Geometry& geometry, TablePages& pages,
                                                           const Options& options) {
  auto table = make<Table>(geometry, pages, options);
  if (table == nullptr) return std::unexpected{Error::out_of_memory};
  table->root_ = table->new_node(geometry.root_bytes(), geometry.start_level());
  if (table->root_ == nullptr) return std::unexpected{Error::out_of_memory};
  table->adopt(*table->root_);
  return table;
}

Table::~Table() {
  while (sharers_ != nullptr) unshare_root(*sharers_);
  if (lender_ != nullptr) lender_->unlink_sharer(*this);
  nodes_.clear_and_dispose([this](TableNode* node) {
    pages_.free(node->at, node->bytes);
    delete node;
  });
}

TableNode* Table::new_node(std::size_t bytes, unsigned level) {
  auto node = make<TableNode>();
  if (node == nullptr) return nullptr;
  if (level != kLastLevel) {
    node->below = make_array<TableNode*>(bytes / sizeof(std::uint64_t));
    if (node->below == nullptr) return nullptr;
  }
  const auto at = pages_.allocate(bytes);
  if (!at) return nullptr;
  node->at = *at;
  node->bytes = bytes;
  node->entries = static_cast<std::uint64_t*>(pages_.pointer(*at));
  return node.release();
}

void Table::adopt(TableNode& node) {
  nodes_.push_back(node);
  page_count_ += node.bytes / kPage4K;
}

std::size_t Table::index(IPA at, unsigned level) const {
  // The concatenated root is indexed by all the bits that are left.
  if (level == geometry_.start_level()) return static_cast<std::size_t>(at.value >> level_shift(level));
  return vmsa::level_index(at.value, level);
}

std::expected<void, Error> Table::check_range(IPA ipa, std::uint64_t bytes) const {
  if (bytes == 0 || !ipa.aligned(kPage4K) || bytes % kPage4K != 0) return std::unexpected{Error::misaligned};
  const std::uint64_t end = geometry_.input_end().value;
  if (ipa.value >= end || bytes > end - ipa.value) return std::unexpected{Error::out_of_range};
  const unsigned level = geometry_.start_level();
  if (index(ipa, level) < shared_end_ && index(ipa + (bytes - 1), level) >= shared_first_)
    return std::unexpected{Error::shared};
  return {};
}

// --- Descriptors -----------------------------------------------------------------------------------------------------

// The only way, but for update(), that a descriptor is written.
void Table::store(TableNode& node, std::size_t slot, std::uint64_t descriptor) {
  std::atomic_ref<std::uint64_t>{node.entries[slot]}.store(descriptor, std::memory_order_release);
  if (&node != root_) return;
  for (Table* sharer = sharers_; sharer != nullptr; sharer = sharer->next_sharer_)
    if (sharer->shares(slot))
      std::atomic_ref<std::uint64_t>{sharer->root_->entries[slot]}.store(descriptor, std::memory_order_release);
}

[[gnu::noinline]] void Table::publish(const TableNode& node, std::size_t first, std::size_t count) {
  if (count == 0) return;
  pages_.publish(&node.entries[first], count * sizeof(std::uint64_t));
  if (&node != root_) return;
  for (Table* sharer = sharers_; sharer != nullptr; sharer = sharer->next_sharer_)
    sharer->pages_.publish(&sharer->root_->entries[first], count * sizeof(std::uint64_t));
}

std::uint64_t Table::leaf(unsigned level, PA pa, const Attributes& attributes) const {
  const bool normal = attributes.memory == Memory::normal_wb;
  const auto combined = normal ? vmsa::S2MemAttr::normal_wb : vmsa::S2MemAttr::device_nGnRE;
  const auto forced = normal ? vmsa::S2MemAttrFwb::force_wb : vmsa::S2MemAttrFwb::device_nGnRE;
  const auto with_attributes = [&](auto& typed) {
    typed.template set<S2Attributes::Valid>(true)
        .template set<S2Attributes::MemAttr>(options_.fwb ? static_cast<std::uint64_t>(forced)
                                                          : static_cast<std::uint64_t>(combined))
        .template set<S2Attributes::S2AP>(permission(attributes.read, attributes.write))
        // Device is Outer Shareable whatever this says; D8.6.2 has SH of Device ignored.
        .template set<S2Attributes::SH>(normal ? vmsa::Shareability::inner : vmsa::Shareability::non_shareable)
        .template set<S2Attributes::AF>(true)
        .template set<S2Attributes::XN>(attributes.execute ? vmsa::S2Xn::executable : vmsa::S2Xn::never);
    return typed.words[0];
  };
  if (level == kLastLevel) return with_attributes(S2Page{}.set<S2Page::Table>(true).set<S2Page::OA>(pa));
  return with_attributes(S2Block{}.set<S2Block::OA>(pa));
}

Attributes Table::attributes_of(std::uint64_t leaf) const {
  const auto typed = as<S2Page>(leaf);
  const auto normal = options_.fwb ? static_cast<std::uint64_t>(vmsa::S2MemAttrFwb::force_wb)
                                   : static_cast<std::uint64_t>(vmsa::S2MemAttr::normal_wb);
  return {.memory = typed.get<S2Attributes::MemAttr>() == normal ? Memory::normal_wb : Memory::device_nGnRE,
          .read = readable(leaf),
          .write = stores_pass(leaf) || is_logged(leaf),
          .execute = typed.get<S2Attributes::XN>() == vmsa::S2Xn::executable};
}

// --- map -------------------------------------------------------------------------------------------------------------

bool Table::leaf_fits(unsigned level, IPA from, IPA to, PA pa) const {
  if (level == kLastLevel) return true;
  if (level == 0 || options_.pages_only || logging()) return false;
  return to - from == level_size(level) && pa.aligned(level_size(level));
}

// The tables that mapping [from, to) below `node` (nullptr: not there yet) adds.
std::expected<Table::Count, Error> Table::plan_map(const TableNode* node, unsigned level, IPA from, IPA to,
                                                   PA pa) const {
  Count needed;
  while (from < to) {
    const IPA end = step_end(from, to, level);
    const std::size_t slot = index(from, level);
    const Kind kind = node == nullptr ? Kind::invalid : kind_of(load(*node, slot), level);
    if (is_leaf(kind)) return std::unexpected{Error::already_mapped};
    if (kind == Kind::table || !leaf_fits(level, from, end, pa)) {
      const auto below = plan_map(kind == Kind::table ? node->below[slot] : nullptr, level + 1, from, end, pa);
      if (!below) return below;
      needed += *below;
      if (kind != Kind::table) needed.add(level + 1);
    } else if (node == nullptr && level == kLastLevel) {
      return needed;  // a table of pages only, all of which fit
    }
    pa += end - from;
    from = end;
  }
  return needed;
}

void Table::apply_map(TableNode& node, unsigned level, IPA from, IPA to, PA pa, const Attributes& attributes,
                      Reserve& reserve) {
  const std::size_t first = index(from, level);
  const bool log = level == kLastLevel && logging();
  Written written;
  for (std::size_t slot = first; from < to; ++slot) {
    const IPA end = step_end(from, to, level);
    if (kind_of(load(node, slot), level) == Kind::table) {
      apply_map(*node.below[slot], level + 1, from, end, pa, attributes, reserve);
    } else {
      std::uint64_t descriptor = 0;
      if (leaf_fits(level, from, end, pa)) {
        descriptor = leaf(level, pa, attributes);
        if (log) descriptor = logged(descriptor, attributes.write, true);
      } else {
        // Filled and published before it can be reached.
        TableNode& below = reserve.take(level + 1);
        apply_map(below, level + 1, from, end, pa, attributes, reserve);
        node.below[slot] = &below;
        descriptor = table_at(below.at);
      }
      store(node, slot, descriptor);
      ++node.live;
      written.add(slot);
    }
    pa += end - from;
    from = end;
  }
  publish(node, written.first(), written.count());
}

std::expected<void, Error> Table::map(IPA ipa, PA pa, std::uint64_t bytes, const Attributes& attributes) {
  if (const auto range = check_range(ipa, bytes); !range) return range;
  if (!pa.aligned(kPage4K)) return std::unexpected{Error::misaligned};
  const std::uint64_t end = geometry_.output_end().value;
  if (pa.value >= end || bytes > end - pa.value) return std::unexpected{Error::out_of_range};

  const unsigned level = geometry_.start_level();
  const auto needed = plan_map(root_, level, ipa, ipa + bytes, pa);
  if (!needed) return std::unexpected{needed.error()};
  Reserve reserve{*this};
  if (!reserve.grow(*needed)) return std::unexpected{Error::out_of_memory};
  apply_map(*root_, level, ipa, ipa + bytes, pa, attributes, reserve);
  return {};
}

// --- unmap -----------------------------------------------------------------------------------------------------------

void Table::retire_tree(TableNode& node, RetiredPages& retired) {
  if (node.below != nullptr) {
    for (std::size_t i = 0; i < vmsa::kEntries; ++i)
      if (node.below[i] != nullptr) retire_tree(*node.below[i], retired);
  }
  // Its content stays as it is: a walker may be in the middle of it.
  nodes_.erase(nodes_.iterator_to(node));
  page_count_ -= node.bytes / kPage4K;
  retired.list_.push_front(node);
}

// No block sticks out of [from, to).
void Table::apply_unmap(TableNode& node, unsigned level, IPA from, IPA to, RetiredPages& retired) {
  Written written;
  for (std::size_t slot = index(from, level); from < to; ++slot) {
    const IPA end = step_end(from, to, level);
    const Kind kind = kind_of(load(node, slot), level);
    bool gone = kind != Kind::invalid;
    TableNode* const below = kind == Kind::table ? node.below[slot] : nullptr;
    if (below != nullptr && end - from != level_size(level)) {
      apply_unmap(*below, level + 1, from, end, retired);
      gone = below->live == 0;
    }
    if (gone) {
      store(node, slot, 0);
      --node.live;
      written.add(slot);
      if (below != nullptr) {
        node.below[slot] = nullptr;
        retire_tree(*below, retired);
      }
    }
    from = end;
  }
  publish(node, written.first(), written.count());
}

// Most of what goes is a few pages of a table that keeps others: nothing is split, and no table goes. False: it is not so,
// and nothing is done.
bool Table::unmap_pages(IPA ipa, std::uint64_t bytes) {
  const IPA last = ipa + (bytes - 1);
  unsigned level = geometry_.start_level();
  std::size_t slot = index(ipa, level);
  if (slot != index(last, level)) return false;
  TableNode* node = root_;
  for (;;) {
    node = node->below[slot];
    if (node == nullptr) return false;
    slot = vmsa::level_index(ipa.value, ++level);
    const std::size_t end = vmsa::level_index(last.value, level);
    if (level != kLastLevel) {
      if (slot != end) return false;
      continue;
    }
    unsigned mapped = 0;
    for (std::size_t i = slot; i <= end; ++i)
      if (load(*node, i) != 0) ++mapped;
    if (mapped == node->live) return false;
    for (std::size_t i = slot; i <= end; ++i) store(*node, i, 0);
    node->live -= mapped;
    publish(*node, slot, end + 1 - slot);
    return true;
  }
}

std::expected<void, Error> Table::unmap(IPA ipa, std::uint64_t bytes, RetiredPages& retired) {
  if (const auto range = check_range(ipa, bytes); !range) return range;
  if (unmap_pages(ipa, bytes)) return {};
  if (const auto whole = split({.from = ipa, .to = ipa + bytes}); !whole) return whole;
  apply_unmap(*root_, geometry_.start_level(), ipa, ipa + bytes, retired);
  return {};
}

// --- protect ---------------------------------------------------------------------------------------------------------

std::expected<void, Error> Table::check_protect(const TableNode& node, unsigned level, IPA from, IPA to,
                                                Memory memory) const {
  for (std::size_t slot = index(from, level); from < to; ++slot) {
    const IPA end = step_end(from, to, level);
    const std::uint64_t descriptor = load(node, slot);
    const Kind kind = kind_of(descriptor, level);
    if (kind == Kind::invalid) return std::unexpected{Error::not_mapped};
    if (kind == Kind::table) {
      if (const auto below = check_protect(*node.below[slot], level + 1, from, end, memory); !below) return below;
    } else if (attributes_of(descriptor).memory != memory) {
      return std::unexpected{Error::live_block};
    }
    from = end;
  }
  return {};
}

// No block sticks out of [from, to).
void Table::apply_protect(TableNode& node, unsigned level, IPA from, IPA to, const Attributes& attributes) {
  const bool log = level == kLastLevel && logging();
  Written written;
  for (std::size_t slot = index(from, level); from < to; ++slot) {
    const IPA end = step_end(from, to, level);
    const std::uint64_t descriptor = load(node, slot);
    if (kind_of(descriptor, level) == Kind::table) {
      apply_protect(*node.below[slot], level + 1, from, end, attributes);
    } else {
      const std::uint64_t changed = leaf(level, output_of(descriptor, level), attributes);
      std::uint64_t old = 0;
      if (log) {
        update(node.entries[slot], old,
               [&](std::uint64_t page) { return logged(changed, attributes.write, is_dirty(page)); });
      } else {
        store(node, slot, changed);  // hardware changes nothing without a log
      }
      written.add(slot);
    }
    from = end;
  }
  publish(node, written.first(), written.count());
}

std::expected<void, Error> Table::protect(IPA ipa, std::uint64_t bytes, const Attributes& attributes) {
  if (const auto range = check_range(ipa, bytes); !range) return range;
  const unsigned level = geometry_.start_level();
  const Range range{.from = ipa, .to = ipa + bytes};
  if (const auto ok = check_protect(*root_, level, range.from, range.to, attributes.memory); !ok) return ok;
  if (const auto whole = split(range); !whole) return whole;
  apply_protect(*root_, level, range.from, range.to, attributes);
  return {};
}

}  // namespace weir::stage2
