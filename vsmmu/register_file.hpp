// The registers of a vSMMU: values, who may change them when, and the pages that the guest reads (IHI 0070, 6.2
// and 6.3).
//
// Rules only, by the table of register_rules.hpp: a store that has consequences is returned as an Effect, and the owner
// carries it out and then announces it (acknowledge_*, publish_*).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "guest-abi/smmu/registers.hpp"
#include "vsmmu/announced.hpp"
#include "vsmmu/ports.hpp"
#include "vsmmu/register_rules.hpp"

namespace weir::vsmmu {

// What a store asks for.
enum class Effect : std::uint8_t {
  none,
  cr0,        // CR0 may differ from CR0ACK
  gbpa,       // GBPA has a new value, Update is set
  cmdq_prod,  // new commands
  gerrorn,    // errors were acknowledged
  irq_ctrl,   // IRQ_CTRL may differ from IRQ_CTRLACK
  evtq_cons,  // there may be room in the event queue
  priq_cons   // and in the PRI queue
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

  // The value of a register whose format is `R`.
  template <typename R>
  [[nodiscard]] R get(smmu::Reg reg) const {
    R r;
    r.words[0] = static_cast<typename R::Word>(values_[index_of(reg)]);
    return r;
  }
  [[nodiscard]] smmu::CR0 cr0() const { return get<smmu::CR0>(smmu::Reg::CR0); }
  [[nodiscard]] smmu::CR0 cr0ack() const { return get<smmu::CR0>(smmu::Reg::CR0ACK); }
  [[nodiscard]] smmu::CR2 cr2() const { return get<smmu::CR2>(smmu::Reg::CR2); }
  [[nodiscard]] smmu::GBPA gbpa() const { return get<smmu::GBPA>(smmu::Reg::GBPA); }
  [[nodiscard]] smmu::IRQ_CTRL irq_ctrl() const { return get<smmu::IRQ_CTRL>(smmu::Reg::IRQ_CTRL); }
  [[nodiscard]] smmu::IRQ_CTRL irq_ctrlack() const { return get<smmu::IRQ_CTRL>(smmu::Reg::IRQ_CTRLACK); }
  [[nodiscard]] smmu::STRTAB_BASE strtab_base() const { return get<smmu::STRTAB_BASE>(smmu::Reg::STRTAB_BASE); }
  [[nodiscard]] smmu::STRTAB_BASE_CFG strtab_base_cfg() const {
    return get<smmu::STRTAB_BASE_CFG>(smmu::Reg::STRTAB_BASE_CFG);
  }
  [[nodiscard]] smmu::CMDQ_BASE cmdq_base() const { return get<smmu::CMDQ_BASE>(smmu::Reg::CMDQ_BASE); }
  [[nodiscard]] smmu::CMDQ_CONS cmdq_cons() const { return get<smmu::CMDQ_CONS>(smmu::Reg::CMDQ_CONS); }
  [[nodiscard]] smmu::EVENTQ_BASE eventq_base() const { return get<smmu::EVENTQ_BASE>(smmu::Reg::EVENTQ_BASE); }
  [[nodiscard]] smmu::EVENTQ_PROD eventq_prod() const { return get<smmu::EVENTQ_PROD>(smmu::Reg::EVENTQ_PROD); }
  [[nodiscard]] smmu::EVENTQ_CONS eventq_cons() const { return get<smmu::EVENTQ_CONS>(smmu::Reg::EVENTQ_CONS); }
  [[nodiscard]] smmu::PRIQ_BASE priq_base() const { return get<smmu::PRIQ_BASE>(smmu::Reg::PRIQ_BASE); }
  [[nodiscard]] smmu::PRIQ_PROD priq_prod() const { return get<smmu::PRIQ_PROD>(smmu::Reg::PRIQ_PROD); }
  [[nodiscard]] smmu::PRIQ_CONS priq_cons() const { return get<smmu::PRIQ_CONS>(smmu::Reg::PRIQ_CONS); }
  [[nodiscard]] smmu::PRIQ_IRQ_CFG2 priq_irq_cfg2() const { return get<smmu::PRIQ_IRQ_CFG2>(smmu::Reg::PRIQ_IRQ_CFG2); }
  // The effective value of CR0.PRIQEN (6.3.9.5).
  [[nodiscard]] bool priq_enabled() const { return cr0().get<smmu::CR0::PRIQEN>() && cr0().get<smmu::CR0::SMMUEN>(); }
  // The errors that are active: GERROR differs from GERRORN.
  [[nodiscard]] smmu::GERROR errors() const;

  void acknowledge_cr0();
  void acknowledge_gbpa();
  void publish_irq_ctrlack(smmu::IRQ_CTRLACK ack);
  // IRQ_CTRL becomes 0; its acknowledge follows.
  void disable_interrupts() { set(smmu::Reg::IRQ_CTRL, 0); }
  void publish_cmdq_prod(std::uint32_t wr) { put(static_cast<std::uint32_t>(smmu::Reg::CMDQ_PROD), wr); }
  // What the guest sees in CMDQ_PROD: any pCPU may have stored it.
  [[nodiscard]] std::uint32_t shown_cmdq_prod() const {
    return std::atomic_ref{pages_.page0[static_cast<std::uint32_t>(smmu::Reg::CMDQ_PROD) / 4]}.load(
        std::memory_order_relaxed);
  }
  void publish_cmdq_cons(std::uint32_t rd) { show_cmdq_cons(cmdq_cons().set<smmu::CMDQ_CONS::RD>(rd)); }
  void publish_cmdq_error(std::uint32_t rd, smmu::CmdqError error) {
    show_cmdq_cons(cmdq_cons().set<smmu::CMDQ_CONS::ERR>(error).set<smmu::CMDQ_CONS::RD>(rd));
  }
  void publish_eventq_prod(smmu::EVENTQ_PROD prod) { set(smmu::Reg::EVENTQ_PROD, prod.words[0]); }
  void publish_priq_prod(smmu::PRIQ_PROD prod) { set(smmu::Reg::PRIQ_PROD, prod.words[0]); }
  // Makes an error active. True if it was not.
  template <typename ErrorBit>
  [[nodiscard]] bool activate() {
    if (errors().get<ErrorBit>()) return false;
    const auto gerror = get<smmu::GERROR>(smmu::Reg::GERROR);
    set(smmu::Reg::GERROR, gerror.words[0] ^ ErrorBit::mask);
    return true;
  }

 private:
  // Position in kRegs.
  [[nodiscard]] static constexpr std::size_t index_of(smmu::Reg reg) {
    return kIndex[static_cast<std::uint32_t>(reg) % smmu::kPage1 / 4];
  }
  // No register of page 1 shares its offset with one of page 0.
  static constexpr auto kIndex = [] {
    std::array<std::uint8_t, 1024> index{};
    for (std::size_t i = 0; i < smmu::kRegs.size(); ++i)
      index[static_cast<std::uint32_t>(smmu::kRegs[i].reg) % smmu::kPage1 / 4] = static_cast<std::uint8_t>(i);
    return index;
  }();

  [[nodiscard]] Effect write32(std::uint32_t offset, std::uint32_t value);
  [[nodiscard]] bool announced(Needs needs) const;
  // Whether a field with this guard now takes a store of `value` to its register.
  [[nodiscard]] bool open(Guard guard, std::uint64_t value) const;
  // The bits of `rule` that exist.
  [[nodiscard]] std::uint64_t extent(const FieldRule& rule) const;
  [[nodiscard]] bool off(std::uint64_t cr0_mask) const;
  // Cuts what the register `index` shows to the size of its queue.
  void cut(smmu::Reg index, std::uint64_t field);
  // Stores and shows a value.
  void set(smmu::Reg reg, std::uint64_t value);
  void put(std::uint32_t offset, std::uint32_t value) {
    const auto& page = offset >= smmu::kPage1 ? pages_.page1 : pages_.page0;
    std::atomic_ref{page[(offset % smmu::kPage1) / 4]}.store(value, std::memory_order_release);
  }
  void show_cmdq_cons(smmu::CMDQ_CONS cons) {
    values_[index_of(smmu::Reg::CMDQ_CONS)] = cons.words[0];
    put(static_cast<std::uint32_t>(smmu::Reg::CMDQ_CONS), cons.words[0]);
  }

  RegisterPages pages_;
  const Announced& announced_;
  std::array<std::uint64_t, smmu::kRegs.size()> values_{};
};

}  // namespace weir::vsmmu
