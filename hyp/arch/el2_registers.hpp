// EL2's own control registers as typed fields (Arm ARM DDI 0487, D24.2). Layouts are those for HCR_EL2.E2H = 0.
#pragma once

#include <cstdint>

#include "guest-abi/field.hpp"
#include "guest-abi/smmu/types.hpp"
#include "guest-abi/vmsa.hpp"

namespace weir {

struct SctlrEl2 : Record<SctlrEl2, 64> {
  using M = Field<"M", 0, 0, bool>;        // stage 1 on
  using A = Field<"A", 1, 1, bool>;        // alignment checks
  using C = Field<"C", 2, 2, bool>;        // data cacheable
  using SA = Field<"SA", 3, 3, bool>;      // SP alignment checks
  using I = Field<"I", 12, 12, bool>;      // instructions cacheable
  using WXN = Field<"WXN", 19, 19, bool>;  // what is writable is not executable
  using EE = Field<"EE", 25, 25, bool>;    // big-endian
  using ATA = Field<"ATA", 43, 43, bool>;  // EL2 may reach allocation tags
  using Res1 = Field<"RES1", 5, 4>;
  using Eos = Field<"EOS", 11, 11, bool>;  // exception exit is context synchronising
  using Res1_16 = Field<"RES1", 16, 16, bool>;
  using Res1_18 = Field<"RES1", 18, 18, bool>;
  using Eis = Field<"EIS", 22, 22, bool>;  // exception entry is context synchronising
  using Res1_23 = Field<"RES1", 23, 23, bool>;
  using Res1_29_28 = Field<"RES1", 29, 28>;
  using Layout = weir::Layout<64, M, A, C, SA, Res1, Ignored<10, 6>, Eos, I, Ignored<15, 13>, Res1_16, Ignored<17, 17>,
                              Res1_18, WXN, Ignored<21, 20>, Eis, Res1_23, Ignored<24, 24>, EE, Ignored<27, 26>,
                              Res1_29_28, Ignored<42, 30>, ATA, Ignored<63, 44>>;

  static constexpr SctlrEl2 reset() {  // everything off
    return SctlrEl2{}
        .set<Res1>(3)
        .set<Eos>(true)
        .set<Res1_16>(true)
        .set<Res1_18>(true)
        .set<Eis>(true)
        .set<Res1_23>(true)
        .set<Res1_29_28>(3);
  }
};
static_assert(SctlrEl2::reset().words[0] == 0x30c50830);  // head.S writes this number

enum class WalkCacheability : std::uint8_t { non_cacheable = 0, write_back_write_allocate = 1 };
enum class Granule0 : std::uint8_t { k4 = 0, k64 = 1, k16 = 2 };

struct TcrEl2 : Record<TcrEl2, 64> {
  using T0SZ = Field<"T0SZ", 5, 0, std::uint8_t>;
  using IRGN0 = Field<"IRGN0", 9, 8, WalkCacheability>;
  using ORGN0 = Field<"ORGN0", 11, 10, WalkCacheability>;
  using SH0 = Field<"SH0", 13, 12, vmsa::Shareability>;
  using TG0 = Field<"TG0", 15, 14, Granule0>;
  using PS = Field<"PS", 18, 16, smmu::AddressSize>;
  using Res1_23 = Field<"RES1", 23, 23, bool>;
  using Res1_31 = Field<"RES1", 31, 31, bool>;
  using Layout = weir::Layout<64, T0SZ, Res0<7, 6>, IRGN0, ORGN0, SH0, TG0, PS, Ignored<22, 19>, Res1_23,
                              Ignored<30, 24>, Res1_31, Ignored<63, 32>>;
};

// ESR_EL2.EC: what kind of exception was taken.
enum class ExceptionClass : std::uint8_t {
  unknown = 0x00,
  wfx = 0x01,
  cp15_mcr_mrc = 0x03,
  cp15_mcrr_mrrc = 0x04,
  cp14_mcr_mrc = 0x05,
  cp14_ldc_stc = 0x06,
  sve_simd_fp = 0x07,
  vmrs = 0x08,
  pauth = 0x09,
  ls64 = 0x0a,
  cp14_mrrc = 0x0c,
  bti = 0x0d,
  illegal_state = 0x0e,
  svc32 = 0x11,
  hvc32 = 0x12,
  smc32 = 0x13,
  msrr_mrrs = 0x14,
  svc64 = 0x15,
  hvc64 = 0x16,
  smc64 = 0x17,
  sysreg = 0x18,
  sve = 0x19,
  eret = 0x1a,
  tstart = 0x1b,
  pac_fail = 0x1c,
  sme = 0x1d,
  gpc = 0x1e,
  instruction_abort_lower = 0x20,
  instruction_abort = 0x21,
  pc_alignment = 0x22,
  data_abort_lower = 0x24,
  data_abort = 0x25,
  sp_alignment = 0x26,
  mops = 0x27,
  fp32 = 0x28,
  fp64 = 0x2c,
  gcs = 0x2d,
  serror = 0x2f,
  breakpoint_lower = 0x30,
  breakpoint = 0x31,
  step_lower = 0x32,
  step = 0x33,
  watchpoint_lower = 0x34,
  watchpoint = 0x35,
  bkpt32 = 0x38,
  vector_catch32 = 0x3a,
  brk64 = 0x3c,
  pmu = 0x3d,
};
[[nodiscard]] const char* to_string(ExceptionClass ec);

struct EsrEl2 : Record<EsrEl2, 64> {
  using ISS = Field<"ISS", 24, 0, std::uint32_t>;
  using IL = Field<"IL", 25, 25, bool>;
  using EC = Field<"EC", 31, 26, ExceptionClass>;
  using ISS2 = Field<"ISS2", 55, 32, std::uint32_t>;
  using Layout = weir::Layout<64, ISS, IL, EC, ISS2, Res0<63, 56>>;
};

// The ISS of an instruction or data abort.
struct AbortIss : Record<AbortIss, 32> {
  using FSC = Field<"FSC", 5, 0, std::uint8_t>;
  using WNR = Field<"WnR", 6, 6, bool>;
  using S1PTW = Field<"S1PTW", 7, 7, bool>;
  using CM = Field<"CM", 8, 8, bool>;
  using EA = Field<"EA", 9, 9, bool>;
  using FNV = Field<"FnV", 10, 10, bool>;
  using SET = Field<"SET", 12, 11, std::uint8_t>;
  using VNCR = Field<"VNCR", 13, 13, bool>;
  using AR = Field<"AR", 14, 14, bool>;
  using SF = Field<"SF", 15, 15, bool>;
  using SRT = Field<"SRT", 20, 16, std::uint8_t>;
  using SSE = Field<"SSE", 21, 21, bool>;
  using SAS = Field<"SAS", 23, 22, std::uint8_t>;
  using ISV = Field<"ISV", 24, 24, bool>;
  using Layout = weir::Layout<32, FSC, WNR, S1PTW, CM, EA, FNV, SET, VNCR, AR, SF, SRT, SSE, SAS, ISV, Res0<31, 25>>;
};

// Fault status codes in words, for instance "translation fault, level 2".
[[nodiscard]] const char* fault_status_to_string(std::uint8_t fsc);

}  // namespace weir
