// Hypercalls: HVC with the SMC Calling Convention (Arm DEN 0028), vendor-specific hypervisor service range.
//
// Only the calls that DEN 0028 requires of a service are defined so far; everything else in the range returns
// kNotSupported.
#pragma once

#include <array>
#include <cstdint>

#include "guest-abi/field.hpp"

namespace weir::hypercall {

enum class Owner : std::uint8_t {
  arm_architecture = 0,
  standard_secure = 4,
  standard_hypervisor = 5,
  vendor_hypervisor = 6
};

// W0 of a call (DEN 0028, 2.5).
struct FunctionId : Record<FunctionId, 32> {
  using Number = Field<"Number", 15, 0, std::uint16_t>;
  using SveHint = BitField<"SveHint", 16>;  // SMCCC 1.3; not part of the function's identity
  using Owner = Field<"Owner", 29, 24, hypercall::Owner>;
  using Hvc64 = BitField<"Hvc64", 30>;
  using Fast = BitField<"Fast", 31>;
  using Layout = weir::Layout<32, Number, SveHint, Res0<23, 17>, Owner, Hvc64, Fast>;
};

// A fast vendor-hypervisor call.
constexpr std::uint32_t function(std::uint16_t number, bool hvc64 = false) {
  return FunctionId{}
      .set<FunctionId::Number>(number)
      .set<FunctionId::Owner>(Owner::vendor_hypervisor)
      .set<FunctionId::Hvc64>(hvc64)
      .set<FunctionId::Fast>(true)
      .words[0];
}

inline constexpr std::uint32_t kCallUid = function(0xff01);   // returns kUid in W0..W3
inline constexpr std::uint32_t kRevision = function(0xff03);  // returns kMajor in W0, kMinor in W1
static_assert(kCallUid == 0x8600ff01 && kRevision == 0x8600ff03);

inline constexpr std::uint32_t kMajor = 0;
inline constexpr std::uint32_t kMinor = 1;
inline constexpr std::int64_t kNotSupported = -1;

// UUID d4241911-3404-48cf-bb64-feb53eb9e896, four bytes per register, the first in the lowest byte.
inline constexpr std::array<std::uint32_t, 4> kUid = {0x111924d4, 0xcf480434, 0xb5fe64bb, 0x96e8b93e};

}  // namespace weir::hypercall
