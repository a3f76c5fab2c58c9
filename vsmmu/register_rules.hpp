// What a guest may store to, register by register: which fields, when, and on which features they depend (IHI 0070, 6.2
// and 6.3). The register file goes by this table alone, and so does whatever describes the vSMMU to its users: what is
// not in it ignores stores.
//
// Where 6.3 leaves a choice to SMMUv3.0 and v3.1, what v3.2 demands is done: a store to a guarded field is ignored.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "guest-abi/smmu/registers.hpp"

namespace weir::vsmmu {

// When a field takes a store. An enable counts as set while it, or its acknowledge, is 1.
enum class Guard : std::uint8_t {
  none,          // always
  smmuen,        // CR0.SMMUEN == 0
  cmdqen,        // CR0.CMDQEN == 0
  eventqen,      // CR0.EVENTQEN == 0
  priqen,        // CR0.PRIQEN == 0, whatever SMMUEN is (6.3.9.5)
  queues,        // no queue is enabled
  update,        // GBPA.Update == 0, and the store sets it (6.3.14.1)
  gerror_irqen,  // IRQ_CTRL.GERROR_IRQEN == 0
  eventq_irqen,  // IRQ_CTRL.EVENTQ_IRQEN == 0
  priq_irqen     // IRQ_CTRL.PRIQ_IRQEN == 0
};

// What must be announced; a field that depends on something else is RES0.
enum class Needs : std::uint8_t {
  nothing,
  two_level_stream_table,  // IDR0.ST_LEVEL
  ats,                     // IDR0.ATS
  ats_errors,              // IDR0.ATSRECERR
  pri,                     // IDR0.PRI
  msi,                     // IDR0.MSI
  msi_and_pri
};

// How much of a field there is.
enum class Extent : std::uint8_t {
  whole,
  address,  // bits below IDR5.OAS (3.4.3)
  index     // the index and its wrap flag, by the queue's size; above it the register reads as 0
};

struct FieldRule {
  smmu::Reg reg{};
  std::string_view field;
  std::uint64_t mask{};
  Guard guard{};
  Needs needs{};
  Extent extent{};
};

namespace rules_detail {

// `R` is the register's format and `F` one of its fields.
template <typename R, typename F>
consteval FieldRule rule(smmu::Reg reg, Guard guard, Needs needs = Needs::nothing, Extent extent = Extent::whole) {
  static_assert((F::mask & ~R::Layout::guest[0]) == 0, "a field that a guest may set");
  return {reg, F::name, F::mask, guard, needs, F::kind == FieldKind::address ? Extent::address : extent};
}

consteval auto field_rules() {
  using enum Guard;
  using smmu::CMDQ_BASE;
  using smmu::CR0;
  using smmu::CR1;
  using smmu::CR2;
  using smmu::EVENTQ_BASE;
  using smmu::EVENTQ_CONS;
  using smmu::EVENTQ_PROD;
  using smmu::GBPA;
  using smmu::GERRORN;
  using smmu::IRQ_CFG0;
  using smmu::IRQ_CFG1;
  using smmu::IRQ_CFG2;
  using smmu::IRQ_CTRL;
  using smmu::PRIQ_BASE;
  using smmu::PRIQ_CONS;
  using smmu::PRIQ_IRQ_CFG2;
  using smmu::PRIQ_PROD;
  using smmu::Reg;
  using smmu::STRTAB_BASE;
  using smmu::STRTAB_BASE_CFG;
  return std::to_array<FieldRule>({
      rule<CR0, CR0::SMMUEN>(Reg::CR0, none),
      rule<CR0, CR0::PRIQEN>(Reg::CR0, none, Needs::pri),
      rule<CR0, CR0::EVENTQEN>(Reg::CR0, none),
      rule<CR0, CR0::CMDQEN>(Reg::CR0, none),
      rule<CR0, CR0::ATSCHK>(Reg::CR0, none, Needs::ats),
      rule<CR1, CR1::TABLE_SH>(Reg::CR1, smmuen),
      rule<CR1, CR1::TABLE_OC>(Reg::CR1, smmuen),
      rule<CR1, CR1::TABLE_IC>(Reg::CR1, smmuen),
      rule<CR1, CR1::QUEUE_SH>(Reg::CR1, queues),
      rule<CR1, CR1::QUEUE_OC>(Reg::CR1, queues),
      rule<CR1, CR1::QUEUE_IC>(Reg::CR1, queues),
      rule<CR2, CR2::REC_CFG_ATS>(Reg::CR2, smmuen, Needs::ats_errors),
      rule<CR2, CR2::RECINVSID>(Reg::CR2, smmuen),
      rule<GBPA, GBPA::Update>(Reg::GBPA, update),
      rule<GBPA, GBPA::ABORT>(Reg::GBPA, update),
      rule<IRQ_CTRL, IRQ_CTRL::EVENTQ_IRQEN>(Reg::IRQ_CTRL, none),
      rule<IRQ_CTRL, IRQ_CTRL::PRIQ_IRQEN>(Reg::IRQ_CTRL, none, Needs::pri),
      rule<IRQ_CTRL, IRQ_CTRL::GERROR_IRQEN>(Reg::IRQ_CTRL, none),
      rule<GERRORN, GERRORN::SFM_ERR>(Reg::GERRORN, none),
      rule<GERRORN, GERRORN::MSI_GERROR_ABT_ERR>(Reg::GERRORN, none, Needs::msi),
      rule<GERRORN, GERRORN::MSI_PRIQ_ABT_ERR>(Reg::GERRORN, none, Needs::msi_and_pri),
      rule<GERRORN, GERRORN::MSI_EVENTQ_ABT_ERR>(Reg::GERRORN, none, Needs::msi),
      rule<GERRORN, GERRORN::MSI_CMDQ_ABT_ERR>(Reg::GERRORN, none, Needs::msi),
      rule<GERRORN, GERRORN::PRIQ_ABT_ERR>(Reg::GERRORN, none, Needs::pri),
      rule<GERRORN, GERRORN::EVENTQ_ABT_ERR>(Reg::GERRORN, none),
      rule<GERRORN, GERRORN::CMDQ_ERR>(Reg::GERRORN, none),
      rule<IRQ_CFG0, IRQ_CFG0::ADDR>(Reg::GERROR_IRQ_CFG0, gerror_irqen, Needs::msi),
      rule<IRQ_CFG1, IRQ_CFG1::DATA>(Reg::GERROR_IRQ_CFG1, gerror_irqen, Needs::msi),
      rule<IRQ_CFG2, IRQ_CFG2::SH>(Reg::GERROR_IRQ_CFG2, gerror_irqen, Needs::msi),
      rule<IRQ_CFG2, IRQ_CFG2::MemAttr>(Reg::GERROR_IRQ_CFG2, gerror_irqen, Needs::msi),
      rule<STRTAB_BASE, STRTAB_BASE::RA>(Reg::STRTAB_BASE, smmuen),
      rule<STRTAB_BASE, STRTAB_BASE::ADDR>(Reg::STRTAB_BASE, smmuen),
      rule<STRTAB_BASE_CFG, STRTAB_BASE_CFG::FMT>(Reg::STRTAB_BASE_CFG, smmuen, Needs::two_level_stream_table),
      rule<STRTAB_BASE_CFG, STRTAB_BASE_CFG::SPLIT>(Reg::STRTAB_BASE_CFG, smmuen, Needs::two_level_stream_table),
      rule<STRTAB_BASE_CFG, STRTAB_BASE_CFG::LOG2SIZE>(Reg::STRTAB_BASE_CFG, smmuen),
      rule<CMDQ_BASE, CMDQ_BASE::RA>(Reg::CMDQ_BASE, cmdqen),
      rule<CMDQ_BASE, CMDQ_BASE::ADDR>(Reg::CMDQ_BASE, cmdqen),
      rule<CMDQ_BASE, CMDQ_BASE::LOG2SIZE>(Reg::CMDQ_BASE, cmdqen),
      rule<smmu::CMDQ_PROD, smmu::CMDQ_PROD::WR>(Reg::CMDQ_PROD, none),
      rule<smmu::CMDQ_CONS, smmu::CMDQ_CONS::RD>(Reg::CMDQ_CONS, cmdqen, Needs::nothing, Extent::index),
      rule<EVENTQ_BASE, EVENTQ_BASE::WA>(Reg::EVENTQ_BASE, eventqen),
      rule<EVENTQ_BASE, EVENTQ_BASE::ADDR>(Reg::EVENTQ_BASE, eventqen),
      rule<EVENTQ_BASE, EVENTQ_BASE::LOG2SIZE>(Reg::EVENTQ_BASE, eventqen),
      rule<IRQ_CFG0, IRQ_CFG0::ADDR>(Reg::EVENTQ_IRQ_CFG0, eventq_irqen, Needs::msi),
      rule<IRQ_CFG1, IRQ_CFG1::DATA>(Reg::EVENTQ_IRQ_CFG1, eventq_irqen, Needs::msi),
      rule<IRQ_CFG2, IRQ_CFG2::SH>(Reg::EVENTQ_IRQ_CFG2, eventq_irqen, Needs::msi),
      rule<IRQ_CFG2, IRQ_CFG2::MemAttr>(Reg::EVENTQ_IRQ_CFG2, eventq_irqen, Needs::msi),
      rule<PRIQ_BASE, PRIQ_BASE::WA>(Reg::PRIQ_BASE, priqen, Needs::pri),
      rule<PRIQ_BASE, PRIQ_BASE::ADDR>(Reg::PRIQ_BASE, priqen, Needs::pri),
      rule<PRIQ_BASE, PRIQ_BASE::LOG2SIZE>(Reg::PRIQ_BASE, priqen, Needs::pri),
      rule<IRQ_CFG0, IRQ_CFG0::ADDR>(Reg::PRIQ_IRQ_CFG0, priq_irqen, Needs::msi_and_pri),
      rule<IRQ_CFG1, IRQ_CFG1::DATA>(Reg::PRIQ_IRQ_CFG1, priq_irqen, Needs::msi_and_pri),
      // 6.3.36 has the register depend on MSIs, but LO concerns wired interrupts too and is not affected by IDR0.MSI (6.3.1).
      rule<PRIQ_IRQ_CFG2, PRIQ_IRQ_CFG2::LO>(Reg::PRIQ_IRQ_CFG2, priq_irqen, Needs::pri),
      rule<PRIQ_IRQ_CFG2, PRIQ_IRQ_CFG2::SH>(Reg::PRIQ_IRQ_CFG2, priq_irqen, Needs::msi_and_pri),
      rule<PRIQ_IRQ_CFG2, PRIQ_IRQ_CFG2::MemAttr>(Reg::PRIQ_IRQ_CFG2, priq_irqen, Needs::msi_and_pri),
      rule<EVENTQ_PROD, EVENTQ_PROD::OVFLG>(Reg::EVENTQ_PROD, eventqen),
      rule<EVENTQ_PROD, EVENTQ_PROD::WR>(Reg::EVENTQ_PROD, eventqen, Needs::nothing, Extent::index),
      rule<EVENTQ_CONS, EVENTQ_CONS::OVACKFLG>(Reg::EVENTQ_CONS, none),
      rule<EVENTQ_CONS, EVENTQ_CONS::RD>(Reg::EVENTQ_CONS, none),
      rule<PRIQ_PROD, PRIQ_PROD::OVFLG>(Reg::PRIQ_PROD, priqen, Needs::pri),
      rule<PRIQ_PROD, PRIQ_PROD::WR>(Reg::PRIQ_PROD, priqen, Needs::pri, Extent::index),
      rule<PRIQ_CONS, PRIQ_CONS::OVACKFLG>(Reg::PRIQ_CONS, none, Needs::pri),
      rule<PRIQ_CONS, PRIQ_CONS::RD>(Reg::PRIQ_CONS, none, Needs::pri),
  });
}

}  // namespace rules_detail

// By register, in order of offsets.
inline constexpr auto kFieldRules = rules_detail::field_rules();

// What a register is to the guest of a vSMMU.
enum class Access : std::uint8_t {
  constant,  // read-only, from what is announced or 0; never changes
  status,    // read-only, the vSMMU's own
  stores,    // kFieldRules says which
  absent     // reads as 0 and ignores stores: of a feature that no vSMMU offers
};

constexpr Access access_of(smmu::Reg reg) {
  using smmu::Reg;
  for (const FieldRule& r : kFieldRules)
    if (r.reg == reg) return Access::stores;
  switch (reg) {
    case Reg::CR0ACK:
    case Reg::STATUSR:
    case Reg::IRQ_CTRLACK:
    case Reg::GERROR: return Access::status;
    // AGBPA: no further attributes are assigned (6.3.15).
    case Reg::AGBPA:
    case Reg::S2PII:
    case Reg::GATOS_CTRL:
    case Reg::GATOS_SID:
    case Reg::GATOS_ADDR:
    case Reg::GATOS_PAR:
    case Reg::MPAMIDR:
    case Reg::GMPAM:
    case Reg::GBPMPAM:
    case Reg::VATOS_SEL:
    case Reg::IDR6:
    case Reg::DPT_BASE:
    case Reg::DPT_BASE_CFG:
    case Reg::DPT_CFG_FAR: return Access::absent;
    default:
      return Access::constant;  // IDR0 to AIDR; PIDR and CIDR, of which a vSMMU has none (6.3.170 only recommends)
  }
}

// For people.
constexpr std::string_view describe(Guard guard) {
  switch (guard) {
    case Guard::none: return "always";
    case Guard::smmuen: return "while CR0.SMMUEN == 0";
    case Guard::cmdqen: return "while CR0.CMDQEN == 0";
    case Guard::eventqen: return "while CR0.EVENTQEN == 0";
    case Guard::priqen: return "while CR0.PRIQEN == 0";
    case Guard::queues: return "while CR0.CMDQEN == CR0.EVENTQEN == CR0.PRIQEN == 0";
    case Guard::update: return "while GBPA.Update == 0, by a store that sets it";
    case Guard::gerror_irqen: return "while IRQ_CTRL.GERROR_IRQEN == 0";
    case Guard::eventq_irqen: return "while IRQ_CTRL.EVENTQ_IRQEN == 0";
    case Guard::priq_irqen: return "while IRQ_CTRL.PRIQ_IRQEN == 0";
  }
  return {};
}
constexpr std::string_view describe(Needs needs) {
  switch (needs) {
    case Needs::nothing: return {};
    case Needs::two_level_stream_table: return "IDR0.ST_LEVEL == 1";
    case Needs::ats: return "IDR0.ATS == 1";
    case Needs::ats_errors: return "IDR0.ATSRECERR == 1";
    case Needs::pri: return "IDR0.PRI == 1";
    case Needs::msi: return "IDR0.MSI == 1";
    case Needs::msi_and_pri: return "IDR0.MSI == 1 and IDR0.PRI == 1";
  }
  return {};
}

}  // namespace weir::vsmmu
