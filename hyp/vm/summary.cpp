#include "hyp/vm/summary.hpp"

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/text.hpp"
#include "hyp/arch/counter.hpp"
#include "hyp/cpu/machine_errata.hpp"
#include "hyp/log/log.hpp"
#include "hyp/machine/machine.hpp"
#include "hyp/machine/tick.hpp"
#include "hyp/vm/devices.hpp"
#include "hyp/vm/vm.hpp"

namespace weir {
namespace {

using Line = Text<400>;

void print(const Line& line) { log("%.*s", static_cast<int>(line.size()), line.view().data()); }

void print_vm(Vm& vm) {
  Line line;
  line.put("vm ").put(vm.name()).put(": ");
  switch (vm.state()) {
    case VmState::created: line.put("not started"); break;
    case VmState::running: line.put("running"); break;
    case VmState::stopped: line.put("stopped: ").put(to_string(vm.stop_reason())); break;
  }
  line.put("; exits:");
  std::uint64_t total = 0;
  for (std::size_t cause = 0; cause < kExitCauses; ++cause) {
    std::uint64_t n = 0;
    for (unsigned i = 0; i < vm.vcpu_count(); ++i) n += vm.vcpu(i).exits.get(static_cast<ExitCause>(cause));
    total += n;
    if (n != 0) line.put(' ').put(to_string(static_cast<ExitCause>(cause))).put(' ').dec(n);
  }
  line.put(" total ").dec(total);
  line.put("; stage-2 table pages: CPU ").dec(vm.view().page_count());
  if (vm_violations(vm) != 0) line.put("; DMA violations ").dec(vm_violations(vm));
  print(line);
}

// What the vCPUs of a running VM are doing, from two samples a moment apart.
void print_vcpus(Vm& vm) {
  if (vm.state() != VmState::running) return;
  std::array<std::optional<VcpuSample>, kMaxVcpus> first{};
  for (unsigned i = 0; i < vm.vcpu_count(); ++i) first[i] = vm.vcpu(i).sample();
  constexpr std::uint64_t kMomentUs = 2000;
  const std::uint64_t until = counter() + microseconds_to_ticks(kMomentUs);
  while (counter() < until) {
  }
  for (unsigned i = 0; i < vm.vcpu_count(); ++i) {
    const auto second = vm.vcpu(i).sample();
    Line line;
    line.put("vm ").put(vm.name()).put(" vCPU ").dec(i).put(": ").put(to_string(health(first[i], second)));
    if (second && second->on) {
      line.put("; PC ").hex(second->pc);
      if (second->irqs_masked) line.put(", IRQs masked");
    }
    print(line);
  }
}

// The DMA domain: one table, unless an SMMU cannot walk it.
void print_tables(Vm& vm) {
  unsigned number = 0;
  for (const stage2::S2Domain::ClassInfo& info : vm_table_classes(vm)) {
    Line line;
    line.put("vm ").put(vm.name()).put(" DMA table ").dec(number++).put(": pages ").dec(info.table_pages);
    line.put(", tags ")
        .dec(info.tags)
        .put("; IPAs of ")
        .dec(info.input_bits)
        .put(" bits, PAs of ")
        .dec(info.output_bits);
    line.put(" bits, BBM level ").dec(info.bbml);
    if (info.fwb) line.put(", S2FWB");
    if (info.cleaned) line.put(", cleaned to memory");
    if (info.dirty_state) line.put(", hardware dirty state");
    if (info.reason) line.put("; apart from table 0 because of ").put(stage2::to_string(*info.reason));
    print(line);
  }
}

// What its vSMMUs are on each physical SMMU, and what became of the guest's invalidations there.
void print_backings(Vm& vm, unsigned index) {
  const vsmmu::VSmmu& vsmmu = *vm.vsmmus[index].device;
  std::size_t i = 0;
  for (const VmBacking& backing : vm_backings(vm, index)) {
    const vsmmu::BackingCounters counters = vsmmu.backing_counters(i++);
    Line line;
    line.put("vm ").put(vm.name()).put(" vsmmu ").put(vm.config().vsmmus[index].name).put(" on ").put(backing.smmu);
    line.put(": VMID ").dec(backing.vmid.value).put(", DMA table ").dec(backing.table_class);
    line.put(", streams ").dec(backing.streams).put("; TLBIs sent ").dec(counters.tlbis);
    line.put(", merged ").dec(counters.merged).put(", widened ").dec(counters.widened);
    line.put("; SYNCs ").dec(counters.syncs);
    if (counters.host_asids != 0) line.put("; host ASIDs ").dec(counters.host_asids);
    print(line);
  }
}

std::uint64_t tlbis(const vsmmu::Counters& counters) {
  std::uint64_t sum = 0;
  for (std::size_t op = 0; op < counters.commands.size(); ++op)
    if (smmu::name_of(static_cast<smmu::Opcode>(op)).starts_with("CMD_TLBI_")) sum += counters.commands[op];
  return sum;
}

void print_vsmmu(Vm& vm, unsigned index) {
  const vsmmu::VSmmu& vsmmu = *vm.vsmmus[index].device;
  const vsmmu::Counters counters = vsmmu.counters();
  Line line;
  line.put("vm ").put(vm.name()).put(" vsmmu ").put(vm.config().vsmmus[index].name).put(": exits ").dec(counters.exits);
  line.put("; commands:");
  for (std::size_t op = 0; op < counters.commands.size(); ++op) {
    if (counters.commands[op] == 0) continue;
    const std::string_view name = smmu::name_of(static_cast<smmu::Opcode>(op));
    line.put(' ');
    if (name.starts_with("CMD_")) {
      line.put(name.substr(4));
    } else {
      line.hex(op);
    }
    line.put(' ').dec(counters.commands[op]);
  }
  line.put("; TLBIs received ")
      .dec(tlbis(counters))
      .put("; illegal ")
      .dec(counters.illegal)
      .put("; events ")
      .dec(counters.events);
  if (counters.events_lost != 0) line.put(" (lost ").dec(counters.events_lost).put(")");
  if (counters.stage2_faults != 0) line.put("; stage-2 faults ").dec(counters.stage2_faults);
  line.put("; STEs installed ").dec(counters.installs);
  if (counters.contexts != 0) line.put("; CDs copied ").dec(counters.contexts);
  if (counters.asids_exhausted != 0) line.put("; streams without a host ASID ").dec(counters.asids_exhausted);
  if (counters.syncs != 0) {  // to two decimals; the stores of the driver's probe count, too
    const std::uint64_t hundredths = counters.exits * 100 / counters.syncs;
    line.put("; exits per SYNC ").dec(hundredths / 100).put('.').dec(hundredths / 10 % 10).dec(hundredths % 10);
  }
  print(line);
}

// What it tells the guest.
void print_announced(Vm& vm, unsigned index) {
  const vsmmu::Announced& a = vm.vsmmus[index].device->announced();
  using namespace smmu;
  Line line;
  line.put("vm ").put(vm.name()).put(" vsmmu ").put(vm.config().vsmmus[index].name).put(" announces:");
  line.put(a.idr0.get<IDR0::ASID16>() ? " 16-bit" : " 8-bit").put(" ASIDs");
  line.put(", OAS ").dec(a.oas_bits());
  line.put(a.idr0.get<IDR0::ST_LEVEL>() == StLevel::two_level ? ", two-level" : ", linear").put(" stream table");
  line.put(", queues ").dec(a.cmdq_log2()).put('/').dec(a.evtq_log2());
  const auto feature = [&](bool there, std::string_view name) {
    if (there) line.put(", ").put(name);
  };
  if (a.idr0.get<IDR0::PRI>()) line.put('/').dec(a.priq_log2());
  feature(a.idr3.get<IDR3::RIL>(), "RIL");
  feature(a.idr0.get<IDR0::MSI>(), "MSI");
  feature(a.idr0.get<IDR0::SEV>(), "SEV");
  feature(a.idr0.get<IDR0::HTTU>() != Htt::none, "HTTU");
  feature(a.idr0.get<IDR0::STALL_MODEL>() != StallModel::terminate_only, "stall");
  feature(a.idr0.get<IDR0::ATS>(), "ATS");
  feature(a.idr0.get<IDR0::PRI>(), "PRI");
  if (a.ssid_bits() != 0) line.put(", ").dec(a.ssid_bits()).put("-bit SubstreamIDs");
  const VsmmuConfig& config = vm.config().vsmmus[index];
  line.put(config.invalidation == Invalidation::precise ? "; precise invalidation" : "; strict invalidation");
  if (config.no_global_pages) line.put(", no global pages");
  if (config.late_events) line.put(", late events");
  print(line);
}

void print_grants(const Vm& vm) {
  for (const DeviceConfig& device : vm.config().devices) {
    if (device.ats == AtsChoice::none && !device.pasid) continue;
    Line line;
    line.put("vm ").put(vm.name()).put(" device ").put(device.name).put(" is granted:");
    if (device.ats != AtsChoice::none) line.put(device.ats == AtsChoice::full ? " full ATS" : " split-stage ATS");
    if (device.pri) line.put(" PRI");
    if (device.pasid) line.put(" PASID");
    print(line);
  }
}

void print_smmu(SmmuInstance& smmu) {
  const CommandQueue::Counters counters = smmu.command_counters();
  Line line;
  line.put(smmu.name()).put(": commands ").dec(counters.commands).put("; syncs ").dec(counters.syncs);
  if (counters.errors != 0) line.put("; command errors ").dec(counters.errors);
  line.put("; events ").dec(smmu.events()).put("; VMIDs in use ").dec(smmu.vmids().in_use());
  line.put(" of ").dec(smmu.vmids().capacity());
  print(line);
}

}  // namespace

void print_summary() {
  log("summary");
  for (unsigned id = 0; id < vm_count(); ++id) {
    print_vm(vm(id));
    print_vcpus(vm(id));
    print_tables(vm(id));
    for (unsigned i = 0; i < vm(id).vsmmu_count; ++i) {
      print_vsmmu(vm(id), i);
      print_announced(vm(id), i);
      print_backings(vm(id), i);
    }
    print_grants(vm(id));
  }
  for (unsigned i = 0; i < machine_smmu_count(); ++i)
    if (SmmuInstance* smmu = machine_smmu(i); smmu != nullptr) print_smmu(*smmu);
  log_machine_errata();
  if (machine_ticks() != 0)
    log("ticks of the clock for late work: %llu", static_cast<unsigned long long>(machine_ticks()));
}

}  // namespace weir
