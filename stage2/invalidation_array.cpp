#include "stage2/invalidation_array.hpp"

#include <algorithm>

#include "stage2/support/make.hpp"

namespace weir::stage2 {

std::unique_ptr<InvalidationArray> InvalidationArray::with_room(const InvalidationArray* old, std::size_t more) {
  auto array = make<InvalidationArray>();
  if (array == nullptr) return nullptr;
  const std::span<const Entry> entries = old == nullptr ? std::span<const Entry>{} : old->entries();
  const auto live = static_cast<std::size_t>(std::ranges::count_if(entries, [](const Entry& e) { return e.live(); }));
  if (live + more == 0) return array;
  array->entries_ = make_array<Entry>(live + more);
  if (array->entries_ == nullptr) return nullptr;
  for (const Entry& entry : entries)
    if (entry.live()) array->entries_[array->size_++].copy(entry);
  return array;
}

std::unique_ptr<InvalidationArray> InvalidationArray::empty() { return with_room(nullptr, 0); }

std::unique_ptr<InvalidationArray> InvalidationArray::purge(const InvalidationArray& old) { return with_room(&old, 0); }

std::unique_ptr<InvalidationArray> InvalidationArray::merge(const InvalidationArray& old,
                                                            std::span<const Target> targets) {
  auto array = with_room(&old, targets.size());
  if (array == nullptr) return nullptr;
  for (const Target& target : targets) {
    std::size_t at = array->lower_bound(target);
    Entry* const entries = array->entries_.get();
    if (at == array->size_ || entries[at].target != target) {
      for (std::size_t i = array->size_; i > at; --i) entries[i].copy(entries[i - 1]);
      ++array->size_;
      entries[at].target = target;
      entries[at].users.store(0, std::memory_order_relaxed);
    }
    entries[at].users.fetch_add(1, std::memory_order_relaxed);
  }
  return array;
}

std::size_t InvalidationArray::lower_bound(const Target& target) const {
  const auto found = std::ranges::lower_bound(entries(), target, std::less{}, &Entry::target);
  return static_cast<std::size_t>(found - entries().begin());
}

InvalidationArray::Entry* InvalidationArray::find(const Target& target) const {
  const std::size_t at = lower_bound(target);
  return at < size_ && entries_[at].target == target ? &entries_[at] : nullptr;
}

void InvalidationArray::unref(const Target& target) {
  // Release: the STE that needed the target was gone (and SYNCed) before a reader sees it unused.
  if (Entry* entry = find(target); entry != nullptr && entry->live())
    entry->users.fetch_sub(1, std::memory_order_release);
}

std::uint32_t InvalidationArray::users(const Target& target) const {
  const Entry* entry = find(target);
  return entry == nullptr ? 0 : entry->users.load(std::memory_order_relaxed);
}

bool InvalidationArray::has_dead() const {
  return std::ranges::any_of(entries(), [](const Entry& e) { return !e.live(); });
}

}  // namespace weir::stage2
