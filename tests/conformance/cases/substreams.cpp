// 3.3.2, 5.3, 5.2 (S1CDMax, S1DSS, S1Fmt): substreams.
#include <array>

#include "tests/conformance/cases/cases.hpp"
#include "tests/conformance/driver.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

constexpr auto kNeeds = Need::substreams | Need::dma_ssid;
constexpr unsigned kCdMax = 3;
constexpr auto kArrives = "DMA does not arrive";

// Address spaces of the substreams 0 and 1, in a linear table of 8 CDs; the others are invalid.
struct Fixture {
  explicit Fixture(Run& r, S1Dss dss = S1Dss::terminate) : d{r} {
    ok = d.start();
    if (!ok) return;
    for (unsigned i = 0; i < 2; ++i) {
      pages[i] = d.rig.data_page();
      spaces[i].emplace(d, ASID{static_cast<std::uint16_t>(0x10 + i)});
      spaces[i]->map(kIova, pages[i]);
    }
    table = d.rig.allocate(sizeof(Cd) << kCdMax, sizeof(Cd) << kCdMax);
    for (unsigned i = 0; i < 2; ++i) put_cd(i, spaces[i]->cd());
    ok = install(linear(dss));
  }
  [[nodiscard]] Ste linear(S1Dss dss) const {
    return spaces[0]->ste().set<Ste::S1ContextPtr>(IPA{table}).set<Ste::S1CDMax>(kCdMax).set<Ste::S1DSS>(dss);
  }
  bool install(const Ste& ste) { return d.install(0, ste); }
  void put_cd(unsigned ssid, const Cd& cd) { d.put(table + ssid * sizeof(Cd), cd); }
  bool lands(std::optional<std::uint32_t> ssid, std::uint64_t at) {
    return d.expect_lands(0, {.iova = kIova, .ssid = ssid}, at, kArrives);
  }
  std::optional<Event> faults(std::optional<std::uint32_t> ssid, EventId id, std::uint64_t iova = kIova) {
    return d.expect_fault(0, {.iova = iova, .ssid = ssid}, id);
  }
  Driver d;
  std::array<std::optional<Space>, 2> spaces;
  std::array<std::uint64_t, 2> pages{};
  std::uint64_t table = 0;
  bool ok = false;
};
void bad_substreamid(Fixture& f, std::uint32_t ssid) {
  const auto e = f.faults(ssid, EventId::C_BAD_SUBSTREAMID);
  if (e) f.d.run.equal(e->get<Event::SubstreamID>().value, ssid, "SubstreamID");
}

constexpr auto kCases = std::to_array<Case>({
    {"3.3.2", "substreams-linear", "Each substream uses the CD of its number", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.lands(0, f.pages[0]);
       f.lands(1, f.pages[1]);
       f.lands(0, f.pages[0]);
     }},
    {"5.2", "s1dss-terminate", "S1DSS = 0b00: a transaction without a SubstreamID is F_STREAM_DISABLED", kNeeds,
     [](Run& r) {
       Fixture f{r, S1Dss::terminate};
       if (f.ok) f.faults(std::nullopt, EventId::F_STREAM_DISABLED);
     }},
    {"5.2", "s1dss-bypass", "S1DSS = 0b01: a transaction without a SubstreamID bypasses stage 1", kNeeds,
     [](Run& r) {
       Fixture f{r, S1Dss::bypass};
       if (!f.ok) return;
       f.d.expect_lands(0, f.pages[1], f.pages[1], kArrives);
       f.lands(1, f.pages[1]);
     }},
    {"5.2", "s1dss-substream0", "S1DSS = 0b10: a transaction without a SubstreamID uses CD 0; one with 0 is aborted",
     kNeeds,
     [](Run& r) {
       Fixture f{r, S1Dss::substream0};
       if (!f.ok) return;
       f.lands(std::nullopt, f.pages[0]);
       f.lands(1, f.pages[1]);
       f.faults(0, EventId::F_STREAM_DISABLED);
     }},
    {"5.2", "s1dss-reserved", "S1DSS = 0b11 behaves as 0b00", kNeeds,
     [](Run& r) {
       Fixture f{r, S1Dss::reserved};
       if (f.ok) f.faults(std::nullopt, EventId::F_STREAM_DISABLED);
     }},
    {"7.3.9", "ssid-beyond-cdmax", "A SubstreamID >= 2^S1CDMax: C_BAD_SUBSTREAMID", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       bad_substreamid(f, 1u << kCdMax);
       bad_substreamid(f, (1u << kCdMax) + 1);
     }},
    {"7.3.9", "ssid-without-substreams", "A SubstreamID with S1CDMax = 0: C_BAD_SUBSTREAMID", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (f.ok && f.install(f.spaces[0]->ste())) bad_substreamid(f, 1);
     }},
    {"7.3.9", "ssid-with-bypass", "A SubstreamID of a bypassing stream: C_BAD_SUBSTREAMID", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (f.ok && f.install(ste_of(SteConfig::bypass))) bad_substreamid(f, 1);
     }},
    {"6.3.9.6", "ssid-with-smmuen-0", "A SubstreamID with SMMUEN = 0 bypasses", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.d.set_cr0(f.d.cr0() & ~static_cast<std::uint32_t>(CR0::SMMUEN::mask))) return;
       f.d.expect_lands(0, {.iova = f.pages[0], .ssid = 1}, f.pages[0], kArrives);
     }},
    {"5.4", "cd-of-substream-invalid", "An invalid CD of a substream: C_BAD_CD with SSV and SubstreamID", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto e = f.faults(5, EventId::C_BAD_CD);
       if (!e) return;
       r.expect(e->get<Event::SSV>(), "SSV");
       r.equal(e->get<Event::SubstreamID>().value, 5, "SubstreamID");
     }},
    {"7.3", "substream-in-event", "A translation fault names the substream", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto e = f.faults(1, EventId::F_TRANSLATION, kIova + kPage4K);
       if (!e) return;
       r.expect(e->get<Event::SSV>(), "SSV");
       r.equal(e->get<Event::SubstreamID>().value, 1, "SubstreamID");
     }},
    {"4.3.3", "cfgi-cd-of-substream", "CFGI_CD is for the CD of a substream", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.lands(1, f.pages[1]);
       f.put_cd(1, Cd{});
       if (!f.d.invalidate(cfgi_cd(f.d.sid(0), SubstreamID{1}, true), tlbi_nh_all(VMID{0}))) return;
       f.faults(1, EventId::C_BAD_CD);
       f.lands(0, f.pages[0]);
     }},
    {"4.3.4", "cfgi-cd-all-of-substreams", "CFGI_CD_ALL is for all CDs of a stream", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       for (unsigned i = 0; i < 2; ++i) f.lands(i, f.pages[i]);
       for (unsigned i = 0; i < 2; ++i) f.put_cd(i, f.spaces[1 - i]->cd());
       if (!f.d.issue({cfgi_cd_all(f.d.sid(0))})) return;
       for (unsigned i = 0; i < 2; ++i) f.lands(i, f.pages[1 - i]);
     }},
    {"4.4.2", "substream-invalidated", "TLBI_NH_VA by a substream's ASID", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       for (unsigned i = 0; i < 2; ++i) f.lands(i, f.pages[i]);
       f.spaces[1]->unmap(kIova);
       if (!f.d.issue({tlbi_nh_va(VMID{0}, ASID{0x11}, IOVA{kIova}, true)})) return;
       f.faults(1, EventId::F_TRANSLATION);
       f.lands(0, f.pages[0]);
     }},
    {"5.2", "s1cdmax-too-large", "S1CDMax > IDR1.SSIDSIZE: C_BAD_STE", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto most = f.d.get<IDR1>(Reg::IDR1).get<IDR1::SSIDSIZE>();
       if (f.install(f.linear(S1Dss::terminate).set<Ste::S1CDMax>(most + 1))) f.faults(1, EventId::C_BAD_STE);
     }},
    {"5.2", "s1fmt-without-cd2l", "S1Fmt = two levels without CD2L: C_BAD_STE", kNeeds | Need::no_cd2l,
     [](Run& r) {
       Fixture f{r};
       if (f.ok && f.install(f.linear(S1Dss::terminate).set<Ste::S1Fmt>(S1Fmt::two_level_4k)))
         f.faults(1, EventId::C_BAD_STE);
     }},
    {"5.2", "s1fmt-reserved", "S1Fmt = 0b11 behaves as linear", kNeeds,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.install(f.linear(S1Dss::terminate).set<Ste::S1Fmt>(S1Fmt::reserved))) return;
       f.lands(1, f.pages[1]);
     }},
    {"5.3", "two-level-cds", "A two-level CD table with leaves of 4 KiB", kNeeds | Need::cd2l,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const std::uint64_t l1 = r.rig.allocate(4 * sizeof(L1Cd), 64), leaf = r.rig.allocate(kPage4K, kPage4K);
       f.d.put(l1 + 1 * sizeof(L1Cd), L1Cd{}.set<L1Cd::V>(true).set<L1Cd::L2Ptr>(IPA{leaf}));
       f.d.put(leaf + 7 * sizeof(Cd), f.spaces[1]->cd());
       const Ste ste = f.linear(S1Dss::terminate)
                           .set<Ste::S1ContextPtr>(IPA{l1})
                           .set<Ste::S1CDMax>(8)
                           .set<Ste::S1Fmt>(S1Fmt::two_level_4k);
       if (!f.install(ste)) return;
       f.lands(64 + 7, f.pages[1]);
       f.faults(64 + 8, EventId::C_BAD_CD);
     }},
    {"5.3", "l1cd-invalid", "A level-1 CD descriptor with V = 0: C_BAD_SUBSTREAMID", kNeeds | Need::cd2l,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const std::uint64_t l1 = r.rig.allocate(4 * sizeof(L1Cd), 64);
       if (f.install(f.linear(S1Dss::terminate)
                         .set<Ste::S1ContextPtr>(IPA{l1})
                         .set<Ste::S1CDMax>(8)
                         .set<Ste::S1Fmt>(S1Fmt::two_level_4k)))
         bad_substreamid(f, 64 + 7);
     }},
    {"7.3.10", "l1cd-fetch-abort", "A level-1 CD table where nothing is: F_CD_FETCH", kNeeds | Need::cd2l,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       if (f.install(f.linear(S1Dss::terminate)
                         .set<Ste::S1ContextPtr>(IPA{r.rig.nowhere()})
                         .set<Ste::S1CDMax>(8)
                         .set<Ste::S1Fmt>(S1Fmt::two_level_4k)))
         f.faults(1, EventId::F_CD_FETCH);
     }},
    {"4.3.3", "cfgi-cd-leaf-0", "CFGI_CD with Leaf = 0 is for the level-1 descriptor, too", kNeeds | Need::cd2l,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const std::uint64_t l1 = r.rig.allocate(4 * sizeof(L1Cd), 64);
       const std::uint64_t leaf[2] = {r.rig.allocate(kPage4K, kPage4K), r.rig.allocate(kPage4K, kPage4K)};
       for (unsigned i = 0; i < 2; ++i) f.d.put(leaf[i] + sizeof(Cd), f.spaces[i]->cd());
       f.d.put(l1, L1Cd{}.set<L1Cd::V>(true).set<L1Cd::L2Ptr>(IPA{leaf[0]}));
       if (!f.install(f.linear(S1Dss::terminate)
                          .set<Ste::S1ContextPtr>(IPA{l1})
                          .set<Ste::S1CDMax>(8)
                          .set<Ste::S1Fmt>(S1Fmt::two_level_4k)))
         return;
       f.lands(1, f.pages[0]);
       f.d.put(l1, L1Cd{}.set<L1Cd::V>(true).set<L1Cd::L2Ptr>(IPA{leaf[1]}));
       if (!f.d.issue({cfgi_cd(f.d.sid(0), SubstreamID{1}, false)})) return;
       f.lands(1, f.pages[1]);
     }},
});

}  // namespace

std::span<const Case> substream_cases() { return kCases; }

}  // namespace weir::conformance
