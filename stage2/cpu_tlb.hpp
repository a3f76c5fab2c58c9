// The port through which a change of stage 2 reaches the TLBs of the pCPUs: those that run the VM share RAM subtrees of
// its table with the SMMUs.
#pragma once

#include <cstdint>

#include "guest-abi/types.hpp"

namespace weir::stage2 {

class CpuTlb {
 public:
  // Removes what all pCPUs hold of [ipa, ipa + bytes), combined entries included, and returns when that is complete
  // (IPAS2E1IS, DSB, VMALLE1IS, DSB). `leaf_only`: no table page went away. The descriptors are written and published.
  // Any pCPU, no lock of the domain held; several at once.
  virtual void invalidate(IPA ipa, std::uint64_t bytes, bool leaf_only) = 0;

 protected:
  ~CpuTlb() = default;
};

}  // namespace weir::stage2
