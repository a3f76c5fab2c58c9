// The devices of a VM that stand on physical ones: vSMMUs, the DMA domain, PCI functions. Built from the manifest, taken
// apart when the VM has stopped.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

#include "hyp/manifest/manifest.hpp"
#include "hyp/platform/platform.hpp"
#include "hyp/vm/vm.hpp"
#include "stage2/domain.hpp"
#include "vsmmu/vsmmu.hpp"

namespace weir {

// One of the VM's functions, for its devicetree.
struct VmFunction {
  unsigned slot{};        // on the virtual root bus, function 0
  unsigned vsmmu{};       // index into Vm::vsmmus
  std::uint32_t intid{};  // of its INTA; 0: it has none
  bool ats{};             // granted, and there: function and SMMUs have it
  bool coherent{};        // its DMA snoops; the same for all of a VM
  VStreamID vsid;         // its requester ID there, or that of the first of those that it shares a StreamID with
};

// One line, for the operator: what of the manifest cannot be had, and why.
struct DeviceError {
  char text[240]{};
};

// What the SMMUs that the manifest names for a VM demand of its tables. They have been found and reset.
[[nodiscard]] DmaDemands dma_demands(const VmConfig& config, const Platform& platform);

// Attaches everything that `vm`'s manifest lists: afterwards its devices' streams are under its vSMMUs and its virtual
// PCI host answers. vm.vgic is there. `vms`: of all VMs, which share what the SMMUs have. On error nothing is attached.
[[nodiscard]] std::expected<void, DeviceError> attach_devices(Vm& vm, const Platform& platform,
                                                              std::span<const VmConfig> vms);

// Events have been delivered that the machine's event interrupt has to act upon (machine_after_events).
[[nodiscard]] bool devices_to_act();

// Once, when all VMs have their devices and each vCPU its pCPU: the clock for what is done late.
void start_device_clock(const Platform& platform);

// The reverse: every stream aborts, tags are given back, functions are quiet, their lines are free. Vm teardown hook.
void detach_devices(Vm& vm);

[[nodiscard]] std::span<const VmFunction> vm_functions(const Vm& vm);

// For the summary, also after the VM has stopped and given all that back.
//
// How a vSMMU stands on one of its SMMUs.
struct VmBacking {
  std::string_view smmu;
  VMID vmid;
  unsigned table_class{};  // which of the VM's DMA tables it walks
  unsigned streams{};      // of the VM's devices, behind this SMMU and under this vSMMU
};
// In the order of VSmmu::backings().
[[nodiscard]] std::span<const VmBacking> vm_backings(const Vm& vm, unsigned vsmmu);
// The tables of the VM's DMA domain, by class.
using TableClasses = StaticVector<stage2::S2Domain::ClassInfo, 8>;
[[nodiscard]] TableClasses vm_table_classes(Vm& vm);
[[nodiscard]] std::uint64_t vm_violations(const Vm& vm);

}  // namespace weir
