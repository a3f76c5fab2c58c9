// The GIC with interrupts masked and taken by hand: more pending, and more active, than there are list registers; split
// deactivation, also by another CPU; another CPU's interrupts; two groups; the timer.
#include "tests/guests/bare/gic.hpp"

#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/psci.hpp"
#include "tests/guests/bare/report.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "gic";

namespace weir::guest {
namespace {

constexpr std::uint32_t kSpurious = 1023;
constexpr std::uint64_t kRedistributorBytes = 0x2'0000, kSgiFrame = 0x1'0000;
enum Register : std::uint64_t {
  kIgroupr = 0x80,
  kIsenabler = 0x100,
  kIcenabler = 0x180,
  kIspendr = 0x200,
  kIcpendr = 0x280,
  kIsactiver = 0x300,
  kIcactiver = 0x380,
  kIpriorityr = 0x400,
  kIrouter = 0x6000,
};
constexpr unsigned kSgis = 16, kFirstSpi = 32, kSpi = 100, kTimer = 27;
constexpr unsigned kDepth = 14;  // SGI n has priority 0xe0 - 16 * n: each preempts the one before

std::uint64_t frame(unsigned intid, unsigned cpu = 0) {
  return intid < kFirstSpi ? machine().gicr + cpu * kRedistributorBytes + kSgiFrame : machine().gicd;
}
std::uint32_t bit(unsigned intid) { return std::uint32_t{1} << intid % 32; }
void set(Register array, unsigned intid) { store32(frame(intid) + array + intid / 32 * 4, bit(intid)), barrier(); }
bool get(Register array, unsigned intid, unsigned cpu = 0) {
  return (load32(frame(intid, cpu) + array + intid / 32 * 4) & bit(intid)) != 0;
}

std::uint32_t ack(unsigned group = 1) {
  const std::uint64_t intid = group == 1 ? WEIR_READ_SYSREG("S3_0_C12_C12_0")  // ICC_IAR1_EL1
                                         : WEIR_READ_SYSREG("S3_0_C12_C8_0");  // ICC_IAR0_EL1
  barrier();
  return static_cast<std::uint32_t>(intid);
}
void eoi(std::uint32_t intid) {
  WEIR_WRITE_SYSREG("S3_0_C12_C12_1", intid);
  isb();
}  // ICC_EOIR1_EL1
void deactivate(std::uint32_t intid) {
  WEIR_WRITE_SYSREG("S3_0_C12_C11_1", intid);
  isb();
}  // ICC_DIR_EL1
void split(bool on) {
  WEIR_WRITE_SYSREG("S3_0_C12_C12_4", on ? 2U : 0U);
  isb();
}  // ICC_CTLR_EL1.EOImode

// An interrupt that is on its way to this CPU arrives after a while.
std::uint32_t ack_soon(unsigned group = 1) {
  const std::uint64_t until = now_us() + 2'000'000;
  for (;;) {
    const std::uint32_t intid = ack(group);
    if (intid != kSpurious || now_us() > until) return intid;
  }
}

void init() {
  gic::init();
  WEIR_WRITE_SYSREG("S3_0_C12_C12_3", 0);  // ICC_BPR1_EL1: priorities preempt each other as finely as they can
  isb();
  for (unsigned n = 0; n < kSgis; ++n) {
    gic::enable(n);
    store8(frame(n) + kIpriorityr + n, static_cast<std::uint8_t>(0xe0 - 16 * n));
  }
  barrier();
}

void check_overflow() {
  check("overflow");
  for (unsigned round = 0; round < 3; ++round) {
    for (unsigned n = 0; n < kDepth; ++n) gic::send_sgi(n);
    for (unsigned n = kDepth; n-- > 0;) {
      const std::uint32_t intid = ack_soon();
      expect_equal(intid, n, "the most urgent one first");
      expect(get(kIsactiver, n), "is active", n);
      eoi(intid);
    }
    expect_equal(ack(), kSpurious, "nothing is left");
  }
}

void nest() {
  for (unsigned n = 0; n < kDepth; ++n) {
    gic::send_sgi(n);
    expect_equal(ack_soon(), n, "preempts");
  }
  for (unsigned n = 0; n < kDepth; ++n) expect(get(kIsactiver, n), "is active", n);
}

void check_nesting() {
  check("nesting");
  nest();
  gic::send_sgi(0);  // active: pending again when it is done
  for (unsigned n = kDepth; n-- > 0;) {
    eoi(n);
    for (unsigned i = 0; i < kDepth; ++i) expect(get(kIsactiver, i) == (i < n), "active", n, i);
  }
  expect_equal(ack_soon(), 0, "pending while it was active");
  eoi(0);
  expect_equal(ack(), kSpurious, "nothing is left");
}

void check_split() {
  check("split");
  split(true);
  nest();
  for (unsigned n = kDepth; n-- > 0;) eoi(n);
  for (unsigned n = 0; n < kDepth; ++n) expect(get(kIsactiver, n), "still active", n);
  for (unsigned n = 0; n < kDepth; ++n) {
    deactivate(n);
    expect(!get(kIsactiver, n), "deactivated", n);
  }
  split(false);
  expect_equal(ack(), kSpurious, "nothing is left");
}

void check_registers() {
  check("registers");
  gic::set_edge(kSpi);
  gic::enable(kSpi);
  gic::disable(kSpi);
  set(kIspendr, kSpi);
  expect(get(kIspendr, kSpi), "pending");
  expect_equal(ack(), kSpurious, "disabled");
  gic::enable(kSpi);
  expect_equal(ack_soon(), kSpi, "enabled");
  expect(!get(kIspendr, kSpi) && get(kIsactiver, kSpi), "active, not pending");
  set(kIcactiver, kSpi);
  expect(!get(kIsactiver, kSpi), "deactivated by register");
  eoi(kSpi);
  set(kIspendr, kSpi);
  set(kIcpendr, kSpi);
  expect_equal(ack(), kSpurious, "not pending any more");
}

constinit volatile std::uint32_t seen = 0;
constinit volatile unsigned go = 0;

void init_second() {
  const std::uint64_t rd = machine().gicr + kRedistributorBytes;
  store32(rd + 0x14, 0);  // GICR_WAKER
  WEIR_WRITE_SYSREG("S3_0_C12_C12_5", 7);
  isb();
  WEIR_WRITE_SYSREG("S3_0_C4_C6_0", 0xff);
  WEIR_WRITE_SYSREG("S3_0_C12_C12_7", 1);
  isb();
}

void second(std::uint64_t) {
  init_second();
  go = 1;
  const std::uint32_t intid = ack_soon();
  seen = intid;
  while (go != 2) {
  }
  eoi(intid);
  go = 3;
  while (go != 4) {
  }
  hvc(psci::kCpuOff);
}

template <typename Fn>
bool soon(Fn&& done) {
  const std::uint64_t until = now_us() + 5'000'000;
  while (!done())
    if (now_us() > until) return false;
  return true;
}

// The second CPU has seen `value`, and is off.
void end_second(unsigned value) {
  go = value;
  expect(soon([] { return psci::value(hvc(psci::kAffinityInfo, 1)) == 1; }), "the second CPU does not go off");
}

// State of an SPI that another CPU has in its list registers.
void check_other_cpu() {
  check("other-cpu");
  seen = 0;
  go = 0;
  expect(start_cpu(1, second, 0) == psci::kSuccess, "CPU_ON");
  if (!expect(soon([] { return go == 1; }), "the second CPU does not come up")) return;
  store64(machine().gicd + kIrouter + std::uint64_t{8} * kSpi, 1);
  set(kIspendr, kSpi);
  expect(soon([] { return seen != 0; }), "does not arrive");
  expect_equal(seen, kSpi, "the second CPU's interrupt");
  expect(get(kIsactiver, kSpi), "active there");
  expect(!get(kIspendr, kSpi), "not pending");
  set(kIspendr, kSpi);
  expect(get(kIspendr, kSpi), "pending again");
  set(kIcpendr, kSpi);
  expect(!get(kIspendr, kSpi), "and not any more");
  expect_equal(ack(), kSpurious, "not here");
  go = 2;
  expect(soon([] { return go == 3; }), "EOI");
  expect(!get(kIsactiver, kSpi), "not active any more");
  gic::disable(kSpi);
  store64(machine().gicd + kIrouter + std::uint64_t{8} * kSpi, 0);
  end_second(4);
}

// An SPI's active state is the distributor's: with split EOI the CPU that deactivates it need not be the one that took it.
void second_drops(std::uint64_t) {
  init_second();
  split(true);
  go = 1;
  seen = ack_soon();
  eoi(seen);  // drops the priority
  go = 2;
  while (go != 3) {
  }
  seen = ack_soon();
  eoi(seen);
  go = 4;
  while (go != 5) {
  }
  hvc(psci::kCpuOff);
}

void check_dir_elsewhere() {
  check("dir-on-another-cpu");
  seen = 0;
  go = 0;
  split(true);
  gic::set_edge(kSpi);
  gic::enable(kSpi);
  expect(start_cpu(1, second_drops, 0) == psci::kSuccess, "CPU_ON");
  if (!expect(soon([] { return go == 1; }), "the second CPU does not come up")) return;
  store64(machine().gicd + kIrouter + std::uint64_t{8} * kSpi, 1);
  set(kIspendr, kSpi);
  if (!expect(soon([] { return go == 2; }), "does not arrive")) return;
  expect_equal(seen, kSpi, "the second CPU's interrupt");
  expect(get(kIsactiver, kSpi), "active there");
  set(kIspendr, kSpi);
  deactivate(kSpi);
  expect(!get(kIsactiver, kSpi), "deactivated from here");
  go = 3;
  expect(soon([] { return go == 4; }), "does not come again");
  expect_equal(seen, kSpi, "pending meanwhile, and taken");
  expect(get(kIsactiver, kSpi), "active again");
  deactivate(kSpi);
  expect(!get(kIsactiver, kSpi), "deactivated from here");
  end_second(5);
  gic::disable(kSpi);
  store64(machine().gicd + kIrouter + std::uint64_t{8} * kSpi, 0);
  split(false);
}

// More interrupts of two groups than there are list registers, and the CPU interface without the more urgent group.
void check_groups() {
  check("groups");
  const std::uint64_t groups = frame(0) + kIgroupr;
  const std::uint32_t before = load32(groups);
  store32(groups, before & ~std::uint32_t{3});  // SGI 0 and 1: the least urgent two
  WEIR_WRITE_SYSREG("S3_0_C12_C12_6", 1);       // ICC_IGRPEN0_EL1
  store32(machine().gicd, load32(machine().gicd) | 1);
  isb();
  for (unsigned n = 2; n-- > 0;) WEIR_WRITE_SYSREG("S3_0_C12_C11_7", std::uint64_t{n} << 24 | 1);  // ICC_SGI0R_EL1
  for (unsigned n = 2; n < kDepth; ++n) gic::send_sgi(n);
  WEIR_WRITE_SYSREG("S3_0_C12_C12_7", 0);  // ICC_IGRPEN1_EL1
  isb();
  for (unsigned n = 2; n-- > 0;) {
    expect_equal(ack_soon(0), n, "the group that is left");
    WEIR_WRITE_SYSREG("S3_0_C12_C8_1", n);  // ICC_EOIR0_EL1
    isb();
  }
  expect_equal(ack(0), kSpurious, "nothing is left of it");
  WEIR_WRITE_SYSREG("S3_0_C12_C12_7", 1);
  isb();
  for (unsigned n = kDepth; n-- > 2;) {
    expect_equal(ack_soon(), n, "the other group again");
    eoi(n);
  }
  expect_equal(ack(), kSpurious, "nothing is left");
  WEIR_WRITE_SYSREG("S3_0_C12_C12_6", 0);
  isb();
  store32(groups, before);
}

void check_timer() {
  check("timer");
  gic::enable(kTimer);
  for (unsigned round = 0; round < 3; ++round) {
    WEIR_WRITE_SYSREG("cntv_tval_el0", 1000);
    WEIR_WRITE_SYSREG("cntv_ctl_el0", 1);
    isb();
    expect_equal(ack_soon(), kTimer, "fires");
    expect(get(kIsactiver, kTimer), "active");
    expect_equal(ack(), kSpurious, "once");
    eoi(kTimer);
    expect_equal(ack_soon(), kTimer, "its level is still there");
    WEIR_WRITE_SYSREG("cntv_ctl_el0", 0);
    isb();
    eoi(kTimer);
    expect_equal(ack(), kSpurious, "quiet");
    expect(!get(kIsactiver, kTimer) && !get(kIspendr, kTimer), "neither active nor pending");
  }
  gic::disable(kTimer);
  WEIR_WRITE_SYSREG("cntv_tval_el0", 0);
  WEIR_WRITE_SYSREG("cntv_ctl_el0", 1);
  isb();
  expect_equal(ack(), kSpurious, "disabled");
  expect(get(kIspendr, kTimer), "pending");
  gic::enable(kTimer);
  expect_equal(ack_soon(), kTimer, "enabled");
  WEIR_WRITE_SYSREG("cntv_ctl_el0", 0);
  isb();
  eoi(kTimer);
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  check("cpus");
  if (!expect(machine().cpus >= 2, "this needs two CPUs", machine().cpus)) return;
  init();
  check_overflow();
  check_nesting();
  check_split();
  check_registers();
  check_other_cpu();
  check_dir_elsewhere();
  if (!machine().has_option("bare")) check_groups();  // QEMU's own GIC lets a disabled group hide the other one
  check_timer();
}
