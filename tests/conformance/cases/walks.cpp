// 3.4, 7.3.12 to 7.3.16: stage-1 translation, its faults and permissions.
#include <array>

#include "tests/conformance/cases/cases.hpp"
#include "tests/conformance/driver.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

constexpr auto kArrives = "DMA does not arrive";

struct Fixture {
  explicit Fixture(Run& r, unsigned granule = 12, unsigned bits = 39, bool upper = false) : d{r} {
    ok = d.start();
    if (!ok) return;
    page = d.rig.data_page();
    space.emplace(d, kAsid, granule, bits, upper);
    ok = d.install(0, space->ste());
  }
  // DMA to `iova` faults, and the record says so.
  std::optional<FTranslation> fault(std::uint64_t iova, EventId id) {
    const auto e = d.expect_fault(0, iova, id);
    if (!e) return std::nullopt;
    FTranslation f;
    f.words = e->words;
    d.run.equal(f.get<FTranslation::InputAddr>().value, iova, "InputAddr");
    d.run.expect(!f.get<FTranslation::S2>(), "S2");
    return f;
  }
  bool put(const Cd& cd) {
    space->put_cd(cd);
    return d.invalidate(cfgi_cd(d.sid(0), SubstreamID{0}, true), tlbi_nh_all(VMID{0}));
  }
  Driver d;
  std::optional<Space> space;
  std::uint64_t page = 0;
  bool ok = false;
};

// A page or block of a granule: both ends of it, in a data page whose place within the block is kept.
void lands_in_block(Run& r, unsigned granule, unsigned level) {
  Fixture f{r, granule};
  if (!f.ok) return;
  const std::uint64_t size = std::uint64_t{1} << (granule + (3 - level) * (granule - 3));
  const std::uint64_t iova = kIova & ~(size - 1);
  f.space->map(iova, f.page & ~(size - 1), Space::kReadWrite, level);
  const std::uint64_t offset = f.page & (size - 1);
  f.d.expect_lands(0, iova + offset, f.page, kArrives);
  f.d.expect_lands(0, iova + offset + 0xffc, f.page + 0xffc, kArrives);
  f.d.expect_no_event();
}

constexpr auto kCases = std::to_array<Case>({
    {"3.4.1", "page-4k", "A 4 KiB page", Need::gran4k, [](Run& r) { lands_in_block(r, 12, 3); }},
    {"3.4.1", "block-2m", "A 2 MiB block", Need::gran4k, [](Run& r) { lands_in_block(r, 12, 2); }},
    {"3.4.1", "block-1g", "A 1 GiB block", Need::gran4k, [](Run& r) { lands_in_block(r, 12, 1); }},
    {"3.4.1", "page-16k", "A 16 KiB page", Need::gran16k, [](Run& r) { lands_in_block(r, 14, 3); }},
    {"3.4.1", "block-32m", "A 32 MiB block", Need::gran16k, [](Run& r) { lands_in_block(r, 14, 2); }},
    {"3.4.1", "page-64k", "A 64 KiB page", Need::gran64k, [](Run& r) { lands_in_block(r, 16, 3); }},
    {"3.4.1", "block-512m", "A 512 MiB block", Need::gran64k, [](Run& r) { lands_in_block(r, 16, 2); }},
    {"3.4.1", "va-48", "48 bits of input address, four levels", Need::gran4k,
     [](Run& r) {
       Fixture f{r, 12, 48};
       if (!f.ok) return;
       constexpr std::uint64_t kTop = 0xffff'ffff'f000;
       f.space->map(kTop, f.page);
       f.d.expect_lands(0, kTop + 0xffc, f.page + 0xffc, kArrives);
     }},
    {"3.4.1", "va-32", "32 bits of input address", Need::gran4k,
     [](Run& r) {
       Fixture f{r, 12, 32};
       if (!f.ok) return;
       constexpr std::uint64_t kTop = 0xffff'f000;
       f.space->map(kTop, f.page);
       f.d.expect_lands(0, kTop, f.page, kArrives);
       f.fault(kTop + kPage4K, EventId::F_TRANSLATION);
     }},
    {"3.4.1", "va-edges", "The first and the last page of the range, and none beyond it", Need::gran4k,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       constexpr std::uint64_t kLast = (std::uint64_t{1} << 39) - kPage4K;
       f.space->map(0, f.page);
       f.space->map(kLast, f.page);
       f.d.expect_lands(0, 0, f.page, kArrives);
       f.d.expect_lands(0, kLast, f.page, kArrives);
       f.fault(kLast + kPage4K, EventId::F_TRANSLATION);
     }},
    {"3.4.1", "va-upper", "TTB1 translates the upper half", Need::gran4k,
     [](Run& r) {
       Fixture f{r, 12, 39, true};
       if (!f.ok) return;
       constexpr std::uint64_t kFirst = 0xffff'ff80'0000'0000, kLast = 0xffff'ffff'ffff'f000;
       f.space->map(kFirst, f.page);
       f.space->map(kLast, f.page);
       f.d.expect_lands(0, kFirst, f.page, kArrives);
       f.d.expect_lands(0, kLast, f.page, kArrives);
       f.fault(kFirst - kPage4K, EventId::F_TRANSLATION);
     }},
    {"3.4.1", "va-middle", "An address between the two halves faults", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.fault(0x0001'0000'0000'0000, EventId::F_TRANSLATION);
       f.fault(0x7fff'ffff'ffff'f000, EventId::F_TRANSLATION);
       f.fault(0x8000'0000'0000'0000, EventId::F_TRANSLATION);
     }},
    // --- F_TRANSLATION
    {"7.3.13", "unmapped", "Nothing mapped: F_TRANSLATION, CLASS IN", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       if (const auto e = f.fault(kIova, EventId::F_TRANSLATION))
         r.equal(static_cast<unsigned>(e->get<FTranslation::CLASS>()), static_cast<unsigned>(EventClass::IN), "CLASS");
     }},
    {"7.3.13", "leaf-invalid", "An invalid leaf: F_TRANSLATION", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       r.rig.store(f.space->entry(kIova), f.page | Space::kReadWrite);
       f.fault(kIova, EventId::F_TRANSLATION);
     }},
    {"7.3.13", "leaf-reserved", "A level-3 descriptor 0b01: F_TRANSLATION", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       r.rig.store(f.space->entry(kIova), f.page | Space::kReadWrite | 1);
       f.fault(kIova, EventId::F_TRANSLATION);
     }},
    {"7.3.13", "block-at-level-0", "A block at level 0: F_TRANSLATION without DS", Need::gran4k,
     [](Run& r) {
       Fixture f{r, 12, 48};
       if (!f.ok) return;
       if (f.d.get<IDR5>(Reg::IDR5).get<IDR5::DS>()) return r.skip("IDR5.DS == 0");
       f.space->map(0, 0, Space::kReadWrite, 0);
       f.fault(kIova & 0x7f'ffff'ffff, EventId::F_TRANSLATION);
     }},
    {"7.3.13", "input-address", "InputAddr has all of the address, low bits too", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.fault(kIova + 0xabc, EventId::F_TRANSLATION);
     }},
    {"7.3.13", "write-or-read", "RnW tells a read from a write", Need::reads,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       for (const bool write : {true, false}) {
         const auto e = f.d.expect_fault(0, {.iova = kIova, .write = write}, EventId::F_TRANSLATION);
         if (e) r.equal(e->as<FTranslation>()->get<FTranslation::RnW>(), !write, "RnW");
       }
     }},
    {"7.3", "write-attributes", "A write by an unprivileged device: RnW, PnU and InD are 0", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto e = f.fault(kIova, EventId::F_TRANSLATION);
       if (!e) return;
       r.expect(!e->get<FTranslation::RnW>(), "RnW");
       r.expect(!e->get<FTranslation::PnU>(), "PnU");
       r.expect(!e->get<FTranslation::InD>(), "InD");
     }},
    {"7.3", "attributes-privileged", "PnU and InD show what the device said", Need::attributes | Need::reads,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       const auto e = f.d.expect_fault(0, {.iova = kIova, .write = false, .privileged = true, .instruction = true},
                                       EventId::F_TRANSLATION);
       if (!e) return;
       r.expect(e->as<FTranslation>()->get<FTranslation::PnU>(), "PnU");
       r.expect(e->as<FTranslation>()->get<FTranslation::InD>(), "InD");
     }},
    // --- F_ADDR_SIZE
    {"7.3.14", "output-beyond-ips", "A page beyond IPS: F_ADDR_SIZE", Need::gran4k,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.put(f.space->cd().set<Cd::IPS>(AddressSize::bits40))) return;
       f.space->map(kIova, std::uint64_t{1} << 41);
       f.fault(kIova, EventId::F_ADDR_SIZE);
     }},
    {"7.3.14", "table-beyond-ips", "A table beyond IPS: F_ADDR_SIZE", Need::gran4k,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.put(f.space->cd().set<Cd::IPS>(AddressSize::bits40))) return;
       r.rig.store(f.space->entry(kIova, 2), (std::uint64_t{1} << 41) | 3);
       f.fault(kIova, EventId::F_ADDR_SIZE);
     }},
    {"7.3.14", "bypass-beyond-oas", "A bypassing stream's address beyond the OAS: F_ADDR_SIZE of stage 1", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start() || !d.install(0, ste_of(SteConfig::bypass))) return;
       const auto oas = bits(d.get<IDR5>(Reg::IDR5).get<IDR5::OAS>());
       const auto e = d.expect_fault(0, std::uint64_t{1} << oas, EventId::F_ADDR_SIZE);
       if (e) r.expect(!e->as<FAddrSize>()->get<FAddrSize::S2>(), "S2");
     }},
    // --- F_WALK_EABT
    {"7.3.12", "table-nowhere", "A table where nothing is: F_WALK_EABT, CLASS TT, S2 = 0", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       r.rig.store(f.space->entry(kIova, 2), r.rig.nowhere() | 3);
       const auto e = f.d.expect_fault(0, kIova, EventId::F_WALK_EABT);
       if (!e) return;
       const auto w = *e->as<FWalkEabt>();
       r.equal(w.get<FWalkEabt::InputAddr>().value, kIova, "InputAddr");
       r.equal(static_cast<unsigned>(w.get<FWalkEabt::CLASS>()), static_cast<unsigned>(EventClass::TT), "CLASS");
       r.expect(!w.get<FWalkEabt::S2>(), "S2");
     }},
    {"7.3.12", "root-nowhere", "TTB0 where nothing is: F_WALK_EABT, CLASS TT, S2 = 0", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.put(f.space->cd().set<Cd::TTB0>(IPA{r.rig.nowhere()}))) return;
       const auto e = f.d.expect_fault(0, kIova, EventId::F_WALK_EABT);
       if (!e) return;
       const auto w = *e->as<FWalkEabt>();
       r.equal(static_cast<unsigned>(w.get<FWalkEabt::CLASS>()), static_cast<unsigned>(EventClass::TT), "CLASS");
       r.expect(!w.get<FWalkEabt::S2>(), "S2");
     }},
    // --- F_ACCESS
    {"7.3.15", "access-flag", "AF = 0: F_ACCESS, without HTTU", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.page, Space::kReadWrite & ~Space::kAf);
       f.fault(kIova, EventId::F_ACCESS);
     }},
    {"5.5", "access-flag-affd", "AFFD = 1: AF is not looked at", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.put(f.space->cd().set<Cd::AFFD>(true))) return;
       f.space->map(kIova, f.page, Space::kReadWrite & ~Space::kAf);
       f.d.expect_lands(0, kIova, f.page, kArrives);
     }},
    {"3.13", "access-flag-httu", "HA = 1: AF is set by the SMMU, and the access goes on", Need::httu_access,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.put(f.space->cd().set<Cd::HA>(true))) return;
       f.space->map(kIova, f.page, Space::kReadWrite & ~Space::kAf);
       f.d.expect_lands(0, kIova, f.page, kArrives);
       f.d.sync();
       r.expect((r.rig.load(f.space->entry(kIova)) & Space::kAf) != 0, "AF");
     }},
    {"3.13", "dirty-httu", "HD = 1: a write to a read-only page with DBM makes it writable", Need::httu_dirty,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.put(f.space->cd().set<Cd::HA>(true).set<Cd::HD>(true))) return;
       f.space->map(kIova, f.page, Space::kReadOnly | vmsa::S1Attributes::DBM::mask);
       f.d.expect_lands(0, kIova, f.page, kArrives);
       f.d.sync();
       r.equal(static_cast<unsigned>(vmsa::S1Attributes::AP::decode(r.rig.load(f.space->entry(kIova)))),
               static_cast<unsigned>(vmsa::S1Ap::any_rw), "AP");
     }},
    // --- F_PERMISSION
    {"7.3.16", "read-only", "A write to a read-only page: F_PERMISSION", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.page, Space::kReadOnly);
       f.fault(kIova, EventId::F_PERMISSION);
     }},
    {"7.3.16", "read-only-read", "A read of a read-only page goes through", Need::reads,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.page, Space::kReadOnly);
       f.d.expect_lands(0, {.iova = kIova, .write = false}, f.page, kArrives);
     }},
    {"7.3.16", "privileged-page", "An unprivileged write to a privileged page: F_PERMISSION", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.page, Space::kPrivileged);
       f.fault(kIova, EventId::F_PERMISSION);
     }},
    {"7.3.16", "privileged-page-privileged", "A privileged write to a privileged page goes through", Need::attributes,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.page, Space::kPrivileged);
       f.d.expect_lands(0, {.iova = kIova, .privileged = true}, f.page, kArrives);
     }},
    {"5.2", "privcfg", "STE.PRIVCFG makes a device's accesses privileged, where the SMMU can override", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       if (!f.d.get<IDR1>(Reg::IDR1).get<IDR1::ATTR_PERMS_OVR>()) return r.skip("IDR1.ATTR_PERMS_OVR");
       f.space->map(kIova, f.page, Space::kPrivileged);
       if (!f.d.install(0, f.space->ste().set<Ste::PRIVCFG>(PrivConfig::privileged))) return;
       f.d.expect_lands(0, kIova, f.page, kArrives);
     }},
    {"3.4", "aptable", "APTable of a table makes what is below it read-only; HAD = 1 switches that off", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.page);
       const std::uint64_t at = f.space->entry(kIova, 2);
       r.rig.store(at, r.rig.load(at) | vmsa::S1Table::APTable::encode(0b10));
       f.fault(kIova, EventId::F_PERMISSION);
       if (!f.d.get<IDR3>(Reg::IDR3).get<IDR3::HAD>()) return;
       if (!f.put(f.space->cd().set<Cd::HAD0>(true))) return;
       f.d.expect_lands(0, kIova, f.page, kArrives);
     }},
    {"3.4", "aptable-unprivileged", "APTable[0] of a table takes unprivileged access away", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.page);
       const std::uint64_t at = f.space->entry(kIova, 2);
       r.rig.store(at, r.rig.load(at) | vmsa::S1Table::APTable::encode(0b01));
       f.fault(kIova, EventId::F_PERMISSION);
     }},
    {"5.4", "wxn-data", "WXN and UWXN do not matter to data", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.put(f.space->cd().set<Cd::WXN>(true).set<Cd::UWXN>(true))) return;
       f.space->map(kIova, f.page);
       f.d.expect_lands(0, kIova, f.page, kArrives);
     }},
    {"7.3.22", "access-before-permission", "AF = 0 on a read-only page: F_ACCESS, not F_PERMISSION", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.page, Space::kReadOnly & ~Space::kAf);
       f.fault(kIova, EventId::F_ACCESS);
     }},
    {"7.3.22", "size-before-access", "AF = 0 on a page beyond IPS: F_ADDR_SIZE", Need::gran4k,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok || !f.put(f.space->cd().set<Cd::IPS>(AddressSize::bits40))) return;
       f.space->map(kIova, std::uint64_t{1} << 41, Space::kReadWrite & ~Space::kAf);
       f.fault(kIova, EventId::F_ADDR_SIZE);
     }},
});

}  // namespace

std::span<const Case> walk_cases() { return kCases; }

}  // namespace weir::conformance
