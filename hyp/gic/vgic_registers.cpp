// GICD and GICR as a guest sees them (Arm IHI 0069, 12.9 and 12.11).
#include "hyp/gic/vgic.hpp"

#include "hyp/vm/vcpu.hpp"

namespace weir {

using gic::Gicd;
using gic::GicdCtlr;
using gic::GicdIrouter;
using gic::GicdTyper;
using gic::Gicr;
using gic::GicrTyper;
using gic::GicrWaker;
using gic::kFirstSpi;

namespace {

constexpr std::uint32_t kArrayBytes = 0x80;  // of an array with a bit for each of 1024 INTIDs
constexpr std::uint32_t kIdRegisters = 0xffd0;

constexpr std::uint32_t offset_of(Gicd reg) { return static_cast<std::uint32_t>(reg); }

std::uint32_t iidr() {
  // No JEP106 code is Weir's: 0. The product says who it is.
  return gic::Iidr{}.set<gic::Iidr::ProductID>('W').words[0];
}

// PIDR4..7, PIDR0..3, CIDR0..3.
std::uint32_t id_register(std::uint32_t offset) {
  if (offset == offset_of(Gicd::PIDR2)) return gic::Pidr2{}.set<gic::Pidr2::ArchRev>(3).words[0];
  constexpr std::array<std::uint8_t, 4> kCidr{0x0d, 0xf0, 0x05, 0xb1};  // CoreLink, as CoreSight prescribes
  if (offset >= offset_of(Gicd::CIDR0)) return kCidr[(offset - offset_of(Gicd::CIDR0)) / 4 % 4];
  return 0;
}

// The part of a 64-bit register that an access of `size` bytes at `offset` sees.
std::uint64_t part(std::uint64_t value, std::uint64_t offset, unsigned size) {
  if (size == 8) return value;
  return static_cast<std::uint32_t>(offset % 8 == 4 ? value >> 32 : value);
}

bool is_irouter(std::uint64_t offset) {
  return offset >= offset_of(Gicd::IROUTER) + 8 * kFirstSpi && offset < offset_of(Gicd::IROUTER) + 8 * kVgicIntids;
}

}  // namespace

// ---- Arrays with a field for each INTID: the same in GICD and GICR

void VGic::write_bit(VIrq& irq, std::uint32_t intid, Bit kind, bool value) {
  const PhysicalInterrupt hw = physical_of(irq);
  switch (kind) {
    case Bit::group:
      if (irq.group1 == value) return;
      irq.group1 = value;
      break;
    case Bit::set_enable:
      if (!value || irq.enabled) return;
      irq.enabled = true;
      // A PPI of a vCPU that is off is enabled when it comes on.
      if (irq.forwarded && (intid >= kFirstSpi || cpus_[irq.home].online_)) port_.set_enabled(hw, true);
      break;
    case Bit::clear_enable:
      if (!value || !irq.enabled) return;
      irq.enabled = false;
      if (irq.forwarded) port_.set_enabled(hw, false);
      if (irq.resident()) cpus_[irq.owner].retracting_ = true;
      break;
    case Bit::set_pending:
      if (!value) return;
      if (irq.forwarded)
        port_.set_pending(hw, true);
      else
        raise(irq, intid);
      return;
    case Bit::clear_pending:
      if (!value) return;
      if (irq.forwarded) port_.set_pending(hw, false);
      irq.clear_pending = true;
      if (!irq.resident()) settle(irq);
      break;
    case Bit::set_active:
      if (!value) return;
      if (irq.forwarded) port_.set_active(hw, true);
      irq.set_active = true;
      irq.clear_active = false;
      if (!irq.resident()) settle(irq);
      break;
    case Bit::clear_active:
      if (!value) return;
      irq.clear_active = true;
      irq.set_active = false;
      if (!irq.resident()) settle(irq);
      break;
  }
  touch(irq, intid);
}

void VGic::write_bits(const Bank& bank, Bit kind, std::uint32_t first, std::uint32_t value) {
  if (first < bank.first || first >= bank.end) return;
  const SpinLock::Guard guard{lock_};
  for (std::uint32_t i = 0; i < 32; ++i) write_bit(*find(bank.cpu, first + i), first + i, kind, (value >> i & 1) != 0);
}

std::uint32_t VGic::read_bits(VGicCpu& self, const Bank& bank, Bit kind, std::uint32_t first) {
  if (first < bank.first || first >= bank.end) return 0;
  const bool pending = kind == Bit::set_pending || kind == Bit::clear_pending;
  const bool active = kind == Bit::set_active || kind == Bit::clear_active;
  if (pending || active) synchronise(self, bank, first);
  const SpinLock::Guard guard{lock_};
  std::uint32_t value = 0;
  for (std::uint32_t i = 0; i < 32; ++i) {
    const VIrq& irq = *find(bank.cpu, first + i);
    bool set = false;
    if (pending)
      set = irq.pending() || irq.lr_pending || (irq.forwarded && port_.is_pending(physical_of(irq)));
    else if (active)
      set = irq.active;
    else
      set = kind == Bit::group ? irq.group1 : irq.enabled;
    value |= std::uint32_t{set} << i;
  }
  return value;
}

void VGic::write_trigger(VIrq& irq, std::uint32_t intid, bool edge) {
  if (irq.level == !edge) return;
  irq.level = !edge;
  if (irq.forwarded) port_.set_edge(physical_of(irq), edge);
  touch(irq, intid);
}

namespace {

// Which array an offset lies in; `first` is the INTID that its word (or byte) begins with.
enum class Array : std::uint8_t { none, bits, priority, trigger };
struct ArrayPlace {
  Array array{Array::none};
  unsigned kind{};  // bits: number of the array, from IGROUPR on
  std::uint32_t first{};
};
ArrayPlace locate(std::uint32_t offset, unsigned size) {
  if (size == 4 && offset >= offset_of(Gicd::IGROUPR) && offset < offset_of(Gicd::IPRIORITYR)) {
    const std::uint32_t at = offset - offset_of(Gicd::IGROUPR);
    return {Array::bits, at / kArrayBytes, at % kArrayBytes * 8};
  }
  if ((size == 4 || size == 1) && offset >= offset_of(Gicd::IPRIORITYR) && offset < offset_of(Gicd::ITARGETSR))
    return {Array::priority, 0, offset - offset_of(Gicd::IPRIORITYR)};
  if (size == 4 && offset >= offset_of(Gicd::ICFGR) && offset < offset_of(Gicd::IGRPMODR))
    return {Array::trigger, 0, (offset - offset_of(Gicd::ICFGR)) * 4};
  return {};
}

}  // namespace

std::uint32_t VGic::read_array(VGicCpu& self, const Bank& bank, std::uint32_t offset, unsigned size) {
  const ArrayPlace at = locate(offset, size);
  if (at.array == Array::none || at.first < bank.first || at.first >= bank.end) return 0;
  if (at.array == Array::bits) return read_bits(self, bank, static_cast<Bit>(at.kind), at.first);
  const SpinLock::Guard guard{lock_};
  std::uint32_t value = 0;
  if (at.array == Array::priority) {
    for (unsigned i = 0; i < size; ++i)
      value |= static_cast<std::uint32_t>(find(bank.cpu, at.first + i)->priority) << (8 * i);
  } else {
    for (unsigned i = 0; i < 16; ++i) value |= (find(bank.cpu, at.first + i)->level ? 0U : 2U) << (2 * i);
  }
  return value;
}

void VGic::write_array(const Bank& bank, std::uint32_t offset, unsigned size, std::uint32_t value) {
  const ArrayPlace at = locate(offset, size);
  if (at.array == Array::none || at.first < bank.first || at.first >= bank.end) return;
  if (at.array == Array::bits) {
    write_bits(bank, static_cast<Bit>(at.kind), at.first, value);
    return;
  }
  const SpinLock::Guard guard{lock_};
  if (at.array == Array::priority) {
    const auto mask = static_cast<std::uint8_t>(0xff00U >> limits_.priority_bits);
    for (unsigned i = 0; i < size; ++i) {
      VIrq& irq = *find(bank.cpu, at.first + i);
      const auto priority = static_cast<std::uint8_t>((value >> (8 * i)) & mask);
      if (irq.priority == priority) continue;
      irq.priority = priority;
      touch(irq, at.first + i);
    }
  } else if (bank.cpu == nullptr) {  // SGIs are edges, PPIs are what the hardware says: levels
    for (unsigned i = 0; i < 16; ++i)
      write_trigger(*find(nullptr, at.first + i), at.first + i, (value >> (2 * i + 1) & 1) != 0);
  }
}

// ---- Distributor

void VGic::write_ctlr(std::uint32_t value) {
  GicdCtlr written;
  written.words[0] = value;
  const SpinLock::Guard guard{lock_};
  const bool group0 = written.get<GicdCtlr::EnableGrp0>();
  const bool group1 = written.get<GicdCtlr::EnableGrp1>();
  if (group0 == ctlr_.get<GicdCtlr::EnableGrp0>() && group1 == ctlr_.get<GicdCtlr::EnableGrp1>()) return;
  ctlr_.set<GicdCtlr::EnableGrp0>(group0).set<GicdCtlr::EnableGrp1>(group1);
  for (unsigned v = 0; v < limits_.vcpus; ++v) cpus_[v].retracting_ = cpus_[v].used_ != 0;
  touch_all();
}

void VGic::write_router(std::uint32_t intid, std::uint64_t value, std::uint64_t mask) {
  const SpinLock::Guard guard{lock_};
  VIrq& irq = spis_[intid - kFirstSpi];
  GicdIrouter router;
  router.words[0] = (irq.router & ~mask) | (value & mask);
  router.words[0] &= GicdIrouter::Layout::guest[0];
  if (router.words[0] == irq.router) return;
  irq.router = router.words[0];
  gic::Affinity affinity;  // of the same layout
  affinity.words[0] = irq.router;
  irq.home = vcpu_of(affinity);
  touch(irq, intid);
  if (irq.forwarded) port_.route(physical_of(irq));
}

std::uint32_t VGic::read_gicd_word(VGicCpu& self, std::uint32_t offset) {
  switch (static_cast<Gicd>(offset)) {
    case Gicd::CTLR: {
      const SpinLock::Guard guard{lock_};
      GicdCtlr value = ctlr_;
      value.set<GicdCtlr::ARE>(true).set<GicdCtlr::DS>(true);
      for (unsigned v = 0; v < limits_.vcpus; ++v)
        if (cpus_[v].retracting_ && &cpus_[v] != &self) value.set<GicdCtlr::RWP>(true);
      return value.words[0];
    }
    case Gicd::TYPER:
      return GicdTyper{}
          .set<GicdTyper::ITLinesNumber>(kVgicIntids / 32 - 1)
          .set<GicdTyper::MBIS>(true)
          .set<GicdTyper::IDbits>(9)
          .set<GicdTyper::A3V>(true)
          .set<GicdTyper::No1N>(true)
          .words[0];
    case Gicd::IIDR: return iidr();
    default: return offset >= kIdRegisters ? id_register(offset) : 0;
  }
}

std::uint64_t VGic::read_gicd(unsigned vcpu, std::uint64_t offset, unsigned size) {
  if (offset >= gic::kGicdBytes || (size != 1 && size != 4 && size != 8) || offset % size != 0) return 0;
  if (is_irouter(offset) && size >= 4) {
    const SpinLock::Guard guard{lock_};
    return part(spis_[(offset - offset_of(Gicd::IROUTER)) / 8 - kFirstSpi].router, offset, size);
  }
  const auto at = static_cast<std::uint32_t>(offset);
  VGicCpu& self = cpus_[vcpu];
  if (locate(at, size).array != Array::none) return read_array(self, {nullptr, kFirstSpi, kVgicIntids}, at, size);
  return size == 4 ? read_gicd_word(self, at) : 0;
}

void VGic::write_gicd(unsigned, std::uint64_t offset, unsigned size, std::uint64_t value) {
  if (const bool set = offset == offset_of(Gicd::SETSPI_NSR); set || offset == offset_of(Gicd::CLRSPI_NSR)) {
    if (size == 2 || size == 4) message(gic::GicdMessage::INTID::decode(value), set);
    return;
  }
  if (offset >= gic::kGicdBytes || (size != 1 && size != 4 && size != 8) || offset % size != 0) return;
  if (is_irouter(offset) && size >= 4) {
    const auto intid = static_cast<std::uint32_t>((offset - offset_of(Gicd::IROUTER)) / 8);
    const unsigned shift = offset % 8 == 4 ? 32 : 0;
    write_router(intid, value << shift, size == 8 ? ~std::uint64_t{0} : std::uint64_t{0xffff'ffff} << shift);
    return;
  }
  const auto at = static_cast<std::uint32_t>(offset);
  if (size == 4 && static_cast<Gicd>(at) == Gicd::CTLR)
    write_ctlr(static_cast<std::uint32_t>(value));
  else
    write_array({nullptr, kFirstSpi, kVgicIntids}, at, size, static_cast<std::uint32_t>(value));
}

// ---- Redistributors

std::uint64_t VGic::read_rd(VGicCpu& of, std::uint32_t offset, unsigned size) {
  if ((offset & ~7U) == static_cast<std::uint32_t>(Gicr::TYPER) && size >= 4) {
    using gic::Affinity;
    const GicrTyper typer = GicrTyper{}
                                .set<GicrTyper::Last>(of.index_ + 1U == limits_.vcpus)
                                .set<GicrTyper::ProcessorNumber>(of.index_)
                                .set<GicrTyper::Aff0>(of.affinity_.get<Affinity::Aff0>())
                                .set<GicrTyper::Aff1>(of.affinity_.get<Affinity::Aff1>())
                                .set<GicrTyper::Aff2>(of.affinity_.get<Affinity::Aff2>())
                                .set<GicrTyper::Aff3>(of.affinity_.get<Affinity::Aff3>());
    return part(typer.words[0], offset, size);
  }
  if (size != 4) return 0;
  const SpinLock::Guard guard{lock_};
  switch (static_cast<Gicr>(offset)) {
    case Gicr::CTLR: return gic::GicrCtlr{}.set<gic::GicrCtlr::RWP>(of.retracting_).words[0];
    case Gicr::IIDR: return iidr();
    case Gicr::WAKER: return of.waker_.words[0];
    default: return offset >= kIdRegisters ? id_register(offset) : 0;
  }
}

std::uint64_t VGic::read_gicr(unsigned vcpu, std::uint64_t offset, unsigned size) {
  const std::uint64_t index = offset / gic::kGicrBytes;
  if (index >= limits_.vcpus || (size != 1 && size != 4 && size != 8) || offset % size != 0) return 0;
  VGicCpu& of = cpus_[index];
  const auto at = static_cast<std::uint32_t>(offset % gic::kGicrFrame);
  if (offset % gic::kGicrBytes < gic::kGicrFrame) return read_rd(of, at, size);
  return read_array(cpus_[vcpu], {&of, 0, kFirstSpi}, at, size);
}

void VGic::write_gicr(unsigned, std::uint64_t offset, unsigned size, std::uint64_t value) {
  const std::uint64_t index = offset / gic::kGicrBytes;
  if (index >= limits_.vcpus || (size != 1 && size != 4 && size != 8) || offset % size != 0) return;
  VGicCpu& of = cpus_[index];
  const auto at = static_cast<std::uint32_t>(offset % gic::kGicrFrame);
  if (offset % gic::kGicrBytes >= gic::kGicrFrame) {
    write_array({&of, 0, kFirstSpi}, at, size, static_cast<std::uint32_t>(value));
  } else if (static_cast<Gicr>(at) == Gicr::WAKER && size == 4) {
    // Sleep and wake are at once, and only noted: an interrupt wakes a sleeping CPU anyway.
    GicrWaker written;
    written.words[0] = static_cast<std::uint32_t>(value);
    const bool sleep = written.get<GicrWaker::ProcessorSleep>();
    const SpinLock::Guard guard{lock_};
    of.waker_.set<GicrWaker::ProcessorSleep>(sleep).set<GicrWaker::ChildrenAsleep>(sleep);
  }
}

// ---- On the bus

MmioResult VGicDistributor::read(Vcpu& vcpu, MmioAccess access, std::uint64_t& value) {
  value = vgic_.read_gicd(vcpu.index(), access.offset, access.size);
  return MmioResult::done;
}
MmioResult VGicDistributor::write(Vcpu& vcpu, MmioAccess access, std::uint64_t value) {
  vgic_.write_gicd(vcpu.index(), access.offset, access.size, value);
  return MmioResult::done;
}
MmioResult VGicRedistributors::read(Vcpu& vcpu, MmioAccess access, std::uint64_t& value) {
  value = vgic_.read_gicr(vcpu.index(), access.offset, access.size);
  return MmioResult::done;
}
MmioResult VGicRedistributors::write(Vcpu& vcpu, MmioAccess access, std::uint64_t value) {
  vgic_.write_gicr(vcpu.index(), access.offset, access.size, value);
  return MmioResult::done;
}

}  // namespace weir
