// Descriptors of a stage-2 table: how they are read and written, and what they say. Internal to Table.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "guest-abi/types.hpp"
#include "guest-abi/vmsa.hpp"
#include "stage2/geometry.hpp"
#include "stage2/table.hpp"

namespace weir::stage2 {

using vmsa::Kind;
using vmsa::S2Attributes;
using vmsa::S2Block;
using vmsa::S2Page;
using vmsa::S2Table;

// The Software field of a page that cannot be written, but was while the log is on.
inline constexpr std::uint64_t kWrittenBefore = 1;

inline std::uint64_t load(const TableNode& node, std::size_t slot) {
  return std::atomic_ref<std::uint64_t>{node.entries[slot]}.load(std::memory_order_acquire);
}

// Changes a descriptor that hardware may change, too: by what next(descriptor) makes of it, at last. Returns whether
// anything changed, with the descriptor before in `old`.
template <typename Next>
bool update(std::uint64_t& entry, std::uint64_t& old, Next&& next) {
  const std::atomic_ref<std::uint64_t> shared{entry};
  old = shared.load(std::memory_order_acquire);
  for (;;) {
    const std::uint64_t changed = next(old);
    if (changed == old) return false;
    if (shared.compare_exchange_weak(old, changed, std::memory_order_acq_rel, std::memory_order_acquire)) return true;
  }
}

template <typename T>
T as(std::uint64_t descriptor) {
  T typed;
  typed.words[0] = descriptor;
  return typed;
}

inline Kind kind_of(std::uint64_t descriptor, unsigned level) { return as<vmsa::Descriptor>(descriptor).kind(level); }
inline bool is_leaf(Kind kind) { return kind == Kind::block || kind == Kind::page; }

inline PA output_of(std::uint64_t leaf, unsigned level) {
  return level == vmsa::kLastLevel ? as<S2Page>(leaf).get<S2Page::OA>() : as<S2Block>(leaf).get<S2Block::OA>();
}

inline std::uint64_t table_at(PA next) {
  return S2Table{}.set<S2Table::Valid>(true).set<S2Table::Table>(true).set<S2Table::NLTA>(next).words[0];
}

constexpr vmsa::S2Ap permission(bool read, bool write) {
  if (read) return write ? vmsa::S2Ap::rw : vmsa::S2Ap::ro;
  return write ? vmsa::S2Ap::wo : vmsa::S2Ap::none;
}
inline bool readable(std::uint64_t leaf) {
  const auto ap = as<S2Page>(leaf).get<S2Attributes::S2AP>();
  return ap == vmsa::S2Ap::ro || ap == vmsa::S2Ap::rw;
}
// S2AP alone: not so for a page that is writable-clean.
inline bool stores_pass(std::uint64_t leaf) {
  const auto ap = as<S2Page>(leaf).get<S2Attributes::S2AP>();
  return ap == vmsa::S2Ap::wo || ap == vmsa::S2Ap::rw;
}
inline bool is_logged(std::uint64_t leaf) { return as<S2Page>(leaf).get<S2Attributes::DBM>(); }

// A page under the log: writable-clean or dirty, or (`write` false) not writable, with what it was before.
inline std::uint64_t logged(std::uint64_t page, bool write, bool dirty) {
  return as<S2Page>(page)
      .set<S2Attributes::S2AP>(permission(readable(page), write && dirty))
      .set<S2Attributes::DBM>(write)
      .set<S2Attributes::Software>(!write && dirty ? kWrittenBefore : 0)
      .words[0];
}
// The same page without a log.
inline std::uint64_t unlogged(std::uint64_t page) {
  return as<S2Page>(page)
      .set<S2Attributes::S2AP>(permission(readable(page), stores_pass(page) || is_logged(page)))
      .set<S2Attributes::DBM>(false)
      .set<S2Attributes::Software>(0)
      .words[0];
}
inline bool is_dirty(std::uint64_t page) {
  return stores_pass(page) || as<S2Page>(page).get<S2Attributes::Software>() == kWrittenBefore;
}

// The end of the part of [from, to) that one descriptor of `level` covers.
inline IPA step_end(IPA from, IPA to, unsigned level) {
  return std::min(to, from.align_down(level_size(level)) + level_size(level));
}

// The descriptors of a node that were written, from the first to the last.
class Written {
 public:
  void add(std::size_t slot) {
    if (count_ == 0) first_ = slot;
    count_ = slot - first_ + 1;
  }
  [[nodiscard]] std::size_t first() const { return first_; }
  [[nodiscard]] std::size_t count() const { return count_; }

 private:
  std::size_t first_ = 0, count_ = 0;
};

}  // namespace weir::stage2
