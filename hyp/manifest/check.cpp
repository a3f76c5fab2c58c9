// Stage two: the manifest against the machine.
#include <algorithm>
#include <array>
#include <bit>

#include "hyp/manifest/message.hpp"

namespace weir {
namespace {

using dt::Node;
using dt::Property;
using manifest::Checked;
using manifest::fail;
using Code = ManifestErrorCode;

constexpr std::uint64_t kMiB = 0x10'0000;

// What a VM takes besides its RAM, at most: stage-2 tables by pages for two views, and what its devices need. 4 KiB of tables
// map 2 MiB.
constexpr std::uint64_t overhead(std::uint64_t memory) { return 2 * kMiB + memory / 256; }

Checked check_memory(const PlatformFacts& facts, Node node, const VmConfig& vm, std::uint64_t& left) {
  const std::uint64_t needed = vm.memory + overhead(vm.memory);
  if (needed <= left) {
    left -= needed;
    return {};
  }
  // The most that is accepted, in the steps that are allowed.
  std::uint64_t most = left / kMemoryUnit * kMemoryUnit;
  while (most != 0 && most + overhead(most) > left) most -= kMemoryUnit;
  dt::Line line = manifest::at(node, node.property("memory"));
  line << vm.memory / kMiB << " MiB are asked for, " << most / kMiB << " of " << facts.memory / kMiB
       << " MiB are left; expected at most that";
  return fail(Code::too_much_memory, line);
}

bool is_offline(std::uint64_t offline, unsigned pcpu) { return pcpu < 64 && (offline >> pcpu & 1) != 0; }

unsigned online_pcpus(const PlatformFacts& facts) {
  return facts.pcpus - static_cast<unsigned>(std::popcount(facts.offline));
}

Checked check_cpus(const PlatformFacts& facts, Node node, const VmConfig& vm, unsigned& left) {
  const Property pinned = node.property("pcpus");
  for (const std::uint16_t pcpu : vm.pcpus) {
    if (pcpu < facts.pcpus && !is_offline(facts.offline, pcpu)) continue;
    dt::Line line = manifest::at(node, pinned);
    if (pcpu < facts.pcpus)
      line << "CPU " << unsigned{pcpu} << " did not start; expected one that did";
    else
      line << "there is no CPU " << unsigned{pcpu} << "; expected 0 to " << facts.pcpus - 1;
    return fail(Code::no_such_cpu, line);
  }
  if (vm.vcpus <= left) {
    left -= vm.vcpus;
    return {};
  }
  dt::Line line = manifest::at(node, pinned ? pinned : node.property("cpus"));
  line << vm.vcpus << " CPUs are asked for, " << left << " of " << online_pcpus(facts)
       << " are left; expected at most that";
  return fail(Code::too_many_cpus, line);
}

Checked check_backing(const PlatformFacts& facts, Node node, const VsmmuConfig& vsmmu) {
  for (const std::string_view name : vsmmu.backing) {
    if (std::find(facts.smmus.begin(), facts.smmus.end(), name) != facts.smmus.end()) continue;
    dt::Line line = manifest::at(node, node.property("backing"));
    line << "no such SMMU: \"" << name << "\"; expected ";
    for (std::size_t i = 0; i < facts.smmus.size(); ++i) line << (i == 0 ? "one of " : ", ") << facts.smmus[i];
    if (facts.smmus.empty()) line << "no vSMMU: this machine has no SMMUv3";
    return fail(Code::no_such_smmu, line);
  }
  return {};
}

const PciFunctionFact* find_function(const PlatformFacts& facts, const TopologyPath& path) {
  const auto found = std::find_if(facts.functions.begin(), facts.functions.end(),
                                  [&](const PciFunctionFact& fact) { return fact.path == path; });
  return found == facts.functions.end() ? nullptr : &*found;
}

void list_devices(dt::Line& line, const PlatformFacts& facts) {
  bool first = true;
  for (const PciFunctionFact& fact : facts.functions) {
    if (fact.bridge || !fact.problem.empty() || fact.smmu.empty()) continue;
    std::array<char, TopologyPath::kMaxText> text{};
    line << (first ? "one of " : ", ") << fact.path.print(text);
    first = false;
  }
  if (first) line << "no device: enumeration found none";
}

Checked check_device(const PlatformFacts& facts, Node node, const VmConfig& vm, const DeviceConfig& device) {
  const Property pci = node.property("pci");
  const PciFunctionFact* function = find_function(facts, device.pci);
  if (function == nullptr) {
    dt::Line line = manifest::at(node, pci);
    line << "no such device; expected ";
    list_devices(line, facts);
    return fail(Code::no_such_device, line);
  }
  if (function->bridge) {
    dt::Line line = manifest::at(node, pci);
    line << "a bridge; expected ";
    list_devices(line, facts);
    return fail(Code::not_a_function, line);
  }
  if (!function->problem.empty()) {
    dt::Line line = manifest::at(node, pci);
    line << "this is " << function->problem << "; expected ";
    list_devices(line, facts);
    return fail(Code::unusable, line);
  }
  const VsmmuConfig& vsmmu = vm.vsmmus[device.vsmmu];
  if (std::find(vsmmu.backing.begin(), vsmmu.backing.end(), function->smmu) == vsmmu.backing.end()) {
    dt::Line line = manifest::at(node, pci);
    line << "this device is behind " << (function->smmu.empty() ? "no SMMU" : function->smmu)
         << "; expected the backing of " << vsmmu.name << " to contain it";
    return fail(Code::wrong_smmu, line);
  }
  return {};
}

// A guest has one PCI host, whose devicetree node says for all its devices whether DMA snoops.
Checked check_coherency(const PlatformFacts& facts, Node node, const VmConfig& vm, const DeviceConfig& device) {
  const PciFunctionFact* mine = find_function(facts, device.pci);
  if (mine == nullptr) return {};
  if (!mine->coherent && !device.not_coherent) {
    dt::Line line = manifest::at(node, node.property("pci"));
    line << "the DMA of this device does not snoop caches (its PCI host is not dma-coherent); expected "
            "accept-non-coherent with it";
    return fail(Code::not_coherent, line);
  }
  for (const DeviceConfig& other : vm.devices) {
    const PciFunctionFact* theirs = find_function(facts, other.pci);
    if (theirs == nullptr || theirs->coherent == mine->coherent) continue;
    dt::Line line = manifest::at(node, node.property("pci"));
    line << "DMA of this device " << (mine->coherent ? "snoops" : "does not snoop") << " caches, that of " << other.name
         << (mine->coherent ? " does not" : " does") << "; expected one kind in a VM";
    return fail(Code::not_coherent, line);
  }
  return {};
}

// One INTx line belongs to one VM.
Checked check_line(const PlatformFacts& facts, const Manifest& manifest, Node node, const VmConfig& vm,
                   const DeviceConfig& device) {
  const PciFunctionFact* mine = find_function(facts, device.pci);
  if (mine == nullptr || !mine->line) return {};
  for (const VmConfig& other_vm : manifest.vms) {
    if (&other_vm == &vm) continue;
    for (const DeviceConfig& other : other_vm.devices) {
      const PciFunctionFact* theirs = find_function(facts, other.pci);
      if (theirs == nullptr || theirs->line != mine->line) continue;
      dt::Line line = manifest::at(node, node.property("pci"));
      line << "its interrupt line, INTID " << *mine->line << ", is also that of /vms/" << other_vm.name << "/devices/"
           << other.name << "; expected one VM for all devices on a line";
      return fail(Code::shared_line, line);
    }
  }
  return {};
}

// DMA under one Requester ID is one VM's.
Checked check_requester(const PlatformFacts& facts, const Manifest& manifest, Node node, const VmConfig& vm,
                        const DeviceConfig& device) {
  const PciFunctionFact* mine = find_function(facts, device.pci);
  if (mine == nullptr) return {};
  for (const VmConfig& other_vm : manifest.vms) {
    if (&other_vm == &vm) continue;
    for (const DeviceConfig& other : other_vm.devices) {
      const PciFunctionFact* theirs = find_function(facts, other.pci);
      if (theirs == nullptr || theirs == mine || theirs->group != mine->group) continue;
      dt::Line line = manifest::at(node, node.property("pci"));
      line << "its DMA may arrive under a Requester ID ";
      if (mine->requester.depth != 0) {
        std::array<char, TopologyPath::kMaxText> text{};
        line << "of the bridge " << mine->requester.print(text) << ", as does that of ";
      } else {
        line << "that it shares with ";
      }
      line << "/vms/" << other_vm.name << "/devices/" << other.name << "; expected one VM for "
           << (mine->requester.depth != 0 ? "all that is behind the bridge" : "both");
      return fail(Code::shared_id, line);
    }
  }
  return {};
}

// Likewise for the vSMMU: what the guest says about a StreamID is said once.
Checked check_one_vsmmu(const PlatformFacts& facts, Node node, const VmConfig& vm, const DeviceConfig& device) {
  const PciFunctionFact* mine = find_function(facts, device.pci);
  if (mine == nullptr) return {};
  for (const DeviceConfig& other : vm.devices) {
    const PciFunctionFact* theirs = find_function(facts, other.pci);
    if (theirs == nullptr || theirs->group != mine->group || other.vsmmu == device.vsmmu) continue;
    dt::Line line = manifest::at(node, node.property("vsmmu"));
    line << "its DMA may arrive under one Requester ID with that of " << other.name << "; expected one vSMMU for both";
    return fail(Code::shared_id, line);
  }
  return {};
}

}  // namespace

std::expected<void, ManifestError> check_against(const PlatformFacts& facts, const Manifest& manifest) {
  const auto node = [&](int offset) { return Node{manifest.blob.data(), offset}; };
  std::uint64_t memory = facts.memory;
  unsigned pcpus = online_pcpus(facts);
  Checked ok;
  for (const VmConfig& vm : manifest.vms) {
    ok = check_memory(facts, node(vm.node), vm, memory);
    if (ok) ok = check_cpus(facts, node(vm.node), vm, pcpus);
    for (const VsmmuConfig& vsmmu : vm.vsmmus)
      if (ok) ok = check_backing(facts, node(vsmmu.node), vsmmu);
    for (const DeviceConfig& device : vm.devices)
      if (ok && facts.enumerated) ok = check_device(facts, node(device.node), vm, device);
    for (const DeviceConfig& device : vm.devices)
      if (ok && facts.enumerated) ok = check_coherency(facts, node(device.node), vm, device);
    for (const DeviceConfig& device : vm.devices)
      if (ok && facts.enumerated) ok = check_one_vsmmu(facts, node(device.node), vm, device);
    if (!ok) return ok;
  }
  if (!facts.enumerated) return {};
  for (const VmConfig& vm : manifest.vms)
    for (const DeviceConfig& device : vm.devices) {
      if (ok) ok = check_requester(facts, manifest, node(device.node), vm, device);
      if (ok) ok = check_line(facts, manifest, node(device.node), vm, device);
    }
  return ok;
}

void assign_pcpus(unsigned pcpus, std::uint64_t offline, Manifest& manifest) {
  const auto taken = [&](std::uint16_t pcpu) {
    return std::any_of(manifest.vms.begin(), manifest.vms.end(), [&](const VmConfig& vm) {
      return std::find(vm.pcpus.begin(), vm.pcpus.end(), pcpu) != vm.pcpus.end();
    });
  };
  std::uint16_t next = 0;
  for (VmConfig& vm : manifest.vms)
    while (vm.pcpus.size() < vm.vcpus) {
      while (next < pcpus && (taken(next) || is_offline(offline, next))) ++next;
      if (next >= pcpus || !vm.pcpus.push_back(next)) return;
    }
}

}  // namespace weir
