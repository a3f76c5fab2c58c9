// The machine's devices that VMs share out: physical SMMUs and PCI functions.
#pragma once

#include <span>

#include "hyp/manifest/manifest.hpp"
#include "hyp/pci/topology.hpp"
#include "hyp/platform/platform.hpp"
#include "hyp/smmu/instance.hpp"

namespace weir {

// In this order, once, on the boot pCPU. Each panics, naming what is wrong, when the machine cannot be used at all.
//
// Makes every SMMU abort all DMA; no command is issued.
void machine_quiesce_smmus(const Platform& platform);
// Numbers buses, assigns addresses. Before any SMMU command: configuration caches are keyed by StreamIDs, which follow
// from bus numbers.
void machine_enumerate_pci(const Platform& platform);
// Brings the SMMUs up with every stream aborting and connects their interrupts. One that cannot nest is reported with the
// missing feature and left aborting, as is one of a kind that is neither known nor `accepted`.
void machine_start_smmus(const Platform& platform, std::span<const std::string_view> accepted);

// `hook` runs after the events of an interrupt were delivered, on any pCPU, with no lock held: for what cannot be done
// while they are.
void machine_after_events(void (*hook)());

// Has the handler of the SMMU's event interrupt run, for what the SMMU raises none.
void machine_more_events(unsigned index);

// The SMMU's interrupts go to that pCPU. When VMs have their devices; until then to the boot pCPU.
void machine_route_smmu(const Platform& platform, unsigned index, unsigned pcpu);

// Takes bus mastering from all functions behind an SMMU that goes on translating whatever it is told. Panics where one of
// them goes on. On any pCPU, with locks of the SMMU held.
void machine_cut_off(unsigned smmu);

// SMMUs without wired interrupts: are there any? They are looked after by machine_poll_smmus(), ten times a second.
[[nodiscard]] bool machine_has_polled_smmus();
void machine_poll_smmus();

// nullptr: there is no usable SMMU of that index (into Platform::smmus).
[[nodiscard]] SmmuInstance* machine_smmu(unsigned index);
[[nodiscard]] unsigned machine_smmu_count();
// What it lacks, if it is not usable; for messages. `index` < machine_smmu_count().
[[nodiscard]] const char* machine_smmu_problem(unsigned index);

[[nodiscard]] const pci::Topology& machine_pci();
// Configuration space of the function's host; nullptr: no host has that segment.
[[nodiscard]] pci::ConfigPort* machine_config(const Platform& platform, const pci::Function& function);
// Does its DMA look into the CPUs' caches (its host's dma-coherent)?
[[nodiscard]] bool machine_snoops(const Platform& platform, const pci::Function& function);

// Everything enumerated, as the manifest's check wants it. Valid for ever.
[[nodiscard]] std::span<const PciFunctionFact> machine_pci_facts(const Platform& platform);

}  // namespace weir
