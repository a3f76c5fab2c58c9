#include "stage2/invalidate.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <span>
#include <utility>

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

// The S2_IPA commands of a range, in the form for some instances: made once, and given the VMID of each tag in turn.
class RangeCommands {
 public:
  explicit RangeCommands(const InvalidationRange& range)  // NOLINT: `commands_` stays as it is, for nothing
      : range_{range} {}
  ~RangeCommands() {}  // NOLINT(modernize-use-equals-default)
  RangeCommands(const RangeCommands&) = delete;
  RangeCommands& operator=(const RangeCommands&) = delete;

  // False: there are none with this form, for there would be too many: the whole VMID is to go.
  [[nodiscard]] bool prepare(bool ril) {
    if (count_ != 0 && ril_ == ril) [[likely]]
      return true;
    return make(ril);
  }
  // prepare() has said so: ever, or for this form.
  [[nodiscard]] bool whole() const { return whole_[0] || whole_[1]; }
  [[nodiscard]] bool whole(bool ril) const { return whole_[ril ? 1 : 0]; }
  [[nodiscard]] std::span<const smmu::Command> of(VMID vmid) {
    using C = smmu::TlbiS2Ipa::VMID;
    const std::span commands{commands_, count_};
    smmu::Command* c = commands_;
#pragma clang loop unroll(disable)
    do c->words[C::word] = (c->words[C::word] & ~C::mask) | C::encode(vmid);
    while (++c != commands_ + commands.size());
    return commands;
  }

 private:
  [[gnu::noinline]] bool make(bool ril) {
    bool& whole = whole_[ril ? 1 : 0];
    if (whole) return false;
    const std::size_t most = std::min<std::size_t>(range_.max_commands, kMost);
    count_ = 0;
    ril_ = ril;
    for_each_command(range_, ril, [&](IPA at, const smmu::TlbiRange& form) {
      whole = count_ == most;
      if (!whole) std::construct_at(&commands_[count_++], smmu::tlbi_s2_ipa(VMID{}, at, range_.leaf_only, form));
      return !whole;
    });
    if (whole) count_ = 0;
    return !whole;
  }

  static constexpr std::size_t kMost = 64;
  const InvalidationRange& range_;
  std::size_t count_ = 0;
  bool ril_ = false;
  std::array<bool, 2> whole_{};  // without and with range invalidation
  union {
    smmu::Command commands_[kMost];
  };
};

// Of the entries [from, to) of one instance: of(entry) for each that is not dead, and a SYNC, whose ticket is returned; 0 if
// there is nothing.
template <typename Of>
Ticket issue_each(const InvalidationArray& array, SmmuPort& smmu, std::uint32_t from, std::uint32_t to, Of of) {
  while (from < to && !array.entries()[to - 1].live()) --to;
  if (from == to) return 0;
  for (; from + 1 < to; ++from)
    if (array.entries()[from].live()) smmu.issue(of(from));
  return smmu.issue_and_sync(of(from));
}
[[gnu::noinline]] Ticket issue_live(const InvalidationArray& array, SmmuPort& smmu, std::uint32_t from,
                                    std::uint32_t to) {
  return issue_each(array, smmu, from, to, [&array](std::uint32_t i) { return array.commands(i, i + 1); });
}
// The same with the array's own commands. `dead`: some entries may be.
Ticket issue(const InvalidationArray& array, bool dead, SmmuPort& smmu, std::uint32_t from, std::uint32_t to) {
  if (dead) [[unlikely]]
    return issue_live(array, smmu, from, to);
  return from == to ? 0 : smmu.issue_and_sync(array.commands(from, to));
}

// One phase: submit(group), which returns a ticket, for each instance, then meanwhile(), then waits for all. Only with more
// instances than there is room for, the first ones are waited for before the last ones begin, and meanwhile() comes again.
template <typename Submit, typename Meanwhile>
[[gnu::always_inline]] inline void run(std::span<const Group> groups, Submit submit, Meanwhile meanwhile) {
  constexpr std::size_t kAtOnce = 64;
  Ticket tickets[kAtOnce];  // not initialised
  do {
    const std::span<const Group> some = groups.first(std::min(groups.size(), kAtOnce));
    Ticket* ticket = tickets;
    for (const Group& group : some) *ticket++ = submit(group);
    meanwhile();
    ticket = tickets;
    // NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): the first loop has set as many
    for (const Group& group : some) wait(*group.smmu, *ticket++);
    groups = groups.subspan(some.size());
  } while (!groups.empty());
}

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
  const std::span<const Group> groups = array.groups();
  const bool dead = array.has_dead();
  RangeCommands commands{range};
  const bool alike = array.alike() && !dead && commands.prepare(groups.front().ranges);
  run(
      groups,
      [&](const Group& group) {
        SmmuPort& smmu = *group.smmu;
        if (alike) [[likely]]
          return smmu.issue_and_sync(commands.of(group.vmid));
        if (!commands.prepare(group.ranges)) return issue(array, dead, smmu, group.tags, group.streams);
        return issue_each(array, smmu, group.tags, group.streams,
                          [&](std::uint32_t i) { return commands.of(array.entries()[i].target.vmid()); });
      },
      [&] {
        if (CpuTlb* const tlb = std::exchange(cpu, nullptr)) tlb->invalidate(range.ipa, range.bytes, range.leaf_only);
      });
  const bool whole = commands.whole();
  run(
      groups,
      [&](const Group& group) {
        const bool no_nh_all = whole && commands.whole(group.ranges);
        return issue(array, dead, *group.smmu, group.streams, no_nh_all ? group.nested : group.ats);
      },
      [] {});
  const bool ats = array.has_ats();
  if (ats)
    run(groups, [&](const Group& group) { return issue(array, dead, *group.smmu, group.ats, group.end); }, [] {});
  return ats;
}

}  // namespace weir::stage2
