#include "vsmmu/register_file.hpp"

#include <atomic>

#include "vsmmu/ring.hpp"

namespace weir::vsmmu {
namespace {

using smmu::Reg;

constexpr std::uint32_t kPageSize = 0x1000;

constexpr std::uint32_t at(Reg reg) { return static_cast<std::uint32_t>(reg); }

template <typename R>
constexpr std::uint32_t low(const R& r) {
  return static_cast<std::uint32_t>(r.words[0]);
}

// What a guest's store may change where no feature depends on it.
template <typename R>
constexpr std::uint64_t settable = R::Layout::guest[0];

}  // namespace

RegisterFile::RegisterFile(const RegisterPages& pages, const Announced& announced)
    : pages_{pages}, announced_{announced}, address_mask_{bit_mask(announced.oas_bits() - 1, 0)} {
  reset();
}

bool RegisterFile::smmu_off() const { return !cr0_.get<smmu::CR0::SMMUEN>() && !cr0ack_.get<smmu::CR0::SMMUEN>(); }
bool RegisterFile::cmdq_off() const { return !cr0_.get<smmu::CR0::CMDQEN>() && !cr0ack_.get<smmu::CR0::CMDQEN>(); }
bool RegisterFile::eventq_off() const {
  return !cr0_.get<smmu::CR0::EVENTQEN>() && !cr0ack_.get<smmu::CR0::EVENTQEN>();
}

smmu::GERROR RegisterFile::errors() const {
  smmu::GERROR active;
  active.words[0] = gerror_.words[0] ^ gerrorn_.words[0];
  return active;
}

void RegisterFile::put(std::uint32_t offset, std::uint32_t value) {
  const auto& page = offset >= smmu::kPage1 ? pages_.page1 : pages_.page0;
  std::atomic_ref{page[(offset % smmu::kPage1) / 4]}.store(value, std::memory_order_release);
}

void RegisterFile::put64(Reg reg, std::uint64_t value) {
  put(at(reg), static_cast<std::uint32_t>(value));
  put(at(reg) + 4, static_cast<std::uint32_t>(value >> 32));
}

void RegisterFile::reset() {
  cr0_ = {};
  cr0ack_ = {};
  cr1_ = {};
  cr2_ = {};
  gbpa_ = {};
  irq_ctrl_ = {};
  gerror_ = {};
  gerrorn_ = {};
  strtab_base_ = {};
  strtab_base_cfg_ = {};
  cmdq_base_ = {};
  cmdq_cons_ = {};
  eventq_base_ = {};
  eventq_prod_ = {};
  eventq_cons_ = {};
  for (std::uint32_t offset = 0; offset < kPageSize; offset += 4) {
    put(offset, 0);
    put(smmu::kPage1 + offset, 0);
  }
  put(Reg::IDR0, low(announced_.idr0));
  put(Reg::IDR1, low(announced_.idr1));
  put(Reg::IDR3, low(announced_.idr3));
  put(Reg::IDR5, low(announced_.idr5));
  put(Reg::AIDR, low(announced_.aidr));
}

template <typename R>
void RegisterFile::set_half(R& r, Reg reg, std::uint32_t half, std::uint32_t value, std::uint64_t mask) {
  const unsigned shift = half * 8;
  const std::uint64_t kept = r.words[0] & ~(std::uint64_t{0xffffffff} << shift);
  r.words[0] = (kept | (std::uint64_t{value} << shift)) & mask;
  put64(reg, r.words[0]);
}

Effect RegisterFile::write(std::uint32_t offset, unsigned size, std::uint64_t value) {
  if (size != 4 && size != 8) return Effect::none;
  if (offset >= smmu::kWindowSize || offset % smmu::kPage1 >= kPageSize || offset % size != 0) return Effect::none;
  if (size == 4) return write32(offset, static_cast<std::uint32_t>(value));
  const smmu::RegInfo* info = smmu::find_reg(offset);
  if (info == nullptr || info->bits != 64) return Effect::none;  // two 32-bit registers at once: WI (6.2)
  // No 64-bit register has an effect of its own.
  (void)write32(offset, static_cast<std::uint32_t>(value));
  (void)write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  return Effect::none;
}

void RegisterFile::write_cr1(std::uint32_t value) {
  using smmu::CR1;
  constexpr std::uint64_t kTable = CR1::TABLE_SH::mask | CR1::TABLE_OC::mask | CR1::TABLE_IC::mask;
  constexpr std::uint64_t kQueue = CR1::QUEUE_SH::mask | CR1::QUEUE_OC::mask | CR1::QUEUE_IC::mask;
  const std::uint64_t mask = (smmu_off() ? kTable : 0) | (cmdq_off() && eventq_off() ? kQueue : 0);
  cr1_.words[0] = static_cast<std::uint32_t>((cr1_.words[0] & ~mask) | (value & mask));
  put(Reg::CR1, cr1_.words[0]);
}

Effect RegisterFile::write_gbpa(std::uint32_t value) {
  smmu::GBPA asked;
  asked.words[0] = static_cast<std::uint32_t>(value & settable<smmu::GBPA>);
  // Needs Update in the same store, and no update under way (6.3.14.1).
  if (!asked.get<smmu::GBPA::Update>() || gbpa_.get<smmu::GBPA::Update>()) return Effect::none;
  gbpa_ = asked;
  put(Reg::GBPA, gbpa_.words[0]);
  return Effect::gbpa;
}

Effect RegisterFile::write32(std::uint32_t offset, std::uint32_t value) {
  const std::uint32_t half = offset & 4;
  switch (offset) {
    case at(Reg::CR0): {
      using smmu::CR0;
      std::uint64_t mask = CR0::SMMUEN::mask | CR0::CMDQEN::mask | CR0::EVENTQEN::mask;
      if (announced_.idr0.get<smmu::IDR0::PRI>()) mask |= CR0::PRIQEN::mask;
      if (announced_.idr0.get<smmu::IDR0::ATS>()) mask |= CR0::ATSCHK::mask;
      cr0_.words[0] = static_cast<std::uint32_t>(value & mask);
      put(Reg::CR0, cr0_.words[0]);
      return Effect::cr0;
    }
    case at(Reg::CR1): write_cr1(value); return Effect::none;
    case at(Reg::CR2): {
      // PTM needs BTM, REC_CFG_ATS needs ATSRECERR: neither is announced.
      if (!smmu_off()) return Effect::none;
      cr2_.words[0] = static_cast<std::uint32_t>(value & smmu::CR2::RECINVSID::mask);
      put(Reg::CR2, cr2_.words[0]);
      return Effect::none;
    }
    case at(Reg::GBPA): return write_gbpa(value);
    case at(Reg::IRQ_CTRL): {
      std::uint64_t mask = smmu::IRQ_CTRL::EVENTQ_IRQEN::mask | smmu::IRQ_CTRL::GERROR_IRQEN::mask;
      if (announced_.idr0.get<smmu::IDR0::PRI>()) mask |= smmu::IRQ_CTRL::PRIQ_IRQEN::mask;
      irq_ctrl_.words[0] = static_cast<std::uint32_t>(value & mask);
      put(Reg::IRQ_CTRL, irq_ctrl_.words[0]);
      put(Reg::IRQ_CTRLACK, irq_ctrl_.words[0]);  // interrupts are raised under the same lock: nothing is under way
      return Effect::none;
    }
    case at(Reg::GERRORN): {
      using smmu::GERROR;
      // Errors of features that are not announced are RES0 here and in GERROR.
      constexpr std::uint64_t kMask = GERROR::CMDQ_ERR::mask | GERROR::EVENTQ_ABT_ERR::mask | GERROR::SFM_ERR::mask;
      gerrorn_.words[0] = static_cast<std::uint32_t>(value & kMask);
      put(Reg::GERRORN, gerrorn_.words[0]);
      return Effect::gerrorn;
    }
    case at(Reg::STRTAB_BASE_CFG): {
      if (!smmu_off()) return Effect::none;
      std::uint64_t mask = smmu::STRTAB_BASE_CFG::LOG2SIZE::mask;
      if (announced_.idr0.get<smmu::IDR0::ST_LEVEL>() != smmu::StLevel::linear)
        mask |= smmu::STRTAB_BASE_CFG::FMT::mask | smmu::STRTAB_BASE_CFG::SPLIT::mask;
      strtab_base_cfg_.words[0] = static_cast<std::uint32_t>(value & mask);
      put(Reg::STRTAB_BASE_CFG, strtab_base_cfg_.words[0]);
      return Effect::none;
    }
    case at(Reg::CMDQ_PROD): return Effect::cmdq_prod;  // the queue's owner publishes it
    case at(Reg::CMDQ_CONS): {
      if (!cmdq_off()) return Effect::none;
      const Ring ring = Ring::make(0, cmdq_base_.get<smmu::CMDQ_BASE::LOG2SIZE>(), announced_.cmdq_log2(), 4);
      cmdq_cons_.set<smmu::CMDQ_CONS::RD>(ring.normal(value & smmu::CMDQ_CONS::RD::mask));  // ERR is the SMMU's
      put(Reg::CMDQ_CONS, cmdq_cons_.words[0]);
      return Effect::none;
    }
    case at(Reg::EVENTQ_PROD): {
      if (!eventq_off()) return Effect::none;
      eventq_prod_.words[0] = static_cast<std::uint32_t>(value & settable<smmu::EVENTQ_PROD>);
      put(Reg::EVENTQ_PROD, eventq_prod_.words[0]);
      return Effect::none;
    }
    case at(Reg::EVENTQ_CONS): {
      eventq_cons_.words[0] = static_cast<std::uint32_t>(value & settable<smmu::EVENTQ_CONS>);
      put(Reg::EVENTQ_CONS, eventq_cons_.words[0]);
      return Effect::none;
    }
    default: break;
  }
  switch (offset - half) {
    case at(Reg::STRTAB_BASE): {
      using R = smmu::STRTAB_BASE;
      if (smmu_off())
        set_half(strtab_base_, Reg::STRTAB_BASE, half, value, R::RA::mask | (R::ADDR::mask & address_mask_));
      return Effect::none;
    }
    case at(Reg::CMDQ_BASE): {
      using R = smmu::CMDQ_BASE;
      if (cmdq_off())
        set_half(cmdq_base_, Reg::CMDQ_BASE, half, value,
                 R::RA::mask | R::LOG2SIZE::mask | (R::ADDR::mask & address_mask_));
      return Effect::none;
    }
    case at(Reg::EVENTQ_BASE): {
      using R = smmu::EVENTQ_BASE;
      if (eventq_off())
        set_half(eventq_base_, Reg::EVENTQ_BASE, half, value,
                 R::WA::mask | R::LOG2SIZE::mask | (R::ADDR::mask & address_mask_));
      return Effect::none;
    }
    default: return Effect::none;  // RO, of a feature that is not announced (MSI, PRI, ATOS, MPAM, DPT), or undefined
  }
}

std::uint64_t RegisterFile::read(std::uint32_t offset, unsigned size) const {
  if (size == 0 || size > 8 || offset % size != 0 || offset >= smmu::kWindowSize) return 0;
  if (offset % smmu::kPage1 >= kPageSize) return 0;
  const auto& page = offset >= smmu::kPage1 ? pages_.page1 : pages_.page0;
  const auto word = [&](std::uint32_t o) -> std::uint64_t {
    return std::atomic_ref{page[(o % smmu::kPage1) / 4]}.load(std::memory_order_relaxed);
  };
  if (size == 8) return word(offset) | word(offset + 4) << 32;
  return word(offset & ~3u) >> (offset % 4 * 8) & bit_mask(size * 8 - 1, 0);
}

void RegisterFile::acknowledge_cr0() {
  cr0ack_ = cr0_;
  put(Reg::CR0ACK, cr0ack_.words[0]);
}

void RegisterFile::acknowledge_gbpa() {
  gbpa_.set<smmu::GBPA::Update>(false);
  put(Reg::GBPA, gbpa_.words[0]);
}

void RegisterFile::publish_cmdq_prod(std::uint32_t wr) { put(Reg::CMDQ_PROD, wr); }

void RegisterFile::publish_cmdq_cons(std::uint32_t rd) {
  cmdq_cons_.set<smmu::CMDQ_CONS::RD>(rd);
  put(Reg::CMDQ_CONS, cmdq_cons_.words[0]);
}

void RegisterFile::publish_cmdq_error(std::uint32_t rd, smmu::CmdqError error) {
  cmdq_cons_.set<smmu::CMDQ_CONS::ERR>(error);
  publish_cmdq_cons(rd);
}

void RegisterFile::publish_eventq_prod(smmu::EVENTQ_PROD prod) {
  eventq_prod_ = prod;
  put(Reg::EVENTQ_PROD, prod.words[0]);
}

}  // namespace weir::vsmmu
