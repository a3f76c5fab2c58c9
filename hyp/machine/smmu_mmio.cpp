#include "hyp/machine/smmu_mmio.hpp"

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/cache.hpp"
#include "hyp/arch/counter.hpp"
#include "hyp/arch/mmio.hpp"
#include "hyp/arch/pcpu.hpp"
#include "hyp/machine/machine.hpp"
#include "hyp/mem/pages.hpp"

namespace weir {

std::uint32_t SmmuMmio::read(smmu::Reg reg) { return read32(at(reg)); }
void SmmuMmio::write(smmu::Reg reg, std::uint32_t value) { write32(at(reg), value); }
void SmmuMmio::write_after_loads(smmu::Reg reg, std::uint32_t value) {
  dmb_sy();
  write32(at(reg), value);
}
// The SMMU looks at memory because of the register, so the order of the two stores is enough: no DSB. It then observes what
// other pCPUs, and the guest on this one, stored before, too: barriers are cumulative.
void SmmuMmio::write_after_stores(smmu::Reg reg, std::uint32_t value) {
  dmb_oshst();
  write32(at(reg), value);
}
void SmmuMmio::write64(smmu::Reg reg, std::uint64_t value) { weir::write64(at(reg), value); }

std::optional<PA> SmmuMmio::allocate(std::size_t bytes) {
  const auto memory = allocate_pages(bytes, bytes);
  return memory ? std::optional{*memory} : std::nullopt;
}

void* SmmuMmio::pointer(PA memory) { return direct(memory); }

// Tables are also read without the SMMU being told: a DSB.
[[gnu::noinline]] void SmmuMmio::publish(const void* memory, std::size_t bytes) {
  if (coherent_) {
    dsb_st();
  } else {
    clean_to_poc(memory, bytes);
  }
}

[[gnu::noinline]] void SmmuMmio::collect(const void* memory, std::size_t bytes) {
  if (coherent_) {
    dmb_sy();  // loads of the record after the load of the index
  } else {
    clean_and_invalidate_to_poc(memory, bytes);
  }
}

bool SmmuMmio::cut_off_masters() {
  keep_freed_pages();
  machine_cut_off(index_);
  return true;
}

[[gnu::noinline]] std::uint64_t SmmuMmio::microseconds() {
  const std::uint64_t now = counter();  // in two parts: the product would overflow within hours
  return now / counter_hz() * 1'000'000 + now % counter_hz() * 1'000'000 / counter_hz();
}
void SmmuMmio::relax() { asm volatile("yield"); }
unsigned SmmuMmio::pcpu() { return this_pcpu().index; }
unsigned SmmuMmio::pcpus() { return pcpu_count(); }

}  // namespace weir
