// SMMUv3 Command queue entries (Arm IHI 0070G.b, chapter 4): 16 bytes, little-endian.
//
// Command is an entry of any opcode; CfgiSte, TlbiNhVa, ... are the formats, each with all of its fields. A typed
// command converts into Command; Command::as<CfgiSte>() converts back and checks the opcode. Builders at the end of
// this file make whole commands for drivers.
//
// StreamID fields are plain integers: in a guest's queue they are VStreamIDs, in a physical queue StreamIDs. Builders
// take StreamID, so that a vSID cannot reach hardware by accident. The same holds for MSIAddress (an IPA or a PA).
//
// guest_mask() is what a guest may set, per opcode: anything else is CERROR_ILL. It is stricter than an implementation
// has to be (4.1.5 permits one to ignore reserved fields), because a physical SMMU may be just as strict and an error
// there stops the queue for every VM. It depends on no feature: the owner of a vSMMU refuses ATC_INV, PRI_RESP, RESUME
// and STALL_TERM where IDR0 does not offer them, and value rules (tlbi_range_legal(), reserved values) come on top.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string_view>

#include "guest-abi/field.hpp"
#include "guest-abi/smmu/types.hpp"
#include "guest-abi/types.hpp"

namespace weir::smmu {

// Opcodes of the Non-secure Command queue (4.1.1). All others are reserved, Secure, EL3 or IMPLEMENTATION DEFINED.
enum class Opcode : std::uint8_t {
  PREFETCH_CONFIG = 0x01,
  PREFETCH_ADDR = 0x02,
  CFGI_STE = 0x03,
  CFGI_STE_RANGE = 0x04,  // CFGI_ALL is CFGI_STE_RANGE with Range == 31
  CFGI_CD = 0x05,
  CFGI_CD_ALL = 0x06,
  CFGI_VMS_PIDM = 0x07,
  TLBI_NH_ALL = 0x10,
  TLBI_NH_ASID = 0x11,
  TLBI_NH_VA = 0x12,
  TLBI_NH_VAA = 0x13,
  TLBI_EL2_ALL = 0x20,
  TLBI_EL2_ASID = 0x21,
  TLBI_EL2_VA = 0x22,
  TLBI_EL2_VAA = 0x23,
  TLBI_S12_VMALL = 0x28,
  TLBI_S2_IPA = 0x2a,
  TLBI_NSNH_ALL = 0x30,
  ATC_INV = 0x40,
  PRI_RESP = 0x41,
  RESUME = 0x44,
  STALL_TERM = 0x45,
  SYNC = 0x46,
  DPTI_ALL = 0x70,
  DPTI_PA = 0x73  // no format here: nothing in Weir uses a DPT, and no guest is offered one
};

struct Command : Record<Command, 128> {
  using Op = Field<"Opcode", 7, 0, Opcode>;
  using Layout = weir::Layout<128, Op, Ignored<63, 8>, Ignored<127, 64>>;

  [[nodiscard]] constexpr Opcode opcode() const { return get<Op>(); }  // may be a value that Opcode does not name

  // This command as format T, or nothing if it has another opcode.
  template <typename T>
  [[nodiscard]] constexpr std::optional<T> as() const {
    if (opcode() != T::kOpcode) return std::nullopt;
    T typed;
    typed.words = words;
    return typed;
  }
};

// Base of the formats: a new command has its opcode and zeros.
template <typename Derived, Opcode O>
struct TypedCommand : Record<Derived, 128> {
  static constexpr Opcode kOpcode = O;
  using Op = Field<"Opcode", 7, 0, Opcode>;

  constexpr TypedCommand() { this->words[0] = static_cast<std::uint64_t>(O); }
  constexpr operator Command() const {  // NOLINT: a typed command is a command
    Command c;
    c.words = this->words;
    return c;
  }
};

// --- Fields that several commands share (4.1.6, 4.4.1) ---

struct StreamFields {
  using SSec = OwnBit<"SSec", 10>;  // 1 is ILLEGAL in the Non-secure queue
  using StreamID = Field<"StreamID", 63, 32, std::uint32_t>;
};

struct SubstreamFields : StreamFields {
  using SSV = BitField<"SSV", 11>;
  using SubstreamID = Field<"SubstreamID", 31, 12, weir::SubstreamID>;
};

enum class TlbiGranule : std::uint8_t { none = 0b00, size4k = 0b01, size16k = 0b10, size64k = 0b11 };

// Ranges and level hints need IDR3.RIL. Range in bytes: (NUM + 1) * 2^SCALE * granule, from Address.
struct TlbiRangeFields {
  using NUM = Field<"NUM", 16, 12>;
  using SCALE = Field<"SCALE", 25, 20>;  // bit 25 only if IDR5.DS
  using Leaf = BitField<"Leaf", 64>;
  using TTL128 = OwnBit<"TTL128", 71>;  // VMSAv9-128
  using TTL = Field<"TTL", 73, 72>;
  using TG = Field<"TG", 75, 74, TlbiGranule>;
};

// --- Prefetch (4.2) ---

struct PrefetchConfig : TypedCommand<PrefetchConfig, Opcode::PREFETCH_CONFIG>, SubstreamFields {
  static constexpr std::string_view name = "CMD_PREFETCH_CONFIG";
  using Layout = weir::Layout<128, Op, Res0<9, 8>, SSec, SSV, SubstreamID, StreamID, Res0<127, 64>>;
};

struct PrefetchAddr : TypedCommand<PrefetchAddr, Opcode::PREFETCH_ADDR>, SubstreamFields {
  static constexpr std::string_view name = "CMD_PREFETCH_ADDR";
  using Size = Field<"Size", 68, 64>;      // 2^Size translations
  using Stride = Field<"Stride", 73, 69>;  // 2^(12 + Stride) bytes apart; RES0 in SMMUv3.0
  using NS = OwnBit<"NS", 75>;             // RES0 in the Non-secure queue
  using Address = AddressField<"Address", 127, 76, IOVA>;
  using Layout =
      weir::Layout<128, Op, Res0<9, 8>, SSec, SSV, SubstreamID, StreamID, Size, Stride, Res0<74, 74>, NS, Address>;
};

// --- Configuration structures (4.3) ---

struct CfgiSte : TypedCommand<CfgiSte, Opcode::CFGI_STE>, StreamFields {
  static constexpr std::string_view name = "CMD_CFGI_STE";
  using Leaf = BitField<"Leaf", 64>;
  using Layout = weir::Layout<128, Op, Res0<9, 8>, SSec, Res0<31, 11>, StreamID, Leaf, Res0<127, 65>>;
};

struct CfgiSteRange : TypedCommand<CfgiSteRange, Opcode::CFGI_STE_RANGE>, StreamFields {
  static constexpr std::string_view name = "CMD_CFGI_STE_RANGE";
  static constexpr std::uint64_t kAll = 31;  // CMD_CFGI_ALL; StreamID is IGNORED
  using Range = Field<"Range", 68, 64>;      // 2^(Range + 1) StreamIDs, aligned to that number
  using Layout = weir::Layout<128, Op, Res0<9, 8>, SSec, Res0<31, 11>, StreamID, Range, Res0<127, 69>>;
};

struct CfgiCd : TypedCommand<CfgiCd, Opcode::CFGI_CD>, StreamFields {
  static constexpr std::string_view name = "CMD_CFGI_CD";
  using SubstreamID = Field<"SubstreamID", 31, 12, weir::SubstreamID>;  // always an index into the CD table: no SSV
  using Leaf = BitField<"Leaf", 64>;
  using Layout = weir::Layout<128, Op, Res0<9, 8>, SSec, Res0<11, 11>, SubstreamID, StreamID, Leaf, Res0<127, 65>>;
};

struct CfgiCdAll : TypedCommand<CfgiCdAll, Opcode::CFGI_CD_ALL>, StreamFields {
  static constexpr std::string_view name = "CMD_CFGI_CD_ALL";
  using Layout = weir::Layout<128, Op, Res0<9, 8>, SSec, Res0<31, 11>, StreamID, Res0<127, 64>>;
};

struct CfgiVmsPidm : TypedCommand<CfgiVmsPidm, Opcode::CFGI_VMS_PIDM> {  // MPAM only
  static constexpr std::string_view name = "CMD_CFGI_VMS_PIDM";
  using SSec = OwnBit<"SSec", 10>;
  using VMID = Field<"VMID", 47, 32, weir::VMID>;
  using Layout = weir::Layout<128, Op, Res0<9, 8>, SSec, Res0<31, 11>, VMID, Res0<63, 48>, Res0<127, 64>>;
};

// --- Stage-1 TLB (4.4.2). For a guest S2P is 0, its VMID without meaning: Weir puts the tag's VMID there. ---

struct TlbiNhAll : TypedCommand<TlbiNhAll, Opcode::TLBI_NH_ALL> {
  static constexpr std::string_view name = "CMD_TLBI_NH_ALL";
  using VMID = Field<"VMID", 47, 32, weir::VMID>;
  using Layout = weir::Layout<128, Op, Res0<31, 8>, VMID, Res0<63, 48>, Res0<127, 64>>;
};

struct TlbiNhAsid : TypedCommand<TlbiNhAsid, Opcode::TLBI_NH_ASID> {
  static constexpr std::string_view name = "CMD_TLBI_NH_ASID";
  using VMID = Field<"VMID", 47, 32, weir::VMID>;
  using ASID = Field<"ASID", 63, 48, weir::ASID>;
  using Layout = weir::Layout<128, Op, Res0<31, 8>, VMID, ASID, Res0<127, 64>>;
};

struct TlbiNhVa : TypedCommand<TlbiNhVa, Opcode::TLBI_NH_VA>, TlbiRangeFields {
  static constexpr std::string_view name = "CMD_TLBI_NH_VA";
  using VMID = Field<"VMID", 47, 32, weir::VMID>;
  using ASID = Field<"ASID", 63, 48, weir::ASID>;
  using Address = AddressField<"Address", 127, 76, IOVA>;
  using Layout = weir::Layout<128, Op, Res0<11, 8>, NUM, Res0<19, 17>, SCALE, Res0<31, 26>, VMID, ASID, Leaf,
                              Res0<70, 65>, TTL128, TTL, TG, Address>;
};

struct TlbiNhVaa : TypedCommand<TlbiNhVaa, Opcode::TLBI_NH_VAA>, TlbiRangeFields {
  static constexpr std::string_view name = "CMD_TLBI_NH_VAA";
  using VMID = Field<"VMID", 47, 32, weir::VMID>;
  using Address = AddressField<"Address", 127, 76, IOVA>;
  using Layout = weir::Layout<128, Op, Res0<11, 8>, NUM, Res0<19, 17>, SCALE, Res0<31, 26>, VMID, Res0<63, 48>, Leaf,
                              Res0<70, 65>, TTL128, TTL, TG, Address>;
};

struct TlbiEl2All : TypedCommand<TlbiEl2All, Opcode::TLBI_EL2_ALL> {
  static constexpr std::string_view name = "CMD_TLBI_EL2_ALL";
  using Layout = weir::Layout<128, Op, Res0<63, 8>, Res0<127, 64>>;
};

struct TlbiEl2Asid : TypedCommand<TlbiEl2Asid, Opcode::TLBI_EL2_ASID> {
  static constexpr std::string_view name = "CMD_TLBI_EL2_ASID";
  using ASID = Field<"ASID", 63, 48, weir::ASID>;
  using Layout = weir::Layout<128, Op, Res0<47, 8>, ASID, Res0<127, 64>>;
};

struct TlbiEl2Va : TypedCommand<TlbiEl2Va, Opcode::TLBI_EL2_VA>, TlbiRangeFields {
  static constexpr std::string_view name = "CMD_TLBI_EL2_VA";
  using ASID = Field<"ASID", 63, 48, weir::ASID>;
  using Address = AddressField<"Address", 127, 76, IOVA>;
  using Layout = weir::Layout<128, Op, Res0<11, 8>, NUM, Res0<19, 17>, SCALE, Res0<47, 26>, ASID, Leaf, Res0<70, 65>,
                              TTL128, TTL, TG, Address>;
};

struct TlbiEl2Vaa : TypedCommand<TlbiEl2Vaa, Opcode::TLBI_EL2_VAA>, TlbiRangeFields {
  static constexpr std::string_view name = "CMD_TLBI_EL2_VAA";
  using Address = AddressField<"Address", 127, 76, IOVA>;
  using Layout = weir::Layout<128, Op, Res0<11, 8>, NUM, Res0<19, 17>, SCALE, Res0<63, 26>, Leaf, Res0<70, 65>, TTL128,
                              TTL, TG, Address>;
};

// --- Stage 2 and both (4.4.3, 4.4.4) ---

struct TlbiS2Ipa : TypedCommand<TlbiS2Ipa, Opcode::TLBI_S2_IPA>, TlbiRangeFields {
  static constexpr std::string_view name = "CMD_TLBI_S2_IPA";
  using VMID = Field<"VMID", 47, 32, weir::VMID>;
  using Address = AddressField<"Address", 119, 76, IPA>;  // [55:52] RES0 before SMMUv3.4
  using Layout = weir::Layout<128, Op, Res0<11, 8>, NUM, Res0<19, 17>, SCALE, Res0<31, 26>, VMID, Res0<63, 48>, Leaf,
                              Res0<70, 65>, TTL128, TTL, TG, Address, Res0<127, 120>>;
};

struct TlbiS12Vmall : TypedCommand<TlbiS12Vmall, Opcode::TLBI_S12_VMALL> {
  static constexpr std::string_view name = "CMD_TLBI_S12_VMALL";
  using VMID = Field<"VMID", 47, 32, weir::VMID>;
  using Layout = weir::Layout<128, Op, Res0<31, 8>, VMID, Res0<63, 48>, Res0<127, 64>>;
};

struct TlbiNsnhAll : TypedCommand<TlbiNsnhAll, Opcode::TLBI_NSNH_ALL> {
  static constexpr std::string_view name = "CMD_TLBI_NSNH_ALL";
  using Layout = weir::Layout<128, Op, Res0<63, 8>, Res0<127, 64>>;
};

// --- ATS and PRI (4.5), DPT (4.6) ---

struct AtcInv : TypedCommand<AtcInv, Opcode::ATC_INV> {
  static constexpr std::string_view name = "CMD_ATC_INV";
  static constexpr std::uint64_t kSizeAll = 52;  // 2^64 bytes; more is permitted to raise CERROR_ILL
  using Global = BitField<"Global", 9>;
  using SSV = BitField<"SSV", 11>;
  using SubstreamID = Field<"SubstreamID", 31, 12, weir::SubstreamID>;
  using StreamID = Field<"StreamID", 63, 32, std::uint32_t>;
  using Size = Field<"Size", 69, 64>;  // 4096 * 2^Size bytes
  using Address = AddressField<"Address", 127, 76, IOVA>;
  using Layout =
      weir::Layout<128, Op, Res0<8, 8>, Global, Res0<10, 10>, SSV, SubstreamID, StreamID, Size, Res0<75, 70>, Address>;
};

enum class PriResponse : std::uint8_t { failure = 0b00, invalid_request = 0b01, success = 0b10, illegal = 0b11 };

struct PriResp : TypedCommand<PriResp, Opcode::PRI_RESP> {
  static constexpr std::string_view name = "CMD_PRI_RESP";
  using SSV = BitField<"SSV", 11>;
  using SubstreamID = Field<"SubstreamID", 31, 12, weir::SubstreamID>;
  using StreamID = Field<"StreamID", 63, 32, std::uint32_t>;
  using PRGIndex = Field<"PRGIndex", 72, 64, std::uint16_t>;
  using Resp = Field<"Resp", 77, 76, PriResponse>;
  using Layout =
      weir::Layout<128, Op, Res0<10, 8>, SSV, SubstreamID, StreamID, PRGIndex, Res0<75, 73>, Resp, Res0<127, 78>>;
};

struct DptiAll : TypedCommand<DptiAll, Opcode::DPTI_ALL> {
  static constexpr std::string_view name = "CMD_DPTI_ALL";
  using Layout = weir::Layout<128, Op, Res0<63, 8>, Res0<127, 64>>;
};

// --- Stalls and synchronization (4.7) ---

struct Resume : TypedCommand<Resume, Opcode::RESUME>, StreamFields {
  static constexpr std::string_view name = "CMD_RESUME";
  using Ac = BitField<"Ac", 12>;  // 1: retry, 0: terminate
  using Ab = BitField<"Ab", 13>;  // when terminating, 1: abort, 0: RAZ/WI
  using STAG = Field<"STAG", 79, 64, std::uint16_t>;
  using Layout =
      weir::Layout<128, Op, Res0<9, 8>, SSec, Res0<11, 11>, Ac, Ab, Res0<31, 14>, StreamID, STAG, Res0<127, 80>>;
};

struct StallTerm : TypedCommand<StallTerm, Opcode::STALL_TERM>, StreamFields {
  static constexpr std::string_view name = "CMD_STALL_TERM";
  using Layout = weir::Layout<128, Op, Res0<9, 8>, SSec, Res0<31, 11>, StreamID, Res0<127, 64>>;
};

enum class SyncSignal : std::uint8_t { none = 0b00, irq = 0b01, sev = 0b10, illegal = 0b11 };

struct Sync : TypedCommand<Sync, Opcode::SYNC> {
  static constexpr std::string_view name = "CMD_SYNC";
  using CS = Field<"CS", 13, 12, SyncSignal>;
  using MSH = Field<"MSH", 23, 22, Shareability>;
  using MSIAttr = Field<"MSIAttr", 27, 24, MemAttr>;
  using MSIData = Field<"MSIData", 63, 32, std::uint32_t>;
  using MSIAddress = AddressField<"MSIAddress", 119, 66>;  // 0: no MSI. MSI_NS is RES0 outside of Realm queues.
  using Layout = weir::Layout<128, Op, Res0<11, 8>, CS, Res0<21, 14>, MSH, MSIAttr, Res0<31, 28>, MSIData, Res0<65, 64>,
                              MSIAddress, Res0<127, 120>>;
};

// --- All formats ---

template <typename... Ts>
struct CommandList {
  // Calls fn(typed command) for the format of `c`; false if no format of the list has its opcode.
  template <typename Fn>
  static constexpr bool visit(const Command& c, Fn&& fn) {
    return (visit_one<Ts>(c, fn) || ...);
  }
  template <typename Fn>
  static constexpr void for_each(Fn&& fn) {
    (fn(Ts{}), ...);
  }

 private:
  template <typename T, typename Fn>
  static constexpr bool visit_one(const Command& c, Fn& fn) {
    const std::optional<T> typed = c.as<T>();
    if (typed) fn(*typed);
    return typed.has_value();
  }
};

using AllCommands =
    CommandList<PrefetchConfig, PrefetchAddr, CfgiSte, CfgiSteRange, CfgiCd, CfgiCdAll, CfgiVmsPidm, TlbiNhAll,
                TlbiNhAsid, TlbiNhVa, TlbiNhVaa, TlbiEl2All, TlbiEl2Asid, TlbiEl2Va, TlbiEl2Vaa, TlbiS12Vmall,
                TlbiS2Ipa, TlbiNsnhAll, AtcInv, PriResp, Resume, StallTerm, Sync, DptiAll>;

// What a vSMMU offers: stage 1 only, no Hyp, no MPAM, no DPT. S12_VMALL and S2_IPA are CERROR_ILL without S2P (4.4.3).
using GuestCommands =
    CommandList<PrefetchConfig, PrefetchAddr, CfgiSte, CfgiSteRange, CfgiCd, CfgiCdAll, TlbiNhAll, TlbiNhAsid, TlbiNhVa,
                TlbiNhVaa, TlbiNsnhAll, AtcInv, PriResp, Resume, StallTerm, Sync>;

using GuestMask = std::array<std::uint64_t, 2>;

// The bits that a guest may set in a command of this opcode (the opcode's own included), or nothing if the opcode is
// CERROR_ILL. Use: `mask && command.within(*mask)`.
constexpr std::optional<GuestMask> guest_mask(Opcode opcode) {
  Command c;
  c.set<Command::Op>(opcode);
  std::optional<GuestMask> mask;
  GuestCommands::visit(c, [&]<typename T>(const T&) { mask = T::Layout::guest; });
  return mask;
}

// The specification's name, or an empty string for an opcode without one.
constexpr std::string_view name_of(Opcode opcode) {
  if (opcode == Opcode::DPTI_PA) return "CMD_DPTI_PA";
  Command c;
  c.set<Command::Op>(opcode);
  std::string_view name;
  AllCommands::visit(c, [&]<typename T>(const T&) { name = T::name; });
  return name;
}

// Value rules of range invalidation and level hints (4.4.1.1) for an address-based TLBI on an SMMU with IDR3.RIL == ril
// and IDR5.DS == ds. False where the architecture permits or requires CERROR_ILL.
template <typename T>
  requires std::derived_from<T, TlbiRangeFields>
constexpr bool tlbi_range_legal(const T& c, bool ril, bool ds) {
  const auto tg = c.template get<typename T::TG>();
  const auto num = c.template get<typename T::NUM>();
  const auto scale = c.template get<typename T::SCALE>();
  const auto ttl = c.template get<typename T::TTL>();
  if (c.template get<typename T::TTL128>()) return false;
  if (tg == TlbiGranule::none) return num == 0 && scale == 0 && ttl == 0;  // RES0 then
  if (!ril) return false;
  if (!ds && scale >= 32) return false;                                              // bit 25 is RES0
  const bool no_hint = ttl == 0 || (tg == TlbiGranule::size16k && ttl == 1 && !ds);  // that TTL is treated as 0b00
  return !(num == 0 && scale == 0 && no_hint);                                       // reserved, CERROR_ILL
}

// --- Builders ---

// Range and level of an address-based TLBI; a default one means "this address, any granule, any level".
struct TlbiRange {
  TlbiGranule tg{TlbiGranule::none};
  unsigned ttl{};  // level of the leaf entries, 0: any
  unsigned num{};
  unsigned scale{};
};

namespace detail {
template <typename T>
constexpr T with_range(T c, bool leaf, TlbiRange r) {
  c.template set<typename T::Leaf>(leaf).template set<typename T::TG>(r.tg).template set<typename T::TTL>(r.ttl);
  return c.template set<typename T::NUM>(r.num).template set<typename T::SCALE>(r.scale);
}
}  // namespace detail

constexpr CfgiSte cfgi_ste(StreamID sid, bool leaf) {
  return CfgiSte{}.set<CfgiSte::StreamID>(sid.value).set<CfgiSte::Leaf>(leaf);
}
// 2^(range + 1) StreamIDs around `sid`.
constexpr CfgiSteRange cfgi_ste_range(StreamID sid, unsigned range) {
  return CfgiSteRange{}.set<CfgiSteRange::StreamID>(sid.value).set<CfgiSteRange::Range>(range);
}
constexpr CfgiSteRange cfgi_all() { return CfgiSteRange{}.set<CfgiSteRange::Range>(CfgiSteRange::kAll); }
constexpr CfgiCd cfgi_cd(StreamID sid, SubstreamID ssid, bool leaf) {
  return CfgiCd{}.set<CfgiCd::StreamID>(sid.value).set<CfgiCd::SubstreamID>(ssid).set<CfgiCd::Leaf>(leaf);
}
constexpr CfgiCdAll cfgi_cd_all(StreamID sid) { return CfgiCdAll{}.set<CfgiCdAll::StreamID>(sid.value); }

constexpr TlbiNhAll tlbi_nh_all(VMID vmid) { return TlbiNhAll{}.set<TlbiNhAll::VMID>(vmid); }
constexpr TlbiNhAsid tlbi_nh_asid(VMID vmid, ASID asid) {
  return TlbiNhAsid{}.set<TlbiNhAsid::VMID>(vmid).set<TlbiNhAsid::ASID>(asid);
}
constexpr TlbiNhVa tlbi_nh_va(VMID vmid, ASID asid, IOVA address, bool leaf, TlbiRange range = {}) {
  return detail::with_range(TlbiNhVa{}, leaf, range)
      .set<TlbiNhVa::VMID>(vmid)
      .set<TlbiNhVa::ASID>(asid)
      .set<TlbiNhVa::Address>(address);
}
constexpr TlbiNhVaa tlbi_nh_vaa(VMID vmid, IOVA address, bool leaf, TlbiRange range = {}) {
  return detail::with_range(TlbiNhVaa{}, leaf, range).set<TlbiNhVaa::VMID>(vmid).set<TlbiNhVaa::Address>(address);
}
constexpr TlbiS2Ipa tlbi_s2_ipa(VMID vmid, IPA address, bool leaf, TlbiRange range = {}) {
  return detail::with_range(TlbiS2Ipa{}, leaf, range).set<TlbiS2Ipa::VMID>(vmid).set<TlbiS2Ipa::Address>(address);
}
constexpr TlbiS12Vmall tlbi_s12_vmall(VMID vmid) { return TlbiS12Vmall{}.set<TlbiS12Vmall::VMID>(vmid); }
constexpr TlbiNsnhAll tlbi_nsnh_all() { return {}; }
constexpr TlbiEl2All tlbi_el2_all() { return {}; }

// Invalidates 4096 * 2^size bytes at `address` in the device's ATC; size AtcInv::kSizeAll is everything.
constexpr AtcInv atc_inv(StreamID sid, std::optional<SubstreamID> ssid, IOVA address, unsigned size,
                         bool global = false) {
  return AtcInv{}
      .set<AtcInv::StreamID>(sid.value)
      .set<AtcInv::SSV>(ssid.has_value())
      .set<AtcInv::SubstreamID>(ssid.value_or(SubstreamID{}))
      .set<AtcInv::Global>(global)
      .set<AtcInv::Size>(size)
      .set<AtcInv::Address>(address);
}
constexpr AtcInv atc_inv_all(StreamID sid) { return atc_inv(sid, std::nullopt, IOVA{}, AtcInv::kSizeAll); }
constexpr PriResp pri_resp(StreamID sid, std::optional<SubstreamID> ssid, std::uint16_t prg_index, PriResponse resp) {
  return PriResp{}
      .set<PriResp::StreamID>(sid.value)
      .set<PriResp::SSV>(ssid.has_value())
      .set<PriResp::SubstreamID>(ssid.value_or(SubstreamID{}))
      .set<PriResp::PRGIndex>(prg_index)
      .set<PriResp::Resp>(resp);
}

enum class ResumeAction : std::uint8_t { retry, terminate_abort, terminate_raz_wi };
constexpr Resume resume(StreamID sid, std::uint16_t stag, ResumeAction action) {
  return Resume{}
      .set<Resume::StreamID>(sid.value)
      .set<Resume::STAG>(stag)
      .set<Resume::Ac>(action == ResumeAction::retry)
      .set<Resume::Ab>(action == ResumeAction::terminate_abort);
}
constexpr StallTerm stall_term(StreamID sid) { return StallTerm{}.set<StallTerm::StreamID>(sid.value); }

constexpr Sync sync_none() { return {}; }
constexpr Sync sync_sev() { return Sync{}.set<Sync::CS>(SyncSignal::sev); }
// A wired interrupt where the SMMU has one, and a store of `data` to `address` unless that is 0.
constexpr Sync sync_irq(PA address, std::uint32_t data, Shareability sh = Shareability::inner,
                        MemAttr attr = MemAttr::normal_wb) {
  return Sync{}
      .set<Sync::CS>(SyncSignal::irq)
      .set<Sync::MSH>(sh)
      .set<Sync::MSIAttr>(attr)
      .set<Sync::MSIData>(data)
      .set<Sync::MSIAddress>(address.value);
}

}  // namespace weir::smmu
