#include "hyp/cpu/features.hpp"

#include <array>
#include <span>

#include "guest-abi/field.hpp"
#include "hyp/cpu/el2_controls.hpp"

namespace weir {
namespace {

enum class Show : std::uint8_t {
  pass,         // as it is
  at_most,      // no more than `limit`, a 4-bit unsigned value
  signed_pass,  // 0xf means absent; as it is
  whole,        // the register, all 64 bits
};

enum class Control : std::uint8_t { none, hcr, hcrx, hfgrtr, hfgitr };
struct Enable {
  Control control{};
  std::uint64_t bits{};
};
template <typename... Fields>
consteval Enable enable(Control control) {
  return {control, (Fields::mask | ...)};
}

template <Enable... list>
constexpr std::array<Enable, sizeof...(list)> kEnables{list...};
using Enables = std::span<const Enable>;

struct Feature {
  IdRegister reg;
  std::uint8_t lo;  // of a 4-bit field
  Show show;
  std::uint8_t limit;
  Enables enables;

  // The name is for the reader of the table.
  consteval Feature([[maybe_unused]] const char* name, IdRegister in, std::uint8_t at, Show how = Show::pass,
                    std::uint8_t most = 0xf, Enables needs = {})
      : reg{in}, lo{at}, show{how}, limit{most}, enables{needs} {}
};

constexpr Enables kPauth = kEnables<enable<HcrEl2::APK, HcrEl2::API>(Control::hcr)>;
constexpr Enables kPie = kEnables<enable<HfgrtrEl2::nPIRE0, HfgrtrEl2::nPIR>(Control::hfgrtr)>;
constexpr Enables kPoe = kEnables<enable<HfgrtrEl2::nPOR_EL0, HfgrtrEl2::nPOR_EL1>(Control::hfgrtr)>;
constexpr Enables kSme = kEnables<enable<HfgrtrEl2::nSMPRI, HfgrtrEl2::nTPIDR2>(Control::hfgrtr)>;
constexpr Enables kGcs =
    kEnables<enable<HcrxEl2::GCSEn>(Control::hcrx), enable<HfgrtrEl2::nGCS_EL0, HfgrtrEl2::nGCS_EL1>(Control::hfgrtr),
             enable<HfgitrEl2::nGCSPUSHM, HfgitrEl2::nGCSSTR, HfgitrEl2::nGCSEPP>(Control::hfgitr)>;

// The table. What is not in it is hidden; the remarks name what is hidden on purpose.
constexpr Feature kFeatures[] = {
    {"EL0", id::kAa64Pfr0, 0},
    {"EL1, AArch64 only", id::kAa64Pfr0, 4, Show::at_most, 1},
    {"FP", id::kAa64Pfr0, 16, Show::signed_pass},
    {"AdvSIMD", id::kAa64Pfr0, 20, Show::signed_pass},
    {"GIC system registers", id::kAa64Pfr0, 24, Show::at_most, 1},
    {"SVE", id::kAa64Pfr0, 32},
    {"DIT", id::kAa64Pfr0, 48},
    {"CSV2", id::kAa64Pfr0, 56, Show::pass, 0xf, kEnables<enable<HcrEl2::EnSCXT>(Control::hcr)>},
    {"CSV3", id::kAa64Pfr0, 60},
    // Hidden: EL2, EL3, RAS, SEL2, MPAM, AMU, RME.

    {"BTI", id::kAa64Pfr1, 0},
    {"SSBS", id::kAa64Pfr1, 4},
    {"MTE", id::kAa64Pfr1, 8, Show::pass, 0xf, kEnables<enable<HcrEl2::ATA>(Control::hcr)>},
    {"SME", id::kAa64Pfr1, 24, Show::pass, 0xf, kSme},
    {"CSV2_frac", id::kAa64Pfr1, 32},
    {"GCS", id::kAa64Pfr1, 44, Show::pass, 0xf, kGcs},
    // Hidden: RAS_frac, MPAM_frac, RNDR_trap, NMI, MTE_frac (asynchronous faults stay as MTE says), THE, MTEX, DF2, PFAR.

    {"FPMR", id::kAa64Pfr2, 32, Show::pass, 0xf, kEnables<enable<HcrxEl2::EnFPM>(Control::hcrx)>},
    {"SVE features", id::kAa64Zfr0, 0, Show::whole},
    {"SME features", id::kAa64Smfr0, 0, Show::whole},
    {"FP8 features", id::kAa64Fpfr0, 0, Show::whole},

    {"debug architecture up to 8.8", id::kAa64Dfr0, 0, Show::at_most, 0xa},
    {"breakpoints", id::kAa64Dfr0, 12},
    {"watchpoints", id::kAa64Dfr0, 20},
    {"context breakpoints", id::kAa64Dfr0, 28},
    {"OS double lock", id::kAa64Dfr0, 36, Show::signed_pass},
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
    {"RNG", id::kAa64Isar0, 60},

    {"DC CVAP", id::kAa64Isar1, 0},
    {"PAuth (QARMA5 addresses)", id::kAa64Isar1, 4, Show::pass, 0xf, kPauth},
    {"PAuth (other addresses)", id::kAa64Isar1, 8, Show::pass, 0xf, kPauth},
    {"JSCVT", id::kAa64Isar1, 12},
    {"FCMA", id::kAa64Isar1, 16},
    {"LRCPC", id::kAa64Isar1, 20},
    {"PAuth (QARMA5 generic)", id::kAa64Isar1, 24, Show::pass, 0xf, kPauth},
    {"PAuth (other generic)", id::kAa64Isar1, 28, Show::pass, 0xf, kPauth},
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
    {"PAuth (QARMA3 generic)", id::kAa64Isar2, 8, Show::pass, 0xf, kPauth},
    {"PAuth (QARMA3 addresses)", id::kAa64Isar2, 12, Show::pass, 0xf, kPauth},
    {"MOPS", id::kAa64Isar2, 16, Show::pass, 0xf, kEnables<enable<HcrxEl2::MSCEn>(Control::hcrx)>},
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

    {"40-bit physical addresses", id::kAa64Mmfr0, 0, Show::at_most, 2},
    {"ASID size", id::kAa64Mmfr0, 4},
    {"16 KiB granule, no LPA2", id::kAa64Mmfr0, 20, Show::at_most, 1},
    {"64 KiB granule", id::kAa64Mmfr0, 24, Show::signed_pass},
    {"4 KiB granule, no LPA2", id::kAa64Mmfr0, 28, Show::signed_pass, 0},
    {"self-synchronising counter", id::kAa64Mmfr0, 60, Show::at_most, 1},
    // Hidden: big endian (emulated registers are little-endian whatever the access), SNSMem, stage-2 granules, ExS, FGT,
    // ECV's EL2 half.

    {"hardware access flag and dirty state", id::kAa64Mmfr1, 0, Show::at_most, 2},
    {"HPDS", id::kAa64Mmfr1, 12},
    {"PAN", id::kAa64Mmfr1, 20},
    {"ETS", id::kAa64Mmfr1, 36},
    {"AFP", id::kAa64Mmfr1, 44},
    {"nTLBPA", id::kAa64Mmfr1, 48},
    {"TIDCP1", id::kAa64Mmfr1, 52},
    {"CMOW", id::kAa64Mmfr1, 56},
    {"ECBHB", id::kAa64Mmfr1, 60},
    // Hidden: VMID size, VHE, LORegions, SpecSEI, XNX, TWED, HCX.

    {"CnP", id::kAa64Mmfr2, 0},
    {"UAO", id::kAa64Mmfr2, 4},
    {"LSMAOC", id::kAa64Mmfr2, 8},
    {"LVA", id::kAa64Mmfr2, 16},
    {"CCIDX", id::kAa64Mmfr2, 20},
    {"small translation tables", id::kAa64Mmfr2, 28},
    {"LSE2", id::kAa64Mmfr2, 32},
    {"IDST", id::kAa64Mmfr2, 36, Show::at_most, 1},
    {"TTL", id::kAa64Mmfr2, 48},
    {"BBM", id::kAa64Mmfr2, 52},
    {"E0PD", id::kAa64Mmfr2, 60},
    // Hidden: IESB, nested virtualization, S2FWB, EVT.

    {"TCR2", id::kAa64Mmfr3, 0, Show::pass, 0xf, kEnables<enable<HcrxEl2::TCR2En>(Control::hcrx)>},
    {"SCTLR2", id::kAa64Mmfr3, 4, Show::pass, 0xf, kEnables<enable<HcrxEl2::SCTLR2En>(Control::hcrx)>},
    {"S1PIE", id::kAa64Mmfr3, 8, Show::pass, 0xf, kPie},
    {"S1POE", id::kAa64Mmfr3, 16, Show::pass, 0xf, kPoe},
    {"Spec_FPACC", id::kAa64Mmfr3, 60},
    // Hidden: S2PIE, S2POE, AIE, MEC, D128, SNERR, ANERR, SDERR, ADERR. All of MMFR4 (ASID2, E2H0...).

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
    {"A32 debug", id::kDfr0, 0, Show::at_most, 0xa},
    {"MMFR0", id::kMmfr0, 0, Show::whole},
    {"MMFR1", id::kMmfr1, 0, Show::whole},
    {"MMFR2", id::kMmfr2, 0, Show::whole},
    {"MMFR3", id::kMmfr3, 0, Show::whole},
    {"MMFR4", id::kMmfr4, 0, Show::whole},
    {"MMFR5", id::kMmfr5, 0, Show::whole},
    {"ISAR0", id::kIsar0, 0, Show::whole},
    {"ISAR1", id::kIsar1, 0, Show::whole},
    {"ISAR2", id::kIsar2, 0, Show::whole},
    {"ISAR3", id::kIsar3, 0, Show::whole},
    {"ISAR4", id::kIsar4, 0, Show::whole},
    {"ISAR5", id::kIsar5, 0, Show::whole},
    {"ISAR6", id::kIsar6, 0, Show::whole},
    {"MVFR0", id::kMvfr0, 0, Show::whole},
    {"MVFR1", id::kMvfr1, 0, Show::whole},
    {"MVFR2", id::kMvfr2, 0, Show::whole},
};

constexpr std::uint64_t kNibble = bit_mask(3, 0);

unsigned field_of(std::uint64_t value, unsigned lo) { return static_cast<unsigned>((value >> lo) & kNibble); }

// The field as the guest sees it.
unsigned shown(const Feature& f, std::uint64_t hardware) {
  const unsigned value = field_of(hardware, f.lo);
  if (f.show == Show::at_most) return value < f.limit ? value : f.limit;
  if (f.show == Show::signed_pass) return value > 7 || value <= f.limit ? value : f.limit;
  return value;
}

// Offsets of fields that decide which EL2 registers exist.
constexpr unsigned kPfr0Ras = 28, kPfr0Sve = 32, kPfr0Mpam = 40, kPfr1Sme = 24, kPfr1MpamFrac = 16, kDfr0PmuVer = 8,
                   kMmfr0Fgt = 56, kMmfr1Hcx = 40, kMmfr1VmidBits = 4, kSmfr0Smever = 56;
using Smfr0Fa64 = Field<"FA64", 63, 63, bool>;

}  // namespace

std::uint64_t sanitised_id(IdRegister reg, std::uint64_t hardware) {
  std::uint64_t value = 0;
  for (const Feature& f : kFeatures) {
    if (f.reg != reg) continue;
    if (f.show == Show::whole) return hardware;
    value |= std::uint64_t{shown(f, hardware)} << f.lo;
  }
  return value;
}

El2Controls el2_controls(IdSource hardware) {
  const std::uint64_t pfr0 = hardware(id::kAa64Pfr0);
  const std::uint64_t pfr1 = hardware(id::kAa64Pfr1);
  const std::uint64_t mmfr1 = hardware(id::kAa64Mmfr1);
  El2Controls c;
  c.has_sve = field_of(pfr0, kPfr0Sve) != 0;
  c.has_sme = field_of(pfr1, kPfr1Sme) != 0;
  c.has_mpam = field_of(pfr0, kPfr0Mpam) != 0 || field_of(pfr1, kPfr1MpamFrac) != 0;
  const unsigned pmu = field_of(hardware(id::kAa64Dfr0), kDfr0PmuVer);
  c.has_pmu = pmu != 0 && pmu != kNibble;
  c.has_hcrx = field_of(mmfr1, kMmfr1Hcx) != 0;
  const unsigned fgt = field_of(hardware(id::kAa64Mmfr0), kMmfr0Fgt);
  c.has_fgt = fgt != 0;
  c.has_fgt2 = fgt >= 2;
  c.has_ras = field_of(pfr0, kPfr0Ras) != 0;
  c.vmid16 = field_of(mmfr1, kMmfr1VmidBits) == 2;

  c.hcr = HcrEl2{}
              .set<HcrEl2::VM>(true)
              .set<HcrEl2::SWIO>(true)
              .set<HcrEl2::PTW>(true)
              .set<HcrEl2::FMO>(true)
              .set<HcrEl2::IMO>(true)
              .set<HcrEl2::AMO>(true)
              .set<HcrEl2::TID3>(true)
              .set<HcrEl2::TSC>(true)
              .set<HcrEl2::TIDCP>(true)
              .set<HcrEl2::TACR>(true)
              .set<HcrEl2::RW>(true)
              .set<HcrEl2::TLOR>(true)
              .set<HcrEl2::TERR>(true)
              .words[0];
  c.hcrx = HcrxEl2{}.set<HcrxEl2::TALLINT>(true).words[0];
  c.cptr = CptrEl2{}
               .set<CptrEl2::Res1_7_0>(CptrEl2::Res1_7_0::max)
               .set<CptrEl2::Res1_9>(true)
               .set<CptrEl2::Res1_13>(true)
               .set<CptrEl2::TZ>(!c.has_sve)
               .set<CptrEl2::TSM>(!c.has_sme)
               .set<CptrEl2::TTA>(true)
               .set<CptrEl2::TAM>(true)
               .words[0];
  c.mdcr = MdcrEl2{}
               .set<MdcrEl2::TPMCR>(true)
               .set<MdcrEl2::TPM>(true)
               .set<MdcrEl2::TDRA>(true)
               .set<MdcrEl2::TPMS>(true)
               .set<MdcrEl2::TTRF>(true)
               .words[0];
  c.zcr = ZcrEl2{}.set<ZcrEl2::LEN>(ZcrEl2::LEN::max).words[0];
  const std::uint64_t smfr0 = c.has_sme ? hardware(id::kAa64Smfr0) : 0;
  c.smcr = SmcrEl2{}
               .set<SmcrEl2::LEN>(SmcrEl2::LEN::max)
               .set<SmcrEl2::EZT0>(field_of(smfr0, kSmfr0Smever) != 0)
               .set<SmcrEl2::FA64>(Smfr0Fa64::decode(smfr0))
               .words[0];
  c.mpam2 = Mpam2El2{}.set<Mpam2El2::TRAPMPAM0EL1>(true).set<Mpam2El2::TRAPMPAM1EL1>(true).words[0];

  for (const Feature& f : kFeatures) {
    if (f.show == Show::whole || shown(f, hardware(f.reg)) == 0) continue;
    for (const Enable& e : f.enables) {
      if (e.control == Control::hcr) c.hcr |= e.bits;
      if (e.control == Control::hcrx) c.hcrx |= e.bits;
      if (e.control == Control::hfgrtr) c.hfgrtr |= e.bits;
      if (e.control == Control::hfgitr) c.hfgitr |= e.bits;
    }
  }
  return c;
}

}  // namespace weir
