#include "hyp/cpu/machine_errata.hpp"

#include "hyp/arch/pcpu.hpp"
#include "hyp/log/log.hpp"

namespace weir {
namespace {

constinit Errata found;  // written before VMs run

unsigned pcpus_with(const CpuErratum& row) {
  unsigned count = 0;
  for (unsigned i = 0; i < pcpu_count(); ++i) count += pcpu(i).online && row.matches(Midr::of(pcpu(i).midr)) ? 1 : 0;
  return count;
}

}  // namespace

Errata machine_errata() { return found; }

void find_machine_errata() {
  for (const CpuErratum& row : cpu_errata())
    if (pcpus_with(row) != 0) found.add(row.erratum);
}

void log_machine_errata() {
  for (const CpuErratum& row : cpu_errata()) {
    const unsigned pcpus = pcpus_with(row);
    if (pcpus != 0) log("erratum %s of %s (%u CPUs): %s", row.number, row.cpu, pcpus, remedy(row.erratum));
  }
}

}  // namespace weir
