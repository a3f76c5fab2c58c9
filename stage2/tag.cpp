#include "stage2/tag.hpp"

#include <bit>

#include "stage2/support/make.hpp"

namespace weir::stage2 {

std::expected<VMID, Error> VmidAllocator::allocate() {
  if (closed_.load(std::memory_order_acquire)) return std::unexpected{Error::no_free_vmid};
  for (unsigned word = 0; word < limit_ / 64; ++word) {
    std::uint64_t used = used_[word].load(std::memory_order_relaxed);
    while (~used != 0) {
      const auto bit = static_cast<unsigned>(std::countr_one(used));
      // Acquire: what was done for the VMID's last owner (its flush) comes before what we do.
      if (used_[word].compare_exchange_weak(used, used | (std::uint64_t{1} << bit), std::memory_order_acquire,
                                            std::memory_order_relaxed)) {
        in_use_.fetch_add(1, std::memory_order_relaxed);
        return VMID{static_cast<std::uint16_t>(word * 64 + bit)};
      }
    }
  }
  return std::unexpected{Error::no_free_vmid};
}

void VmidAllocator::free(VMID vmid) {
  used_[vmid.value / 64U].fetch_and(~(std::uint64_t{1} << (vmid.value % 64U)), std::memory_order_release);
  in_use_.fetch_sub(1, std::memory_order_relaxed);
}

std::expected<std::unique_ptr<HostTag>, Error> HostTag::create(SmmuPort& smmu) {
  const auto vmid = smmu.vmids().allocate();
  if (!vmid) return std::unexpected{vmid.error()};
  auto tag = make<HostTag>(smmu, *vmid);
  if (tag == nullptr) {
    smmu.vmids().free(*vmid);
    return std::unexpected{Error::out_of_memory};
  }
  return tag;
}

HostTag::~HostTag() {
  if (clean_ && users_ == 0) smmu_.vmids().free(vmid_);
}

}  // namespace weir::stage2
