// What a change of stage 2 must invalidate, on which instance: a sorted array that never changes once it is published,
// but for the user counts, which only go down. New arrays are merged or purged from old ones and published whole.
//
// Most of the commands of a change depend on nothing but the array: they are made with it, and lie ready side by side.
#pragma once

#include <atomic>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/types.hpp"
#include "stage2/port.hpp"
#include "stage2/retire.hpp"

namespace weir::stage2 {

// In the order of the commands of an invalidation (design: "One change of stage 2"); each with the command that
// InvalidationArray::commands() has for it.
enum class TargetKind : std::uint8_t {
  s2_tag,         // stage-2 entries of a VMID: S12_VMALL, which a change of a smaller range replaces by S2_IPA
  stage1_stream,  // cached CDs of a stream, with the translation of their TTBs: CFGI_CD_ALL
  nested_clear,   // combined entries of a VMID: NH_ALL
  ats_stream      // the device's own cache: ATC_INV
};

// One thing to invalidate.
struct Target {
  SmmuPort* smmu = nullptr;
  TargetKind kind = TargetKind::s2_tag;
  std::uint32_t id = 0;  // VMID or StreamID, by kind

  [[nodiscard]] static Target tag(SmmuPort& smmu, TargetKind kind, VMID vmid) { return {&smmu, kind, vmid.value}; }
  [[nodiscard]] static Target stream(SmmuPort& smmu, TargetKind kind, StreamID sid) { return {&smmu, kind, sid.value}; }
  [[nodiscard]] VMID vmid() const { return VMID{static_cast<std::uint16_t>(id)}; }
  [[nodiscard]] StreamID sid() const { return StreamID{id}; }

  // By instance, then kind, then id.
  friend std::strong_ordering operator<=>(const Target& a, const Target& b) {
    if (const auto by = a.smmu->index() <=> b.smmu->index(); by != 0) return by;
    if (const auto by = a.kind <=> b.kind; by != 0) return by;
    return a.id <=> b.id;
  }
  friend bool operator==(const Target& a, const Target& b) { return (a <=> b) == 0; }
};

class InvalidationArray final : public Retired {
 public:
  struct Entry {
    Target target;
    std::atomic<std::uint32_t> users{0};  // 0: dead, needs no invalidation

    [[nodiscard]] bool live() const { return users.load(std::memory_order_acquire) != 0; }
    void copy(const Entry& other) {  // of an array that is not published yet
      target = other.target;
      users.store(other.users.load(std::memory_order_relaxed), std::memory_order_relaxed);
    }
  };

  // The entries of one instance, by kind: tags are [tags, streams), stage-1 streams [streams, nested), and so on.
  struct Group {
    SmmuPort* smmu;
    std::uint32_t tags, streams, nested, ats, end;
    bool ranges;  // IDR3.RIL
    VMID vmid;    // of the first tag, if there is one
  };

  // An array without entries. nullptr: out of memory.
  [[nodiscard]] static std::unique_ptr<InvalidationArray> empty();
  // `old` without its dead entries, and one user more for each of `targets` (in any order, repeats allowed).
  // nullptr: out of memory.
  [[nodiscard]] static std::unique_ptr<InvalidationArray> merge(const InvalidationArray& old,
                                                                std::span<const Target> targets);
  // `old` without its dead entries. nullptr: out of memory.
  [[nodiscard]] static std::unique_ptr<InvalidationArray> purge(const InvalidationArray& old);

  // One user less, in place: cannot fail. The target is in the array with at least one user.
  void unref(const Target& target);
  [[nodiscard]] std::uint32_t users(const Target& target) const;

  // Sorted; includes dead entries.
  [[nodiscard]] std::span<const Entry> entries() const { return {entries_.get(), size_}; }
  [[nodiscard]] bool has_dead() const { return dead_.load(std::memory_order_acquire); }
  // Each instance has one tag, and all take the same form of S2_IPA; there is at least one.
  [[nodiscard]] bool alike() const { return alike_; }
  // There are entries of devices' caches.
  [[nodiscard]] bool has_ats() const { return ats_; }
  // One for each instance, in their order.
  [[nodiscard]] std::span<const Group> groups() const { return {groups_.get(), group_count_}; }
  // The commands of the entries [from, to), the dead ones' too.
  [[nodiscard]] std::span<const smmu::Command> commands(std::uint32_t from, std::uint32_t to) const {
    return {commands_.get() + from, to - from};
  }

  // A reader who needs the array for longer than a read section holds it, from within one. The last who puts it down
  // deletes it: the grace period counts as one.
  void hold() { holders_.fetch_add(1, std::memory_order_relaxed); }
  void put() {
    if (holders_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  void expire() override { put(); }

 private:
  [[nodiscard]] static std::unique_ptr<InvalidationArray> with_room(const InvalidationArray* old, std::size_t more);
  [[nodiscard]] std::size_t lower_bound(const Target& target) const;
  [[nodiscard]] Entry* find(const Target& target) const;
  void prepare();

  std::unique_ptr<Entry[]> entries_;
  std::unique_ptr<smmu::Command[]> commands_;
  std::unique_ptr<Group[]> groups_;
  std::size_t size_ = 0;
  std::size_t group_count_ = 0;
  bool alike_ = false;
  bool ats_ = false;
  std::atomic<bool> dead_{false};  // an entry has died since
  std::atomic<std::uint32_t> holders_{1};
};

}  // namespace weir::stage2
