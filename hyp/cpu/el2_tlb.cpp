#include "hyp/cpu/el2_tlb.hpp"

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/cpu/machine_errata.hpp"

namespace weir {
namespace {

// The only file with TLBI instructions but for head.S, which starts with clean TLBs: tools/check-tlbi.
class Instructions final : public TlbPort {
 public:
  void invalidate(Tlbi what, std::uint64_t operand) override {
    switch (what) {
      case Tlbi::vmalls12e1is: asm volatile("tlbi vmalls12e1is" ::: "memory"); break;
      case Tlbi::ipas2e1is: asm volatile("tlbi ipas2e1is, %0" ::"r"(operand) : "memory"); break;
      case Tlbi::vmalle1is: asm volatile("tlbi vmalle1is" ::: "memory"); break;
      case Tlbi::vmalls12e1: asm volatile("tlbi vmalls12e1" ::: "memory"); break;
      case Tlbi::ipas2e1: asm volatile("tlbi ipas2e1, %0" ::"r"(operand) : "memory"); break;
      case Tlbi::vmalle1: asm volatile("tlbi vmalle1" ::: "memory"); break;
    }
  }
  void complete(Reach reach) override { reach == Reach::all_pcpus ? dsb_ish() : dsb_nsh(); }
  void synchronize() override { isb(); }
  std::uint64_t read(TlbRegister reg) override {
    switch (reg) {
      case TlbRegister::vttbr_el2: return READ_SYSREG(vttbr_el2);
      case TlbRegister::tcr_el1: return READ_SYSREG(tcr_el1);
      case TlbRegister::sctlr_el1: return READ_SYSREG(sctlr_el1);
    }
    return 0;
  }
  void write(TlbRegister reg, std::uint64_t value) override {
    switch (reg) {
      case TlbRegister::vttbr_el2: WRITE_SYSREG(vttbr_el2, value); break;
      case TlbRegister::tcr_el1: WRITE_SYSREG(tcr_el1, value); break;
      case TlbRegister::sctlr_el1: WRITE_SYSREG(sctlr_el1, value); break;
    }
  }
};
constinit Instructions instructions;

}  // namespace

Tlb el2_tlb() { return {instructions, machine_errata()}; }

}  // namespace weir
