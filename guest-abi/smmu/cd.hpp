// Context descriptors and level-1 context descriptors (Arm IHI 0070G.b, 5.3 and 5.4).
//
// A CD lies in guest memory and is the guest's: it may set all of it but IMPLEMENTATION DEFINED bits and what needs
// features that are never advertised (Cd::Layout::guest matters only where Weir holds a copy of the CD).
#pragma once

#include <cstdint>

#include "guest-abi/field.hpp"
#include "guest-abi/smmu/types.hpp"
#include "guest-abi/types.hpp"

namespace weir::smmu {

struct Cd : Record<Cd, 512> {
  // [63:0]
  using T0SZ = Field<"T0SZ", 5, 0>;
  using TG0 = Field<"TG0", 7, 6, Granule0>;
  using IR0 = Field<"IR0", 9, 8, WalkCacheability>;
  using OR0 = Field<"OR0", 11, 10, WalkCacheability>;
  using SH0 = Field<"SH0", 13, 12, Shareability>;
  using EPD0 = BitField<"EPD0", 14>;
  using ENDI = BitField<"ENDI", 15>;
  using T1SZ = Field<"T1SZ", 21, 16>;
  using TG1 = Field<"TG1", 23, 22, Granule1>;
  using IR1 = Field<"IR1", 25, 24, WalkCacheability>;
  using OR1 = Field<"OR1", 27, 26, WalkCacheability>;
  using SH1 = Field<"SH1", 29, 28, Shareability>;
  using EPD1 = BitField<"EPD1", 30>;
  using V = BitField<"V", 31>;
  using IPS = Field<"IPS", 34, 32, AddressSize>;
  using AFFD = BitField<"AFFD", 35>;
  using WXN = BitField<"WXN", 36>;
  using UWXN = BitField<"UWXN", 37>;
  using TBI0 = BitField<"TBI0", 38>;
  using TBI1 = BitField<"TBI1", 39>;
  using PAN = BitField<"PAN", 40>;
  using AA64 = BitField<"AA64", 41>;
  using HD = BitField<"HD", 42>;
  using HA = BitField<"HA", 43>;
  using S = BitField<"S", 44>;
  using R = BitField<"R", 45>;
  using A = BitField<"A", 46>;
  using ASET = BitField<"ASET", 47>;
  using ASID = Field<"ASID", 63, 48, weir::ASID>;
  // [127:64]
  using NSCFG0 = BitField<"NSCFG0", 64>;
  using HAD0 = BitField<"HAD0", 65>;  // DisCH0 if IDR5.D128
  using E0PD0 = BitField<"E0PD0", 66>;
  using HAFT = BitField<"HAFT", 67>;
  using TTB0 = AddressField<"TTB0", 119, 68, IPA>;
  using PnCH = OwnBit<"PnCH", 122>;
  using EPAN = BitField<"EPAN", 123>;
  using HWU059 = BitField<"HWU059", 124>;
  using HWU060 = BitField<"HWU060", 125>;
  using HWU061_062 = Field<"HWU061_062", 127, 126>;  // SKL0 if IDR5.D128
  // [191:128]
  using NSCFG1 = BitField<"NSCFG1", 128>;
  using HAD1 = BitField<"HAD1", 129>;  // DisCH1 if IDR5.D128
  using E0PD1 = BitField<"E0PD1", 130>;
  using AIE = OwnBit<"AIE", 131>;
  using TTB1 = AddressField<"TTB1", 183, 132, IPA>;
  using DS = BitField<"DS", 186>;
  using PIE = OwnBit<"PIE", 187>;
  using HWU159 = BitField<"HWU159", 188>;
  using HWU160 = BitField<"HWU160", 189>;
  using HWU161_162 = Field<"HWU161_162", 191, 190>;  // SKL1 if IDR5.D128
  // [255:192]
  using MAIR0 = Field<"MAIR0", 223, 192, std::uint32_t>;
  using MAIR1 = Field<"MAIR1", 255, 224, std::uint32_t>;
  // [319:256]
  using AMAIR0 = Field<"AMAIR0", 287, 256, std::uint32_t>;
  using AMAIR1 = Field<"AMAIR1", 319, 288, std::uint32_t>;
  // [383:320]
  using IMPDEF5 = OwnField<"IMPDEF5", 351, 320>;
  using PARTID = OwnField<"PARTID", 367, 352>;
  using PMG = OwnField<"PMG", 375, 368>;
  // [511:384]
  using PIIU = OwnField<"PIIU", 431, 384>;  // 16 fields of 3 bits
  using PIIP = OwnField<"PIIP", 495, 448>;  // 16 fields of 3 bits

  using Layout =
      weir::Layout<512, T0SZ, TG0, IR0, OR0, SH0, EPD0, ENDI, T1SZ, TG1, IR1, OR1, SH1, EPD1, V, IPS, AFFD, WXN, UWXN,
                   TBI0, TBI1,                                                                               //
                   PAN, AA64, HD, HA, S, R, A, ASET, ASID,                                                   //
                   NSCFG0, HAD0, E0PD0, HAFT, TTB0, Res0<121, 120>, PnCH, EPAN, HWU059, HWU060, HWU061_062,  //
                   NSCFG1, HAD1, E0PD1, AIE, TTB1, Res0<185, 184>, DS, PIE, HWU159, HWU160, HWU161_162,      //
                   MAIR0, MAIR1, AMAIR0, AMAIR1,                                                             //
                   IMPDEF5, PARTID, PMG, Res0<383, 376>,                                                     //
                   PIIU, Res0<447, 432>, PIIP, Res0<511, 496>>;
};
static_assert(sizeof(Cd) == 64);

// Level-1 context descriptor (5.3).
struct L1Cd : Record<L1Cd, 64> {
  using V = BitField<"V", 0>;
  using L2Ptr = AddressField<"L2Ptr", 55, 12, IPA>;
  using Layout = weir::Layout<64, V, Res0<11, 1>, L2Ptr, Res0<63, 56>>;
};
static_assert(sizeof(L1Cd) == 8);

}  // namespace weir::smmu
