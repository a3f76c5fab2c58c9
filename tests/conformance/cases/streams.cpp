// 3.3, 5.1, 5.2, 6.3.14: what becomes of a stream.
#include <array>

#include "tests/conformance/cases/cases.hpp"
#include "tests/conformance/driver.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

constexpr auto kMapped = "DMA through stage 1 does not arrive";

// An address space with one page mapped at kIova.
struct Mapped {
  explicit Mapped(Driver& d, ASID asid = kAsid) : space{d, asid}, page{d.rig.data_page()} { space.map(kIova, page); }
  Space space;
  std::uint64_t page;
};

// This STE must be refused with C_BAD_STE.
void bad_ste(Driver& d, const Ste& ste) {
  if (d.install(0, ste)) d.expect_fault(0, kIova, EventId::C_BAD_STE);
}
// And this one must translate.
void good_ste(Driver& d, const Mapped& m, const Ste& ste) {
  if (d.install(0, ste) && d.expect_lands(0, kIova, m.page, kMapped)) d.expect_no_event();
}
void bad_streamid(Driver& d, unsigned device) { d.expect_fault(device, kIova, EventId::C_BAD_STREAMID); }

bool set_l1(Driver& d, unsigned device, const L1Std& l1) {
  d.put(d.l1std_at(d.rig.stream(device)), l1);
  return d.issue({cfgi_ste(d.sid(device), false)});
}

constexpr auto kCases = std::to_array<Case>({
    // --- SMMUEN = 0
    {"6.3.9.6", "disabled-bypass", "SMMUEN = 0 and GBPA.ABORT = 0: DMA goes through as it is", {},
     [](Run& r) {
       Driver d{r};
       const std::uint64_t page = r.rig.data_page();
       if (!d.set_gbpa(false)) return;
       d.expect_lands(0, page + 0x40, page + 0x40, "DMA does not arrive");
     }},
    {"6.3.9.6", "disabled-abort", "SMMUEN = 0 and GBPA.ABORT = 1: DMA aborts, no event", {},
     [](Run& r) {
       Driver d{r};
       const std::uint64_t page = r.rig.data_page();
       if (!d.start({.enable = false}) || !d.set_gbpa(true)) return;
       d.expect_aborts(0, page, "DMA goes through");
       d.expect_no_event();
       if (!d.set_gbpa(false)) return;
       d.expect_lands(0, page, page, "DMA does not arrive after ABORT = 0");
     }},
    {"6.3.9.6", "gbpa-without-effect", "GBPA has no effect while SMMUEN is 1", {},
     [](Run& r) {
       Driver d{r};
       const std::uint64_t page = r.rig.data_page();
       if (!d.start() || !d.install(0, ste_of(SteConfig::bypass)) || !d.set_gbpa(true)) return;
       d.expect_lands(0, page, page, "DMA of a bypassing stream");
       d.set_gbpa(false);
     }},
    {"6.3.9.6", "disable-again", "SMMUEN 1, 0, 1: stream table, GBPA, stream table", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       if (!d.install(0, m.space.ste()) || !d.expect_lands(0, kIova, m.page, kMapped)) return;
       const std::uint32_t on = d.cr0();
       if (!d.set_cr0(on & ~static_cast<std::uint32_t>(CR0::SMMUEN::mask))) return;
       d.expect_lands(0, m.page, m.page, "DMA with SMMUEN == 0");
       if (!d.set_cr0(on)) return;
       d.expect_lands(0, kIova, m.page, kMapped);
     }},
    {"6.3.9.6", "disabled-no-table", "The stream table is not looked at while SMMUEN is 0", {},
     [](Run& r) {
       Driver d{r};
       const std::uint64_t page = r.rig.data_page();
       if (!d.start({.enable = false})) return;
       d.write64(Reg::STRTAB_BASE, r.rig.nowhere());
       d.expect_lands(0, page, page, "DMA with SMMUEN == 0");
       d.expect_no_event();
     }},
    // --- STE.V and Config
    {"5.2", "ste-bypass", "Config = 0b100 bypasses", {},
     [](Run& r) {
       Driver d{r};
       const std::uint64_t page = r.rig.data_page();
       if (!d.start() || !d.install(0, ste_of(SteConfig::bypass))) return;
       d.expect_lands(0, page + 0x123 * 4, page + 0x123 * 4, "DMA of a bypassing stream");
     }},
    {"5.2", "ste-abort-silent", "Config = 0b000 aborts without an event", {},
     [](Run& r) {
       Driver d{r};
       const std::uint64_t page = r.rig.data_page();
       if (!d.start() || !d.install(0, ste_of(SteConfig::abort))) return;
       d.expect_aborts(0, page, "DMA goes through");
       d.expect_no_event();
     }},
    {"5.2", "ste-abort-reserved", "Config = 0b001, 0b010, 0b011 abort, too", {},
     [](Run& r) {
       Driver d{r};
       const std::uint64_t page = r.rig.data_page();
       if (!d.start()) return;
       for (const unsigned config : {1u, 2u, 3u}) {
         if (!d.install(0, ste_of(static_cast<SteConfig>(config)))) return;
         d.expect_aborts(0, page, "DMA goes through");
         if (!d.expect_no_event()) return;
       }
     }},
    {"5.2", "ste-invalid", "V = 0 aborts with C_BAD_STE", {},
     [](Run& r) {
       Driver d{r};
       if (d.start()) bad_ste(d, Ste{});
     }},
    {"5.2", "ste-invalid-ignores-rest", "V = 0 with all other bits set is C_BAD_STE and no more", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       Ste ste;
       for (auto& w : ste.words) w = ~std::uint64_t{0};
       bad_ste(d, ste.set<Ste::V>(false));
     }},
    {"5.2", "ste-stage1", "Config = 0b101 translates by stage 1", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       good_ste(d, m, m.space.ste());
     }},
    {"5.2", "ste-abort-ignores-rest", "Config = 0b000: nothing else in the STE is looked at", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       Ste ste = ste_of(SteConfig::abort);
       ste.set<Ste::S1CDMax>(31).set<Ste::S1STALLD>(true).set<Ste::S2S>(true).set<Ste::STRW>(static_cast<Strw>(3));
       if (!d.install(0, ste)) return;
       d.expect_aborts(0, kIova, "DMA goes through");
       d.expect_no_event();
     }},
    {"5.2", "ste-bypass-ignores-stage1", "Config = 0b100: stage-1 fields are ignored", {},
     [](Run& r) {
       Driver d{r};
       const std::uint64_t page = r.rig.data_page();
       if (!d.start()) return;
       Ste ste = ste_of(SteConfig::bypass);
       ste.set<Ste::S1CDMax>(31).set<Ste::S1Fmt>(S1Fmt::two_level_64k).set<Ste::S1STALLD>(true);
       ste.set<Ste::S1ContextPtr>(IPA{r.rig.nowhere()}).set<Ste::S1DSS>(S1Dss::substream0);
       if (!d.install(0, ste)) return;
       d.expect_lands(0, page, page, "DMA of a bypassing stream");
     }},
    {"5.2", "stage2-without-s2p", "Config = 0b110 and 0b111 are C_BAD_STE without stage 2", Need::no_s2p,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       bad_ste(d, m.space.ste().set<Ste::Config>(SteConfig::s2));
       bad_ste(d, m.space.ste().set<Ste::Config>(SteConfig::s1_s2));
     }},
    {"5.2", "stage2-fields-without-s2p", "Stage-2 fields are ignored without stage 2", Need::no_s2p,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       Ste ste = m.space.ste();
       ste.set<Ste::S2VMID>(VMID{0xfefe}).set<Ste::S2T0SZ>(0x3f).set<Ste::S2TG>(static_cast<Granule0>(3));
       ste.set<Ste::S2AA64>(false).set<Ste::S2S>(true).set<Ste::S2HA>(true).set<Ste::S2HD>(true);
       ste.set<Ste::S2TTB>(PA{0xf'ffff'ffff'f000}).set<Ste::S2ENDI>(true);
       good_ste(d, m, ste);
     }},
    {"5.2", "strw-without-hyp", "STRW is ignored without Hyp", Need::no_hyp,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       for (const unsigned strw : {1u, 2u, 3u}) good_ste(d, m, m.space.ste().set<Ste::STRW>(static_cast<Strw>(strw)));
     }},
    {"5.2", "strw-reserved", "STRW = 0bx1 is C_BAD_STE with Hyp", Need::hyp,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       bad_ste(d, m.space.ste().set<Ste::STRW>(static_cast<Strw>(1)));
       bad_ste(d, m.space.ste().set<Ste::STRW>(static_cast<Strw>(3)));
     }},
    {"5.2", "s1stalld-without-stall", "S1STALLD = 1 is C_BAD_STE without the Stall model", Need::no_stall,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       bad_ste(d, m.space.ste().set<Ste::S1STALLD>(true));
     }},
    {"5.2", "s1stalld-with-stall", "S1STALLD = 1 is legal with the Stall model", Need::stall,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       good_ste(d, m, m.space.ste().set<Ste::S1STALLD>(true));
     }},
    {"5.2", "s1cdmax-without-substreams", "S1CDMax, S1Fmt and S1DSS are ignored without substreams",
     Need::no_substreams,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       good_ste(d, m, m.space.ste().set<Ste::S1Fmt>(S1Fmt::two_level_4k));
       good_ste(d, m, m.space.ste().set<Ste::S1DSS>(S1Dss::bypass));
       good_ste(d, m, m.space.ste().set<Ste::S1CDMax>(3));
     }},
    {"5.2", "eats-without-ats", "EATS is ignored without ATS", Need::no_ats,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       for (const Eats eats : {Eats::full, Eats::split_stage, Eats::full_dpt})
         good_ste(d, m, m.space.ste().set<Ste::EATS>(eats));
     }},
    {"5.2", "ste-software", "Software's bits of an STE are ignored", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       good_ste(d, m, m.space.ste().set<Ste::SW_RESERVED>(0xf));
     }},
    {"5.2", "ste-attributes", "Attribute overrides of a translating stream do not change where DMA goes", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       Ste ste = m.space.ste();
       ste.set<Ste::MTCFG>(true).set<Ste::MemAttr>(MemAttr::normal_wb).set<Ste::ALLOCCFG>(0xe);
       ste.set<Ste::SHCFG>(ShareabilityConfig::inner).set<Ste::MEV>(true);
       good_ste(d, m, ste);
     }},
    // --- Changes
    {"3.21.3", "ste-changes", "A change of a live STE, CFGI_STE and CMD_SYNC: the new one is in force", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped a{d}, b{d, ASID{6}};
       for (int i = 0; i < 3; ++i) {
         good_ste(d, a, a.space.ste());
         good_ste(d, b, b.space.ste());
         if (!d.install(0, ste_of(SteConfig::bypass))) return;
         d.expect_lands(0, a.page, a.page, "DMA of a bypassing stream");
         if (!d.install(0, ste_of(SteConfig::abort))) return;
         d.expect_aborts(0, a.page, "DMA goes through");
         if (!d.expect_no_event()) return;
         bad_ste(d, Ste{});
         if (r.verdict() != Verdict::pass) return;
       }
     }},
    {"4.3.2", "cfgi-range-covers", "CFGI_STE_RANGE covers all StreamIDs of its range", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       for (unsigned device = 0; device < 2; ++device) {
         if (!d.install(device, ste_of(SteConfig::abort))) return;
         d.expect_aborts(device, kIova, "DMA goes through");
         d.put_ste(device, m.space.ste());
       }
       if (!d.issue({cfgi_ste_range(StreamID{0}, 7)})) return;
       for (unsigned device = 0; device < 2; ++device) d.expect_lands(device, kIova, m.page, kMapped);
     }},
    {"4.3.2", "cfgi-range-aligned", "The low bits of CFGI_STE_RANGE's StreamID are ignored", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       if (!d.install(0, ste_of(SteConfig::abort))) return;
       d.expect_aborts(0, kIova, "DMA goes through");
       d.put_ste(0, m.space.ste());
       if (!d.issue({cfgi_ste_range(StreamID{r.rig.stream(0) ^ 0x1f}, 4)})) return;
       d.expect_lands(0, kIova, m.page, kMapped);
     }},
    {"4.3.6", "cfgi-all-covers", "CFGI_ALL covers all streams", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped m{d};
       for (unsigned device = 0; device < 2; ++device) {
         if (!d.install(device, m.space.ste())) return;
         d.expect_lands(device, kIova, m.page, kMapped);
         d.put_ste(device, ste_of(SteConfig::abort));
       }
       if (!d.issue({cfgi_all()})) return;
       for (unsigned device = 0; device < 2; ++device) d.expect_aborts(device, kIova, "DMA goes through");
     }},
    {"3.3", "streams-apart", "Two streams have nothing to do with each other", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const Mapped a{d}, b{d, ASID{6}};
       if (!d.install(0, a.space.ste()) || !d.install(1, b.space.ste())) return;
       d.expect_lands(0, kIova, a.page, kMapped);
       d.expect_lands(1, kIova, b.page, kMapped);
       if (!d.install(1, ste_of(SteConfig::abort))) return;
       d.expect_lands(0, kIova, a.page, kMapped);
       d.expect_aborts(1, kIova, "DMA goes through");
     }},
    // --- Which StreamIDs there are
    {"7.3.3", "streamid-out-of-range", "A StreamID beyond LOG2SIZE aborts with C_BAD_STREAMID", {},
     [](Run& r) {
       Driver d{r};
       if (d.start({.sid_bits = 2})) bad_streamid(d, 0);
     }},
    {"6.3.12", "recinvsid-off", "CR2.RECINVSID = 0: C_BAD_STREAMID is not recorded", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.sid_bits = 2, .recinvsid = false})) return;
       d.expect_aborts(0, kIova, "DMA goes through");
       d.expect_no_event();
     }},
    {"7.3.4", "ste-fetch-abort", "A stream table where nothing is gives F_STE_FETCH", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       d.write64(Reg::STRTAB_BASE, r.rig.nowhere());
       if (!d.set_cr0(d.cr0() | CR0::SMMUEN::mask)) return;
       d.expect_fault(0, kIova, EventId::F_STE_FETCH);
     }},
    {"6.3.24", "strtab-aligned", "The base of a linear table is aligned to its size", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const std::uint64_t page = r.rig.data_page();
       d.put_ste(0, ste_of(SteConfig::bypass));
       d.write64(Reg::STRTAB_BASE, d.stream_table() + 0x1c0);
       if (!d.set_cr0(d.cr0() | CR0::SMMUEN::mask)) return;
       d.expect_lands(0, page, page, "DMA of a bypassing stream");
     }},
    {"6.3.25", "fmt-reserved", "FMT = 0b10 and 0b11 behave as linear", Need::two_level,
     [](Run& r) {
       for (const unsigned fmt : {2u, 3u}) {
         Driver d{r};
         if (!d.start({.enable = false})) return;
         const std::uint64_t page = r.rig.data_page();
         d.put_ste(0, ste_of(SteConfig::bypass));
         d.write(Reg::STRTAB_BASE_CFG, STRTAB_BASE_CFG{}.set<STRTAB_BASE_CFG::LOG2SIZE>(8)
                                           .set<STRTAB_BASE_CFG::FMT>(static_cast<StrtabFmt>(fmt)).words[0]);
         if (!d.issue({cfgi_all()}) || !d.set_cr0(d.cr0() | CR0::SMMUEN::mask)) return;
         d.expect_lands(0, page, page, "DMA of a bypassing stream");
         d.set_cr0(0);
       }
     }},
    {"6.3.25", "strtab-cfg-of-zero", "LOG2SIZE = 0: the table has one STE", {},
     [](Run& r) {
       Driver d{r};
       if (d.start({.sid_bits = 0})) bad_streamid(d, 0);
     }},
});

constexpr auto kTwoLevelCases = std::to_array<Case>({
    {"3.3.1.2", "two-level", "A two-level stream table, its level-2 tables of 64, 256 and 1024 STEs", Need::two_level,
     [](Run& r) {
       for (const unsigned split : {6u, 8u, 10u}) {
         Driver d{r};
         if (!d.start({.sid_bits = 10, .two_level = true, .split = split})) return;
         const Mapped m{d};
         good_ste(d, m, m.space.ste());
         if (!d.set_cr0(0) || r.verdict() != Verdict::pass) return;
       }
     }},
    {"6.3.25", "split-reserved", "A reserved SPLIT behaves as 6", Need::two_level,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.two_level = true, .enable = false})) return;
       const std::uint64_t page = r.rig.data_page();
       d.put_ste(0, ste_of(SteConfig::bypass));
       auto config = d.get<STRTAB_BASE_CFG>(Reg::STRTAB_BASE_CFG);
       d.write(Reg::STRTAB_BASE_CFG, config.set<STRTAB_BASE_CFG::SPLIT>(7).words[0]);
       if (!d.set_cr0(d.cr0() | CR0::SMMUEN::mask)) return;
       d.expect_lands(0, page, page, "DMA of a bypassing stream");
     }},
    {"5.1", "span-0", "Span = 0: C_BAD_STREAMID", Need::two_level,
     [](Run& r) {
       Driver d{r};
       if (d.start({.two_level = true})) bad_streamid(d, 0);
     }},
    {"5.1", "span-reserved", "Span > 11 behaves as 0: C_BAD_STREAMID", Need::two_level,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.two_level = true})) return;
       const std::uint64_t table = r.rig.allocate(0x1000, 0x1000);
       for (const unsigned span : {12u, 31u})
         if (set_l1(d, 0, L1Std{}.set<L1Std::L2Ptr>(table).set<L1Std::Span>(span))) bad_streamid(d, 0);
     }},
    {"7.3.3", "span-beyond-split", "Span > SPLIT + 1: C_BAD_STREAMID", Need::two_level,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.two_level = true})) return;
       const std::uint64_t table = r.rig.allocate(0x2000, 0x2000);
       if (set_l1(d, 0, L1Std{}.set<L1Std::L2Ptr>(table).set<L1Std::Span>(8))) bad_streamid(d, 0);
     }},
    {"7.3.3", "span-too-short", "A StreamID beyond its span: C_BAD_STREAMID", Need::two_level,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.two_level = true})) return;
       const std::uint64_t table = r.rig.allocate(0x1000, 0x1000);
       // 4 STEs: no device has one of the first four StreamIDs of 64.
       if (set_l1(d, 0, L1Std{}.set<L1Std::L2Ptr>(table).set<L1Std::Span>(3))) bad_streamid(d, 0);
     }},
    {"5.1", "span-exact", "A span that just covers the StreamID", Need::two_level,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.two_level = true})) return;
       const Mapped m{d};
       unsigned span = 1;
       while ((1u << (span - 1)) <= (r.rig.stream(0) & 63)) ++span;
       const std::uint64_t table = r.rig.allocate(0x1000, 0x1000);
       d.put(table + (r.rig.stream(0) & 63) * sizeof(Ste), m.space.ste());
       if (!set_l1(d, 0, L1Std{}.set<L1Std::L2Ptr>(table).set<L1Std::Span>(span))) return;
       d.expect_lands(0, kIova, m.page, kMapped);
     }},
    {"7.3.4", "l1std-fetch-abort", "A level-1 table where nothing is gives F_STE_FETCH", Need::two_level,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.two_level = true, .enable = false})) return;
       d.write64(Reg::STRTAB_BASE, r.rig.nowhere());
       if (!d.set_cr0(d.cr0() | CR0::SMMUEN::mask)) return;
       d.expect_fault(0, kIova, EventId::F_STE_FETCH);
     }},
    {"7.3.4", "l2-fetch-abort", "A level-2 table where nothing is gives F_STE_FETCH", Need::two_level,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.two_level = true})) return;
       if (set_l1(d, 0, L1Std{}.set<L1Std::L2Ptr>(r.rig.nowhere()).set<L1Std::Span>(7)))
         d.expect_fault(0, kIova, EventId::F_STE_FETCH);
     }},
    {"5.1.1", "l1std-changes", "A level-1 descriptor comes and goes with CFGI_STE Leaf = 0", Need::two_level,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.two_level = true})) return;
       const Mapped m{d};
       bad_streamid(d, 0);
       good_ste(d, m, m.space.ste());
       if (set_l1(d, 0, L1Std{})) bad_streamid(d, 0);
     }},
    {"6.3.25", "strtab-base-cfg-fmt", "STRTAB_BASE_CFG keeps FMT and SPLIT", Need::two_level,
     [](Run& r) {
       Driver d{r};
       STRTAB_BASE_CFG v;
       v.set<STRTAB_BASE_CFG::LOG2SIZE>(9).set<STRTAB_BASE_CFG::FMT>(StrtabFmt::two_level);
       v.set<STRTAB_BASE_CFG::SPLIT>(8);
       d.write(Reg::STRTAB_BASE_CFG, v.words[0]);
       r.equal(d.read(Reg::STRTAB_BASE_CFG), v.words[0], "STRTAB_BASE_CFG");
       d.write(Reg::STRTAB_BASE_CFG, 0);
     }},
    {"6.3.25", "two-levels-and-back", "A linear table after a two-level one", Need::two_level,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.two_level = true})) return;
       const Mapped m{d};
       good_ste(d, m, m.space.ste());
       if (!d.set_cr0(0) || !d.start()) return;
       const Mapped n{d};
       good_ste(d, n, n.space.ste());
     }},
});

}  // namespace

std::span<const Case> stream_cases() { return kCases; }
std::span<const Case> two_level_cases() { return kTwoLevelCases; }

}  // namespace weir::conformance
