#include "stage2/invalidate.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <span>

#include "guest-abi/smmu/command.hpp"

namespace weir::stage2 {

namespace {

using Group = InvalidationArray::Group;

// Calls fn(ipa, TlbiRange) for the commands that cover `range`, until it returns false. One command covers (NUM + 1) *
// 2^SCALE pages (4.4.1.1); a single page is the form without a range: NUM = SCALE = TTL = 0 is reserved.
template <typename Fn>
void for_each_command(const InvalidationRange& range, bool ril, Fn&& fn) {
  constexpr unsigned kMaxScale = 31;  // bit 5 of SCALE needs IDR5.DS
  IPA at = range.ipa;
  for (std::uint64_t pages = range.bytes / kPage4K; pages != 0;) {
    std::uint64_t covered = 1;
    smmu::TlbiRange form;
    if (ril && pages > 1) {
      const unsigned scale = std::min(static_cast<unsigned>(std::countr_zero(pages)), kMaxScale);
      std::uint64_t count = (pages >> scale) % 32;
      if (count == 0) count = 32;  // only at the largest scale
      covered = count << scale;
      if (covered > 1)
        form = {.tg = smmu::TlbiGranule::size4k, .num = static_cast<unsigned>(count - 1), .scale = scale};
    }
    if (!fn(at, form)) return;
    at += covered * kPage4K;
    pages -= covered;
  }
}

// The S2_IPA commands of a range: made once, and given the VMID of each tag in turn.
class RangeCommands {
 public:
  RangeCommands() {}   // NOLINT(modernize-use-equals-default): `commands_` stays as it is, for nothing
  ~RangeCommands() {}  // NOLINT(modernize-use-equals-default)
  RangeCommands(const RangeCommands&) = delete;
  RangeCommands& operator=(const RangeCommands&) = delete;

  void prepare(const InvalidationRange& range, bool ril) {
    if (count_ != 0 || whole_) return;
    const std::size_t most = std::min<std::size_t>(range.max_commands, kMost);
    for_each_command(range, ril, [&](IPA at, const smmu::TlbiRange& form) {
      whole_ = count_ == most;
      if (!whole_) std::construct_at(&commands_[count_++], smmu::tlbi_s2_ipa(VMID{}, at, range.leaf_only, form));
      return !whole_;
    });
  }
  // There are none, for there would be too many: the whole VMID is to go.
  [[nodiscard]] bool whole() const { return whole_; }
  [[nodiscard]] std::span<const smmu::Command> of(VMID vmid) {
    using C = smmu::TlbiS2Ipa::VMID;
    std::size_t i = 0;
    do commands_[i].words[C::word] = (commands_[i].words[C::word] & ~C::mask) | C::encode(vmid);
    while (++i < count_);
    return {commands_, count_};
  }

 private:
  static constexpr std::size_t kMost = 64;
  union {
    smmu::Command commands_[kMost];
  };
  std::size_t count_ = 0;
  bool whole_ = false;
};

// The SYNCs of one phase.
class Phase {
 public:
  explicit Phase(const InvalidationArray& array) : array_{array}, dead_{array.has_dead()} {}

  // Runs it: submit(group) for each instance, meanwhile() once, then waits.
  template <typename Submit, typename Meanwhile>
  void run(Submit submit, Meanwhile meanwhile) {
    for (const Group& group : array_.groups()) {
      if (count_ == syncs_.size()) wait_all();
      submit(group);
    }
    meanwhile();
    wait_all();
  }
  template <typename Submit>
  void run(Submit submit) {
    run(submit, [] {});
  }

  // The ready commands of the entries [from, to).
  void issue(const Group& group, std::uint32_t from, std::uint32_t to) {
    if (dead_) [[unlikely]] {
      return issue_live(group, from, to);
    }
    if (from != to) issue_and_sync(group, array_.commands(from, to));
  }
  // of(entry) for each of the entries [from, to).
  template <typename Of>
  void issue_each(const Group& group, std::uint32_t from, std::uint32_t to, Of of) {
    const auto dead = [&](std::uint32_t i) { return dead_ && !array_.entries()[i].live(); };
    while (from < to && dead(to - 1)) --to;
    if (from == to) return;
    for (; from + 1 < to; ++from)
      if (!dead(from)) group.smmu->issue(of(from));
    issue_and_sync(group, of(from));
  }

 private:
  void issue_and_sync(const Group& group, std::span<const smmu::Command> commands) {
    Sync& sync = syncs_[count_++];
    sync.smmu = group.smmu;
    sync.ticket = group.smmu->issue_and_sync(commands);
  }
  [[gnu::noinline]] void issue_live(const Group& group, std::uint32_t from, std::uint32_t to) {
    issue_each(group, from, to, [this](std::uint32_t i) { return array_.commands(i, i + 1); });
  }
  void wait_all() {
    for (const Sync& sync : std::span{syncs_}.first(count_)) wait(*sync.smmu, sync.ticket);
    count_ = 0;
  }

  struct Sync {
    SmmuPort* smmu;
    Ticket ticket;
  };
  const InvalidationArray& array_;
  std::size_t count_ = 0;
  bool dead_;
  std::array<Sync, 64> syncs_;  // not initialised
};

}  // namespace

unsigned s2_command_count(const InvalidationRange& range, bool ril) {
  if (!ril) return static_cast<unsigned>(std::min<std::uint64_t>(range.bytes / kPage4K, ~0U));
  unsigned count = 0;
  for_each_command(range, true, [&](IPA, const smmu::TlbiRange&) {
    ++count;
    return true;
  });
  return count;
}

bool invalidate(const InvalidationArray& array, const InvalidationRange& range, CpuTlb* cpu) {
  std::array<RangeCommands, 2> forms;  // without and with range invalidation
  Phase phase{array};
  bool ats = false;
  phase.run(
      [&](const Group& group) {
        ats = ats || group.ats != group.end;
        RangeCommands& commands = forms[group.ranges ? 1 : 0];
        commands.prepare(range, group.ranges);
        if (commands.whole()) return phase.issue(group, group.tags, group.streams);
        phase.issue_each(group, group.tags, group.streams,
                         [&](std::uint32_t i) { return commands.of(array.entries()[i].target.vmid()); });
      },
      [&] {
        if (cpu != nullptr) cpu->invalidate(range.ipa, range.bytes, range.leaf_only);
      });
  phase.run([&](const Group& group) {
    phase.issue(group, group.streams, forms[group.ranges ? 1 : 0].whole() ? group.nested : group.ats);
  });
  if (ats) phase.run([&](const Group& group) { phase.issue(group, group.ats, group.end); });
  return ats;
}

}  // namespace weir::stage2
