// Affinities of vCPUs. Portable.
#pragma once

#include <cstdint>

namespace weir {

// Affinity of a VM's vCPU `index`: 16 to a cluster, as ICC_SGI1R_EL1's target list wants it. MPIDR_EL1's Aff fields, and
// the `reg` of the guest's /cpus nodes.
constexpr std::uint64_t vcpu_affinity(unsigned index) { return (std::uint64_t{index / 16} << 8) | (index % 16); }

}  // namespace weir
