#include "vsmmu/event_rebuild.hpp"

#include "vsmmu/ste_merge.hpp"

namespace weir::vsmmu {
namespace {

using smmu::Event;
using smmu::EventClass;
using smmu::EventId;

constexpr Rebuilt kHost{EventOwner::host, {}, {}};
constexpr Rebuilt kQuiet{EventOwner::quiet, {}, {}};

Rebuilt to_guest(const Event& e) { return {EventOwner::guest, e, {}}; }

// Whether stage 1 of the guest's may have been in use when the event arose.
bool may_use_stage1(const StreamFacts& s) {
  return uses_stage1(s.installed) || (s.previous && uses_stage1(s.previous->installed));
}

// The header that every record has; `id` may differ from the physical one.
Event header(const Event& physical, EventId id, VStreamID vsid) {
  Event e;
  e.set<Event::Id>(id).set<Event::StreamID>(vsid.value);
  if (physical.get<Event::SSV>())  // otherwise SubstreamID is UNKNOWN
    e.set<Event::SSV>(true).set<Event::SubstreamID>(physical.get<Event::SubstreamID>());
  return e;
}

// The visible fields as they are.
Event visible(const Event& physical, VStreamID vsid) {
  const EventId id = physical.id();
  const auto mask = smmu::guest_visible(id);
  Event e;
  if (mask)
    for (std::size_t i = 0; i < e.words.size(); ++i) e.words[i] = physical.words[i] & (*mask)[i];
  e.set<Event::StreamID>(vsid.value);
  // C_BAD_SUBSTREAMID has a SubstreamID but no SSV.
  if (id != EventId::C_BAD_SUBSTREAMID && !physical.get<Event::SSV>()) e.set<Event::SubstreamID>({});
  return e;
}

// A record built as `T` from a header: Event and T have the same words.
template <typename T, typename Fill>
Event as(const Event& from, Fill fill) {
  T typed;
  typed.words = from.words;
  fill(typed);
  return typed;
}

// Where the guest keeps the CD that this transaction uses, if that is known without reading its tables.
std::optional<IPA> cd_address(const Event& physical, const smmu::Ste& ste, std::optional<IPA> copied_from) {
  using STE = smmu::Ste;
  if (copied_from) return copied_from;
  const IPA table = ste.get<STE::S1ContextPtr>();
  if (ste.get<STE::S1CDMax>() == 0) return table;
  if (ste.get<STE::S1Fmt>() != smmu::S1Fmt::linear) return std::nullopt;  // the CD or its pointer: not known
  const std::uint64_t index = physical.get<Event::SSV>() ? physical.get<Event::SubstreamID>().value : 0;
  if (index >> ste.get<STE::S1CDMax>() != 0) return std::nullopt;
  return table + index * sizeof(STE);  // a CD is as large
}

// The same for whatever configuration the event is of; no value where that is in doubt.
std::optional<IPA> cd_address(const Event& physical, const StreamFacts& stream) {
  std::optional<IPA> at;
  bool doubt = false;
  const auto consider = [&](const smmu::Ste& ste, std::optional<IPA> copied_from) {
    if (!uses_stage1(ste)) return;
    const std::optional<IPA> here = cd_address(physical, ste, copied_from);
    doubt = doubt || !here || (at && *at != *here);
    at = here;
  };
  consider(stream.installed, stream.context);
  if (stream.previous) consider(stream.previous->installed, stream.previous->context);
  return doubt ? std::nullopt : at;
}

Rebuilt cd_fetch(const Event& physical, const StreamFacts& stream) {
  if (!may_use_stage1(stream)) return kHost;
  // FetchAddr is a PA: replaced by the guest's own address where there is no doubt about it.
  Event e = visible(physical, stream.vsid);
  if (const auto at = cd_address(physical, stream))
    e = as<smmu::FCdFetch>(e, [&](smmu::FCdFetch& f) { f.set<smmu::FCdFetch::FetchAddr>(at->value); });
  return to_guest(e);
}

// Stage 2 refused an access that stage 1 of the guest's configuration made: its own SMMU would have had an external
// abort (7.3.10, 7.3.12). `ipa` is an address that the guest wrote itself.
Rebuilt external_abort(const Event& physical, EventClass what, std::uint64_t ipa, const StreamFacts& stream) {
  // Of a CD that Weir holds: an address that the guest does not know.
  if (what == EventClass::CD && (stream.context || (stream.previous && stream.previous->context)))
    ipa = cd_address(physical, stream).value_or(IPA{}).value;
  ipa &= bit_mask(stream.oas_bits - 1, 0);
  if (what == EventClass::CD)
    return to_guest(as<smmu::FCdFetch>(header(physical, EventId::F_CD_FETCH, stream.vsid),
                                       [&](smmu::FCdFetch& e) { e.set<smmu::FCdFetch::FetchAddr>(ipa); }));
  smmu::FWalkEabt source;
  source.words = physical.words;
  return to_guest(as<smmu::FWalkEabt>(header(physical, EventId::F_WALK_EABT, stream.vsid), [&](smmu::FWalkEabt& e) {
    using W = smmu::FWalkEabt;
    e.set<W::CLASS>(EventClass::TT)
        .set<W::RnW>(source.get<W::RnW>())
        .set<W::InD>(source.get<W::InD>())
        .set<W::PnU>(source.get<W::PnU>())
        .set<W::InputAddr>(source.get<W::InputAddr>())
        .set<W::FetchAddr>(ipa);
  }));
}

// A stage-1 F_ADDR_SIZE in place of a fault of any of the four kinds: they have one layout.
Event address_size_fault(const Event& physical, VStreamID vsid) {
  return as<smmu::FAddrSize>(without_stall(visible(physical, vsid)),
                             [](smmu::FAddrSize& e) { e.set<smmu::FAddrSize::Id>(EventId::F_ADDR_SIZE); });
}

// F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION.
template <typename T>
Rebuilt translation_fault(const Event& physical, const StreamFacts& stream) {
  const T fault = *physical.as<T>();
  const EventClass what = fault.template get<typename T::CLASS>();
  const bool stage2 = fault.template get<typename T::S2>();
  Rebuilt r;
  if ((what == EventClass::CD || what == EventClass::TT) && may_use_stage1(stream)) {
    // A stage-1 fault is of class IN. QEMU reports stage-2 faults on non-root stage-1 tables with S2 == 0 and class TT,
    // so the class decides and not S2. IPA is 0 when such a permission fault hit in QEMU's TLB: an unknown address.
    r = external_abort(physical, what, fault.template get<typename T::IPA>().value, stream);
  } else if (stage2 && what == EventClass::IN && fault.template get<typename T::IPA>().value >> stream.oas_bits != 0) {
    // What stage 1 put out, or a bypassing stream's address, is beyond the guest's own OAS: its SMMU would have
    // stopped it (3.4, 7.3.14). Nothing is recorded while SMMUEN is 0.
    r = stream.enabled ? to_guest(address_size_fault(physical, stream.vsid)) : kQuiet;
  } else if (stage2) {
    r.owner = EventOwner::stage2;
  } else if (may_use_stage1(stream)) {
    r = to_guest(visible(physical, stream.vsid));
    if (!stream.stall) r.event = without_stall(r.event);
  } else if (T::kId == EventId::F_ADDR_SIZE && what == EventClass::IN) {
    // An input address beyond the IAS of a bypassed stage 1 (3.4). Nothing is recorded while SMMUEN is 0. Never stalls.
    r = stream.enabled ? to_guest(without_stall(visible(physical, stream.vsid))) : kQuiet;
  } else {
    r.owner = EventOwner::host;  // there was no stage 1 to fault
  }
  if (fault.template get<typename T::Stall>()) r.stalled = fault.template get<typename T::STAG>();
  return r;
}

Rebuilt walk_abort(const Event& physical, const StreamFacts& stream) {
  const smmu::FWalkEabt walk = *physical.as<smmu::FWalkEabt>();
  // S2: of Weir's own stage-2 table.
  if (walk.get<smmu::FWalkEabt::S2>() || !may_use_stage1(stream)) return kHost;
  // FetchAddr is a PA, and which IPA it was is not known: dropped with all that is not visible.
  return to_guest(visible(physical, stream.vsid));
}

// The hardware found the STE invalid.
Rebuilt bad_ste(const Event& physical, const StreamFacts& stream) {
  std::optional<SteFault> fault = stream.fault;
  if (!fault && stream.previous) fault = stream.previous->fault;
  if (!fault) {
    // Weir holds the STE valid. With stage 1 the reason is a field of the guest's; otherwise it is ours.
    return may_use_stage1(stream) ? to_guest(visible(physical, stream.vsid)) : kHost;
  }
  if (fault->event == EventId::C_BAD_STREAMID && !stream.record_bad_streamid) return kQuiet;
  Event e = header(physical, fault->event, stream.vsid);
  if (fault->event == EventId::F_STE_FETCH)
    e = as<smmu::FSteFetch>(e, [&](smmu::FSteFetch& f) { f.set<smmu::FSteFetch::FetchAddr>(fault->fetch.value); });
  return to_guest(e);
}

template <typename Fn>
bool visit_translation_fault(const Event& event, Fn&& fn) {
  return smmu::EventList<smmu::FTranslation, smmu::FAddrSize, smmu::FAccess, smmu::FPermission>::visit(event, fn);
}

}  // namespace

Event without_stall(const Event& event) {
  Event e = event;
  visit_translation_fault(
      event, [&]<typename T>(T t) { e = t.template set<typename T::Stall>(false).template set<typename T::STAG>(0); });
  return e;
}

bool is_stalled(const Event& event) {
  bool stalled = false;
  visit_translation_fault(event, [&]<typename T>(const T& t) { stalled = t.template get<typename T::Stall>(); });
  return stalled;
}

Rebuilt rebuild_event(const Event& physical, const StreamFacts& stream) {
  const auto as_it_is = [&] { return to_guest(visible(physical, stream.vsid)); };
  switch (physical.id()) {
    case EventId::C_BAD_STE: return bad_ste(physical, stream);
    case EventId::F_CD_FETCH: return cd_fetch(physical, stream);
    case EventId::F_WALK_EABT: return walk_abort(physical, stream);
    case EventId::F_TRANSLATION: return translation_fault<smmu::FTranslation>(physical, stream);
    case EventId::F_ADDR_SIZE: return translation_fault<smmu::FAddrSize>(physical, stream);
    case EventId::F_ACCESS: return translation_fault<smmu::FAccess>(physical, stream);
    case EventId::F_PERMISSION: return translation_fault<smmu::FPermission>(physical, stream);
    case EventId::F_TLB_CONFLICT:
      if (physical.as<smmu::FTlbConflict>()->get<smmu::FTlbConflict::S2>()) return kHost;
      return may_use_stage1(stream) ? as_it_is() : kHost;
    // Permitted while SMMUEN is 0, too (7.3.2).
    case EventId::F_UUT: return as_it_is();
    // Of a CD, or of STE fields that only stage 1 has.
    case EventId::F_STREAM_DISABLED:
    case EventId::C_BAD_CD: return may_use_stage1(stream) ? as_it_is() : kHost;
    // A hint of the device's for its driver; nothing is translated while SMMUEN is 0.
    case EventId::E_PAGE_REQUEST: return may_use_stage1(stream) ? as_it_is() : kQuiet;
    // Bypassing stage 1 makes it, too (7.3.9), but not while SMMUEN is 0.
    case EventId::C_BAD_SUBSTREAMID: return stream.enabled ? as_it_is() : kQuiet;
    // A device that sends "translated" requests without a grant reaches for host addresses. With one, it is the guest
    // who has not enabled it.
    case EventId::F_TRANSL_FORBIDDEN:
      if (stream.ats) return as_it_is();
      return {EventOwner::stage2, {}, {}};
    // Without a grant the guest does not know that the device has ATS.
    case EventId::F_BAD_ATS_TREQ: return stream.ats ? as_it_is() : kHost;
    // Of Weir's own stream table, of features that no guest has, or unknown.
    case EventId::C_BAD_STREAMID:
    case EventId::F_STE_FETCH:
    case EventId::F_CFG_CONFLICT:
    case EventId::F_VMS_FETCH:
    default: return kHost;
  }
}

}  // namespace weir::vsmmu
