// Does memory hold allocation tags (FEAT_MTE2)?
#pragma once

#include <cstdint>

#include "guest-abi/field.hpp"
#include "hyp/arch/sysreg.hpp"

namespace weir {

struct IdAa64Pfr1 : Record<IdAa64Pfr1, 64> {
  using MTE = Field<"MTE", 11, 8, std::uint8_t>;
  using Layout = weir::Layout<64, Ignored<7, 0>, MTE, Ignored<63, 12>>;
};

[[nodiscard]] inline bool has_allocation_tags() {
  constexpr std::uint8_t kMte2 = 2;
  return READ_SYSREG_AS(IdAa64Pfr1, id_aa64pfr1_el1).get<IdAa64Pfr1::MTE>() >= kMte2;
}

}  // namespace weir
