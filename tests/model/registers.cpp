#include "tests/model/registers.hpp"

namespace weir::model {

using namespace smmu;

namespace {

constexpr std::uint32_t offset_of(Reg reg) { return static_cast<std::uint32_t>(reg); }

template <typename R>
constexpr std::uint64_t written(std::size_t word = 0) {
  return ~R::Layout::res0[word];
}

}  // namespace

Registers::Registers(const Parameters& parameters) : parameters_{parameters} {
  // Reset values that the architecture leaves open: bypass, nothing set.
  if (!parameters.mimics_qemu) return;
  gbpa.set<GBPA::SHCFG>(ShareabilityConfig::use_incoming);
  controls.gbpa = gbpa;
  commands.trusting = true;
}

std::uint32_t Registers::cr0_mask() const {
  return static_cast<std::uint32_t>(CR0::SMMUEN::mask | CR0::EVENTQEN::mask | CR0::CMDQEN::mask |
                                    (parameters_.ats ? CR0::ATSCHK::mask : 0) |
                                    (parameters_.ats && parameters_.pri ? CR0::PRIQEN::mask : 0));
}

std::uint64_t Registers::read(std::uint32_t offset, unsigned size) {
  if (parameters_.mimics_qemu) return read_qemu(offset, size);
  if ((size != 4 && size != 8) || offset % size != 0 || offset + size > kWindowSize) return refuse(), 0;
  if (size == 4) return read32(offset);
  const RegInfo* const info = find_reg(offset);
  if (info == nullptr) return 0;
  if (info->bits != 64) return refuse(), 0;  // 6.2: two adjacent registers
  return read32(offset) | (std::uint64_t{read32(offset + 4)} << 32);
}

void Registers::write(std::uint32_t offset, unsigned size, std::uint64_t value) {
  if (parameters_.mimics_qemu) return write_qemu(offset, size, value);
  if ((size != 4 && size != 8) || offset % size != 0 || offset + size > kWindowSize) return refuse();
  if (size == 4) return write32(offset, static_cast<std::uint32_t>(value));
  const RegInfo* const info = find_reg(offset);
  if (info == nullptr || info->bits != 64) return refuse();
  const auto before = misuses;
  write32(offset, static_cast<std::uint32_t>(value));
  write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  misuses = misuses > before ? before + 1 : before;  // one store
}

std::uint32_t Registers::read32(std::uint32_t offset) {
  const auto half = [&](const auto& reg) { return static_cast<std::uint32_t>(reg.words[0] >> (offset % 8 * 8)); };
  const auto word = [](const auto& reg) { return static_cast<std::uint32_t>(reg.words[0]); };
  const bool pri = parameters_.ats && parameters_.pri;
  const RegInfo* const info = find_reg(offset);
  if (info == nullptr) return 0;
  switch (info->reg) {
    case Reg::IDR0: return word(parameters_.idr0());
    case Reg::IDR1: return word(parameters_.idr1());
    case Reg::IDR3: return word(parameters_.idr3());
    case Reg::IDR5: return word(parameters_.idr5());
    case Reg::AIDR: return AIDR{}.set<AIDR::ArchMinorRev>(parameters_.minor_revision).words[0];
    case Reg::CR0: return word(cr0);
    case Reg::CR0ACK: return word(cr0ack);
    case Reg::CR1: return word(controls.cr1);
    case Reg::CR2: return word(controls.cr2);
    case Reg::GBPA: return word(gbpa);
    case Reg::IRQ_CTRL: return word(irq_ctrl);
    case Reg::IRQ_CTRLACK: return word(irq_ctrlack);
    case Reg::GERROR: return word(gerror);
    case Reg::GERRORN: return word(gerrorn);
    case Reg::GERROR_IRQ_CFG0: return half(gerror_msi.address);
    case Reg::GERROR_IRQ_CFG1: return word(gerror_msi.data);
    case Reg::GERROR_IRQ_CFG2: return word(gerror_msi.attributes);
    case Reg::STRTAB_BASE: return half(controls.strtab_base);
    case Reg::STRTAB_BASE_CFG: return word(controls.strtab_base_cfg);
    case Reg::CMDQ_BASE: return half(cmdq_base_);
    case Reg::CMDQ_PROD: return commands.ring.masked(commands.prod);
    case Reg::CMDQ_CONS:
      return CMDQ_CONS{}
          .set<CMDQ_CONS::RD>(commands.ring.masked(commands.shown))
          .set<CMDQ_CONS::ERR>(commands.error)
          .words[0];
    case Reg::EVENTQ_BASE: return half(eventq_base_);
    case Reg::EVENTQ_IRQ_CFG0: return half(eventq_msi.address);
    case Reg::EVENTQ_IRQ_CFG1: return word(eventq_msi.data);
    case Reg::EVENTQ_IRQ_CFG2: return word(eventq_msi.attributes);
    case Reg::EVENTQ_PROD: return word(events.prod);
    case Reg::EVENTQ_CONS: return word(events.cons);
    case Reg::PRIQ_BASE: return pri ? half(priq_base_) : 0;
    case Reg::PRIQ_IRQ_CFG0: return pri ? half(priq_msi.address) : 0;
    case Reg::PRIQ_IRQ_CFG1: return pri ? word(priq_msi.data) : 0;
    case Reg::PRIQ_IRQ_CFG2: return pri ? word(priq_msi.attributes) : 0;
    case Reg::PRIQ_PROD: return pri ? word(requests.prod) : 0;
    case Reg::PRIQ_CONS: return pri ? word(requests.cons) : 0;
    // A component of the class that they all have.
    case Reg::CIDR0: return 0x0d;
    case Reg::CIDR1: return 0xf0;
    case Reg::CIDR2: return 0x05;
    case Reg::CIDR3: return 0xb1;
    default: return 0;  // features that this model has not; PIDRn, IIDR
  }
}

template <typename R>
void Registers::store(R& reg, std::uint32_t value, bool allowed) {
  if (!allowed) return refuse();
  reg.words[0] = static_cast<typename R::Word>(value & written<R>());
}

template <typename R>
void Registers::store_half(R& reg, bool high, std::uint32_t value, bool allowed, std::uint64_t res0) {
  if (!allowed) return refuse();
  const std::uint64_t mask = (high ? 0xffff'ffff'0000'0000 : 0xffff'ffff) & written<R>() & ~res0;
  const std::uint64_t bits = high ? std::uint64_t{value} << 32 : value;
  reg.words[0] = (reg.words[0] & ~mask) | (bits & mask);
}

bool Registers::store_msi(std::uint32_t offset, Reg first, MsiConfig& config, bool enabled, std::uint32_t value) {
  const std::uint32_t at = offset - offset_of(first);
  if (offset < offset_of(first) || at >= 16) return false;
  const bool lo_only = !parameters_.msi;  // 6.3.1: the MSI fields are RES0 then, LO is not
  if (enabled) {
    refuse();
  } else if (at < 8) {
    if (!lo_only) store_half(config.address, at == 4, value, true, ~bit_mask(parameters_.oas_bits() - 1, 0));
  } else if (at == 8) {
    if (!lo_only) store(config.data, value, true);
  } else {
    std::uint64_t mask = lo_only ? 0 : IRQ_CFG2::SH::mask | IRQ_CFG2::MemAttr::mask;
    if (first == Reg::PRIQ_IRQ_CFG0) mask |= PRIQ_IRQ_CFG2::LO::mask;
    config.attributes.words[0] = static_cast<std::uint32_t>(value & mask);
  }
  return true;
}

// 7.1, 6.3.27: PROD moves forward by what fits; while an error is active, backward as far as CONS, too.
void Registers::store_command_prod(std::uint32_t value) {
  const std::uint32_t to = static_cast<std::uint32_t>(value & CMDQ_PROD::WR::mask);
  if (guards<CR0::CMDQEN>()) {
    const Ring& ring = commands.ring;
    const std::uint32_t used = ring.used(to, commands.cons);
    // Software's view of what is free is `shown`, so that what fits there fits here.
    if (used > ring.entries()) return refuse();
    if (used < commands.used() && !active<GERROR::CMDQ_ERR>()) return refuse();
  }
  commands.prod = to;
}

void Registers::write32(std::uint32_t offset, std::uint32_t value) {
  const RegInfo* const info = find_reg(offset);
  if (info == nullptr) return refuse();
  const bool pri = parameters_.ats && parameters_.pri;
  const bool high = offset % 8 == 4;  // of a 64-bit register
  const std::uint64_t beyond_oas = ~bit_mask(parameters_.oas_bits() - 1, 0) & bit_mask(55, 0);
  const auto irq_on = [&]<typename Bit>(Bit) { return irq_ctrl.get<Bit>() || irq_ctrlack.get<Bit>(); };
  if (store_msi(offset, Reg::GERROR_IRQ_CFG0, gerror_msi, irq_on(IRQ_CTRL::GERROR_IRQEN{}), value)) return;
  if (store_msi(offset, Reg::EVENTQ_IRQ_CFG0, eventq_msi, irq_on(IRQ_CTRL::EVENTQ_IRQEN{}), value)) return;
  if (pri && store_msi(offset, Reg::PRIQ_IRQ_CFG0, priq_msi, irq_on(IRQ_CTRL::PRIQ_IRQEN{}), value)) return;
  switch (info->reg) {
    case Reg::CR0: {
      // 6.3.9: a bit is not to be changed before its last change is acknowledged; here the first one stands.
      const std::uint32_t moving = cr0.words[0] ^ cr0ack.words[0];
      const std::uint32_t next = value & cr0_mask();
      misuses += ((next ^ cr0.words[0]) & moving) != 0 || next != value ? 1 : 0;
      cr0.words[0] = (next & ~moving) | (cr0.words[0] & moving);
      break;
    }
    case Reg::CR1: {
      constexpr std::uint64_t kTables = CR1::TABLE_SH::mask | CR1::TABLE_OC::mask | CR1::TABLE_IC::mask;
      constexpr std::uint64_t kQueues = CR1::QUEUE_SH::mask | CR1::QUEUE_OC::mask | CR1::QUEUE_IC::mask;
      std::uint64_t mask = kTables | kQueues;
      if (guards<CR0::SMMUEN>()) mask &= ~kTables;
      if (guards<CR0::EVENTQEN>() || guards<CR0::PRIQEN>() || guards<CR0::CMDQEN>()) mask &= ~kQueues;
      misuses += ((value ^ controls.cr1.words[0]) & ~mask) != 0 ? 1 : 0;
      controls.cr1.words[0] = static_cast<std::uint32_t>((value & mask) | (controls.cr1.words[0] & ~mask));
      break;
    }
    case Reg::CR2: {
      std::uint64_t mask = CR2::PTM::mask | CR2::RECINVSID::mask;
      if (parameters_.hyp) mask |= CR2::E2H::mask;
      if (parameters_.ats && parameters_.atsrecerr) mask |= CR2::REC_CFG_ATS::mask;
      if (guards<CR0::SMMUEN>()) return refuse();
      misuses += (value & ~mask) != 0 ? 1 : 0;
      controls.cr2.words[0] = static_cast<std::uint32_t>(value & mask);
      break;
    }
    case Reg::GBPA: {
      GBPA next;
      next.words[0] = static_cast<std::uint32_t>(value & written<GBPA>());
      // 6.3.14.1
      if (!next.get<GBPA::Update>() || gbpa.get<GBPA::Update>()) return refuse();
      gbpa = next;
      break;
    }
    case Reg::IRQ_CTRL: {
      std::uint64_t mask = IRQ_CTRL::EVENTQ_IRQEN::mask | IRQ_CTRL::GERROR_IRQEN::mask;
      if (pri) mask |= IRQ_CTRL::PRIQ_IRQEN::mask;
      const std::uint32_t moving = irq_ctrl.words[0] ^ irq_ctrlack.words[0];
      const auto next = static_cast<std::uint32_t>(value & mask);
      misuses += ((next ^ irq_ctrl.words[0]) & moving) != 0 || next != value ? 1 : 0;
      irq_ctrl.words[0] = (next & ~moving) | (irq_ctrl.words[0] & moving);
      break;
    }
    case Reg::GERRORN: {
      // 6.3.20: the flags of inactive errors are not to be toggled; here they stay.
      const std::uint32_t activated = gerror.words[0] ^ gerrorn.words[0];
      const std::uint32_t toggled = value ^ gerrorn.words[0];
      misuses += (toggled & ~activated) != 0 ? 1 : 0;
      gerrorn.words[0] ^= toggled & activated;
      break;
    }
    case Reg::STRTAB_BASE: store_half(controls.strtab_base, high, value, !guards<CR0::SMMUEN>(), beyond_oas); break;
    case Reg::STRTAB_BASE_CFG: store(controls.strtab_base_cfg, value, !guards<CR0::SMMUEN>()); break;
    case Reg::CMDQ_BASE:
      store_half(cmdq_base_, high, value, !guards<CR0::CMDQEN>(), beyond_oas);
      commands.ring.set(cmdq_base_, parameters_.cmdqs, sizeof(Command));
      break;
    case Reg::CMDQ_PROD: store_command_prod(value); break;
    case Reg::CMDQ_CONS:
      if (guards<CR0::CMDQEN>()) return refuse();
      commands.cons = commands.shown = static_cast<std::uint32_t>(value & CMDQ_CONS::RD::mask);
      break;
    case Reg::EVENTQ_BASE:
      store_half(eventq_base_, high, value, !guards<CR0::EVENTQEN>(), beyond_oas);
      events.ring.set(eventq_base_, parameters_.eventqs, sizeof(Event));
      break;
    case Reg::EVENTQ_PROD: store(events.prod, value, !guards<CR0::EVENTQEN>()); break;
    case Reg::EVENTQ_CONS: store(events.cons, value, true); break;
    case Reg::PRIQ_BASE:
      if (!pri) return refuse();
      store_half(priq_base_, high, value, !guards<CR0::PRIQEN>(), beyond_oas);
      requests.ring.set(priq_base_, parameters_.priqs, sizeof(PriEntry));
      break;
    case Reg::PRIQ_PROD: store(requests.prod, value, pri && !guards<CR0::PRIQEN>()); break;
    case Reg::PRIQ_CONS: store(requests.cons, value, pri); break;
    default: refuse();  // read-only, or of features that this model has not
  }
}

}  // namespace weir::model
