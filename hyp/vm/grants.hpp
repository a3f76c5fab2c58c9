// What a manifest's narrowing and grants mean to a vSMMU, to its streams, and to a function's configuration space. Portable.
#pragma once

#include "hyp/manifest/manifest.hpp"
#include "hyp/pci/virtual_host.hpp"
#include "vsmmu/announced.hpp"
#include "vsmmu/ste_merge.hpp"

namespace weir {

// For the VM's vSMMU `index`. ATS and PRI are offered if a device behind it is granted them. `input_bits`: of the VM's
// address space.
[[nodiscard]] vsmmu::Config vsmmu_limits(const VmConfig& vm, unsigned index, unsigned input_bits);

[[nodiscard]] vsmmu::StreamGrant stream_grant(const DeviceConfig& device);

// Nothing that the guest's SMMU would not take part in.
[[nodiscard]] pci::CapabilityGrant capability_grant(const DeviceConfig& device, const vsmmu::Announced& announced);

}  // namespace weir
