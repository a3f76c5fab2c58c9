// The CPU's ID registers and their 4-bit fields (Arm ARM DDI 0487, D24.2). Portable: values come from an IdSource.
#pragma once

#include <cstdint>

namespace weir {

// An ID register S3_0_C0_C<crm>_<op2>, crm 1..7.
struct IdRegister {
  std::uint8_t crm{};
  std::uint8_t op2{};
  friend constexpr bool operator==(IdRegister, IdRegister) = default;
};

// Bits [lo+3:lo] of an ID register.
struct IdField {
  IdRegister reg;
  std::uint8_t lo{};
  friend constexpr bool operator==(IdField, IdField) = default;

  static constexpr std::uint64_t kMax = 0xf;
  [[nodiscard]] constexpr std::uint64_t mask() const { return kMax << lo; }
  [[nodiscard]] constexpr unsigned of(std::uint64_t value) const { return static_cast<unsigned>(value >> lo & kMax); }
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

// Fields that more than one table names.
inline constexpr IdField kEl1{kAa64Pfr0, 4}, kFp{kAa64Pfr0, 16}, kAdvSimd{kAa64Pfr0, 20}, kRas{kAa64Pfr0, 28},
    kSve{kAa64Pfr0, 32}, kMpam{kAa64Pfr0, 40}, kAmu{kAa64Pfr0, 44}, kCsv2{kAa64Pfr0, 56};
inline constexpr IdField kMte{kAa64Pfr1, 8}, kMpamFrac{kAa64Pfr1, 16}, kSme{kAa64Pfr1, 24}, kRndrTrap{kAa64Pfr1, 28},
    kCsv2Frac{kAa64Pfr1, 32}, kGcs{kAa64Pfr1, 44}, kThe{kAa64Pfr1, 48}, kPfar{kAa64Pfr1, 60};
inline constexpr IdField kFpmr{kAa64Pfr2, 32}, kSmeVersion{kAa64Smfr0, 56}, kSmeFa64{kAa64Smfr0, 60};
inline constexpr IdField kDebug{kAa64Dfr0, 0}, kTraceVersion{kAa64Dfr0, 4}, kPmu{kAa64Dfr0, 8}, kSpe{kAa64Dfr0, 32},
    kDoubleLock{kAa64Dfr0, 36}, kTraceFilter{kAa64Dfr0, 40}, kTraceBuffer{kAa64Dfr0, 44}, kBrbe{kAa64Dfr0, 52};
inline constexpr IdField kRng{kAa64Isar0, 60}, kLs64{kAa64Isar1, 60};
inline constexpr IdField kApa{kAa64Isar1, 4}, kApi{kAa64Isar1, 8}, kGpa{kAa64Isar1, 24}, kGpi{kAa64Isar1, 28},
    kGpa3{kAa64Isar2, 8}, kApa3{kAa64Isar2, 12};
inline constexpr IdField kFgt{kAa64Mmfr0, 56}, kEcv{kAa64Mmfr0, 60};
inline constexpr IdField kVmidBits{kAa64Mmfr1, 4}, kLo{kAa64Mmfr1, 16}, kHcx{kAa64Mmfr1, 40};
inline constexpr IdField kTcrx{kAa64Mmfr3, 0}, kSctlrx{kAa64Mmfr3, 4}, kS1Pie{kAa64Mmfr3, 8}, kS1Poe{kAa64Mmfr3, 16},
    kAie{kAa64Mmfr3, 24}, kD128{kAa64Mmfr3, 32};
}  // namespace id

// The pCPU's value of an ID register.
using IdSource = std::uint64_t (*)(IdRegister);

inline unsigned id_field(IdSource cpu, IdField field) { return field.of(cpu(field.reg)); }

}  // namespace weir
