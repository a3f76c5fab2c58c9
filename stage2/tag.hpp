// Host tags: the VMIDs under which an SMMU's TLB keeps a VM's translations. They are allocated per physical instance.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <memory>

#include "guest-abi/types.hpp"
#include "stage2/port.hpp"
#include "stage2/retire.hpp"

namespace weir::stage2 {

struct TableClass;

// The VMIDs of one instance: 1..255 or 1..65535 (IDR0.VMID16). VMID 0 is never handed out: that is what bypass STEs and
// software before us used. Safe to call from several pCPUs.
class VmidAllocator {
 public:
  explicit constexpr VmidAllocator(bool vmid16) : limit_{vmid16 ? 0x10000U : 0x100U} {}

  // Errors: no_free_vmid.
  [[nodiscard]] std::expected<VMID, Error> allocate();
  // `vmid` is clean in the instance's TLB.
  void free(VMID vmid);
  // The instance cannot be told to forget anything any more: no VMID is handed out again.
  void close() { closed_.store(true, std::memory_order_release); }
  [[nodiscard]] unsigned in_use() const { return in_use_.load(std::memory_order_relaxed); }
  [[nodiscard]] unsigned capacity() const { return limit_ - 1; }

 private:
  unsigned limit_;
  std::atomic<bool> closed_{false};
  std::atomic<unsigned> in_use_{0};
  std::array<std::atomic<std::uint64_t>, 0x10000 / 64> used_{1};  // bit n: VMID n is taken; VMID 0 for ever
};

// One VMID of one instance, held by a vSMMU. Freed in two steps: whoever has flushed it says so (flushed()), and the
// object is destroyed after a grace period. Destroyed unflushed it keeps the VMID for ever: a lost VMID harms nobody,
// a dirty one would.
class HostTag final : public Retired {
 public:
  // Errors: no_free_vmid, out_of_memory.
  [[nodiscard]] static std::expected<std::unique_ptr<HostTag>, Error> create(SmmuPort& smmu);
  ~HostTag() override;

  [[nodiscard]] SmmuPort& smmu() const { return smmu_; }
  [[nodiscard]] VMID vmid() const { return vmid_; }
  // Streams whose STE carries the VMID; kept by S2Domain.
  [[nodiscard]] unsigned users() const { return users_; }
  void use() { ++users_; }
  void unuse() { --users_; }
  // S12_VMALL + SYNC has completed and no STE carries the VMID.
  void flushed() { clean_ = true; }
  void dirty() { clean_ = false; }
  // The table that its STEs point at; nullptr: attached to no domain. Kept by S2Domain.
  // Changes of whose STEs have brought stage 1, or are about to: there may be combined entries. unnest() takes one back
  // that came to nothing, and says whether there is none left.
  [[nodiscard]] bool nests() const { return nested_ != 0; }
  void nest() { ++nested_; }
  [[nodiscard]] bool unnest() { return --nested_ == 0; }
  [[nodiscard]] TableClass* table_class() const { return table_class_; }
  void joined(TableClass* table_class) { table_class_ = table_class; }

  HostTag(SmmuPort& smmu, VMID vmid) : smmu_{smmu}, vmid_{vmid} {}

 private:
  SmmuPort& smmu_;
  VMID vmid_;
  TableClass* table_class_ = nullptr;
  unsigned users_ = 0;
  std::uint64_t nested_ = 0;
  bool clean_ = true;  // until an STE carries it
};

}  // namespace weir::stage2
