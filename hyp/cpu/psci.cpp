#include "hyp/cpu/psci.hpp"

#include "guest-abi/field.hpp"
#include "hyp/arch/smccc.hpp"
#include "hyp/log/log.hpp"
#include "hyp/vm/memory_calls.hpp"
#include "hyp/vm/vm.hpp"

namespace weir {
namespace {

// DEN 0028, 2.5: how a function identifier is made.
struct FunctionId : Record<FunctionId, 32> {
  using Number = Field<"Number", 15, 0, std::uint16_t>;
  using Owner = Field<"Owner", 29, 24, std::uint8_t>;
  using Wide = Field<"SMC64", 30, 30, bool>;
  using Fast = Field<"Fast", 31, 31, bool>;
  using Layout = weir::Layout<32, Number, Ignored<23, 16>, Owner, Wide, Fast>;
};

enum Function : std::uint32_t {
  kSmcccVersion = 0x8000'0000,
  kArchFeatures = 0x8000'0001,
  kSocId = 0x8000'0002,
  kWorkaround1 = 0x8000'8000,  // Spectre v2
  kWorkaround2 = 0x8000'7fff,  // Spectre v4
  kWorkaround3 = 0x8000'3fff,  // Spectre BHB
  kPsciVersion = 0x8400'0000,
  kCpuSuspend32 = 0x8400'0001,
  kCpuOff = 0x8400'0002,
  kCpuOn32 = 0x8400'0003,
  kAffinityInfo32 = 0x8400'0004,
  kMigrateInfoType = 0x8400'0006,
  kSystemOff = 0x8400'0008,
  kSystemReset = 0x8400'0009,
  kPsciFeatures = 0x8400'000a,
  kCpuSuspend64 = 0xc400'0001,
  kCpuOn64 = 0xc400'0003,
  kAffinityInfo64 = 0xc400'0004,
};

constexpr std::uint32_t kSmccc12 = 0x1'0002;
constexpr std::uint32_t kPsci11 = 0x1'0001;
constexpr std::int64_t kNotSupported = -1;
constexpr std::int64_t kMigrateNotRequired = 2;  // no trusted OS

std::int64_t code(psci::Error e) { return static_cast<std::int64_t>(e); }

std::int64_t cpu_on(Vcpu& caller, std::uint64_t affinity, std::uint64_t entry, std::uint64_t context) {
  Vm& vm = caller.vm();
  Vcpu* const target = vm.vcpu_by_affinity(affinity);
  if (target == nullptr) return code(psci::Error::invalid_parameters);
  if (!vm.memory().contains(IPA{entry}, 4) || !IPA{entry}.aligned(4)) return code(psci::Error::invalid_address);
  if (target->turn_on(entry, context)) return 0;
  return code(target->power() == Power::on ? psci::Error::already_on : psci::Error::on_pending);
}

std::int64_t affinity_info(Vcpu& caller, std::uint64_t affinity, std::uint64_t level) {
  if (level != 0) return code(psci::Error::invalid_parameters);  // PSCI 1.0: only level 0 need be supported
  const Vcpu* const target = caller.vm().vcpu_by_affinity(affinity);
  if (target == nullptr) return code(psci::Error::invalid_parameters);
  switch (target->power()) {
    case Power::on: return 0;
    case Power::off: return 1;
    default: return 2;
  }
}

bool is_psci(std::uint32_t function) {
  switch (function) {
    case kPsciVersion:
    case kCpuSuspend32:
    case kCpuOff:
    case kCpuOn32:
    case kAffinityInfo32:
    case kMigrateInfoType:
    case kSystemOff:
    case kSystemReset:
    case kPsciFeatures:
    case kCpuSuspend64:
    case kCpuOn64:
    case kAffinityInfo64:
    case kSmcccVersion: return true;
    default: return false;
  }
}

// SMCCC_ARCH_FEATURES. Firmware's workarounds are asked for and passed down; without firmware there are none.
std::int64_t arch_features(std::uint32_t function) {
  switch (function) {
    case kSmcccVersion:
    case kArchFeatures: return 0;
    case kWorkaround1:
    case kWorkaround2:
    case kWorkaround3: return static_cast<std::int32_t>(smc(kArchFeatures, function).x0);
    default: return kNotSupported;
  }
}

}  // namespace

bool handle_smccc(Vcpu& vcpu) {
  GuestRegisters& r = vcpu.registers;
  FunctionId id;
  id.words[0] = static_cast<std::uint32_t>(r.x[0]);
  const std::uint32_t function = id.words[0];
  // 32-bit calls take 32-bit arguments.
  const auto argument = [&](unsigned n) {
    return id.get<FunctionId::Wide>() ? r.x[n] : std::uint64_t{static_cast<std::uint32_t>(r.x[n])};
  };
  const auto answer = [&](std::int64_t value) {
    r.x[0] = static_cast<std::uint64_t>(value);
    return true;
  };
  switch (function) {
    case kSmcccVersion: return answer(kSmccc12);
    case kArchFeatures: return answer(arch_features(static_cast<std::uint32_t>(r.x[1])));
    case kWorkaround1:
    case kWorkaround2:
    case kWorkaround3:
      if (arch_features(function) < 0) return answer(kNotSupported);
      return answer(static_cast<std::int64_t>(smc(function, argument(1)).x0));
    case kPsciVersion: return answer(kPsci11);
    case kPsciFeatures: return answer(is_psci(static_cast<std::uint32_t>(r.x[1])) ? 0 : kNotSupported);
    case kCpuSuspend32:
    case kCpuSuspend64:
      // A suspend that is over at once: any standby state may be left early, and the vCPU has its pCPU for itself.
      return answer(0);
    case kCpuOff: vcpu.turn_off(); return true;
    case kCpuOn32:
    case kCpuOn64: return answer(cpu_on(vcpu, argument(1), argument(2), argument(3)));
    case kAffinityInfo32:
    case kAffinityInfo64: return answer(affinity_info(vcpu, argument(1), argument(2)));
    case kMigrateInfoType: return answer(kMigrateNotRequired);
    case kSystemOff: vcpu.vm().stop(StopReason::off); return true;
    case kSystemReset: vcpu.vm().stop(StopReason::reset); return true;
    default:
      if (!handle_hypercall(vcpu)) answer(kNotSupported);
      return false;
  }
}

}  // namespace weir
