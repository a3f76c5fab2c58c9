// What the driver of a physical SMMUv3 needs of the machine: registers, memory that the SMMU sees, time. At EL2 these
// are MMIO and the page allocator; tests put a model behind them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "guest-abi/smmu/registers.hpp"
#include "guest-abi/types.hpp"

namespace weir {

class SmmuHardware {
 public:
  virtual std::uint32_t read(smmu::Reg reg) = 0;
  // Earlier stores to memory, published as below, are visible to the SMMU before it sees the register change.
  virtual void write(smmu::Reg reg, std::uint32_t value) = 0;
  // The same, and earlier loads of what was collected are done: for CONS, which gives records back.
  virtual void write_after_loads(smmu::Reg reg, std::uint32_t value) { write(reg, value); }
  // The same, if coherent(): earlier stores to memory are visible, published or not, as far as the SMMU looks at them
  // because of the register: entries of a queue.
  virtual void write_after_stores(smmu::Reg reg, std::uint32_t value) { write(reg, value); }
  virtual void write64(smmu::Reg reg, std::uint64_t value) = 0;

  // The SMMU finds in memory what is in the CPUs' caches: publish() is but a barrier.
  [[nodiscard]] virtual bool coherent() const = 0;
  // Zeroed and published memory, aligned to its size (a power of two, at least 4 KiB); nullopt when there is none.
  [[nodiscard]] virtual std::optional<PA> allocate(std::size_t bytes) = 0;
  // The pointer to what allocate() returned.
  [[nodiscard]] virtual void* pointer(PA at) = 0;
  // Makes stores to [at, at + bytes) visible to the SMMU: a clean if it is not coherent, and a barrier.
  virtual void publish(const void* at, std::size_t bytes) = 0;
  // Makes the SMMU's stores to [at, at + bytes) visible to loads that follow.
  virtual void collect(const void* at, std::size_t bytes) = 0;

  // Ends all DMA through an SMMU that goes on translating whatever it is told: takes bus mastering from the functions
  // behind it, for good, and has memory that is given back from now on never reused. False: DMA may go on.
  [[nodiscard]] virtual bool cut_off_masters() { return false; }

  // Microseconds from some start.
  [[nodiscard]] virtual std::uint64_t microseconds() = 0;
  // Once per round of a polling loop.
  virtual void relax() = 0;

  // Which pCPU this is, of how many. Both may grow from 0 and 1 while the machine comes up.
  [[nodiscard]] virtual unsigned pcpu() { return 0; }
  [[nodiscard]] virtual unsigned pcpus() { return 1; }

 protected:
  ~SmmuHardware() = default;
};

}  // namespace weir
