#include "hyp/cpu/feature_table.hpp"

namespace weir {
namespace {

constexpr auto& kPauth = kEnables<enable<HcrEl2::APK, HcrEl2::API>(Control::hcr)>;
constexpr auto& kPie = kEnables<enable<HfgrtrEl2::nPIRE0, HfgrtrEl2::nPIR>(Control::hfgrtr)>;
constexpr auto& kPoe = kEnables<enable<HfgrtrEl2::nPOR_EL0, HfgrtrEl2::nPOR_EL1>(Control::hfgrtr)>;
constexpr auto& kSme = kEnables<enable<HfgrtrEl2::nSMPRI, HfgrtrEl2::nTPIDR2>(Control::hfgrtr)>;
constexpr auto& kGcs =
    kEnables<enable<HcrxEl2::GCSEn>(Control::hcrx), enable<HfgrtrEl2::nGCS_EL0, HfgrtrEl2::nGCS_EL1>(Control::hfgrtr),
             enable<HfgitrEl2::nGCSPUSHM, HfgitrEl2::nGCSSTR, HfgitrEl2::nGCSEPP>(Control::hfgitr)>;

// FEAT_SME's FP8 instructions.
constexpr std::uint64_t kSmeFp8 = bit_mask(41, 40) | bit_mask(30, 28);  // F8F32, F8F16, SF8FMA, SF8DP4, SF8DP2

using Need = Feature::Need;
using AtMost = Feature::AtMost;
using Hidden = Feature::Hidden;
using Absent = Feature::Absent;
using Whole = Feature::Whole;
using Enables = Feature::Enables;

// The table. What is not in it is hidden and reads as zero; the remarks name what is hidden on purpose. `Absent` marks
// every field whose zero says that something is there.
constexpr Feature kFeatures[] = {
    {"EL0", id::kAa64Pfr0, 0},
    {"EL1, AArch64 only", id::kAa64Pfr0, 4, AtMost{1}},
    {"FP", id::kAa64Pfr0, 16, Absent{0xf}, Need{el3::kTFP, 0}},
    {"AdvSIMD", id::kAa64Pfr0, 20, Absent{0xf}, Need{el3::kTFP, 0}},
    {"GIC system registers", id::kAa64Pfr0, 24, AtMost{1}},
    {"SVE", id::kAa64Pfr0, 32, Need{el3::kEZ}},
    {"DIT", id::kAa64Pfr0, 48},
    {"CSV2", id::kAa64Pfr0, 56, Need{el3::kEnSCXT, 2}, Enables{kEnables<enable<HcrEl2::EnSCXT>(Control::hcr)>, 2}},
    {"CSV3", id::kAa64Pfr0, 60},
    // Hidden: EL2, EL3, RAS, SEL2, MPAM, AMU, RME.

    {"BTI", id::kAa64Pfr1, 0},
    {"SSBS", id::kAa64Pfr1, 4},
    {"MTE", id::kAa64Pfr1, 8, Need{el3::kATA, 2}, Enables{kEnables<enable<HcrEl2::ATA>(Control::hcr)>, 2}},
    {"SME", id::kAa64Pfr1, 24, Need{el3::kESM}, Need{el3::kEnTP2}, Enables{kSme}},
    {"CSV2_frac", id::kAa64Pfr1, 32, Need{el3::kEnSCXT, 2}},
    {"MTE_frac: asynchronous faults of MTE2", id::kAa64Pfr1, 40, Absent{0xf}},
    {"GCS", id::kAa64Pfr1, 44, Need{el3::kGCSEn}, Enables{kGcs}},
    // Hidden: RAS_frac, MPAM_frac, RNDR_trap, NMI, THE, MTEX, DF2, PFAR.

    {"FPMR", id::kAa64Pfr2, 32, Need{el3::kEnFPM}, Enables{kEnables<enable<HcrxEl2::EnFPM>(Control::hcrx)>}},
    {"SVE features", id::kAa64Zfr0, 0, Whole{}},
    {"SME features", id::kAa64Smfr0, 0, Whole{~kSmeFp8}},
    {"SME's FP8 features", id::kAa64Smfr0, 0, Whole{kSmeFp8}, Need{el3::kEnFPM}},  // FP8 reads FPMR
    {"FP8 features", id::kAa64Fpfr0, 0, Whole{}, Need{el3::kEnFPM}},

    {"debug architecture up to 8.8", id::kAa64Dfr0, 0, AtMost{0xa}, Need{el3::kTDA, 0}},
    {"breakpoints", id::kAa64Dfr0, 12},
    {"watchpoints", id::kAa64Dfr0, 20},
    {"context breakpoints", id::kAa64Dfr0, 28},
    {"OS double lock", id::kAa64Dfr0, 36, Absent{0xf}, Need{el3::kTDOSA, 0}},
    // Hidden: PMU (its overflow interrupt is not virtualised yet), trace, SPE, TRBE, BRBE.

    {"AES", id::kAa64Isar0, 4},
    {"SHA1", id::kAa64Isar0, 8},
    {"SHA2", id::kAa64Isar0, 12},
    {"CRC32", id::kAa64Isar0, 16},
    {"LSE", id::kAa64Isar0, 20},
    {"RDM", id::kAa64Isar0, 28},
    {"SHA3", id::kAa64Isar0, 32},
    {"SM3", id::kAa64Isar0, 36},
    {"SM4", id::kAa64Isar0, 40},
    {"DotProd", id::kAa64Isar0, 44},
    {"FHM", id::kAa64Isar0, 48},
    {"FlagM", id::kAa64Isar0, 52},
    {"TLBI outer shareable and range", id::kAa64Isar0, 56},
    {"RNG", id::kAa64Isar0, 60, Need{el3::kTRNDR}},

    {"DC CVAP", id::kAa64Isar1, 0},
    {"PAuth (QARMA5 addresses)", id::kAa64Isar1, 4, Need{el3::kAPK_API}, Enables{kPauth}},
    {"PAuth (other addresses)", id::kAa64Isar1, 8, Need{el3::kAPK_API}, Enables{kPauth}},
    {"JSCVT", id::kAa64Isar1, 12},
    {"FCMA", id::kAa64Isar1, 16},
    {"LRCPC", id::kAa64Isar1, 20},
    {"PAuth (QARMA5 generic)", id::kAa64Isar1, 24, Need{el3::kAPK_API}, Enables{kPauth}},
    {"PAuth (other generic)", id::kAa64Isar1, 28, Need{el3::kAPK_API}, Enables{kPauth}},
    {"FRINTTS", id::kAa64Isar1, 32},
    {"SB", id::kAa64Isar1, 36},
    {"SPECRES", id::kAa64Isar1, 40},
    {"BF16", id::kAa64Isar1, 44},
    {"DGH", id::kAa64Isar1, 48},
    {"I8MM", id::kAa64Isar1, 52},
    {"XS", id::kAa64Isar1, 56},
    // Hidden: LS64.

    {"WFxT", id::kAa64Isar2, 0},
    {"RPRES", id::kAa64Isar2, 4},
    {"PAuth (QARMA3 generic)", id::kAa64Isar2, 8, Need{el3::kAPK_API}, Enables{kPauth}},
    {"PAuth (QARMA3 addresses)", id::kAa64Isar2, 12, Need{el3::kAPK_API}, Enables{kPauth}},
    {"MOPS", id::kAa64Isar2, 16, Enables{kEnables<enable<HcrxEl2::MSCEn>(Control::hcrx)>}},
    {"HBC", id::kAa64Isar2, 20},
    {"PAC_frac", id::kAa64Isar2, 24},
    {"CLRBHB", id::kAa64Isar2, 28},
    {"PRFMSLC", id::kAa64Isar2, 40},
    {"RPRFM", id::kAa64Isar2, 48},
    {"CSSC", id::kAa64Isar2, 52},
    {"LUT", id::kAa64Isar2, 56},
    // Hidden: 128-bit system registers and instructions, ATS1A.

    {"FAMINMAX", id::kAa64Isar3, 4},
    {"LSFE", id::kAa64Isar3, 16},
    {"OCCMO", id::kAa64Isar3, 20},
    {"FPRCVT", id::kAa64Isar3, 28},
    // Hidden: CPA, TLBIW, PACM, LSUI.

    {"40-bit physical addresses", id::kAa64Mmfr0, 0, AtMost{2}},
    {"ASID size", id::kAa64Mmfr0, 4},
    {"16 KiB granule, no LPA2", id::kAa64Mmfr0, 20, AtMost{1}},
    {"64 KiB granule", id::kAa64Mmfr0, 24, Absent{0xf}},
    {"4 KiB granule, no LPA2", id::kAa64Mmfr0, 28, Absent{0xf}, AtMost{0}},
    {"self-synchronising counter", id::kAa64Mmfr0, 60, AtMost{1}},
    {"16 KiB granule at stage 2", id::kAa64Mmfr0, 32, Hidden{}, Absent{1}},  // 0: as at stage 1
    {"64 KiB granule at stage 2", id::kAa64Mmfr0, 36, Hidden{}, Absent{1}},
    {"4 KiB granule at stage 2", id::kAa64Mmfr0, 40, Hidden{}, Absent{1}},
    // Hidden: big endian (emulated registers are little-endian whatever the access), SNSMem, ExS, FGT, ECV's EL2 half.

    {"hardware access flag and dirty state", id::kAa64Mmfr1, 0, AtMost{2}},
    {"HPDS", id::kAa64Mmfr1, 12},
    {"PAN", id::kAa64Mmfr1, 20},
    {"SpecSEI", id::kAa64Mmfr1, 24},  // 0 promises that speculation raises no SError
    {"ETS", id::kAa64Mmfr1, 36},
    {"AFP", id::kAa64Mmfr1, 44},
    {"nTLBPA", id::kAa64Mmfr1, 48},
    {"TIDCP1", id::kAa64Mmfr1, 52},
    {"CMOW", id::kAa64Mmfr1, 56},
    {"ECBHB", id::kAa64Mmfr1, 60},
    // Hidden: VMID size, VHE, LORegions, XNX, TWED, HCX.

    {"CnP", id::kAa64Mmfr2, 0},
    {"UAO", id::kAa64Mmfr2, 4},
    {"LSMAOC", id::kAa64Mmfr2, 8},
    {"LVA", id::kAa64Mmfr2, 16},
    {"CCIDX", id::kAa64Mmfr2, 20},
    {"small translation tables", id::kAa64Mmfr2, 28},
    {"LSE2", id::kAa64Mmfr2, 32},
    {"IDST", id::kAa64Mmfr2, 36, AtMost{1}},
    {"TTL", id::kAa64Mmfr2, 48},
    {"BBM", id::kAa64Mmfr2, 52},
    {"E0PD", id::kAa64Mmfr2, 60},
    // Hidden: IESB, nested virtualization, S2FWB, EVT.

    {"TCR2", id::kAa64Mmfr3, 0, Need{el3::kTCR2En}, Enables{kEnables<enable<HcrxEl2::TCR2En>(Control::hcrx)>}},
    {"SCTLR2", id::kAa64Mmfr3, 4, Need{el3::kSCTLR2En}, Enables{kEnables<enable<HcrxEl2::SCTLR2En>(Control::hcrx)>}},
    {"S1PIE", id::kAa64Mmfr3, 8, Need{el3::kPIEn}, Enables{kPie}},
    {"S1POE", id::kAa64Mmfr3, 16, Need{el3::kPIEn}, Enables{kPoe}},
    {"Spec_FPACC", id::kAa64Mmfr3, 60},
    // Hidden: S2PIE, S2POE, AIE, MEC, D128, SNERR, ANERR, SDERR, ADERR.

    {"HCR_EL2.E2H = 0", id::kAa64Mmfr4, 24, Hidden{}, Absent{0xf}},
    // Hidden: all else of MMFR4 (ASID2...).

    // AArch32 at EL0: what programs and the guest's kernel read about instructions passes, with what needs state hidden.
    {"A32", id::kPfr0, 0},
    {"T32", id::kPfr0, 4},
    {"Jazelle", id::kPfr0, 8},
    {"ThumbEE", id::kPfr0, 12},
    {"A32 CSV2", id::kPfr0, 16},
    {"A32 DIT", id::kPfr0, 24},
    {"A32 programmers' model", id::kPfr1, 0},
    {"A32 generic timer", id::kPfr1, 16},
    {"A32 CSV3", id::kPfr2, 0},
    {"A32 SSBS", id::kPfr2, 4},
    {"A32 debug", id::kDfr0, 0, AtMost{0xa}},
    {"MMFR0", id::kMmfr0, 0, Whole{}},
    {"MMFR1", id::kMmfr1, 0, Whole{}},
    {"MMFR2", id::kMmfr2, 0, Whole{}},
    {"MMFR3", id::kMmfr3, 0, Whole{}},
    {"MMFR4", id::kMmfr4, 0, Whole{}},
    {"MMFR5", id::kMmfr5, 0, Whole{}},
    {"ISAR0", id::kIsar0, 0, Whole{}},
    {"ISAR1", id::kIsar1, 0, Whole{}},
    {"ISAR2", id::kIsar2, 0, Whole{}},
    {"ISAR3", id::kIsar3, 0, Whole{}},
    {"ISAR4", id::kIsar4, 0, Whole{}},
    {"ISAR5", id::kIsar5, 0, Whole{}},
    {"ISAR6", id::kIsar6, 0, Whole{}},
    {"MVFR0", id::kMvfr0, 0, Whole{}},
    {"MVFR1", id::kMvfr1, 0, Whole{}},
    {"MVFR2", id::kMvfr2, 0, Whole{}},
};

// No bit belongs to two rows.
consteval bool disjoint() {
  for (const Feature* a = std::begin(kFeatures); a != std::end(kFeatures); ++a)
    for (const Feature* b = std::begin(kFeatures); b != a; ++b)
      if (a->field.reg == b->field.reg && (a->mask & b->mask) != 0) return false;
  return true;
}
static_assert(disjoint());

}  // namespace

unsigned Feature::value(IdSource cpu) const {
  if (show == Show::hidden) return absent;
  const unsigned hardware = id_field(cpu, field);
  if (is_signed() && hardware > 7) return hardware;
  unsigned most = limit;
  for (const Need& need : needs) {
    if (is_open(need.el3, cpu) || need.from > most) continue;
    if (need.from <= 1) return absent;
    most = need.from - 1U;
  }
  return hardware < most ? hardware : most;
}

std::uint64_t Feature::shown(IdSource cpu) const {
  if (show != Show::whole) return std::uint64_t{value(cpu)} << field.lo;
  for (const Need& need : needs)
    if (!is_open(need.el3, cpu)) return 0;
  return cpu(field.reg) & mask;
}

bool Feature::shows(IdSource cpu, std::uint8_t from) const {
  if (show == Show::whole) return false;
  const unsigned v = value(cpu);
  return v != absent && v >= from;
}

std::span<const Feature> feature_table() { return kFeatures; }

}  // namespace weir
