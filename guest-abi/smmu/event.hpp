// SMMUv3 Event queue records (Arm IHI 0070G.b, 7.3): 32 bytes, little-endian.
//
// Event is a record of any type, FTranslation etc. are the formats. Guest::may_set means here: copied as it is from a
// physical record into the one that a guest gets (Layout::guest is that mask). Everything else is left out or
// translated: StreamID, STAG where a vSMMU renumbers it, FetchAddr and IPA (physical or stage-2 addresses),
// IMPLEMENTATION DEFINED reasons, and the stage (a guest has only stage 1).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "guest-abi/field.hpp"
#include "guest-abi/types.hpp"

namespace weir::smmu {

enum class EventId : std::uint8_t {
  F_UUT = 0x01,
  C_BAD_STREAMID = 0x02,
  F_STE_FETCH = 0x03,
  C_BAD_STE = 0x04,
  F_BAD_ATS_TREQ = 0x05,
  F_STREAM_DISABLED = 0x06,
  F_TRANSL_FORBIDDEN = 0x07,
  C_BAD_SUBSTREAMID = 0x08,
  F_CD_FETCH = 0x09,
  C_BAD_CD = 0x0a,
  F_WALK_EABT = 0x0b,
  F_TRANSLATION = 0x10,
  F_ADDR_SIZE = 0x11,
  F_ACCESS = 0x12,
  F_PERMISSION = 0x13,
  F_TLB_CONFLICT = 0x20,
  F_CFG_CONFLICT = 0x21,
  E_PAGE_REQUEST = 0x24,
  F_VMS_FETCH = 0x25  // 0xe0..0xef are IMPLEMENTATION DEFINED, all others reserved
};

// What kind of access failed (7.3).
enum class EventClass : std::uint8_t { CD = 0b00, TT = 0b01, IN = 0b10, reserved = 0b11 };
constexpr std::string_view name_of(EventClass c) {
  constexpr std::string_view kNames[] = {"CD", "TT", "IN", "reserved"};
  return kNames[static_cast<unsigned>(c) & 3];
}

// The part that records have in common. SubstreamID is UNKNOWN if SSV == 0; see each type for who has them at all.
struct EventHeader {
  using Id = Field<"Id", 7, 0, EventId>;
  using SSV = BitField<"SSV", 11>;
  using SubstreamID = Field<"SubstreamID", 31, 12, weir::SubstreamID>;
  using StreamID = OwnField<"StreamID", 63, 32, std::uint32_t>;
};

struct Event : Record<Event, 256>, EventHeader {
  using Layout = weir::Layout<256, Id, OwnIgnored<10, 8>, SSV, SubstreamID, StreamID, OwnIgnored<127, 64>,
                              OwnIgnored<191, 128>, OwnIgnored<255, 192>>;

  [[nodiscard]] constexpr EventId id() const { return get<Id>(); }  // may be a value that EventId does not name
  template <typename T>
  [[nodiscard]] constexpr std::optional<T> as() const {
    if (id() != T::kId) return std::nullopt;
    T typed;
    typed.words = words;
    return typed;
  }
};
static_assert(sizeof(Event) == 32);

// Base of the formats: a new record has its number and zeros.
template <typename Derived, EventId I>
struct TypedEvent : Record<Derived, 256>, EventHeader {
  static constexpr EventId kId = I;

  constexpr TypedEvent() { this->words[0] = static_cast<std::uint64_t>(I); }
  constexpr operator Event() const {  // NOLINT: a typed event is an event
    Event e;
    e.words = this->words;
    return e;
  }
};

// --- Fields that several records share ---

struct AccessFields {
  using PnU = BitField<"PnU", 97>;  // 1: privileged
  using InD = BitField<"InD", 98>;  // 1: instruction
  using RnW = BitField<"RnW", 99>;  // 1: read
  using InputAddr = AddressField<"InputAddr", 191, 128, IOVA>;
};
struct FetchFields {
  using Reason = OwnField<"Reason", 79, 64>;  // IMPLEMENTATION DEFINED
  using GPCF = OwnBit<"GPCF", 80>;
  using FetchAddr = OwnAddress<"FetchAddr", 247, 195>;
};

// Records that are nothing but SSV, SubstreamID and StreamID.
struct ConfigErrorRecord {
  using Layout = weir::Layout<256, EventHeader::Id, Res0<10, 8>, EventHeader::SSV, EventHeader::SubstreamID,
                              EventHeader::StreamID, Res0<127, 64>, Res0<191, 128>, Res0<255, 192>>;
};
// F_STE_FETCH, F_CD_FETCH, F_VMS_FETCH.
struct FetchErrorRecord : FetchFields {
  using Layout =
      weir::Layout<256, EventHeader::Id, Res0<10, 8>, EventHeader::SSV, EventHeader::SubstreamID, EventHeader::StreamID,
                   Reason, GPCF, Res0<127, 81>, Res0<191, 128>, Res0<194, 192>, FetchAddr, Res0<255, 248>>;
};
// F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION. NSIPA (Secure queues) lies in [102:100]; [127:106] holds TTRnW
// and, with stage-2 permission indirection, more about F_PERMISSION at stage 2.
struct TranslationFaultRecord : AccessFields {
  using STAG = Field<"STAG", 79, 64, std::uint16_t>;  // valid if Stall
  using Stall = BitField<"Stall", 95>;
  using S2 = OwnBit<"S2", 103>;
  using CLASS = Field<"CLASS", 105, 104, EventClass>;
  using TTRnW = OwnBit<"TTRnW", 108>;                  // F_PERMISSION with CLASS == TT only
  using IPA = OwnAddress<"IPA", 247, 204, weir::IPA>;  // valid if S2
  using Layout =
      weir::Layout<256, EventHeader::Id, Res0<10, 8>, EventHeader::SSV, EventHeader::SubstreamID, EventHeader::StreamID,
                   STAG, Res0<94, 80>, Stall, Res0<96, 96>, PnU, InD, RnW, OwnIgnored<102, 100>, S2, CLASS,
                   OwnIgnored<107, 106>, TTRnW, OwnIgnored<127, 109>, InputAddr, Res0<203, 192>, IPA, Res0<255, 248>>;
};

// --- Records (7.3.2 to 7.3.20) ---

struct FUut : TypedEvent<FUut, EventId::F_UUT>, AccessFields {
  static constexpr std::string_view name = "F_UUT";
  using Reason = OwnField<"Reason", 79, 64>;
  using Layout = weir::Layout<256, Id, Res0<10, 8>, SSV, SubstreamID, StreamID, Reason, Res0<96, 80>, PnU, InD, RnW,
                              Res0<127, 100>, InputAddr, Res0<255, 192>>;
};
struct CBadStreamid : TypedEvent<CBadStreamid, EventId::C_BAD_STREAMID>, ConfigErrorRecord {
  static constexpr std::string_view name = "C_BAD_STREAMID";
};
struct FSteFetch : TypedEvent<FSteFetch, EventId::F_STE_FETCH>, FetchErrorRecord {
  static constexpr std::string_view name = "F_STE_FETCH";
};
struct CBadSte : TypedEvent<CBadSte, EventId::C_BAD_STE>, ConfigErrorRecord {
  static constexpr std::string_view name = "C_BAD_STE";
};
// Span and the requested R/W/X/PRIV are not decoded: a guest gets the address and the stream.
struct FBadAtsTreq : TypedEvent<FBadAtsTreq, EventId::F_BAD_ATS_TREQ> {
  static constexpr std::string_view name = "F_BAD_ATS_TREQ";
  using InputAddr = AddressField<"InputAddr", 191, 140, IOVA>;
  using Layout = weir::Layout<256, Id, Res0<10, 8>, SSV, SubstreamID, StreamID, OwnIgnored<127, 64>,
                              OwnIgnored<139, 128>, InputAddr, Res0<255, 192>>;
};
struct FStreamDisabled : TypedEvent<FStreamDisabled, EventId::F_STREAM_DISABLED> {
  static constexpr std::string_view name = "F_STREAM_DISABLED";
  using Layout = weir::Layout<256, Id, OwnIgnored<31, 8>, StreamID, Res0<127, 64>, Res0<191, 128>, Res0<255, 192>>;
};
struct FTranslForbidden : TypedEvent<FTranslForbidden, EventId::F_TRANSL_FORBIDDEN> {
  static constexpr std::string_view name = "F_TRANSL_FORBIDDEN";
  using RnW = AccessFields::RnW;
  using InputAddr = AccessFields::InputAddr;
  using Layout =
      weir::Layout<256, Id, OwnIgnored<31, 8>, StreamID, Res0<98, 64>, RnW, Res0<127, 100>, InputAddr, Res0<255, 192>>;
};
struct CBadSubstreamid : TypedEvent<CBadSubstreamid, EventId::C_BAD_SUBSTREAMID> {  // always has a SubstreamID: no SSV
  static constexpr std::string_view name = "C_BAD_SUBSTREAMID";
  using Layout =
      weir::Layout<256, Id, Res0<11, 8>, SubstreamID, StreamID, Res0<127, 64>, Res0<191, 128>, Res0<255, 192>>;
};
struct FCdFetch : TypedEvent<FCdFetch, EventId::F_CD_FETCH>, FetchErrorRecord {
  static constexpr std::string_view name = "F_CD_FETCH";
};
struct CBadCd : TypedEvent<CBadCd, EventId::C_BAD_CD>, ConfigErrorRecord {
  static constexpr std::string_view name = "C_BAD_CD";
};
struct FWalkEabt : TypedEvent<FWalkEabt, EventId::F_WALK_EABT>, AccessFields, FetchFields {
  static constexpr std::string_view name = "F_WALK_EABT";
  using S2 = TranslationFaultRecord::S2;
  using CLASS = TranslationFaultRecord::CLASS;
  using Layout = weir::Layout<256, Id, Res0<10, 8>, SSV, SubstreamID, StreamID, Reason, GPCF, Res0<96, 81>, PnU, InD,
                              RnW, OwnIgnored<102, 100>, S2, CLASS, Res0<127, 106>, InputAddr, Res0<194, 192>,
                              FetchAddr, Res0<255, 248>>;
};
struct FTranslation : TypedEvent<FTranslation, EventId::F_TRANSLATION>, TranslationFaultRecord {
  static constexpr std::string_view name = "F_TRANSLATION";
};
struct FAddrSize : TypedEvent<FAddrSize, EventId::F_ADDR_SIZE>, TranslationFaultRecord {
  static constexpr std::string_view name = "F_ADDR_SIZE";
};
struct FAccess : TypedEvent<FAccess, EventId::F_ACCESS>, TranslationFaultRecord {
  static constexpr std::string_view name = "F_ACCESS";
};
struct FPermission : TypedEvent<FPermission, EventId::F_PERMISSION>, TranslationFaultRecord {
  static constexpr std::string_view name = "F_PERMISSION";
};
struct FTlbConflict : TypedEvent<FTlbConflict, EventId::F_TLB_CONFLICT>, AccessFields {
  static constexpr std::string_view name = "F_TLB_CONFLICT";
  using Reason = OwnField<"Reason", 79, 64>;
  using S2 = TranslationFaultRecord::S2;
  using IPA = TranslationFaultRecord::IPA;
  using Layout =
      weir::Layout<256, Id, Res0<10, 8>, SSV, SubstreamID, StreamID, Reason, Res0<96, 80>, PnU, InD, RnW,
                   OwnIgnored<102, 100>, S2, OwnIgnored<127, 104>, InputAddr, Res0<203, 192>, IPA, Res0<255, 248>>;
};
struct FCfgConflict : TypedEvent<FCfgConflict, EventId::F_CFG_CONFLICT> {
  static constexpr std::string_view name = "F_CFG_CONFLICT";
  using Reason = OwnField<"Reason", 79, 64>;
  using Layout = weir::Layout<256, Id, Res0<10, 8>, SSV, SubstreamID, StreamID, Reason, OwnIgnored<95, 80>,
                              Res0<127, 96>, Res0<191, 128>, Res0<255, 192>>;
};
struct EPageRequest : TypedEvent<EPageRequest, EventId::E_PAGE_REQUEST> {
  static constexpr std::string_view name = "E_PAGE_REQUEST";
  using uX = BitField<"uX", 98>;
  using uW = BitField<"uW", 99>;
  using uR = BitField<"uR", 100>;
  using pX = BitField<"pX", 101>;
  using pW = BitField<"pW", 102>;
  using pR = BitField<"pR", 103>;
  using Span = Field<"Span", 115, 108>;  // in units of 4096 bytes
  using InputAddr = AddressField<"InputAddr", 191, 140, IOVA>;
  using Layout = weir::Layout<256, Id, Res0<10, 8>, SSV, SubstreamID, StreamID, Res0<97, 64>, uX, uW, uR, pX, pW, pR,
                              Res0<107, 104>, Span, Res0<127, 116>, Res0<139, 128>, InputAddr, Res0<255, 192>>;
};
struct FVmsFetch : TypedEvent<FVmsFetch, EventId::F_VMS_FETCH>, FetchErrorRecord {
  static constexpr std::string_view name = "F_VMS_FETCH";
};

// --- All formats ---

template <typename... Ts>
struct EventList {
  // Calls fn(typed event) for the format of `e`; false if no format of the list has its number.
  template <typename Fn>
  static constexpr bool visit(const Event& e, Fn&& fn) {
    return (visit_one<Ts>(e, fn) || ...);
  }
  template <typename Fn>
  static constexpr void for_each(Fn&& fn) {
    (fn(Ts{}), ...);
  }

 private:
  template <typename T, typename Fn>
  static constexpr bool visit_one(const Event& e, Fn& fn) {
    const std::optional<T> typed = e.as<T>();
    if (typed) fn(*typed);
    return typed.has_value();
  }
};

using AllEvents = EventList<FUut, CBadStreamid, FSteFetch, CBadSte, FBadAtsTreq, FStreamDisabled, FTranslForbidden,
                            CBadSubstreamid, FCdFetch, CBadCd, FWalkEabt, FTranslation, FAddrSize, FAccess, FPermission,
                            FTlbConflict, FCfgConflict, EPageRequest, FVmsFetch>;

using EventMask = std::array<std::uint64_t, 4>;

// The bits of a physical record of this type that a guest may see unchanged, or nothing for a number without a format.
constexpr std::optional<EventMask> guest_visible(EventId id) {
  Event e;
  e.set<Event::Id>(id);
  std::optional<EventMask> mask;
  AllEvents::visit(e, [&]<typename T>(const T&) { mask = T::Layout::guest; });
  return mask;
}

// The specification's name, or an empty string.
constexpr std::string_view name_of(EventId id) {
  Event e;
  e.set<Event::Id>(id);
  std::string_view name;
  AllEvents::visit(e, [&]<typename T>(const T&) { name = T::name; });
  return name;
}

}  // namespace weir::smmu
