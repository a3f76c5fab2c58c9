// 3.18, 7.5.1: interrupts.
#include <array>

#include "tests/conformance/cases/cases.hpp"
#include "tests/conformance/driver.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

bool arises(Driver& d, Wire wire, unsigned before) {
  return d.soon([&] { return d.rig.interrupts(wire) > before; });
}
void fault(Driver& d, unsigned i = 0) { d.expect_aborts(0, kIova + i * kPage4K, "DMA to nothing mapped"); }
// One word of 32 bits, as an MSI's target.
std::uint32_t word_at(Driver& d, std::uint64_t at) {
  return static_cast<std::uint32_t>(d.rig.load(at & ~std::uint64_t{7}) >> (at % 8 * 8));
}

constexpr auto kCases = std::to_array<Case>({
    {"3.18.2", "irq-eventq", "The event queue's interrupt comes when it stops being empty", Need::wires,
     [](Run& r) {
       Driver d{r};
       if (!d.start() || !d.set_irqs(IRQ_CTRL::EVENTQ_IRQEN::mask)) return;
       Space space{d, kAsid};
       if (!d.install(0, space.ste())) return;
       const unsigned before = r.rig.interrupts(Wire::evtq);
       fault(d);
       r.expect(arises(d, Wire::evtq, before), "no interrupt");
     }},
    {"3.18.2", "irq-eventq-again", "And again after the queue was emptied", Need::wires,
     [](Run& r) {
       Driver d{r};
       if (!d.start() || !d.set_irqs(IRQ_CTRL::EVENTQ_IRQEN::mask)) return;
       Space space{d, kAsid};
       if (!d.install(0, space.ste())) return;
       for (unsigned i = 0; i < 3; ++i) {
         const unsigned before = r.rig.interrupts(Wire::evtq);
         fault(d, i);
         if (!r.expect(arises(d, Wire::evtq, before), "no interrupt")) return;
         d.sync();
         d.drop_events();
       }
     }},
    {"6.3.16", "irq-eventq-disabled", "No interrupt of events while EVENTQ_IRQEN is 0, and none for them later",
     Need::wires,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       Space space{d, kAsid};
       if (!d.install(0, space.ste())) return;
       fault(d);
       d.sync();
       r.rig.settle();
       r.equal(r.rig.interrupts(Wire::evtq), 0, "interrupts with EVENTQ_IRQEN == 0");
       if (!d.set_irqs(IRQ_CTRL::EVENTQ_IRQEN::mask)) return;
       r.rig.settle();
       r.equal(r.rig.interrupts(Wire::evtq), 0, "interrupts for what was before EVENTQ_IRQEN");
     }},
    {"7.5.1", "irq-gerror", "An error that becomes active raises the gerror interrupt", Need::wires,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false}) || !d.set_irqs(IRQ_CTRL::GERROR_IRQEN::mask)) return;
       const unsigned before = r.rig.interrupts(Wire::gerror);
       d.queue(Command{});
       d.kick();
       r.expect(arises(d, Wire::gerror, before), "no interrupt");
     }},
    {"7.5.1", "irq-gerror-disabled", "No interrupt of errors while GERROR_IRQEN is 0", Need::wires,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       d.queue(Command{});
       d.kick();
       r.expect(d.soon([&] { return d.command_error(); }), "no error");
       r.rig.settle();
       r.equal(r.rig.interrupts(Wire::gerror), 0, "interrupts");
       if (!d.set_irqs(IRQ_CTRL::GERROR_IRQEN::mask)) return;
       r.rig.settle();
       r.equal(r.rig.interrupts(Wire::gerror), 0, "interrupts for what was before GERROR_IRQEN");
     }},
    {"3.18.2", "irq-sync-always", "No register disables CMD_SYNC's interrupt", Need::wires,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false}) || !d.set_irqs(0)) return;
       for (int i = 0; i < 3; ++i) {
         const unsigned before = r.rig.interrupts(Wire::cmdq_sync);
         d.queue(sync_irq(PA{}, 0));
         d.kick();
         if (!r.expect(arises(d, Wire::cmdq_sync, before), "no interrupt")) return;
       }
     }},
    {"3.18.1", "msi-eventq", "An MSI says that the event queue stopped being empty", Need::msi | Need::messages,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const std::uint64_t at = r.rig.allocate(64, 64);
       d.write64(Reg::EVENTQ_IRQ_CFG0, at);
       d.write(Reg::EVENTQ_IRQ_CFG1, 0xabcd'1234);
       d.write(Reg::EVENTQ_IRQ_CFG2,
               IRQ_CFG2{}.set<IRQ_CFG2::MemAttr>(MemAttr::normal_wb).set<IRQ_CFG2::SH>(Shareability::inner).words[0]);
       if (!d.set_irqs(IRQ_CTRL::EVENTQ_IRQEN::mask)) return;
       Space space{d, kAsid};
       if (!d.install(0, space.ste())) return;
       fault(d);
       r.expect(d.soon([&] { return word_at(d, at) == 0xabcd'1234; }), "no MSI");
       r.equal(word_at(d, at + 4), 0, "the word behind the MSI");
     }},
    {"3.18.1", "msi-gerror", "An MSI says that an error became active", Need::msi | Need::messages,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const std::uint64_t at = r.rig.allocate(64, 64);
       d.write64(Reg::GERROR_IRQ_CFG0, at + 4);
       d.write(Reg::GERROR_IRQ_CFG1, 0x77);
       if (!d.set_irqs(IRQ_CTRL::GERROR_IRQEN::mask)) return;
       d.queue(Command{});
       d.kick();
       r.expect(d.soon([&] { return word_at(d, at + 4) == 0x77; }), "no MSI");
     }},
    {"3.18.1", "msi-address-0", "An MSI address of 0 sends none", Need::msi | Need::wires,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       d.write64(Reg::EVENTQ_IRQ_CFG0, 0);
       d.write(Reg::EVENTQ_IRQ_CFG1, 0x77);
       const std::uint32_t gerror = d.read(Reg::GERROR);
       if (!d.set_irqs(IRQ_CTRL::EVENTQ_IRQEN::mask)) return;
       Space space{d, kAsid};
       if (!d.install(0, space.ste())) return;
       fault(d);
       r.expect(arises(d, Wire::evtq, 0), "no wired interrupt");
       r.equal(d.read(Reg::GERROR), gerror, "GERROR");
     }},
    {"7.5", "msi-eventq-abort", "An MSI of the event queue that aborts activates MSI_EVENTQ_ABT_ERR", Need::msi,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       d.write64(Reg::EVENTQ_IRQ_CFG0, r.rig.nowhere());
       const std::uint32_t gerror = d.read(Reg::GERROR);
       if (!d.set_irqs(IRQ_CTRL::EVENTQ_IRQEN::mask)) return;
       Space space{d, kAsid};
       if (!d.install(0, space.ste())) return;
       fault(d);
       r.expect(d.soon([&] { return d.read(Reg::GERROR) != gerror; }), "GERROR does not change");
       r.equal(d.read(Reg::GERROR) ^ gerror, GERROR::MSI_EVENTQ_ABT_ERR::mask, "change of GERROR");
     }},
    {"7.5.1", "msi-gerror-abort", "An MSI of GERROR that aborts activates MSI_GERROR_ABT_ERR and no interrupt of that",
     Need::msi,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       d.write64(Reg::GERROR_IRQ_CFG0, r.rig.nowhere());
       const std::uint32_t gerror = d.read(Reg::GERROR);
       if (!d.set_irqs(IRQ_CTRL::GERROR_IRQEN::mask)) return;
       d.queue(Command{});
       d.kick();
       constexpr auto kBoth = GERROR::MSI_GERROR_ABT_ERR::mask | GERROR::CMDQ_ERR::mask;
       r.expect(d.soon([&] { return (d.read(Reg::GERROR) ^ gerror) == kBoth; }), "not both errors");
     }},
    {"7.5",
     "gerror-once",
     "An error that is active already is not toggled back",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.eventq = false, .enable = false})) return;
       const std::uint32_t before = d.read(Reg::GERROR);
       d.write64(Reg::EVENTQ_BASE,
                 EVENTQ_BASE{}.set<EVENTQ_BASE::ADDR>(r.rig.nowhere()).set<EVENTQ_BASE::LOG2SIZE>(4).words[0]);
       if (!d.set_cr0(d.cr0() | CR0::EVENTQEN::mask | CR0::SMMUEN::mask)) return;
       Space space{d, kAsid};
       if (!d.install(0, space.ste())) return;
       for (unsigned i = 0; i < 4; ++i) fault(d, i);
       d.sync();
       r.equal(d.read(Reg::GERROR) ^ before, GERROR::EVENTQ_ABT_ERR::mask, "change of GERROR");
     }},
});

}  // namespace

std::span<const Case> interrupt_cases() { return kCases; }

}  // namespace weir::conformance
