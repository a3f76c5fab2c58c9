#include "stage2/invalidation_array.hpp"

#include <algorithm>

#include "stage2/support/make.hpp"

namespace weir::stage2 {

namespace {

smmu::Command command_of(const Target& target) {
  switch (target.kind) {
    case TargetKind::s2_tag: return smmu::tlbi_s12_vmall(target.vmid());
    case TargetKind::stage1_stream: return smmu::cfgi_cd_all(target.sid());
    case TargetKind::nested_clear: return smmu::tlbi_nh_all(target.vmid());
    case TargetKind::ats_stream: break;
  }
  return smmu::atc_inv_all(target.sid());
}

}  // namespace

std::unique_ptr<InvalidationArray> InvalidationArray::with_room(const InvalidationArray* old, std::size_t more) {
  auto array = make<InvalidationArray>();
  if (array == nullptr) return nullptr;
  const std::span<const Entry> entries = old == nullptr ? std::span<const Entry>{} : old->entries();
  const auto live = static_cast<std::size_t>(std::ranges::count_if(entries, [](const Entry& e) { return e.live(); }));
  if (live + more == 0) return array;
  array->entries_ = make_array<Entry>(live + more);
  array->commands_ = make_array<smmu::Command>(live + more);
  array->groups_ = make_array<Group>(live + more);
  if (array->entries_ == nullptr || array->commands_ == nullptr || array->groups_ == nullptr) return nullptr;
  for (const Entry& entry : entries)
    if (entry.live()) array->entries_[array->size_++].copy(entry);
  return array;
}

std::unique_ptr<InvalidationArray> InvalidationArray::empty() { return with_room(nullptr, 0); }

std::unique_ptr<InvalidationArray> InvalidationArray::purge(const InvalidationArray& old) {
  auto array = with_room(&old, 0);
  if (array != nullptr) array->prepare();
  return array;
}

// Of the sorted entries: their commands, and where each instance's begin.
void InvalidationArray::prepare() {
  group_count_ = 0;
  alike_ = size_ != 0;
  ats_ = false;
  for (std::uint32_t i = 0; i < size_;) {
    Group& group = groups_[group_count_++];
    group.smmu = entries_[i].target.smmu;
    group.ranges = group.smmu->capabilities().idr3.get<smmu::IDR3::RIL>();
    const auto end_of = [&](TargetKind last) {
      for (; i < size_ && entries_[i].target.smmu == group.smmu && entries_[i].target.kind <= last; ++i)
        commands_[i] = command_of(entries_[i].target);
      return i;
    };
    group.vmid = entries_[i].target.vmid();
    group.tags = i;
    group.streams = end_of(TargetKind::s2_tag);
    alike_ = alike_ && group.streams == group.tags + 1 && group.ranges == groups_[0].ranges;
    group.nested = end_of(TargetKind::stage1_stream);
    group.ats = end_of(TargetKind::nested_clear);
    group.end = end_of(TargetKind::ats_stream);
    ats_ = ats_ || group.ats != group.end;
  }
}

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
  array->prepare();
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
    if (entry->users.fetch_sub(1, std::memory_order_release) == 1) dead_.store(true, std::memory_order_release);
}

std::uint32_t InvalidationArray::users(const Target& target) const {
  const Entry* entry = find(target);
  return entry == nullptr ? 0 : entry->users.load(std::memory_order_relaxed);
}

}  // namespace weir::stage2
