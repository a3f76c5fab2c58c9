#include "hyp/cpu/guest_state.hpp"

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/el2_registers.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/cpu/el2_controls.hpp"
#include "hyp/cpu/el2_tlb.hpp"
#include "hyp/cpu/el3_controls.hpp"
#include "hyp/cpu/features.hpp"
#include "hyp/cpu/id_registers.hpp"
#include "hyp/vm/vm.hpp"

// Registers newer than the assembler's architecture level, by encoding.
#define SYSREG_ZCR_EL2 S3_4_C1_C2_0
#define SYSREG_SMCR_EL2 S3_4_C1_C2_6
#define SYSREG_HCRX_EL2 S3_4_C1_C2_2
#define SYSREG_HFGRTR_EL2 S3_4_C1_C1_4
#define SYSREG_HFGWTR_EL2 S3_4_C1_C1_5
#define SYSREG_HFGITR_EL2 S3_4_C1_C1_6
#define SYSREG_HDFGRTR_EL2 S3_4_C3_C1_4
#define SYSREG_HDFGWTR_EL2 S3_4_C3_C1_5
#define SYSREG_HDFGRTR2_EL2 S3_4_C3_C1_0
#define SYSREG_HDFGWTR2_EL2 S3_4_C3_C1_1
#define SYSREG_HFGRTR2_EL2 S3_4_C3_C1_2
#define SYSREG_HFGWTR2_EL2 S3_4_C3_C1_3
#define SYSREG_HFGITR2_EL2 S3_4_C3_C1_7
#define SYSREG_VSESR_EL2 S3_4_C5_C2_3
#define SYSREG_TCR2_EL1 S3_0_C2_C0_3
#define SYSREG_PIRE0_EL1 S3_0_C10_C2_2
#define SYSREG_PIR_EL1 S3_0_C10_C2_3
#define SYSREG_POR_EL0 S3_3_C10_C2_4
#define SYSREG_POR_EL1 S3_0_C10_C2_4
#define SYSREG_GCSCR_EL1 S3_0_C2_C5_0
#define SYSREG_GCSPR_EL1 S3_0_C2_C5_1
#define SYSREG_GCSCRE0_EL1 S3_0_C2_C5_2
#define SYSREG_GCSPR_EL0 S3_3_C2_C5_1
#define SYSREG_ZCR_EL1 S3_0_C1_C2_0
#define SYSREG_SMCR_EL1 S3_0_C1_C2_6
#define SYSREG_SMPRI_EL1 S3_0_C1_C2_4
#define SYSREG_SVCR S3_3_C4_C2_2
#define SYSREG_TPIDR2_EL0 S3_3_C13_C0_5
#define SYSREG_APIAKEYLO S3_0_C2_C1_0
#define SYSREG_APIAKEYHI S3_0_C2_C1_1
#define SYSREG_APIBKEYLO S3_0_C2_C1_2
#define SYSREG_APIBKEYHI S3_0_C2_C1_3
#define SYSREG_APDAKEYLO S3_0_C2_C2_0
#define SYSREG_APDAKEYHI S3_0_C2_C2_1
#define SYSREG_APDBKEYLO S3_0_C2_C2_2
#define SYSREG_APDBKEYHI S3_0_C2_C2_3
#define SYSREG_APGAKEYLO S3_0_C2_C3_0
#define SYSREG_APGAKEYHI S3_0_C2_C3_1
#define SYSREG_TFSR_EL1 S3_0_C5_C6_0
#define SYSREG_TFSRE0_EL1 S3_0_C5_C6_1
#define SYSREG_RGSR_EL1 S3_0_C1_C0_5
#define SYSREG_GCR_EL1 S3_0_C1_C0_6
// One more level of expansion, so that the names above reach the assembler as encodings.
#define WRITE_NEW_SYSREG(reg, value) WRITE_SYSREG(reg, value)

namespace weir {
namespace {

struct PmcrEl0 : Record<PmcrEl0, 64> {
  using N = Field<"N", 15, 11, std::uint8_t>;
  using Layout = weir::Layout<64, Ignored<10, 0>, N, Ignored<63, 16>>;
};

// SCTLR_EL1 out of reset: MMU and caches off, RES1 bits of Armv8.0 set (D24.2, "SCTLR_EL1").
struct SctlrEl1 : Record<SctlrEl1, 64> {
  using Eos = Field<"EOS", 11, 11, bool>;
  using TSCXT = Field<"TSCXT", 20, 20, bool>;
  using Eis = Field<"EIS", 22, 22, bool>;
  using SPAN = Field<"SPAN", 23, 23, bool>;
  using NTLSMD = Field<"nTLSMD", 28, 28, bool>;
  using LSMAOE = Field<"LSMAOE", 29, 29, bool>;
  using ITD = Field<"ITD", 7, 7, bool>;
  using SED = Field<"SED", 8, 8, bool>;
  using Layout = weir::Layout<64, Ignored<6, 0>, ITD, SED, Ignored<10, 9>, Eos, Ignored<19, 12>, TSCXT, Ignored<21, 21>,
                              Eis, SPAN, Ignored<27, 24>, NTLSMD, LSMAOE, Ignored<63, 30>>;
};
constexpr std::uint64_t kSctlrReset = SctlrEl1{}
                                          .set<SctlrEl1::Eos>(true)
                                          .set<SctlrEl1::TSCXT>(true)
                                          .set<SctlrEl1::Eis>(true)
                                          .set<SctlrEl1::SPAN>(true)
                                          .set<SctlrEl1::NTLSMD>(true)
                                          .set<SctlrEl1::LSMAOE>(true)
                                          .words[0];
static_assert(kSctlrReset == 0x30d00800);

bool has(FeatureRegisters group) { return may_touch(group, &hardware_id); }

void reset_translation() {
  WRITE_SYSREG(sctlr_el1, kSctlrReset);
  WRITE_SYSREG(tcr_el1, 0);
  WRITE_SYSREG(ttbr0_el1, 0);
  WRITE_SYSREG(ttbr1_el1, 0);
  WRITE_SYSREG(mair_el1, 0);
  WRITE_SYSREG(amair_el1, 0);
  WRITE_SYSREG(contextidr_el1, 0);
  if (has(FeatureRegisters::tcr2)) WRITE_NEW_SYSREG(SYSREG_TCR2_EL1, 0);
  if (has(FeatureRegisters::s1pie)) {
    WRITE_NEW_SYSREG(SYSREG_PIRE0_EL1, 0);
    WRITE_NEW_SYSREG(SYSREG_PIR_EL1, 0);
  }
  if (has(FeatureRegisters::s1poe)) {
    WRITE_NEW_SYSREG(SYSREG_POR_EL0, 0);
    WRITE_NEW_SYSREG(SYSREG_POR_EL1, 0);
  }
  if (has(FeatureRegisters::gcs)) {
    WRITE_NEW_SYSREG(SYSREG_GCSCR_EL1, 0);
    WRITE_NEW_SYSREG(SYSREG_GCSPR_EL1, 0);
    WRITE_NEW_SYSREG(SYSREG_GCSCRE0_EL1, 0);
    WRITE_NEW_SYSREG(SYSREG_GCSPR_EL0, 0);
  }
}

void reset_exceptions_and_threads() {
  WRITE_SYSREG(vbar_el1, 0);
  WRITE_SYSREG(esr_el1, 0);
  WRITE_SYSREG(far_el1, 0);
  WRITE_SYSREG(elr_el1, 0);
  WRITE_SYSREG(spsr_el1, 0);
  WRITE_SYSREG(afsr0_el1, 0);
  WRITE_SYSREG(afsr1_el1, 0);
  WRITE_SYSREG(par_el1, 0);
  WRITE_SYSREG(sp_el1, 0);
  WRITE_SYSREG(sp_el0, 0);
  WRITE_SYSREG(tpidr_el1, 0);
  WRITE_SYSREG(tpidr_el0, 0);
  WRITE_SYSREG(tpidrro_el0, 0);
  WRITE_SYSREG(csselr_el1, 0);
  WRITE_SYSREG(cpacr_el1, 0);
  // AArch32 state that is banked in AArch64 registers, which are UNDEFINED where EL1 cannot be AArch32.
  if (id_field(&hardware_id, id::kEl1) < 2) return;
  WRITE_SYSREG(spsr_abt, 0);
  WRITE_SYSREG(spsr_fiq, 0);
  WRITE_SYSREG(spsr_irq, 0);
  WRITE_SYSREG(spsr_und, 0);
  WRITE_SYSREG(dacr32_el2, 0);
  WRITE_SYSREG(ifsr32_el2, 0);
}

void reset_extensions(const El2Controls& controls) {
  if (controls.has_sme) {
    WRITE_NEW_SYSREG(SYSREG_SVCR, 0);  // PSTATE.SM and ZA off: their contents are gone
    WRITE_NEW_SYSREG(SYSREG_SMCR_EL1, 0);
    WRITE_NEW_SYSREG(SYSREG_SMPRI_EL1, 0);
  }
  if (has(FeatureRegisters::tpidr2)) WRITE_NEW_SYSREG(SYSREG_TPIDR2_EL0, 0);
  if (controls.has_sve) WRITE_NEW_SYSREG(SYSREG_ZCR_EL1, 0);
  WRITE_SYSREG(S3_3_C4_C4_0,
               0);  // FPCR; FP and SIMD registers: whatever the machine's reset left, Weir never used them
  WRITE_SYSREG(S3_3_C4_C4_1, 0);  // FPSR
  if (has(FeatureRegisters::pauth)) {
    WRITE_NEW_SYSREG(SYSREG_APIAKEYLO, 0);
    WRITE_NEW_SYSREG(SYSREG_APIAKEYHI, 0);
    WRITE_NEW_SYSREG(SYSREG_APIBKEYLO, 0);
    WRITE_NEW_SYSREG(SYSREG_APIBKEYHI, 0);
    WRITE_NEW_SYSREG(SYSREG_APDAKEYLO, 0);
    WRITE_NEW_SYSREG(SYSREG_APDAKEYHI, 0);
    WRITE_NEW_SYSREG(SYSREG_APDBKEYLO, 0);
    WRITE_NEW_SYSREG(SYSREG_APDBKEYHI, 0);
    WRITE_NEW_SYSREG(SYSREG_APGAKEYLO, 0);
    WRITE_NEW_SYSREG(SYSREG_APGAKEYHI, 0);
  }
  if (has(FeatureRegisters::mte)) {
    WRITE_NEW_SYSREG(SYSREG_TFSR_EL1, 0);
    WRITE_NEW_SYSREG(SYSREG_TFSRE0_EL1, 0);
    WRITE_NEW_SYSREG(SYSREG_RGSR_EL1, 0);
    WRITE_NEW_SYSREG(SYSREG_GCR_EL1, 0);
  }
}

void reset_timers() {
  WRITE_SYSREG(cntkctl_el1, 0);
  WRITE_SYSREG(cntv_ctl_el0, 0);
  WRITE_SYSREG(cntp_ctl_el0, 0);
  WRITE_SYSREG(cntv_cval_el0, 0);
  WRITE_SYSREG(cntp_cval_el0, 0);
}

// Counters that firmware left on would go on counting, and ask for interrupts, where the guest cannot see them.
void reset_hidden_pmu() {
  if (!has(FeatureRegisters::pmu)) return;
  constexpr std::uint64_t kAll = 0xffff'ffff;
  WRITE_SYSREG(pmcr_el0, 0);
  WRITE_SYSREG(pmcntenclr_el0, kAll);
  WRITE_SYSREG(pmintenclr_el1, kAll);
  WRITE_SYSREG(pmovsclr_el0, kAll);
  WRITE_SYSREG(pmuserenr_el0, 0);
}

void reset_debug() {
  WRITE_SYSREG(mdscr_el1, 0);
  if (has(FeatureRegisters::double_lock)) WRITE_SYSREG(osdlr_el1, 0);
  const unsigned breakpoints = id_field(&hardware_id, {id::kAa64Dfr0, 12}) + 1;
  const unsigned watchpoints = id_field(&hardware_id, {id::kAa64Dfr0, 20}) + 1;
#define WEIR_RESET_DEBUG(n)             \
  do {                                  \
    if ((n) < breakpoints) {            \
      WRITE_SYSREG(dbgbcr##n##_el1, 0); \
      WRITE_SYSREG(dbgbvr##n##_el1, 0); \
    }                                   \
    if ((n) < watchpoints) {            \
      WRITE_SYSREG(dbgwcr##n##_el1, 0); \
      WRITE_SYSREG(dbgwvr##n##_el1, 0); \
    }                                   \
  } while (false)
  WEIR_RESET_DEBUG(0);
  WEIR_RESET_DEBUG(1);
  WEIR_RESET_DEBUG(2);
  WEIR_RESET_DEBUG(3);
  WEIR_RESET_DEBUG(4);
  WEIR_RESET_DEBUG(5);
  WEIR_RESET_DEBUG(6);
  WEIR_RESET_DEBUG(7);
  WEIR_RESET_DEBUG(8);
  WEIR_RESET_DEBUG(9);
  WEIR_RESET_DEBUG(10);
  WEIR_RESET_DEBUG(11);
  WEIR_RESET_DEBUG(12);
  WEIR_RESET_DEBUG(13);
  WEIR_RESET_DEBUG(14);
  WEIR_RESET_DEBUG(15);
#undef WEIR_RESET_DEBUG
}

}  // namespace

void install_guest_controls(const Vcpu& vcpu) {
  Vm& vm = vcpu.vm();
  const El2Controls c = el2_controls(&hardware_id);
  WRITE_SYSREG(hcr_el2, c.hcr);
  WRITE_SYSREG(hstr_el2, 0);
  WRITE_SYSREG(hacr_el2, 0);
  WRITE_SYSREG(cptr_el2, c.cptr);
  MdcrEl2 mdcr;
  mdcr.words[0] = c.mdcr;
  if (c.has_pmu) {
    const PmcrEl0 pmcr = READ_SYSREG_AS(PmcrEl0, pmcr_el0);
    mdcr.set<MdcrEl2::HPMN>(pmcr.get<PmcrEl0::N>());
  }
  WRITE_SYSREG_RECORD(mdcr_el2, mdcr);
  if (c.has_hcrx) WRITE_NEW_SYSREG(SYSREG_HCRX_EL2, c.hcrx);
  if (c.has_fgt) {
    WRITE_NEW_SYSREG(SYSREG_HFGRTR_EL2, c.hfgrtr);
    WRITE_NEW_SYSREG(SYSREG_HFGWTR_EL2, c.hfgrtr);
    WRITE_NEW_SYSREG(SYSREG_HFGITR_EL2, c.hfgitr);
    WRITE_NEW_SYSREG(SYSREG_HDFGRTR_EL2, 0);
    WRITE_NEW_SYSREG(SYSREG_HDFGWTR_EL2, 0);
  }
  if (c.has_fgt2) {
    WRITE_NEW_SYSREG(SYSREG_HFGRTR2_EL2, 0);
    WRITE_NEW_SYSREG(SYSREG_HFGWTR2_EL2, 0);
    WRITE_NEW_SYSREG(SYSREG_HFGITR2_EL2, 0);
    WRITE_NEW_SYSREG(SYSREG_HDFGRTR2_EL2, 0);
    WRITE_NEW_SYSREG(SYSREG_HDFGWTR2_EL2, 0);
  }
  if (c.has_ras) WRITE_NEW_SYSREG(SYSREG_VSESR_EL2, 0);  // the syndrome of an SError that is passed on
  isb();
  if (c.has_sve) WRITE_NEW_SYSREG(SYSREG_ZCR_EL2, c.zcr);
  if (c.has_sme) WRITE_NEW_SYSREG(SYSREG_SMCR_EL2, c.smcr);
  WRITE_SYSREG(cnthctl_el2, CnthctlEl2{}.set<CnthctlEl2::EL1PCTEN>(true).set<CnthctlEl2::EL1PCEN>(true).words[0]);
  WRITE_SYSREG(cntvoff_el2, vm.counter_offset());
  WRITE_SYSREG(vpidr_el2, READ_SYSREG(midr_el1));
  WRITE_SYSREG(vmpidr_el2, VmpidrEl2{}.set<VmpidrEl2::Res1_31>(true).set<VmpidrEl2::Aff2_0>(vcpu.affinity()).words[0]);
  VtcrEl2 vtcr;
  vtcr.words[0] = vm.view().vtcr();
  vtcr.set<VtcrEl2::VS>(c.vmid16);
  WRITE_SYSREG_RECORD(vtcr_el2, vtcr);
  isb();
  el2_tlb().load_vm(vm.view().vttbr());  // firmware may have left entries of this VMID behind
}

// By itself, so that tools/check-no-fp can tell where the FP control registers may be set.
[[gnu::noinline]] void reset_guest_state(const Vcpu&) {
  const El2Controls controls = el2_controls(&hardware_id);
  reset_translation();
  reset_exceptions_and_threads();
  reset_extensions(controls);
  reset_timers();
  reset_debug();
  reset_hidden_pmu();
  isb();
  // A CPU comes out of reset with clean TLBs and instruction caches.
  asm volatile("ic iallu" ::: "memory");
  el2_tlb().invalidate_stage1_here();
}

}  // namespace weir
