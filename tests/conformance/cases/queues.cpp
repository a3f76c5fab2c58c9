// 3.5, 7.2, 7.4: queues.
#include <array>

#include "tests/conformance/cases/cases.hpp"
#include "tests/conformance/driver.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

// A stream whose every transaction records a fault of its own, so that no two are merged (7.3.1).
bool faulty(Driver& d, Space& space) { return d.install(0, space.ste()); }
std::uint64_t iova_of(unsigned i) { return kIova + i * kPage4K; }

std::uint32_t eventq_index(Driver& d) { return d.get<EVENTQ_PROD>(Reg::EVENTQ_PROD).get<EVENTQ_PROD::WR>(); }

constexpr auto kCases = std::to_array<Case>({
    {"3.5.1",
     "cmdq-wraps",
     "The command queue wraps: three times its size of commands",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.cmdq_log2 = 3, .enable = false})) return;
       for (int i = 0; i < 12; ++i)
         if (!d.issue({tlbi_nsnh_all()})) return;
     }},
    {"3.5.1",
     "cmdq-full",
     "As many commands as the queue has entries are consumed at once",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.cmdq_log2 = 3, .enable = false})) return;
       for (int round = 0; round < 3; ++round) {
         for (int i = 0; i < 7; ++i) d.queue(tlbi_nsnh_all());
         if (!d.sync()) return;
       }
     }},
    {"3.5.1",
     "cmdq-one-entry",
     "A command queue of one entry works",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.cmdq_log2 = 2, .enable = false})) return;
       const std::uint32_t on = d.cr0();
       if (!d.set_cr0(on & ~static_cast<std::uint32_t>(CR0::CMDQEN::mask))) return;
       d.write64(Reg::CMDQ_BASE, CMDQ_BASE{}.set<CMDQ_BASE::ADDR>(d.cmdq()).words[0]);
       d.write(Reg::CMDQ_PROD, 0);
       d.write(Reg::CMDQ_CONS, 0);
       if (!d.set_cr0(on)) return;
       d.put(d.cmdq(), Command{sync_none()});
       for (std::uint32_t i = 1; i <= 5; ++i) {
         d.write(Reg::CMDQ_PROD, i & 1);
         if (!d.soon([&] { return d.field<CMDQ_CONS::RD>(Reg::CMDQ_CONS) == (i & 1); })) {
           r.equal(d.read(Reg::CMDQ_CONS), i & 1, "CMDQ_CONS");
           return;
         }
       }
     }},
    {"3.5.1",
     "cmdq-no-more",
     "Commands beyond CMDQ_PROD are not executed",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       d.put(d.slot(d.prod() + 1), Command{});  // illegal
       d.sync();
       r.rig.settle();
       r.expect(!d.command_error(), "a command beyond CMDQ_PROD is executed");
     }},
    {"6.3.26",
     "cmdq-any-start",
     "Consumption starts at the index that CMDQ_CONS was set to",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const std::uint32_t on = d.cr0();
       if (!d.set_cr0(on & ~static_cast<std::uint32_t>(CR0::CMDQEN::mask))) return;
       d.write(Reg::CMDQ_PROD, 61);  // of 32: index 29, wrapped
       d.write(Reg::CMDQ_CONS, 61);
       d.set_prod(61);
       if (!d.set_cr0(on)) return;
       for (int i = 0; i < 4; ++i)
         if (!d.issue({cfgi_all()})) return;
     }},
    {"3.5.2",
     "event-visible",
     "An event is in memory when EVENTQ_PROD says so",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       Space space{d, kAsid};
       if (!faulty(d, space)) return;
       for (unsigned i = 0; i < 4; ++i) d.expect_aborts(0, iova_of(i), "DMA to nothing mapped");
       d.sync();
       for (unsigned i = 0; i < 4; ++i) {
         const auto e = d.next_event();
         if (!r.expect(e.has_value(), "an event is missing")) return;
         r.equal(static_cast<unsigned>(e->id()), static_cast<unsigned>(EventId::F_TRANSLATION), "event");
       }
     }},
    {"3.5.1",
     "eventq-wraps",
     "The event queue wraps",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.eventq_log2 = 2})) return;
       Space space{d, kAsid};
       if (!faulty(d, space)) return;
       for (unsigned i = 0; i < 11; ++i) {
         const auto e = d.expect_fault(0, iova_of(i), EventId::F_TRANSLATION);
         if (!e) return;
         if (!r.equal(e->as<FTranslation>()->get<FTranslation::InputAddr>().value, iova_of(i), "InputAddr")) return;
       }
     }},
    {"7.4",
     "eventq-overflow",
     "A full event queue: records are lost, OVFLG toggles once, no GERROR",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.eventq_log2 = 2})) return;
       Space space{d, kAsid};
       if (!faulty(d, space)) return;
       const std::uint32_t gerror = d.read(Reg::GERROR);
       for (unsigned i = 0; i < 7; ++i) d.expect_aborts(0, iova_of(i), "DMA to nothing mapped");
       d.sync();
       const auto prod = d.get<EVENTQ_PROD>(Reg::EVENTQ_PROD);
       r.expect(prod.get<EVENTQ_PROD::OVFLG>(), "EVENTQ_PROD.OVFLG is 0");
       r.equal(prod.get<EVENTQ_PROD::WR>(), 4, "EVENTQ_PROD.WR");
       r.equal(d.read(Reg::GERROR), gerror, "GERROR");
       for (unsigned i = 0; i < 4; ++i) {
         const auto e = d.next_event();
         if (!r.expect(e.has_value(), "an event is missing")) return;
         r.equal(e->as<FTranslation>().value_or(FTranslation{}).get<FTranslation::InputAddr>().value, iova_of(i),
                 "InputAddr of the records before the overflow");
       }
     }},
    {"7.4",
     "eventq-full-no-overflow",
     "A queue that is just full has not overflowed",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.eventq_log2 = 2})) return;
       Space space{d, kAsid};
       if (!faulty(d, space)) return;
       for (unsigned i = 0; i < 4; ++i) d.expect_aborts(0, iova_of(i), "DMA to nothing mapped");
       d.sync();
       const auto prod = d.get<EVENTQ_PROD>(Reg::EVENTQ_PROD);
       r.expect(!prod.get<EVENTQ_PROD::OVFLG>(), "EVENTQ_PROD.OVFLG is 1");
       r.equal(prod.get<EVENTQ_PROD::WR>(), 4, "EVENTQ_PROD.WR");
     }},
    {"7.4",
     "eventq-overflow-twice",
     "OVFLG does not toggle again before it is acknowledged, and does after",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.eventq_log2 = 1})) return;
       Space space{d, kAsid};
       if (!faulty(d, space)) return;
       unsigned n = 0;
       const auto overflow = [&] {
         for (unsigned i = 0; i < 4; ++i) d.expect_aborts(0, iova_of(n++), "DMA to nothing mapped");
         d.sync();
         return d.get<EVENTQ_PROD>(Reg::EVENTQ_PROD).get<EVENTQ_PROD::OVFLG>();
       };
       if (!r.expect(overflow(), "no overflow")) return;
       // Room, but no acknowledge.
       d.write(Reg::EVENTQ_CONS, 2);
       r.expect(overflow(), "OVFLG toggled while it was not acknowledged");
       d.write(Reg::EVENTQ_CONS, eventq_index(d) | static_cast<std::uint32_t>(EVENTQ_CONS::OVACKFLG::mask));
       r.expect(!overflow(), "OVFLG does not toggle back on the next overflow");
     }},
    {"7.4",
     "eventq-goes-on",
     "Events are recorded again once there is room",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.eventq_log2 = 1})) return;
       Space space{d, kAsid};
       if (!faulty(d, space)) return;
       for (unsigned i = 0; i < 4; ++i) d.expect_aborts(0, iova_of(i), "DMA to nothing mapped");
       d.sync();
       d.drop_events();
       d.expect_fault(0, iova_of(9), EventId::F_TRANSLATION);
     }},
    {"7.2.2",
     "eventq-abort",
     "An event queue where nothing is activates GERROR.EVENTQ_ABT_ERR",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.eventq = false, .enable = false})) return;
       const std::uint32_t before = d.read(Reg::GERROR);
       d.write64(Reg::EVENTQ_BASE,
                 EVENTQ_BASE{}.set<EVENTQ_BASE::ADDR>(r.rig.nowhere()).set<EVENTQ_BASE::LOG2SIZE>(4).words[0]);
       if (!d.set_cr0(d.cr0() | CR0::EVENTQEN::mask | CR0::SMMUEN::mask)) return;
       if (!d.install(0, Ste{})) return;
       d.expect_aborts(0, kIova, "DMA of a stream with V == 0");
       d.sync();
       r.equal(d.read(Reg::GERROR) ^ before, GERROR::EVENTQ_ABT_ERR::mask, "change of GERROR");
     }},
    {"6.3.9.4",
     "eventqen-again",
     "Events of the time with EVENTQEN = 0 do not show up later",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.eventq = false})) return;
       Space space{d, kAsid};
       if (!faulty(d, space)) return;
       d.expect_aborts(0, iova_of(1), "DMA to nothing mapped");
       if (!d.sync() || !d.set_cr0(d.cr0() | CR0::EVENTQEN::mask)) return;
       const auto e = d.expect_fault(0, iova_of(2), EventId::F_TRANSLATION);
       if (e) r.equal(e->as<FTranslation>()->get<FTranslation::InputAddr>().value, iova_of(2), "InputAddr");
     }},
});

}  // namespace

std::span<const Case> queue_cases() { return kCases; }

}  // namespace weir::conformance
