// The EL2 registers that decide what a guest may do, as typed fields (Arm ARM DDI 0487, D24.2; HCR_EL2.E2H = 0). Only
// the bits that Weir sets to 1 have names.
#pragma once

#include <cstdint>

#include "guest-abi/field.hpp"

namespace weir {

struct HcrEl2 : Record<HcrEl2, 64> {
  using VM = Field<"VM", 0, 0, bool>;          // stage 2 on
  using SWIO = Field<"SWIO", 1, 1, bool>;      // invalidate by set/way cleans, too
  using PTW = Field<"PTW", 2, 2, bool>;        // stage-1 walks in Device memory fault; no AT aborts EL2
  using FMO = Field<"FMO", 3, 3, bool>;        // physical FIQ to EL2
  using IMO = Field<"IMO", 4, 4, bool>;        // physical IRQ to EL2
  using AMO = Field<"AMO", 5, 5, bool>;        // physical SError to EL2
  using VSE = Field<"VSE", 8, 8, bool>;        // virtual SError pending
  using TID3 = Field<"TID3", 18, 18, bool>;    // trap the ID registers
  using TSC = Field<"TSC", 19, 19, bool>;      // trap SMC
  using TIDCP = Field<"TIDCP", 20, 20, bool>;  // trap implementation defined registers
  using TACR = Field<"TACR", 21, 21, bool>;    // trap ACTLR_EL1
  using RW = Field<"RW", 31, 31, bool>;        // EL1 is AArch64
  using TLOR = Field<"TLOR", 35, 35, bool>;    // trap LORegions
  using TERR = Field<"TERR", 36, 36, bool>;    // trap RAS error records
  using APK = Field<"APK", 40, 40, bool>;      // pointer authentication keys without trap
  using API = Field<"API", 41, 41, bool>;      // and its instructions
  using EnSCXT = Field<"EnSCXT", 53, 53, bool>;
  using ATA = Field<"ATA", 56, 56, bool>;  // MTE allocation tags
  using Layout = weir::Layout<64, VM, SWIO, PTW, FMO, IMO, AMO, Ignored<7, 6>, VSE, Ignored<17, 9>, TID3, TSC, TIDCP,
                              TACR, Ignored<30, 22>, RW, Ignored<34, 32>, TLOR, TERR, Ignored<39, 37>, APK, API,
                              Ignored<52, 42>, EnSCXT, Ignored<55, 54>, ATA, Ignored<63, 57>>;
};

struct HcrxEl2 : Record<HcrxEl2, 64> {
  using TALLINT = Field<"TALLINT", 6, 6, bool>;  // trap writes to ALLINT
  using MSCEn = Field<"MSCEn", 11, 11, bool>;    // MOPS
  using TCR2En = Field<"TCR2En", 14, 14, bool>;
  using SCTLR2En = Field<"SCTLR2En", 15, 15, bool>;
  using GCSEn = Field<"GCSEn", 22, 22, bool>;
  using EnFPM = Field<"EnFPM", 23, 23, bool>;
  using Layout = weir::Layout<64, Ignored<5, 0>, TALLINT, Ignored<10, 7>, MSCEn, Ignored<13, 12>, TCR2En, SCTLR2En,
                              Ignored<21, 16>, GCSEn, EnFPM, Ignored<63, 24>>;
};

struct CptrEl2 : Record<CptrEl2, 64> {
  using Res1_7_0 = Field<"RES1", 7, 0>;
  using TZ = Field<"TZ", 8, 8, bool>;  // trap SVE; RES1 without it
  using Res1_9 = Field<"RES1", 9, 9, bool>;
  using TFP = Field<"TFP", 10, 10, bool>;
  using TSM = Field<"TSM", 12, 12, bool>;  // trap SME; RES1 without it
  using Res1_13 = Field<"RES1", 13, 13, bool>;
  using TTA = Field<"TTA", 20, 20, bool>;  // trap trace registers
  using TAM = Field<"TAM", 30, 30, bool>;  // trap activity monitors
  using Layout = weir::Layout<64, Res1_7_0, TZ, Res1_9, TFP, Ignored<11, 11>, TSM, Res1_13, Ignored<19, 14>, TTA,
                              Ignored<29, 21>, TAM, Ignored<63, 31>>;
};

struct MdcrEl2 : Record<MdcrEl2, 64> {
  using HPMN = Field<"HPMN", 4, 0, std::uint8_t>;
  using TPMCR = Field<"TPMCR", 5, 5, bool>;
  using TPM = Field<"TPM", 6, 6, bool>;  // trap the PMU
  using TDRA = Field<"TDRA", 11, 11, bool>;
  using TPMS = Field<"TPMS", 14, 14, bool>;  // trap statistical profiling
  using TTRF = Field<"TTRF", 19, 19, bool>;  // trap trace filters
  using TDCC = Field<"TDCC", 27, 27, bool>;  // trap the debug channel
  using Layout = weir::Layout<64, HPMN, TPMCR, TPM, Ignored<10, 7>, TDRA, Ignored<13, 12>, TPMS, Ignored<18, 15>, TTRF,
                              Ignored<26, 20>, TDCC, Ignored<63, 28>>;
};

// HFGRTR_EL2 and HFGWTR_EL2. All named bits have negative sense: 1 means no trap.
struct HfgrtrEl2 : Record<HfgrtrEl2, 64> {
  using nGCS_EL0 = Field<"nGCS_EL0", 52, 52, bool>;
  using nGCS_EL1 = Field<"nGCS_EL1", 53, 53, bool>;
  using nSMPRI = Field<"nSMPRI_EL1", 54, 54, bool>;
  using nTPIDR2 = Field<"nTPIDR2_EL0", 55, 55, bool>;
  using nPIRE0 = Field<"nPIRE0_EL1", 57, 57, bool>;
  using nPIR = Field<"nPIR_EL1", 58, 58, bool>;
  using nPOR_EL0 = Field<"nPOR_EL0", 59, 59, bool>;
  using nPOR_EL1 = Field<"nPOR_EL1", 60, 60, bool>;
  using Layout = weir::Layout<64, Ignored<51, 0>, nGCS_EL0, nGCS_EL1, nSMPRI, nTPIDR2, Ignored<56, 56>, nPIRE0, nPIR,
                              nPOR_EL0, nPOR_EL1, Ignored<63, 61>>;
};

struct HfgitrEl2 : Record<HfgitrEl2, 64> {
  using nGCSPUSHM = Field<"nGCSPUSHM_EL1", 57, 57, bool>;
  using nGCSSTR = Field<"nGCSSTR_EL1", 58, 58, bool>;
  using nGCSEPP = Field<"nGCSEPP", 59, 59, bool>;
  using Layout = weir::Layout<64, Ignored<56, 0>, nGCSPUSHM, nGCSSTR, nGCSEPP, Ignored<63, 60>>;
};

struct CnthctlEl2 : Record<CnthctlEl2, 64> {
  using EL1PCTEN = Field<"EL1PCTEN", 0, 0, bool>;  // physical counter without trap
  using EL1PCEN = Field<"EL1PCEN", 1, 1, bool>;    // physical timer without trap
  using Layout = weir::Layout<64, EL1PCTEN, EL1PCEN, Ignored<63, 2>>;
};

struct ZcrEl2 : Record<ZcrEl2, 64> {
  using LEN = Field<"LEN", 3, 0, std::uint8_t>;  // vector length / 128 - 1; hardware rounds down
  using Layout = weir::Layout<64, LEN, Res0<63, 4>>;
};

struct SmcrEl2 : Record<SmcrEl2, 64> {
  using LEN = Field<"LEN", 3, 0, std::uint8_t>;
  using EZT0 = Field<"EZT0", 30, 30, bool>;
  using FA64 = Field<"FA64", 31, 31, bool>;
  using Layout = weir::Layout<64, LEN, Ignored<29, 4>, EZT0, FA64, Res0<63, 32>>;
};

struct VtcrEl2 : Record<VtcrEl2, 64> {
  using T0SZ = Field<"T0SZ", 5, 0, std::uint8_t>;
  using SL0 = Field<"SL0", 7, 6, std::uint8_t>;
  using IRGN0 = Field<"IRGN0", 9, 8, std::uint8_t>;
  using ORGN0 = Field<"ORGN0", 11, 10, std::uint8_t>;
  using SH0 = Field<"SH0", 13, 12, std::uint8_t>;
  using TG0 = Field<"TG0", 15, 14, std::uint8_t>;
  using PS = Field<"PS", 18, 16, std::uint8_t>;
  using VS = Field<"VS", 19, 19, bool>;  // 16-bit VMIDs
  using HA = Field<"HA", 21, 21, bool>;  // hardware sets the access flag
  using HD = Field<"HD", 22, 22, bool>;  // and keeps dirty state where a descriptor has DBM
  using Res1_31 = Field<"RES1", 31, 31, bool>;
  using Layout = weir::Layout<64, T0SZ, SL0, IRGN0, ORGN0, SH0, TG0, PS, VS, Ignored<20, 20>, HA, HD, Ignored<30, 23>,
                              Res1_31, Ignored<63, 32>>;
};

struct VttbrEl2 : Record<VttbrEl2, 64> {
  using BADDR = AddressField<"BADDR", 47, 1, std::uint64_t>;
  using Vmid = Field<"VMID", 63, 48, std::uint16_t>;
  using Layout = weir::Layout<64, Ignored<0, 0>, BADDR, Vmid>;
};

struct VmpidrEl2 : Record<VmpidrEl2, 64> {
  using Aff2_0 = Field<"Aff2_0", 23, 0, std::uint64_t>;
  using Res1_31 = Field<"RES1", 31, 31, bool>;
  using Layout = weir::Layout<64, Aff2_0, Ignored<30, 24>, Res1_31, Ignored<63, 32>>;
};

}  // namespace weir
