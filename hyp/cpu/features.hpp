// What of the pCPU a guest gets to see. One table (feature_table.hpp) decides for every feature: it passes, and then its
// enable bits are set in EL2's control registers, or it is hidden, and then its field in the ID registers reads as absent
// and (where it has system state) its registers trap and are UNDEF. A field that the table does not name is hidden, and so
// is a feature that EL3 may have closed (el3_controls.hpp).
//
// vCPUs are pinned, so FP, SVE, SME, pointer authentication and debug registers pass without being switched. Hidden:
// nested virtualization, EL3, RAS, PMU, trace, SPE, TRBE, BRBE, AMU, MPAM, LORegions, NMI, LS64, 52-bit addresses, 128-bit
// descriptors, TME, MEC, RME; SCTLR2, FPMR and FP8, SCXTNUM, and RNDR where EL3 can trap it. Portable: the values come
// from outside.
#pragma once

#include <cstdint>

#include "hyp/cpu/id_fields.hpp"

namespace weir {

// What a guest on `cpu` reads in an ID register.
[[nodiscard]] std::uint64_t sanitised_id(IdRegister reg, IdSource cpu);

// EL2's control registers as the table wants them, without what depends on the VM.
struct El2Controls {
  std::uint64_t hcr{};
  std::uint64_t cptr{};
  std::uint64_t mdcr{};  // without HPMN
  bool has_hcrx{};       // FEAT_HCX
  std::uint64_t hcrx{};
  bool has_fgt{};          // FEAT_FGT
  bool has_fgt2{};         // FEAT_FGT2: none of what its registers guard is passed, so they are all zero
  std::uint64_t hfgrtr{};  // for HFGWTR, too
  std::uint64_t hfgitr{};
  bool has_sve{};
  std::uint64_t zcr{};
  bool has_sme{};
  std::uint64_t smcr{};
  bool has_pmu{};
  bool has_ras{};
  bool vmid16{};
};
[[nodiscard]] El2Controls el2_controls(IdSource cpu);

}  // namespace weir
