// GICv3: registers of the distributor (GICD), the redistributors (GICR), the CPU interface (ICC) and its virtual side
// (ICH), as Arm IHI 0069 has them (chapter 12). Formats are those of a system with one Security state, or of the
// Non-secure view of one with two; where these differ, the text says so.
#pragma once

#include <cstdint>

#include "guest-abi/field.hpp"

namespace weir::gic {

inline constexpr std::uint32_t kSgis = 16;      // INTID 0..15; PPIs follow
inline constexpr std::uint32_t kFirstSpi = 32;  // below: private to a CPU
inline constexpr std::uint32_t kSpiEnd = 1020;  // 1020..1023 are special
inline constexpr std::uint32_t kSpecialEnd = 1024;
inline constexpr std::uint32_t kMaxListRegisters = 16;

// ---- Offsets. One type for each bank, so that a register is never looked for in another one. Where a register is one of
// ---- an array, the name is that of element 0.

enum class Gicd : std::uint32_t {
  CTLR = 0x0000,
  TYPER = 0x0004,
  IIDR = 0x0008,
  TYPER2 = 0x000c,
  STATUSR = 0x0010,
  SETSPI_NSR = 0x0040,
  CLRSPI_NSR = 0x0048,
  SETSPI_SR = 0x0050,
  CLRSPI_SR = 0x0058,
  IGROUPR = 0x0080,  // 1 bit for each INTID, as the next six
  ISENABLER = 0x0100,
  ICENABLER = 0x0180,
  ISPENDR = 0x0200,
  ICPENDR = 0x0280,
  ISACTIVER = 0x0300,
  ICACTIVER = 0x0380,
  IPRIORITYR = 0x0400,  // a byte each
  ITARGETSR = 0x0800,   // a byte each; RES0 with affinity routing
  ICFGR = 0x0c00,       // 2 bits each
  IGRPMODR = 0x0d00,    // 1 bit each
  NSACR = 0x0e00,       // 2 bits each
  SGIR = 0x0f00,        // RES0 with affinity routing, as the next two
  CPENDSGIR = 0x0f10,
  SPENDSGIR = 0x0f20,
  IROUTER = 0x6000,  // 64 bits each, from INTID 32 on
  PIDR4 = 0xffd0,
  PIDR2 = 0xffe8,
  CIDR0 = 0xfff0
};

// The frame RD_base of a redistributor.
enum class Gicr : std::uint32_t {
  CTLR = 0x0000,
  IIDR = 0x0004,
  TYPER = 0x0008,  // 64-bit
  STATUSR = 0x0010,
  WAKER = 0x0014,
  MPAMIDR = 0x0018,
  PARTIDR = 0x001c,
  SETLPIR = 0x0040,  // 64-bit, as the next four
  CLRLPIR = 0x0048,
  PROPBASER = 0x0070,
  PENDBASER = 0x0078,
  INVLPIR = 0x00a0,
  INVALLR = 0x00b0,  // 64-bit
  SYNCR = 0x00c0,
  PIDR2 = 0xffe8
};

// The frame SGI_base, 64 KiB above RD_base: the CPU's own 32 INTIDs, laid out as the first of each array in GICD.
enum class GicrSgi : std::uint32_t {
  IGROUPR0 = 0x0080,
  ISENABLER0 = 0x0100,
  ICENABLER0 = 0x0180,
  ISPENDR0 = 0x0200,
  ICPENDR0 = 0x0280,
  ISACTIVER0 = 0x0300,
  ICACTIVER0 = 0x0380,
  IPRIORITYR = 0x0400,
  ICFGR0 = 0x0c00,  // SGIs
  ICFGR1 = 0x0c04,  // PPIs
  IGRPMODR0 = 0x0d00,
  NSACR = 0x0e00
};

inline constexpr std::uint64_t kGicdBytes = 0x1'0000;
inline constexpr std::uint64_t kGicrFrame = 0x1'0000;                 // one of RD_base, SGI_base
inline constexpr std::uint64_t kGicrBytes = 2 * kGicrFrame;           // of a redistributor
inline constexpr std::uint64_t kGicrBytesWithVlpis = 4 * kGicrFrame;  // when GICR_TYPER.VLPIS is set

// System registers of the CPU interface by their encoding: op0[15:14] op1[13:11] CRn[10:7] CRm[6:3] op2[2:0].
constexpr std::uint16_t sysreg_encoding(unsigned op0, unsigned op1, unsigned crn, unsigned crm, unsigned op2) {
  return static_cast<std::uint16_t>((op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2);
}
enum class Icc : std::uint16_t {
  DIR_EL1 = sysreg_encoding(3, 0, 12, 11, 1),
  SGI1R_EL1 = sysreg_encoding(3, 0, 12, 11, 5),
  ASGI1R_EL1 = sysreg_encoding(3, 0, 12, 11, 6),
  SGI0R_EL1 = sysreg_encoding(3, 0, 12, 11, 7),
  SRE_EL1 = sysreg_encoding(3, 0, 12, 12, 5)
};

// ---- Distributor (12.9)

struct GicdCtlr : Record<GicdCtlr, 32> {
  using EnableGrp0 = BitField<"EnableGrp0", 0>;  // in the Non-secure view: EnableGrp1
  using EnableGrp1 = BitField<"EnableGrp1", 1>;  // in the Non-secure view: EnableGrp1A, which is group 1 with ARE
  using ARE = OwnBit<"ARE", 4>;                  // affinity routing; ARE_NS in the Non-secure view
  using DS = OwnBit<"DS", 6>;                    // one Security state
  using E1NWF = OwnBit<"E1NWF", 7>;
  using nASSGIreq = OwnBit<"nASSGIreq", 8>;
  using RWP = OwnBit<"RWP", 31>;  // register write pending
  using Layout =
      weir::Layout<32, EnableGrp0, EnableGrp1, Res0<3, 2>, ARE, Res0<5, 5>, DS, E1NWF, nASSGIreq, Res0<30, 9>, RWP>;
};

// SETSPI_NSR and CLRSPI_NSR: message-based SPIs. Write-only.
struct GicdMessage : Record<GicdMessage, 32> {
  using INTID = Field<"INTID", 12, 0, std::uint32_t>;
  using Layout = weir::Layout<32, INTID, Res0<31, 13>>;
};

struct GicdTyper : Record<GicdTyper, 32> {
  using ITLinesNumber = Field<"ITLinesNumber", 4, 0, std::uint32_t>;  // INTIDs / 32 - 1
  using CPUNumber = Field<"CPUNumber", 7, 5, std::uint32_t>;          // PEs without affinity routing - 1
  using ESPI = BitField<"ESPI", 8>;
  using NMI = BitField<"NMI", 9>;
  using SecurityExtn = BitField<"SecurityExtn", 10>;
  using NumLPIs = Field<"num_LPIs", 15, 11, std::uint32_t>;
  using MBIS = BitField<"MBIS", 16>;
  using LPIS = BitField<"LPIS", 17>;
  using DVIS = BitField<"DVIS", 18>;
  using IDbits = Field<"IDbits", 23, 19, std::uint32_t>;  // bits of an INTID - 1
  using A3V = BitField<"A3V", 24>;
  using No1N = BitField<"No1N", 25>;  // no 1-of-N SPIs
  using RSS = BitField<"RSS", 26>;
  using ESPIRange = Field<"ESPI_range", 31, 27, std::uint32_t>;
  using Layout = weir::Layout<32, ITLinesNumber, CPUNumber, ESPI, NMI, SecurityExtn, NumLPIs, MBIS, LPIS, DVIS, IDbits,
                              A3V, No1N, RSS, ESPIRange>;
};

struct Iidr : Record<Iidr, 32> {  // GICD_IIDR, GICR_IIDR
  using Implementer = Field<"Implementer", 11, 0, std::uint32_t>;
  using Revision = Field<"Revision", 15, 12, std::uint32_t>;
  using Variant = Field<"Variant", 19, 16, std::uint32_t>;
  using ProductID = Field<"ProductID", 31, 24, std::uint32_t>;
  using Layout = weir::Layout<32, Implementer, Revision, Variant, Res0<23, 20>, ProductID>;
};

struct Pidr2 : Record<Pidr2, 32> {                        // GICD_PIDR2, GICR_PIDR2
  using ArchRev = Field<"ArchRev", 7, 4, std::uint32_t>;  // 3: GICv3, 4: GICv4
  using Layout = weir::Layout<32, Ignored<3, 0>, ArchRev, Res0<31, 8>>;
};

// A CPU's affinity, as in MPIDR_EL1 and where no other bits are in the way.
struct Affinity : Record<Affinity, 64> {
  using Aff0 = Field<"Aff0", 7, 0, std::uint32_t>;
  using Aff1 = Field<"Aff1", 15, 8, std::uint32_t>;
  using Aff2 = Field<"Aff2", 23, 16, std::uint32_t>;
  using Aff3 = Field<"Aff3", 39, 32, std::uint32_t>;
  using Layout = weir::Layout<64, Aff0, Aff1, Aff2, Res0<31, 24>, Aff3, Res0<63, 40>>;
};

struct GicdIrouter : Record<GicdIrouter, 64> {
  using Aff0 = Field<"Aff0", 7, 0, std::uint32_t>;
  using Aff1 = Field<"Aff1", 15, 8, std::uint32_t>;
  using Aff2 = Field<"Aff2", 23, 16, std::uint32_t>;
  using IRM = OwnBit<"Interrupt_Routing_Mode", 31>;  // any PE; RES0 with GICD_TYPER.No1N
  using Aff3 = Field<"Aff3", 39, 32, std::uint32_t>;
  using Layout = weir::Layout<64, Aff0, Aff1, Aff2, Res0<30, 24>, IRM, Aff3, Res0<63, 40>>;
};

// ---- Redistributor (12.11)

struct GicrCtlr : Record<GicrCtlr, 32> {
  using EnableLPIs = OwnBit<"EnableLPIs", 0>;
  using CES = OwnBit<"CES", 1>;
  using IR = OwnBit<"IR", 2>;
  using RWP = OwnBit<"RWP", 3>;
  using DPG = OwnField<"DPG", 26, 24, std::uint32_t>;
  using UWP = OwnBit<"UWP", 31>;
  using Layout = weir::Layout<32, EnableLPIs, CES, IR, RWP, Res0<23, 4>, DPG, Res0<30, 27>, UWP>;
};

struct GicrTyper : Record<GicrTyper, 64> {
  using PLPIS = BitField<"PLPIS", 0>;
  using VLPIS = BitField<"VLPIS", 1>;
  using Dirty = BitField<"Dirty", 2>;
  using DirectLPI = BitField<"DirectLPI", 3>;
  using Last = BitField<"Last", 4>;  // of a contiguous region
  using DPGS = BitField<"DPGS", 5>;
  using MPAM = BitField<"MPAM", 6>;
  using RVPEID = BitField<"RVPEID", 7>;
  using ProcessorNumber = Field<"Processor_Number", 23, 8, std::uint32_t>;
  using CommonLPIAff = Field<"CommonLPIAff", 25, 24, std::uint32_t>;
  using VSGI = BitField<"VSGI", 26>;
  using PPInum = Field<"PPInum", 31, 27, std::uint32_t>;
  using Aff0 = Field<"Affinity_Value.Aff0", 39, 32, std::uint32_t>;
  using Aff1 = Field<"Affinity_Value.Aff1", 47, 40, std::uint32_t>;
  using Aff2 = Field<"Affinity_Value.Aff2", 55, 48, std::uint32_t>;
  using Aff3 = Field<"Affinity_Value.Aff3", 63, 56, std::uint32_t>;
  using Layout = weir::Layout<64, PLPIS, VLPIS, Dirty, DirectLPI, Last, DPGS, MPAM, RVPEID, ProcessorNumber,
                              CommonLPIAff, VSGI, PPInum, Aff0, Aff1, Aff2, Aff3>;
};

struct GicrWaker : Record<GicrWaker, 32> {
  using ProcessorSleep = BitField<"ProcessorSleep", 1>;
  using ChildrenAsleep = OwnBit<"ChildrenAsleep", 2>;
  using Layout = weir::Layout<32, Ignored<0, 0>, ProcessorSleep, ChildrenAsleep, Res0<30, 3>, Ignored<31, 31>>;
};

// ---- CPU interface (12.2)

struct IccSre : Record<IccSre, 64> {  // ICC_SRE_EL1, ICC_SRE_EL2
  using SRE = BitField<"SRE", 0>;
  using DFB = BitField<"DFB", 1>;
  using DIB = BitField<"DIB", 2>;
  using Enable = BitField<"Enable", 3>;  // EL2 only: EL1 may access ICC_SRE_EL1 without a trap
  using Layout = weir::Layout<64, SRE, DFB, DIB, Enable, Res0<63, 4>>;
};

struct IccCtlr : Record<IccCtlr, 64> {  // ICC_CTLR_EL1
  using CBPR = BitField<"CBPR", 0>;
  using EOImode = BitField<"EOImode", 1>;  // EOIR only drops the priority, DIR deactivates
  using PMHE = BitField<"PMHE", 6>;
  using PRIbits = Field<"PRIbits", 10, 8, unsigned>;  // - 1
  using IDbits = Field<"IDbits", 13, 11, unsigned>;
  using SEIS = BitField<"SEIS", 14>;
  using A3V = BitField<"A3V", 15>;
  using RSS = BitField<"RSS", 18>;
  using ExtRange = BitField<"ExtRange", 19>;
  using Layout = weir::Layout<64, CBPR, EOImode, Res0<5, 2>, PMHE, Res0<7, 7>, PRIbits, IDbits, SEIS, A3V, Res0<17, 16>,
                              RSS, ExtRange, Res0<63, 20>>;
};

struct IccIntid : Record<IccIntid, 64> {  // ICC_IAR1_EL1, ICC_EOIR1_EL1, ICC_DIR_EL1
  using INTID = Field<"INTID", 23, 0, std::uint32_t>;
  using Layout = weir::Layout<64, INTID, Res0<63, 24>>;
};

struct IccSgir : Record<IccSgir, 64> {  // ICC_SGI0R_EL1, ICC_SGI1R_EL1, ICC_ASGI1R_EL1
  using TargetList = Field<"TargetList", 15, 0, std::uint32_t>;
  using Aff1 = Field<"Aff1", 23, 16, std::uint32_t>;
  using INTID = Field<"INTID", 27, 24, std::uint32_t>;
  using Aff2 = Field<"Aff2", 39, 32, std::uint32_t>;
  using IRM = BitField<"IRM", 40>;                // all PEs but this one
  using RS = Field<"RS", 47, 44, std::uint32_t>;  // TargetList counts from Aff0 = 16 * RS
  using Aff3 = Field<"Aff3", 55, 48, std::uint32_t>;
  using Layout =
      weir::Layout<64, TargetList, Aff1, INTID, Res0<31, 28>, Aff2, IRM, Res0<43, 41>, RS, Aff3, Res0<63, 56>>;
};

// ---- Hypervisor control (12.4)

struct IchHcr : Record<IchHcr, 64> {
  using En = BitField<"En", 0>;
  // Reasons for the maintenance interrupt.
  using UIE = BitField<"UIE", 1>;          // at most one list register is in use
  using LRENPIE = BitField<"LRENPIE", 2>;  // EOIcount is not 0
  using NPIE = BitField<"NPIE", 3>;        // no list register is pending
  using VGrp0EIE = BitField<"VGrp0EIE", 4>;
  using VGrp0DIE = BitField<"VGrp0DIE", 5>;
  using VGrp1EIE = BitField<"VGrp1EIE", 6>;
  using VGrp1DIE = BitField<"VGrp1DIE", 7>;
  using TC = BitField<"TC", 10>;
  using TALL0 = BitField<"TALL0", 11>;
  using TALL1 = BitField<"TALL1", 12>;
  using TSEI = BitField<"TSEI", 13>;
  using TDIR = BitField<"TDIR", 14>;                     // trap ICC_DIR_EL1
  using EOIcount = Field<"EOIcount", 31, 27, unsigned>;  // deactivations of interrupts in no list register
  using Layout = weir::Layout<64, En, UIE, LRENPIE, NPIE, VGrp0EIE, VGrp0DIE, VGrp1EIE, VGrp1DIE, Ignored<9, 8>, TC,
                              TALL0, TALL1, TSEI, TDIR, Ignored<26, 15>, EOIcount, Res0<63, 32>>;
};

struct IchVtr : Record<IchVtr, 64> {
  using ListRegs = Field<"ListRegs", 4, 0, unsigned>;  // - 1
  using DVIM = BitField<"DVIM", 18>;
  using TDS = BitField<"TDS", 19>;  // ICH_HCR_EL2.TDIR is there
  using nV4 = BitField<"nV4", 20>;
  using A3V = BitField<"A3V", 21>;
  using SEIS = BitField<"SEIS", 22>;
  using IDbits = Field<"IDbits", 25, 23, unsigned>;
  using PREbits = Field<"PREbits", 28, 26, unsigned>;  // - 1
  using PRIbits = Field<"PRIbits", 31, 29, unsigned>;  // - 1
  using Layout =
      weir::Layout<64, ListRegs, Ignored<17, 5>, DVIM, TDS, nV4, A3V, SEIS, IDbits, PREbits, PRIbits, Res0<63, 32>>;
};

struct IchVmcr : Record<IchVmcr, 64> {
  using VENG0 = BitField<"VENG0", 0>;
  using VENG1 = BitField<"VENG1", 1>;
  using VAckCtl = BitField<"VAckCtl", 2>;
  using VFIQEn = BitField<"VFIQEn", 3>;
  using VCBPR = BitField<"VCBPR", 4>;
  using VEOIM = BitField<"VEOIM", 9>;
  using VBPR1 = Field<"VBPR1", 20, 18, unsigned>;
  using VBPR0 = Field<"VBPR0", 23, 21, unsigned>;
  using VPMR = Field<"VPMR", 31, 24, unsigned>;
  using Layout = weir::Layout<64, VENG0, VENG1, VAckCtl, VFIQEn, VCBPR, Ignored<8, 5>, VEOIM, Ignored<17, 10>, VBPR1,
                              VBPR0, VPMR, Res0<63, 32>>;
};

struct IchLr : Record<IchLr, 64> {
  using VINTID = Field<"vINTID", 31, 0, std::uint32_t>;
  using PINTID = Field<"pINTID", 44, 32, std::uint32_t>;  // HW = 1: what its deactivation deactivates
  static constexpr std::uint32_t kEoi = 1U << 9;          // in PINTID, HW = 0: maintenance interrupt at deactivation
  using Priority = Field<"Priority", 55, 48, std::uint8_t>;
  using NMI = BitField<"NMI", 59>;
  using Group = BitField<"Group", 60>;
  using HW = BitField<"HW", 61>;
  using Pending = BitField<"State.pending", 62>;
  using Active = BitField<"State.active", 63>;
  using Layout =
      weir::Layout<64, VINTID, PINTID, Res0<47, 45>, Priority, Res0<58, 56>, NMI, Group, HW, Pending, Active>;
};

}  // namespace weir::gic
