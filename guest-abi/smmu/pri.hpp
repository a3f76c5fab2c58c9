// SMMUv3 PRI queue entries (Arm IHI 0070G.b, chapter 8): 16 bytes, little-endian. As in an event record, what is
// Guest::may_set may be passed on to a guest as it is.
#pragma once

#include <cstdint>

#include "guest-abi/field.hpp"
#include "guest-abi/types.hpp"

namespace weir::smmu {

struct PriEntry : Record<PriEntry, 128> {
  using StreamID = OwnField<"StreamID", 31, 0, std::uint32_t>;
  using SubstreamID = Field<"SubstreamID", 51, 32, weir::SubstreamID>;  // UNKNOWN if SSV == 0
  using Priv = BitField<"Priv", 58>;
  using X = BitField<"X", 59>;
  using R = BitField<"R", 60>;
  using W = BitField<"W", 61>;
  using Last = BitField<"Last", 62>;
  using SSV = BitField<"SSV", 63>;
  using PRGIndex = Field<"PRGIndex", 72, 64, std::uint16_t>;
  using Address = AddressField<"Address", 127, 76, IOVA>;
  using Layout =
      weir::Layout<128, StreamID, SubstreamID, Res0<57, 52>, Priv, X, R, W, Last, SSV, PRGIndex, Res0<75, 73>, Address>;

  // {Last, W, R} == 0b100 with a PASID: a PCIe "Stop PASID" marker, no request. It gets no CMD_PRI_RESP.
  [[nodiscard]] constexpr bool is_stop_marker() const { return get<SSV>() && get<Last>() && !get<W>() && !get<R>(); }
};
static_assert(sizeof(PriEntry) == 16);

}  // namespace weir::smmu
