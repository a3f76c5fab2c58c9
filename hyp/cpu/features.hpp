// What of the pCPU a guest gets to see. One table decides for every feature: it passes, and then its enable bits are set
// in EL2's control registers, or it is hidden, and then its field in the ID registers reads as absent and (where it has
// system state) its registers trap and are UNDEF. A field that the table does not name is hidden.
//
// vCPUs are pinned, so FP, SVE, SME, pointer authentication and debug registers pass without being switched. Hidden:
// nested virtualization, EL3, RAS, PMU, trace, SPE, TRBE, BRBE, AMU, MPAM, LORegions, NMI, LS64, 52-bit addresses, 128-bit
// descriptors, TME, MEC, RME. Portable: the values come from outside.
#pragma once

#include <cstdint>

namespace weir {

// An ID register S3_0_C0_C<crm>_<op2>, crm 1..7.
struct IdRegister {
  std::uint8_t crm{};
  std::uint8_t op2{};
  friend constexpr bool operator==(IdRegister, IdRegister) = default;
};

namespace id {
inline constexpr IdRegister kPfr0{1, 0}, kPfr1{1, 1}, kDfr0{1, 2}, kMmfr0{1, 4}, kMmfr1{1, 5}, kMmfr2{1, 6},
    kMmfr3{1, 7};
inline constexpr IdRegister kIsar0{2, 0}, kIsar1{2, 1}, kIsar2{2, 2}, kIsar3{2, 3}, kIsar4{2, 4}, kIsar5{2, 5},
    kMmfr4{2, 6}, kIsar6{2, 7};
inline constexpr IdRegister kMvfr0{3, 0}, kMvfr1{3, 1}, kMvfr2{3, 2}, kPfr2{3, 4}, kMmfr5{3, 6};
inline constexpr IdRegister kAa64Pfr0{4, 0}, kAa64Pfr1{4, 1}, kAa64Pfr2{4, 2}, kAa64Zfr0{4, 4}, kAa64Smfr0{4, 5},
    kAa64Fpfr0{4, 7};
inline constexpr IdRegister kAa64Dfr0{5, 0}, kAa64Dfr1{5, 1};
inline constexpr IdRegister kAa64Isar0{6, 0}, kAa64Isar1{6, 1}, kAa64Isar2{6, 2}, kAa64Isar3{6, 3};
inline constexpr IdRegister kAa64Mmfr0{7, 0}, kAa64Mmfr1{7, 1}, kAa64Mmfr2{7, 2}, kAa64Mmfr3{7, 3}, kAa64Mmfr4{7, 4};
}  // namespace id

// The pCPU's value of an ID register.
using IdSource = std::uint64_t (*)(IdRegister);

// What the guest reads instead of `hardware`.
[[nodiscard]] std::uint64_t sanitised_id(IdRegister reg, std::uint64_t hardware);

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
  bool has_mpam{};
  std::uint64_t mpam2{};
  bool has_pmu{};
  bool has_ras{};
  bool vmid16{};
};
[[nodiscard]] El2Controls el2_controls(IdSource hardware);

}  // namespace weir
