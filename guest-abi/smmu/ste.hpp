// Stream table entries and level-1 stream table descriptors (Arm IHI 0070G.b, 5.1 and 5.2).
//
// Ste::Layout::guest is what Weir takes from a guest's STE (the merge replaces all else). Bits outside of it are not an
// error: software sets, for example, SHCFG, MEV or STRW in any STE that it writes.
#pragma once

#include <cstdint>
#include <string_view>

#include "guest-abi/field.hpp"
#include "guest-abi/smmu/types.hpp"
#include "guest-abi/types.hpp"

namespace weir::smmu {

// STE.Config. 0b0xx behaves as abort: a decoder must look at bit 2 first, see is_abort().
enum class SteConfig : std::uint8_t { abort = 0b000, bypass = 0b100, s1 = 0b101, s2 = 0b110, s1_s2 = 0b111 };
constexpr bool is_abort(SteConfig c) { return (static_cast<unsigned>(c) & 0b100) == 0; }
constexpr bool translates_s1(SteConfig c) { return (static_cast<unsigned>(c) & 0b101) == 0b101; }
constexpr bool translates_s2(SteConfig c) { return (static_cast<unsigned>(c) & 0b110) == 0b110; }
constexpr std::string_view name_of(SteConfig c) {
  switch (c) {
    case SteConfig::bypass: return "bypass";
    case SteConfig::s1: return "s1";
    case SteConfig::s2: return "s2";
    case SteConfig::s1_s2: return "s1+s2";
    default: return "abort";
  }
}

// STE.S1Fmt; 0b11 behaves as linear.
enum class S1Fmt : std::uint8_t { linear = 0b00, two_level_4k = 0b01, two_level_64k = 0b10, reserved = 0b11 };
// STE.S1DSS; 0b11 behaves as terminate.
enum class S1Dss : std::uint8_t { terminate = 0b00, bypass = 0b01, substream0 = 0b10, reserved = 0b11 };
enum class Eats : std::uint8_t { none = 0b00, full = 0b01, split_stage = 0b10, full_dpt = 0b11 };
enum class Strw : std::uint8_t { nsel1 = 0b00, el2 = 0b10 };  // 0bx1 is ILLEGAL

struct Ste : Record<Ste, 512> {
  // [63:0]
  using V = BitField<"V", 0>;
  using Config = Field<"Config", 3, 1, SteConfig>;
  using S1Fmt = Field<"S1Fmt", 5, 4, weir::smmu::S1Fmt>;
  using S1ContextPtr = AddressField<"S1ContextPtr", 55, 6, IPA>;  // an IPA wherever stage 2 is on: everywhere in Weir
  using S1CDMax = Field<"S1CDMax", 63, 59>;                       // log2 of the number of CDs
  // [127:64]
  using S1DSS = Field<"S1DSS", 65, 64, S1Dss>;
  using S1CIR = Field<"S1CIR", 67, 66, CdCacheability>;
  using S1COR = Field<"S1COR", 69, 68, CdCacheability>;
  using S1CSH = Field<"S1CSH", 71, 70, Shareability>;
  using S2HWU59 = OwnBit<"S2HWU59", 72>;
  using S2HWU60 = OwnBit<"S2HWU60", 73>;
  using S2HWU61 = OwnBit<"S2HWU61", 74>;
  using S2HWU62 = OwnBit<"S2HWU62", 75>;
  using DRE = OwnBit<"DRE", 76>;
  using CONT = OwnField<"CONT", 80, 77>;
  using DCP = OwnBit<"DCP", 81>;
  using PPAR = BitField<"PPAR", 82>;  // for a device that may send page requests
  using MEV = OwnBit<"MEV", 83>;
  using SW_RESERVED = OwnField<"SW_RESERVED", 87, 84>;
  using S1PIE = OwnBit<"S1PIE", 88>;
  using S2FWB = OwnBit<"S2FWB", 89>;
  using S1MPAM = OwnBit<"S1MPAM", 90>;
  using S1STALLD = BitField<"S1STALLD", 91>;
  using EATS = Field<"EATS", 93, 92, Eats>;
  using STRW = OwnField<"STRW", 95, 94, Strw>;
  using MemAttr = OwnField<"MemAttr", 99, 96, weir::smmu::MemAttr>;
  using MTCFG = OwnBit<"MTCFG", 100>;
  using ALLOCCFG = OwnField<"ALLOCCFG", 104, 101>;
  using SHCFG = OwnField<"SHCFG", 109, 108, ShareabilityConfig>;
  using NSCFG = OwnField<"NSCFG", 111, 110>;
  using PRIVCFG = OwnField<"PRIVCFG", 113, 112, PrivConfig>;
  using INSTCFG = OwnField<"INSTCFG", 115, 114, InstConfig>;
  using IMPDEF1 = OwnField<"IMPDEF1", 127, 116>;
  // [191:128]
  using S2VMID = OwnField<"S2VMID", 143, 128, VMID>;
  using IMPDEF2 = OwnField<"IMPDEF2", 159, 144>;
  using S2T0SZ = OwnField<"S2T0SZ", 165, 160>;
  using S2SL0 = OwnField<"S2SL0", 167, 166>;  // as VTCR_EL2.SL0
  using S2IR0 = OwnField<"S2IR0", 169, 168, WalkCacheability>;
  using S2OR0 = OwnField<"S2OR0", 171, 170, WalkCacheability>;
  using S2SH0 = OwnField<"S2SH0", 173, 172, Shareability>;
  using S2TG = OwnField<"S2TG", 175, 174, Granule0>;
  using S2PS = OwnField<"S2PS", 178, 176, AddressSize>;
  using S2AA64 = OwnBit<"S2AA64", 179>;
  using S2ENDI = OwnBit<"S2ENDI", 180>;
  using S2AFFD = OwnBit<"S2AFFD", 181>;
  using S2PTW = OwnBit<"S2PTW", 182>;
  using S2HD = OwnBit<"S2HD", 183>;
  using S2HA = OwnBit<"S2HA", 184>;
  using S2S = OwnBit<"S2S", 185>;
  using S2R = OwnBit<"S2R", 186>;
  using S2HAFT = OwnBit<"S2HAFT", 187>;
  using S2PIE = OwnBit<"S2PIE", 188>;
  using S2POE = OwnBit<"S2POE", 189>;
  using DPT_VMATCH = OwnField<"DPT_VMATCH", 191, 190>;
  // [255:192]
  using S2NSW = OwnBit<"S2NSW", 192>;  // S2NSW, S2NSA: Secure streams only
  using S2NSA = OwnBit<"S2NSA", 193>;
  using S2SL0_2 = OwnBit<"S2SL0_2", 194>;
  using S2DS = OwnBit<"S2DS", 195>;
  using S2TTB = OwnAddress<"S2TTB", 247, 196, PA>;
  using S2SKL = OwnField<"S2SKL", 254, 253>;
  // [319:256]
  using IMPDEF4 = OwnField<"IMPDEF4", 271, 256>;
  using PARTID = OwnField<"PARTID", 287, 272>;
  using S_S2T0SZ = OwnField<"S_S2T0SZ", 293, 288>;
  using S_S2SL0 = OwnField<"S_S2SL0", 295, 294>;
  using S_S2TG = OwnField<"S_S2TG", 303, 302, Granule0>;
  using MECID = OwnField<"MECID", 319, 304>;
  // [383:320]
  using PMG = OwnField<"PMG", 327, 320>;
  using MPAM_NS = OwnBit<"MPAM_NS", 328>;
  using AssuredOnly = OwnBit<"AssuredOnly", 329>;
  using TL0 = OwnBit<"TL0", 330>;
  using TL1 = OwnBit<"TL1", 331>;
  using VMSPtr = OwnAddress<"VMSPtr", 375, 332, PA>;
  // [447:384]
  using S2SW = OwnBit<"S2SW", 384>;
  using S2SA = OwnBit<"S2SA", 385>;
  using S_S2SL0_2 = OwnBit<"S_S2SL0_2", 386>;
  using S_S2TTB = OwnAddress<"S_S2TTB", 439, 388, PA>;
  using S_S2SKL = OwnField<"S_S2SKL", 446, 445>;
  // [511:448]
  using S2POI = OwnField<"S2POI", 511, 448>;  // 16 fields of 4 bits

  using Layout = weir::Layout<
      512, V, Config, S1Fmt, S1ContextPtr, Res0<58, 56>, S1CDMax,                                            //
      S1DSS, S1CIR, S1COR, S1CSH, S2HWU59, S2HWU60, S2HWU61, S2HWU62, DRE, CONT, DCP, PPAR, MEV,             //
      SW_RESERVED, S1PIE, S2FWB, S1MPAM, S1STALLD, EATS, STRW, MemAttr, MTCFG, ALLOCCFG, Res0<107, 105>,     //
      SHCFG, NSCFG, PRIVCFG, INSTCFG, IMPDEF1,                                                               //
      S2VMID, IMPDEF2, S2T0SZ, S2SL0, S2IR0, S2OR0, S2SH0, S2TG, S2PS, S2AA64, S2ENDI, S2AFFD, S2PTW, S2HD,  //
      S2HA, S2S, S2R, S2HAFT, S2PIE, S2POE, DPT_VMATCH,                                                      //
      S2NSW, S2NSA, S2SL0_2, S2DS, S2TTB, Res0<252, 248>, S2SKL, Res0<255, 255>,                             //
      IMPDEF4, PARTID, S_S2T0SZ, S_S2SL0, Res0<301, 296>, S_S2TG, MECID,                                     //
      PMG, MPAM_NS, AssuredOnly, TL0, TL1, VMSPtr, Res0<383, 376>,                                           //
      S2SW, S2SA, S_S2SL0_2, Res0<387, 387>, S_S2TTB, Res0<444, 440>, S_S2SKL, Res0<447, 447>,               //
      S2POI>;
};
static_assert(sizeof(Ste) == 64);

// Level-1 stream table descriptor (5.1). L2Ptr is a PA in a physical stream table, an IPA in a guest's.
struct L1Std : Record<L1Std, 64> {
  using Span = Field<"Span", 4, 0>;  // 0: invalid, 1..11: 2^(Span - 1) STEs, above: reserved, behaves as 0
  using L2Ptr = AddressField<"L2Ptr", 55, 6>;
  using Layout = weir::Layout<64, Span, Res0<5, 5>, L2Ptr, Res0<63, 56>>;
};
static_assert(sizeof(L1Std) == 8);

}  // namespace weir::smmu
