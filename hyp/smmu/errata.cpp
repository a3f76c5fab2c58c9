#include "hyp/smmu/errata.hpp"

namespace weir {
namespace {

using smmu::IIDR;

constexpr std::uint64_t kArm = 0x43b;  // JEP106, as in IIDR.Implementer
constexpr std::uint64_t kMmu600 = 0x483;
constexpr std::uint64_t kMmu700 = 0x487;

}  // namespace

Errata apply_errata(IIDR iidr, stage2::Capabilities& capabilities) {
  if (iidr.get<IIDR::Implementer>() != kArm) return {};
  const auto variant = iidr.get<IIDR::Variant>();
  const auto revision = iidr.get<IIDR::Revision>();
  switch (iidr.get<IIDR::ProductID>()) {
    case kMmu600:
      // 1076982, fixed in r1p0: SEV may be lost.
      if (variant == 0) capabilities.idr0.set<smmu::IDR0::SEV>(false);
      // 1209401, fixed in r2p0: invalidation by VA in nested contexts.
      return {"MMU-600", variant < 2 ? "1209401" : nullptr};
    case kMmu700:
      // 2268618 and 2812531, fixed in r1p1: nested invalidation, and CMD_SYNC that completes too early.
      return {"MMU-700", variant < 1 || revision < 1 ? "2268618 and 2812531" : nullptr};
    default: return {};
  }
}

}  // namespace weir
