// Chapter 4: which commands are legal, what CMD_SYNC signals, and recovery from errors (7.1).
#include <array>

#include "tests/conformance/cases/cases.hpp"
#include "tests/conformance/driver.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

constexpr StreamID kSid{8};
constexpr VMID kVmid{0};
constexpr IOVA kVa{kIova};

Command raw(unsigned opcode) { return Command{}.set<Command::Op>(static_cast<Opcode>(opcode)); }
template <typename T>
Command with_ssec() {
  return T{}.template set<typename T::SSec>(true);
}
// A range command that is legal with RIL: three pages of 4 KiB.
constexpr TlbiRange kRange{.tg = TlbiGranule::size4k, .ttl = 3, .num = 2, .scale = 0};

void all_illegal(Run& r, std::initializer_list<unsigned> opcodes) {
  Driver d{r};
  if (!d.start({.enable = false})) return;
  for (const unsigned opcode : opcodes)
    if (!d.expect_illegal(raw(opcode), "an opcode without a command is not refused")) return;
}
void range_illegal(Run& r, unsigned first, unsigned last) {
  Driver d{r};
  if (!d.start({.enable = false})) return;
  for (unsigned opcode = first; opcode <= last; ++opcode)
    if (!d.expect_illegal(raw(opcode), "an opcode without a command is not refused")) return;
}
void legal(Run& r, std::initializer_list<Command> commands) {
  Driver d{r};
  if (!d.start({.enable = false})) return;
  for (const Command& c : commands)
    if (!d.expect_legal(c, "a legal command is refused")) return;
  d.sync();
}
void illegal(Run& r, std::initializer_list<Command> commands) {
  Driver d{r};
  if (!d.start({.enable = false})) return;
  for (const Command& c : commands)
    if (!d.expect_illegal(c, "an illegal command is not refused")) return;
  d.sync();
}
// Reserved bits: refused, or without a meaning (4.1.5).
template <typename T>
void reserved_bits(Driver& d, T base) {
  for (unsigned bit = 8; bit < 128; ++bit) {
    const std::uint64_t mask = std::uint64_t{1} << (bit % 64);
    if ((T::Layout::res0[bit / 64] & mask) == 0) continue;
    Command c = base;
    c.words[bit / 64] |= mask;
    if (!d.run.expect(d.refused(c).has_value(), T::name)) return;
  }
}

constexpr auto kCases = std::to_array<Case>({
    // --- Opcodes
    {"4.1.1", "opcode-00", "Opcode 0x00 is CERROR_ILL", {}, [](Run& r) { all_illegal(r, {0x00}); }},
    {"4.1.1", "opcodes-reserved-low", "Reserved opcodes below 0x40 are CERROR_ILL", {},
     [](Run& r) {
       all_illegal(r, {0x08, 0x09, 0x0a, 0x0b, 0x0f, 0x14, 0x15, 0x16, 0x17, 0x19, 0x1b, 0x1f, 0x24, 0x27, 0x29, 0x2b,
                       0x2f, 0x31, 0x3f});
     }},
    {"4.1.1", "opcodes-reserved-high", "Reserved opcodes from 0x40 on are CERROR_ILL", {},
     [](Run& r) { all_illegal(r, {0x42, 0x43, 0x47, 0x4f, 0x61, 0x6f, 0x71, 0x72, 0x74, 0x7f}); }},
    {"4.1.1", "opcodes-90-ff", "Opcodes 0x90 to 0xff are CERROR_ILL", {}, [](Run& r) { range_illegal(r, 0x90, 0xff); }},
    {"4.4.2.5", "tlbi-el3", "EL3 invalidations are CERROR_ILL in the Non-secure queue", {},
     [](Run& r) { all_illegal(r, {0x18, 0x1a}); }},
    {"4.4.2", "tlbi-secure", "Secure invalidations are CERROR_ILL in the Non-secure queue", {},
     [](Run& r) { all_illegal(r, {0x50, 0x51, 0x52, 0x53, 0x58, 0x5a, 0x60}); }},
    {"4.6", "dpti-without-dpt", "DPT invalidations are CERROR_ILL without a DPT", {},
     [](Run& r) {
       Driver d{r};
       if (d.get<IDR3>(Reg::IDR3).get<IDR3::DPT>()) return r.skip("IDR3.DPT == 0");
       all_illegal(r, {0x70, 0x73});
     }},
    {"4.3.5", "vms-pidm-without-mpam", "CMD_CFGI_VMS_PIDM is CERROR_ILL without MPAM", {},
     [](Run& r) {
       Driver d{r};
       if (d.get<IDR3>(Reg::IDR3).get<IDR3::MPAM>()) return r.skip("IDR3.MPAM == 0");
       all_illegal(r, {0x07});
     }},
    // --- Prefetch
    {"4.2.1", "prefetch-config", "CMD_PREFETCH_CONFIG is consumed, with nothing enabled, too", {},
     [](Run& r) { legal(r, {PrefetchConfig{}.set<PrefetchConfig::StreamID>(kSid.value)}); }},
    {"4.2.2", "prefetch-addr", "CMD_PREFETCH_ADDR is consumed", {},
     [](Run& r) {
       legal(r, {PrefetchAddr{}.set<PrefetchAddr::StreamID>(kSid.value).set<PrefetchAddr::Address>(kVa)});
     }},
    {"4.2", "prefetch-silent", "A prefetch of an invalid STE or of nothing mapped records no event", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       Space space{d, kAsid};
       if (!d.install(0, Ste{}) || !d.install(1, space.ste())) return;
       for (unsigned device = 0; device < 2; ++device) {
         d.queue(PrefetchConfig{}.set<PrefetchConfig::StreamID>(r.rig.stream(device)));
         d.queue(PrefetchAddr{}.set<PrefetchAddr::StreamID>(r.rig.stream(device)).set<PrefetchAddr::Address>(kVa));
       }
       d.expect_no_event();
     }},
    {"4.2", "prefetch-out-of-range", "A prefetch of a StreamID or address out of range is no error", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       d.queue(PrefetchConfig{}.set<PrefetchConfig::StreamID>(0xffff'ff00));
       d.queue(PrefetchAddr{}.set<PrefetchAddr::StreamID>(kSid.value).set<PrefetchAddr::Address>(
           IOVA{0x7fff'ffff'ffff'f000}));
       d.expect_no_event();
     }},
    // --- Configuration
    {"4.3.1", "cfgi-ste", "CMD_CFGI_STE is consumed, Leaf 0 and 1", {},
     [](Run& r) { legal(r, {cfgi_ste(kSid, true), cfgi_ste(kSid, false)}); }},
    {"4.3.2", "cfgi-ste-range", "CMD_CFGI_STE_RANGE is consumed for every Range", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       for (unsigned range = 0; range < 32; ++range)
         if (!d.expect_legal(cfgi_ste_range(kSid, range), "CMD_CFGI_STE_RANGE is refused")) return;
     }},
    {"4.3.3", "cfgi-cd", "CMD_CFGI_CD is consumed", {},
     [](Run& r) { legal(r, {cfgi_cd(kSid, SubstreamID{0}, true), cfgi_cd(kSid, SubstreamID{0}, false)}); }},
    {"4.3.4", "cfgi-cd-all", "CMD_CFGI_CD_ALL is consumed", {}, [](Run& r) { legal(r, {cfgi_cd_all(kSid)}); }},
    {"4.3.6", "cfgi-all-any-sid", "CMD_CFGI_ALL ignores StreamID", {},
     [](Run& r) { legal(r, {cfgi_all(), cfgi_all().set<CfgiSteRange::StreamID>(0xffff'ffff)}); }},
    {"4.1.7", "cfgi-out-of-range", "A StreamID out of range is no error of a command", {},
     [](Run& r) {
       constexpr StreamID kFar{0xffff'fff0};
       legal(r, {cfgi_ste(kFar, true), cfgi_cd_all(kFar), cfgi_ste_range(kFar, 3)});
     }},
    {"4.1.6", "ssec-prefetch", "SSec = 1 is CERROR_ILL in CMD_PREFETCH_*", {},
     [](Run& r) { illegal(r, {with_ssec<PrefetchConfig>(), with_ssec<PrefetchAddr>()}); }},
    {"4.1.6", "ssec-cfgi", "SSec = 1 is CERROR_ILL in CMD_CFGI_*", {},
     [](Run& r) {
       illegal(r, {with_ssec<CfgiSte>(), with_ssec<CfgiSteRange>(), with_ssec<CfgiCd>(), with_ssec<CfgiCdAll>(),
                   cfgi_all().set<CfgiSteRange::SSec>(true)});
     }},
    {"4.1.6", "ssec-stall", "SSec = 1 is CERROR_ILL in CMD_RESUME and CMD_STALL_TERM", Need::stall,
     [](Run& r) { illegal(r, {with_ssec<Resume>(), with_ssec<StallTerm>()}); }},
    // --- TLB
    {"4.4.2.1", "tlbi-nh-all", "CMD_TLBI_NH_ALL is consumed", {}, [](Run& r) { legal(r, {tlbi_nh_all(kVmid)}); }},
    {"4.4.2.2", "tlbi-nh-asid", "CMD_TLBI_NH_ASID is consumed", {},
     [](Run& r) { legal(r, {tlbi_nh_asid(kVmid, kAsid)}); }},
    {"4.4.2.4", "tlbi-nh-va", "CMD_TLBI_NH_VA is consumed, Leaf 0 and 1", {},
     [](Run& r) { legal(r, {tlbi_nh_va(kVmid, kAsid, kVa, false), tlbi_nh_va(kVmid, kAsid, kVa, true)}); }},
    {"4.4.2.3", "tlbi-nh-vaa", "CMD_TLBI_NH_VAA is consumed, Leaf 0 and 1", {},
     [](Run& r) { legal(r, {tlbi_nh_vaa(kVmid, kVa, false), tlbi_nh_vaa(kVmid, kVa, true)}); }},
    {"4.4.4.1", "tlbi-nsnh-all", "CMD_TLBI_NSNH_ALL is consumed", {}, [](Run& r) { legal(r, {tlbi_nsnh_all()}); }},
    {"4.4", "asid-wide", "An ASID wider than the SMMU's is no error, or one of a reserved field", Need::no_asid16,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       r.expect(d.refused(tlbi_nh_asid(kVmid, ASID{0x105})).has_value(), "CMD_TLBI_NH_ASID");
       r.expect(d.refused(tlbi_nh_va(kVmid, ASID{0x105}, kVa, true)).has_value(), "CMD_TLBI_NH_VA");
     }},
    {"4.4", "asid-16", "All 16 bits of an ASID are legal with ASID16", Need::asid16,
     [](Run& r) {
       legal(r, {tlbi_nh_asid(kVmid, ASID{0xfedc}), tlbi_nh_va(kVmid, ASID{0xfedc}, kVa, true)});
     }},
    {"4.4.3", "s12-vmall-without-s2p", "CMD_TLBI_S12_VMALL is CERROR_ILL without stage 2", Need::no_s2p,
     [](Run& r) { illegal(r, {tlbi_s12_vmall(kVmid)}); }},
    {"4.4.3", "s2-ipa-without-s2p", "CMD_TLBI_S2_IPA is CERROR_ILL without stage 2", Need::no_s2p,
     [](Run& r) { illegal(r, {tlbi_s2_ipa(kVmid, IPA{kIova}, true)}); }},
    {"4.4.3", "s2-with-s2p", "CMD_TLBI_S12_VMALL and CMD_TLBI_S2_IPA are consumed with stage 2", Need::s2p,
     [](Run& r) { legal(r, {tlbi_s12_vmall(kVmid), tlbi_s2_ipa(kVmid, IPA{kIova}, true)}); }},
    {"4.4.2", "el2-without-hyp", "CMD_TLBI_EL2_* are CERROR_ILL without Hyp", Need::no_hyp,
     [](Run& r) { all_illegal(r, {0x20, 0x21, 0x22, 0x23}); }},
    {"4.4.2", "el2-with-hyp", "CMD_TLBI_EL2_ALL, _ASID, _VA and _VAA are consumed with Hyp", Need::hyp,
     [](Run& r) {
       legal(r, {tlbi_el2_all(), TlbiEl2Asid{}, TlbiEl2Va{}.set<TlbiEl2Va::Address>(kVa),
                 TlbiEl2Vaa{}.set<TlbiEl2Vaa::Address>(kVa)});
     }},
    {"4.4.1.1", "range", "Range invalidation is consumed", Need::ril | Need::gran4k,
     [](Run& r) {
       legal(r, {tlbi_nh_va(kVmid, kAsid, kVa, true, kRange), tlbi_nh_vaa(kVmid, kVa, false, kRange),
                 tlbi_nh_va(kVmid, kAsid, IOVA{0}, true, {.tg = TlbiGranule::size4k, .num = 31, .scale = 31})});
     }},
    {"4.4.1.1", "range-levels", "All levels that a granule has are legal hints", Need::ril,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       for (const unsigned tg : {1u, 2u, 3u})
         for (const unsigned ttl : {2u, 3u})
           if (!d.expect_legal(tlbi_nh_va(kVmid, kAsid, IOVA{0}, true, {.tg = static_cast<TlbiGranule>(tg), .ttl = ttl}),
                               "a level hint is refused"))
             return;
     }},
    {"4.4.1.1", "range-nothing", "TG with NUM, SCALE and TTL all 0 is CERROR_ILL", Need::ril,
     [](Run& r) {
       illegal(r, {tlbi_nh_va(kVmid, kAsid, kVa, true, {.tg = TlbiGranule::size4k}),
                   tlbi_nh_va(kVmid, kAsid, kVa, true, {.tg = TlbiGranule::size64k}),
                   tlbi_nh_vaa(kVmid, kVa, true, {.tg = TlbiGranule::size16k})});
     }},
    {"4.4.1.1", "range-16k-ttl-1", "TG 16 KiB with TTL 1 counts as TTL 0 without DS", Need::ril,
     [](Run& r) {
       Driver d{r};
       if (d.get<IDR5>(Reg::IDR5).get<IDR5::DS>()) return r.skip("IDR5.DS == 0");
       illegal(r, {tlbi_nh_va(kVmid, kAsid, IOVA{0}, true, {.tg = TlbiGranule::size16k, .ttl = 1})});
     }},
    {"4.4.1.1", "range-reserved-without-tg", "NUM, SCALE and TTL are reserved with TG = 0", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       for (const TlbiRange range : {TlbiRange{.ttl = 3}, TlbiRange{.num = 1}, TlbiRange{.scale = 1}})
         r.expect(d.refused(tlbi_nh_va(kVmid, kAsid, kVa, true, range)).has_value(), "TG == 0");
     }},
    {"4.4.1.1", "range-without-ril", "TG, NUM, SCALE and TTL are reserved without RIL", Need::no_ril,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       r.expect(d.refused(tlbi_nh_va(kVmid, kAsid, kVa, true, kRange)).has_value(), "CMD_TLBI_NH_VA");
       r.expect(d.refused(tlbi_nh_vaa(kVmid, kVa, true, kRange)).has_value(), "CMD_TLBI_NH_VAA");
     }},
    // --- Reserved bits
    {"4.1.5", "reserved-cfgi", "Reserved bits of CMD_CFGI_* are CERROR_ILL or ignored", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       reserved_bits(d, cfgi_ste(kSid, true));
       reserved_bits(d, cfgi_ste_range(kSid, 0));
       reserved_bits(d, cfgi_cd(kSid, SubstreamID{0}, true));
       reserved_bits(d, cfgi_cd_all(kSid));
     }},
    {"4.1.5", "reserved-tlbi", "Reserved bits of CMD_TLBI_* are CERROR_ILL or ignored", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       reserved_bits(d, tlbi_nh_all(kVmid));
       reserved_bits(d, tlbi_nh_asid(kVmid, kAsid));
       reserved_bits(d, tlbi_nh_va(kVmid, kAsid, kVa, true));
       reserved_bits(d, tlbi_nh_vaa(kVmid, kVa, true));
       reserved_bits(d, tlbi_nsnh_all());
     }},
    {"4.1.5", "reserved-sync", "Reserved bits of CMD_SYNC are CERROR_ILL or ignored", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       reserved_bits(d, sync_none());
     }},
    // --- ATS, PRI and stalls that are not there
    {"4.5.1", "atc-inv-without-ats", "CMD_ATC_INV is CERROR_ILL without ATS", Need::no_ats,
     [](Run& r) { illegal(r, {atc_inv_all(kSid)}); }},
    {"4.5.2", "pri-resp-without-pri", "CMD_PRI_RESP is CERROR_ILL without PRI", Need::no_pri,
     [](Run& r) { illegal(r, {pri_resp(kSid, std::nullopt, 0, PriResponse::success)}); }},
    {"4.7.1", "resume-without-stall", "CMD_RESUME is CERROR_ILL without the Stall model", Need::no_stall,
     [](Run& r) { illegal(r, {resume(kSid, 0, ResumeAction::retry)}); }},
    {"4.7.2", "stall-term-without-stall", "CMD_STALL_TERM is CERROR_ILL without the Stall model", Need::no_stall,
     [](Run& r) { illegal(r, {stall_term(kSid)}); }},
    {"4.5.1", "atc-inv-disabled", "CMD_ATC_INV is ignored while SMMUEN is 0", Need::ats,
     [](Run& r) { legal(r, {atc_inv_all(kSid), atc_inv(kSid, std::nullopt, kVa, 0)}); }},
    {"4.5.2", "pri-resp-disabled", "CMD_PRI_RESP is ignored while SMMUEN is 0", Need::pri,
     [](Run& r) { legal(r, {pri_resp(kSid, std::nullopt, 0, PriResponse::failure)}); }},
    {"4.5.2", "pri-resp-reserved", "CMD_PRI_RESP with Resp = 0b11 is CERROR_ILL", Need::pri,
     [](Run& r) { illegal(r, {pri_resp(kSid, std::nullopt, 0, PriResponse::illegal)}); }},
    {"4.7.1", "resume-of-nothing", "CMD_RESUME of a STAG that nothing has is consumed", Need::stall,
     [](Run& r) {
       legal(r, {resume(kSid, 0x1234, ResumeAction::retry), resume(kSid, 0x1234, ResumeAction::terminate_abort)});
     }},
    {"4.7.2", "stall-term-of-nothing", "CMD_STALL_TERM of a stream without stalls is consumed", Need::stall,
     [](Run& r) { legal(r, {stall_term(kSid)}); }},
    // --- CMD_SYNC
    {"4.7.3", "sync-none", "CMD_SYNC with CS = SIG_NONE completes; MSI parameters are ignored", {},
     [](Run& r) {
       legal(r, {sync_none(), Sync{}.set<Sync::MSIData>(0x1234).set<Sync::MSIAddress>(0x4000'0000)});
     }},
    {"4.7.3", "sync-cs-reserved", "CMD_SYNC with CS = 0b11 is CERROR_ILL", {},
     [](Run& r) { illegal(r, {Sync{}.set<Sync::CS>(SyncSignal::illegal)}); }},
    {"4.7.3", "sync-sev", "CMD_SYNC with CS = SIG_SEV completes, with and without SEV", {},
     [](Run& r) { legal(r, {sync_sev()}); }},
    {"4.7.3", "sync-sev-event", "CMD_SYNC with CS = SIG_SEV sends an event", Need::sev | Need::wake_events,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const unsigned before = r.rig.wake_events();
       d.queue(sync_sev());
       d.kick();
       r.expect(d.soon([&] { return d.consumed(); }), "CMD_SYNC is not consumed");
       r.expect(d.soon([&] { return r.rig.wake_events() > before; }), "no event");
     }},
    {"4.7.3", "sync-irq", "CMD_SYNC with CS = SIG_IRQ raises the cmdq-sync interrupt", Need::wires,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const unsigned before = r.rig.interrupts(Wire::cmdq_sync);
       d.queue(sync_irq(PA{}, 0));
       d.kick();
       r.expect(d.soon([&] { return d.consumed(); }), "CMD_SYNC is not consumed");
       r.expect(d.soon([&] { return r.rig.interrupts(Wire::cmdq_sync) > before; }), "no interrupt");
     }},
    {"4.7.3", "sync-none-silent", "CMD_SYNC with CS = SIG_NONE raises no interrupt", Need::wires,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const unsigned before = r.rig.interrupts(Wire::cmdq_sync);
       d.sync();
       r.rig.settle();
       r.equal(r.rig.interrupts(Wire::cmdq_sync), before, "interrupts");
     }},
    {"4.7.3", "sync-irq-without-msi", "Without MSIs, MSIAddress and MSIData are ignored", Need::no_msi,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const std::uint64_t at = r.rig.allocate(64, 64);
       d.queue(sync_irq(PA{at}, 0x1234'5678));
       d.kick();
       r.expect(d.soon([&] { return d.consumed(); }), "CMD_SYNC is not consumed");
       r.rig.settle();
       r.equal(r.rig.load(at), 0, "memory at MSIAddress");
     }},
    {"4.7.3", "sync-msi", "CMD_SYNC with CS = SIG_IRQ stores MSIData, 32 bits, at MSIAddress", Need::msi | Need::messages,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const std::uint64_t at = r.rig.allocate(64, 64);
       r.rig.store(at, ~std::uint64_t{0});
       d.queue(sync_irq(PA{at + 4}, 0x1234'5678));
       d.kick();
       r.expect(d.soon([&] { return r.rig.load(at) == 0x1234'5678'ffff'ffff; }), "no MSI");
       r.expect(d.soon([&] { return d.consumed(); }), "CMD_SYNC is not consumed");
     }},
    {"4.7.3", "sync-msi-abort", "An MSI of CMD_SYNC that aborts raises MSI_CMDQ_ABT_ERR; the queue goes on",
     Need::msi,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const std::uint32_t before = d.read(Reg::GERROR);
       d.queue(sync_irq(PA{r.rig.nowhere()}, 1));
       d.sync();  // the abort is reported before this one completes
       r.equal(d.read(Reg::GERROR) ^ before, GERROR::MSI_CMDQ_ABT_ERR::mask, "change of GERROR");
       d.acknowledge_errors();
       d.sync();
     }},
    // --- Errors
    {"7.1", "error-stops", "Nothing is consumed while CMDQ_ERR is active, whatever is stored to CMDQ_PROD", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const std::uint32_t at = d.prod();
       d.queue(Command{});
       d.kick();
       if (!r.expect(d.soon([&] { return d.command_error(); }), "no error")) return;
       d.put(d.slot(at), Command{sync_none()});
       d.queue(sync_none());
       d.kick();
       r.rig.settle();
       r.equal(d.field<CMDQ_CONS::RD>(Reg::CMDQ_CONS), at, "CMDQ_CONS.RD");
       d.acknowledge_errors();
       r.expect(d.soon([&] { return d.consumed(); }), "the queue does not go on");
     }},
    {"7.1", "error-earlier-consumed", "Commands before the faulty one are consumed, and those after it are not", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       d.queue(cfgi_all());
       d.queue(tlbi_nsnh_all());
       const std::uint32_t at = d.prod();
       d.queue(Command{});
       d.queue(sync_none());
       d.kick();
       if (!r.expect(d.soon([&] { return d.command_error(); }), "no error")) return;
       r.equal(d.field<CMDQ_CONS::RD>(Reg::CMDQ_CONS), at, "CMDQ_CONS.RD");
     }},
    {"7.1", "error-refetch", "Commands are fetched again after the acknowledge", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const std::uint32_t at = d.prod();
       d.queue(Command{});
       d.queue(Command{});  // replaced, too
       d.kick();
       if (!r.expect(d.soon([&] { return d.command_error(); }), "no error")) return;
       d.put(d.slot(at), Command{sync_none()});
       d.put(d.slot(at + 1), Command{sync_none()});
       d.acknowledge_errors();
       r.expect(d.soon([&] { return d.consumed(); }), "a replaced command is not fetched again");
       r.expect(!d.command_error(), "a second error");
     }},
    {"7.1", "error-rewind", "CMDQ_PROD may go back to CMDQ_CONS while an error is active", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const std::uint32_t at = d.prod();
       d.queue(Command{});
       d.queue(Command{});
       d.kick();
       if (!r.expect(d.soon([&] { return d.command_error(); }), "no error")) return;
       d.set_prod(at);
       d.kick();
       d.acknowledge_errors();
       r.rig.settle();
       r.expect(!d.command_error(), "a command that was taken back is executed");
       d.sync();
     }},
    {"7.1", "error-again", "The next faulty command toggles CMDQ_ERR again", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       for (int i = 0; i < 3; ++i)
         if (!d.expect_illegal(Command{}, "a reserved opcode")) return;
     }},
    {"6.3.28", "error-survives-cmdqen", "CMDQ_ERR stays active over CMDQEN = 0 and 1", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const std::uint32_t on = d.cr0();
       d.queue(Command{});
       d.kick();
       if (!r.expect(d.soon([&] { return d.command_error(); }), "no error")) return;
       if (!d.set_cr0(on & ~static_cast<std::uint32_t>(CR0::CMDQEN::mask))) return;
       r.expect(d.command_error(), "CMDQ_ERR is inactive with CMDQEN == 0");
       if (!d.set_cr0(on)) return;
       r.rig.settle();
       r.expect(d.command_error() && !d.consumed(), "CMDQ_ERR is inactive after CMDQEN");
     }},
    {"7.1", "cerror-abt", "A command queue where nothing is gives CERROR_ABT; CONS does not move", {},
     [](Run& r) {
       Driver d{r};
       const std::uint32_t before = d.read(Reg::GERROR);
       d.write64(Reg::CMDQ_BASE,
                 CMDQ_BASE{}.set<CMDQ_BASE::ADDR>(r.rig.nowhere()).set<CMDQ_BASE::LOG2SIZE>(4).words[0]);
       d.write(Reg::CMDQ_PROD, 0);
       d.write(Reg::CMDQ_CONS, 0);
       if (!d.set_cr0(CR0::CMDQEN::mask)) return;
       d.write(Reg::CMDQ_PROD, 1);
       if (!r.expect(d.soon([&] { return d.command_error(); }), "no error")) return;
       const auto cons = d.get<CMDQ_CONS>(Reg::CMDQ_CONS);
       r.equal(static_cast<unsigned>(cons.get<CMDQ_CONS::ERR>()), 2, "CMDQ_CONS.ERR");
       r.equal(cons.get<CMDQ_CONS::RD>(), 0, "CMDQ_CONS.RD");
       r.equal(d.read(Reg::GERROR) ^ before, GERROR::CMDQ_ERR::mask, "change of GERROR");
     }},
    {"7.1", "no-event-of-commands", "A command error records no event", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       if (!d.expect_illegal(Command{}, "a reserved opcode")) return;
       d.expect_no_event();
     }},
});

}  // namespace

std::span<const Case> command_cases() { return kCases; }

}  // namespace weir::conformance
