// Events (Arm IHI 0070, 7.2 to 7.5), and what signals them and everything else (3.18).
#include <algorithm>
#include <concepts>

#include "tests/model/smmu.hpp"

namespace weir::model {

using namespace smmu;

namespace {

constexpr bool snoops(MemAttr attr) { return (static_cast<unsigned>(attr) & 0b1000) != 0; }

// 7.3.1: InputAddr[11:0] does not matter.
bool alike(const Event& a, const Event& b) {
  Event x = a;
  Event y = b;
  x.words[2] &= ~std::uint64_t{0xfff};
  y.words[2] &= ~std::uint64_t{0xfff};
  return x == y;
}

}  // namespace

// --- Events ---

bool Smmu::event_queue_writable() const {
  if (!in_effect<CR0::EVENTQEN>()) return false;
  if (parameters_.mimics_qemu) return !registers_.events.full();
  return !registers_.events.full() && !registers_.active<GERROR::EVENTQ_ABT_ERR>();
}

void Smmu::record(const Access& access, const Fault& fault, std::uint64_t stall, std::uint16_t tag) {
  Event event;
  event.set<Event::Id>(fault.id);
  const auto fill = [&]<typename T>(T typed) {
    typed.template set<typename T::StreamID>(access.sid.value);
    // The types that have no SSV leave it out of their layout.
    constexpr bool kHasSsv = (T::Layout::res0[0] & T::SSV::mask) == 0 && !std::is_same_v<T, FStreamDisabled> &&
                             !std::is_same_v<T, FTranslForbidden>;
    if constexpr (kHasSsv) typed.template set<typename T::SSV>(fault.ssid.has_value());
    if constexpr (kHasSsv || std::is_same_v<T, CBadSubstreamid>)
      if (fault.ssid) typed.template set<typename T::SubstreamID>(*fault.ssid);
    if constexpr (std::derived_from<T, AccessFields>)
      typed.template set<AccessFields::RnW>(fault.read)
          .template set<AccessFields::PnU>(fault.privileged)
          .template set<AccessFields::InD>(fault.instruction);
    if constexpr (std::is_same_v<T, FTranslForbidden>) typed.template set<FTranslForbidden::RnW>(fault.read);
    if constexpr (requires { typename T::InputAddr; }) typed.template set<typename T::InputAddr>(IOVA{fault.input});
    if constexpr (std::derived_from<T, FetchFields>) typed.template set<FetchFields::FetchAddr>(fault.fetch);
    if constexpr (std::derived_from<T, TranslationFaultRecord>) {
      using F = TranslationFaultRecord;
      typed.template set<F::S2>(fault.s2).template set<F::CLASS>(fault.what);
      if (fault.s2) typed.template set<F::IPA>(IPA{fault.ipa});
      if (std::is_same_v<T, FPermission> && fault.what == EventClass::TT) typed.template set<F::TTRnW>(fault.ttrnw);
      if (stall != 0) typed.template set<F::Stall>(true).template set<F::STAG>(tag);
    }
    if constexpr (std::is_same_v<T, FWalkEabt>)
      typed.template set<FWalkEabt::S2>(fault.s2).template set<FWalkEabt::CLASS>(fault.what);
    // It puts the address where others have InputAddr.
    if (std::is_same_v<T, FCdFetch> && parameters_.mimics_qemu) std::swap(typed.words[2], typed.words[3]);
    event = typed;
  };
  AllEvents::visit(event, fill);
  queue_event({.event = event, .merge = fault.merge, .stall = stall});
}

void Smmu::record(const Event& event) { queue_event({.event = event}); }

void Smmu::queue_event(const InFlight& e) {
  // 7.3.1: before an STE is found there is no MEV to forbid it.
  const EventId id = e.event.id();
  const bool early =
      id == EventId::F_UUT || id == EventId::C_BAD_STREAMID || id == EventId::F_STE_FETCH || id == EventId::C_BAD_STE;
  if (parameters_.merges_events && e.stall == 0 && (e.merge || early) && !in_flight_.empty() && maybe(3, 4)) {
    for (const InFlight& other : in_flight_)
      if (other.stall == 0 && (other.merge || early) && alike(other.event, e.event)) {
        ++events_merged_;
        return;
      }
  }
  in_flight_.push_back(e);
  if (parameters_.synchronous) deliver_event();
}

// Some event that can be, the first of its stream.
void Smmu::deliver_event() {
  const bool writable = event_queue_writable();
  std::size_t which = pick(in_flight_.size());
  for (std::size_t i = 0; i < which; ++i)
    if (in_flight_[i].event.get<Event::StreamID>() == in_flight_[which].event.get<Event::StreamID>()) which = i;
  const InFlight e = in_flight_[which];
  if (e.stall != 0 && !writable) {
    // It waits; what does not wait must not wait for it.
    const auto other = std::ranges::find_if(in_flight_, [](const InFlight& f) { return f.stall == 0; });
    if (other == in_flight_.end()) return;
    const InFlight chosen = *other;
    in_flight_.erase(other);
    return write_event(chosen);
  }
  in_flight_.erase(in_flight_.begin() + static_cast<std::ptrdiff_t>(which));
  if (e.stall != 0) {
    const auto s = std::ranges::find_if(stalls_, [&](const Stall& t) { return t.id == e.stall; });
    if (s == stalls_.end()) return;  // terminated meanwhile: 4.7.2, no record
    if (s->stale) {
      // 7.2.1: it is retried as though it had just arrived.
      s->stale = false;
      s->then = Stall::Then::retry;
      free_tag_of(s->id);
      return;
    }
  }
  write_event(e);
}

void Smmu::write_event(const InFlight& e) {
  EventRing& q = registers_.events;
  if (!event_queue_writable()) {
    // 7.4: only what is discarded because the queue is full makes an overflow.
    ++events_lost_;
    if (!in_effect<CR0::EVENTQEN>() || !q.full()) return;
    if (parameters_.abort_on_full_eventq) {
      raise_error<GERROR::EVENTQ_ABT_ERR>();
    } else {
      q.overflow();
    }
    return;
  }
  const bool was_empty = q.empty();
  if (q.push(memory_, e.event, queues_snoop()) == Outcome::aborted) {
    ++events_lost_;
    raise_error<GERROR::EVENTQ_ABT_ERR>();
    return;
  }
  ++events_recorded_;
  for (Stall& s : stalls_)
    if (s.id == e.stall) s.recorded = true;
  for (auto& [tag, use] : tags_)
    if (use.id == e.stall && e.stall != 0) use.visible = true;
  if (was_empty || parameters_.mimics_qemu) trigger(Source::eventq);
}

// --- Interrupts ---

template <typename Bit>
void Smmu::raise_error() {
  if (!registers_.activate<Bit>()) return;
  // 7.5.1
  if constexpr (!std::is_same_v<Bit, GERROR::MSI_GERROR_ABT_ERR>) trigger(Source::gerror);
}
template void Smmu::raise_error<GERROR::CMDQ_ERR>();
template void Smmu::raise_error<GERROR::PRIQ_ABT_ERR>();

// 3.18.2: a pulse on the wire, and a message if its address is not 0.
void Smmu::trigger(Source source) {
  const IRQ_CTRL& on = registers_.irq_ctrlack;
  const bool enabled = source == Source::eventq ? on.get<IRQ_CTRL::EVENTQ_IRQEN>()
                       : source == Source::priq ? on.get<IRQ_CTRL::PRIQ_IRQEN>()
                                                : on.get<IRQ_CTRL::GERROR_IRQEN>();
  if (!enabled) return;
  // One that has not been sent yet may stand for both.
  const auto same = [&](const Interrupt& i) { return i.source == source; };
  if (std::ranges::any_of(interrupts_, same) && maybe(1, 2)) return;
  interrupts_.push_back({.source = source});
  const MsiConfig& msi = registers_.msi(source);
  const std::uint64_t to = msi.address.get<IRQ_CFG0::ADDR>();
  if (parameters_.msi && to != 0)
    interrupts_.push_back({.source = source,
                           .message = true,
                           .address = PA{to},
                           .data = msi.data.get<IRQ_CFG1::DATA>(),
                           .snoop = snoops(msi.attributes.get<PRIQ_IRQ_CFG2::MemAttr>())});
  if (parameters_.synchronous) flush_interrupts(source);
}

// 4.7.3: CONS has moved before anything signals it.
void Smmu::signal_sync(const Sync& sync) {
  const auto cs = sync.get<Sync::CS>();
  if (cs == SyncSignal::sev && parameters_.sev && on_sev) on_sev();
  if (cs != SyncSignal::irq && !(parameters_.mimics_qemu && cs == SyncSignal::illegal)) return;
  interrupts_.push_back({.source = Source::cmdq_sync});
  const std::uint64_t to = sync.get<Sync::MSIAddress>();
  if (parameters_.msi && to != 0)
    interrupts_.push_back({.source = Source::cmdq_sync,
                           .message = true,
                           .address = PA{to & bit_mask(parameters_.oas_bits() - 1, 0)},
                           .data = sync.get<Sync::MSIData>(),
                           .snoop = snoops(sync.get<Sync::MSIAttr>())});
  if (parameters_.synchronous) flush_interrupts(Source::cmdq_sync);
}

void Smmu::deliver_interrupt(std::size_t which) {
  const Interrupt i = interrupts_[which];
  interrupts_.erase(interrupts_.begin() + static_cast<std::ptrdiff_t>(which));
  if (!i.message) {
    if (on_irq) on_irq(static_cast<unsigned>(i.source));
    return;
  }
  std::optional<bool> taken;
  if (on_msi) taken = on_msi(i.address, i.data);
  if (!taken) taken = memory_.store(i.address, i.data, i.snoop && parameters_.coherent);
  if (*taken) return;
  switch (i.source) {
    case Source::eventq: return raise_error<GERROR::MSI_EVENTQ_ABT_ERR>();
    case Source::priq: return raise_error<GERROR::MSI_PRIQ_ABT_ERR>();
    case Source::cmdq_sync: return raise_error<GERROR::MSI_CMDQ_ABT_ERR>();
    case Source::gerror: return raise_error<GERROR::MSI_GERROR_ABT_ERR>();
  }
}

void Smmu::flush_interrupts(Source source) {
  for (std::size_t i = 0; i < interrupts_.size();)
    if (interrupts_[i].source == source) {
      deliver_interrupt(i);
      i = 0;
    } else {
      ++i;
    }
}

}  // namespace weir::model
