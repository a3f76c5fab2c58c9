#include "vsmmu/event_queue.hpp"

#include "vsmmu/ring.hpp"

namespace weir::vsmmu {
namespace {
constexpr unsigned kLog2Event = 5;
}

Delivered deliver_event(RegisterFile& registers, GuestMemory& memory, unsigned max_log2, const smmu::Event& event) {
  using smmu::EVENTQ_BASE;
  using smmu::EVENTQ_CONS;
  using smmu::EVENTQ_PROD;
  using smmu::GERROR;
  if (!registers.cr0().get<smmu::CR0::EVENTQEN>() || registers.errors().get<GERROR::EVENTQ_ABT_ERR>())
    return {.outcome = Delivery::disabled};

  const EVENTQ_BASE base = registers.eventq_base();
  const Ring ring = Ring::make(base.get<EVENTQ_BASE::ADDR>(), base.get<EVENTQ_BASE::LOG2SIZE>(), max_log2, kLog2Event);
  EVENTQ_PROD prod = registers.eventq_prod();
  const EVENTQ_CONS cons = registers.eventq_cons();
  const std::uint32_t wr = ring.normal(prod.get<EVENTQ_PROD::WR>());
  const std::uint32_t queued = ring.distance(cons.get<EVENTQ_CONS::RD>(), wr);
  if (queued >= ring.entries()) {  // full; an inconsistent state counts as full (3.5.1)
    if (prod.get<EVENTQ_PROD::OVFLG>() == cons.get<EVENTQ_CONS::OVACKFLG>())
      registers.publish_eventq_prod(prod.set<EVENTQ_PROD::OVFLG>(!prod.get<EVENTQ_PROD::OVFLG>()));
    return {.outcome = Delivery::overflowed};
  }
  const IPA entry = ring.base + (std::uint64_t{ring.slot(wr)} << kLog2Event);
  if (!memory.write(entry, std::as_bytes(std::span{event.words}))) {
    const bool irq = registers.activate<GERROR::EVENTQ_ABT_ERR>();
    return {.outcome = Delivery::aborted, .gerror_interrupt = irq};
  }
  registers.publish_eventq_prod(prod.set<EVENTQ_PROD::WR>(ring.next(wr)));
  return {.outcome = Delivery::written, .interrupt = queued == 0};
}

}  // namespace weir::vsmmu
