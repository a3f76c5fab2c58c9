#include "vsmmu/event_rebuild.hpp"

#include "vsmmu/ste_merge.hpp"

namespace weir::vsmmu {
namespace {

using smmu::Event;
using smmu::EventClass;
using smmu::EventId;

constexpr Rebuilt kHost{EventOwner::host, {}};

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

// Stage 2 refused an access that stage 1 of the guest's configuration made: its own SMMU would have had an external
// abort (7.3.10, 7.3.12). `ipa` is an address that the guest wrote itself.
Rebuilt external_abort(const Event& physical, EventClass what, std::uint64_t ipa, VStreamID vsid) {
  if (what == EventClass::CD)
    return {EventOwner::guest, as<smmu::FCdFetch>(header(physical, EventId::F_CD_FETCH, vsid),
                                                  [&](smmu::FCdFetch& e) { e.set<smmu::FCdFetch::FetchAddr>(ipa); })};
  smmu::FWalkEabt source;
  source.words = physical.words;
  return {EventOwner::guest, as<smmu::FWalkEabt>(header(physical, EventId::F_WALK_EABT, vsid), [&](smmu::FWalkEabt& e) {
            using W = smmu::FWalkEabt;
            e.set<W::CLASS>(EventClass::TT)
                .set<W::RnW>(source.get<W::RnW>())
                .set<W::InD>(source.get<W::InD>())
                .set<W::PnU>(source.get<W::PnU>())
                .set<W::InputAddr>(source.get<W::InputAddr>())
                .set<W::FetchAddr>(ipa);
          })};
}

// F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION.
template <typename T>
Rebuilt translation_fault(const Event& physical, VStreamID vsid) {
  const T fault = *physical.as<T>();
  const EventClass what = fault.template get<typename T::CLASS>();
  const bool stage2 = fault.template get<typename T::S2>();
  if (what == EventClass::CD || what == EventClass::TT) {
    // A stage-1 fault is of class IN. QEMU reports stage-2 faults on non-root stage-1 tables with S2 == 0 and class TT,
    // so the class decides and not S2. IPA is 0 when such a permission fault hit in QEMU's TLB: an unknown address.
    return external_abort(physical, what, fault.template get<typename T::IPA>().value, vsid);
  }
  if (stage2) return {EventOwner::stage2, {}};
  Event e = visible(physical, vsid);
  // No vSMMU offers stalls yet: nothing stalls (S1STALLD), and a guest must never be asked to resume.
  return {EventOwner::guest,
          as<T>(e, [](T& t) { t.template set<typename T::Stall>(false).template set<typename T::STAG>(0); })};
}

Rebuilt walk_abort(const Event& physical, VStreamID vsid) {
  const smmu::FWalkEabt walk = *physical.as<smmu::FWalkEabt>();
  if (walk.get<smmu::FWalkEabt::S2>()) return kHost;  // of Weir's own stage-2 table
  // FetchAddr is a PA, and which IPA it was is not known: dropped with all that is not visible.
  return {EventOwner::guest, visible(physical, vsid)};
}

// The hardware found the STE invalid.
Rebuilt bad_ste(const Event& physical, const StreamFacts& stream) {
  if (!stream.fault) {
    // Weir holds the STE valid. With stage 1 the reason is a field of the guest's; otherwise it is ours.
    if (uses_stage1(stream.installed)) return {EventOwner::guest, visible(physical, stream.vsid)};
    return kHost;
  }
  const SteFault& fault = *stream.fault;
  if (fault.event == EventId::C_BAD_STREAMID && !stream.record_bad_streamid) return {EventOwner::quiet, {}};
  Event e = header(physical, fault.event, stream.vsid);
  if (fault.event == EventId::F_STE_FETCH)
    e = as<smmu::FSteFetch>(e, [&](smmu::FSteFetch& f) { f.set<smmu::FSteFetch::FetchAddr>(fault.fetch.value); });
  return {EventOwner::guest, e};
}

Rebuilt cd_fetch(const Event& physical, const StreamFacts& stream) {
  // FetchAddr is a PA. With a single CD its IPA is known: the guest's own pointer.
  Event e = visible(physical, stream.vsid);
  if (uses_stage1(stream.installed) && stream.installed.get<smmu::Ste::S1CDMax>() == 0) {
    e = as<smmu::FCdFetch>(e, [&](smmu::FCdFetch& f) {
      f.set<smmu::FCdFetch::FetchAddr>(stream.installed.get<smmu::Ste::S1ContextPtr>().value);
    });
  }
  return {EventOwner::guest, e};
}

}  // namespace

Rebuilt rebuild_event(const Event& physical, const StreamFacts& stream) {
  switch (physical.id()) {
    case EventId::C_BAD_STE: return bad_ste(physical, stream);
    case EventId::F_CD_FETCH: return cd_fetch(physical, stream);
    case EventId::F_WALK_EABT: return walk_abort(physical, stream.vsid);
    case EventId::F_TRANSLATION: return translation_fault<smmu::FTranslation>(physical, stream.vsid);
    case EventId::F_ADDR_SIZE: return translation_fault<smmu::FAddrSize>(physical, stream.vsid);
    case EventId::F_ACCESS: return translation_fault<smmu::FAccess>(physical, stream.vsid);
    case EventId::F_PERMISSION: return translation_fault<smmu::FPermission>(physical, stream.vsid);
    case EventId::F_TLB_CONFLICT:
      if (physical.as<smmu::FTlbConflict>()->get<smmu::FTlbConflict::S2>()) return kHost;
      return {EventOwner::guest, visible(physical, stream.vsid)};
    case EventId::F_UUT:
    case EventId::F_STREAM_DISABLED:
    case EventId::C_BAD_SUBSTREAMID:
    case EventId::C_BAD_CD:
    case EventId::E_PAGE_REQUEST: return {EventOwner::guest, visible(physical, stream.vsid)};
    // A device that sends "translated" requests without a grant reaches for host addresses.
    case EventId::F_TRANSL_FORBIDDEN: return {EventOwner::stage2, {}};
    // Of Weir's own stream table, of features that no guest has, or unknown.
    case EventId::C_BAD_STREAMID:
    case EventId::F_STE_FETCH:
    case EventId::F_BAD_ATS_TREQ:
    case EventId::F_CFG_CONFLICT:
    case EventId::F_VMS_FETCH:
    default: return kHost;
  }
}

}  // namespace weir::vsmmu
