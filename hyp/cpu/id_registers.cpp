#include "hyp/cpu/id_registers.hpp"

#include "hyp/arch/sysreg.hpp"
#include "hyp/cpu/machine_errata.hpp"

namespace weir {

namespace {

// The whole space S3_0_C0_C1_0 .. S3_0_C0_C7_7 is readable at EL2: what is not allocated reads as zero.
std::uint64_t read_id(IdRegister reg) {
#define WEIR_ID(crm_, op2_) \
  case (crm_) * 8 + (op2_): return READ_SYSREG(S3_0_C0_C##crm_##_##op2_);
#define WEIR_ID_ROW(crm_) \
  WEIR_ID(crm_, 0)        \
  WEIR_ID(crm_, 1) WEIR_ID(crm_, 2) WEIR_ID(crm_, 3) WEIR_ID(crm_, 4) WEIR_ID(crm_, 5) WEIR_ID(crm_, 6) WEIR_ID(crm_, 7)
  switch (reg.crm * 8 + reg.op2) {
    WEIR_ID_ROW(1)
    WEIR_ID_ROW(2)
    WEIR_ID_ROW(3)
    WEIR_ID_ROW(4)
    WEIR_ID_ROW(5)
    WEIR_ID_ROW(6)
    WEIR_ID_ROW(7)
    default: return 0;
  }
#undef WEIR_ID_ROW
#undef WEIR_ID
}

}  // namespace

std::uint64_t hardware_id(IdRegister reg) { return without_broken_features(reg, read_id(reg), machine_errata()); }

}  // namespace weir
