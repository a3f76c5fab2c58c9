// From the boot manifest to VMs that are ready to run.
#pragma once

#include "hyp/manifest/manifest.hpp"
#include "hyp/platform/platform.hpp"

namespace weir {

class SeedPool;

// Reads the manifest in the machine's initrd. Before there is a GIC or an SMMU: its mistakes are said early. False: a line
// says what is wrong.
[[nodiscard]] bool read_manifest(const Platform& platform);
// How to end; valid once the manifest has been read.
[[nodiscard]] ExitMethod manifest_exit();
[[nodiscard]] std::span<const std::string_view> manifest_accepted_smmus();

// Compares the manifest with the machine, makes its VMs with their devices and loads them; the GIC, the console, PCI and the
// SMMUs are up. False: a line says what is wrong, and no VM is running.
[[nodiscard]] bool make_vms(const Platform& platform, const SeedPool& seeds);
// All pCPUs are up: each VM's first vCPU will run.
void start_vms();

// True if every VM powered itself off.
[[nodiscard]] bool all_vms_succeeded();

}  // namespace weir
