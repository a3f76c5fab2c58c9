#include "hyp/cpu/el2_reset.hpp"

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/cpu/id_registers.hpp"

namespace weir {
namespace {

struct Control {
  IdRegister id;
  unsigned field;       // its lowest bit; ID fields have four
  std::uint64_t least;  // from this value on the register exists
  void (*reset)();
};

// By encoding: not every assembler knows them at the architecture version that Weir is built for.
constexpr Control kControls[] = {
    {id::kAa64Mmfr3, 0, 1, [] { WRITE_SYSREG(S3_4_C2_C0_3, 0); }},    // TCRX: TCR2_EL2
    {id::kAa64Mmfr3, 4, 1, [] { WRITE_SYSREG(S3_4_C1_C0_3, 0); }},    // SCTLRX: SCTLR2_EL2
    {id::kAa64Mmfr1, 40, 1, [] { WRITE_SYSREG(S3_4_C1_C2_2, 0); }},   // HCX: HCRX_EL2
    {id::kAa64Mmfr0, 60, 2, [] { WRITE_SYSREG(S3_4_C14_C0_6, 0); }},  // ECV: CNTPOFF_EL2
    {id::kAa64Pfr1, 44, 1, [] { WRITE_SYSREG(S3_4_C2_C5_0, 0); }},    // GCS: GCSCR_EL2
    {id::kAa64Pfr0, 28, 1, [] { WRITE_SYSREG(S3_4_C12_C1_1, 0); }},   // RAS: VDISR_EL2
    {id::kAa64Dfr0, 40, 1, [] { WRITE_SYSREG(S3_4_C1_C2_1, 0); }},    // TraceFilt: TRFCR_EL2
};
constexpr std::uint64_t kIdField = 0xf;

}  // namespace

void reset_el2_controls() {
  for (const Control& control : kControls)
    if ((hardware_id(control.id) >> control.field & kIdField) >= control.least) control.reset();
  isb();
}

}  // namespace weir
