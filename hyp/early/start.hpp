// What a CPU must have for Weir to run on it at all. Portable.
#pragma once

#include "hyp/arch/physical_size.hpp"

namespace weir::early {

enum class Lack : std::uint8_t { nothing, granule, stage2_granule };

// Weir's tables have 4 KiB pages, at both stages.
constexpr Lack lack_of(IdAa64Mmfr0 id) {
  constexpr std::uint8_t kNoGranule = 0xf, kStage2AsStage1 = 0, kNoStage2Granule = 1;
  if (id.get<IdAa64Mmfr0::TGran4>() == kNoGranule) return Lack::granule;
  const auto stage2 = id.get<IdAa64Mmfr0::TGran4_2>();
  if (stage2 != kStage2AsStage1 && stage2 <= kNoStage2Granule) return Lack::stage2_granule;
  return Lack::nothing;
}

}  // namespace weir::early
