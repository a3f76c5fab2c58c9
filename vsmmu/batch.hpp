// Commands for one physical instance that have not been issued yet. TLB invalidations among them are merged as long as what
// they remove stays exactly the same.
//
// Exact, because none of the batch is executed before all of its commands were sent: a command that is given twice;
// one address with and without Leaf (the one without does both); two ranges with nothing between them (same tag,
// granule, level and Leaf) that one command can name. NH_ALL, which absorbs every invalidation of its VMID, is the
// Fanout's business: it goes out behind the batch.
//
// Not exact, and not done: two addresses without a range become one range. Without TG the command concerns entries of
// every granule, a range those of one. Nor does NH_ASID absorb the NH_VAs of its ASID: they remove global entries, too.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "guest-abi/smmu/command.hpp"

namespace weir::vsmmu {

class Batch {
 public:
  static constexpr std::size_t kCapacity = 64;
  static constexpr std::size_t kReserve = 2;  // commands that finish() may append to a full batch

  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] bool full() const { return count_ >= kCapacity; }
  [[nodiscard]] std::span<const smmu::Command> commands() const { return {commands_.data(), count_}; }
  void clear() { count_ = 0; }

  // Not full. Never merged.
  void add(const smmu::Command& c) { commands_[count_++] = c; }
  // Not full. A TLB invalidation, complete with its VMID. False: merged with one that is here.
  bool add_tlbi(const smmu::Command& c) {
    std::uint8_t& hint = hints_[slot(c)];
    if (hint < count_ && same(commands_[hint], c)) {
      // Leaf only if both have it.
      commands_[hint].words[1] &= c.words[1];
      return false;
    }
    if (ranged(c) && count_ != 0 && extend(commands_[count_ - 1], c)) return false;
    hint = static_cast<std::uint8_t>(count_);
    commands_[count_++] = c;
    return true;
  }
  // As add_tlbi() for each of `run` that there is room for, without ranges, `first` being their first words. Returns how
  // many were taken, merged ones included.
  std::size_t add_run(std::uint64_t first, std::span<const smmu::Command> run);
  [[nodiscard]] std::size_t size() const { return count_; }
  // Removes all TLB invalidations of `vmid`; returns how many.
  unsigned drop_tlbis(VMID vmid);
  // Whatever is here; for what closes a batch.
  void finish(const smmu::Command& c) { commands_[count_++] = c; }

 private:
  using Va = smmu::TlbiNhVa;  // its fields lie where those of the others are, or would be
  static bool ranged(const smmu::Command& c) { return (c.words[Va::TG::word] & Va::TG::mask) != 0; }
  static bool same(const smmu::Command& a, const smmu::Command& b) {
    static_assert(Va::Leaf::word == 1);
    return a.words[0] == b.words[0] && ((a.words[1] ^ b.words[1]) & ~Va::Leaf::mask) == 0;
  }
  // Which hint is asked for `c`. Neighbouring pages and ASIDs have different ones.
  static std::size_t slot(const smmu::Command& c) { return slot(c.words[0], c.words[1]); }
  static std::size_t slot(std::uint64_t first, std::uint64_t second) {
    return ((second >> Va::Address::shift) + (first >> Va::ASID::shift)) % kHints;
  }
  // `last` becomes both ranges, if they lie behind each other and one command can say so.
  static bool extend(smmu::Command& last, const smmu::Command& next);

  static constexpr std::size_t kHints = 64;
  std::size_t count_ = 0;
  std::array<std::uint8_t, kHints> hints_{};  // places in commands_ where an equal command may be: to be compared
  std::array<smmu::Command, kCapacity + kReserve> commands_;
};

}  // namespace weir::vsmmu
