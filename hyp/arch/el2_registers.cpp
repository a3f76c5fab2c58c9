#include "hyp/arch/el2_registers.hpp"

namespace weir {

const char* to_string(ExceptionClass ec) {
  using enum ExceptionClass;
  switch (ec) {
    case unknown: return "undefined instruction";
    case wfx: return "WFI/WFE";
    case cp15_mcr_mrc: return "AArch32 MCR/MRC (cp15)";
    case cp15_mcrr_mrrc: return "AArch32 MCRR/MRRC (cp15)";
    case cp14_mcr_mrc: return "AArch32 MCR/MRC (cp14)";
    case cp14_ldc_stc: return "AArch32 LDC/STC (cp14)";
    case sve_simd_fp: return "FP/SIMD/SVE access";
    case vmrs: return "AArch32 VMRS";
    case pauth: return "pointer authentication";
    case ls64: return "LD64B/ST64B";
    case cp14_mrrc: return "AArch32 MRRC (cp14)";
    case bti: return "branch target";
    case illegal_state: return "illegal execution state";
    case svc32: return "AArch32 SVC";
    case hvc32: return "AArch32 HVC";
    case smc32: return "AArch32 SMC";
    case msrr_mrrs: return "MSRR/MRRS/SYSP";
    case svc64: return "SVC";
    case hvc64: return "HVC";
    case smc64: return "SMC";
    case sysreg: return "MSR/MRS/SYS";
    case sve: return "SVE access";
    case eret: return "ERET";
    case tstart: return "TSTART";
    case pac_fail: return "PAC failure";
    case sme: return "SME access";
    case gpc: return "granule protection check";
    case instruction_abort_lower: return "instruction abort from a lower EL";
    case instruction_abort: return "instruction abort";
    case pc_alignment: return "PC alignment fault";
    case data_abort_lower: return "data abort from a lower EL";
    case data_abort: return "data abort";
    case sp_alignment: return "SP alignment fault";
    case mops: return "memory copy/set";
    case fp32: return "AArch32 floating-point exception";
    case fp64: return "floating-point exception";
    case gcs: return "guarded control stack";
    case serror: return "SError";
    case breakpoint_lower: return "breakpoint from a lower EL";
    case breakpoint: return "breakpoint";
    case step_lower: return "software step from a lower EL";
    case step: return "software step";
    case watchpoint_lower: return "watchpoint from a lower EL";
    case watchpoint: return "watchpoint";
    case bkpt32: return "AArch32 BKPT";
    case vector_catch32: return "AArch32 vector catch";
    case brk64: return "BRK";
    case pmu: return "PMU exception";
  }
  return "reserved exception class";
}

const char* fault_status_to_string(std::uint8_t fsc) {
  switch (fsc & 0x3f) {
    case 0x00: return "address size fault, level 0";
    case 0x01: return "address size fault, level 1";
    case 0x02: return "address size fault, level 2";
    case 0x03: return "address size fault, level 3";
    case 0x04: return "translation fault, level 0";
    case 0x05: return "translation fault, level 1";
    case 0x06: return "translation fault, level 2";
    case 0x07: return "translation fault, level 3";
    case 0x08: return "access flag fault, level 0";
    case 0x09: return "access flag fault, level 1";
    case 0x0a: return "access flag fault, level 2";
    case 0x0b: return "access flag fault, level 3";
    case 0x0c: return "permission fault, level 0";
    case 0x0d: return "permission fault, level 1";
    case 0x0e: return "permission fault, level 2";
    case 0x0f: return "permission fault, level 3";
    case 0x10: return "external abort";
    case 0x11: return "tag check fault";
    case 0x13: return "external abort on walk, level -1";
    case 0x14: return "external abort on walk, level 0";
    case 0x15: return "external abort on walk, level 1";
    case 0x16: return "external abort on walk, level 2";
    case 0x17: return "external abort on walk, level 3";
    case 0x18: return "parity or ECC error";
    case 0x21: return "alignment fault";
    case 0x29: return "address size fault, level -1";
    case 0x2b: return "translation fault, level -1";
    case 0x30: return "TLB conflict";
    case 0x31: return "unsupported atomic hardware update";
    case 0x34: return "lockdown";
    case 0x35: return "unsupported exclusive or atomic access";
    default: return "other fault";
  }
}

}  // namespace weir
