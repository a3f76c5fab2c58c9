#include "stage2/table.hpp"

#include <algorithm>
#include <atomic>

#include "guest-abi/vmsa.hpp"

namespace weir::stage2 {

namespace {

using vmsa::Kind;
using vmsa::S2Attributes;
using vmsa::S2Block;
using vmsa::S2Page;
using vmsa::S2Table;

std::uint64_t load(const TableNode& node, std::size_t slot) {
  return std::atomic_ref<std::uint64_t>{node.entries[slot]}.load(std::memory_order_acquire);
}

// The only way a descriptor is written.
void store(TableNode& node, std::size_t slot, std::uint64_t descriptor) {
  std::atomic_ref<std::uint64_t>{node.entries[slot]}.store(descriptor, std::memory_order_release);
}

template <typename T>
T as(std::uint64_t descriptor) {
  T typed;
  typed.words[0] = descriptor;
  return typed;
}

Kind kind_of(std::uint64_t descriptor, unsigned level) { return as<vmsa::Descriptor>(descriptor).kind(level); }
bool is_leaf(Kind kind) { return kind == Kind::block || kind == Kind::page; }

template <typename Leaf>
void set_attributes(Leaf& leaf, const Attributes& attributes) {
  const bool normal = attributes.memory == Memory::normal_wb;
  const auto memory = normal ? vmsa::S2MemAttr::normal_wb : vmsa::S2MemAttr::device_nGnRE;
  leaf.template set<S2Attributes::MemAttr>(static_cast<std::uint64_t>(memory))
      .template set<S2Attributes::S2AP>(attributes.read ? (attributes.write ? vmsa::S2Ap::rw : vmsa::S2Ap::ro)
                                                        : (attributes.write ? vmsa::S2Ap::wo : vmsa::S2Ap::none))
      // Device is Outer Shareable whatever this says; D8.6.2 has SH of Device ignored.
      .template set<S2Attributes::SH>(normal ? vmsa::Shareability::inner : vmsa::Shareability::non_shareable)
      .template set<S2Attributes::AF>(true)
      .template set<S2Attributes::XN>(attributes.execute ? vmsa::S2Xn::executable : vmsa::S2Xn::never);
}

Attributes attributes_of(std::uint64_t leaf) {
  const auto typed = as<S2Page>(leaf);
  const auto ap = typed.get<S2Attributes::S2AP>();
  const auto memory = static_cast<vmsa::S2MemAttr>(typed.get<S2Attributes::MemAttr>());
  return {.memory = memory == vmsa::S2MemAttr::normal_wb ? Memory::normal_wb : Memory::device_nGnRE,
          .read = ap == vmsa::S2Ap::ro || ap == vmsa::S2Ap::rw,
          .write = ap == vmsa::S2Ap::wo || ap == vmsa::S2Ap::rw,
          .execute = typed.get<S2Attributes::XN>() == vmsa::S2Xn::executable};
}

std::uint64_t leaf_at(unsigned level, PA pa, const Attributes& attributes) {
  if (level == kLastLevel) {
    S2Page page;
    page.set<S2Page::Valid>(true).set<S2Page::Table>(true).set<S2Page::OA>(pa);
    set_attributes(page, attributes);
    return page.words[0];
  }
  S2Block block;
  block.set<S2Block::Valid>(true).set<S2Block::OA>(pa);
  set_attributes(block, attributes);
  return block.words[0];
}

PA output_of(std::uint64_t leaf, unsigned level) {
  return level == kLastLevel ? as<S2Page>(leaf).get<S2Page::OA>() : as<S2Block>(leaf).get<S2Block::OA>();
}

std::uint64_t table_at(PA next) {
  return S2Table{}.set<S2Table::Valid>(true).set<S2Table::Table>(true).set<S2Table::NLTA>(next).words[0];
}

// The end of the part of [from, to) that one descriptor of `level` covers.
IPA step_end(IPA from, IPA to, unsigned level) {
  return std::min(to, from.align_down(level_size(level)) + level_size(level));
}

}  // namespace

// Pages taken out of it are linked, the rest goes back: nothing could have walked it.
class Table::Reserve {
 public:
  explicit Reserve(Table& table) : table_{table} {}
  Reserve(const Reserve&) = delete;
  Reserve& operator=(const Reserve&) = delete;
  ~Reserve() {
    list_.clear_and_dispose([this](TableNode* node) {
      table_.pages_.free(node->at, node->bytes);
      delete node;
    });
  }

  [[nodiscard]] bool grow(std::size_t count) {
    for (; count != 0; --count) {
      TableNode* node = table_.new_node(kPage4K);
      if (node == nullptr) return false;
      list_.push_front(*node);
    }
    return true;
  }
  // grow() has provided for it.
  TableNode& take() {
    TableNode& node = list_.front();
    list_.pop_front();
    table_.adopt(node);
    return node;
  }

 private:
  Table& table_;
  boost::intrusive::slist<TableNode> list_;
};

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
  table->root_ = table->new_node(geometry.root_bytes());
  if (table->root_ == nullptr) return std::unexpected{Error::out_of_memory};
  table->adopt(*table->root_);
  return table;
}

Table::~Table() {
  nodes_.clear_and_dispose([this](TableNode* node) {
    pages_.free(node->at, node->bytes);
    delete node;
  });
}

TableNode* Table::new_node(std::size_t bytes) {
  auto node = make<TableNode>();
  if (node == nullptr) return nullptr;
  const auto at = pages_.allocate(bytes);
  if (!at) return nullptr;
  node->at = *at;
  node->bytes = bytes;
  node->entries = static_cast<std::uint64_t*>(pages_.pointer(*at));
  return node.release();
}

void Table::adopt(TableNode& node) {
  nodes_.insert(node);
  page_count_ += node.bytes / kPage4K;
}

TableNode& Table::child(std::uint64_t descriptor) const {
  return *nodes_.find(as<S2Table>(descriptor).get<S2Table::NLTA>().value);
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
  return {};
}

// --- map -------------------------------------------------------------------------------------------------------------

bool Table::leaf_fits(unsigned level, IPA from, IPA to, PA pa) const {
  if (level == kLastLevel) return true;
  return level != 0 && !options_.pages_only && to - from == level_size(level) && pa.aligned(level_size(level));
}

// The number of tables that mapping [from, to) below `node` (nullptr: not there yet) adds.
std::expected<std::size_t, Error> Table::plan_map(const TableNode* node, unsigned level, IPA from, IPA to,
                                                  PA pa) const {
  std::size_t needed = 0;
  while (from < to) {
    const IPA end = step_end(from, to, level);
    const std::uint64_t descriptor = node == nullptr ? 0 : load(*node, index(from, level));
    const Kind kind = kind_of(descriptor, level);
    if (is_leaf(kind)) return std::unexpected{Error::already_mapped};
    if (kind == Kind::table || !leaf_fits(level, from, end, pa)) {
      const auto below = plan_map(kind == Kind::table ? &child(descriptor) : nullptr, level + 1, from, end, pa);
      if (!below) return below;
      needed += *below + (kind == Kind::table ? 0 : 1);
    }
    pa += end - from;
    from = end;
  }
  return needed;
}

void Table::apply_map(TableNode& node, unsigned level, IPA from, IPA to, PA pa, const Attributes& attributes,
                      Reserve& reserve) {
  const std::size_t first = index(from, level);
  std::size_t slot = first;
  for (; from < to; ++slot) {
    const IPA end = step_end(from, to, level);
    const std::uint64_t descriptor = load(node, slot);
    if (kind_of(descriptor, level) == Kind::table) {
      apply_map(child(descriptor), level + 1, from, end, pa, attributes, reserve);
    } else if (leaf_fits(level, from, end, pa)) {
      store(node, slot, leaf_at(level, pa, attributes));
      ++node.live;
    } else {
      // Filled and published before it can be reached.
      TableNode& below = reserve.take();
      apply_map(below, level + 1, from, end, pa, attributes, reserve);
      store(node, slot, table_at(below.at));
      ++node.live;
    }
    pa += end - from;
    from = end;
  }
  pages_.publish(&node.entries[first], (slot - first) * sizeof(std::uint64_t));
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

// --- split -----------------------------------------------------------------------------------------------------------

bool Table::split_allowed(std::uint64_t block) const {
  return !walked_ || options_.bbml >= 2 || (options_.bbml == 1 && as<S2Block>(block).get<S2Block::nT>());
}

// The block that `boundary` lies within, if any, by its level; 0: none (there are no level-0 blocks).
std::expected<unsigned, Error> Table::block_to_split(IPA boundary) const {
  if (boundary == geometry_.input_end()) return 0;
  const TableNode* node = root_;
  for (unsigned level = geometry_.start_level(); !boundary.aligned(level_size(level)); ++level) {
    const std::uint64_t descriptor = load(*node, index(boundary, level));
    const Kind kind = kind_of(descriptor, level);
    if (kind == Kind::block && !split_allowed(descriptor)) return std::unexpected{Error::live_block};
    if (kind != Kind::table) return kind == Kind::block ? level : 0;
    node = &child(descriptor);
  }
  return 0;
}

// Sets aside the tables that splits at both ends of a range need.
std::expected<void, Error> Table::reserve_splits(IPA ipa, std::uint64_t bytes, Reserve& reserve) {
  const IPA end = ipa + bytes;
  const auto first = block_to_split(ipa);
  if (!first) return std::unexpected{first.error()};
  const auto last = block_to_split(end);
  if (!last) return std::unexpected{last.error()};

  std::size_t needed = 0;
  if (*first != 0)
    for (unsigned level = *first; !ipa.aligned(level_size(level)); ++level) ++needed;
  if (*last != 0)
    for (unsigned level = *last; !end.aligned(level_size(level)); ++level) {
      // Both ends below one block share its new table.
      const std::uint64_t size = level_size(level);
      const bool shared = *first == *last && !ipa.aligned(size) && ipa.align_down(size) == end.align_down(size);
      if (!shared) ++needed;
    }
  if (!reserve.grow(needed)) return std::unexpected{Error::out_of_memory};
  return {};
}

// Replaces a block by a table that means the same: one store, nothing else changes in it.
TableNode& Table::split(TableNode& node, std::size_t slot, unsigned level, Reserve& reserve) {
  const std::uint64_t block = load(node, slot);
  const Attributes attributes = attributes_of(block);
  const PA pa = output_of(block, level);
  TableNode& below = reserve.take();
  for (std::size_t i = 0; i < vmsa::kEntries; ++i)
    store(below, i, leaf_at(level + 1, pa + i * level_size(level + 1), attributes));
  below.live = vmsa::kEntries;
  pages_.publish(below.entries, kPage4K);
  store(node, slot, table_at(below.at));
  pages_.publish(&node.entries[slot], sizeof(std::uint64_t));
  return below;
}

bool Table::mark_boundary(IPA boundary) {
  if (boundary == geometry_.input_end()) return false;
  TableNode* node = root_;
  for (unsigned level = geometry_.start_level(); !boundary.aligned(level_size(level)); ++level) {
    const std::size_t slot = index(boundary, level);
    const std::uint64_t descriptor = load(*node, slot);
    const Kind kind = kind_of(descriptor, level);
    if (kind == Kind::table) {
      node = &child(descriptor);
      continue;
    }
    if (kind != Kind::block) return false;
    auto block = as<S2Block>(descriptor);
    store(*node, slot, block.set<S2Block::nT>(true).words[0]);
    pages_.publish(&node->entries[slot], sizeof(std::uint64_t));
    return true;
  }
  return false;
}

bool Table::prepare_split(IPA ipa, std::uint64_t bytes) {
  if (options_.bbml != 1 || !walked_ || !check_range(ipa, bytes)) return false;
  const bool first = mark_boundary(ipa);
  const bool last = mark_boundary(ipa + bytes);
  return first || last;
}

// --- unmap -----------------------------------------------------------------------------------------------------------

void Table::retire_tree(TableNode& node, unsigned level, RetiredPages& retired) {
  if (level < kLastLevel) {
    for (std::size_t i = 0; i < vmsa::kEntries; ++i) {
      const std::uint64_t descriptor = load(node, i);
      if (kind_of(descriptor, level) == Kind::table) retire_tree(child(descriptor), level + 1, retired);
    }
  }
  // Its content stays as it is: a walker may be in the middle of it.
  nodes_.erase(nodes_.iterator_to(node));
  page_count_ -= node.bytes / kPage4K;
  retired.list_.push_front(node);
}

void Table::apply_unmap(TableNode& node, unsigned level, IPA from, IPA to, RetiredPages& retired, Reserve& reserve) {
  const std::size_t first = index(from, level);
  std::size_t slot = first;
  for (; from < to; ++slot) {
    const IPA end = step_end(from, to, level);
    const std::uint64_t descriptor = load(node, slot);
    const Kind kind = kind_of(descriptor, level);
    const bool whole = end - from == level_size(level);
    if (kind != Kind::invalid && whole) {
      store(node, slot, 0);
      --node.live;
      if (kind == Kind::table) retire_tree(child(descriptor), level + 1, retired);
    } else if (kind != Kind::invalid) {
      TableNode& below = kind == Kind::table ? child(descriptor) : split(node, slot, level, reserve);
      apply_unmap(below, level + 1, from, end, retired, reserve);
      if (below.live == 0) {
        store(node, slot, 0);
        --node.live;
        retire_tree(below, level + 1, retired);
      }
    }
    from = end;
  }
  pages_.publish(&node.entries[first], (slot - first) * sizeof(std::uint64_t));
}

std::expected<void, Error> Table::unmap(IPA ipa, std::uint64_t bytes, RetiredPages& retired) {
  if (const auto range = check_range(ipa, bytes); !range) return range;
  Reserve reserve{*this};
  if (const auto reserved = reserve_splits(ipa, bytes, reserve); !reserved) return reserved;
  apply_unmap(*root_, geometry_.start_level(), ipa, ipa + bytes, retired, reserve);
  return {};
}

// --- protect ---------------------------------------------------------------------------------------------------------

std::expected<void, Error> Table::check_protect(const TableNode& node, unsigned level, IPA from, IPA to,
                                                Memory memory) const {
  while (from < to) {
    const IPA end = step_end(from, to, level);
    const std::uint64_t descriptor = load(node, index(from, level));
    const Kind kind = kind_of(descriptor, level);
    if (kind == Kind::invalid) return std::unexpected{Error::not_mapped};
    if (kind == Kind::table) {
      if (const auto below = check_protect(child(descriptor), level + 1, from, end, memory); !below) return below;
    } else if (attributes_of(descriptor).memory != memory) {
      return std::unexpected{Error::live_block};
    }
    from = end;
  }
  return {};
}

void Table::apply_protect(TableNode& node, unsigned level, IPA from, IPA to, const Attributes& attributes,
                          Reserve& reserve) {
  const std::size_t first = index(from, level);
  std::size_t slot = first;
  for (; from < to; ++slot) {
    const IPA end = step_end(from, to, level);
    const std::uint64_t descriptor = load(node, slot);
    if (kind_of(descriptor, level) == Kind::table) {
      apply_protect(child(descriptor), level + 1, from, end, attributes, reserve);
    } else if (end - from == level_size(level)) {
      store(node, slot, leaf_at(level, output_of(descriptor, level), attributes));
    } else {
      apply_protect(split(node, slot, level, reserve), level + 1, from, end, attributes, reserve);
    }
    from = end;
  }
  pages_.publish(&node.entries[first], (slot - first) * sizeof(std::uint64_t));
}

std::expected<void, Error> Table::protect(IPA ipa, std::uint64_t bytes, const Attributes& attributes) {
  if (const auto range = check_range(ipa, bytes); !range) return range;
  const unsigned level = geometry_.start_level();
  if (const auto ok = check_protect(*root_, level, ipa, ipa + bytes, attributes.memory); !ok) return ok;
  Reserve reserve{*this};
  if (const auto reserved = reserve_splits(ipa, bytes, reserve); !reserved) return reserved;
  apply_protect(*root_, level, ipa, ipa + bytes, attributes, reserve);
  return {};
}

// --- look ------------------------------------------------------------------------------------------------------------

std::optional<Mapping> Table::lookup(IPA ipa) const {
  if (ipa >= geometry_.input_end()) return std::nullopt;
  const TableNode* node = root_;
  for (unsigned level = geometry_.start_level();; ++level) {
    const std::uint64_t descriptor = load(*node, index(ipa, level));
    const Kind kind = kind_of(descriptor, level);
    if (kind == Kind::invalid) return std::nullopt;
    if (is_leaf(kind)) {
      const std::uint64_t offset = ipa - ipa.align_down(level_size(level));
      return Mapping{
          .at = output_of(descriptor, level) + offset, .attributes = attributes_of(descriptor), .level = level};
    }
    node = &child(descriptor);
  }
}

bool Table::check_tree(const TableNode& node, unsigned level, std::size_t& seen) const {
  ++seen;
  unsigned live = 0;
  for (std::size_t i = 0; i < node.bytes / sizeof(std::uint64_t); ++i) {
    const std::uint64_t descriptor = load(node, i);
    const Kind kind = kind_of(descriptor, level);
    if (kind == Kind::invalid) {
      if (descriptor != 0) return false;
      continue;
    }
    ++live;
    if (kind == Kind::table) {
      if ((descriptor & S2Table::Layout::res0[0]) != 0) return false;
      const auto below = nodes_.find(as<S2Table>(descriptor).get<S2Table::NLTA>().value);
      if (below == nodes_.end() || below->bytes != kPage4K || below->live == 0) return false;
      if (!check_tree(*below, level + 1, seen)) return false;
      continue;
    }
    const std::uint64_t res0 = level == kLastLevel ? S2Page::Layout::res0[0] : S2Block::Layout::res0[0];
    const PA pa = output_of(descriptor, level);
    if ((descriptor & res0) != 0 || !pa.aligned(level_size(level)) || pa >= geometry_.output_end()) return false;
    if (!as<S2Page>(descriptor).get<S2Page::AF>() || (options_.pages_only && level != kLastLevel)) return false;
  }
  return live == node.live;
}

bool Table::check_invariants() const {
  std::size_t seen = 0;
  // As many tables in the tree as there are nodes, each found by its address: none is lost, none is linked twice.
  return check_tree(*root_, geometry_.start_level(), seen) && seen == nodes_.size() &&
         page_count_ == nodes_.size() - 1 + geometry_.root_tables();
}

}  // namespace weir::stage2
