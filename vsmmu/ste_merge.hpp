// The physical STE of a stream, from what the guest wants and what Weir decides (design: "STE merge"). Pure functions.
//
// Of the guest: V, Config (abort, bypass, stage 1), S1Fmt, S1ContextPtr, S1CDMax, S1DSS, S1CIR, S1COR, S1CSH, S1STALLD,
// EATS and PPAR, each as far as the vSMMU offers what it is about. All else is Weir's. In particular MTCFG, MemAttr,
// ALLOCCFG, SHCFG, PRIVCFG and INSTCFG always say "use incoming": no vSMMU announces IDR1.ATTR_TYPES_OVR or
// ATTR_PERMS_OVR, so they are RES0 for a guest and mean just that (5.2), whatever the instance could do.
#pragma once

#include <cstdint>
#include <optional>

#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/ste.hpp"
#include "vsmmu/announced.hpp"

namespace weir::vsmmu {

// How far the device may use ATS.
enum class AtsGrant : std::uint8_t {
  none,
  split_stage,  // translations end at stage 1: the device's requests still pass stage 2
  full          // the device may use host addresses: only if the manifest trusts it by name
};

// What the manifest lets a device do beyond plain DMA.
struct StreamGrant {
  AtsGrant ats = AtsGrant::none;
  bool pri = false;  // its page requests reach the guest; without ATS it means nothing
  // Its transactions may wait for the guest (CD.S). Not for PCIe, which must not stall (3.12.1, 16.4): then S1STALLD is
  // forced, and a CD with S == 1 is C_BAD_CD.
  bool stall = true;
};

// What a guest's STE may ask for.
struct MergeLimits {
  unsigned oas_bits{};   // of the vSMMU
  unsigned ssid_bits{};  // 0: no substreams
  bool two_level_cd{};   // IDR0.CD2L of the vSMMU
  bool offers_ats{};     // IDR0.ATS of the vSMMU
  bool offers_stall{};   // the vSMMU offers the stall model,
  bool stall{};          // and this stream may use it
  bool can_stall{};      // the instance could stall, whatever the vSMMU offers,
  bool must_stall{};     // or cannot but stall: then S2S == 0 is ILLEGAL, and with S2S == 1 ATS is (5.2.2)
  AtsGrant ats = AtsGrant::none;
  bool pri{};
  bool coherent = true;  // IDR0.COHACC of the vSMMU

  // For a stream of an instance behind a vSMMU.
  [[nodiscard]] static MergeLimits of(const Announced& announced, const stage2::Capabilities& instance,
                                      const StreamGrant& grant = {});
};

// What is left of `grant` for a stream of `instance`: no more than the vSMMU announces and the instance can do.
[[nodiscard]] StreamGrant effective(const StreamGrant& grant, const Announced& announced,
                                    const stage2::Capabilities& instance);

// Decides for all streams while SMMUEN is 0.
struct GlobalState {
  bool enabled{};
  bool gbpa_abort{};
};

struct Merged {
  smmu::Ste ste;
  // What the guest's own SMMU would record for each transaction of the stream; `ste` is invalid then.
  std::optional<smmu::EventId> event;
};

// `stage2`: the stage-2 fields for the stream's tag, all else 0 (S2Domain::fill_stage2). `vste` is not looked at while
// the vSMMU is disabled.
[[nodiscard]] Merged merge_ste(const smmu::Ste& vste, GlobalState state, const MergeLimits& limits,
                               const smmu::Ste& stage2);

// Silent abort; a stream that is nobody's.
[[nodiscard]] smmu::Ste abort_ste();
// V == 0: the device's transactions abort, and an event says so.
[[nodiscard]] constexpr smmu::Ste invalid_ste() { return {}; }

// True if IHI 0070, 5.2.2 (SteIllegal) calls `vste` ILLEGAL on an SMMU with these limits and without stage 2.
[[nodiscard]] bool ste_illegal(const smmu::Ste& vste, const MergeLimits& limits);

// True if transactions of a stream with this (physical) STE use stage 1.
[[nodiscard]] inline bool uses_stage1(const smmu::Ste& ste) {
  return ste.get<smmu::Ste::V>() && smmu::translates_s1(ste.get<smmu::Ste::Config>());
}

}  // namespace weir::vsmmu
