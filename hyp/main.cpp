// What Weir does, in order.

#include <atomic>
#include <memory>

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/counter.hpp"
#include "hyp/arch/pcpu.hpp"
#include "hyp/arch/semihosting.hpp"
#include "hyp/arch/smccc.hpp"
#include "hyp/boot/devicetree_blob.hpp"
#include "hyp/boot/early_patch.hpp"
#include "hyp/boot/image.hpp"
#include "hyp/boot/options.hpp"
#include "hyp/boot/selftest.hpp"
#include "hyp/boot/start.hpp"
#include "hyp/console/console.hpp"
#include "hyp/cpu/el2_reset.hpp"
#include "hyp/cpu/machine_errata.hpp"
#include "hyp/gic/gic.hpp"
#include "hyp/gic/vgic_hardware.hpp"
#include "hyp/log/log.hpp"
#include "hyp/machine/machine.hpp"
#include "hyp/machine/wall_clock.hpp"
#include "hyp/mem/pages.hpp"
#include "hyp/panic/disassemble.hpp"
#include "hyp/panic/panic.hpp"
#include "hyp/platform/platform.hpp"
#include "hyp/vm/guest_seed.hpp"
#include "hyp/vm/launch.hpp"
#include "hyp/vm/summary.hpp"
#include "hyp/vm/vm.hpp"

namespace weir {

namespace {

using ull = unsigned long long;

// Made at the start, not in the image: what it is before that is not all zeros.
union PlatformStorage {
  constexpr PlatformStorage() {}
  ~PlatformStorage() {}  // NOLINT(modernize-use-equals-default): that would be deleted
  Platform value;
};
constinit PlatformStorage storage;
Platform& platform = storage.value;
constinit SeedPool seeds;
constinit bool selftest = false;
constinit bool exit_chosen = false;          // by the command line
constinit std::atomic<bool> running{false};  // VMs are there

void log_remarks() {
  for (const dt::Line& line : platform.remarks.lines()) log("%s", line.c_str());
  if (platform.remarks.more() != 0) log("%u more remarks on the devicetree", platform.remarks.more());
}

// Everything that is found out before there is memory: the command line, where lines can be printed, the machine.
void discover_platform(PA dtb) {
  const auto blob = map_devicetree(dtb);
  if (!blob) {
    log("devicetree at %#llx: %s", static_cast<ull>(dtb.value), to_string(blob.error()));
    machine_exit(1);
  }
  const auto exit = boot_option(*blob, "weir.exit");
  exit_chosen = !exit.empty();
  if (exit == "semihosting") set_machine_exit(MachineExit::semihosting);
  if (exit == "psci") set_machine_exit(MachineExit::system_off);
  run_early_selftest(boot_option(*blob, "weir.selftest"));
  log("image at %#llx, %llu KiB; devicetree at %#llx", static_cast<ull>(image_base().value),
      static_cast<ull>(image_bytes() >> 10), static_cast<ull>(dtb.value));
  log_image_patches();
  if (const auto wrong = misspelt_option(*blob)) {
    log("%s", wrong->c_str());
    machine_exit(1);
  }
  if (const auto found = discover(blob->data(), blob->size(), dtb, platform); !found) {
    log_remarks();
    log("%s", found.error().c_str());
    machine_exit(1);
  }
  log_remarks();
  // The tree is Weir's alone, and mapped for writing.
  seeds.take({const_cast<std::byte*>(blob->data()), blob->size()});  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  seeds.stir(counter());
}

void init_memory() {
  memory_init({platform.ram.data(), platform.ram.size()}, {platform.reserved.data(), platform.reserved.size()});
  heap_init(static_cast<unsigned>(platform.cpus.size()));
  run_constructors();
  disassembler_init();
  log("%llu MiB of RAM free", static_cast<ull>(free_bytes() >> 20));
}

void stop_other_pcpus() {
  for (unsigned i = 0; i < pcpu_count(); ++i) {
    if (i != this_pcpu().index && pcpu(i).online) gic_send_ipi(i, Ipi::stop);
  }
}

void init_interrupts() {
  if (const auto ok = gic_init(platform.gic); !ok) panic("GIC: %s", to_string(ok.error()));
  gic_on_ipi(Ipi::stop, [](void*) { park(); }, nullptr);
  const auto kicked = [](void*) {
    if (Vcpu* const vcpu = this_pcpu().vcpu) vcpu->look_soon();
  };
  gic_on_ipi(Ipi::kick, kicked, nullptr);
  set_stop_others(stop_other_pcpus);
}

void init_this_pcpu() {
  reset_el2_controls();
  if (const auto ok = gic_init_pcpu(); !ok) panic("CPU %u: GIC: %s", this_pcpu().index, to_string(ok.error()));
}

void secondary_pcpu() {
  if (selftest) return selftest_on_pcpu();
  init_this_pcpu();
  vgic_init_pcpu();
  while (!running.load(std::memory_order_acquire)) wfe();
  run_pcpu();
}

void start_pcpus() {
  if (!pcpus_init({platform.cpus.data(), platform.cpus.size()}))
    log("/cpus: the CPU that Weir runs on (MPIDR %#llx) is not listed; it is CPU 0", static_cast<ull>(pcpu(0).mpidr));
  unsigned up = 1;
  for (unsigned i = 1; i < pcpu_count(); ++i) {
    if (const auto started = pcpu_start(i, secondary_pcpu); started)
      ++up;
    else
      log("CPU %u (MPIDR %#llx) is not used: %s", i, static_cast<ull>(pcpu(i).mpidr), to_string(started.error()));
  }
  log("%u CPUs up", up);
  find_machine_errata();
  log_machine_errata();
}

}  // namespace

void start(PA dtb) {
  std::construct_at(&platform);
  discover_platform(dtb);
  init_memory();
  const auto test =
      boot_option({static_cast<const std::byte*>(direct(platform.dtb.base)), platform.dtb.bytes}, "weir.selftest");
  selftest = !test.empty();
  if (selftest) {
    if (!selftest_needs_one_cpu(test)) start_pcpus();
    run_selftest(test);
    machine_exit(0);
  }
  if (!read_manifest(platform)) machine_exit(1);
  if (!exit_chosen)
    set_machine_exit(manifest_exit() == ExitMethod::semihosting ? MachineExit::semihosting : MachineExit::system_off);
  machine_quiesce_smmus(platform);
  machine_enumerate_pci(platform);
  init_interrupts();
  init_this_pcpu();
  vgic_init(platform.gic, platform.timers);
  vgic_init_pcpu();
  wall_clock_init(platform);
  console_init(platform.uart);
  machine_start_smmus(platform, manifest_accepted_smmus());
  start_pcpus();
  if (!make_vms(platform, seeds)) machine_exit(1);
  start_vms();
  running.store(true, std::memory_order_release);
  dsb_ish();
  sev();
  run_pcpu();
  print_summary();
  machine_exit(all_vms_succeeded() ? 0 : 1);
}

}  // namespace weir
