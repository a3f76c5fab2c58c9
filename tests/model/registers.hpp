// The register file of the software SMMUv3: what is where, who may write what while what is enabled (Arm IHI 0070,
// chapter 6). It changes nothing but itself; what a store sets in motion happens in the SMMU's own time.
#pragma once

#include <cstdint>
#include <map>

#include "guest-abi/smmu/registers.hpp"
#include "tests/model/parameters.hpp"
#include "tests/model/queues.hpp"
#include "tests/model/translation.hpp"

namespace weir::model {

// The interrupt sources, in the order of a devicetree's interrupts.
enum class Source : std::uint8_t { eventq, priq, cmdq_sync, gerror };

struct MsiConfig {
  smmu::IRQ_CFG0 address;
  smmu::IRQ_CFG1 data;
  smmu::PRIQ_IRQ_CFG2 attributes;  // LO: PRI queue only
};

class Registers {
 public:
  explicit Registers(const Parameters& parameters);

  // Any offset within the two pages; an access that is illegal or CONSTRAINED UNPREDICTABLE is RAZ/WI and a misuse.
  [[nodiscard]] std::uint64_t read(std::uint32_t offset, unsigned size);
  void write(std::uint32_t offset, unsigned size, std::uint64_t value);

  // `Bit` of CR0 is set, or has been and still takes part (6.3.9).
  template <typename Bit>
  [[nodiscard]] bool guards() const {
    return cr0.get<Bit>() || cr0ack.get<Bit>();
  }
  template <typename Bit>
  [[nodiscard]] bool active() const {
    return gerror.get<Bit>() != gerrorn.get<Bit>();
  }
  // 7.5: false if it was active already.
  template <typename Bit>
  bool activate() {
    if (active<Bit>()) return false;
    gerror.set<Bit>(!gerror.get<Bit>());
    return true;
  }
  [[nodiscard]] const MsiConfig& msi(Source source) const {
    return source == Source::eventq ? eventq_msi : source == Source::priq ? priq_msi : gerror_msi;
  }
  // What may be set in CR0.
  [[nodiscard]] std::uint32_t cr0_mask() const;

  smmu::CR0 cr0;     // as written
  smmu::CR0 cr0ack;  // what the SMMU goes by, and may have gone by before, is Controls::cr0
  smmu::IRQ_CTRL irq_ctrl;
  smmu::IRQ_CTRL irq_ctrlack;
  smmu::GBPA gbpa;  // as written; Update set until it is in effect
  smmu::GERROR gerror;
  smmu::GERRORN gerrorn;
  MsiConfig gerror_msi;
  MsiConfig eventq_msi;
  MsiConfig priq_msi;
  CommandRing commands;
  EventRing events;
  PriRing requests;
  Controls controls;  // what the SMMU goes by
  std::uint64_t misuses = 0;

 private:
  [[nodiscard]] std::uint32_t read32(std::uint32_t offset);
  void write32(std::uint32_t offset, std::uint32_t value);
  template <typename R>
  void store(R& reg, std::uint32_t value, bool allowed);
  template <typename R>
  void store_half(R& reg, bool high, std::uint32_t value, bool allowed, std::uint64_t res0);
  void refuse() { ++misuses; }
  [[nodiscard]] bool store_msi(std::uint32_t offset, smmu::Reg first, MsiConfig& config, bool enabled,
                               std::uint32_t value);
  void store_command_prod(std::uint32_t value);
  [[nodiscard]] std::uint64_t read_qemu(std::uint32_t offset, unsigned size);
  void write_qemu(std::uint32_t offset, unsigned size, std::uint64_t value);

  const Parameters& parameters_;
  smmu::CMDQ_BASE cmdq_base_;
  smmu::EVENTQ_BASE eventq_base_;
  smmu::PRIQ_BASE priq_base_;
  std::map<smmu::Reg, std::uint32_t> kept_;  // mimics_qemu: what was written, reserved bits and all
};

}  // namespace weir::model
