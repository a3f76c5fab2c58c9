#include "hyp/vm/loader.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "hyp/arch/cache.hpp"
#include "hyp/machine/wall_clock.hpp"
#include "hyp/manifest/kernel_image.hpp"
#include "hyp/vm/devices.hpp"
#include "hyp/vm/guest_fdt.hpp"
#include "hyp/vm/vm.hpp"

namespace weir {
namespace {

constexpr std::uint64_t kDevicetreeBytes = 0x20'0000;  // it must not cross a 2 MiB boundary: the last 2 MiB of RAM

// RAM may consist of several physical pieces, each of whole 2 MiB.
[[nodiscard]] bool place(GuestMemory& memory, IPA at, FileContent content) {
  while (!content.empty()) {
    const std::uint64_t to_end = kMemoryUnit - at.value % kMemoryUnit;
    const FileContent part = content.first(std::min<std::size_t>(content.size(), to_end));
    const auto to = memory.view(at, part.size());
    if (to.size() != part.size()) return false;
    std::memcpy(to.data(), part.data(), part.size());
    synchronize_instructions(to.data(), to.size());
    clean_to_poc(to.data(), to.size());
    at += part.size();
    content = content.subspan(part.size());
  }
  return true;
}

}  // namespace

std::expected<LoadedGuest, const char*> load_guest(Vm& vm, const FileSource& files, const SeedPool& seeds) {
  const VmConfig& config = vm.config();
  GuestMemory& memory = vm.memory();
  const auto kernel = files.find(config.kernel);
  if (!kernel) return std::unexpected{"the kernel is not in the initrd"};
  const auto image = config.entry_offset ? std::nullopt : KernelImage::parse(*kernel);
  if (!config.entry_offset && !image) return std::unexpected{"the kernel is no arm64 Image"};

  const IPA entry = memory.base() + (image ? image->text_offset : *config.entry_offset);
  const IPA devicetree = memory.base() + (memory.bytes() - kDevicetreeBytes);
  FileContent ramdisk{};
  if (!config.initrd.empty()) {
    const auto found = files.find(config.initrd);
    if (!found) return std::unexpected{"the initrd is not in Weir's initrd"};
    ramdisk = *found;
  }
  const std::uint64_t occupied = image ? image->bytes : kernel->size();
  const std::uint64_t room = devicetree - memory.base();
  std::uint64_t left = room;
  const auto take = [&left](std::uint64_t bytes) {
    if (bytes > left) return false;
    left -= bytes;
    return true;
  };
  if (!take(entry - memory.base()) || !take(occupied) || !take(ramdisk.size()) || !take(kPage4K))  // initrd's alignment
    return std::unexpected{"kernel, initrd and devicetree do not fit into its memory"};
  const IPA initrd = (devicetree - ramdisk.size()).align_down(kPage4K);
  if (!place(memory, entry, *kernel) || !place(memory, initrd, ramdisk))
    return std::unexpected{"kernel or initrd do not fit into its memory"};

  std::array<GuestVsmmu, kMaxVsmmus> vsmmus{};
  for (unsigned i = 0; i < vm.vsmmu_count; ++i) {
    const smmu::IDR0& idr0 = vm.vsmmus[i].device->announced().idr0;
    vsmmus[i] = {vm.vsmmus[i].base, guest_map::vsmmu_intid(i), idr0.get<smmu::IDR0::COHACC>(),
                 idr0.get<smmu::IDR0::PRI>()};
  }
  std::array<GuestFunction, kMaxVmDevices> functions{};
  std::size_t function_count = 0;
  bool ats = false;
  bool dma_coherent = true;
  for (const VmFunction& f : vm_functions(vm)) {
    functions[function_count++] = {f.slot, f.vsmmu, f.intid, f.vsid};
    ats = ats || f.ats;
    dma_coherent = dma_coherent && f.coherent;
  }
  const GuestHardware hardware{.ram = memory.base(),
                               .ram_bytes = memory.bytes(),
                               .vcpus = vm.vcpu_count(),
                               .rtc = wall_clock().has_value(),
                               .vsmmus = {vsmmus.data(), vm.vsmmu_count},
                               .pci = vm.pci != nullptr,
                               .ats = ats,
                               .dma_coherent = dma_coherent,
                               .functions = {functions.data(), function_count},
                               .bootargs = config.bootargs,
                               .initrd = initrd,
                               .initrd_bytes = ramdisk.size(),
                               .seeds = seeds.for_vm(vm.id(), vm.name())};
  const auto space = memory.view(devicetree, kDevicetreeBytes);
  const auto written = make_guest_fdt(hardware, space);
  if (!written) return std::unexpected{written.error()};
  clean_to_poc(space.data(), *written);
  return LoadedGuest{entry, devicetree};
}

}  // namespace weir
