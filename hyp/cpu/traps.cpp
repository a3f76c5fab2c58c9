#include "hyp/cpu/traps.hpp"

#include <cstdio>

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/el2_registers.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/cpu/el2_controls.hpp"
#include "hyp/cpu/el2_tlb.hpp"
#include "hyp/cpu/features.hpp"
#include "hyp/cpu/guest_address.hpp"
#include "hyp/cpu/id_registers.hpp"
#include "hyp/cpu/inject.hpp"
#include "hyp/cpu/mmio_emulate.hpp"
#include "hyp/cpu/psci.hpp"
#include "hyp/cpu/pstate.hpp"
#include "hyp/gic/gic.hpp"
#include "hyp/gic/vgic_hardware.hpp"
#include "hyp/log/log.hpp"
#include "hyp/panic/disassemble.hpp"
#include "hyp/vm/vm.hpp"

namespace weir {
namespace {

using ull = unsigned long long;

struct HpfarEl2 : Record<HpfarEl2, 64> {
  using FIPA = Field<"FIPA", 43, 4, std::uint64_t>;  // IPA[51:12]
  using Layout = weir::Layout<64, Ignored<3, 0>, FIPA, Ignored<63, 44>>;
};

// The ISS of a trapped MSR, MRS or system instruction.
struct SysregIss : Record<SysregIss, 32> {
  using Read = Field<"Direction", 0, 0, bool>;
  using CRm = Field<"CRm", 4, 1, std::uint8_t>;
  using Rt = Field<"Rt", 9, 5, std::uint8_t>;
  using CRn = Field<"CRn", 13, 10, std::uint8_t>;
  using Op1 = Field<"Op1", 16, 14, std::uint8_t>;
  using Op2 = Field<"Op2", 19, 17, std::uint8_t>;
  using Op0 = Field<"Op0", 21, 20, std::uint8_t>;
  using Layout = weir::Layout<32, Read, CRm, Rt, CRn, Op1, Op2, Op0, Res0<31, 22>>;
};

constexpr unsigned kInstructionBytes = 4;

// FSC of a fault: the class is in [5:2], the level of stage 2's walk in [1:0].
constexpr std::uint8_t kFaultClass = 0x3c;
constexpr std::uint8_t kPermission = 0x0c;
constexpr std::uint8_t kAccessFlag = 0x08;  // address size and translation are below
constexpr std::uint8_t kAddressSizeLevelM1 = 0x29, kTranslationLevelM1 = 0x2b;

// A flood is one guest's doing: after the first reports only each doubling is one.
bool worth_a_line(std::uint64_t n) { return n <= 32 || (n & (n - 1)) == 0; }

[[gnu::cold]] void report(Vcpu& vcpu, EsrEl2 esr, const char* details) {
  vcpu.exits.count(ExitCause::unhandled);
  if (!worth_a_line(vcpu.exits.get(ExitCause::unhandled))) return;
  char text[96] = "(instruction not readable)";
  if (const auto instruction = fetch_instruction(vcpu)) disassemble(*instruction, vcpu.registers.pc, text);
  const std::string_view name = vcpu.vm().name();
  log("unhandled trap: VM '%.*s', vCPU %u: %s (ESR %#llx)%s, PC %#llx: %s", static_cast<int>(name.size()), name.data(),
      vcpu.index(), to_string(esr.get<EsrEl2::EC>()), static_cast<ull>(esr.words[0]), details,
      static_cast<ull>(vcpu.registers.pc), text);
}

[[gnu::cold]] void undefined(Vcpu& vcpu, EsrEl2 esr, const char* details) {
  report(vcpu, esr, details);
  inject_undefined(vcpu, esr.get<EsrEl2::IL>());
}

// `why`: what Weir has to add to the syndrome, or nullptr.
[[gnu::cold, gnu::noinline]] void abort_guest(Vcpu& vcpu, EsrEl2 esr, IPA ipa, const ExternalAbort& abort,
                                              const char* why = nullptr) {
  AbortIss iss;
  iss.words[0] = esr.get<EsrEl2::ISS>();
  char details[220];
  std::snprintf(details, sizeof details, ", %s%s, %s, IPA %#llx, VA %#llx%s%s",
                fault_status_to_string(iss.get<AbortIss::FSC>()),
                iss.get<AbortIss::S1PTW>() ? " on a stage-1 walk" : "",
                abort.instruction ? "fetch" : (abort.write ? "write" : "read"), static_cast<ull>(ipa.value),
                static_cast<ull>(abort.far), why != nullptr ? ", " : "", why != nullptr ? why : "");
  report(vcpu, esr, details);
  inject_external_abort(vcpu, abort);
}

// A stage-2 fault that says at which level the walk ended, of the access itself, other than a permission fault.
bool is_walk_fault(std::uint8_t fsc) {
  return (fsc & kFaultClass) <= kAccessFlag || fsc == kAddressSizeLevelM1 || fsc == kTranslationLevelM1;
}

IPA walk_fault_ipa(std::uint64_t far) {
  const HpfarEl2 hpfar = READ_SYSREG_AS(HpfarEl2, hpfar_el2);
  return IPA{hpfar.get<HpfarEl2::FIPA>() * kPage4K + far % kPage4K};
}

// The faulting IPA. For faults of the access itself HPFAR_EL2 is valid only if the walk faulted (Arm ARM J1.1, IPAValid()),
// not for permission and alignment faults: then the guest's stage 1 is asked again. No value: it has changed since;
// executing the instruction again settles it.
std::optional<IPA> fault_ipa(const Vcpu& vcpu, AbortIss iss, std::uint64_t far) {
  if (!iss.get<AbortIss::S1PTW>() && !is_walk_fault(iss.get<AbortIss::FSC>())) return translate(vcpu, far);
  return walk_fault_ipa(far);
}

// `bytes`: 1 to 8.
std::uint64_t low_bytes(std::uint64_t value, unsigned bytes) {
  const unsigned rest = 64 - 8 * bytes;
  return value << rest >> rest;
}

// Any other, by the instruction itself. One that cannot be read any more, though the CPU just executed it, has been
// unmapped by another vCPU: executing it again gives the guest its own fault.
MmioResult decoded_access(Vcpu& vcpu, AbortIss iss, IPA ipa, std::uint64_t far, const char*& why) {
  const auto instruction = fetch_instruction(vcpu);
  if (!instruction) return MmioResult::again;
  vcpu.exits.count(ExitCause::mmio_decoded);
  dmb_ish();
  const auto result = emulate_mmio(vcpu, *instruction, {.far = far, .ipa = ipa, .write = iss.get<AbortIss::WNR>()});
  dmb_ish();
  if (!result) why = to_string(result.error());
  return result.value_or(MmioResult::abort);
}

void skip_instruction(Vcpu& vcpu) {
  vcpu.registers.pc += kInstructionBytes;
  vcpu.registers.pstate = Pstate::after_instruction(vcpu.registers.pstate);
}

bool is_aarch32(const Vcpu& vcpu) { return (vcpu.registers.pstate & Pstate::NRW::mask) != 0; }

// A mapping was split or merged at BBM level 2, and the TLB holds both.
bool tlb_conflict(AbortIss iss) {
  constexpr std::uint8_t kTlbConflict = 0x30;
  if (iss.get<AbortIss::FSC>() != kTlbConflict) return false;
  el2_tlb().invalidate_vm_here();
  return true;
}

// Memory that is there for such an access now: another pCPU was in the middle of changing its mapping.
bool may_try_again(Vcpu& vcpu, AbortIss iss, IPA ipa, bool instruction) {
  const std::uint8_t fsc = iss.get<AbortIss::FSC>();
  if (ipa < guest_map::kRam || ipa >= guest_map::kPci64) return false;
  const bool permission = (fsc & kFaultClass) == kPermission;
  if (!is_walk_fault(fsc) && !permission) return false;
  // A stage-1 walk reads what may be read; it lacks permission when it writes to a descriptor (FEAT_HAFDBS).
  const bool walk = iss.get<AbortIss::S1PTW>();
  const bool write = walk ? permission : iss.get<AbortIss::WNR>() && !instruction;
  if (!vcpu.vm().memory().allows(ipa, write, instruction && !walk)) return false;
  if (write && permission) CpuView::invalidate_here(ipa);  // the TLB may still have it without the permission
  return true;
}

// All that is not a plain access to a device which is there.
[[gnu::noinline]] void handle_other_abort(Vcpu& vcpu, EsrEl2 esr, bool instruction) {
  AbortIss iss;
  iss.words[0] = esr.get<EsrEl2::ISS>();
  const std::uint64_t far = READ_SYSREG(far_el2);
  const auto ipa = fault_ipa(vcpu, iss, far);
  if (!ipa) return;
  if (tlb_conflict(iss) || may_try_again(vcpu, iss, *ipa, instruction)) return gic_dispatch();
  ExternalAbort abort{.far = far,
                      .instruction = instruction,
                      .write = iss.get<AbortIss::WNR>(),
                      .cache_maintenance = iss.get<AbortIss::CM>()};
  if (iss.get<AbortIss::S1PTW>()) {
    const bool update = (iss.get<AbortIss::FSC>() & kFaultClass) == kPermission;
    abort.walk_level = static_cast<int>(walk_fault_level(vcpu, far, *ipa, update));
  }
  if (instruction || iss.get<AbortIss::S1PTW>()) return abort_guest(vcpu, esr, *ipa, abort);
  if (iss.get<AbortIss::CM>()) {  // what is emulated has no cache
    skip_instruction(vcpu);
    return;
  }
  // An alignment fault on what stage 2 makes Device, an exclusive or atomic access there, and the like: not emulated. A32
  // has no business with devices.
  const std::uint8_t fsc = iss.get<AbortIss::FSC>();
  if ((!is_walk_fault(fsc) && (fsc & kFaultClass) != kPermission) || is_aarch32(vcpu))
    return abort_guest(vcpu, esr, *ipa, abort);
  if (iss.get<AbortIss::ISV>()) return abort_guest(vcpu, esr, *ipa, abort);  // it was tried: handle_data_abort
  vcpu.exits.count(ExitCause::mmio);
  const char* why = nullptr;
  switch (decoded_access(vcpu, iss, *ipa, far, why)) {
    case MmioResult::done: skip_instruction(vcpu); return;
    case MmioResult::again: gic_dispatch(); return;
    case MmioResult::abort: return abort_guest(vcpu, esr, *ipa, abort, why);
  }
}

[[gnu::noinline]] void unfinished_access(Vcpu& vcpu, MmioResult result) {
  if (result == MmioResult::again) return gic_dispatch();
  handle_other_abort(vcpu, READ_SYSREG_AS(EsrEl2, esr_el2), false);
}

[[gnu::noinline]] void described_load(Vcpu& vcpu, AbortIss iss, MmioDevice& device, MmioAccess access) {
  std::uint64_t value = 0;
  const MmioResult result = device.read(vcpu, access, value);
  if (result != MmioResult::done) return unfinished_access(vcpu, result);
  if (iss.get<AbortIss::AR>()) dmb_ish();
  value = low_bytes(value, access.size);
  const unsigned sign = access.size * 8 - 1;
  if (iss.get<AbortIss::SSE>() && access.size < 8 && (value >> sign) != 0) value |= ~bit_mask(sign, 0);
  vcpu.set_reg(iss.get<AbortIss::SRT>(), low_bytes(value, iss.get<AbortIss::SF>() ? 8 : 4));
  skip_instruction(vcpu);
}

// A data abort with a syndrome that describes the whole access.
constexpr std::uint64_t kDescribedMask =
    EsrEl2::EC::mask | std::uint64_t{AbortIss::ISV::mask | AbortIss::CM::mask | AbortIss::S1PTW::mask};
constexpr std::uint64_t kDescribed =
    EsrEl2{}.set<EsrEl2::EC>(ExceptionClass::data_abort_lower).words[0] | AbortIss::ISV::mask;

GuestNext emulate_described_store(Vcpu& vcpu, AbortIss iss, MmioBus::Found found, unsigned size) {
  vcpu.exits.count(ExitCause::mmio);
  const auto result =
      found.device->write(vcpu, {found.offset, size}, low_bytes(vcpu.reg(iss.get<AbortIss::SRT>()), size));
  if (result != MmioResult::done) [[unlikely]] {
    unfinished_access(vcpu, result);
    return GuestNext::enter;
  }
  skip_instruction(vcpu);
  return GuestNext::enter_kept;
}

[[gnu::noinline]] GuestNext handle_described(Vcpu& vcpu, EsrEl2 esr) {
  AbortIss iss;
  iss.words[0] = esr.get<EsrEl2::ISS>();
  const auto other = [&] {
    handle_other_abort(vcpu, esr, false);
    return GuestNext::enter;
  };
  const std::uint8_t fsc = iss.get<AbortIss::FSC>();
  if (is_aarch32(vcpu) || (!is_walk_fault(fsc) && (fsc & kFaultClass) != kPermission)) return other();
  const auto ipa = fault_ipa(vcpu, iss, READ_SYSREG(far_el2));
  if (!ipa) return GuestNext::enter_kept;
  const unsigned size = 1U << iss.get<AbortIss::SAS>();
  if (!ipa->aligned(size)) return other();
  const MmioBus::Found found = vcpu.vm().bus().find(*ipa, vcpu.recent_device);
  if (found.device == nullptr) return other();
  if (iss.get<AbortIss::WNR>()) {
    if (iss.get<AbortIss::AR>()) dmb_ish();
    return emulate_described_store(vcpu, iss, found, size);
  }
  vcpu.exits.count(ExitCause::mmio);
  described_load(vcpu, iss, *found.device, {found.offset, size});
  return GuestNext::enter;
}

// Of these, a plain store to what the guest may only read: to a register page of a vSMMU, nearly always.
constexpr std::uint64_t kPlainStoreMask =
    kDescribedMask | AbortIss::WNR::mask | AbortIss::AR::mask | std::uint64_t{kFaultClass};
constexpr std::uint64_t kPlainStore = kDescribed | AbortIss::WNR::mask | std::uint64_t{kPermission};

// The fast path: without what it says nothing about.
GuestNext handle_plain_store(Vcpu& vcpu, EsrEl2 esr) {
  AbortIss iss;
  iss.words[0] = esr.get<EsrEl2::ISS>();
  const auto ipa = translate_as_el1(READ_SYSREG(far_el2));
  if (!ipa || is_aarch32(vcpu)) [[unlikely]]
    return handle_described(vcpu, esr);
  const unsigned size = 1U << iss.get<AbortIss::SAS>();
  const MmioBus::Found found = vcpu.recent_device.find(*ipa);
  if (found.device == nullptr || !ipa->aligned(size)) [[unlikely]]
    return handle_described(vcpu, esr);
  return emulate_described_store(vcpu, iss, found, size);
}

bool is_id_register(SysregIss iss) {
  return iss.get<SysregIss::Op0>() == 3 && iss.get<SysregIss::Op1>() == 0 && iss.get<SysregIss::CRn>() == 0 &&
         iss.get<SysregIss::CRm>() >= 1 && iss.get<SysregIss::CRm>() <= 7 && iss.get<SysregIss::Read>();
}

// Registers that every CPU has and that a guest finds empty: implementation defined control, and the debug
// communications channel, which EL3 may have closed.
bool is_raz_wi(std::uint16_t encoding) {
  switch (encoding) {
    case gic::sysreg_encoding(3, 0, 1, 0, 1):               // ACTLR_EL1
    case gic::sysreg_encoding(2, 0, 1, 0, 0):               // MDRAR_EL1
    case gic::sysreg_encoding(2, 3, 0, 1, 0):               // MDCCSR_EL0
    case gic::sysreg_encoding(2, 0, 0, 2, 0):               // MDCCINT_EL1
    case gic::sysreg_encoding(2, 3, 0, 4, 0):               // DBGDTR_EL0
    case gic::sysreg_encoding(2, 3, 0, 5, 0):               // DBGDTRRX_EL0, DBGDTRTX_EL0
    case gic::sysreg_encoding(2, 0, 0, 0, 2):               // OSDTRRX_EL1
    case gic::sysreg_encoding(2, 0, 0, 3, 2): return true;  // OSDTRTX_EL1
    default: return false;
  }
}

// False: UNDEFINED.
bool emulate_sysreg(Vcpu& vcpu, SysregIss iss) {
  const bool read = iss.get<SysregIss::Read>();
  const unsigned rt = iss.get<SysregIss::Rt>();
  if (is_id_register(iss)) {
    vcpu.exits.count(ExitCause::id_register);
    const IdRegister reg{iss.get<SysregIss::CRm>(), iss.get<SysregIss::Op2>()};
    vcpu.set_reg(rt, sanitised_id(reg, &hardware_id));
    return true;
  }
  const std::uint16_t encoding =
      gic::sysreg_encoding(iss.get<SysregIss::Op0>(), iss.get<SysregIss::Op1>(), iss.get<SysregIss::CRn>(),
                           iss.get<SysregIss::CRm>(), iss.get<SysregIss::Op2>());
  if (is_raz_wi(encoding)) {
    vcpu.exits.count(ExitCause::sysreg);
    if (read) vcpu.set_reg(rt, 0);
    return true;
  }
  const auto icc = static_cast<gic::Icc>(encoding);
  std::uint64_t value = vcpu.reg(rt);
  if (read ? vgic_read_sysreg(vcpu, icc, value) : vgic_write_sysreg(vcpu, icc, value)) {
    const bool sgi = icc == gic::Icc::SGI1R_EL1 || icc == gic::Icc::ASGI1R_EL1 || icc == gic::Icc::SGI0R_EL1;
    vcpu.exits.count(sgi ? ExitCause::sgi : ExitCause::sysreg);
    if (read) vcpu.set_reg(rt, value);
    return true;
  }
  return false;
}

void handle_sysreg(Vcpu& vcpu, EsrEl2 esr) {
  SysregIss iss;
  iss.words[0] = esr.get<EsrEl2::ISS>();
  if (emulate_sysreg(vcpu, iss)) {
    skip_instruction(vcpu);
    return;
  }
  char details[64];
  std::snprintf(details, sizeof details, ", %s S%u_%u_C%u_C%u_%u", iss.get<SysregIss::Read>() ? "read of" : "write to",
                iss.get<SysregIss::Op0>(), iss.get<SysregIss::Op1>(), iss.get<SysregIss::CRn>(),
                iss.get<SysregIss::CRm>(), iss.get<SysregIss::Op2>());
  undefined(vcpu, esr, details);
}

void handle_call(Vcpu& vcpu, bool smc) {
  // An HVC returns past itself; an SMC was trapped before it executed.
  if (smc) skip_instruction(vcpu);
  vcpu.exits.count(handle_smccc(vcpu) ? ExitCause::psci : ExitCause::smccc);
}

[[gnu::noinline]] void handle_other(Vcpu& vcpu, EsrEl2 esr) {
  switch (esr.get<EsrEl2::EC>()) {
    case ExceptionClass::data_abort_lower: return handle_other_abort(vcpu, esr, false);
    case ExceptionClass::instruction_abort_lower: return handle_other_abort(vcpu, esr, true);
    case ExceptionClass::sysreg: return handle_sysreg(vcpu, esr);
    case ExceptionClass::hvc64: return handle_call(vcpu, false);
    case ExceptionClass::smc64: return handle_call(vcpu, true);
    default: return undefined(vcpu, esr, "");
  }
}

GuestNext handle_synchronous(Vcpu& vcpu) {
  const EsrEl2 esr = READ_SYSREG_AS(EsrEl2, esr_el2);
  if ((esr.words[0] & kPlainStoreMask) == kPlainStore) [[likely]]
    return handle_plain_store(vcpu, esr);
  if ((esr.words[0] & kDescribedMask) == kDescribed) return handle_described(vcpu, esr);
  handle_other(vcpu, esr);
  return GuestNext::enter;
}

// A physical SError becomes the guest's own: it runs alone on this pCPU.
void handle_serror(Vcpu& vcpu) {
  EsrEl2 esr = READ_SYSREG_AS(EsrEl2, esr_el2);
  report(vcpu, esr, ", passed on");
  HcrEl2 hcr = READ_SYSREG_AS(HcrEl2, hcr_el2);
  WRITE_SYSREG_RECORD(hcr_el2, hcr.set<HcrEl2::VSE>(true));
  isb();
}

}  // namespace

GuestNext handle_exit(Vcpu& vcpu, ExitKind kind) {
  if (kind == ExitKind::synchronous) [[likely]]
    return handle_synchronous(vcpu);
  switch (kind) {
    case ExitKind::irq:
    case ExitKind::fiq:
      vcpu.exits.count(ExitCause::interrupt);
      gic_dispatch();
      return GuestNext::enter_kept;
    default: handle_serror(vcpu); return GuestNext::enter;
  }
}

}  // namespace weir
