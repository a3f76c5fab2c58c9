// 3.12, 4.7.1, 4.7.2, 5.5: transactions that stall.
#include <array>

#include "tests/conformance/cases/cases.hpp"
#include "tests/conformance/driver.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

constexpr auto kNeeds = Need::stall | Need::stalls;

struct Fixture {
  explicit Fixture(Run& r, const Setup& setup = {}) : d{r} {
    ok = d.start(setup);
    if (!ok) return;
    page = d.rig.data_page();
    space.emplace(d, kAsid);
    space->put_cd(space->cd().set<Cd::S>(true));
    ok = d.install(0, space->ste()) && d.install(1, space->ste());
  }
  struct Stalled {
    std::uint32_t handle = 0;
    std::uint16_t stag = 0;
  };
  // DMA that stalls; its event.
  std::optional<Stalled> stall(unsigned device = 0, std::uint64_t iova = kIova) {
    const Reply reply = d.rig.dma(device, {.iova = iova});
    if (!d.run.expect(reply.outcome == Outcome::stalled, "DMA does not stall")) return std::nullopt;
    std::optional<Event> e;
    static_cast<void>(d.soon([&] { return (e = d.next_event()).has_value(); }));
    if (!d.run.expect(e.has_value(), "no event of a stall")) return std::nullopt;
    const auto f = e->as<FTranslation>();
    if (!d.run.expect(f.has_value(), "not F_TRANSLATION")) return std::nullopt;
    d.run.expect(f->get<FTranslation::Stall>(), "Stall");
    d.run.equal(f->get<FTranslation::StreamID>(), d.rig.stream(device), "StreamID");
    d.run.equal(f->get<FTranslation::InputAddr>().value, iova, "InputAddr");
    return Stalled{reply.handle, f->get<FTranslation::STAG>()};
  }
  // What becomes of it.
  bool ends(unsigned device, const Stalled& s, Outcome outcome) {
    Reply reply;
    return d.run.expect(d.soon([&] {
      reply = d.rig.outcome_of(device, s.handle);
      return reply.outcome != Outcome::stalled;
    }),
                        "the transaction stays stalled") &&
           d.run.expect(reply.outcome == outcome, "the transaction ends otherwise");
  }
  bool stays(unsigned device, const Stalled& s) {
    d.rig.settle();
    return d.run.expect(d.rig.outcome_of(device, s.handle).outcome == Outcome::stalled, "the transaction ended");
  }
  Driver d;
  std::optional<Space> space;
  std::uint64_t page = 0;
  bool ok = false;
};

constexpr auto kCases = std::to_array<Case>({
    {"3.12.2", "stall-recorded", "A fault with CD.S = 1 stalls, and its record says Stall", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       if (const auto s = f.stall()) f.stays(0, *s);
       f.d.issue({stall_term(f.d.sid(0))});
     }},
    {"4.7.1", "resume-retry", "CMD_RESUME with Ac = 1: the transaction is translated anew", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto s = f.stall();
       if (!s) return;
       f.space->map(kIova, f.page);
       if (!f.d.issue({tlbi_nh_va(VMID{0}, kAsid, IOVA{kIova}, true), sync_none(),
                       resume(f.d.sid(0), s->stag, ResumeAction::retry)}))
         return;
       if (f.ends(0, *s, Outcome::ok)) r.equal(r.rig.outcome_of(0, s->handle).at, f.page, "where DMA arrives");
       f.d.expect_no_event();
     }},
    {"4.7.1", "resume-abort", "CMD_RESUME with Ac = 0, Ab = 1: the transaction aborts", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto s = f.stall();
       if (!s || !f.d.issue({resume(f.d.sid(0), s->stag, ResumeAction::terminate_abort)})) return;
       f.ends(0, *s, Outcome::aborted);
       f.d.expect_no_event();
     }},
    {"4.7.1", "resume-raz-wi", "CMD_RESUME with Ac = 0, Ab = 0: RAZ/WI, or an abort with TERM_MODEL", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto s = f.stall();
       if (!s || !f.d.issue({resume(f.d.sid(0), s->stag, ResumeAction::terminate_raz_wi)})) return;
       const bool aborts = f.d.get<IDR0>(Reg::IDR0).get<IDR0::TERM_MODEL>();
       f.ends(0, *s, aborts ? Outcome::aborted : Outcome::raz_wi);
     }},
    {"4.7.1", "resume-retry-faults", "A retry that faults again stalls again, with an event of its own", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto s = f.stall();
       if (!s || !f.d.issue({resume(f.d.sid(0), s->stag, ResumeAction::retry)})) return;
       std::optional<Event> e;
       if (!r.expect(f.d.soon([&] { return (e = f.d.next_event()).has_value(); }), "no second event")) return;
       const auto t = e->as<FTranslation>();
       if (!r.expect(t && t->get<FTranslation::Stall>(), "no stall")) return;
       if (!f.d.issue({resume(f.d.sid(0), t->get<FTranslation::STAG>(), ResumeAction::terminate_abort)})) return;
       f.ends(0, *s, Outcome::aborted);
     }},
    {"4.7.1", "resume-wrong-stag", "CMD_RESUME of another STAG leaves a transaction alone", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto s = f.stall();
       if (!s) return;
       const auto wrong = static_cast<std::uint16_t>(s->stag ^ 1);
       if (!f.d.issue({resume(f.d.sid(0), wrong, ResumeAction::terminate_abort)})) return;
       f.stays(0, *s);
       f.d.issue({stall_term(f.d.sid(0))});
     }},
    {"4.7.1", "resume-wrong-stream", "CMD_RESUME of another stream leaves a transaction alone", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto s = f.stall();
       if (!s || !f.d.issue({resume(f.d.sid(1), s->stag, ResumeAction::terminate_abort)})) return;
       f.stays(0, *s);
       f.d.issue({stall_term(f.d.sid(0))});
     }},
    {"4.7.2", "stall-term", "CMD_STALL_TERM aborts all that a stream has stalled, and nothing of another", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto a = f.stall(0, kIova), b = f.stall(0, kIova + kPage4K), c = f.stall(1, kIova);
       if (!a || !b || !c) return;
       if (!f.d.issue({stall_term(f.d.sid(0))})) return;
       f.ends(0, *a, Outcome::aborted);
       f.ends(0, *b, Outcome::aborted);
       f.stays(1, *c);
       f.d.issue({stall_term(f.d.sid(1))});
       f.ends(1, *c, Outcome::aborted);
     }},
    {"3.12.2", "stag-unique", "Stalls at the same time have different STAGs", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto a = f.stall(0, kIova), b = f.stall(0, kIova + kPage4K);
       if (a && b) r.expect(a->stag != b->stag, "the same STAG");
       f.d.issue({stall_term(f.d.sid(0))});
     }},
    {"3.12.2", "stall-others-go-on", "A stream with a stall does not hold up another one", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova + kPage4K, f.page);
       const auto s = f.stall();
       if (!s) return;
       f.d.expect_lands(1, kIova + kPage4K, f.page, "DMA of another stream");
       f.d.issue({stall_term(f.d.sid(0))});
     }},
    {"4.3.8", "stall-unaffected-by-invalidations", "Invalidations and CMD_SYNC do not end a stall", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto s = f.stall();
       if (!s || !f.d.invalidate(cfgi_all(), tlbi_nsnh_all())) return;
       // An early retry is allowed (3.12.2.2), but finds nothing mapped either.
       f.stays(0, *s);
       f.d.issue({stall_term(f.d.sid(0))});
     }},
    {"6.3.9.6", "stall-ends-with-smmuen", "SMMUEN = 0 aborts what is stalled", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto s = f.stall();
       if (!s || !f.d.set_cr0(f.d.cr0() & ~static_cast<std::uint32_t>(CR0::SMMUEN::mask))) return;
       f.ends(0, *s, Outcome::aborted);
     }},
    {"3.12.2", "config-errors-do-not-stall", "A configuration error aborts at once, whatever CD.S says", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.d.install(0, Ste{})) return;
       f.d.expect_fault(0, kIova, EventId::C_BAD_STE);
     }},
    {"5.5", "stall-without-r", "CD.S = 1 with R = 0: the event is recorded all the same", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->put_cd(f.space->cd().set<Cd::R>(false));
       if (!f.d.issue({cfgi_cd_all(f.d.sid(0))})) return;
       if (f.stall()) f.d.issue({stall_term(f.d.sid(0))});
     }},
    {"7.2.1", "stall-event-kept", "A stall's event is not lost to a full queue", kNeeds,
     [](Run& r) {
       Fixture f{r, {.eventq_log2 = 1}};
       if (!f.ok) return;
       Reply last;
       for (unsigned i = 0; i < 3; ++i) last = r.rig.dma(0, {.iova = kIova + i * kPage4K});
       r.rig.settle();
       r.expect(!f.d.get<EVENTQ_PROD>(Reg::EVENTQ_PROD).get<EVENTQ_PROD::OVFLG>(), "an overflow");
       unsigned seen = 0;
       r.expect(f.d.soon([&] {
         seen += f.d.drop_events();
         return seen >= 3;
       }),
                "an event of a stall is missing");
       f.d.issue({stall_term(f.d.sid(0))});
     }},
    {"4.7.1", "resume-then-free", "A STAG that was answered is not the transaction's any more", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       for (int i = 0; i < 12; ++i) {
         const auto s = f.stall();
         if (!s || !f.d.issue({resume(f.d.sid(0), s->stag, ResumeAction::terminate_abort)})) return;
         if (!f.ends(0, *s, Outcome::aborted)) return;
       }
     }},
    {"4.7.2", "stall-term-pages", "After STALL_TERM a stream stalls and resumes as before", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto a = f.stall();
       if (!a || !f.d.issue({stall_term(f.d.sid(0))}) || !f.ends(0, *a, Outcome::aborted)) return;
       const auto b = f.stall(0, kIova + kPage4K);
       if (!b) return;
       f.space->map(kIova + kPage4K, f.page);
       if (!f.d.issue({tlbi_nh_all(VMID{0}), sync_none(), resume(f.d.sid(0), b->stag, ResumeAction::retry)})) return;
       f.ends(0, *b, Outcome::ok);
     }},
});

}  // namespace

std::span<const Case> stall_cases() { return kCases; }

}  // namespace weir::conformance
