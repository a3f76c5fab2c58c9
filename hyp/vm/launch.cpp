#include "hyp/vm/launch.hpp"

#include <array>
#include <memory>

#include "hyp/arch/pcpu.hpp"
#include "hyp/console/console.hpp"
#include "hyp/cpu/mmio_emulate.hpp"
#include "hyp/gic/vgic_hardware.hpp"
#include "hyp/log/log.hpp"
#include "hyp/machine/machine.hpp"
#include "hyp/manifest/initrd.hpp"
#include "hyp/mem/pages.hpp"
#include "hyp/vm/devices.hpp"
#include "hyp/vm/loader.hpp"
#include "hyp/vm/vm.hpp"
#include "stage2/support/make.hpp"

namespace weir {
namespace {

constinit std::unique_ptr<Manifest> manifest;  // for ever: VMs refer to it
constinit Initrd initrd{};
struct Entry {
  IPA pc;
  std::uint64_t devicetree = 0;
};
constinit std::array<Entry, kMaxVms> entries{};

static_assert(kMaxPcpus <= 64);
std::uint64_t offline_pcpus() {
  std::uint64_t offline = 0;
  for (unsigned i = 0; i < pcpu_count(); ++i)
    if (!pcpu(i).online) offline |= std::uint64_t{1} << i;
  return offline;
}

bool check(const Platform& platform) {
  std::array<std::string_view, decltype(Platform::smmus)::capacity> smmus{};
  std::size_t n = 0;
  for (const Smmu& smmu : platform.smmus) smmus[n++] = smmu.name;
  const PlatformFacts facts{.memory = free_units(kMemoryUnit),
                            .pcpus = pcpu_count(),
                            .offline = offline_pcpus(),
                            .smmus = {smmus.data(), n},
                            .enumerated = true,
                            .functions = machine_pci_facts(platform)};
  const auto ok = check_against(facts, *manifest);
  if (!ok) log("%s", ok.error().c_str());
  return ok.has_value();
}

bool make_vm(unsigned id, const Platform& platform, const SeedPool& seeds) {
  const VmConfig& config = manifest->vms[id];
  const auto failed = [&](const char* why) {
    log("/vms/%.*s: %s", static_cast<int>(config.name.size()), config.name.data(), why);
    return false;
  };
  auto made = Vm::create(id, config, dma_demands(config, platform));
  if (!made) return failed(to_string(made.error()));
  Vm& vm = **made;
  if (!add_vm(std::move(*made))) return failed("too many VMs");
  if (!vgic_attach(vm)) return failed("no memory for its GIC");
  if (!console_attach(vm)) return failed("no memory for its console");
  if (const auto ok = attach_devices(vm, platform, manifest->vms); !ok) return failed(ok.error().text);
  const auto loaded = load_guest(vm, initrd, seeds);
  if (!loaded) return failed(loaded.error());
  entries[id] = {loaded->entry, loaded->devicetree.value};
  log("vm %.*s: %u vCPUs, %llu MiB in %u piece%s, %u vSMMUs, %zu devices", static_cast<int>(config.name.size()),
      config.name.data(), vm.vcpu_count(), static_cast<unsigned long long>(config.memory >> 20), vm.memory_pieces(),
      vm.memory_pieces() == 1 ? "" : "s", vm.vsmmu_count, vm_functions(vm).size());
  return true;
}

void teardown(Vm& vm) {
  detach_devices(vm);
  vm.memory_moves().stop();
  vgic_release(vm);
  console_stopped(vm);
}

}  // namespace

bool read_manifest(const Platform& platform) {
  if (!platform.initrd) {
    log("/chosen: linux,initrd-start: none; expected the boot loader to pass an initrd that holds %.*s",
        static_cast<int>(kManifestFile.size()), kManifestFile.data());
    return false;
  }
  const FileContent archive{static_cast<const std::byte*>(direct(platform.initrd->base)), platform.initrd->bytes};
  auto opened = Initrd::open(archive);
  if (!opened) {
    log("%s", opened.error().line().c_str());
    return false;
  }
  initrd = std::move(*opened);
  manifest = make<Manifest>();
  if (!manifest) {
    log("no memory for the manifest");
    return false;
  }
  if (const auto ok = load(initrd, *manifest); !ok) {
    log("%s", ok.error().c_str());
    return false;
  }
  return true;
}

ExitMethod manifest_exit() { return manifest->exit; }
std::span<const std::string_view> manifest_accepted_smmus() {
  return {manifest->accepted_smmus.data(), manifest->accepted_smmus.size()};
}

bool make_vms(const Platform& platform, const SeedPool& seeds) {
  if (!check(platform)) return false;
  assign_pcpus(pcpu_count(), offline_pcpus(), *manifest);
  set_vm_teardown(teardown);
  mmio_emulation_init();
  for (unsigned id = 0; id < manifest->vms.size(); ++id)
    if (!make_vm(id, platform, seeds)) return false;
  start_device_clock(platform);
  return true;
}

void start_vms() {
  for (unsigned id = 0; id < vm_count(); ++id) vm(id).start(entries[id].pc, entries[id].devicetree);
}

bool all_vms_succeeded() {
  for (unsigned id = 0; id < vm_count(); ++id)
    if (vm(id).stop_reason() != StopReason::off) return false;
  return vm_count() != 0;
}

}  // namespace weir
