// EL2's maintenance of the TLBs that hold guests' translations: which instructions, in which order, and how often. All of it
// goes through here; the instructions themselves are behind TlbPort. Portable.
#pragma once

#include <cstdint>

#include "guest-abi/field.hpp"
#include "guest-abi/types.hpp"
#include "hyp/cpu/errata.hpp"

namespace weir {

// TLBI instructions (DDI 0487, C5.5), for the VMID in VTTBR_EL2. `Is`: on all pCPUs, else on this one.
enum class Tlbi : std::uint8_t { vmalls12e1is, ipas2e1is, vmalle1is, vmalls12e1, ipas2e1, vmalle1 };
enum class Reach : std::uint8_t { this_pcpu, all_pcpus };

// The operand of TLBI IPAS2E1 and IPAS2E1IS (C5.5).
struct TlbiIpa : Record<TlbiIpa, 64> {
  using Frame = Field<"IPA[51:12]", 39, 0, std::uint64_t>;
  using Layout = weir::Layout<64, Frame, Ignored<63, 40>>;
};

// What stops stage-1 walks: TCR_EL1 (D24.2) while SCTLR_EL1.M is set.
struct TcrEl1Walks : Record<TcrEl1Walks, 64> {
  using EPD0 = BitField<"EPD0", 7>;
  using EPD1 = BitField<"EPD1", 23>;
  using Layout = weir::Layout<64, Ignored<6, 0>, EPD0, Ignored<22, 8>, EPD1, Ignored<63, 24>>;
};
struct SctlrEl1Mmu : Record<SctlrEl1Mmu, 64> {
  using M = BitField<"M", 0>;
  using Layout = weir::Layout<64, M, Ignored<63, 1>>;
};

// System registers that a change of VM touches.
enum class TlbRegister : std::uint8_t { vttbr_el2, tcr_el1, sctlr_el1 };

class TlbPort {
 public:
  // `operand` counts for ipas2e1 and ipas2e1is only.
  virtual void invalidate(Tlbi what, std::uint64_t operand) = 0;
  virtual void complete(Reach reach) = 0;  // DSB ISH or DSB NSH
  virtual void synchronize() = 0;          // ISB
  [[nodiscard]] virtual std::uint64_t read(TlbRegister reg) = 0;
  virtual void write(TlbRegister reg, std::uint64_t value) = 0;

 protected:
  ~TlbPort() = default;
};

// EL1 does not run on this pCPU while a function is in progress. `vttbr` says whose entries are meant.
class Tlb {
 public:
  Tlb(TlbPort& port, Errata errata) : port_{port}, errata_{errata} {}

  // Past this many pages, everything of the VM goes at once.
  static constexpr std::uint64_t kMaxSinglePages = 64;

  // [ipa, ipa + bytes) on all pCPUs, and what was combined from it; complete on return. The descriptors are written.
  // `leaf_only`: no table page went away. (D8.17.6: stage-2 entries first, then the combined ones.)
  void invalidate(std::uint64_t vttbr, IPA ipa, std::uint64_t bytes, bool leaf_only);
  // Everything of the VM on all pCPUs; complete on return.
  void invalidate_vm(std::uint64_t vttbr);

  // On this pCPU, of the VM that VTTBR_EL2 says: one page, everything, or everything but what only stage 2 says.
  void invalidate_here(IPA ipa);
  void invalidate_vm_here();
  void invalidate_stage1_here();

  // From now on this pCPU runs the VM. What was left under its VMID here is gone.
  void load_vm(std::uint64_t vttbr);

 private:
  class CurrentVm;

  // A broadcast and its completion, twice where once may complete too early.
  template <typename Broadcast>
  void broadcast(Broadcast issue);
  void write_vttbr(std::uint64_t vttbr);

  TlbPort& port_;
  Errata errata_;
};

}  // namespace weir
