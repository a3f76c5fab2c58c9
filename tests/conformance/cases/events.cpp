// 7.2, 7.3: event records.
#include <array>

#include "tests/conformance/cases/cases.hpp"
#include "tests/conformance/driver.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

// Reserved bits of the record's format are zero, and there is no SubstreamID.
template <typename T>
void expect_reserved_zero(Run& r, const Event& e) {
  for (std::size_t i = 0; i < e.words.size(); ++i)
    if (!r.equal(e.words[i] & T::Layout::res0[i], 0, "reserved bits of the record")) return;
  r.expect(!e.get<Event::SSV>(), "SSV");
}
template <typename T>
void expect_record(Driver& d, unsigned device) {
  const auto e = d.expect_fault(device, kIova, T::kId);
  if (e) expect_reserved_zero<T>(d.run, *e);
}

struct Fixture {
  explicit Fixture(Run& r, const Setup& setup = {}) : d{r} {
    ok = d.start(setup);
    if (!ok) return;
    page = d.rig.data_page();
    space.emplace(d, kAsid);
    ok = d.install(0, space->ste()) && d.install(1, space->ste());
  }
  Driver d;
  std::optional<Space> space;
  std::uint64_t page = 0;
  bool ok = false;
};

constexpr auto kCases = std::to_array<Case>({
    {"7.3.3",
     "record-bad-streamid",
     "C_BAD_STREAMID: StreamID and nothing else",
     {},
     [](Run& r) {
       Driver d{r};
       if (d.start({.sid_bits = 2})) expect_record<CBadStreamid>(d, 1);
     }},
    {"7.3.4",
     "record-ste-fetch",
     "F_STE_FETCH: FetchAddr is the STE's",
     {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       d.write64(Reg::STRTAB_BASE, r.rig.nowhere());
       if (!d.set_cr0(d.cr0() | CR0::SMMUEN::mask)) return;
       const auto e = d.expect_fault(0, kIova, EventId::F_STE_FETCH);
       if (!e) return;
       expect_reserved_zero<FSteFetch>(r, *e);
       r.equal(e->as<FSteFetch>()->get<FSteFetch::FetchAddr>(), r.rig.nowhere() + r.rig.stream(0) * sizeof(Ste),
               "FetchAddr");
     }},
    {"7.3.5",
     "record-bad-ste",
     "C_BAD_STE: StreamID and nothing else",
     {},
     [](Run& r) {
       Driver d{r};
       if (d.start() && d.install(1, Ste{})) expect_record<CBadSte>(d, 1);
     }},
    {"7.3.10",
     "record-cd-fetch",
     "F_CD_FETCH: FetchAddr is the CD's",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.d.install(0, f.space->ste().set<Ste::S1ContextPtr>(IPA{r.rig.nowhere()}))) return;
       const auto e = f.d.expect_fault(0, kIova, EventId::F_CD_FETCH);
       if (!e) return;
       expect_reserved_zero<FCdFetch>(r, *e);
       r.equal(e->as<FCdFetch>()->get<FCdFetch::FetchAddr>(), r.rig.nowhere(), "FetchAddr");
     }},
    {"7.3.11",
     "record-bad-cd",
     "C_BAD_CD: StreamID and nothing else",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->put_cd(f.space->cd().set<Cd::V>(false));
       if (!f.d.issue({cfgi_cd_all(f.d.sid(0))})) return;
       expect_record<CBadCd>(f.d, 0);
     }},
    {"7.3.12",
     "record-walk-eabt",
     "F_WALK_EABT: FetchAddr is the descriptor's",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.page);
       r.rig.store(f.space->entry(kIova, 2), r.rig.nowhere() | 3);
       const auto e = f.d.expect_fault(0, kIova, EventId::F_WALK_EABT);
       if (!e) return;
       expect_reserved_zero<FWalkEabt>(r, *e);
       const std::uint64_t index = (kIova >> 12) & 511;
       r.equal(e->as<FWalkEabt>()->get<FWalkEabt::FetchAddr>(), r.rig.nowhere() + 8 * index, "FetchAddr");
     }},
    {"7.3.13",
     "record-translation",
     "F_TRANSLATION: no stage 2, no stall, no STAG",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto e = f.d.expect_fault(0, kIova, EventId::F_TRANSLATION);
       if (!e) return;
       expect_reserved_zero<FTranslation>(r, *e);
       const auto t = *e->as<FTranslation>();
       r.expect(!t.get<FTranslation::S2>() && !t.get<FTranslation::Stall>(), "S2 or Stall");
     }},
    {"7.3.15",
     "record-access",
     "F_ACCESS: reserved bits are zero",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.page, Space::kReadWrite & ~Space::kAf);
       expect_record<FAccess>(f.d, 0);
     }},
    {"7.3.16",
     "record-permission",
     "F_PERMISSION: reserved bits are zero, CLASS IN",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.page, Space::kReadOnly);
       const auto e = f.d.expect_fault(0, kIova, EventId::F_PERMISSION);
       if (!e) return;
       expect_reserved_zero<FPermission>(r, *e);
       r.equal(static_cast<unsigned>(e->as<FPermission>()->get<FPermission::CLASS>()),
               static_cast<unsigned>(EventClass::IN), "CLASS");
     }},
    {"7.2",
     "one-event",
     "A transaction records one event at most",
     {},
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.d.expect_fault(0, kIova, EventId::F_TRANSLATION);
     }},
    {"7.2",
     "event-stream",
     "Events of two streams name each its own",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.d.expect_fault(1, kIova, EventId::F_TRANSLATION);
       f.d.expect_fault(0, kIova, EventId::F_TRANSLATION);
     }},
    {"7.2",
     "no-event-of-success",
     "DMA that arrives records nothing",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.page);
       f.d.expect_lands(0, kIova, f.page, "DMA does not arrive");
       f.d.expect_no_event();
     }},
    {"7.3.1",
     "mev-0",
     "MEV = 0: translation faults are not merged",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       for (int i = 0; i < 3; ++i) f.d.expect_aborts(0, kIova, "DMA to nothing mapped");
       f.d.sync();
       r.equal(f.d.drop_events(), 3, "records of three faults");
     }},
    {"7.3.1",
     "mev-1",
     "MEV = 1: at least one record of a fault, and no more than there were faults",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.d.install(0, f.space->ste().set<Ste::MEV>(true))) return;
       for (int i = 0; i < 3; ++i) f.d.expect_aborts(0, kIova, "DMA to nothing mapped");
       f.d.sync();
       const unsigned n = f.d.drop_events();
       r.expect(n >= 1 && n <= 3, "number of records");
     }},
    {"7.3.1",
     "mev-different",
     "MEV = 1: faults of different pages are not merged",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.d.install(0, f.space->ste().set<Ste::MEV>(true))) return;
       for (unsigned i = 0; i < 3; ++i) f.d.expect_aborts(0, kIova + i * kPage4K, "DMA to nothing mapped");
       f.d.sync();
       r.equal(f.d.drop_events(), 3, "records of three faults");
     }},
    {"4.7.3",
     "sync-shows-events",
     "CMD_SYNC makes events of earlier faults visible",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       for (unsigned i = 0; i < 8; ++i)
         if (!f.d.expect_fault(i % 2, kIova + i * kPage4K, EventId::F_TRANSLATION)) return;
     }},
    {"4.7.3",
     "no-late-events",
     "No event of an old configuration after CFGI and CMD_SYNC",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.d.expect_aborts(0, kIova, "DMA to nothing mapped");
       f.space->map(kIova, f.page);
       if (!f.d.invalidate(cfgi_all(), tlbi_nsnh_all())) return;
       f.d.drop_events();
       r.rig.settle();
       r.expect(!f.d.next_event().has_value(), "a late event");
     }},
    {"6.3.9.6",
     "events-after-disable",
     "SMMUEN = 0: DMA records nothing",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.d.set_cr0(f.d.cr0() & ~static_cast<std::uint32_t>(CR0::SMMUEN::mask))) return;
       f.d.expect_lands(0, f.page, f.page, "DMA with SMMUEN == 0");
       f.d.expect_no_event();
     }},
});

}  // namespace

std::span<const Case> event_cases() { return kCases; }

}  // namespace weir::conformance
