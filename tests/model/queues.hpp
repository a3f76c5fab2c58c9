// The two queues of the software SMMUv3 (Arm IHI 0070, 3.5): indices with wrap flags over the model's memory.
#pragma once

#include <cstdint>
#include <optional>

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "tests/model/memory.hpp"

namespace weir::model {

// Index arithmetic of a queue of 2^log2 entries: an index and, above it, a wrap flag.
struct Ring {
  std::uint64_t base = 0;
  unsigned log2 = 0;

  [[nodiscard]] std::uint32_t entries() const { return std::uint32_t{1} << log2; }
  [[nodiscard]] std::uint32_t slot(std::uint32_t index) const { return index & (entries() - 1); }
  [[nodiscard]] std::uint32_t masked(std::uint32_t index) const { return index & (2 * entries() - 1); }
  [[nodiscard]] std::uint32_t next(std::uint32_t index) const { return masked(index + 1); }
  [[nodiscard]] std::uint32_t used(std::uint32_t prod, std::uint32_t cons) const { return masked(prod - cons); }
};

struct CommandRing {
  Ring ring;
  std::uint32_t prod = 0;
  std::uint32_t cons = 0;
  smmu::CmdqError error{};  // stays after it was acknowledged

  void set_base(smmu::CMDQ_BASE base) {
    ring.base = base.get<smmu::CMDQ_BASE::ADDR>();
    ring.log2 = static_cast<unsigned>(base.get<smmu::CMDQ_BASE::LOG2SIZE>());
  }
  [[nodiscard]] bool empty() const { return prod == cons; }
  // No value: an external abort.
  [[nodiscard]] std::optional<smmu::Command> load(PhysicalMemory& memory) const {
    return memory.load<smmu::Command>(PA{ring.base + std::uint64_t{ring.slot(cons)} * sizeof(smmu::Command)});
  }
};

struct EventRing {
  enum class Outcome : std::uint8_t { written, overflow, aborted };
  Ring ring;
  smmu::EVENTQ_PROD prod;
  smmu::EVENTQ_CONS cons;

  void set_base(smmu::EVENTQ_BASE base) {
    ring.base = base.get<smmu::EVENTQ_BASE::ADDR>();
    ring.log2 = static_cast<unsigned>(base.get<smmu::EVENTQ_BASE::LOG2SIZE>());
  }
  [[nodiscard]] Outcome push(PhysicalMemory& memory, const smmu::Event& event) {
    const std::uint32_t at = ring.masked(prod.get<smmu::EVENTQ_PROD::WR>());
    if (ring.used(at, cons.get<smmu::EVENTQ_CONS::RD>()) >= ring.entries()) {
      // 7.4: the flag toggles only if the previous overflow was acknowledged.
      prod.set<smmu::EVENTQ_PROD::OVFLG>(!cons.get<smmu::EVENTQ_CONS::OVACKFLG>());
      return Outcome::overflow;
    }
    if (!memory.store(PA{ring.base + std::uint64_t{ring.slot(at)} * sizeof(smmu::Event)}, event))
      return Outcome::aborted;
    prod.set<smmu::EVENTQ_PROD::WR>(ring.next(at));
    return Outcome::written;
  }
};

}  // namespace weir::model
