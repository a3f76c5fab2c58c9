#include "vsmmu/register_file.hpp"

#include <atomic>

#include "vsmmu/ring.hpp"

namespace weir::vsmmu {
namespace {

using smmu::Reg;

constexpr std::uint32_t kPageSize = 0x1000;

constexpr std::uint32_t at(Reg reg) { return static_cast<std::uint32_t>(reg); }

}  // namespace

RegisterFile::RegisterFile(const RegisterPages& pages, const Announced& announced)
    : pages_{pages}, announced_{announced} {
  reset();
}

smmu::GERROR RegisterFile::errors() const {
  smmu::GERROR active;
  active.words[0] = get<smmu::GERROR>(Reg::GERROR).words[0] ^ get<smmu::GERRORN>(Reg::GERRORN).words[0];
  return active;
}

void RegisterFile::set(Reg reg, std::uint64_t value) {
  const std::size_t i = index_of(reg);
  values_[i] = value;
  put(at(reg), static_cast<std::uint32_t>(value));
  if (smmu::kRegs[i].bits == 64) put(at(reg) + 4, static_cast<std::uint32_t>(value >> 32));
}

void RegisterFile::reset() {
  for (std::uint32_t offset = 0; offset < kPageSize; offset += 4) {
    put(offset, 0);
    put(smmu::kPage1 + offset, 0);
  }
  values_ = {};
  set(Reg::IDR0, announced_.idr0.words[0]);
  set(Reg::IDR1, announced_.idr1.words[0]);
  set(Reg::IDR3, announced_.idr3.words[0]);
  set(Reg::IDR5, announced_.idr5.words[0]);
  set(Reg::IIDR, announced_.iidr.words[0]);
  set(Reg::AIDR, announced_.aidr.words[0]);
}

// --- Stores ----------------------------------------------------------------------------------------------------------

bool RegisterFile::announced(Needs needs) const {
  using smmu::IDR0;
  const IDR0& idr0 = announced_.idr0;
  switch (needs) {
    case Needs::nothing: return true;
    case Needs::two_level_stream_table: return idr0.get<IDR0::ST_LEVEL>() != smmu::StLevel::linear;
    case Needs::ats: return idr0.get<IDR0::ATS>();
    case Needs::ats_errors: return idr0.get<IDR0::ATSRECERR>();
    case Needs::pri: return idr0.get<IDR0::PRI>();
    case Needs::msi: return idr0.get<IDR0::MSI>();
    case Needs::msi_and_pri: return idr0.get<IDR0::MSI>() && idr0.get<IDR0::PRI>();
  }
  return false;
}

bool RegisterFile::off(std::uint64_t cr0_mask) const { return ((cr0().words[0] | cr0ack().words[0]) & cr0_mask) == 0; }

bool RegisterFile::open(Guard guard, std::uint64_t value) const {
  using smmu::CR0;
  using smmu::GBPA;
  using smmu::IRQ_CTRL;
  const auto irq_off = [&](std::uint64_t mask) { return ((irq_ctrl().words[0] | irq_ctrlack().words[0]) & mask) == 0; };
  switch (guard) {
    case Guard::none: return true;
    case Guard::smmuen: return off(CR0::SMMUEN::mask);
    case Guard::cmdqen: return off(CR0::CMDQEN::mask);
    case Guard::eventqen: return off(CR0::EVENTQEN::mask);
    case Guard::priqen: return off(CR0::PRIQEN::mask);
    case Guard::queues: return off(CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::PRIQEN::mask);
    case Guard::update: return !gbpa().get<GBPA::Update>() && GBPA::Update::decode(value);
    case Guard::gerror_irqen: return irq_off(IRQ_CTRL::GERROR_IRQEN::mask);
    case Guard::eventq_irqen: return irq_off(IRQ_CTRL::EVENTQ_IRQEN::mask);
    case Guard::priq_irqen: return irq_off(IRQ_CTRL::PRIQ_IRQEN::mask);
  }
  return false;
}

std::uint64_t RegisterFile::extent(const FieldRule& rule) const {
  const auto index = [&](std::uint64_t log2size, unsigned largest) {
    return rule.mask & (2 * std::uint64_t{Ring::make(0, log2size, largest, 0).entries()} - 1);
  };
  switch (rule.extent) {
    case Extent::whole: return rule.mask;
    case Extent::address: return rule.mask & bit_mask(announced_.oas_bits() - 1, 0);
    case Extent::index: break;
  }
  switch (rule.reg) {
    case Reg::CMDQ_CONS: return index(cmdq_base().get<smmu::CMDQ_BASE::LOG2SIZE>(), announced_.cmdq_log2());
    case Reg::EVENTQ_PROD: return index(eventq_base().get<smmu::EVENTQ_BASE::LOG2SIZE>(), announced_.evtq_log2());
    case Reg::PRIQ_PROD: return index(priq_base().get<smmu::PRIQ_BASE::LOG2SIZE>(), announced_.priq_log2());
    default: return 0;
  }
}

void RegisterFile::cut(Reg reg, std::uint64_t field) {
  for (const FieldRule& rule : kFieldRules)
    if (rule.reg == reg && rule.mask == field) {
      const std::uint64_t value = values_[index_of(reg)];
      set(reg, value & ~(field & ~extent(rule)));
    }
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

Effect RegisterFile::write32(std::uint32_t offset, std::uint32_t value) {
  const smmu::RegInfo* info = smmu::find_reg(offset);
  if (info == nullptr) return Effect::none;
  const Reg reg = info->reg;
  if (reg == Reg::CMDQ_PROD) return Effect::cmdq_prod;  // the queue's owner publishes it
  const unsigned shift = (offset - at(reg)) * 8;
  const std::uint64_t stored = std::uint64_t{value} << shift;
  std::uint64_t mask = 0;
  for (const FieldRule& rule : kFieldRules)
    if (rule.reg == reg && announced(rule.needs) && open(rule.guard, stored)) mask |= extent(rule);
  mask &= std::uint64_t{0xffffffff} << shift;
  if (mask == 0) return Effect::none;
  set(reg, (values_[index_of(reg)] & ~mask) | (stored & mask));
  switch (reg) {
    case Reg::CR0: return Effect::cr0;
    case Reg::GBPA: return Effect::gbpa;
    case Reg::IRQ_CTRL: return Effect::irq_ctrl;
    case Reg::GERRORN: return Effect::gerrorn;
    case Reg::EVENTQ_CONS: return Effect::evtq_cons;
    case Reg::PRIQ_CONS: return Effect::priq_cons;
    // A queue that shrinks truncates its indexes (6.3.27, 6.3.28, 6.3.95, 6.3.97).
    case Reg::CMDQ_BASE: cut(Reg::CMDQ_CONS, smmu::CMDQ_CONS::RD::mask); break;
    case Reg::EVENTQ_BASE: cut(Reg::EVENTQ_PROD, smmu::EVENTQ_PROD::WR::mask); break;
    case Reg::PRIQ_BASE: cut(Reg::PRIQ_PROD, smmu::PRIQ_PROD::WR::mask); break;
    default: break;
  }
  return Effect::none;
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

// --- What the owner announces ----------------------------------------------------------------------------------------

void RegisterFile::acknowledge_cr0() { set(Reg::CR0ACK, cr0().words[0]); }

void RegisterFile::acknowledge_gbpa() { set(Reg::GBPA, gbpa().set<smmu::GBPA::Update>(false).words[0]); }

void RegisterFile::publish_irq_ctrlack(smmu::IRQ_CTRLACK ack) { set(Reg::IRQ_CTRLACK, ack.words[0]); }

}  // namespace weir::vsmmu
