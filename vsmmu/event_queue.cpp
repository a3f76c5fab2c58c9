#include "vsmmu/event_queue.hpp"

#include "vsmmu/event_rebuild.hpp"
#include "vsmmu/ring.hpp"

namespace weir::vsmmu {
namespace {

using smmu::EVENTQ_BASE;
using smmu::EVENTQ_CONS;
using smmu::EVENTQ_PROD;
using smmu::GERROR;

constexpr unsigned kLog2Event = 5;

bool enabled(const RegisterFile& registers) {
  return registers.cr0().get<smmu::CR0::EVENTQEN>() && !registers.errors().get<GERROR::EVENTQ_ABT_ERR>();
}

Ring ring_of(const RegisterFile& registers, unsigned max_log2) {
  const EVENTQ_BASE base = registers.eventq_base();
  return Ring::make(base.get<EVENTQ_BASE::ADDR>(), base.get<EVENTQ_BASE::LOG2SIZE>(), max_log2, kLog2Event);
}

// Records in the queue; more than it has entries if its state is inconsistent.
std::uint32_t queued(const RegisterFile& registers, const Ring& ring) {
  const std::uint32_t wr = ring.normal(registers.eventq_prod().get<EVENTQ_PROD::WR>());
  return ring.distance(registers.eventq_cons().get<EVENTQ_CONS::RD>(), wr);
}

}  // namespace

unsigned event_room(const RegisterFile& registers, unsigned max_log2) {
  if (!enabled(registers)) return 0;
  const Ring ring = ring_of(registers, max_log2);
  const std::uint32_t n = queued(registers, ring);
  return n >= ring.entries() ? 0 : ring.entries() - n;
}

bool flag_overflow(RegisterFile& registers) {
  if (!enabled(registers)) return false;
  EVENTQ_PROD prod = registers.eventq_prod();
  if (prod.get<EVENTQ_PROD::OVFLG>() != registers.eventq_cons().get<EVENTQ_CONS::OVACKFLG>()) return false;
  registers.publish_eventq_prod(prod.set<EVENTQ_PROD::OVFLG>(!prod.get<EVENTQ_PROD::OVFLG>()));
  return true;
}

Delivered deliver_event(RegisterFile& registers, GuestMemory& memory, unsigned max_log2, const smmu::Event& event) {
  if (!enabled(registers)) return {.outcome = Delivery::disabled};

  const Ring ring = ring_of(registers, max_log2);
  EVENTQ_PROD prod = registers.eventq_prod();
  const std::uint32_t wr = ring.normal(prod.get<EVENTQ_PROD::WR>());
  const std::uint32_t before = queued(registers, ring);
  if (before >= ring.entries()) {  // full; an inconsistent state counts as full (3.5.1)
    if (!is_stalled(event)) (void)flag_overflow(registers);
    return {.outcome = Delivery::overflowed};
  }
  const IPA entry = ring.base + (std::uint64_t{ring.slot(wr)} << kLog2Event);
  if (!memory.write(entry, std::as_bytes(std::span{event.words}))) {
    const bool irq = registers.activate<GERROR::EVENTQ_ABT_ERR>();
    return {.outcome = Delivery::aborted, .gerror_interrupt = irq};
  }
  registers.publish_eventq_prod(prod.set<EVENTQ_PROD::WR>(ring.next(wr)));
  return {.outcome = Delivery::written, .interrupt = before == 0};
}

}  // namespace weir::vsmmu
