// Finding a guest's STE in its stream table (IHI 0070, 3.3, 5.1, 6.3.24, 6.3.25).
#pragma once

#include <expected>

#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "guest-abi/smmu/ste.hpp"
#include "vsmmu/ports.hpp"

namespace weir::vsmmu {

// Why a stream has no valid STE, as the guest's SMMU would report it.
struct SteFault {
  smmu::EventId event{};  // C_BAD_STREAMID, F_STE_FETCH or C_BAD_STE
  IPA fetch;              // F_STE_FETCH: the address that could not be read
  friend constexpr bool operator==(const SteFault&, const SteFault&) = default;
};

struct StreamTable {
  smmu::STRTAB_BASE base;
  smmu::STRTAB_BASE_CFG config;
  unsigned sid_bits{};  // IDR1.SIDSIZE of the vSMMU

  // Reads the STE of `vsid`, each byte once. Errors: C_BAD_STREAMID (outside of the table), F_STE_FETCH.
  [[nodiscard]] std::expected<smmu::Ste, SteFault> fetch(GuestMemory& memory, VStreamID vsid) const;

 private:
  [[nodiscard]] std::expected<IPA, SteFault> locate(GuestMemory& memory, VStreamID vsid) const;
};

}  // namespace weir::vsmmu
