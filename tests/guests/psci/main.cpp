// PSCI by HVC: a second CPU on and off again, states, wrong arguments.
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/psci.hpp"
#include "tests/guests/bare/report.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "psci";

namespace weir::guest {
namespace {

enum Affinity : std::int64_t { on = 0, off = 1, pending = 2 };

constinit volatile std::uint64_t seen_argument = 0;
constinit volatile std::uint64_t seen_mpidr = 0;
constinit volatile std::uint64_t seen_offset = 0;
constinit volatile bool leave = false;

// How far the virtual counter is behind the physical one; read one after the other, so a little more.
std::uint64_t counter_offset() {
  const std::uint64_t virtual_counter = WEIR_READ_SYSREG("cntvct_el0");
  isb();
  return WEIR_READ_SYSREG("cntpct_el0") - virtual_counter;
}

void second(std::uint64_t argument) {
  seen_mpidr = WEIR_READ_SYSREG("mpidr_el1") & 0xff'00ff'ffff;
  seen_offset = counter_offset();
  barrier();
  seen_argument = argument;
  while (!leave) {
  }
  hvc(psci::kCpuOff);
  seen_argument = ~std::uint64_t{0};  // CPU_OFF came back
  for (;;) {
  }
}

std::int64_t call(std::uint64_t f, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0) {
  return psci::value(hvc(f, a, b, c));
}
void expect_value(std::int64_t got, std::int64_t expected, std::string_view what) {
  expect_equal(static_cast<std::uint64_t>(got), static_cast<std::uint64_t>(expected), what);
}
template <typename Fn>
bool soon(Fn&& done) {
  const std::uint64_t until = now_us() + 5'000'000;
  while (!done())
    if (now_us() > until) return false;
  return true;
}

void check_calls() {
  check("calls");
  const std::int64_t version = call(psci::kVersion);
  expect(version >= 0x1'0000, "PSCI_VERSION", static_cast<std::uint64_t>(version));
  expect_value(call(psci::kMigrateInfoType), 2, "MIGRATE_INFO_TYPE");
  for (const std::uint32_t f : {psci::kCpuOn, psci::kCpuOff, psci::kAffinityInfo, psci::kSystemOff, psci::kCpuSuspend})
    expect_value(call(psci::kFeatures, f), 0, "PSCI_FEATURES");
  expect_value(call(psci::kFeatures, 0x8400'ffff), psci::kNotSupported, "PSCI_FEATURES of nothing");
  expect_value(call(0x8400'1234), psci::kNotSupported, "an unknown function");
}

void check_arguments(std::uint64_t mpidr) {
  check("arguments");
  const std::uint64_t self = WEIR_READ_SYSREG("mpidr_el1") & 0xff'00ff'ffff;
  const std::uint64_t entry = machine().ram + 0x100'0000;
  expect_value(call(psci::kCpuOn, self, entry), psci::kAlreadyOn, "CPU_ON of this CPU");
  expect_value(call(psci::kCpuOn, 0xff'00ff'ffff, entry), psci::kInvalidParameters, "CPU_ON of no CPU");
  expect_value(call(psci::kCpuOn, 0x77, entry), psci::kInvalidParameters, "CPU_ON of no CPU");
  expect_value(call(psci::kAffinityInfo, 0x77, 0), psci::kInvalidParameters, "AFFINITY_INFO of no CPU");
  expect_value(call(psci::kAffinityInfo, self, 0), on, "AFFINITY_INFO of this CPU");
  expect_value(call(psci::kAffinityInfo, mpidr, 0), off, "AFFINITY_INFO of the second CPU");
  if (machine().has_option("bare")) return;  // QEMU starts a CPU anywhere
  for (const std::uint64_t bad :
       {std::uint64_t{0}, machine().uart, machine().ram + machine().ram_bytes, ~std::uint64_t{3}}) {
    const std::int64_t got = call(psci::kCpuOn, mpidr, bad);
    expect(got == psci::kInvalidAddress || got == psci::kInvalidParameters, "CPU_ON out of RAM", bad,
           static_cast<std::uint64_t>(got));
  }
  expect_value(call(psci::kAffinityInfo, mpidr, 0), off, "AFFINITY_INFO of the second CPU");
}

// The virtual counter starts with the VM, and is the same for all of its CPUs (as far as two reads tell).
void check_counter() {
  check("counter");
  const std::uint64_t second = WEIR_READ_SYSREG("cntfrq_el0");
  const std::uint64_t offset = counter_offset();
  if (!machine().has_option("bare")) expect(offset > second / 1000, "the virtual counter is the physical one", offset);
  expect(offset < seen_offset + second && seen_offset < offset + second, "two CPUs' counters differ", offset,
         seen_offset);
}

void check_second(std::uint64_t mpidr, std::uint64_t argument) {
  check("second-cpu");
  leave = false;
  seen_argument = 0;
  expect_value(start_cpu(mpidr, second, argument), psci::kSuccess, "CPU_ON");
  if (!expect(soon([&] { return seen_argument == argument; }), "the second CPU does not come up", seen_argument))
    return;
  expect_equal(seen_mpidr, mpidr, "MPIDR_EL1 of the second CPU");
  expect_value(call(psci::kAffinityInfo, mpidr, 0), on, "AFFINITY_INFO of a running CPU");
  expect_value(call(psci::kCpuOn, mpidr, machine().ram + 0x100'0000), psci::kAlreadyOn, "CPU_ON of a running CPU");
  leave = true;
  expect(soon([&] { return call(psci::kAffinityInfo, mpidr, 0) == off; }), "the second CPU does not go off");
  expect_equal(seen_argument, argument, "CPU_OFF returned");
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  check("cpus");
  if (!expect(machine().cpus >= 2, "this needs two CPUs", machine().cpus)) return;
  const std::uint64_t second_mpidr = 1;
  check_calls();
  check_arguments(second_mpidr);
  for (unsigned round = 1; round <= 3; ++round) check_second(second_mpidr, 0x1111'2222'3333'0000 + round);
  check_counter();
}
