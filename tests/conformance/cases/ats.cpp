// 3.9, 4.5, 7.3.6 to 7.3.8, chapter 8: ATS and PRI.
#include <array>

#include "tests/conformance/cases/cases.hpp"
#include "tests/conformance/driver.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

constexpr auto kAts = Need::ats | Need::dma_ats;
constexpr auto kPri = Need::pri | Need::page_requests;

struct Fixture {
  explicit Fixture(Run& r, const Setup& setup = {.cr0 = CR0::ATSCHK::mask}, Eats eats = Eats::full) : d{r} {
    ok = d.start(setup);
    if (!ok) return;
    page = d.rig.data_page();
    space.emplace(d, kAsid);
    space->map(kIova, page);
    for (unsigned device = 0; device < 2; ++device) ok = ok && d.install(device, space->ste().set<Ste::EATS>(eats));
  }
  AtsReply translate(std::uint64_t iova = kIova, bool write = true) {
    return d.rig.translate(0, {.iova = iova, .write = write});
  }
  bool refused(std::uint64_t iova, AtsReply::Status status) {
    return d.run.equal(static_cast<unsigned>(translate(iova).status), static_cast<unsigned>(status),
                       "status of the translation request");
  }
  // A command sequence ends with this error at its CMD_SYNC.
  bool sync_fails(CmdqError error) {
    const std::uint32_t at = d.prod();
    d.queue(sync_none());
    d.kick();
    if (!d.run.expect(d.soon([&] { return d.command_error(); }), "no command error")) return false;
    d.run.equal(static_cast<unsigned>(d.field<CMDQ_CONS::ERR>(Reg::CMDQ_CONS)), static_cast<unsigned>(error),
                "CMDQ_CONS.ERR");
    return d.run.equal(d.field<CMDQ_CONS::RD>(Reg::CMDQ_CONS), at, "CMDQ_CONS.RD");
  }
  Driver d;
  std::optional<Space> space;
  std::uint64_t page = 0;
  bool ok = false;
};
constexpr Setup kPriSetup{.priq = true, .cr0 = CR0::ATSCHK::mask};

std::optional<PriEntry> next_request(Driver& d, std::uint32_t& taken) {
  if (!d.soon([&] { return (d.get<PRIQ_PROD>(Reg::PRIQ_PROD).get<PRIQ_PROD::WR>() & 0x1f) != taken; })) return {};
  const auto e = d.take<PriEntry>(d.priq() + (taken & 0xf) * sizeof(PriEntry));
  taken = (taken + 1) & 0x1f;
  d.write(Reg::PRIQ_CONS, taken);
  return e;
}

constexpr auto kCases = std::to_array<Case>({
    // --- Translation Requests
    {"3.9.1", "ats-request", "A translation request of a mapped page: its address and permissions", kAts,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const AtsReply a = f.translate();
       if (!r.expect(a.status == AtsReply::Status::success, "no success")) return;
       r.equal(a.at & ~(kPage4K - 1), f.page, "address");
       r.expect(a.write, "no permission to write");
       f.d.expect_no_event();
     }},
    {"3.9.1.2", "ats-request-unmapped",
     "A translation request of nothing mapped: success without permissions, no event", kAts,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const AtsReply a = f.translate(kIova + kPage4K);
       r.expect(a.status == AtsReply::Status::success && !a.read && !a.write, "not R == W == 0");
       f.d.expect_no_event();
     }},
    {"3.9.1.2", "ats-request-read-only", "A translation request of a read-only page has no permission to write", kAts,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova + kPage4K, f.page, Space::kReadOnly);
       const AtsReply a = f.translate(kIova + kPage4K);
       r.expect(a.status == AtsReply::Status::success && a.read && !a.write, "not R == 1, W == 0");
     }},
    {"7.3.6", "ats-eats-0", "EATS = 0: Unsupported Request", kAts,
     [](Run& r) {
       Fixture f{r, {.cr0 = CR0::ATSCHK::mask}, Eats::none};
       if (f.ok) f.refused(kIova, AtsReply::Status::unsupported_request);
     }},
    {"6.3.9.6", "ats-smmuen-0", "SMMUEN = 0: Unsupported Request", kAts,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.d.set_cr0(f.d.cr0() & ~static_cast<std::uint32_t>(CR0::SMMUEN::mask))) return;
       f.refused(kIova, AtsReply::Status::unsupported_request);
     }},
    {"3.9.1.2", "ats-abort-stream", "A translation request of an aborting stream: Unsupported Request", kAts,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.d.install(0, ste_of(SteConfig::abort))) return;
       f.refused(kIova, AtsReply::Status::unsupported_request);
       f.d.expect_no_event();
     }},
    {"3.9.1.2", "ats-bad-ste", "A translation request of an invalid stream: Completer Abort", kAts,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.d.install(0, Ste{})) return;
       f.refused(kIova, AtsReply::Status::completer_abort);
     }},
    // --- Translated transactions
    {"3.9.1.3", "ats-translated", "A translated transaction goes where the answer said", kAts,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const AtsReply a = f.translate();
       if (!r.expect(a.status == AtsReply::Status::success, "no success")) return;
       f.d.expect_lands(0, {.iova = a.at, .translated = true}, f.page, "DMA does not arrive");
     }},
    {"7.3.8", "ats-translated-forbidden", "ATSCHK = 1, EATS = 0: F_TRANSL_FORBIDDEN", kAts,
     [](Run& r) {
       Fixture f{r, {.cr0 = CR0::ATSCHK::mask}, Eats::none};
       if (!f.ok) return;
       f.d.expect_fault(0, {.iova = f.page, .translated = true}, EventId::F_TRANSL_FORBIDDEN);
     }},
    {"6.3.9.6", "ats-translated-disabled", "SMMUEN = 0: a translated transaction aborts", kAts,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.d.set_cr0(f.d.cr0() & ~static_cast<std::uint32_t>(CR0::SMMUEN::mask))) return;
       f.d.expect_aborts(0, {.iova = f.page, .translated = true}, "DMA goes through");
     }},
    // --- Invalidation
    {"4.5.1", "atc-inv", "CMD_ATC_INV reaches the device before CMD_SYNC completes", kAts,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const unsigned before = r.rig.ats_invalidations(0), other = r.rig.ats_invalidations(1);
       if (!f.d.issue({atc_inv(f.d.sid(0), std::nullopt, IOVA{kIova}, 0)})) return;
       r.equal(r.rig.ats_invalidations(0), before + 1, "invalidations of the device");
       r.equal(r.rig.ats_invalidations(1), other, "invalidations of another device");
     }},
    {"4.5.1", "atc-inv-all", "CMD_ATC_INV of everything, and of spans", kAts,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       for (const unsigned size : {0u, 1u, 9u, 51u, 52u}) {
         const unsigned before = r.rig.ats_invalidations(0);
         if (!f.d.issue({atc_inv(f.d.sid(0), std::nullopt, IOVA{0}, size)})) return;
         r.equal(r.rig.ats_invalidations(0), before + 1, "invalidations of the device");
       }
     }},
    {"4.5.1", "atc-inv-smmuen-0", "CMD_ATC_INV is ignored with SMMUEN = 0", kAts,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.d.set_cr0(f.d.cr0() & ~static_cast<std::uint32_t>(CR0::SMMUEN::mask))) return;
       const unsigned before = r.rig.ats_invalidations(0);
       if (!f.d.issue({atc_inv_all(f.d.sid(0))})) return;
       r.equal(r.rig.ats_invalidations(0), before, "invalidations of the device");
     }},
    {"4.5.1", "atc-inv-unknown-stream", "CMD_ATC_INV of a StreamID that no device has completes", kAts,
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.d.issue({atc_inv_all(StreamID{0xf3})});
     }},
    {"3.9.1.4", "atc-inv-timeout",
     "A device that does not answer: CERROR_ATC_INV_SYNC at the CMD_SYNC; a new one completes", kAts,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       static_cast<void>(f.translate());
       r.rig.hang(0, true);
       f.d.queue(atc_inv_all(f.d.sid(0)));
       if (!f.sync_fails(CmdqError::CERROR_ATC_INV_SYNC)) return;
       r.rig.hang(0, false);
       f.d.acknowledge_errors();
       r.expect(f.d.soon([&] { return f.d.consumed(); }), "the CMD_SYNC does not complete after the acknowledge");
       f.d.sync();
     }},
    // --- PRI
    {"8.1", "pri-entry", "A page request arrives in the PRI queue as the device made it", kPri,
     [](Run& r) {
       Fixture f{r, kPriSetup};
       if (!f.ok) return;
       std::uint32_t taken = 0;
       r.rig.page_request(0, {.iova = kIova + kPage4K, .read = true, .write = true, .last = true, .prg = 0x123});
       const auto e = next_request(f.d, taken);
       if (!r.expect(e.has_value(), "no page request")) return;
       r.equal(e->get<PriEntry::StreamID>(), r.rig.stream(0), "StreamID");
       r.equal(e->get<PriEntry::PRGIndex>(), 0x123, "PRGIndex");
       r.equal(e->get<PriEntry::Address>().value, kIova + kPage4K, "Address");
       r.expect(e->get<PriEntry::R>() && e->get<PriEntry::W>() && e->get<PriEntry::Last>() && !e->get<PriEntry::SSV>(),
                "R, W, Last or SSV");
       f.d.issue({pri_resp(f.d.sid(0), std::nullopt, 0x123, PriResponse::success)});
     }},
    {"4.5.2", "pri-resp", "CMD_PRI_RESP answers a group: success, invalid, failure", kPri,
     [](Run& r) {
       Fixture f{r, kPriSetup};
       if (!f.ok) return;
       std::uint32_t taken = 0;
       struct Answer {
         PriResponse response;
         PageReply reply;
       };
       std::uint16_t prg = 1;
       for (const auto [response, reply] :
            {Answer{PriResponse::success, PageReply::success}, Answer{PriResponse::invalid_request, PageReply::invalid},
             Answer{PriResponse::failure, PageReply::failure}}) {
         r.rig.page_request(0, {.iova = kIova + kPage4K, .prg = prg});
         if (!r.expect(next_request(f.d, taken).has_value(), "no page request")) return;
         r.expect(r.rig.page_reply(0, prg) == PageReply::none, "an answer before CMD_PRI_RESP");
         if (!f.d.issue({pri_resp(f.d.sid(0), std::nullopt, prg, response)})) return;
         r.expect(f.d.soon([&] { return r.rig.page_reply(0, prg) == reply; }), "another answer, or none");
         ++prg;
       }
     }},
    {"8.1", "pri-streams", "Page requests of two devices name each its own", kPri,
     [](Run& r) {
       Fixture f{r, kPriSetup};
       if (!f.ok) return;
       std::uint32_t taken = 0;
       for (const unsigned device : {1u, 0u}) {
         r.rig.page_request(device, {.iova = kIova, .prg = 7});
         const auto e = next_request(f.d, taken);
         if (!r.expect(e.has_value(), "no page request")) return;
         r.equal(e->get<PriEntry::StreamID>(), r.rig.stream(device), "StreamID");
         f.d.issue({pri_resp(f.d.sid(device), std::nullopt, 7, PriResponse::success)});
       }
     }},
    {"8.1", "pri-overflow", "A full PRI queue: OVFLG, and the last request of a group is answered success", kPri,
     [](Run& r) {
       Fixture f{r, kPriSetup};
       if (!f.ok) return;
       for (std::uint16_t i = 0; i < 20; ++i) r.rig.page_request(0, {.iova = kIova + i * kPage4K, .prg = i});
       r.expect(f.d.soon([&] { return f.d.get<PRIQ_PROD>(Reg::PRIQ_PROD).get<PRIQ_PROD::OVFLG>(); }), "OVFLG");
       r.expect(f.d.soon([&] {
         for (std::uint16_t i = 16; i < 20; ++i)
           if (r.rig.page_reply(0, i) != PageReply::none) return true;
         return false;
       }),
                "no automatic answer");
     }},
    {"6.3.9.5", "pri-disabled", "PRIQEN = 0: a page request is answered with failure, and not recorded", kPri,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       r.rig.page_request(0, {.iova = kIova, .prg = 9});
       r.expect(f.d.soon([&] { return r.rig.page_reply(0, 9) == PageReply::failure; }), "no failure");
       r.equal(f.d.read(Reg::PRIQ_PROD) & 0x1f, 0, "PRIQ_PROD");
     }},
    {"3.18.2", "pri-interrupt", "The PRI queue's interrupt comes when it stops being empty", kPri | Need::wires,
     [](Run& r) {
       Fixture f{r, kPriSetup};
       if (!f.ok || !f.d.set_irqs(IRQ_CTRL::PRIQ_IRQEN::mask)) return;
       const unsigned before = r.rig.interrupts(Wire::priq);
       r.rig.page_request(0, {.iova = kIova, .prg = 3});
       r.expect(f.d.soon([&] { return r.rig.interrupts(Wire::priq) > before; }), "no interrupt");
       f.d.issue({pri_resp(f.d.sid(0), std::nullopt, 3, PriResponse::success)});
     }},
    {"8.1", "pri-wraps", "The PRI queue wraps", kPri,
     [](Run& r) {
       Fixture f{r, kPriSetup};
       if (!f.ok) return;
       std::uint32_t taken = 0;
       for (std::uint16_t i = 0; i < 40; ++i) {
         r.rig.page_request(0, {.iova = kIova + i * kPage4K, .prg = i});
         const auto e = next_request(f.d, taken);
         if (!r.expect(e.has_value(), "no page request")) return;
         if (!r.equal(e->get<PriEntry::PRGIndex>(), i, "PRGIndex")) return;
         if (!f.d.issue({pri_resp(f.d.sid(0), std::nullopt, i, PriResponse::success)})) return;
       }
     }},
});

}  // namespace

std::span<const Case> ats_cases() { return kCases; }

}  // namespace weir::conformance
