#include "hyp/vm/summary.hpp"

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/text.hpp"
#include "hyp/log/log.hpp"
#include "hyp/machine/machine.hpp"
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
  line.put("; stage-2 table pages: CPU ").dec(vm.view().page_count()).put(", DMA ").dec(vm_dma_table_pages(vm));
  if (vm_violations(vm) != 0) line.put("; DMA violations ").dec(vm_violations(vm));
  print(line);
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
  line.put("; illegal ").dec(counters.illegal).put("; events ").dec(counters.events);
  if (counters.events_lost != 0) line.put(" (lost ").dec(counters.events_lost).put(")");
  if (counters.stage2_faults != 0) line.put("; stage-2 faults ").dec(counters.stage2_faults);
  line.put("; STEs installed ").dec(counters.installs);
  if (counters.syncs != 0) {  // to two decimals; the stores of the driver's probe count, too
    const std::uint64_t hundredths = counters.exits * 100 / counters.syncs;
    line.put("; exits per SYNC ").dec(hundredths / 100).put('.').dec(hundredths / 10 % 10).dec(hundredths % 10);
  }
  print(line);
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
    for (unsigned i = 0; i < vm(id).vsmmu_count; ++i) print_vsmmu(vm(id), i);
  }
  for (unsigned i = 0; i < machine_smmu_count(); ++i)
    if (SmmuInstance* smmu = machine_smmu(i); smmu != nullptr) print_smmu(*smmu);
}

}  // namespace weir
