// What the physical SMMUs report to a vSMMU.
#include <algorithm>

#include "vsmmu/vsmmu.hpp"

namespace weir::vsmmu {

std::optional<EventReport> VSmmu::handle_event(stage2::SmmuPort& smmu, const smmu::Event& event) {
  const StreamID sid{event.get<smmu::Event::StreamID>()};
  EventReport report;
  IrqUnit::Due due;
  {
    const SpinLock::Guard guard{lock_};
    Stream* const end = streams_.get() + stream_count_;
    Stream* const s =
        std::find_if(streams_.get(), end, [&](const Stream& x) { return x.backing->port == &smmu && x.sid == sid; });
    if (s == end) return std::nullopt;
    const Rebuilt rebuilt = rebuild_event(event, {.vsid = s->vsid,
                                                  .fault = s->fault,
                                                  .installed = s->installed,
                                                  .record_bad_streamid = registers_.cr2().get<smmu::CR2::RECINVSID>()});
    report.owner = rebuilt.owner;
    report.vsid = s->vsid;
    switch (rebuilt.owner) {
      case EventOwner::stage2: ++stage2_faults_; break;
      case EventOwner::host: ++host_events_; break;
      case EventOwner::quiet:
      case EventOwner::guest: {
        if (event.id() == smmu::EventId::C_BAD_STE && s->fault) report.flooding = ++s->bad > kFloodLimit;
        if (rebuilt.owner == EventOwner::quiet) break;
        const Delivered delivered = deliver_event(registers_, memory_, announced_.evtq_log2(), rebuilt.event);
        report.delivery = delivered.outcome;
        ++(delivered.outcome == Delivery::written ? events_ : events_lost_);
        if (delivered.interrupt) irqs_.signal(Irq::evtq, due);
        if (delivered.gerror_interrupt) irqs_.signal(Irq::gerror, due);
        break;
      }
    }
  }
  irqs_.send(due);
  return report;
}

}  // namespace weir::vsmmu
