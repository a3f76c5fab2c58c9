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
  if (backing == nullptr || backing->tag(TagKind::open) == nullptr) return std::unexpected{stage2::Error::incompatible};
  if (!fits(vsid, announced_.sid_bits())) return std::unexpected{stage2::Error::out_of_range};
  if (find(vsid) != nullptr) return std::unexpected{stage2::Error::already_mapped};
  return attach(vsid, *backing, sid, grant);
}

std::expected<void, stage2::Error> VSmmu::attach_further(VStreamID vsid, stage2::SmmuPort& smmu, StreamID sid) {
  const Ownership own{*this};
  Backing* const backing = fanout_.find(smmu);
  if (backing == nullptr || backing->tag(TagKind::open) == nullptr) return std::unexpected{stage2::Error::incompatible};
  if (find(vsid) == nullptr) return std::unexpected{stage2::Error::no_such_stream};
  if (find(smmu, sid) != nullptr) return std::unexpected{stage2::Error::already_mapped};
  return attach(vsid, *backing, sid, {});
}

// For the owner.
std::expected<void, stage2::Error> VSmmu::attach(VStreamID vsid, Backing& backing, StreamID sid,
                                                 const StreamGrant& grant) {
  auto grown = make_array<Stream>(stream_count_ + 1);
  if (!grown) return std::unexpected{stage2::Error::out_of_memory};

  Stream s;
  s.vsid = vsid;
  s.sid = sid;
  s.grant = effective(grant, announced_, backing.port->capabilities());
  s.backing = &backing;
  if (held_) {
    const auto slots = held_->reserve();
    if (!slots) return std::unexpected{slots.error()};
    s.slots = *slots;
    s.kind = TagKind::held;
  }
  const Target target = target_of(s);
  if (const auto installed = replace(s, target); !installed) {
    if (held_) held_->release(s.slots);
    return installed;
  }

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
  Stream* s = find(vsid);
  if (s == nullptr) return std::unexpected{stage2::Error::no_such_stream};
  for (; s != nullptr; s = find(vsid)) {
    if (!take_out(*s)) return std::unexpected{stage2::Error::out_of_memory};
    if (held_) held_->release(s->slots);
    const SpinLock::Guard guard{lock_};
    std::move(s + 1, streams_.get() + stream_count_, s);
    --stream_count_;
  }
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
VSmmu::Target VSmmu::target_of(const Stream& s, bool reread) {
  Target t;
  t.kind = s.kind;
  if (s.fenced) {
    t.ste = abort_ste();
    return t;
  }
  const GlobalState state{.enabled = registers_.cr0().get<smmu::CR0::SMMUEN>(),
                          .gbpa_abort = registers_.gbpa().get<smmu::GBPA::ABORT>()};
  if (!reread) {
    t.vste = s.vste;
  } else if (state.enabled) {
    const StreamTable table{registers_.strtab_base(), registers_.strtab_base_cfg(), announced_.sid_bits()};
    const auto vste = table.fetch(memory_, s.vsid);
    if (!vste) {
      t.ste = invalid_ste();
      t.fault = vste.error();
      return t;
    }
    t.vste = *vste;
  }
  const auto limits = MergeLimits::of(announced_, s.backing->port->capabilities(), s.grant);
  const auto merge = [&](TagKind kind) {
    return merge_ste(t.vste, state, limits, s.backing->stage2[static_cast<std::size_t>(kind)]);
  };
  const Merged merged = merge(t.kind);
  t.ste = merged.ste;
  if (merged.event) t.fault = SteFault{*merged.event, {}};
  if (!held_ || !uses_stage1(t.ste)) return t;
  t.cd = copy_context(t.ste);
  t.kind = t.cd ? TagKind::held : TagKind::open;
  if (t.kind != s.kind) t.ste = merge(t.kind).ste;
  if (t.cd) {
    t.context = t.ste.get<smmu::Ste::S1ContextPtr>();
    point_at_copy(s, s.second, t.ste);
  }
  return t;
}

// The context descriptor of an STE that has only one. No value: it is the hardware's to read, as in strict mode, because there
// are several, or because it cannot be read now, which is for the hardware to find out and report.
std::optional<smmu::Cd> VSmmu::copy_context(const smmu::Ste& ste) {
  using smmu::Cd;
  if (ste.get<smmu::Ste::S1CDMax>() != 0) return std::nullopt;
  Cd cd;
  if (!memory_.read(ste.get<smmu::Ste::S1ContextPtr>(), std::as_writable_bytes(std::span{cd.words})))
    return std::nullopt;
  // Of features that no guest is offered: RES0 for it.
  for (std::size_t i = 0; i < cd.words.size(); ++i) cd.words[i] &= Cd::Layout::guest[i];
  // ILLEGAL for the guest's SMMU (5.4), but the host ASID would not be.
  if (!asid_exists(cd.get<Cd::ASID>())) cd.set<Cd::V>(false);
  return cd;
}

// `ste` reads one of Weir's copies, through the caches if the instance does at all.
void VSmmu::point_at_copy(const Stream& s, bool second, smmu::Ste& ste) const {
  using smmu::Ste;
  const bool coherent = s.backing->port->capabilities().idr0.get<smmu::IDR0::COHACC>();
  const auto cached = coherent ? smmu::CdCacheability::write_back_ra : smmu::CdCacheability::non_cacheable;
  ste.set<Ste::S1ContextPtr>(held_->address(s.slots, second))
      .set<Ste::S1CIR>(cached)
      .set<Ste::S1COR>(cached)
      .set<Ste::S1CSH>(smmu::Shareability::inner);
}

// Whether the hardware has `t` already.
bool VSmmu::in_place(const Stream& s, const Target& t) {
  return s.use && t.kind == s.kind && t.ste == s.installed && t.cd == s.cd;
}

// Delivers what the instance's queue holds of a configuration before it is forgotten. Not without end: a device that floods
// the queue meanwhile gets records of a time that has passed.
void VSmmu::drain_before_change(const Backing& b) {
  constexpr std::uint64_t kMost = 12;  // log2
  const std::uint64_t log2 = b.port->capabilities().idr1.get<smmu::IDR1::EVENTQS>();
  (void)drain_.drain_events(*b.port, 1U << std::min(log2, kMost));
}

void VSmmu::count_use(Backing& b, const smmu::Ste& before, const smmu::Ste& after) {
  if (reports_to_guest(before)) fanout_.remove_reporting(b);
  if (reports_to_guest(after)) fanout_.add_reporting(b);
}

// Of the guest's ASID in a context descriptor that the hardware could use.
std::optional<ASID> VSmmu::asid_of(const std::optional<smmu::Cd>& cd) {
  if (!cd || !cd->get<smmu::Cd::V>()) return std::nullopt;
  return cd->get<smmu::Cd::ASID>();
}

// Writes the copy that `target` asks for where no STE points, under a host ASID that is recorded first.
std::expected<void, stage2::Error> VSmmu::store_copy(const Stream& s, bool second, const Target& target) {
  smmu::Cd copy = *target.cd;
  if (const auto guest = asid_of(target.cd)) {
    const auto host = fanout_.acquire(*s.backing, *guest);
    if (!host) {
      ++counters_.asids_exhausted;
      return std::unexpected{stage2::Error::out_of_memory};
    }
    copy.set<smmu::Cd::ASID>(*host);
  }
  held_->store(s.slots, second, copy);
  ++counters_.contexts;
  return {};
}

// Tags do not change while an STE is in use: the stream aborts in between. Without `use` afterwards, it still does.
std::expected<void, stage2::Error> VSmmu::exchange(Stream& s, const smmu::Ste& ste, TagKind kind, bool answers) {
  const Backing& b = *s.backing;
  if (s.use && kind != s.kind) {
    if (const auto out = domain_.uninstall(*b.tag(s.kind), s.sid, *s.use, abort_ste(), answers); !out) return out;
    const SpinLock::Guard guard{lock_};
    s.use.reset();
  }
  return domain_.install(*b.tag(kind), s.sid, s.use, ste, answers);
}

std::expected<void, stage2::Error> VSmmu::replace(Stream& s, const Target& target, bool answers) {
  Backing& b = *s.backing;
  const bool was_in_use = s.use.has_value();
  const StreamConfig before{s.fault, s.installed, s.context};
  const bool has_stage1 = uses_stage1(target.ste);
  smmu::Ste ste = target.ste;
  bool second = s.second;
  if (target.cd) {
    second = !second;
    if (const auto stored = store_copy(s, second, target); !stored) return stored;
    point_at_copy(s, second, ste);
  }
  // From the first store on, and until the events of the old STE have been fetched, an event may be about either.
  const auto switch_to = [&](const StreamConfig& config, const std::optional<StreamConfig>& previous) {
    const SpinLock::Guard guard{lock_};
    s.installed = config.installed;
    s.fault = config.fault;
    s.context = config.context;
    s.previous = previous;
  };
  switch_to({target.fault, ste, target.context}, before);
  if (has_stage1) fanout_.add_stage1(b, target.kind);  // before the hardware can fill its TLB
  const auto done = exchange(s, ste, target.kind, answers);
  if (!done) {
    if (has_stage1) fanout_.remove_stage1(b, target.kind);
    if (const auto asid = asid_of(target.cd)) fanout_.release(b, *asid);
    switch_to(before, std::nullopt);
    if (was_in_use && !s.use) left(s);
    return done;
  }
  if (was_in_use) {
    forget_installed(s, before.installed);
    count_use(b, before.installed, ste);
    // Its SYNCs have made the events of the old STE visible (4.7.3).
    drain_before_change(b);
  } else if (reports_to_guest(ste)) {
    fanout_.add_reporting(b);
  }
  s.kind = target.kind;
  s.cd = target.cd;
  s.second = second;
  ++counters_.installs;
  const SpinLock::Guard guard{lock_};
  s.use = stage2::StreamUse::of(ste);
  s.vste = target.vste;
  s.previous.reset();
  return {};
}

// The hardware uses `installed`, and the copy of a context descriptor that it pointed to, no more: CFGI and SYNC are behind us.
void VSmmu::forget_installed(Stream& s, const smmu::Ste& installed) {
  if (uses_stage1(installed)) fanout_.remove_stage1(*s.backing, s.kind);
  if (const auto asid = asid_of(s.cd)) fanout_.release(*s.backing, *asid);
  s.cd.reset();
}

// The stream has been taken out of the domain, and aborts.
void VSmmu::left(Stream& s) {
  forget_installed(s, s.installed);
  if (reports_to_guest(s.installed)) fanout_.remove_reporting(*s.backing);
  drain_before_change(*s.backing);
  {
    const SpinLock::Guard guard{lock_};
    s.use.reset();
    s.installed = abort_ste();
    s.fault.reset();
    s.context.reset();
  }
  terminate_stalls(&s);
  fanout_.flush();
}

// The stream aborts and leaves the domain. False: its old STE is still in place, which is not expected, because a
// stream that has an STE needs no memory to abort.
bool VSmmu::take_out(Stream& s) {
  if (!s.use) return true;
  if (!domain_.uninstall(*s.backing->tag(s.kind), s.sid, *s.use, abort_ste(), !s.hung)) {
    ++counters_.install_failures;
    return false;
  }
  left(s);
  return true;
}

// A stream that floods, or has flooded, is heard again when the guest has invalidated its configuration and the budget allows
// it. Until then it aborts; what the guest asks for is remembered.
void VSmmu::keep_silent(Stream& s, Target& target) {
  const SpinLock::Guard guard{lock_};
  if (s.flooded && !s.silenced) ++counters_.silenced;
  s.silenced = s.silenced || s.flooded;
  s.flooded = false;
  if (!s.silenced) return;
  s.repaired = !s.budget.repair();
  s.silenced = s.repaired;
  if (!s.silenced) return;
  target.ste = abort_ste();
  target.kind = s.kind;
  target.fault.reset();
  target.cd.reset();
  target.context.reset();
}

// Makes the physical STE what the guest asks for, for the reason `why`. True if a new STE was (to be) installed.
bool VSmmu::update(Stream& s, Pending why) {
  Target target = target_of(s, why != Pending::cd);
  if (s.silenced || s.flooded) [[unlikely]]
    keep_silent(s, target);
  const bool same = in_place(s, target);
  if (same) {
    // The guest has invalidated its configuration: context descriptors cached through an unchanged STE must go too. But a
    // copy that is the same is also what is cached of it.
    const bool cached = uses_stage1(s.installed) && !s.cd;
    if (cached && why == Pending::cfgi) fanout_.push(*s.backing, smmu::cfgi_ste(s.sid, true));
    if (cached && why == Pending::cd) fanout_.push(*s.backing, smmu::cfgi_cd_all(s.sid));
    // Invalid as before, but for another reason: what has happened until now was the old one.
    if (target.fault != s.fault) drain_before_change(*s.backing);
  } else if (!replace(s, target)) {
    // Out of memory or of host ASIDs, or ATS for a device that is about to be fenced. The old STE may give access that the
    // guest has just taken away: abort, for which nothing is needed.
    ++counters_.install_failures;
    (void)take_out(s);
    return true;
  }
  const SpinLock::Guard guard{lock_};
  s.vste = target.vste;
  s.fault = target.fault;
  return !same;
}

void VSmmu::atc_timed_out(VStreamID vsid) {
  note_atc_timeout(vsid);  // for the guest's SYNC
  const SpinLock::Guard guard{lock_};
  Stream* const s = find(vsid);
  if (s == nullptr || s->fenced) return;
  s->timed_out = true;
  deferred_.store(true);
}

void VSmmu::quarantine(VStreamID vsid) {
  {
    const SpinLock::Guard guard{lock_};
    for (Stream& s : std::span{streams_.get(), stream_count_})  // one vSID may stand for several streams
      if (s.vsid == vsid && !s.fenced) {
        s.quarantined = true;
        deferred_.store(true);
      }
  }
  if (try_own(Owner::administration) == Owner::nobody) disown();
}

bool VSmmu::act_on_deferred() {
  deferred_.store(false);  // whatever comes from now on is for the next time
  unsigned left = bounds_.installs;
  for (std::size_t i = 0; i < stream_count_; ++i) {
    if (left == 0) {  // and so is the rest
      deferred_.store(true);
      return true;
    }
    Stream& s = streams_[i];
    bool fence = false;
    bool silent = false;
    bool heard = false;
    {
      const SpinLock::Guard guard{lock_};
      s.hung = s.hung || s.timed_out;
      s.fenced = s.fenced || s.timed_out || s.quarantined;
      fence = (s.timed_out || s.quarantined) && s.use;
      silent = s.flooded && s.use && !s.silenced;
      heard = !silent && s.silenced && s.repaired && s.use && s.budget.repair();
      s.timed_out = s.quarantined = s.flooded = false;
      s.silenced = (s.silenced || silent) && !heard;
      if (silent || heard) s.repaired = false;
    }
    if (!fence && !silent && !heard) continue;
    Target target;
    if (heard) {
      target = target_of(s, false);
    } else {
      target.vste = s.vste;
      target.ste = abort_ste();
      target.kind = s.kind;
    }
    if (silent) ++counters_.silenced;
    if (in_place(s, target)) continue;
    --left;
    if (!replace(s, target, !s.hung)) {  // only if it is to be heard: aborting needs no memory
      ++counters_.install_failures;
      (void)take_out(s);
    }
  }
  return false;
}

}  // namespace weir::vsmmu
