// The queues of the software SMMUv3 (Arm IHI 0070, 3.5): indices with wrap flags over the model's memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/pri.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "tests/model/memory.hpp"

namespace weir::model {

// Index arithmetic of a queue of 2^log2 entries: an index and, above it, a wrap flag.
struct Ring {
  std::uint64_t base = 0;
  unsigned log2 = 0;

  // BASE, with the most entries there may be, and the bytes of one: the base is aligned to the queue's size (6.3.26).
  template <typename Base>
  void set(const Base& reg, unsigned most, std::size_t entry) {
    log2 = std::min(static_cast<unsigned>(reg.template get<typename Base::LOG2SIZE>()), most);
    const std::uint64_t bytes = std::max<std::uint64_t>(std::uint64_t{entry} << log2, 32);
    base = reg.template get<typename Base::ADDR>() & ~(bytes - 1);
  }
  [[nodiscard]] std::uint32_t entries() const { return std::uint32_t{1} << log2; }
  [[nodiscard]] std::uint32_t slot(std::uint32_t index) const { return index & (entries() - 1); }
  [[nodiscard]] std::uint32_t masked(std::uint32_t index) const { return index & (2 * entries() - 1); }
  [[nodiscard]] std::uint32_t next(std::uint32_t index) const { return masked(index + 1); }
  // More than entries(): an inconsistent state.
  [[nodiscard]] std::uint32_t used(std::uint32_t prod, std::uint32_t cons) const { return masked(prod - cons); }
};

struct CommandRing {
  Ring ring;
  std::uint32_t prod = 0;
  std::uint32_t cons = 0;
  std::uint32_t shown = 0;  // CONS as software reads it: it may lag behind (6.3.28)
  smmu::CmdqError error{};  // stays after it was acknowledged
  bool trusting = false;

  [[nodiscard]] std::uint32_t used() const { return ring.used(prod, cons); }
  // Inconsistent indices: nothing is consumed, unless it is `trusting`.
  [[nodiscard]] bool empty() const { return used() == 0 || (!trusting && used() > ring.entries()); }
  // No value: an external abort.
  [[nodiscard]] std::optional<smmu::Command> load(PhysicalMemory& memory, bool snoop) const {
    return memory.load<smmu::Command>(PA{ring.base + std::uint64_t{ring.slot(cons)} * sizeof(smmu::Command)}, snoop);
  }
};

enum class Outcome : std::uint8_t { written, full, aborted };

// An output queue: events or page requests.
template <typename Entry>
struct OutputRing {
  using Prod = smmu::EVENTQ_PROD;
  using Cons = smmu::EVENTQ_CONS;
  Ring ring;
  Prod prod;
  Cons cons;

  [[nodiscard]] std::uint32_t used() const { return ring.used(prod.get<Prod::WR>(), cons.get<Cons::RD>()); }
  [[nodiscard]] bool empty() const { return used() == 0; }
  // Inconsistent indices count as full (3.5.1).
  [[nodiscard]] bool full() const { return used() >= ring.entries(); }
  [[nodiscard]] bool overflowed() const { return prod.get<Prod::OVFLG>() != cons.get<Cons::OVACKFLG>(); }
  // Toggles the flag only if the previous overflow was acknowledged (7.4, 8.1).
  void overflow() {
    if (!overflowed()) prod.set<Prod::OVFLG>(!prod.get<Prod::OVFLG>());
  }
  [[nodiscard]] Outcome push(PhysicalMemory& memory, const Entry& entry, bool snoop) {
    if (full()) return Outcome::full;
    const std::uint32_t at = ring.masked(prod.get<Prod::WR>());
    if (!memory.store(PA{ring.base + std::uint64_t{ring.slot(at)} * sizeof(Entry)}, entry, snoop))
      return Outcome::aborted;
    prod.set<Prod::WR>(ring.next(at));
    return Outcome::written;
  }
};
using EventRing = OutputRing<smmu::Event>;
using PriRing = OutputRing<smmu::PriEntry>;

}  // namespace weir::model
