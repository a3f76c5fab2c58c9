// 5.4, 5.5: context descriptors.
#include <array>

#include "tests/conformance/cases/cases.hpp"
#include "tests/conformance/driver.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

struct Fixture {
  explicit Fixture(Run& r) : d{r} {
    ok = d.start();
    if (!ok) return;
    page = d.rig.data_page();
    space.emplace(d, kAsid);
    space->map(kIova, page);
    ok = d.install(0, space->ste());
  }
  // With this CD DMA must abort with C_BAD_CD; with this one it must arrive.
  bool bad(const Cd& cd) { return put(cd) && d.expect_fault(0, kIova, EventId::C_BAD_CD).has_value(); }
  bool good(const Cd& cd) {
    return put(cd) && d.expect_lands(0, kIova, page, "DMA does not arrive") && d.expect_no_event();
  }
  bool put(const Cd& cd) {
    if (!ok) return false;
    space->put_cd(cd);
    return d.invalidate(cfgi_cd(d.sid(0), SubstreamID{0}, true), tlbi_nh_all(VMID{0}));
  }
  [[nodiscard]] Cd cd() const { return space->cd(); }

  Driver d;
  std::optional<Space> space;
  std::uint64_t page = 0;
  bool ok = false;
};

constexpr auto kCases = std::to_array<Case>({
    {"5.4",
     "cd-valid",
     "A CD that is well formed translates",
     {},
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.good(f.cd());
     }},
    {"5.4",
     "cd-invalid",
     "V = 0 is C_BAD_CD",
     {},
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.bad(f.cd().set<Cd::V>(false));
     }},
    {"5.4",
     "cd-changes",
     "A CD becomes invalid and valid again with CFGI_CD",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const Cd good = f.cd(), bad = f.cd().set<Cd::V>(false);
       for (int i = 0; i < 3; ++i)
         if (!f.good(good) || !f.bad(bad)) return;
     }},
    {"4.3.4",
     "cfgi-cd-all-covers",
     "CFGI_CD_ALL covers the CD of a stream",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.good(f.cd())) return;
       f.space->put_cd(f.cd().set<Cd::V>(false));
       if (!f.d.invalidate(cfgi_cd_all(f.d.sid(0)), tlbi_nh_all(VMID{0}))) return;
       f.d.expect_fault(0, kIova, EventId::C_BAD_CD);
     }},
    {"4.3.1",
     "cfgi-ste-covers-cd",
     "CFGI_STE covers the CD that the STE points to",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.good(f.cd())) return;
       f.space->put_cd(f.cd().set<Cd::V>(false));
       if (!f.d.invalidate(cfgi_ste(f.d.sid(0), true), tlbi_nh_all(VMID{0}))) return;
       f.d.expect_fault(0, kIova, EventId::C_BAD_CD);
     }},
    {"7.3.10",
     "cd-fetch-abort",
     "A CD where nothing is gives F_CD_FETCH",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       if (!f.d.install(0, f.space->ste().set<Ste::S1ContextPtr>(IPA{r.rig.nowhere()}))) return;
       f.d.expect_fault(0, kIova, EventId::F_CD_FETCH);
     }},
    {"5.4",
     "cd-t0sz-too-small",
     "T0SZ below 16 is C_BAD_CD from SMMUv3.1 on",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       if (f.d.get<AIDR>(Reg::AIDR).get<AIDR::ArchMinorRev>() < 1) return r.skip("AIDR of SMMUv3.1");
       if (f.d.get<IDR5>(Reg::IDR5).get<IDR5::VAX>() != 0) return r.skip("IDR5.VAX == 0");
       f.bad(f.cd().set<Cd::T0SZ>(15));
     }},
    {"5.4",
     "cd-t0sz-too-large",
     "T0SZ above 39 is C_BAD_CD from SMMUv3.1 on, without STT",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       if (f.d.get<AIDR>(Reg::AIDR).get<AIDR::ArchMinorRev>() < 1) return r.skip("AIDR of SMMUv3.1");
       if (f.d.get<IDR3>(Reg::IDR3).get<IDR3::STT>()) return r.skip("IDR3.STT == 0");
       f.bad(f.cd().set<Cd::T0SZ>(40));
     }},
    {"5.4",
     "cd-tg0-reserved",
     "TG0 = 0b11 is C_BAD_CD",
     {},
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.bad(f.cd().set<Cd::TG0>(static_cast<Granule0>(3)));
     }},
    {"5.4", "cd-tg0-16k", "TG0 = 16 KiB is C_BAD_CD where there is no such granule", Need::no_gran16k,
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.bad(f.cd().set<Cd::TG0>(Granule0::size16k));
     }},
    {"5.4", "cd-tg0-64k", "TG0 = 64 KiB is C_BAD_CD where there is no such granule", Need::no_gran64k,
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.bad(f.cd().set<Cd::TG0>(Granule0::size64k));
     }},
    {"5.4",
     "cd-tg1-reserved",
     "TG1 = 0b00 is C_BAD_CD if TTB1 is in use",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.bad(f.cd().set<Cd::EPD1>(false).set<Cd::T1SZ>(25).set<Cd::TTB1>(IPA{f.space->root()}));
     }},
    {"5.4",
     "cd-epd1-ignores",
     "EPD1 = 1: T1SZ, TG1 and TTB1 are ignored",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.good(f.cd().set<Cd::T1SZ>(63).set<Cd::TG1>(Granule1::reserved).set<Cd::TTB1>(IPA{0xf'ffff'ffff'f000}));
     }},
    {"5.4",
     "cd-epd0-ignores",
     "EPD0 = 1: T0SZ, TG0 and TTB0 are ignored; its half faults",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const std::uint64_t page = r.rig.data_page();
       Space upper{f.d, kAsid, 12, 39, true};
       constexpr std::uint64_t kUpper = 0xffff'ff80'0000'0000 + 0x5000;
       upper.map(kUpper, page);
       upper.put_cd(
           upper.cd().set<Cd::T0SZ>(63).set<Cd::TG0>(static_cast<Granule0>(3)).set<Cd::TTB0>(IPA{0xf'ffff'ffff'f000}));
       if (!f.d.install(0, upper.ste())) return;
       f.d.expect_lands(0, kUpper, page, "DMA to the upper half does not arrive");
       f.d.expect_fault(0, kIova, EventId::F_TRANSLATION);
     }},
    {"5.4",
     "cd-ttb-beyond-ips",
     "TTB0 beyond IPS is C_BAD_CD",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.bad(f.cd().set<Cd::IPS>(AddressSize::bits32).set<Cd::TTB0>(IPA{std::uint64_t{1} << 33}));
     }},
    {"5.4",
     "cd-ips-capped",
     "IPS beyond the SMMU's OAS counts as the OAS",
     {},
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.good(f.cd().set<Cd::IPS>(AddressSize::bits48));
     }},
    {"5.4", "cd-endi", "ENDI = 1 is C_BAD_CD if tables are little-endian only", Need::little_endian,
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.bad(f.cd().set<Cd::ENDI>(true));
     }},
    {"5.4",
     "cd-aa32",
     "AA64 = 0 is C_BAD_CD without VMSAv8-32 tables",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       if (f.d.get<IDR0>(Reg::IDR0).get<IDR0::TTF>() != TtFormat::aarch64) return r.skip("IDR0.TTF == 0b10");
       f.bad(f.cd().set<Cd::AA64>(false));
     }},
    {"5.4", "cd-ha-without-httu", "HA = 1 is C_BAD_CD without HTTU", Need::no_httu,
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.bad(f.cd().set<Cd::HA>(true));
     }},
    {"5.4", "cd-hd-without-httu", "HD = 1 is C_BAD_CD without HTTU", Need::no_httu,
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.bad(f.cd().set<Cd::HD>(true));
     }},
    {"5.4", "cd-asid-wide", "A 16-bit ASID is C_BAD_CD without ASID16", Need::no_asid16,
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.bad(f.cd().set<Cd::ASID>(ASID{0x105}));
     }},
    {"5.4", "cd-asid-16", "A 16-bit ASID is legal with ASID16", Need::asid16,
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.good(f.cd().set<Cd::ASID>(ASID{0xfedc}));
     }},
    {"5.5", "cd-s-without-stall", "S = 1 is C_BAD_CD without the Stall model", Need::no_stall,
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.bad(f.cd().set<Cd::S>(true));
     }},
    {"5.5", "cd-s-with-s1stalld", "S = 1 is C_BAD_CD if the STE has S1STALLD", Need::stall,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.d.install(0, f.space->ste().set<Ste::S1STALLD>(true))) return;
       f.bad(f.cd().set<Cd::S>(true));
     }},
    {"5.5", "cd-a-with-term-model", "A = 0 is C_BAD_CD if TERM_MODEL is 1", Need::term_abort,
     [](Run& r) {
       Fixture f{r};
       if (f.ok) f.bad(f.cd().set<Cd::A>(false));
     }},
    {"5.5",
     "cd-r-0",
     "R = 0: a fault aborts without an event",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.put(f.cd().set<Cd::R>(false))) return;
       f.d.expect_aborts(0, kIova + kPage4K, "DMA to nothing mapped goes through");
       f.d.expect_no_event();
     }},
    {"5.4",
     "cd-tbi0",
     "TBI0 = 1: the top byte of an address is ignored, and TBI0 = 0: it is not",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.put(f.cd().set<Cd::TBI0>(true))) return;
       constexpr std::uint64_t kTagged = kIova | std::uint64_t{0x5a} << 56;
       f.d.expect_lands(0, kTagged, f.page, "DMA with a tag does not arrive");
       if (!f.put(f.cd().set<Cd::TBI0>(false))) return;
       f.d.expect_fault(0, kTagged, EventId::F_TRANSLATION);
     }},
    {"5.4",
     "cd-fresh-table",
     "TTB0 changes with CFGI_CD and an invalidation of the ASID",
     {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.good(f.cd())) return;
       const std::uint64_t page = r.rig.data_page();
       Space other{f.d, kAsid};
       other.map(kIova, page);
       f.space->put_cd(f.cd().set<Cd::TTB0>(IPA{other.root()}));
       if (!f.d.invalidate(cfgi_cd(f.d.sid(0), SubstreamID{0}, true), tlbi_nh_asid(VMID{0}, kAsid))) return;
       f.d.expect_lands(0, kIova, page, "DMA does not follow the new table");
     }},
});

}  // namespace

std::span<const Case> context_cases() { return kCases; }

}  // namespace weir::conformance
