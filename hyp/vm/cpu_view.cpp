#include "hyp/vm/cpu_view.hpp"

#include <algorithm>

#include "hyp/arch/physical_size.hpp"
#include "hyp/cpu/el2_controls.hpp"
#include "hyp/cpu/el2_tlb.hpp"
#include "hyp/cpu/features.hpp"
#include "hyp/cpu/id_registers.hpp"
#include "hyp/vm/table_pages.hpp"

namespace weir {
namespace {

struct Mmfr1 : Record<Mmfr1, 64> {
  using HAFDBS = Field<"HAFDBS", 3, 0, std::uint8_t>;
  using Layout = weir::Layout<64, HAFDBS, Ignored<63, 4>>;
};
struct Mmfr2 : Record<Mmfr2, 64> {
  using BBM = Field<"BBM", 55, 52, std::uint8_t>;
  using Layout = weir::Layout<64, Ignored<51, 0>, BBM, Ignored<63, 56>>;
};

// Whether this pCPU keeps dirty state by itself. One that does not ignores VTCR_EL2.HA and HD, as well as DBM in descriptors:
// its writes to pages that are not dirty yet fault, and are noted then (GuestMemory::allows).
bool keeps_dirty_state() {
  constexpr std::uint8_t kDirty = 2;
  Mmfr1 mmfr1;
  mmfr1.words[0] = hardware_id(id::kAa64Mmfr1);
  return mmfr1.get<Mmfr1::HAFDBS>() >= kDirty;
}

}  // namespace

std::expected<std::unique_ptr<CpuView>, stage2::Error> CpuView::create(VMID vmid) {
  IdAa64Mmfr0 mmfr0;
  mmfr0.words[0] = hardware_id(id::kAa64Mmfr0);
  const auto geometry = stage2::Geometry::make(kInputBits, physical_size(mmfr0));
  if (!geometry) return std::unexpected{stage2::Error::out_of_range};
  auto table = stage2::Table::create(*geometry, coherent_table_pages(), {.bbml = bbml(), .dirty_state = true});
  if (!table) return std::unexpected{table.error()};
  (*table)->set_walked(true);
  std::unique_ptr<CpuView> view{new (std::nothrow) CpuView{vmid, std::move(*table)}};
  if (!view) return std::unexpected{stage2::Error::out_of_memory};
  return view;
}

std::uint64_t CpuView::vtcr() const {
  const stage2::Geometry& g = table_->geometry();
  return VtcrEl2{}
      .set<VtcrEl2::T0SZ>(g.t0sz())
      .set<VtcrEl2::SL0>(g.sl0())
      .set<VtcrEl2::IRGN0>(1)  // walks: Write-Back, Inner Shareable
      .set<VtcrEl2::ORGN0>(1)
      .set<VtcrEl2::SH0>(3)
      .set<VtcrEl2::PS>(static_cast<std::uint8_t>(g.ps()))
      .set<VtcrEl2::HA>(keeps_dirty_state())
      .set<VtcrEl2::HD>(keeps_dirty_state())
      .set<VtcrEl2::Res1_31>(true)
      .words[0];
}

std::uint64_t CpuView::vttbr() const {
  return VttbrEl2{}.set<VttbrEl2::BADDR>(table_->root().value).set<VttbrEl2::Vmid>(vmid_.value).words[0];
}

std::expected<void, stage2::Error> CpuView::map(IPA ipa, PA pa, std::uint64_t bytes,
                                                const stage2::Attributes& attributes) {
  const SpinLock::Guard guard{lock_};
  return table_->map(ipa, pa, bytes, attributes);
}

std::expected<void, stage2::Error> CpuView::share(stage2::S2Domain& memory, IPA ipa, std::uint64_t bytes) {
  const SpinLock::Guard guard{lock_};
  shared_at_ = ipa;
  shared_bytes_ = bytes;
  return memory.share_root(*table_, ipa, bytes);
}

// There is a moment at which vCPUs find nothing: their faults are settled by trying again.
std::expected<void, stage2::Error> CpuView::use_log(stage2::S2Domain& memory, bool log) {
  const SpinLock::Guard guard{lock_};
  memory.unshare_root(*table_);
  invalidate(shared_at_, shared_bytes_, false);
  return log ? memory.share_log(*table_, shared_at_, shared_bytes_)
             : memory.share_root(*table_, shared_at_, shared_bytes_);
}

// The next VM to get the VMID must not find entries.
CpuView::~CpuView() { el2_tlb().invalidate_vm(vttbr()); }

std::expected<void, stage2::Error> CpuView::unmap(IPA ipa, std::uint64_t bytes) {
  const SpinLock::Guard guard{lock_};
  stage2::RetiredPages retired;
  const auto done = table_->unmap(ipa, bytes, retired);
  if (!done) return done;
  invalidate(ipa, bytes, retired.empty());
  retired.release(coherent_table_pages());
  return {};
}

void CpuView::invalidate(IPA ipa, std::uint64_t bytes, bool leaf_only) {
  el2_tlb().invalidate(vttbr(), ipa, bytes, leaf_only);
}

void CpuView::invalidate_here(IPA ipa) { el2_tlb().invalidate_here(ipa); }

unsigned CpuView::bbml() {
  Mmfr2 mmfr2;
  mmfr2.words[0] = hardware_id(id::kAa64Mmfr2);
  return mmfr2.get<Mmfr2::BBM>();
}

bool CpuView::map_bar(IPA at, PA registers, std::uint64_t bytes) {
  return map(at, registers, bytes, {.memory = stage2::Memory::device_nGnRE}).has_value();
}

bool CpuView::reaches(PA registers, std::uint64_t bytes) const {
  const PA end = table_->geometry().output_end();
  return bytes <= end.value && registers.value <= end.value - bytes;
}

void CpuView::unmap_bar(IPA at, std::uint64_t bytes) {
  // Only what map_bar mapped comes here, in whole: no block is split, so nothing can fail.
  static_cast<void>(unmap(at, bytes).has_value());
}

}  // namespace weir
