#include "stage2/invalidate.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <span>

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/ste.hpp"

namespace weir::stage2 {

namespace {

using Entry = InvalidationArray::Entry;

// Commands for one instance on their way to it, a few at a time.
class Batch {
 public:
  explicit Batch(SmmuPort& smmu) : smmu_{smmu} {}
  void add(const smmu::Command& command) {
    if (size_ == commands_.size()) flush();
    commands_[size_++] = command;
    any_ = true;
  }
  [[nodiscard]] bool any() const { return any_; }
  Ticket sync() { return smmu_.issue_and_sync(std::span{commands_}.first(size_)); }

 private:
  void flush() {
    smmu_.issue(commands_);
    size_ = 0;
  }
  SmmuPort& smmu_;
  std::array<smmu::Command, 32> commands_;
  std::size_t size_ = 0;
  bool any_ = false;
};

// SYNCs issued to different instances, to be awaited together.
class Pending {
 public:
  void add(SmmuPort& smmu, Ticket ticket) {
    if (size_ == syncs_.size()) wait_all();
    syncs_[size_++] = {&smmu, ticket};
  }
  void wait_all() {
    for (const auto& [smmu, ticket] : std::span{syncs_}.first(size_)) wait(*smmu, ticket);
    size_ = 0;
  }

 private:
  struct Sync {
    SmmuPort* smmu;
    Ticket ticket;
  };
  std::array<Sync, 32> syncs_;
  std::size_t size_ = 0;
};

// Calls fn(ipa, TlbiRange) for the commands that cover `range`. One command covers (NUM + 1) * 2^SCALE pages (4.4.1.1);
// a single page is the form without a range: NUM = SCALE = TTL = 0 is reserved.
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
    fn(at, form);
    at += covered * kPage4K;
    pages -= covered;
  }
}

void stage2_commands(const Entry& tag, const InvalidationRange& range, Batch& batch) {
  const bool ril = tag.target.smmu->capabilities().idr3.get<smmu::IDR3::RIL>();
  if (s2_command_count(range, ril) > range.max_commands) return batch.add(smmu::tlbi_s12_vmall(tag.target.vmid()));
  for_each_command(range, ril, [&](IPA at, const smmu::TlbiRange& form) {
    batch.add(smmu::tlbi_s2_ipa(tag.target.vmid(), at, range.leaf_only, form));
  });
}

// Runs one phase: `add(entry, batch)` for the live entries of each instance, all submitted, then all awaited.
template <typename Fn>
void phase(std::span<const Entry> entries, Fn&& add) {
  Pending pending;
  while (!entries.empty()) {
    SmmuPort& smmu = *entries.front().target.smmu;
    const auto end = std::ranges::find_if(entries, [&](const Entry& e) { return e.target.smmu != &smmu; });
    const auto count = static_cast<std::size_t>(end - entries.begin());
    Batch batch{smmu};
    for (const Entry& entry : entries.first(count))
      if (entry.live()) add(entry, batch);
    if (batch.any()) pending.add(smmu, batch.sync());
    entries = entries.subspan(count);
  }
  pending.wait_all();
}

}  // namespace

unsigned s2_command_count(const InvalidationRange& range, bool ril) {
  if (!ril) return static_cast<unsigned>(std::min<std::uint64_t>(range.bytes / kPage4K, ~0U));
  unsigned count = 0;
  for_each_command(range, true, [&](IPA, const smmu::TlbiRange&) { ++count; });
  return count;
}

void invalidate(const InvalidationArray& array, const InvalidationRange& range) {
  phase(array.entries(), [&](const Entry& entry, Batch& batch) {
    if (entry.target.kind == TargetKind::s2_tag) stage2_commands(entry, range, batch);
  });
  // Configuration before TLB: where commands do run in order, no entry is made from a CD that is about to go.
  phase(array.entries(), [&](const Entry& entry, Batch& batch) {
    if (entry.target.kind == TargetKind::stage1_stream) batch.add(smmu::cfgi_cd_all(entry.target.sid()));
    if (entry.target.kind == TargetKind::nested_clear) batch.add(smmu::tlbi_nh_all(entry.target.vmid()));
  });
  phase(array.entries(), [&](const Entry& entry, Batch& batch) {
    if (entry.target.kind == TargetKind::ats_stream) batch.add(smmu::atc_inv_all(entry.target.sid()));
  });
  // A device that did not answer may go on with what it holds: it is cut off before anybody counts on it. Whoever owns the
  // stream hears of it, too, and installs an aborting STE of his own.
  for (const Entry& entry : array.entries()) {
    SmmuPort& smmu = *entry.target.smmu;
    if (entry.target.kind != TargetKind::ats_stream || !entry.live() || smmu.atc_answers(entry.target.sid())) continue;
    const auto abort = smmu::Ste{}.set<smmu::Ste::V>(true).set<smmu::Ste::Config>(smmu::SteConfig::abort);
    // An entry that exists is replaced without memory.
    static_cast<void>(smmu.install_ste(entry.target.sid(), abort));
  }
}

}  // namespace weir::stage2
