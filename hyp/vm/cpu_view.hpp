// What a VM's vCPUs can reach: the stage-2 table that VTTBR_EL2 points to. RAM, BARs, the read-only register pages.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>

#include "guest-abi/types.hpp"
#include "hyp/pci/virtual_host.hpp"
#include "stage2/cpu_tlb.hpp"
#include "stage2/dirty_log.hpp"
#include "stage2/domain.hpp"
#include "stage2/support/spinlock.hpp"
#include "stage2/table.hpp"

namespace weir {

class CpuView final : public pci::BarPort, public stage2::CpuTlb, public stage2::CpuTables {
 public:
  static constexpr unsigned kInputBits = 40;  // up to the end of the 64-bit PCI window

  // `vmid` is not 0. Errors: out_of_memory, out_of_range (the pCPU's physical addresses are shorter than 40 bits).
  [[nodiscard]] static std::expected<std::unique_ptr<CpuView>, stage2::Error> create(VMID vmid);

  // No pCPU runs the VM any more.
  ~CpuView();
  CpuView(const CpuView&) = delete;
  CpuView& operator=(const CpuView&) = delete;

  // Callable from any pCPU, while the VM runs, too. unmap() is complete (TLBs of all pCPUs) on return.
  [[nodiscard]] std::expected<void, stage2::Error> map(IPA ipa, PA pa, std::uint64_t bytes,
                                                       const stage2::Attributes& attributes);
  [[nodiscard]] std::expected<void, stage2::Error> unmap(IPA ipa, std::uint64_t bytes);

  // From now on this view has what `memory` maps in [ipa, ipa + bytes), which are whole root slots, and no mappings of its
  // own there. `memory`, which outlives it, has this view as its CpuTlb.
  [[nodiscard]] std::expected<void, stage2::Error> share(stage2::S2Domain& memory, IPA ipa, std::uint64_t bytes);
  [[nodiscard]] std::expected<void, stage2::Error> use_log(stage2::S2Domain& memory, bool log) override;
  // One page of the VM that has just left this pCPU, on this pCPU.
  static void invalidate_here(IPA ipa);
  // For mappings that the devices' view shares with this one, by whoever changes them.
  void invalidate(IPA ipa, std::uint64_t bytes, bool leaf_only) override;

  [[nodiscard]] bool map_bar(IPA at, PA registers, std::uint64_t bytes) override;
  void unmap_bar(IPA at, std::uint64_t bytes) override;
  [[nodiscard]] bool reaches(PA registers, std::uint64_t bytes) const override;

  // The pCPUs' break-before-make level (ID_AA64MMFR2_EL1.BBM).
  [[nodiscard]] static unsigned bbml();

  [[nodiscard]] const stage2::Geometry& geometry() const { return table_->geometry(); }
  [[nodiscard]] VMID vmid() const { return vmid_; }
  [[nodiscard]] std::uint64_t vtcr() const;
  [[nodiscard]] std::uint64_t vttbr() const;
  [[nodiscard]] std::size_t page_count() const { return table_->page_count(); }

 private:
  CpuView(VMID vmid, std::unique_ptr<stage2::Table> table) : vmid_{vmid}, table_{std::move(table)} {}

  VMID vmid_;
  SpinLock lock_;
  std::unique_ptr<stage2::Table> table_;
  IPA shared_at_;  // what share() was for
  std::uint64_t shared_bytes_ = 0;
};

}  // namespace weir
