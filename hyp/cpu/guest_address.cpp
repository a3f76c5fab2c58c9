#include "hyp/cpu/guest_address.hpp"

#include <array>
#include <bit>
#include <cstddef>

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/cpu/pstate.hpp"
#include "hyp/cpu/stage1_walk.hpp"
#include "hyp/vm/vm.hpp"

namespace weir {
namespace {

struct ParEl1 : Record<ParEl1, 64> {
  using F = Field<"F", 0, 0, bool>;
  using Frame = AddressField<"PA", 51, 12, std::uint64_t>;
  using Layout = weir::Layout<64, F, Ignored<11, 1>, Frame, Ignored<63, 52>>;
};

// Asks the stage 1 that is in force for EL1 and EL0; `at` is the AT instruction. PAR_EL1 is the guest's.
template <typename At>
ParEl1 address_translate(At at) {
  const std::uint64_t saved = READ_SYSREG(par_el1);
  at();
  isb();
  const ParEl1 par = READ_SYSREG_AS(ParEl1, par_el1);
  WRITE_SYSREG(par_el1, saved);
  return par;
}

std::optional<IPA> ipa_of(ParEl1 par, std::uint64_t va) {
  if (par.get<ParEl1::F>()) return std::nullopt;
  return IPA{par.get<ParEl1::Frame>() + va % kPage4K};
}

// EL1 may read what EL0 may only execute.
[[gnu::noinline]] std::optional<IPA> translate_as_el0(const Vcpu& vcpu, std::uint64_t va) {
  Pstate pstate;
  pstate.words[0] = vcpu.registers.pstate;
  if (!pstate.get<Pstate::NRW>() && pstate.get<Pstate::EL>() != 0) return std::nullopt;
  return ipa_of(address_translate([va] { asm volatile("at s1e0r, %0" ::"r"(va) : "memory"); }), va);
}

}  // namespace

// S1E1R does not look at PSTATE.PAN.
std::optional<IPA> translate_as_el1(std::uint64_t va) {
  return ipa_of(address_translate([va] { asm volatile("at s1e1r, %0" ::"r"(va) : "memory"); }), va);
}

std::optional<IPA> translate(const Vcpu& vcpu, std::uint64_t va) {
  const auto ipa = translate_as_el1(va);
  return ipa ? ipa : translate_as_el0(vcpu, va);
}

std::optional<std::uint32_t> fetch_instruction(const Vcpu& vcpu, std::int64_t offset) {
  Pstate pstate;
  pstate.words[0] = vcpu.registers.pstate;
  const std::uint64_t va = vcpu.registers.pc + static_cast<std::uint64_t>(offset);
  if (pstate.get<Pstate::NRW>() || va % 4 != 0) return std::nullopt;
  const auto at = translate(vcpu, va);
  std::array<std::byte, 4> bytes{};
  if (!at || !vcpu.vm().memory().read(*at, bytes)) return std::nullopt;
  return std::bit_cast<std::uint32_t>(bytes);  // instructions are little-endian, and so is EL2
}

unsigned walk_fault_level(const Vcpu& vcpu, std::uint64_t va, IPA fault, bool update) {
  constexpr std::uint64_t kEndian = bit_mask(25, 25);  // SCTLR_EL1.EE
  struct Reader final : DescriptorReader {
    explicit Reader(GuestMemory& in) : memory{in} {}
    std::optional<std::uint64_t> read(IPA at) override {
      std::array<std::byte, 8> bytes{};
      if (!memory.read(at, bytes)) return std::nullopt;
      return std::bit_cast<std::uint64_t>(bytes);
    }
    GuestMemory& memory;
  } reader{vcpu.vm().memory()};
  const Stage1Regime regime{.tcr = READ_SYSREG(tcr_el1),
                            .ttbr0 = READ_SYSREG(ttbr0_el1),
                            .ttbr1 = READ_SYSREG(ttbr1_el1),
                            .big_endian = (READ_SYSREG(sctlr_el1) & kEndian) != 0};
  return stage1_fault_level(regime, va, fault, update, reader);
}

}  // namespace weir
