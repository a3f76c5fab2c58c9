#include "hyp/cpu/inject.hpp"

#include "hyp/arch/sysreg.hpp"
#include "hyp/cpu/el3_controls.hpp"
#include "hyp/cpu/id_registers.hpp"
#include "hyp/vm/vcpu.hpp"

namespace weir {
namespace {

bool present(IdField field) { return id_field(&hardware_id, field) != 0; }

ExceptionState load(const Vcpu& vcpu) {
  ExceptionState s;
  s.pc = vcpu.registers.pc;
  s.pstate = vcpu.registers.pstate;
  s.sctlr_el1 = READ_SYSREG(sctlr_el1);
  s.vbar_el1 = READ_SYSREG(vbar_el1);
  s.has_pan = present({id::kAa64Mmfr1, 20});
  s.has_ssbs = present({id::kAa64Pfr1, 4});
  s.has_mte = present(id::kMte);
  s.has_gcs = may_touch(FeatureRegisters::gcs, &hardware_id);
  if (s.has_gcs) s.gcscr_el1 = READ_SYSREG(S3_0_C2_C5_0);
  return s;
}

void store(Vcpu& vcpu, const ExceptionState& s) {
  vcpu.registers.pc = s.pc;
  vcpu.registers.pstate = s.pstate;
  WRITE_SYSREG(esr_el1, s.esr_el1);
  WRITE_SYSREG(elr_el1, s.elr_el1);
  WRITE_SYSREG(spsr_el1, s.spsr_el1);
  if (s.far_valid) WRITE_SYSREG(far_el1, s.far_el1);
}

}  // namespace

void inject_undefined(Vcpu& vcpu, bool wide) {
  ExceptionState s = load(vcpu);
  take_undefined(s, wide);
  store(vcpu, s);
}

void inject_external_abort(Vcpu& vcpu, const ExternalAbort& abort) {
  ExceptionState s = load(vcpu);
  take_external_abort(s, abort);
  store(vcpu, s);
}

}  // namespace weir
