// What EL3 can withhold from EL2 and below, and what of it Weir may count on. An access that EL3 traps ends the machine
// below firmware that does not expect it, so Weir uses a feature, and shows it to guests, only if nothing at EL3 can trap
// it, or if Linux's boot protocol (Documentation/arch/arm64/booting.rst) has firmware open it. Portable.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "guest-abi/field.hpp"
#include "hyp/cpu/id_fields.hpp"

namespace weir {

enum class El3Register : std::uint8_t { none, SCR_EL3, CPTR_EL3, MDCR_EL3, SMCR_EL3, MPAM3_EL3 };

// A field of an EL3 register that traps what lower levels do.
struct El3Control {
  El3Register reg{};  // none: nothing at EL3 traps it
  std::uint8_t lo{};
  std::string_view name;

  friend constexpr bool operator==(El3Control a, El3Control b) { return a.reg == b.reg && a.lo == b.lo; }
};
template <typename Field>
consteval El3Control el3_control(El3Register reg) {
  return {reg, static_cast<std::uint8_t>(Field::lo), Field::name};
}

// Positions: Arm ARM D24.2, SCR_EL3, CPTR_EL3, MDCR_EL3, SMCR_EL3; DDI 0598, MPAM3_EL3.
namespace el3 {
using enum El3Register;
inline constexpr El3Control kTLOR = el3_control<BitField<"TLOR", 14>>(SCR_EL3);
inline constexpr El3Control kTERR = el3_control<BitField<"TERR", 15>>(SCR_EL3);
inline constexpr El3Control kAPK_API = el3_control<Field<"APK, API", 17, 16>>(SCR_EL3);
inline constexpr El3Control kFIEN = el3_control<BitField<"FIEN", 21>>(SCR_EL3);
inline constexpr El3Control kEnSCXT = el3_control<BitField<"EnSCXT", 25>>(SCR_EL3);
inline constexpr El3Control kATA = el3_control<BitField<"ATA", 26>>(SCR_EL3);
inline constexpr El3Control kFGTEn = el3_control<BitField<"FGTEn", 27>>(SCR_EL3);
inline constexpr El3Control kECVEn = el3_control<BitField<"ECVEn", 28>>(SCR_EL3);
inline constexpr El3Control kEnAS0_ADEn = el3_control<Field<"EnAS0, ADEn", 37, 36>>(SCR_EL3);
inline constexpr El3Control kHXEn = el3_control<BitField<"HXEn", 38>>(SCR_EL3);
inline constexpr El3Control kGCSEn = el3_control<BitField<"GCSEn", 39>>(SCR_EL3);
inline constexpr El3Control kTRNDR = el3_control<BitField<"TRNDR", 40>>(SCR_EL3);
inline constexpr El3Control kEnTP2 = el3_control<BitField<"EnTP2", 41>>(SCR_EL3);
inline constexpr El3Control kRCWMASKEn = el3_control<BitField<"RCWMASKEn", 42>>(SCR_EL3);
inline constexpr El3Control kTCR2En = el3_control<BitField<"TCR2En", 43>>(SCR_EL3);
inline constexpr El3Control kSCTLR2En = el3_control<BitField<"SCTLR2En", 44>>(SCR_EL3);
inline constexpr El3Control kPIEn = el3_control<BitField<"PIEn", 45>>(SCR_EL3);
inline constexpr El3Control kAIEn = el3_control<BitField<"AIEn", 46>>(SCR_EL3);
inline constexpr El3Control kD128En = el3_control<BitField<"D128En", 47>>(SCR_EL3);
inline constexpr El3Control kEnFPM = el3_control<BitField<"EnFPM", 50>>(SCR_EL3);
inline constexpr El3Control kPFAREn = el3_control<BitField<"PFAREn", 53>>(SCR_EL3);
inline constexpr El3Control kFGTEn2 = el3_control<BitField<"FGTEn2", 59>>(SCR_EL3);

inline constexpr El3Control kEZ = el3_control<BitField<"EZ", 8>>(CPTR_EL3);
inline constexpr El3Control kTFP = el3_control<BitField<"TFP", 10>>(CPTR_EL3);
inline constexpr El3Control kESM = el3_control<BitField<"ESM", 12>>(CPTR_EL3);
inline constexpr El3Control kTTA = el3_control<BitField<"TTA", 20>>(CPTR_EL3);
inline constexpr El3Control kTAM = el3_control<BitField<"TAM", 30>>(CPTR_EL3);
inline constexpr El3Control kTCPAC = el3_control<BitField<"TCPAC", 31>>(CPTR_EL3);

inline constexpr El3Control kTPM = el3_control<BitField<"TPM", 6>>(MDCR_EL3);
inline constexpr El3Control kTDA = el3_control<BitField<"TDA", 9>>(MDCR_EL3);
inline constexpr El3Control kTDOSA = el3_control<BitField<"TDOSA", 10>>(MDCR_EL3);
inline constexpr El3Control kNSPB = el3_control<Field<"NSPB", 13, 12>>(MDCR_EL3);
inline constexpr El3Control kTTRF = el3_control<BitField<"TTRF", 19>>(MDCR_EL3);
inline constexpr El3Control kNSTB = el3_control<Field<"NSTB", 25, 24>>(MDCR_EL3);
inline constexpr El3Control kTDCC = el3_control<BitField<"TDCC", 27>>(MDCR_EL3);
inline constexpr El3Control kSBRBE = el3_control<Field<"SBRBE", 33, 32>>(MDCR_EL3);

inline constexpr El3Control kEZT0 = el3_control<BitField<"EZT0", 30>>(SMCR_EL3);
inline constexpr El3Control kFA64 = el3_control<BitField<"FA64", 31>>(SMCR_EL3);
inline constexpr El3Control kTRAPLOWER = el3_control<BitField<"TRAPLOWER", 62>>(MPAM3_EL3);
}  // namespace el3

enum class Demand : std::uint8_t {
  none,     // firmware may keep it closed
  booting,  // booting.rst has it open
  // booting.rst does not name it, but Linux writes what it guards on each CPU that it boots on, whatever the CPU is:
  // OSLAR_EL1 and OSDLR_EL1, CPTR_EL2 and CPACR_EL1.
  linux
};

// The control exists on CPUs whose `with` is `least` to `most`, and there `demand` holds.
struct El3Rule {
  El3Control control;
  IdField with;
  std::uint8_t least{};
  Demand demand{};
  std::uint8_t most{0xf};
};
[[nodiscard]] std::span<const El3Rule> el3_rules();

// Whether EL3 lets EL2 and below do on `cpu` what the control guards, as far as firmware has to. A control without a rule
// is closed everywhere; one that this CPU does not have is open.
[[nodiscard]] bool is_open(El3Control control, IdSource cpu);

// Groups of registers that exist with a feature only and that Weir itself writes or reads.
enum class FeatureRegisters : std::uint8_t {
  hcrx,         // HCRX_EL2
  fgt,          // HFGRTR_EL2, HFGWTR_EL2, HFGITR_EL2, HDFGRTR_EL2, HDFGWTR_EL2
  fgt2,         // HFGRTR2_EL2, HFGWTR2_EL2, HFGITR2_EL2, HDFGRTR2_EL2, HDFGWTR2_EL2
  ras,          // VSESR_EL2, VDISR_EL2
  tcr2,         // TCR2_EL1, TCR2_EL2
  s1pie,        // PIR_EL1, PIRE0_EL1
  s1poe,        // POR_EL0, POR_EL1
  gcs,          // GCSCR_EL2, GCSCR_EL1, GCSPR_EL1, GCSCRE0_EL1, GCSPR_EL0
  pauth,        // AP?AKEY*_EL1
  mte,          // TFSR_EL1, TFSRE0_EL1, RGSR_EL1, GCR_EL1
  sve,          // ZCR_EL1, ZCR_EL2
  sme,          // SMCR_EL1, SMCR_EL2, SMPRI_EL1, SVCR
  tpidr2,       // TPIDR2_EL0
  sme_fa64,     // SMCR_EL2.FA64
  sme_zt0,      // SMCR_EL2.EZT0
  pmu,          // PMCR_EL0, PMUSERENR_EL0, PMCNTENCLR_EL0, PMINTENCLR_EL1, PMOVSCLR_EL0
  double_lock,  // OSDLR_EL1
};
// `cpu` has the group if the field is `least` to `most`; where a group has several rows, if any of them says so.
struct RegisterRule {
  FeatureRegisters group;
  IdField with;
  std::uint8_t least{};
  El3Control el3{};
  std::uint8_t most{0xf};
};
[[nodiscard]] std::span<const RegisterRule> register_rules();

// Whether `cpu` has the group and EL3 does not trap it.
[[nodiscard]] bool may_touch(FeatureRegisters group, IdSource cpu);

}  // namespace weir
