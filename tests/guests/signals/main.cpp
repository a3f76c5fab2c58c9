// How a vSMMU tells its guest something: CMD_SYNC with SEV, interrupt and MSI, events and errors by wire and by MSI, to
// memory and to an SPI by message (GICD_SETSPI_NSR); and what becomes of an MSI that nobody takes (IHI 0070, 3.18).
#include <array>

#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/gic.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/pci.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/bare/smmu.hpp"
#include "tests/guests/bare/testdev.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "signals";

namespace weir::guest {
namespace {

using smmu::GERROR;
using smmu::IRQ_CTRL;
using smmu::Reg;

constexpr unsigned kSpi = 200;             // by message
constexpr std::uint64_t kSetSpi = 0x40;    // GICD_SETSPI_NSR
constexpr std::uint64_t kNobody = 0x1000;  // an IPA where nothing is
constexpr std::uint32_t kData = 0x5a5a'0001;

constinit Smmu the_smmu{};
constinit TestDevice device{};
constinit unsigned wires = 0;  // INTID of the event queue's

// Waits up to a second.
template <typename Fn>
bool soon(Fn&& done) {
  const std::uint64_t until = now_us() + 1'000'000;
  while (!done())
    if (now_us() > until) return false;
  return true;
}

std::uint32_t active_errors() { return the_smmu.read(Reg::GERROR) ^ the_smmu.read(Reg::GERRORN); }
void acknowledge_errors() { the_smmu.write(Reg::GERRORN, the_smmu.read(Reg::GERROR)); }

// Interrupts of the three queues' registers, in the order CFG0, CFG1, CFG2.
void set_msi(Reg cfg0, Reg cfg1, Reg cfg2, std::uint64_t to, std::uint32_t data) {
  using smmu::IRQ_CFG2;
  the_smmu.write64(cfg0, to);
  the_smmu.write(cfg1, data);
  the_smmu.write(cfg2, IRQ_CFG2{}
                           .set<IRQ_CFG2::SH>(smmu::Shareability::inner)
                           .set<IRQ_CFG2::MemAttr>(smmu::MemAttr::normal_wb)
                           .words[0]);
}
void set_event_msi(std::uint64_t to, std::uint32_t data) {
  set_msi(Reg::EVENTQ_IRQ_CFG0, Reg::EVENTQ_IRQ_CFG1, Reg::EVENTQ_IRQ_CFG2, to, data);
}
void set_error_msi(std::uint64_t to, std::uint32_t data) {
  set_msi(Reg::GERROR_IRQ_CFG0, Reg::GERROR_IRQ_CFG1, Reg::GERROR_IRQ_CFG2, to, data);
}

bool enable_interrupts(bool on) {
  const std::uint32_t value =
      on ? IRQ_CTRL{}.set<IRQ_CTRL::EVENTQ_IRQEN>(true).set<IRQ_CTRL::GERROR_IRQEN>(true).words[0] : 0;
  the_smmu.write(Reg::IRQ_CTRL, value);
  return expect(soon([&] { return the_smmu.read(Reg::IRQ_CTRLACK) == value; }), "IRQ_CTRLACK");
}

// A fault of the device, which the guest hears of without a command of its own.
void make_event() {
  (void)the_smmu.drop_events();
  (void)device.dma(0x1000, 0);  // its STE is invalid
}

bool find() {
  check("devices");
  const Machine& m = machine();
  if (!expect_equal(m.smmu_count, 1, "number of SMMUs")) return false;
  the_smmu = Smmu{m.smmus[0].base};
  wires = m.smmus[0].intid;
  for (unsigned slot = 1; slot < pci::kSlots; ++slot)
    if (pci::identity(slot) == TestDevice::kIdentity) device = TestDevice{pci::enable(slot)};
  if (!expect(the_smmu.init() && the_smmu.set_enabled(true), "the SMMU does not come up")) return false;
  smmu::IDR0 idr0;
  idr0.words[0] = the_smmu.read(Reg::IDR0);
  return expect(idr0.get<smmu::IDR0::MSI>() && idr0.get<smmu::IDR0::SEV>(), "IDR0: no MSI or no SEV", idr0.words[0]);
}

void check_sync_sev() {
  check("sync-sev");
  for (int i = 0; i < 3; ++i) {
    the_smmu.push(smmu::sync_sev());
    the_smmu.submit();
    const auto done = [] {
      smmu::CMDQ_CONS cons;
      cons.words[0] = the_smmu.read(Reg::CMDQ_CONS);
      return cons.get<smmu::CMDQ_CONS::RD>() == the_smmu.prod();
    };
    while (!done()) asm volatile("wfe");  // for ever, if the event does not come
  }
  expect_equal(active_errors(), 0, "GERROR");
}

void check_sync_interrupt() {
  check("sync-interrupt");
  const unsigned before = interrupts(wires + 2);
  the_smmu.push(smmu::sync_irq(PA{}, 0));
  the_smmu.submit();
  expect(the_smmu.wait_consumed(), "SYNC");
  expect(soon([&] { return interrupts(wires + 2) > before; }), "no interrupt of SYNC");
}

void check_sync_msi() {
  check("sync-msi");
  const std::uint64_t page = allocate(0x1000);
  for (std::uint32_t i = 1; i <= 3; ++i) {
    the_smmu.push(smmu::sync_irq(PA{page + 4 * i}, kData + i));
    the_smmu.submit();
    expect(soon([&] { return load32(page + 4 * i) == kData + i; }), "no MSI of SYNC in memory", i);
  }
  expect(the_smmu.wait_consumed(), "SYNC");
  expect_equal(load32(page), 0, "the word before");
  expect_equal(load32(page + 16), 0, "the word behind");
  // What Linux does: the MSI goes to the command's own place in the queue.
  const auto at = reinterpret_cast<std::uint64_t>(the_smmu.slot(the_smmu.prod()));
  the_smmu.push(smmu::sync_irq(PA{at}, 0));
  the_smmu.submit();
  expect(soon([&] { return load32(at) == 0; }), "no MSI of SYNC in the queue");
  expect(the_smmu.wait_consumed(), "SYNC");

  check("sync-msi-abort");
  the_smmu.push(smmu::sync_irq(PA{kNobody}, kData));
  expect(the_smmu.sync(), "the queue after an MSI that aborts");
  expect_equal(active_errors(), GERROR::MSI_CMDQ_ABT_ERR::mask, "GERROR");
  acknowledge_errors();
}

void check_event_msi() {
  check("event-wire");
  set_event_msi(0, 0);
  if (!enable_interrupts(true)) return;
  const unsigned wired = interrupts(wires);
  make_event();
  expect(soon([&] { return interrupts(wires) > wired; }), "no wired interrupt of an event");

  check("event-msi-memory");
  enable_interrupts(false);
  const std::uint64_t page = allocate(0x1000);
  set_event_msi(page + 8, kData);
  enable_interrupts(true);
  make_event();
  expect(soon([&] { return load32(page + 8) == kData; }), "no MSI of an event in memory", load32(page + 8));
  expect_equal(load32(page + 4) | load32(page + 12), 0, "the words around");

  check("event-msi-spi");
  enable_interrupts(false);
  set_event_msi(machine().gicd + kSetSpi, kSpi);
  enable_interrupts(true);
  for (unsigned i = 0; i < 3; ++i) {
    const unsigned before = interrupts(kSpi);
    make_event();
    expect(soon([&] { return interrupts(kSpi) > before; }), "no SPI of an event's MSI", i);
  }

  check("event-msi-abort");
  // Registers of devices take no message, not even others of the GIC's.
  for (const std::uint64_t to : {kNobody, machine().gicd + kSetSpi + 4, machine().uart, machine().smmus[0].base,
                                 machine().ram + machine().ram_bytes}) {
    enable_interrupts(false);
    set_event_msi(to, kSpi);
    enable_interrupts(true);
    const unsigned errors = interrupts(wires + 3);
    make_event();
    expect(soon([&] { return active_errors() == GERROR::MSI_EVENTQ_ABT_ERR::mask; }), "GERROR", to, active_errors());
    expect(soon([&] { return interrupts(wires + 3) > errors; }), "no interrupt of GERROR", to);
    acknowledge_errors();
  }
  enable_interrupts(false);
  set_event_msi(0, 0);
}

void check_error_msi() {
  check("gerror-msi-spi");
  set_error_msi(machine().gicd + kSetSpi, kSpi);
  enable_interrupts(true);
  const unsigned before = interrupts(kSpi);
  the_smmu.push({});
  the_smmu.submit();  // opcode 0 is illegal
  expect(soon([&] { return interrupts(kSpi) > before; }), "no SPI of a GERROR MSI");
  expect_equal(active_errors(), GERROR::CMDQ_ERR::mask, "GERROR");
  auto* bad = reinterpret_cast<volatile std::uint64_t*>(the_smmu.slot(the_smmu.prod() - 1));
  bad[0] = smmu::sync_none().words[0];
  barrier();
  acknowledge_errors();
  expect(the_smmu.sync(), "the queue does not go on");
  enable_interrupts(false);
  set_error_msi(0, 0);
}

void check_spi_message() {
  check("setspi");
  const unsigned before = interrupts(kSpi);
  store32(machine().gicd + kSetSpi, kSpi);
  expect(soon([&] { return interrupts(kSpi) == before + 1; }), "no SPI of a store by the CPU");
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  if (!find()) return;
  gic::init();
  for (const unsigned intid : {wires, wires + 2, wires + 3, kSpi}) {
    gic::set_edge(intid);
    gic::enable(intid);
  }
  unmask_interrupts();
  check_sync_sev();
  check_sync_interrupt();
  check_sync_msi();
  check_event_msi();
  check_error_msi();
  check_spi_message();
  mask_interrupts();
}
