// How wide a CPU's physical addresses are: TCR_EL2.PS, VTCR_EL2.PS and the limits of memory follow from it. Portable.
#pragma once

#include <algorithm>
#include <cstdint>

#include "guest-abi/field.hpp"
#include "guest-abi/smmu/types.hpp"
#include "guest-abi/types.hpp"
#include "guest-abi/vmsa.hpp"

namespace weir {

// ID_AA64MMFR0_EL1 (Arm ARM D24.2), as far as Weir's own tables depend on it.
struct IdAa64Mmfr0 : Record<IdAa64Mmfr0, 64> {
  using PARange = Field<"PARange", 3, 0, std::uint8_t>;
  using TGran4 = Field<"TGran4", 31, 28, std::uint8_t>;
  using TGran4_2 = Field<"TGran4_2", 43, 40, std::uint8_t>;  // for stage 2; 0: as TGran4 says
  using Layout = weir::Layout<64, PARange, Ignored<27, 4>, TGran4, Ignored<39, 32>, TGran4_2, Ignored<63, 44>>;
};

// The size of physical addresses, which has the encoding of PARange, PS and an SMMU's OAS alike. More than 48 bits need
// FEAT_LPA2 with a 4 KiB granule, and count as 48, whatever their encoding.
constexpr smmu::AddressSize physical_size(IdAa64Mmfr0 id) {
  static_assert(smmu::bits(smmu::AddressSize::bits48) == vmsa::kMaxOutputBits);
  return static_cast<smmu::AddressSize>(
      std::min(id.get<IdAa64Mmfr0::PARange>(), static_cast<std::uint8_t>(smmu::AddressSize::bits48)));
}

// The first address beyond them.
constexpr PA end_of_addresses(smmu::AddressSize size) { return PA{std::uint64_t{1} << smmu::bits(size)}; }

}  // namespace weir
