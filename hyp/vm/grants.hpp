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

// Nothing that the guest's SMMU would not take part in. `page_requests`: what may be outstanding, see page_request_share().
[[nodiscard]] pci::CapabilityGrant capability_grant(const DeviceConfig& device, const vsmmu::Announced& announced,
                                                    unsigned page_requests);

// The page requests that each of `functions`, of whatever VM, may have outstanding at an SMMU whose queue holds `capacity`:
// an overflow would take the others' requests, so the sum stays below it (IHI 0070, chapter 8). Half is left over for Stop
// PASID markers, which need no credit, and for what a device sends between an answer and the release of the entry.
[[nodiscard]] unsigned page_request_share(unsigned capacity, unsigned functions);

}  // namespace weir
