// Shared virtual addressing: a device that uses a process's own page tables, from its first access to the end of the process. By
// stalls (3.12.2), and by ATS and page requests (3.9, chapter 8).
#include <array>

#include "tests/conformance/cases/cases.hpp"
#include "tests/conformance/driver.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

constexpr auto kByStalls = Need::substreams | Need::dma_ssid | Need::stall | Need::stalls;
constexpr auto kByRequests =
    Need::substreams | Need::dma_ssid | Need::ats | Need::dma_ats | Need::pri | Need::page_requests;
constexpr unsigned kCdMax = 3;
constexpr std::uint32_t kProcess = 3;  // its SubstreamID

// A stream with substreams; the process's address space is empty, and its CD not there yet.
struct Fixture {
  explicit Fixture(Run& r, const Setup& setup = {}, Eats eats = Eats::none) : d{r} {
    ok = d.start(setup);
    if (!ok) return;
    page = d.rig.data_page();
    space.emplace(d, ASID{0x31});
    table = d.rig.allocate(sizeof(Cd) << kCdMax, sizeof(Cd) << kCdMax);
    ok = d.install(0, space->ste().set<Ste::S1ContextPtr>(IPA{table}).set<Ste::S1CDMax>(kCdMax).set<Ste::EATS>(eats));
  }
  bool bind(const Cd& cd) {
    d.put(table + kProcess * sizeof(Cd), cd);
    return d.issue({cfgi_cd(d.sid(0), SubstreamID{kProcess}, true)});
  }
  // The process is gone: nothing of it is used any more.
  bool unbind() {
    d.put(table + kProcess * sizeof(Cd), Cd{});
    return d.issue({cfgi_cd(d.sid(0), SubstreamID{kProcess}, true)}) && d.issue({tlbi_nh_asid(VMID{}, ASID{0x31})});
  }
  Driver d;
  std::optional<Space> space;
  std::uint64_t page = 0;
  std::uint64_t table = 0;
  bool ok = false;
};

constexpr auto kCases = std::to_array<Case>({
    {"3.12.2", "sva-by-stalls", "A process's pages, mapped when a device touches them: stall, event, CMD_RESUME",
     kByStalls,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.bind(f.space->cd().set<Cd::S>(true))) return;
       const Reply reply = r.rig.dma(0, {.iova = kIova, .ssid = kProcess});
       if (!r.expect(reply.outcome == Outcome::stalled, "DMA does not stall")) return;
       std::optional<Event> e;
       static_cast<void>(f.d.soon([&] { return (e = f.d.next_event()).has_value(); }));
       const auto fault = e ? e->as<FTranslation>() : std::nullopt;
       if (!r.expect(fault.has_value(), "no F_TRANSLATION")) return;
       r.expect(fault->get<FTranslation::SSV>(), "SSV");
       r.equal(fault->get<FTranslation::SubstreamID>().value, kProcess, "SubstreamID");
       f.space->map(kIova, f.page);
       if (!f.d.issue({resume(f.d.sid(0), fault->get<FTranslation::STAG>(), ResumeAction::retry)})) return;
       Reply end = reply;
       static_cast<void>(f.d.soon([&] {
         end = r.rig.outcome_of(0, reply.handle);
         return end.outcome != Outcome::stalled;
       }));
       r.expect(end.outcome == Outcome::ok, "the transaction does not go on");
       r.equal(end.at, f.page, "where it landed");
       f.d.expect_lands(0, {.iova = kIova, .ssid = kProcess}, f.page, "DMA does not arrive");
       if (!f.unbind()) return;
       f.d.expect_fault(0, {.iova = kIova, .ssid = kProcess}, EventId::C_BAD_CD);
     }},
    {"8.1", "sva-by-page-requests", "A process's pages, mapped when a device asks for them: request, CMD_PRI_RESP, ATS",
     kByRequests,
     [](Run& r) {
       Fixture f{r, {.priq = true, .cr0 = CR0::ATSCHK::mask}, Eats::full};
       if (!f.ok || !f.bind(f.space->cd())) return;
       AtsReply a = r.rig.translate(0, {.iova = kIova, .ssid = kProcess});
       r.expect(a.status == AtsReply::Status::success && !a.read && !a.write, "a page that is not there is translated");
       r.rig.page_request(0, {.iova = kIova, .prg = 5, .ssid = kProcess});
       if (!r.expect(f.d.soon([&] { return f.d.field<PRIQ_PROD::WR>(Reg::PRIQ_PROD) != 0; }), "no page request"))
         return;
       const auto request = f.d.take<PriEntry>(f.d.priq());
       r.equal(request.get<PriEntry::StreamID>(), r.rig.stream(0), "StreamID");
       r.expect(request.get<PriEntry::SSV>(), "SSV");
       r.equal(request.get<PriEntry::SubstreamID>().value, kProcess, "SubstreamID");
       r.equal(request.get<PriEntry::Address>().value, kIova, "Address");
       f.d.write(Reg::PRIQ_CONS, 1);
       f.space->map(kIova, f.page);
       if (!f.d.issue({pri_resp(f.d.sid(0), SubstreamID{kProcess}, 5, PriResponse::success)})) return;
       if (!r.expect(f.d.soon([&] { return r.rig.page_reply(0, 5) == PageReply::success; }), "no answer")) return;
       a = r.rig.translate(0, {.iova = kIova, .ssid = kProcess});
       if (!r.expect(a.status == AtsReply::Status::success && a.write, "not translated after the answer")) return;
       f.d.expect_lands(0, {.iova = a.at, .translated = true}, f.page, "DMA does not arrive");
       // The page is taken away: the SMMU first, then what was made from it.
       f.space->unmap(kIova);
       const unsigned before = r.rig.ats_invalidations(0);
       if (!f.d.issue({tlbi_nh_va(VMID{}, ASID{0x31}, IOVA{kIova}, true)})) return;
       if (!f.d.issue({atc_inv(f.d.sid(0), SubstreamID{kProcess}, IOVA{kIova}, 0)})) return;
       r.equal(r.rig.ats_invalidations(0), before + 1, "invalidations of the device");
       a = r.rig.translate(0, {.iova = kIova, .ssid = kProcess});
       r.expect(!a.write, "still translated");
     }},
});

}  // namespace

std::span<const Case> sharing_cases() { return kCases; }

}  // namespace weir::conformance
