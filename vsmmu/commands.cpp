// The command side of a vSMMU: consuming its queue, and what of it takes more than one step.
#include <algorithm>
#include <bit>
#include <utility>

#include "vsmmu/vsmmu.hpp"

namespace weir::vsmmu {

using smmu::Opcode;

void VSmmu::set_consuming() {
  consuming_ =
      registers_.cr0().get<smmu::CR0::CMDQEN>() && registers_.cr0ack().get<smmu::CR0::CMDQEN>() && !cmdq_error_;
}

Progress VSmmu::consume(Bounds& left) {
  if (pending_ != Pending::none && !finish_pending(left)) return Progress::again;
  while (consuming_) {
    if (const auto copied = queue_.copied(); !copied.empty()) [[unlikely]] {
      left.commands -= std::min(left.commands, static_cast<unsigned>(copied.size()));
    } else {
      const auto next = queue_.look();
      if (next == CommandQueue::Next::refused) [[unlikely]] {
        registers_.publish_cmdq_prod(queue_.prod());
        continue;
      }
      if (next == CommandQueue::Next::empty || left.commands == 0 || left.pushed == 0) {
        publish_progress();
        return next == CommandQueue::Next::empty ? Progress::done : Progress::again;
      }
      if (!queue_.fetch(memory_, left.commands)) [[unlikely]] {
        command_error(smmu::CmdqError::CERROR_ABT);
        break;
      }
      left.commands -= static_cast<unsigned>(queue_.copied().size());
    }
    const bool all = execute_copied(left);
    left.pushed -= std::min(left.pushed, fanout_.take_pushed());
    if (!all) return Progress::again;
    if (queue_.drained()) {
      publish_progress();
      return Progress::done;
    }
  }
  (void)queue_.take_posted(false);
  return Progress::done;
}

void VSmmu::complete_sync() {
  pending_ = Pending::none;
  // Not consumed then; executed again once the guest has acknowledged the error, with no ATC_INV outstanding (7.1).
  if (atc_issued_ && atc_failed()) return command_error(smmu::CmdqError::CERROR_ATC_INV_SYNC);
  const auto sync = rules::typed<smmu::Sync>(queue_.copied()[0]);
  consumed(Opcode::SYNC);
  publish_cons();
  irqs_.sync_completed(sync);  // after CONS: whoever observes the signal observes that (3.18, 4.7.3)
}

// Faults of transactions that ended before the SYNC are visible before it completes (4.7.3).
bool VSmmu::finish_sync(Bounds& left) {
  const auto events = [this](stage2::SmmuPort& smmu) { return drain_.events_pending(smmu); };
  while (!fanout_.completed(draining_, events)) {
    if (left.polls == 0) return false;
    --left.polls;
  }
  if (draining_ != 0 && !drain_events(left)) return false;
  complete_sync();
  return true;
}

// Takes NH_VAs of the usual kind, one or many. False: these are others.
[[gnu::always_inline]] inline bool VSmmu::take_usual(std::span<const smmu::Command> copied, const Bounds& left) {
  const bool plain = usual_va_.plain(copied[0]);
  if (!plain && !usual_va_.ranged(copied[0])) return false;
  if (const std::size_t run = plain ? usual_va_.run(copied) : 1; run > 1) {
    take_run(copied.first(run), left);
  } else {
    fanout_.invalidate_usual(copied[0]);
    consumed(Opcode::TLBI_NH_VA);
  }
  return true;
}

// Several pages of one address space.
[[gnu::noinline]] void VSmmu::take_run(std::span<const smmu::Command> run, const Bounds& left) {
  const std::size_t most = (left.pushed - fanout_.pushed()) / fanout_.backings().size();
  const std::size_t n = std::clamp<std::size_t>(most, 1, run.size());
  fanout_.invalidate_run(run.first(n));
  consumed(Opcode::TLBI_NH_VA, static_cast<std::uint32_t>(n));
}

// Until all that was copied is consumed, or one is illegal. False: a bound is reached.
bool VSmmu::execute_copied(Bounds& left) {
  do {
    const std::span<const smmu::Command> copied = queue_.copied();
    if (rules::is_sync(copied[0])) {
      fanout_.submit_sync();
      if (!finish_sync(left)) {
        pending_ = Pending::sync;
        return false;
      }
    } else if (!take_usual(copied, left) && !execute_other(copied[0], left)) {
      return false;
    }
    if (queue_.copied().empty()) return true;
  } while (fanout_.pushed() < left.pushed);
  publish_progress();
  return false;
}

// Issues what is batched, then lets the guest see how far its queue has been consumed.
void VSmmu::publish_progress() {
  fanout_.flush();
  publish_cons();
}

// A queue that was full and is no longer wakes CPUs that wait for room, where IDR0.SEV says so (4.1.2).
void VSmmu::publish_cons() {
  const std::uint32_t before = registers_.cmdq_cons().get<smmu::CMDQ_CONS::RD>();
  if (before == queue_.cons()) return;
  registers_.publish_cmdq_cons(queue_.cons());
  if (!announced_.idr0.get<smmu::IDR0::SEV>()) return;
  // PROD after CONS is visible: whoever has stored to PROD since has not seen the old CONS last.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (queue_.full(before, registers_.shown_cmdq_prod())) irqs_.queue_has_room();
}

[[gnu::noinline]] void VSmmu::command_error(smmu::CmdqError error) {
  ++(error == smmu::CmdqError::CERROR_ILL   ? counters_.illegal
     : error == smmu::CmdqError::CERROR_ABT ? counters_.aborted
                                            : counters_.atc_timeouts);
  fanout_.flush();  // the commands before it have been consumed
  queue_.stop();
  IrqUnit::Due due;
  {
    const SpinLock::Guard guard{lock_};
    registers_.publish_cmdq_error(queue_.cons(), error);
    irqs_.activate<smmu::GERROR::CMDQ_ERR>(due);
    cmdq_error_ = true;
  }
  set_consuming();
  irqs_.send(due);
}

bool VSmmu::asid_exists(ASID asid) const { return announced_.idr0.get<smmu::IDR0::ASID16>() || asid.value < 0x100; }

bool VSmmu::ssid_exists(SubstreamID ssid) const { return fits(ssid, announced_.ssid_bits()); }

bool VSmmu::granule_offered(smmu::TlbiGranule tg) const {
  using smmu::IDR5;
  switch (tg) {
    case smmu::TlbiGranule::none: return true;
    case smmu::TlbiGranule::size4k: return announced_.idr5.get<IDR5::GRAN4K>();
    case smmu::TlbiGranule::size16k: return announced_.idr5.get<IDR5::GRAN16K>();
    case smmu::TlbiGranule::size64k: return announced_.idr5.get<IDR5::GRAN64K>();
  }
  return false;
}

// An address-based TLBI, in the one form that every instance understands as the vSMMU would.
template <typename T>
void VSmmu::invalidate_address(T c) {
  if (c.template get<typename T::TG>() != smmu::TlbiGranule::none) {
    if (!granule_offered(c.template get<typename T::TG>())) return;  // no such entries
    // Reserved without DS and treated as "any level" (4.4.1.1): an instance with DS would take it literally.
    if (c.template get<typename T::TG>() == smmu::TlbiGranule::size16k && c.template get<typename T::TTL>() == 1 &&
        !announced_.idr5.get<smmu::IDR5::DS>())
      c.template set<typename T::TTL>(0);
  }
  fanout_.invalidate(c);
}

// False: it takes more than is left.
[[gnu::noinline]] bool VSmmu::execute_other(const smmu::Command& c, Bounds& left) {
  switch (command_legal(c, announced_) ? execute(c) : Step::illegal) {
    case Step::consumed: consumed(c.opcode()); return true;
    case Step::pending: return finish_pending(left);
    case Step::illegal: break;
  }
  command_error(smmu::CmdqError::CERROR_ILL);
  return true;
}

// Of a legal command, other than a SYNC.
VSmmu::Step VSmmu::execute(const smmu::Command& c) {
  using rules::typed;
  switch (c.opcode()) {
    case Opcode::TLBI_NH_VA: {
      const auto t = typed<smmu::TlbiNhVa>(c);
      if (asid_exists(t.get<smmu::TlbiNhVa::ASID>())) invalidate_address(t);
      return Step::consumed;
    }
    case Opcode::TLBI_NH_VAA: invalidate_address(typed<smmu::TlbiNhVaa>(c)); return Step::consumed;
    case Opcode::TLBI_NH_ASID: {
      const auto t = typed<smmu::TlbiNhAsid>(c);
      if (asid_exists(t.get<smmu::TlbiNhAsid::ASID>())) fanout_.invalidate(t);
      return Step::consumed;
    }
    case Opcode::TLBI_NH_ALL:
    case Opcode::TLBI_NSNH_ALL: fanout_.invalidate_all(); return Step::consumed;
    case Opcode::CFGI_STE: {
      const std::uint64_t sid = typed<smmu::CfgiSte>(c).get<smmu::CfgiSte::StreamID>();
      return restream(sid, sid);
    }
    case Opcode::CFGI_STE_RANGE: {
      const auto t = typed<smmu::CfgiSteRange>(c);
      const std::uint64_t below = (std::uint64_t{2} << t.get<smmu::CfgiSteRange::Range>()) - 1;
      const std::uint64_t sid = t.get<smmu::CfgiSteRange::StreamID>();
      return restream(sid & ~below, sid | below);
    }
    case Opcode::CFGI_CD: {
      const auto t = typed<smmu::CfgiCd>(c);
      SubstreamID ssid = t.get<smmu::CfgiCd::SubstreamID>();
      // Beyond what is announced there is no CD; without substreams there is one, of index 0 (4.3.3).
      if (!ssid_exists(ssid)) {
        if (announced_.ssid_bits() != 0) return Step::consumed;
        ssid = {};
      }
      return invalidate_contexts(VStreamID{t.get<smmu::CfgiCd::StreamID>()},
                                 smmu::CfgiCd{t}.set<smmu::CfgiCd::SubstreamID>(ssid));
    }
    case Opcode::CFGI_CD_ALL:
      return invalidate_contexts(VStreamID{typed<smmu::CfgiCdAll>(c).get<smmu::CfgiCdAll::StreamID>()}, std::nullopt);
    case Opcode::ATC_INV: invalidate_atc(typed<smmu::AtcInv>(c)); return Step::consumed;
    case Opcode::PRI_RESP:
      if (registers_.cr0().get<smmu::CR0::SMMUEN>()) answer_page_request(typed<smmu::PriResp>(c));  // else IGNORED
      return Step::consumed;
    case Opcode::RESUME: resume_stalled(typed<smmu::Resume>(c)); return Step::consumed;
    case Opcode::STALL_TERM: terminate_stalled(typed<smmu::StallTerm>(c)); return Step::consumed;
    case Opcode::PREFETCH_CONFIG:
    case Opcode::PREFETCH_ADDR: return Step::consumed;  // hints
    default: return Step::illegal;
  }
}

// 4.5.1. The TLBIs before it need no SYNC here: to have them complete first is the guest's business, by a SYNC of its
// own, and that one waits for every instance.
void VSmmu::invalidate_atc(smmu::AtcInv c) {
  using smmu::AtcInv;
  if (!registers_.cr0().get<smmu::CR0::SMMUEN>()) return;  // IGNORED
  Stream* const s = find(VStreamID{c.get<AtcInv::StreamID>()});
  // Without ATS behind it, the stream is part of a system that does not support it: IGNORED.
  if (s == nullptr || s->grant.ats == AtsGrant::none || !s->backing->port->capabilities().idr0.get<smmu::IDR0::ATS>())
    return;
  if (!c.get<AtcInv::SSV>() || announced_.ssid_bits() == 0) {
    c.set<AtcInv::SSV>(false).set<AtcInv::SubstreamID>(SubstreamID{}).set<AtcInv::Global>(false);
  } else if (!ssid_exists(c.get<AtcInv::SubstreamID>())) {
    return;
  }
  fanout_.push(*s->backing, c.set<AtcInv::StreamID>(s->sid.value));
  s->atc_issued = atc_issued_ = true;
}

// --- What takes more than one step -----------------------------------------------------------------------------------

[[gnu::noinline]] bool VSmmu::finish_pending(Bounds& left) {
  switch (pending_) {
    case Pending::none: return true;
    case Pending::sync: return finish_sync(left);
    default: return finish_streams(left);
  }
}

[[gnu::noinline]] bool VSmmu::finish_streams(Bounds& left) {
  for (; cursor_ < end_; ++cursor_) {
    if (left.installs == 0 || left.commands == 0) return false;
    --left.commands;
    if (update(streams_[cursor_], pending_)) --left.installs;
  }
  const Pending why = std::exchange(pending_, Pending::none);
  if (why == Pending::cfgi || why == Pending::cd) {
    consumed(queue_.copied()[0].opcode());
  } else if (why == Pending::cr0) {
    acknowledge_cr0();
  } else {
    acknowledge_gbpa();
  }
  return true;
}

void VSmmu::finish_all() {
  for (;;) {
    Bounds left = bounds_;
    if (finish_pending(left)) return;
  }
}

// What a queue held when the SYNC completed is at most what fits, however fast others fill it.
[[gnu::noinline]] bool VSmmu::drain_events(Bounds& left) {
  constexpr unsigned kLook =
      16;  // a look at a queue full of others' records takes as long as so many of the guest's own
  for (; draining_ != 0; draining_ &= draining_ - 1) {
    stage2::SmmuPort& port = *fanout_.backings()[static_cast<std::size_t>(std::countr_zero(draining_))].port;
    if (to_drain_ == 0) to_drain_ = 1u << port.capabilities().idr1.get<smmu::IDR1::EVENTQS>();
    while (to_drain_ != 0) {
      if (left.events == 0) return false;
      const unsigned most = std::min(left.events, to_drain_);
      const unsigned drained = drain_.drain_events(port, most);
      left.events -= std::min(left.events, std::max(drained, kLook));
      to_drain_ = drained < most ? 0 : to_drain_ - drained;
    }
  }
  return true;
}

// Has an ATC_INV timed out that the SYNC waited for? Either way none is outstanding any more.
bool VSmmu::atc_failed() {
  bool failed = false;
  if (atc_timeouts_noted_.exchange(false)) {
    failed = atc_timeouts_lost_.exchange(false);
    for (auto& note : atc_timeouts_) {
      const std::uint64_t noted = note.exchange(0);
      if (noted == 0) continue;
      const Stream* const s = find(VStreamID{static_cast<std::uint32_t>(noted - 1)});
      failed = failed || (s != nullptr && s->atc_issued);
    }
  }
  atc_issued_ = false;
  for (std::size_t i = 0; i < stream_count_; ++i) streams_[i].atc_issued = false;
  return failed;
}

void VSmmu::note_atc_timeout(VStreamID vsid) {
  const std::uint64_t mine = std::uint64_t{vsid.value} + 1;
  bool noted = false;
  for (auto& note : atc_timeouts_) {
    std::uint64_t was = 0;
    if (!note.compare_exchange_strong(was, mine) && was != mine) continue;
    noted = true;
    break;
  }
  if (!noted) atc_timeouts_lost_ = true;
  atc_timeouts_noted_ = true;
}

void VSmmu::start_restream(Pending why, std::size_t first, std::size_t end) {
  pending_ = why;
  cursor_ = first;
  end_ = end;
}

// Whether Weir holds the context descriptor of the stream, or could, if it can be read now.
bool VSmmu::may_be_held(const Stream& s) const {
  return held_ && uses_stage1(s.installed) && s.installed.get<smmu::Ste::S1CDMax>() == 0;
}

VSmmu::Step VSmmu::recopy(std::size_t from, std::size_t to) {
  start_restream(Pending::cd, from, to);
  return Step::pending;
}

// CFGI_CD, or without `one` CFGI_CD_ALL, for the stream and its further ones.
VSmmu::Step VSmmu::invalidate_contexts(VStreamID vsid, std::optional<smmu::CfgiCd> one) {
  const std::size_t from = lower_bound(vsid.value);
  const std::size_t to = lower_bound(std::uint64_t{vsid.value} + 1);
  bool held = false;
  for (std::size_t i = from; i < to; ++i) {
    const Stream& s = streams_[i];
    if ((!one || one->get<smmu::CfgiCd::SubstreamID>().value == 0) && may_be_held(s)) {
      held = true;
    } else if (one) {
      fanout_.push(*s.backing,
                   smmu::cfgi_cd(s.sid, one->get<smmu::CfgiCd::SubstreamID>(), one->get<smmu::CfgiCd::Leaf>()));
    } else {
      fanout_.push(*s.backing, smmu::cfgi_cd_all(s.sid));
    }
  }
  return held ? recopy(from, to) : Step::consumed;
}

// For the streams with vSIDs `first` to `last`.
VSmmu::Step VSmmu::restream(std::uint64_t first, std::uint64_t last) {
  const std::size_t from = lower_bound(first);
  const std::size_t to = lower_bound(last + 1);
  // Nothing is fetched through the guest's stream table while SMMUEN is 0, so nothing is cached from it either.
  if (from == to || !registers_.cr0().get<smmu::CR0::SMMUEN>()) return Step::consumed;
  start_restream(Pending::cfgi, from, to);
  return Step::pending;
}

}  // namespace weir::vsmmu
