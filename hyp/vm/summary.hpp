// What has happened, for the operator: per VM, per vSMMU, per physical SMMU.
#pragma once

namespace weir {

// Prints the summary to the log. Exact once all VMs have stopped, a snapshot before that.
void print_summary();

}  // namespace weir
