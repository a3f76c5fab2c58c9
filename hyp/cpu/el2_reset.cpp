#include "hyp/cpu/el2_reset.hpp"

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/cpu/el3_controls.hpp"
#include "hyp/cpu/id_registers.hpp"

namespace weir {
namespace {

struct Control {
  FeatureRegisters group;
  void (*reset)();
};

// By encoding: not every assembler knows them at the architecture version that Weir is built for. What EL3 may trap
// (SCTLR2_EL2, CNTPOFF_EL2, TRFCR_EL2, MPAM2_EL2) is as firmware left it.
constexpr Control kControls[] = {
    {FeatureRegisters::tcr2, [] { WRITE_SYSREG(S3_4_C2_C0_3, 0); }},  // TCR2_EL2
    {FeatureRegisters::hcrx, [] { WRITE_SYSREG(S3_4_C1_C2_2, 0); }},  // HCRX_EL2
    {FeatureRegisters::gcs, [] { WRITE_SYSREG(S3_4_C2_C5_0, 0); }},   // GCSCR_EL2
    {FeatureRegisters::ras, [] { WRITE_SYSREG(S3_4_C12_C1_1, 0); }},  // VDISR_EL2
};

}  // namespace

void reset_el2_controls() {
  for (const Control& control : kControls)
    if (may_touch(control.group, &hardware_id)) control.reset();
  isb();
}

}  // namespace weir
