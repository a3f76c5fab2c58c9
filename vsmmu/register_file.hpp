// The registers of a vSMMU: values, who may change them when, and the pages that the guest reads (IHI 0070, 6.2
// and 6.3).
//
// Rules only: a store that has consequences is returned as an Effect, and the owner carries it out and then announces
// it (acknowledge_*, publish_*). Where 6.3 leaves a choice to SMMUv3.1, what 3.2 demands is done: a store to a guarded
// register is ignored.
#pragma once

#include <cstdint>

#include "guest-abi/smmu/registers.hpp"
#include "vsmmu/announced.hpp"
#include "vsmmu/ports.hpp"

namespace weir::vsmmu {

// What a store asks for.
enum class Effect : std::uint8_t {
  none,
  cr0,        // CR0 may differ from CR0ACK
  gbpa,       // GBPA has a new value, Update is set
  cmdq_prod,  // new commands
  gerrorn     // errors were acknowledged
};

class RegisterFile {
 public:
  RegisterFile(const RegisterPages& pages, const Announced& announced);

  // Reset values; everything that resets to an UNKNOWN value becomes 0. GBPA resets to bypass.
  void reset();

  // A guest's access of `size` bytes at `offset` (0 to kWindowSize - 1). Sizes other than 4, and 8 at a 64-bit
  // register, are ignored, as is whatever lies outside of the two pages.
  [[nodiscard]] Effect write(std::uint32_t offset, unsigned size, std::uint64_t value);
  // What a guest's load of 1, 2, 4 or 8 aligned bytes sees; 0 elsewhere.
  [[nodiscard]] std::uint64_t read(std::uint32_t offset, unsigned size) const;

  [[nodiscard]] smmu::CR0 cr0() const { return cr0_; }
  [[nodiscard]] smmu::CR0 cr0ack() const { return cr0ack_; }
  [[nodiscard]] smmu::CR2 cr2() const { return cr2_; }
  [[nodiscard]] smmu::GBPA gbpa() const { return gbpa_; }
  [[nodiscard]] smmu::IRQ_CTRL irq_ctrl() const { return irq_ctrl_; }
  [[nodiscard]] smmu::STRTAB_BASE strtab_base() const { return strtab_base_; }
  [[nodiscard]] smmu::STRTAB_BASE_CFG strtab_base_cfg() const { return strtab_base_cfg_; }
  [[nodiscard]] smmu::CMDQ_BASE cmdq_base() const { return cmdq_base_; }
  [[nodiscard]] smmu::CMDQ_CONS cmdq_cons() const { return cmdq_cons_; }
  [[nodiscard]] smmu::EVENTQ_BASE eventq_base() const { return eventq_base_; }
  [[nodiscard]] smmu::EVENTQ_PROD eventq_prod() const { return eventq_prod_; }
  [[nodiscard]] smmu::EVENTQ_CONS eventq_cons() const { return eventq_cons_; }
  // The errors that are active: GERROR differs from GERRORN.
  [[nodiscard]] smmu::GERROR errors() const;

  void acknowledge_cr0();
  void acknowledge_gbpa();
  void publish_cmdq_prod(std::uint32_t wr);
  void publish_cmdq_cons(std::uint32_t rd);
  void publish_cmdq_error(std::uint32_t rd, smmu::CmdqError error);
  void publish_eventq_prod(smmu::EVENTQ_PROD prod);
  // Makes an error active. True if it was not, and an interrupt is due.
  template <typename ErrorBit>
  [[nodiscard]] bool activate() {
    if (errors().get<ErrorBit>()) return false;
    gerror_.set<ErrorBit>(!gerror_.get<ErrorBit>());
    put(smmu::Reg::GERROR, gerror_.words[0]);
    return irq_ctrl_.get<smmu::IRQ_CTRL::GERROR_IRQEN>();
  }

 private:
  [[nodiscard]] Effect write32(std::uint32_t offset, std::uint32_t value);
  void write_cr1(std::uint32_t value);
  [[nodiscard]] Effect write_gbpa(std::uint32_t value);
  void put(smmu::Reg reg, std::uint32_t value) { put(static_cast<std::uint32_t>(reg), value); }
  void put(std::uint32_t offset, std::uint32_t value);
  void put64(smmu::Reg reg, std::uint64_t value);
  // Replaces the half of `r` at byte `half` (0 or 4), keeping to `mask`, and shows it.
  template <typename R>
  void set_half(R& r, smmu::Reg reg, std::uint32_t half, std::uint32_t value, std::uint64_t mask);

  [[nodiscard]] bool smmu_off() const;
  [[nodiscard]] bool cmdq_off() const;
  [[nodiscard]] bool eventq_off() const;

  RegisterPages pages_;
  const Announced& announced_;
  std::uint64_t address_mask_;  // addresses are cut to OAS (3.4.3, note 6)

  smmu::CR0 cr0_;
  smmu::CR0 cr0ack_;
  smmu::CR1 cr1_;
  smmu::CR2 cr2_;
  smmu::GBPA gbpa_;
  smmu::IRQ_CTRL irq_ctrl_;
  smmu::GERROR gerror_;
  smmu::GERROR gerrorn_;
  smmu::STRTAB_BASE strtab_base_;
  smmu::STRTAB_BASE_CFG strtab_base_cfg_;
  smmu::CMDQ_BASE cmdq_base_;
  smmu::CMDQ_CONS cmdq_cons_;
  smmu::EVENTQ_BASE eventq_base_;
  smmu::EVENTQ_PROD eventq_prod_;
  smmu::EVENTQ_CONS eventq_cons_;
};

}  // namespace weir::vsmmu
