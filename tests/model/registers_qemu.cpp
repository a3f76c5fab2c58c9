// The register file of QEMU 11.1's SMMUv3, as it was seen to behave: nothing is guarded, reserved bits are kept, page 1
// is page 0 once more, and everything takes effect at once.
#include "tests/model/registers.hpp"

namespace weir::model {

using namespace smmu;

namespace {

constexpr std::uint32_t kCr0Acknowledged = 0x5df;
constexpr std::uint32_t kIdentification = 0xfd0;
constexpr std::uint8_t kIdentity[] = {0x04, 0x00, 0x00, 0x00, 0x84, 0xb4, 0xf0, 0x10, 0x0d, 0xf0, 0x05, 0xb1};

constexpr bool wide(std::uint32_t offset) {
  for (const Reg reg : {Reg::GERROR_IRQ_CFG0, Reg::STRTAB_BASE, Reg::CMDQ_BASE, Reg::EVENTQ_BASE})
    if (offset == static_cast<std::uint32_t>(reg)) return true;
  return false;
}
// The register in page 0 or, where only that has it, in page 1.
constexpr const RegInfo* register_at(std::uint32_t offset) {
  if (const RegInfo* const found = find_reg(offset)) return found;
  return find_reg(offset + kPage1);
}

}  // namespace

std::uint64_t Registers::read_qemu(std::uint32_t offset, unsigned size) {
  offset &= ~kPage1;
  if (size == 8) return wide(offset) ? read_qemu(offset, 4) | (read_qemu(offset + 4, 4) << 32) : 0;
  if (size != 4) return 0;
  if (offset >= kIdentification && offset < 0x1000) return kIdentity[(offset - kIdentification) / 4];
  const RegInfo* const info = register_at(offset);
  if (info == nullptr) return 0;
  switch (info->reg) {
    case Reg::CR0ACK: return kept_[Reg::CR0] & kCr0Acknowledged;
    case Reg::IRQ_CTRLACK: return kept_[Reg::IRQ_CTRL];
    case Reg::CR0:
    case Reg::CR1:
    case Reg::CR2:
    case Reg::IRQ_CTRL:
    case Reg::GERRORN:
    case Reg::GERROR_IRQ_CFG1:
    case Reg::GERROR_IRQ_CFG2:
    case Reg::STRTAB_BASE_CFG:
    case Reg::CMDQ_PROD: return kept_[info->reg];
    case Reg::GERROR_IRQ_CFG0: return static_cast<std::uint32_t>(gerror_msi.address.words[0] >> (offset % 8 * 8));
    case Reg::EVENTQ_IRQ_CFG0:
    case Reg::EVENTQ_IRQ_CFG1:
    case Reg::EVENTQ_IRQ_CFG2: return 0;
    default: return read32(offset >= 0xa8 && info->reg > Reg::CIDR3 ? offset + kPage1 : offset);
  }
}

void Registers::write_qemu(std::uint32_t offset, unsigned size, std::uint64_t value64) {
  offset &= ~kPage1;
  if (size == 8) {
    if (!wide(offset)) return;
    write_qemu(offset, 4, value64 & 0xffff'ffff);
    return write_qemu(offset + 4, 4, value64 >> 32);
  }
  const RegInfo* const info = register_at(offset);
  if (size != 4 || info == nullptr) return;
  const auto value = static_cast<std::uint32_t>(value64);
  const bool high = offset % 8 == 4;
  const auto half = [&](auto& reg) {
    const unsigned shift = high ? 32 : 0;
    reg.words[0] = (reg.words[0] & ~(std::uint64_t{0xffff'ffff} << shift)) | (std::uint64_t{value} << shift);
  };
  kept_[info->reg] = value;
  switch (info->reg) {
    case Reg::CR0:
      cr0.words[0] = value & static_cast<std::uint32_t>(CR0::SMMUEN::mask | CR0::EVENTQEN::mask | CR0::CMDQEN::mask);
      break;
    case Reg::CR1: controls.cr1.words[0] = value; break;
    case Reg::CR2: controls.cr2.words[0] = value; break;
    case Reg::IRQ_CTRL:
      irq_ctrl.words[0] =
          value & static_cast<std::uint32_t>(IRQ_CTRL::EVENTQ_IRQEN::mask | IRQ_CTRL::GERROR_IRQEN::mask);
      break;
    case Reg::GERRORN: gerrorn.words[0] = value; break;
    case Reg::GERROR_IRQ_CFG0: half(gerror_msi.address); break;
    case Reg::GBPA:
      if (GBPA::Update::decode(value)) gbpa.words[0] = value;
      break;
    case Reg::STRTAB_BASE: half(controls.strtab_base); break;
    case Reg::STRTAB_BASE_CFG: {
      // Once of two levels, for ever so.
      using Cfg = STRTAB_BASE_CFG;
      const Cfg before = controls.strtab_base_cfg;
      Cfg next;
      next.words[0] = value;
      if (before.get<Cfg::FMT>() == StrtabFmt::two_level && next.get<Cfg::FMT>() != StrtabFmt::two_level)
        next.set<Cfg::FMT>(StrtabFmt::two_level).set<Cfg::SPLIT>(before.get<Cfg::SPLIT>());
      controls.strtab_base_cfg = next;
      break;
    }
    case Reg::CMDQ_BASE:
      half(cmdq_base_);
      commands.ring.set(cmdq_base_, parameters_.cmdqs, sizeof(Command));
      break;
    case Reg::CMDQ_PROD: commands.prod = static_cast<std::uint32_t>(value & CMDQ_PROD::WR::mask); break;
    case Reg::CMDQ_CONS:
      commands.cons = commands.shown = static_cast<std::uint32_t>(value & CMDQ_CONS::RD::mask);
      commands.error = CMDQ_CONS::ERR::decode(value);
      break;
    case Reg::EVENTQ_BASE:
      half(eventq_base_);
      events.ring.set(eventq_base_, parameters_.eventqs, sizeof(Event));
      break;
    case Reg::EVENTQ_PROD: events.prod.words[0] = value; break;
    case Reg::EVENTQ_CONS: events.cons.words[0] = value; break;
    default: break;
  }
}

}  // namespace weir::model
