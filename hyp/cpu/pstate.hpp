// PSTATE as SPSR_ELx holds it (Arm ARM C5.2, "SPSR_EL1").
#pragma once

#include <cstdint>

#include "guest-abi/field.hpp"

namespace weir {

struct Pstate : Record<Pstate, 64> {
  using SP = Field<"SP", 0, 0, bool>;          // AArch64: SP_ELx
  using EL = Field<"EL", 3, 2, std::uint8_t>;  // AArch64
  using NRW = Field<"nRW", 4, 4, bool>;        // AArch32
  using T = Field<"T", 5, 5, bool>;            // AArch32: T32
  using DAIF = Field<"DAIF", 9, 6, std::uint8_t>;
  using BTYPE = Field<"BTYPE", 11, 10, std::uint8_t>;  // AArch64
  using SSBS = Field<"SSBS", 12, 12, bool>;
  using IL = Field<"IL", 20, 20, bool>;
  using SS = Field<"SS", 21, 21, bool>;  // AArch32: SS, too
  using DitA32 = Field<"DIT (AArch32)", 21, 21, bool>;
  using PAN = Field<"PAN", 22, 22, bool>;
  using UAO = Field<"UAO", 23, 23, bool>;
  using DIT = Field<"DIT", 24, 24, bool>;
  using TCO = Field<"TCO", 25, 25, bool>;
  using NZCV = Field<"NZCV", 31, 28, std::uint8_t>;
  using EXLOCK = Field<"EXLOCK", 34, 34, bool>;
  using Layout = weir::Layout<64, SP, Ignored<1, 1>, EL, NRW, T, DAIF, BTYPE, SSBS, Ignored<19, 13>, IL, SS, PAN, UAO,
                              DIT, TCO, Ignored<27, 26>, NZCV, Ignored<33, 32>, EXLOCK, Ignored<63, 35>>;
  // At EL1 with SP_EL1, everything masked: how PSCI CPU_ON and the Linux boot protocol start a CPU.
  static constexpr std::uint8_t kIrqsMasked = 2;  // in DAIF
  static constexpr Pstate entry() { return Pstate{}.set<SP>(true).set<EL>(1).set<DAIF>(DAIF::max); }
  // What an A64 instruction that is emulated leaves: no branch type, and if the guest single-steps, its step is done.
  static constexpr std::uint64_t after_instruction(std::uint64_t pstate) {
    return pstate & ~static_cast<std::uint64_t>(BTYPE::mask | SS::mask);
  }
};
static_assert(Pstate::entry().words[0] == 0x3c5);

}  // namespace weir
