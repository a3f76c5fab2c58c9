// The streams of a vSMMU: which physical STE each has, and why.
#include <algorithm>

#include "stage2/support/make.hpp"
#include "vsmmu/ownership.hpp"
#include "vsmmu/vsmmu.hpp"

namespace weir::vsmmu {

namespace {

// Whether the guest may see events of a stream with this physical STE: of all but those that abort in silence.
bool reports_to_guest(const smmu::Ste& ste) {
  return !ste.get<smmu::Ste::V>() || !smmu::is_abort(ste.get<smmu::Ste::Config>());
}

}  // namespace

std::expected<void, stage2::Error> VSmmu::attach(VStreamID vsid, stage2::SmmuPort& smmu, StreamID sid,
                                                 const StreamGrant& grant) {
  const Ownership own{*this};
  Backing* const backing = fanout_.find(smmu);
  if (backing == nullptr || !backing->tag) return std::unexpected{stage2::Error::incompatible};
  if (std::uint64_t{vsid.value} >> announced_.sid_bits() != 0) return std::unexpected{stage2::Error::out_of_range};
  if (find(vsid) != nullptr) return std::unexpected{stage2::Error::already_mapped};
  auto grown = make_array<Stream>(stream_count_ + 1);
  if (!grown) return std::unexpected{stage2::Error::out_of_memory};

  Stream s;
  s.vsid = vsid;
  s.sid = sid;
  s.grant = effective(grant, announced_, smmu.capabilities());
  s.backing = backing;
  const Target target = target_of(s);
  if (const auto installed = replace(s, target); !installed) return installed;

  // Under the lock: what an event notes in one of the others meanwhile is not to be lost with the old array.
  const SpinLock::Guard guard{lock_};
  const std::size_t at = lower_bound(vsid.value);
  std::copy_n(streams_.get(), at, grown.get());
  grown[at] = s;
  std::copy_n(streams_.get() + at, stream_count_ - at, grown.get() + at + 1);
  streams_.swap(grown);
  ++stream_count_;
  return {};
}

std::expected<void, stage2::Error> VSmmu::detach(VStreamID vsid) {
  const Ownership own{*this};
  Stream* const s = find(vsid);
  if (s == nullptr) return std::unexpected{stage2::Error::no_such_stream};
  if (!take_out(*s)) return std::unexpected{stage2::Error::out_of_memory};
  const SpinLock::Guard guard{lock_};
  std::move(s + 1, streams_.get() + stream_count_, s);
  --stream_count_;
  return {};
}

std::size_t VSmmu::lower_bound(std::uint64_t vsid) const {
  const Stream* const first = streams_.get();
  const auto* found = std::lower_bound(first, first + stream_count_, vsid,
                                       [](const Stream& s, std::uint64_t v) { return s.vsid.value < v; });
  return static_cast<std::size_t>(found - first);
}

Stream* VSmmu::find(VStreamID vsid) {
  const std::size_t at = lower_bound(vsid.value);
  return at < stream_count_ && streams_[at].vsid == vsid ? &streams_[at] : nullptr;
}

// The STE that the guest's tables and registers now ask for.
VSmmu::Target VSmmu::target_of(const Stream& s) {
  Target t;
  if (s.fenced) {
    t.ste = abort_ste();
    return t;
  }
  const GlobalState state{.enabled = registers_.cr0().get<smmu::CR0::SMMUEN>(),
                          .gbpa_abort = registers_.gbpa().get<smmu::GBPA::ABORT>()};
  if (state.enabled) {
    const StreamTable table{registers_.strtab_base(), registers_.strtab_base_cfg(), announced_.sid_bits()};
    const auto vste = table.fetch(memory_, s.vsid);
    if (!vste) {
      t.ste = invalid_ste();
      t.fault = vste.error();
      return t;
    }
    t.vste = *vste;
  }
  const Merged merged = merge_ste(t.vste, state, MergeLimits::of(announced_, s.backing->port->capabilities(), s.grant),
                                  s.backing->stage2);
  t.ste = merged.ste;
  if (merged.event) t.fault = SteFault{*merged.event, {}};
  return t;
}

// Delivers what the instance's queue holds of a configuration before it is forgotten. Not without end: whoever floods
// the queue meanwhile gets records of a time that has passed.
void VSmmu::drain_before_change(const Backing& b) {
  constexpr std::uint64_t kMost = 12;  // log2
  const std::uint64_t log2 = b.port->capabilities().idr1.get<smmu::IDR1::EVENTQS>();
  (void)drain_.drain_events(*b.port, 1U << std::min(log2, kMost));
}

void VSmmu::count_use(Backing& b, const smmu::Ste& before, const smmu::Ste& after) {
  if (reports_to_guest(before)) --b.reporting;
  if (reports_to_guest(after)) ++b.reporting;
}

std::expected<void, stage2::Error> VSmmu::replace(Stream& s, const Target& target, bool answers) {
  Backing& b = *s.backing;
  const StreamConfig before{s.fault, s.installed};
  const bool had_stage1 = uses_stage1(s.installed);
  const bool has_stage1 = uses_stage1(target.ste);
  // From the first store on, and until the events of the old STE have been fetched, an event may be about either.
  const auto switch_to = [&](const StreamConfig& config, const std::optional<StreamConfig>& previous) {
    const SpinLock::Guard guard{lock_};
    s.installed = config.installed;
    s.fault = config.fault;
    s.previous = previous;
  };
  switch_to({target.fault, target.ste}, before);
  if (has_stage1) Fanout::add_stage1(b);  // before the hardware can fill its TLB
  if (const auto ok = domain_.install(*b.tag, s.sid, s.use, target.ste, answers); !ok) {
    if (has_stage1) Fanout::remove_stage1(b);
    switch_to(before, std::nullopt);
    return ok;
  }
  if (had_stage1) Fanout::remove_stage1(b);
  if (s.use) {
    count_use(b, before.installed, target.ste);
    // Its SYNCs have made the events of the old STE visible (4.7.3).
    drain_before_change(b);
  } else if (reports_to_guest(target.ste)) {
    ++b.reporting;
  }
  ++counters_.installs;
  const SpinLock::Guard guard{lock_};
  s.use = stage2::StreamUse::of(target.ste);
  s.vste = target.vste;
  s.previous.reset();
  return {};
}

// The stream aborts and leaves the domain. False: its old STE is still in place, which is not expected, because a
// stream that has an STE needs no memory to abort.
bool VSmmu::take_out(Stream& s) {
  if (!s.use) return true;
  Backing& b = *s.backing;
  if (!domain_.uninstall(*b.tag, s.sid, *s.use, abort_ste(), !s.fenced)) {
    ++counters_.install_failures;
    return false;
  }
  if (uses_stage1(s.installed)) Fanout::remove_stage1(b);
  if (reports_to_guest(s.installed)) --b.reporting;
  drain_before_change(b);
  {
    const SpinLock::Guard guard{lock_};
    s.use.reset();
    s.installed = abort_ste();
    s.fault.reset();
  }
  terminate_stalls(&s);
  fanout_.flush();
  return true;
}

// Makes the physical STE what the guest asks for. `invalidate`: the guest has invalidated its configuration, so that
// context descriptors cached through an unchanged STE must go too. True if a new STE was (to be) installed.
bool VSmmu::update(Stream& s, bool invalidate) {
  const Target target = target_of(s);
  const bool same = s.use && target.ste == s.installed;
  if (same) {
    if (invalidate) fanout_.push(*s.backing, smmu::cfgi_ste(s.sid, true));
    // Invalid as before, but for another reason: what has happened until now was the old one.
    if (target.fault != s.fault) drain_before_change(*s.backing);
  } else if (!replace(s, target)) {
    // Out of memory, or ATS for a device that is about to be fenced. The old STE may give access that the guest has just
    // taken away: abort, for which nothing is needed.
    ++counters_.install_failures;
    (void)take_out(s);
    return true;
  }
  const SpinLock::Guard guard{lock_};
  s.vste = target.vste;
  s.fault = target.fault;
  s.flooded = false;
  s.budget.repaired();
  return !same;
}

bool VSmmu::silence(VStreamID vsid) {
  {
    const SpinLock::Guard guard{lock_};
    Stream* const s = find(vsid);
    if (s == nullptr) return true;
    s->flooded = true;
    deferred_.store(true);
  }
  if (try_own(Owner::administration) != Owner::nobody) return false;
  disown();
  return true;
}

void VSmmu::atc_timed_out(VStreamID vsid) {
  note_atc_timeout(vsid);  // for the guest's SYNC
  const SpinLock::Guard guard{lock_};
  Stream* const s = find(vsid);
  if (s == nullptr || s->fenced) return;
  s->timed_out = true;
  deferred_.store(true);
}

void VSmmu::act_on_deferred() {
  deferred_.store(false);  // whatever comes from now on is for the next time
  for (std::size_t i = 0; i < stream_count_; ++i) {
    Stream& s = streams_[i];
    bool fence = false;
    bool silent = false;
    {
      const SpinLock::Guard guard{lock_};
      s.fenced = s.fenced || s.timed_out;
      fence = s.timed_out && s.use;
      silent = s.flooded && s.use;
      s.timed_out = s.flooded = false;
    }
    if (!fence && !silent) continue;
    Target target;
    target.vste = s.vste;
    target.ste = abort_ste();
    if (target.ste == s.installed) continue;
    if (silent) ++counters_.silenced;
    if (!replace(s, target, !s.fenced)) {  // not expected: it needs no memory
      ++counters_.install_failures;
      (void)take_out(s);
    }
  }
}

}  // namespace weir::vsmmu
