// What the ID registers promise works: one instruction of each feature, at EL1. What they hide is UNDEFINED, but for the
// few instructions and registers that EL2 cannot trap; these are listed.
#include <array>

#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/report.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "features";

namespace weir::guest {
namespace {

enum Id : unsigned { pfr0, pfr1, pfr2, dfr0, isar0, isar1, isar2, isar3, mmfr0, mmfr1, mmfr2, mmfr3, zfr0, kIds };
using Values = std::array<std::uint64_t, kIds>;

Values read_ids() {
  return {WEIR_READ_SYSREG("S3_0_C0_C4_0"), WEIR_READ_SYSREG("S3_0_C0_C4_1"), WEIR_READ_SYSREG("S3_0_C0_C4_2"),
          WEIR_READ_SYSREG("S3_0_C0_C5_0"), WEIR_READ_SYSREG("S3_0_C0_C6_0"), WEIR_READ_SYSREG("S3_0_C0_C6_1"),
          WEIR_READ_SYSREG("S3_0_C0_C6_2"), WEIR_READ_SYSREG("S3_0_C0_C6_3"), WEIR_READ_SYSREG("S3_0_C0_C7_0"),
          WEIR_READ_SYSREG("S3_0_C0_C7_1"), WEIR_READ_SYSREG("S3_0_C0_C7_2"), WEIR_READ_SYSREG("S3_0_C0_C7_3"),
          WEIR_READ_SYSREG("S3_0_C0_C4_4")};
}

using Probe = void();
// `least`: the smallest value of the field with the feature. `none`: a value that says it is absent.
struct Feature {
  std::string_view name;
  Probe* probe;
  Id id;
  unsigned shift;
  unsigned least;
  unsigned none = 0;
  bool trappable = true;  // by EL2
};

extern "C" {
Probe probe_aes, probe_pmull, probe_sha1, probe_sha256, probe_sha512, probe_sha3, probe_sm3, probe_sm4, probe_crc32,
    probe_atomics, probe_lse128, probe_rdm, probe_dotprod, probe_fhm, probe_flagm, probe_flagm2, probe_rng, probe_dpb,
    probe_dpb2, probe_jscvt, probe_fcma, probe_lrcpc, probe_lrcpc2, probe_frintts, probe_sb, probe_specres, probe_bf16,
    probe_i8mm, probe_fp16, probe_wfxt, probe_mops, probe_cssc, probe_sve, probe_sve2, probe_sme, probe_mte, probe_mte2,
    probe_ssbs, probe_ras, probe_dit, probe_amu, probe_pan, probe_uao, probe_tcr2, probe_sctlr2, probe_s1pie,
    probe_s1poe, probe_aie, probe_lor, probe_pmu, probe_spe, probe_trbe, probe_trf, probe_brbe, probe_doublelock,
    probe_mpam, probe_mpam0, probe_gcs, probe_scxtnum, probe_scxtnum0, probe_fpmr, probe_pfar, probe_accdata,
    probe_pmuserenr, probe_pmccntr, probe_amuserenr, probe_lorsa, probe_erxfr, probe_ecv, probe_nmi, probe_the,
    probe_pauth, probe_pacga;
}

constexpr auto kFeatures = std::to_array<Feature>({
    {"aes", probe_aes, isar0, 4, 1},
    {"pmull", probe_pmull, isar0, 4, 2},
    {"sha1", probe_sha1, isar0, 8, 1},
    {"sha256", probe_sha256, isar0, 12, 1},
    {"sha512", probe_sha512, isar0, 12, 2},
    {"sha3", probe_sha3, isar0, 32, 1},
    {"sm3", probe_sm3, isar0, 36, 1},
    {"sm4", probe_sm4, isar0, 40, 1},
    {"crc32", probe_crc32, isar0, 16, 1},
    {"atomics", probe_atomics, isar0, 20, 2},
    {"lse128", probe_lse128, isar0, 20, 3},
    {"rdm", probe_rdm, isar0, 28, 1},
    {"dotprod", probe_dotprod, isar0, 44, 1},
    {"fhm", probe_fhm, isar0, 48, 1},
    {"flagm", probe_flagm, isar0, 52, 1},
    {"flagm2", probe_flagm2, isar0, 52, 2},
    {"rng", probe_rng, isar0, 60, 1, 0, false},
    {"dpb", probe_dpb, isar1, 0, 1},
    {"dpb2", probe_dpb2, isar1, 0, 2},
    {"jscvt", probe_jscvt, isar1, 12, 1},
    {"fcma", probe_fcma, isar1, 16, 1},
    {"lrcpc", probe_lrcpc, isar1, 20, 1},
    {"lrcpc2", probe_lrcpc2, isar1, 20, 2},
    {"frintts", probe_frintts, isar1, 32, 1},
    {"sb", probe_sb, isar1, 36, 1},
    {"specres", probe_specres, isar1, 40, 1},
    {"bf16", probe_bf16, isar1, 44, 1},
    {"i8mm", probe_i8mm, isar1, 52, 1},
    {"fp16", probe_fp16, pfr0, 16, 1, 15},
    {"wfxt", probe_wfxt, isar2, 0, 2},
    {"mops", probe_mops, isar2, 16, 1},
    {"cssc", probe_cssc, isar2, 52, 1},
    {"sve", probe_sve, pfr0, 32, 1},
    {"sve2", probe_sve2, zfr0, 0, 1},
    {"sme", probe_sme, pfr1, 24, 1},
    {"mte", probe_mte, pfr1, 8, 1},
    {"mte2", probe_mte2, pfr1, 8, 2},
    {"ssbs", probe_ssbs, pfr1, 4, 2, 0, false},  // QEMU has MSR and MRS of it where the CPU has but the bit
    {"ras", probe_ras, pfr0, 28, 1},
    {"dit", probe_dit, pfr0, 48, 1},
    {"amu", probe_amu, pfr0, 44, 1},
    {"pan", probe_pan, mmfr1, 20, 1},
    {"uao", probe_uao, mmfr2, 4, 1},
    {"tcr2", probe_tcr2, mmfr3, 0, 1},
    {"sctlr2", probe_sctlr2, mmfr3, 4, 1},
    {"s1pie", probe_s1pie, mmfr3, 8, 1},
    {"s1poe", probe_s1poe, mmfr3, 16, 1},
    {"aie", probe_aie, mmfr3, 24, 1},
    {"lor", probe_lor, mmfr1, 16, 1},
    {"pmu", probe_pmu, dfr0, 8, 1, 15},
    {"spe", probe_spe, dfr0, 32, 1},
    {"trbe", probe_trbe, dfr0, 44, 1},
    {"trf", probe_trf, dfr0, 40, 1},
    {"brbe", probe_brbe, dfr0, 52, 1},
    {"doublelock", probe_doublelock, dfr0, 36, 0, 15, false},
    {"mpam", probe_mpam, pfr0, 40, 1},
    {"mpam0", probe_mpam0, pfr0, 40, 1},
    {"pmuserenr", probe_pmuserenr, dfr0, 8, 1, 15},
    {"pmccntr", probe_pmccntr, dfr0, 8, 1, 15},
    {"amuserenr", probe_amuserenr, pfr0, 44, 1},
    {"lorsa", probe_lorsa, mmfr1, 16, 1},
    {"erxfr", probe_erxfr, pfr0, 28, 1},
    {"fpmr", probe_fpmr, pfr2, 32, 1},
    {"pfar", probe_pfar, pfr1, 60, 1},
    {"accdata", probe_accdata, isar1, 60, 3},
    {"gcs", probe_gcs, pfr1, 44, 1},
    {"scxtnum", probe_scxtnum, pfr0, 56, 2},
    {"scxtnum0", probe_scxtnum0, pfr0, 56, 2},
    {"ecv", probe_ecv, mmfr0, 60, 1},
    {"nmi", probe_nmi, pfr1, 36, 1, 0, false},
    {"the", probe_the, pfr1, 48, 1},
});

Provoked run(Probe* probe, std::uint64_t memory) {
  return provoke([&] {
    register std::uint64_t x0 asm("x0") = memory;
    asm volatile("mov x1, x0\n mov x3, #0\n blr %1"
                 : "+r"(x0)
                 : "r"(probe)
                 : "x1", "x2", "x3", "x4", "x5", "x30", "memory", "cc");
  });
}

void check_feature(std::string_view name, Probe* probe, bool promised, std::uint64_t memory, bool trappable = true) {
  check(name);
  const Provoked p = run(probe, memory);
  if (promised) {
    expect(p.count == 0, "promised, but it does not work: ESR", p.esr);
  } else if (p.count == 0) {
    if (!expect(!trappable, "hidden, but it works")) return;
    Text<80> text;
    text.put("hidden, and works: ").put(name);
    say(text.view());
  } else {
    expect(p.ec() == ExceptionClass::unknown, "hidden, but not UNDEFINED: ESR", p.esr);
  }
}

// The debug communications channel: every CPU has it, and a VM's is empty.
void check_debug_channel() {
  check("debug-channel");
  const Provoked p = provoke([] {
    expect_equal(WEIR_READ_SYSREG("mdccsr_el0"), 0, "MDCCSR_EL0");
    WEIR_WRITE_SYSREG("dbgdtrtx_el0", 0x41);
    expect_equal(WEIR_READ_SYSREG("mdccsr_el0"), 0, "MDCCSR_EL0 after a word");
    expect_equal(WEIR_READ_SYSREG("mdccint_el1"), 0, "MDCCINT_EL1");
    expect_equal(WEIR_READ_SYSREG("mdrar_el1"), 0, "MDRAR_EL1");
  });
  expect(p.count == 0, "the channel is not there: ESR", p.esr);
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  const std::uint64_t memory = allocate(0x1000);
  const Values ids = read_ids();
  const auto field = [&](Id id, unsigned shift) { return static_cast<unsigned>(ids[id] >> shift & 0xf); };
  WEIR_WRITE_SYSREG("cpacr_el1", field(pfr1, 24) != 0 ? 0x333'0000u : field(pfr0, 32) != 0 ? 0x33'0000u : 0x30'0000u);
  isb();
  unsigned promised = 0;
  for (const Feature& f : kFeatures) {
    const unsigned value = field(f.id, f.shift);
    bool there = value >= f.least && (f.none == 0 || value != f.none);
    if (f.name == "sve2") there = there && field(pfr0, 32) != 0;
    promised += there ? 1 : 0;
    check_feature(f.name, f.probe, there, memory, f.trappable);
  }
  const bool address = (ids[isar1] >> 4 & 0xff) != 0 || field(isar2, 12) != 0;
  const bool generic = (ids[isar1] >> 24 & 0xff) != 0 || field(isar2, 8) != 0;
  check_feature("pauth", probe_pauth, address, memory);
  check_feature("pacga", probe_pacga, generic, memory);
  check_debug_channel();
  weir::Text<80> text;
  text.put("promised: ").dec(promised).put(" of ").dec(kFeatures.size());
  say(text.view());
}
