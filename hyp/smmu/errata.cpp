#include "hyp/smmu/errata.hpp"

namespace weir {
namespace {

using smmu::IIDR;

constexpr std::uint64_t kArm = 0x43b;  // JEP106, as in IIDR.Implementer
constexpr std::uint64_t kMmu600 = 0x483;
constexpr std::uint64_t kMmu700 = 0x487;

constexpr std::string_view kTegra264 = "nvidia,tegra264-smmu";

}  // namespace

bool known_smmu(std::string_view compatible) { return compatible.empty() || compatible == kTegra264; }

Errata apply_errata(IIDR iidr, std::string_view compatible, stage2::Capabilities& capabilities) {
  // T264-SMMU-3: an invalidation may be lost on its way, its repetition after a CMD_SYNC is not. IIDR does not tell.
  if (compatible == kTegra264) return {.part = "Tegra264", .invalidate_twice = true};
  if (iidr.get<IIDR::Implementer>() != kArm) return {};
  const auto variant = iidr.get<IIDR::Variant>();
  const auto revision = iidr.get<IIDR::Revision>();
  switch (iidr.get<IIDR::ProductID>()) {
    case kMmu600:
      // 1076982, fixed in r1p0: SEV may be lost.
      if (variant == 0) capabilities.idr0.set<smmu::IDR0::SEV>(false);
      // 1209401, fixed in r2p0: invalidation by VA in nested contexts.
      return {.part = "MMU-600", .no_nesting = variant < 2 ? "1209401" : nullptr};
    case kMmu700:
      // 2268618 and 2812531, fixed in r1p1: nested invalidation, and CMD_SYNC that completes too early.
      return {.part = "MMU-700", .no_nesting = variant < 1 || revision < 1 ? "2268618 and 2812531" : nullptr};
    default: return {};
  }
}

}  // namespace weir
