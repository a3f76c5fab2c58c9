// VMSAv8-64 translation tables: descriptors and memory attributes (Arm ARM DDI 0487, D8.3 to D8.6).
//
// For the 4 KiB granule and 48-bit output addresses (no FEAT_LPA2), direct permissions, Non-secure state. Stage 2
// tables are shared by CPUs and SMMUs; stage 1 is EL2's own and that of the guests' test payloads. In these formats
// Guest has no meaning. Output and table addresses sit in place.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "guest-abi/field.hpp"
#include "guest-abi/types.hpp"

namespace weir::vmsa {

inline constexpr unsigned kMaxOutputBits = 48;  // of an address that a descriptor can hold
inline constexpr std::size_t kEntries = 512;    // per table, which is a page
inline constexpr unsigned kLastLevel = 3;       // lookup levels are 0..3
constexpr unsigned level_shift(unsigned level) { return level < kLastLevel ? 39 - 9 * level : 12; }
constexpr std::uint64_t level_size(unsigned level) {
  return std::uint64_t{1} << level_shift(level);
}  // bytes per entry
constexpr std::size_t level_index(std::uint64_t address, unsigned level) {
  return static_cast<std::size_t>((address >> level_shift(level)) & (kEntries - 1));
}
inline constexpr std::size_t kContiguousEntries = 16;  // entries that share one Contiguous hint, every level

enum class Kind : std::uint8_t { invalid, block, page, table };

// Any descriptor: only what says which kind it is (D8.3.1).
struct Descriptor : Record<Descriptor, 64> {
  using Valid = BitField<"Valid", 0>;
  using Table = BitField<"Table", 1>;  // levels 0..2: table, not block; level 3: page, not reserved
  using Layout = weir::Layout<64, Valid, Table, Ignored<63, 2>>;

  [[nodiscard]] constexpr Kind kind(unsigned level) const {
    if (!get<Valid>()) return Kind::invalid;
    if (level == kLastLevel) return get<Table>() ? Kind::page : Kind::invalid;
    if (get<Table>()) return Kind::table;
    return level == 0 ? Kind::invalid : Kind::block;  // a level-0 block needs FEAT_LPA2
  }
};

enum class Shareability : std::uint8_t { non_shareable = 0b00, outer = 0b10, inner = 0b11 };

// --- Stage 1 ---

enum class S1Ap : std::uint8_t {  // AP[2:1]; a regime with one privilege level needs AP[1] == 1 (RES1)
  priv_rw = 0b00,
  any_rw = 0b01,
  priv_ro = 0b10,
  any_ro = 0b11
};

struct S1Attributes {
  using Valid = BitField<"Valid", 0>;
  using Table = BitField<"Table", 1>;
  using AttrIndx = Field<"AttrIndx", 4, 2>;  // byte of MAIR
  using NS = BitField<"NS", 5>;              // RES0 in Non-secure state
  using AP = Field<"AP", 7, 6, S1Ap>;
  using SH = Field<"SH", 9, 8, Shareability>;
  using AF = BitField<"AF", 10>;
  using nG = BitField<"nG", 11>;  // RES0 in a regime with one privilege level
  using GP = BitField<"GP", 50>;  // FEAT_BTI
  using DBM = BitField<"DBM", 51>;
  using Contiguous = BitField<"Contiguous", 52>;
  using PXN = BitField<"PXN", 53>;  // RES0 in a regime with one privilege level
  using UXN = BitField<"UXN", 54>;  // XN in a regime with one privilege level
  using Software = Field<"Software", 58, 55>;
  using PBHA = Field<"PBHA", 62, 59>;
};

struct S1Block : Record<S1Block, 64>, S1Attributes {  // level 1 (1 GiB) and 2 (2 MiB)
  using nT = BitField<"nT", 16>;                      // FEAT_BBM level 1
  using OA = AddressField<"OA", 47, 21>;
  using Layout = weir::Layout<64, Valid, Table, AttrIndx, NS, AP, SH, AF, nG, Res0<15, 12>, nT, Res0<20, 17>, OA,
                              Res0<49, 48>, GP, DBM, Contiguous, PXN, UXN, Software, PBHA, Ignored<63, 63>>;
};
struct S1Page : Record<S1Page, 64>, S1Attributes {
  using OA = AddressField<"OA", 47, 12>;
  using Layout = weir::Layout<64, Valid, Table, AttrIndx, NS, AP, SH, AF, nG, OA, Res0<49, 48>, GP, DBM, Contiguous,
                              PXN, UXN, Software, PBHA, Ignored<63, 63>>;
};
struct S1Table : Record<S1Table, 64> {
  using Valid = BitField<"Valid", 0>;
  using Table = BitField<"Table", 1>;
  using NLTA = AddressField<"NLTA", 47, 12>;
  using PXNTable = BitField<"PXNTable", 59>;
  using UXNTable = BitField<"UXNTable", 60>;
  using APTable = Field<"APTable", 62, 61>;
  using NSTable = BitField<"NSTable", 63>;
  using Layout = weir::Layout<64, Valid, Table, Ignored<11, 2>, NLTA, Res0<50, 48>, Ignored<58, 51>, PXNTable, UXNTable,
                              APTable, NSTable>;
};

// Bytes of MAIR_ELx and CD.MAIR (D24 MAIR_EL1).
enum class MairAttr : std::uint8_t {
  device_nGnRnE = 0x00,
  device_nGnRE = 0x04,
  device_nGRE = 0x08,
  device_GRE = 0x0c,
  normal_nc = 0x44,
  normal_wt = 0xbb,         // write-through non-transient, read and write allocate
  normal_wb = 0xff,         // write-back non-transient, read and write allocate
  normal_wb_tagged = 0xf0,  // FEAT_MTE2
};

// MAIR with attrs[i] at index i.
constexpr std::uint64_t mair(const std::array<MairAttr, 8>& attrs) {
  std::uint64_t v = 0;
  for (std::size_t i = 0; i < attrs.size(); ++i) v |= std::uint64_t{static_cast<std::uint8_t>(attrs[i])} << (8 * i);
  return v;
}

// --- Stage 2 ---

enum class S2Ap : std::uint8_t { none = 0b00, ro = 0b01, wo = 0b10, rw = 0b11 };

// XN[1:0] with FEAT_XNX, as every SMMUv3.1 with stage 2 has it too (IDR3.XNX). Without: bit 1 is XN, bit 0 RES0, so
// only `executable` and `never` mean the same everywhere.
enum class S2Xn : std::uint8_t { executable = 0b00, el0_only = 0b01, never = 0b10, el1_only = 0b11 };

// MemAttr[3:0] where stage 1's attributes are combined with these: FWB == 0 (D8.6.5). The weaker of both wins.
enum class S2MemAttr : std::uint8_t {
  device_nGnRnE = 0b0000,
  device_nGnRE = 0b0001,
  device_nGRE = 0b0010,
  device_GRE = 0b0011,
  normal_nc = 0b0101,  // outer and inner
  normal_wt = 0b1010,
  normal_wb = 0b1111  // leaves stage 1's attributes as they are
};
// MemAttr[3:0] with FWB == 1 (D8.6.6): bit 3 is RES0 without FEAT_MTE_PERM.
enum class S2MemAttrFwb : std::uint8_t {
  device_nGnRnE = 0b0000,
  device_nGnRE = 0b0001,
  device_nGRE = 0b0010,
  device_GRE = 0b0011,
  normal_nc = 0b0101,  // non-cacheable unless stage 1 says Device
  force_wb = 0b0110,   // write-back whatever stage 1 says
  stage1 = 0b0111      // what stage 1 says; write-back without stage 1
};

struct S2Attributes {
  using Valid = BitField<"Valid", 0>;
  using Table = BitField<"Table", 1>;
  using MemAttr = Field<"MemAttr", 5, 2>;  // an S2MemAttr or an S2MemAttrFwb
  using S2AP = Field<"S2AP", 7, 6, S2Ap>;
  using SH = Field<"SH", 9, 8, Shareability>;
  using AF = BitField<"AF", 10>;
  using FnXS = BitField<"FnXS", 11>;  // FEAT_XS
  using DBM = BitField<"DBM", 51>;
  using Contiguous = BitField<"Contiguous", 52>;
  using XN = Field<"XN", 54, 53, S2Xn>;
  using Software = Field<"Software", 58, 56>;
  using PBHA = Field<"PBHA", 62, 59>;
};

struct S2Block : Record<S2Block, 64>, S2Attributes {
  using nT = BitField<"nT", 16>;
  using OA = AddressField<"OA", 47, 21, PA>;
  using Layout = weir::Layout<64, Valid, Table, MemAttr, S2AP, SH, AF, FnXS, Res0<15, 12>, nT, Res0<20, 17>, OA,
                              Res0<50, 48>, DBM, Contiguous, XN, Ignored<55, 55>, Software, PBHA, Res0<63, 63>>;
};
struct S2Page : Record<S2Page, 64>, S2Attributes {
  using OA = AddressField<"OA", 47, 12, PA>;
  using Layout = weir::Layout<64, Valid, Table, MemAttr, S2AP, SH, AF, FnXS, OA, Res0<50, 48>, DBM, Contiguous, XN,
                              Ignored<55, 55>, Software, PBHA, Res0<63, 63>>;
};
struct S2Table : Record<S2Table, 64> {
  using Valid = BitField<"Valid", 0>;
  using Table = BitField<"Table", 1>;
  using NLTA = AddressField<"NLTA", 47, 12, PA>;
  using Layout = weir::Layout<64, Valid, Table, Ignored<11, 2>, NLTA, Res0<50, 48>, Ignored<58, 51>, Res0<63, 59>>;
};

}  // namespace weir::vmsa
