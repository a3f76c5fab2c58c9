// What the physical SMMUs report to a vSMMU.
#include <algorithm>

#include "vsmmu/vsmmu.hpp"

namespace weir::vsmmu {

Stream* VSmmu::find(const stage2::SmmuPort& smmu, StreamID sid) {
  Stream* const end = streams_.get() + stream_count_;
  Stream* const s =
      std::find_if(streams_.get(), end, [&](const Stream& x) { return x.backing->port == &smmu && x.sid == sid; });
  return s == end ? nullptr : s;
}

std::optional<EventReport> VSmmu::handle_event(stage2::SmmuPort& smmu, const smmu::Event& event) {
  const StreamID sid{event.get<smmu::Event::StreamID>()};
  EventReport report;
  IrqUnit::Due due;
  std::optional<std::uint16_t> terminate;
  {
    const SpinLock::Guard guard{lock_};
    Stream* const s = find(smmu, sid);
    if (s == nullptr) return std::nullopt;
    const bool enabled = registers_.cr0().get<smmu::CR0::SMMUEN>() || registers_.cr0ack().get<smmu::CR0::SMMUEN>();
    Rebuilt rebuilt = rebuild_event(event, {.vsid = s->vsid,
                                            .fault = s->fault,
                                            .installed = s->installed,
                                            .context = s->context,
                                            .record_bad_streamid = registers_.cr2().get<smmu::CR2::RECINVSID>(),
                                            .enabled = enabled,
                                            .ats = s->grant.ats != AtsGrant::none,
                                            // Nothing waits for a guest that has turned its SMMU off (6.3.9.6).
                                            .stall = s->grant.stall && registers_.cr0().get<smmu::CR0::SMMUEN>(),
                                            .oas_bits = announced_.oas_bits(),
                                            .previous = s->previous});
    report.owner = rebuilt.owner;
    report.vsid = s->vsid;
    if (!s->budget.take()) {
      report.flooding = true;
      s->flooded = true;
      deferred_.store(true);
    }
    const bool asks = rebuilt.owner == EventOwner::guest && is_stalled(rebuilt.event);
    Stall stall{.port = &smmu, .sid = sid, .stag = rebuilt.stalled.value_or(0)};
    const bool waits = asks && !report.flooding && stalls_.has_room(stall);
    if (asks && !waits) rebuilt.event = without_stall(rebuilt.event);
    if (rebuilt.stalled && !waits) terminate = rebuilt.stalled;
    switch (rebuilt.owner) {
      case EventOwner::stage2: ++stage2_faults_; break;
      case EventOwner::host: ++host_events_; break;
      case EventOwner::quiet: break;
      case EventOwner::guest: {
        if (report.flooding) {  // and is silenced soon: as if the queue had no room any more
          ++events_lost_;
          (void)flag_overflow(registers_);
          break;
        }
        const Delivered delivered = deliver_event(registers_, memory_, announced_.evtq_log2(), rebuilt.event);
        report.delivery = delivered.outcome;
        if (delivered.outcome == Delivery::written) {
          ++events_;
        } else if (!waits) {
          ++events_lost_;
        }
        if (waits) {
          stall.recorded = delivered.outcome == Delivery::written;
          stalls_.add(stall);
          ++stalls_seen_;
        }
        if (delivered.interrupt) irqs_.signal(Irq::evtq, due);
        if (delivered.gerror_interrupt) irqs_.signal(Irq::gerror, due);
        break;
      }
    }
    if (terminate) ++stalls_killed_;
  }
  if (terminate) {
    const smmu::Command c = smmu::resume(sid, *terminate, smmu::ResumeAction::terminate_abort);
    smmu.issue({&c, 1});
  }
  irqs_.send(due);
  return report;
}

void VSmmu::instance_failed(stage2::SmmuPort& smmu) {
  IrqUnit::Due due;
  {
    const SpinLock::Guard guard{lock_};
    const bool concerned = std::any_of(streams_.get(), streams_.get() + stream_count_,
                                       [&](const Stream& s) { return s.backing->port == &smmu; });
    if (!concerned) return;
    irqs_.activate<smmu::GERROR::SFM_ERR>(due);
  }
  irqs_.send(due);
}

void VSmmu::events_lost(stage2::SmmuPort& smmu) {
  IrqUnit::Due due;
  {
    const SpinLock::Guard guard{lock_};
    const bool concerned = std::any_of(streams_.get(), streams_.get() + stream_count_,
                                       [&](const Stream& s) { return s.backing->port == &smmu; });
    if (!concerned || !flag_overflow(registers_)) return;
    // Unlike an overflow of its own, this one may find the queue empty: nothing else would make the guest look.
    irqs_.signal(Irq::evtq, due);
  }
  irqs_.send(due);
}

}  // namespace weir::vsmmu
