// What a guest's devices wait for: stalled transactions and page requests, and the guest's answers to them.
#include <algorithm>

#include "vsmmu/event_queue.hpp"
#include "vsmmu/vsmmu.hpp"

namespace weir::vsmmu {

namespace {

void send(stage2::SmmuPort& smmu, const smmu::Command& c) { smmu.issue({&c, 1}); }

}  // namespace

// --- Stalls ----------------------------------------------------------------------------------------------------------

void VSmmu::resume_stalled(const smmu::Resume& c) {
  using smmu::Resume;
  const Stream* const s = find(VStreamID{c.get<Resume::StreamID>()});
  if (s == nullptr) return;
  {
    const SpinLock::Guard guard{lock_};
    if (!stalls_.take(*s->backing->port, s->sid, c.get<Resume::STAG>())) return;
  }
  Resume physical = c;
  physical.set<Resume::StreamID>(s->sid.value);
  // Ab is IGNORED where the vSMMU can only abort, which the instance may not know.
  if (announced_.idr0.get<smmu::IDR0::TERM_MODEL>()) physical.set<Resume::Ab>(true);
  fanout_.push(*s->backing, physical);
}

void VSmmu::terminate_stalled(const smmu::StallTerm& c) {
  if (const Stream* const s = find(VStreamID{c.get<smmu::StallTerm::StreamID>()})) terminate_stalls(s);
}

// Each by itself: CMD_STALL_TERM is UNPREDICTABLE unless the STE terminates all that is new (4.7.2), and a transaction
// that it missed would be stalled for ever. Where the STE does, the command also catches what has no record yet.
void VSmmu::terminate_stalls(const Stream* s) {
  for (;;) {
    std::optional<Stall> stall;
    {
      const SpinLock::Guard guard{lock_};
      stall = stalls_.take_if(
          [&](const Stall& x) { return s == nullptr || (x.port == s->backing->port && x.sid == s->sid); });
    }
    if (!stall) break;
    fanout_.push(*fanout_.find(*stall->port),
                 smmu::resume(stall->sid, stall->stag, smmu::ResumeAction::terminate_abort));
  }
  if (s == nullptr || !s->grant.stall) return;
  const bool aborts = !s->installed.get<smmu::Ste::V>() || smmu::is_abort(s->installed.get<smmu::Ste::Config>());
  if (aborts) fanout_.push(*s->backing, smmu::stall_term(s->sid));
}

void VSmmu::retry_stalls() {
  unsigned room = 0;
  {
    const SpinLock::Guard guard{lock_};
    if (stalls_.unrecorded() == 0) return;
    room = event_room(registers_, announced_.evtq_log2());
  }
  for (; room != 0; --room) {
    std::optional<Stall> stall;
    {
      const SpinLock::Guard guard{lock_};
      stall = stalls_.take_if([](const Stall& x) { return !x.recorded; });
    }
    if (!stall) return;
    send(*stall->port, smmu::resume(stall->sid, stall->stag, smmu::ResumeAction::retry));
  }
}

void VSmmu::tick() {
  {
    const SpinLock::Guard guard{lock_};
    stalls_.age();
    for (std::size_t i = 0; i < stream_count_; ++i) {
      Stream& s = streams_[i];
      s.budget.refill();
      if (s.silenced && s.repaired && s.budget.may_repair()) deferred_.store(true);
      s.overflows.refill();
    }
  }
  for (;;) {
    std::optional<Stall> late;
    {
      const SpinLock::Guard guard{lock_};
      late = stalls_.take_if([](const Stall& x) { return x.age >= kStallTicks; });
      if (late) ++stalls_killed_;
    }
    if (!late) break;
    send(*late->port, smmu::resume(late->sid, late->stag, smmu::ResumeAction::terminate_abort));
  }
  retry_stalls();
  silence_floods();
}

// --- Page requests ---------------------------------------------------------------------------------------------------

bool VSmmu::handle_page_request(stage2::SmmuPort& smmu, const smmu::PriEntry& request) {
  using smmu::PriEntry;
  const StreamID sid{request.get<PriEntry::StreamID>()};
  PriDelivered delivered{};
  IrqUnit::Due due;
  {
    const SpinLock::Guard guard{lock_};
    Stream* const s = find(smmu, sid);
    if (s == nullptr || !s->grant.pri || s->fenced) return false;
    const PasidRules rules{.substreams = announced_.idr1.get<smmu::IDR1::SSIDSIZE>() != 0,
                           .always = announced_.idr3.get<smmu::IDR3::PPS>(),
                           .ste_valid = !s->fault,
                           .ste_ppar = s->vste.get<smmu::Ste::PPAR>()};
    const PriQueue queue = pri_queue();
    delivered = deliver_page_request(queue, memory_, rules, rebuild_page_request(request, s->vsid));
    if (delivered.prod != queue.prod) registers_.publish_priq_prod(delivered.prod);
    if (delivered.abort) irqs_.activate<smmu::GERROR::PRIQ_ABT_ERR>(due);
    // "Success" makes the device ask again at once, for ever where the guest leaves its queue full. A failure ends that.
    if (delivered.answer && delivered.answer->response == smmu::PriResponse::success && !s->overflows.take())
      delivered.answer = PriDelivered::Answer{smmu::PriResponse::failure, std::nullopt};
    if (delivered.interrupt) irqs_.signal(Irq::priq, due);
    ++(delivered.written ? page_requests_ : page_requests_refused_);
  }
  if (delivered.answer)
    send(smmu,
         smmu::pri_resp(sid, delivered.answer->ssid, request.get<PriEntry::PRGIndex>(), delivered.answer->response));
  irqs_.send(due);
  return true;
}

void VSmmu::page_requests_lost(stage2::SmmuPort& smmu) {
  IrqUnit::Due due;
  {
    const SpinLock::Guard guard{lock_};
    const bool concerned = std::any_of(streams_.get(), streams_.get() + stream_count_,
                                       [&](const Stream& s) { return s.backing->port == &smmu && s.grant.pri; });
    const PriQueue queue = pri_queue();
    using smmu::PRIQ_PROD;
    smmu::PRIQ_PROD prod = queue.prod;
    if (!concerned || !queue.enabled || queue.error) return;
    if (prod.get<PRIQ_PROD::OVFLG>() != queue.cons.get<smmu::PRIQ_CONS::OVACKFLG>()) return;
    registers_.publish_priq_prod(prod.set<PRIQ_PROD::OVFLG>(!prod.get<PRIQ_PROD::OVFLG>()));
    // Unlike an overflow of its own, this one may find the queue empty: nothing else would make the guest look.
    irqs_.signal(Irq::priq, due);
  }
  irqs_.send(due);
}

void VSmmu::answer_page_request(const smmu::PriResp& c) {
  using smmu::PriResp;
  const Stream* const s = find(VStreamID{c.get<PriResp::StreamID>()});
  if (s == nullptr || !s->grant.pri || s->fenced) return;
  PriResp physical = c;
  fanout_.push(*s->backing, physical.set<PriResp::StreamID>(s->sid.value));
}

PriQueue VSmmu::pri_queue() const {
  return {.enabled = registers_.priq_enabled(),
          .error = registers_.errors().get<smmu::GERROR::PRIQ_ABT_ERR>(),
          .base = registers_.priq_base(),
          .prod = registers_.priq_prod(),
          .cons = registers_.priq_cons(),
          .irq_per_group = registers_.priq_irq_cfg2().get<smmu::PRIQ_IRQ_CFG2::LO>(),
          .max_log2 = announced_.priq_log2()};
}

}  // namespace weir::vsmmu
