#include "hyp/cpu/tlb.hpp"

#include "guest-abi/vmsa.hpp"

namespace weir {
namespace {

std::uint64_t operand_of(IPA ipa) { return TlbiIpa{}.set<TlbiIpa::Frame>(ipa.value / kPage4K).words[0]; }

constexpr std::uint64_t kNoWalks = TcrEl1Walks{}.set<TcrEl1Walks::EPD0>(true).set<TcrEl1Walks::EPD1>(true).words[0];
constexpr std::uint64_t kMmuOn = SctlrEl1Mmu{}.set<SctlrEl1Mmu::M>(true).words[0];

}  // namespace

// Makes `vttbr` the current one and restores the other on destruction.
class Tlb::CurrentVm {
 public:
  CurrentVm(Tlb& tlb, std::uint64_t vttbr)
      : tlb_{tlb}, saved_{tlb.port_.read(TlbRegister::vttbr_el2)}, other_{saved_ != vttbr} {
    if (other_) tlb_.write_vttbr(vttbr);
  }
  ~CurrentVm() {
    if (other_) tlb_.write_vttbr(saved_);
  }
  CurrentVm(const CurrentVm&) = delete;
  CurrentVm& operator=(const CurrentVm&) = delete;

 private:
  Tlb& tlb_;
  std::uint64_t saved_;
  bool other_;
};

// With Erratum::speculative_at a walk may begin at any time, with EL1's stage 1 and whatever VTTBR_EL2 is. TCR_EL1 stops
// walks only while SCTLR_EL1.M is set: without it, stage 1 is flat and would be cached under the new VMID, too.
void Tlb::write_vttbr(std::uint64_t vttbr) {
  if (!errata_.has(Erratum::speculative_at)) {
    port_.write(TlbRegister::vttbr_el2, vttbr);
    port_.synchronize();
    return;
  }
  const std::uint64_t tcr = port_.read(TlbRegister::tcr_el1);
  const std::uint64_t sctlr = port_.read(TlbRegister::sctlr_el1);
  port_.write(TlbRegister::tcr_el1, tcr | kNoWalks);
  port_.synchronize();
  port_.write(TlbRegister::sctlr_el1, sctlr | kMmuOn);
  port_.synchronize();
  port_.write(TlbRegister::vttbr_el2, vttbr);
  port_.synchronize();
  port_.write(TlbRegister::sctlr_el1, sctlr);
  port_.synchronize();
  port_.write(TlbRegister::tcr_el1, tcr);
  port_.synchronize();
}

template <typename Broadcast>
void Tlb::broadcast(Broadcast issue) {
  issue();
  port_.complete(Reach::all_pcpus);
  if (!errata_.has(Erratum::repeat_tlbi)) return;
  issue();
  port_.complete(Reach::all_pcpus);
}

void Tlb::invalidate(std::uint64_t vttbr, IPA ipa, std::uint64_t bytes, bool leaf_only) {
  if (!leaf_only || bytes / kPage4K > kMaxSinglePages) return invalidate_vm(vttbr);
  const CurrentVm current{*this, vttbr};
  port_.complete(Reach::all_pcpus);  // the descriptors
  broadcast([&] {
    for (std::uint64_t at = 0; at < bytes; at += kPage4K) port_.invalidate(Tlbi::ipas2e1is, operand_of(ipa + at));
  });
  broadcast([&] { port_.invalidate(Tlbi::vmalle1is, 0); });
  port_.synchronize();
}

void Tlb::invalidate_vm(std::uint64_t vttbr) {
  const CurrentVm current{*this, vttbr};
  port_.complete(Reach::all_pcpus);
  broadcast([&] { port_.invalidate(Tlbi::vmalls12e1is, 0); });
  port_.synchronize();
}

void Tlb::invalidate_here(IPA ipa) {
  port_.complete(Reach::all_pcpus);  // the descriptor, which another pCPU may have written
  port_.invalidate(Tlbi::ipas2e1, operand_of(ipa));
  port_.complete(Reach::this_pcpu);
  port_.invalidate(Tlbi::vmalle1, 0);
  port_.complete(Reach::this_pcpu);
  port_.synchronize();
}

void Tlb::invalidate_vm_here() {
  port_.invalidate(Tlbi::vmalls12e1, 0);
  port_.complete(Reach::this_pcpu);
  port_.synchronize();
}

void Tlb::invalidate_stage1_here() {
  port_.invalidate(Tlbi::vmalle1, 0);
  port_.complete(Reach::this_pcpu);
  port_.synchronize();
}

void Tlb::load_vm(std::uint64_t vttbr) {
  write_vttbr(vttbr);
  invalidate_vm_here();
}

}  // namespace weir
