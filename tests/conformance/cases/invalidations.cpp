// 4.4, 3.21.2: what an invalidation and a CMD_SYNC must have removed.
#include <array>

#include "tests/conformance/cases/cases.hpp"
#include "tests/conformance/driver.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

constexpr auto kArrives = "DMA does not arrive";

struct Fixture {
  explicit Fixture(Run& r, unsigned granule = 12, bool upper = false) : d{r} {
    ok = d.start();
    if (!ok) return;
    for (auto& p : pages) p = d.rig.data_page();
    space.emplace(d, kAsid, granule, 39, upper);
    ok = d.install(0, space->ste()) && d.install(1, space->ste());
  }
  Driver d;
  std::optional<Space> space;
  std::array<std::uint64_t, 4> pages{};
  bool ok = false;
};

// A page is mapped, used, unmapped, mapped elsewhere; `commands` stand between.
void after(Run& r, std::initializer_list<Command> commands, std::uint64_t flags = Space::kReadWrite) {
  Fixture f{r};
  if (!f.ok) return;
  for (int round = 0; round < 3; ++round) {
    f.space->map(kIova, f.pages[0], flags);
    if (!f.d.issue(commands) || !f.d.expect_lands(0, kIova, f.pages[0], kArrives)) return;
    f.space->unmap(kIova);
    if (!f.d.issue(commands) || !f.d.expect_fault(0, kIova, EventId::F_TRANSLATION)) return;
    f.space->map(kIova, f.pages[1], flags);
    if (!f.d.issue(commands) || !f.d.expect_lands(0, kIova, f.pages[1], kArrives)) return;
    f.space->unmap(kIova);
    if (!f.d.issue(commands)) return;
  }
}

// Pages [0, n) are mapped and used; one ranged command, and none of them is there any more.
void range(Run& r, unsigned n, const TlbiRange& how, unsigned granule = 12) {
  Fixture f{r, granule};
  if (!f.ok) return;
  const std::uint64_t size = std::uint64_t{1} << granule;
  const std::uint64_t base = kIova & ~(size * 64 - 1);
  const std::uint64_t to = f.pages[0] & ~(size - 1);
  const std::uint64_t offset = f.pages[0] & (size - 1);
  for (const bool global : {false, true}) {
    const std::uint64_t flags = global ? Space::kReadWrite & ~Space::kNonGlobal : Space::kReadWrite;
    for (unsigned i = 0; i < n; ++i) f.space->map(base + i * size, to, flags);
    for (unsigned i = 0; i < n; ++i)
      if (!f.d.expect_lands(0, base + i * size + offset, f.pages[0], kArrives)) return;
    for (unsigned i = 0; i < n; ++i) f.space->unmap(base + i * size);
    if (!f.d.issue({tlbi_nh_va(VMID{0}, kAsid, IOVA{base}, true, how)})) return;
    for (unsigned i = 0; i < n; ++i)
      if (!f.d.expect_fault(0, base + i * size + offset, EventId::F_TRANSLATION)) return;
  }
}

constexpr auto kCases = std::to_array<Case>({
    {"4.4.2", "after-nh-va", "TLBI_NH_VA removes a page", {},
     [](Run& r) { after(r, {tlbi_nh_va(VMID{0}, kAsid, IOVA{kIova}, true)}); }},
    {"4.4.2", "after-nh-va-all-levels", "TLBI_NH_VA with Leaf = 0 removes a page", {},
     [](Run& r) { after(r, {tlbi_nh_va(VMID{0}, kAsid, IOVA{kIova}, false)}); }},
    {"4.4.2", "after-nh-vaa", "TLBI_NH_VAA removes a page of any ASID", {},
     [](Run& r) { after(r, {tlbi_nh_vaa(VMID{0}, IOVA{kIova}, true)}); }},
    {"4.4.2", "after-nh-asid", "TLBI_NH_ASID removes what belongs to an ASID", {},
     [](Run& r) { after(r, {tlbi_nh_asid(VMID{0}, kAsid)}); }},
    {"4.4.2", "after-nh-all", "TLBI_NH_ALL removes all of a VMID", {}, [](Run& r) { after(r, {tlbi_nh_all(VMID{0})}); }},
    {"4.4.4", "after-nsnh-all", "TLBI_NSNH_ALL removes everything", {}, [](Run& r) { after(r, {tlbi_nsnh_all()}); }},
    {"4.4.2", "after-nh-va-global", "TLBI_NH_VA of another ASID removes a global page", {},
     [](Run& r) {
       after(r, {tlbi_nh_va(VMID{0}, ASID{0x7e}, IOVA{kIova}, true)}, Space::kReadWrite & ~Space::kNonGlobal);
     }},
    {"4.4.2", "after-nh-vaa-global", "TLBI_NH_VAA removes a global page", {},
     [](Run& r) {
       after(r, {tlbi_nh_vaa(VMID{0}, IOVA{kIova}, true)}, Space::kReadWrite & ~Space::kNonGlobal);
     }},
    {"4.4.3", "after-s12-vmall", "TLBI_S12_VMALL removes stage 1, too", Need::s2p,
     [](Run& r) { after(r, {tlbi_s12_vmall(VMID{0})}); }},
    {"4.4", "unaligned-address", "The address of TLBI_NH_VA may lie anywhere in the page or block", Need::gran4k,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       constexpr std::uint64_t kBlock = 0x20'0000;
       const std::uint64_t base = kIova & ~(kBlock - 1), offset = f.pages[0] & (kBlock - 1);
       f.space->map(base, f.pages[0] & ~(kBlock - 1), Space::kReadWrite, 2);
       if (!f.d.expect_lands(0, base + offset, f.pages[0], kArrives)) return;
       f.space->unmap(base, 2);
       if (!f.d.issue({tlbi_nh_va(VMID{0}, kAsid, IOVA{base + offset}, true)})) return;
       f.d.expect_fault(0, base + offset, EventId::F_TRANSLATION);
     }},
    {"4.4.2", "permission-change", "A page that becomes read-only is that after TLBI_NH_VA", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.pages[0]);
       if (!f.d.expect_lands(0, kIova, f.pages[0], kArrives)) return;
       f.space->map(kIova, f.pages[0], Space::kReadOnly);
       if (!f.d.issue({tlbi_nh_va(VMID{0}, kAsid, IOVA{kIova}, true)})) return;
       f.d.expect_fault(0, kIova, EventId::F_PERMISSION);
     }},
    {"4.4.2", "table-change", "A table that is replaced is gone after TLBI_NH_VA with Leaf = 0", Need::gran4k,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.pages[0]);
       if (!f.d.expect_lands(0, kIova, f.pages[0], kArrives)) return;
       // Another level-3 table.
       const std::uint64_t at = f.space->entry(kIova, 2);
       const std::uint64_t table = r.rig.allocate(kPage4K, kPage4K);
       r.rig.store(table + 8 * ((kIova >> 12) & 511), f.pages[1] | Space::kReadWrite | 3);
       r.rig.store(at, 0);
       if (!f.d.issue({tlbi_nh_va(VMID{0}, kAsid, IOVA{kIova}, false)})) return;
       r.rig.store(at, table | 3);
       f.d.expect_lands(0, kIova, f.pages[1], kArrives);
     }},
    {"4.4.2", "two-streams", "One invalidation is for all streams that share an address space", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.pages[0]);
       for (unsigned device = 0; device < 2; ++device)
         if (!f.d.expect_lands(device, kIova, f.pages[0], kArrives)) return;
       f.space->unmap(kIova);
       if (!f.d.issue({tlbi_nh_va(VMID{0}, kAsid, IOVA{kIova}, true)})) return;
       for (unsigned device = 0; device < 2; ++device) f.d.expect_fault(device, kIova, EventId::F_TRANSLATION);
     }},
    {"3.17", "asids-apart", "Two ASIDs have each its own translation of an address", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       Space other{f.d, ASID{0x21}};
       if (!f.d.install(1, other.ste())) return;
       f.space->map(kIova, f.pages[0]);
       other.map(kIova, f.pages[1]);
       for (int i = 0; i < 2; ++i) {
         f.d.expect_lands(0, kIova, f.pages[0], kArrives);
         f.d.expect_lands(1, kIova, f.pages[1], kArrives);
       }
       other.unmap(kIova);
       if (!f.d.issue({tlbi_nh_asid(VMID{0}, ASID{0x21})})) return;
       f.d.expect_lands(0, kIova, f.pages[0], kArrives);
       f.d.expect_fault(1, kIova, EventId::F_TRANSLATION);
     }},
    {"4.4.2", "vaa-all-asids", "TLBI_NH_VAA removes the address of all ASIDs", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       Space other{f.d, ASID{0x21}};
       if (!f.d.install(1, other.ste())) return;
       f.space->map(kIova, f.pages[0]);
       other.map(kIova, f.pages[1]);
       f.d.expect_lands(0, kIova, f.pages[0], kArrives);
       f.d.expect_lands(1, kIova, f.pages[1], kArrives);
       f.space->unmap(kIova);
       other.unmap(kIova);
       if (!f.d.issue({tlbi_nh_vaa(VMID{0}, IOVA{kIova}, true)})) return;
       for (unsigned device = 0; device < 2; ++device) f.d.expect_fault(device, kIova, EventId::F_TRANSLATION);
     }},
    {"4.4.2", "upper-half", "TLBI_NH_VA removes a page of the upper half", Need::gran4k,
     [](Run& r) {
       Fixture f{r, 12, true};
       if (!f.ok) return;
       constexpr std::uint64_t kUpper = 0xffff'ff80'1234'5000;
       f.space->map(kUpper, f.pages[0]);
       if (!f.d.expect_lands(0, kUpper, f.pages[0], kArrives)) return;
       f.space->unmap(kUpper);
       if (!f.d.issue({tlbi_nh_va(VMID{0}, kAsid, IOVA{kUpper}, true)})) return;
       f.d.expect_fault(0, kUpper, EventId::F_TRANSLATION);
     }},
    {"4.4.1.1", "range-8", "A range of 8 pages", Need::ril | Need::gran4k,
     [](Run& r) { range(r, 8, {.tg = TlbiGranule::size4k, .num = 7}); }},
    {"4.4.1.1", "range-scaled", "A range of 8 pages as (NUM + 1) * 2^SCALE", Need::ril | Need::gran4k,
     [](Run& r) { range(r, 8, {.tg = TlbiGranule::size4k, .num = 1, .scale = 2}); }},
    {"4.4.1.1", "range-with-level", "A range with a level hint", Need::ril | Need::gran4k,
     [](Run& r) { range(r, 8, {.tg = TlbiGranule::size4k, .ttl = 3, .num = 7}); }},
    {"4.4.1.1", "range-one-with-level", "One page with a level hint", Need::ril | Need::gran4k,
     [](Run& r) { range(r, 1, {.tg = TlbiGranule::size4k, .ttl = 3}); }},
    {"4.4.1.1", "range-large", "A range larger than what is mapped", Need::ril | Need::gran4k,
     [](Run& r) { range(r, 8, {.tg = TlbiGranule::size4k, .num = 31, .scale = 10}); }},
    {"4.4.1.1", "range-16k", "A range of 16 KiB pages", Need::ril | Need::gran16k,
     [](Run& r) { range(r, 4, {.tg = TlbiGranule::size16k, .ttl = 3, .num = 3}, 14); }},
    {"4.4.1.1", "range-64k", "A range of 64 KiB pages", Need::ril | Need::gran64k,
     [](Run& r) { range(r, 4, {.tg = TlbiGranule::size64k, .ttl = 3, .num = 3}, 16); }},
    {"4.4.1.1", "range-asid-only", "A range leaves no page of it with VAA, too", Need::ril | Need::gran4k,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       for (unsigned i = 0; i < 4; ++i) f.space->map(kIova + i * kPage4K, f.pages[i]);
       for (unsigned i = 0; i < 4; ++i) f.d.expect_lands(0, kIova + i * kPage4K, f.pages[i], kArrives);
       for (unsigned i = 0; i < 4; ++i) f.space->unmap(kIova + i * kPage4K);
       if (!f.d.issue({tlbi_nh_vaa(VMID{0}, IOVA{kIova}, true, {.tg = TlbiGranule::size4k, .num = 3})})) return;
       for (unsigned i = 0; i < 4; ++i) f.d.expect_fault(0, kIova + i * kPage4K, EventId::F_TRANSLATION);
     }},
    {"4.4.2", "page-16k-removed", "TLBI_NH_VA removes a 16 KiB page", Need::gran16k,
     [](Run& r) {
       Fixture f{r, 14};
       if (!f.ok) return;
       const std::uint64_t base = kIova & ~std::uint64_t{0x3fff}, offset = f.pages[0] & 0x3fff;
       f.space->map(base, f.pages[0] - offset);
       if (!f.d.expect_lands(0, base + offset, f.pages[0], kArrives)) return;
       f.space->unmap(base);
       if (!f.d.issue({tlbi_nh_va(VMID{0}, kAsid, IOVA{base}, true)})) return;
       f.d.expect_fault(0, base + offset, EventId::F_TRANSLATION);
     }},
    {"4.4.2", "page-64k-removed", "TLBI_NH_VA removes a 64 KiB page", Need::gran64k,
     [](Run& r) {
       Fixture f{r, 16};
       if (!f.ok) return;
       const std::uint64_t base = kIova & ~std::uint64_t{0xffff}, offset = f.pages[0] & 0xffff;
       f.space->map(base, f.pages[0] - offset);
       if (!f.d.expect_lands(0, base + offset, f.pages[0], kArrives)) return;
       f.space->unmap(base);
       if (!f.d.issue({tlbi_nh_va(VMID{0}, kAsid, IOVA{base}, true)})) return;
       f.d.expect_fault(0, base + offset, EventId::F_TRANSLATION);
     }},
    {"4.4", "vmid-without-s2p", "The VMID of a TLBI has no meaning without stage 2", Need::no_s2p,
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       f.space->map(kIova, f.pages[0]);
       if (!f.d.expect_lands(0, kIova, f.pages[0], kArrives)) return;
       f.space->unmap(kIova);
       // Reserved: zero is what software must write; another value is refused or does not matter (4.1.5).
       const auto refused = f.d.refused(tlbi_nh_all(VMID{0x33}));
       if (!r.expect(refused.has_value(), "CMD_TLBI_NH_ALL with a VMID")) return;
       if (*refused && !f.d.issue({tlbi_nh_all(VMID{0})})) return;
       f.d.sync();
       f.d.expect_fault(0, kIova, EventId::F_TRANSLATION);
     }},
    {"3.21.1", "many-changes", "Fifty changes, each with its invalidation: always the last one", {},
     [](Run& r) {
       Fixture f{r};
       if (!f.ok) return;
       for (unsigned i = 0; i < 50; ++i) {
         const std::uint64_t iova = kIova + (i * 7 % 5) * kPage4K;
         f.space->map(iova, f.pages[i % 4]);
         if (!f.d.issue({tlbi_nh_va(VMID{0}, kAsid, IOVA{iova}, true)})) return;
         if (!f.d.expect_lands(i % 2, iova, f.pages[i % 4], kArrives)) return;
         f.space->unmap(iova);
         if (!f.d.issue({tlbi_nh_va(VMID{0}, kAsid, IOVA{iova}, true)})) return;
       }
       f.d.expect_no_event();
     }},
});

}  // namespace

std::span<const Case> invalidation_cases() { return kCases; }

}  // namespace weir::conformance
