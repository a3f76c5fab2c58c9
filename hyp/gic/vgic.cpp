#include "hyp/gic/vgic.hpp"

#include <bit>
#include <tuple>

#include "hyp/vm/vcpu_affinity.hpp"
#include "stage2/support/make.hpp"

namespace weir {

using gic::IchHcr;
using gic::IchLr;
using gic::IchVmcr;
using gic::kFirstSpi;

namespace {

constexpr std::uint32_t kSpiEnd = kVgicIntids;
// How often to look whether another pCPU has answered: far more than an IPI takes, and not for ever.
constexpr unsigned kPatience = 1U << 22;

constexpr std::uint32_t lr_bit(unsigned n) { return std::uint32_t{1} << n; }

template <typename Fn>
void for_each_bit(std::uint32_t bits, Fn&& fn) {
  for (; bits != 0; bits &= bits - 1) fn(static_cast<unsigned>(std::countr_zero(bits)));
}

// ICH_HCR_EL2 while every interrupt has a list register. An SPI is active in the distributor: with EOImode = 1 any CPU may
// deactivate it (IHI 0069, 12.2.6), also one that has it in no list register, and the hardware does not say which one that
// was. So ICC_DIR_EL1 is trapped where a VM has several vCPUs. A guest with EOImode = 0 never writes it.
IchHcr usual_hcr(const VGicLimits& limits) {
  return IchHcr{}.set<IchHcr::En>(true).set<IchHcr::TDIR>(limits.traps_dir && limits.vcpus > 1);
}

}  // namespace

VGic::VGic(const VGicLimits& limits, VGicPort& port) : limits_{limits}, usual_hcr_{usual_hcr(limits)}, port_{port} {}

std::unique_ptr<VGic> VGic::create(const VGicLimits& limits, VGicPort& port) {
  if (limits.vcpus == 0 || limits.vcpus > kVgicMaxVcpus || limits.list_registers == 0 ||
      limits.list_registers > gic::kMaxListRegisters)
    return nullptr;
  std::unique_ptr<VGic> vgic{new (std::nothrow) VGic(limits, port)};
  if (!vgic) return nullptr;
  vgic->cpus_ = make_array<VGicCpu>(limits.vcpus);
  if (!vgic->cpus_) return nullptr;
  for (unsigned v = 0; v < limits.vcpus; ++v) {
    VGicCpu& cpu = vgic->cpus_[v];
    cpu.index_ = static_cast<std::uint16_t>(v);
    cpu.affinity_.words[0] = vcpu_affinity(v);
    cpu.waker_.set<gic::GicrWaker::ProcessorSleep>(true).set<gic::GicrWaker::ChildrenAsleep>(true);
    for (std::uint32_t intid = 0; intid < kFirstSpi; ++intid) {
      VIrq& irq = cpu.irqs_[intid];
      irq.home = irq.owner = cpu.index_;
      irq.level = intid >= gic::kSgis;
    }
  }
  return vgic;
}

VIrq* VGic::find(VGicCpu* cpu, std::uint32_t intid) {
  if (intid >= kSpiEnd) return nullptr;
  if (intid >= kFirstSpi) return &spis_[intid - kFirstSpi];
  return cpu == nullptr ? nullptr : &cpu->irqs_[intid];
}

VIrq& VGic::irq_of(VGicCpu& cpu, std::uint32_t intid) {
  return intid >= kFirstSpi ? spis_[intid - kFirstSpi] : cpu.irqs_[intid];
}

std::uint16_t VGic::vcpu_of(gic::Affinity affinity) const {
  // The inverse of vcpu_affinity().
  const unsigned index = affinity.get<gic::Affinity::Aff1>() * 16 + affinity.get<gic::Affinity::Aff0>();
  if (index >= limits_.vcpus || vcpu_affinity(index) != affinity.words[0]) return VIrq::kNowhere;
  return static_cast<std::uint16_t>(index);
}

bool VGic::deliverable(const VIrq& irq) const {
  const bool group = irq.group1 ? ctlr_.get<gic::GicdCtlr::EnableGrp1>() : ctlr_.get<gic::GicdCtlr::EnableGrp0>();
  return irq.enabled && group && irq.pending();
}

PhysicalInterrupt VGic::physical_of(const VIrq& irq) {
  // An SPI that is routed nowhere stays with the vCPU that had it last.
  return {irq.physical, irq.home == VIrq::kNowhere ? irq.owner : irq.home};
}

void VGic::signal(VGicCpu& cpu) {
  if (!cpu.work_.exchange(true, std::memory_order_relaxed)) port_.kick(cpu.index_);
}

// Something about the interrupt changed: puts it where it belongs, and its vCPU to work if that concerns it.
void VGic::touch(VIrq& irq, std::uint32_t intid) {
  if (!irq.resident() && !irq.active && irq.owner != irq.home) {
    cpus_[irq.owner].queue_.reset(intid);
    if (irq.home == VIrq::kNowhere) {
      give_back(irq);
      return;
    }
    irq.owner = irq.home;
  }
  VGicCpu& cpu = cpus_[irq.owner];
  if (!irq.resident() && !wanted(irq)) {
    cpu.queue_.reset(intid);
    give_back(irq);
    return;
  }
  cpu.queue_.set(intid);
  signal(cpu);
}

void VGic::touch_all() {
  for (std::uint32_t i = 0; i < spis_.size(); ++i) touch(spis_[i], kFirstSpi + i);
  for (unsigned v = 0; v < limits_.vcpus; ++v)
    for (std::uint32_t intid = 0; intid < kFirstSpi; ++intid) touch(cpus_[v].irqs_[intid], intid);
}

[[gnu::noinline]] void VGic::raise(VIrq& irq, std::uint32_t intid) {
  if (irq.latch && !irq.clear_pending && !irq.enabled) return;  // is pending, and nobody is waiting for it
  irq.latch = true;
  irq.clear_pending = false;  // merges with the one that was to be cleared
  if (!deliver(irq, intid)) touch(irq, intid);
}

// What a flush would do with it, if that is all that it would do: the vCPU's pCPU is this one, and nothing else is to be
// reconciled (then the queue is empty). False: nothing is done.
bool VGic::deliver(VIrq& irq, std::uint32_t intid) {
  if (!deliverable(irq) || irq.home != irq.owner || irq.owner != port_.here()) return false;
  VGicCpu& cpu = cpus_[irq.owner];
  if (!cpu.online_ || cpu.has_work() || cpu.hcr_.words[0] != usual_hcr_.words[0]) return false;
  unsigned slot = irq.lr;
  if (irq.resident()) {
    if (irq.set_active || irq.clear_active || (port_.empty_lrs() & lr_bit(slot)) == 0) return false;
    leave(cpu, irq);  // the last one is over
    irq.active = false;
  } else {
    const std::uint32_t free = (lr_bit(limits_.list_registers) - 1) & ~cpu.used_;
    if (free == 0 || irq.active) return false;
    slot = static_cast<unsigned>(std::countr_zero(free));
  }
  place(cpu, intid, slot);
  return true;
}

// A disabled interrupt that was taken and not delivered goes back to the physical GIC: that knows whether a level is
// still there, and keeps an edge.
void VGic::give_back(VIrq& irq) {
  if (!irq.forwarded || irq.enabled || !irq.latch || irq.active || irq.resident()) return;
  irq.latch = false;
  if (!irq.level) port_.set_pending(physical_of(irq), true);
  port_.set_active(physical_of(irq), false);
}

// Does what registers asked for while the interrupt was in a list register. It is not any more.
void VGic::settle(VIrq& irq) {
  if (irq.clear_pending && irq.latch) {
    irq.latch = false;
    if (irq.forwarded && !irq.active) port_.set_active(physical_of(irq), false);
  }
  if (irq.set_active) irq.active = true;
  if (irq.clear_active && irq.active) {
    irq.active = false;
    if (irq.forwarded && !irq.latch) port_.set_active(physical_of(irq), false);
  }
  irq.set_active = irq.clear_active = irq.clear_pending = false;
}

// Of one that is in no list register.
void VGic::deactivate(VIrq& irq, std::uint32_t intid) {
  irq.active = false;
  if (irq.forwarded && !irq.latch) port_.set_active(physical_of(irq), false);
  touch(irq, intid);
}

// ---- List registers

void VGic::leave(VGicCpu& cpu, VIrq& irq) {
  const std::uint32_t bit = lr_bit(irq.lr);
  cpu.used_ &= ~bit;
  cpu.eoi_ &= ~bit;
  irq.lr = VIrq::kNoLr;
  irq.lr_pending = false;
}

// Takes an interrupt out of its list register, which keeps its content until somebody writes it.
void VGic::fold(VGicCpu& cpu, VIrq& irq) {
  const IchLr lr = port_.read_lr(irq.lr);
  cpu.stale_ |= lr_bit(irq.lr);
  leave(cpu, irq);
  irq.active = lr.get<IchLr::Active>();
  if (lr.get<IchLr::Pending>() && irq.lr_latch) irq.latch = true;
}

void VGic::place(VGicCpu& cpu, std::uint32_t intid, unsigned slot) {
  VIrq& irq = irq_of(cpu, intid);
  IchLr lr;
  lr.set<IchLr::VINTID>(intid).set<IchLr::Priority>(irq.priority).set<IchLr::Group>(irq.group1);
  const bool pending = deliverable(irq);
  bool eoi = false;
  if (irq.forwarded && !(irq.active && irq.latch)) {
    // The guest's deactivation is also that of the physical interrupt.
    lr.set<IchLr::HW>(true).set<IchLr::PINTID>(irq.physical);
    lr.set<IchLr::Active>(irq.active).set<IchLr::Pending>(!irq.active && pending);
  } else if (irq.latched() && !irq.forwarded) {
    lr.set<IchLr::Active>(irq.active).set<IchLr::Pending>(pending);
  } else {
    // A level that is still there is pending again after deactivation, and not before. So is a forwarded interrupt that
    // was taken again while its predecessor is active: the deactivation of that must not reach the physical one.
    lr.set<IchLr::Active>(irq.active).set<IchLr::Pending>(!irq.active && pending);
    eoi = !irq.active || irq.pending();
    lr.set<IchLr::PINTID>(eoi ? IchLr::kEoi : 0);
  }
  irq.lr_pending = lr.get<IchLr::Pending>();
  irq.lr_latch = irq.lr_pending && irq.latch;
  if (irq.lr_pending) irq.latch = false;
  irq.lr = static_cast<std::uint8_t>(slot);
  cpu.slots_[slot] = static_cast<std::uint16_t>(intid);
  cpu.used_ |= lr_bit(slot);
  cpu.stale_ &= ~lr_bit(slot);
  if (eoi) cpu.eoi_ |= lr_bit(slot);
  port_.write_lr(slot, lr);
}

// Frees the list registers whose interrupt is over.
void VGic::retire(VGicCpu& cpu) {
  if (cpu.hcr_.get<IchHcr::LRENPIE>()) {
    // Deactivations of active interrupts that are in no list register. They do not say which, but priorities nest: each
    // is that of the highest priority still active. With EOImode = 1 they need not nest, and are trapped (TDIR). Then the
    // count means nothing; QEMU counts priority drops in it.
    const unsigned count = port_.read_hcr().get<IchHcr::EOIcount>();
    const bool trapped = limits_.traps_dir && port_.read_vmcr().get<IchVmcr::VEOIM>();
    for (unsigned n = 0; !trapped && n < count; ++n) {
      VIrq* highest = nullptr;
      std::uint32_t its_intid = 0;
      cpu.queue_.for_each([&](std::uint32_t intid) {
        VIrq& irq = irq_of(cpu, intid);
        if (irq.resident() || !irq.active || (highest != nullptr && highest->priority <= irq.priority)) return;
        highest = &irq;
        its_intid = intid;
      });
      if (highest == nullptr) break;
      deactivate(*highest, its_intid);
    }
    if (count != 0) port_.write_hcr(cpu.hcr_);
  }
  if (cpu.used_ == 0) return;
  std::uint32_t over = cpu.used_ & port_.empty_lrs();
  if (cpu.eoi_ != 0) over |= cpu.eoi_ & port_.eoi_lrs();
  for_each_bit(over, [&](unsigned slot) {
    const std::uint32_t intid = cpu.slots_[slot];
    VIrq& irq = irq_of(cpu, intid);
    cpu.stale_ |= cpu.eoi_ & lr_bit(slot);  // else it is empty already
    leave(cpu, irq);
    irq.active = false;
    cpu.queue_.set(intid);  // it may be pending again
  });
}

// Takes everything queued out of the list registers and drops from the queue what needs none. How many are left?
unsigned VGic::sift(VGicCpu& cpu) {
  unsigned left = 0;
  cpu.queue_.for_each([&](std::uint32_t intid) {
    VIrq& irq = irq_of(cpu, intid);
    if (irq.resident()) fold(cpu, irq);
    settle(irq);
    if (irq.owner != irq.home && !irq.active) {
      touch(irq, intid);  // moves on to another vCPU
    } else if (wanted(irq)) {
      ++left;
    } else {
      cpu.queue_.reset(intid);
      give_back(irq);
    }
  });
  return left;
}

// More interrupts than list registers. Those that can be taken come first, by priority: as long as any of them is left
// out, all list registers are pending, and when none is any more (NP) it is their turn. Then active ones, whose
// deactivation is noticed without a list register; last, those of a group that the guest's CPU interface has disabled.
// The order holds as long as the CPU interface's groups stay as they are: a change of one that matters is reported, too.
// Returns what ICH_HCR_EL2 is to be while some are left out.
IchHcr VGic::choose(VGicCpu& cpu) {
  for_each_bit(cpu.used_, [&](unsigned slot) { cpu.queue_.set(cpu.slots_[slot]); });
  static_cast<void>(sift(cpu));
  const IchVmcr vmcr = port_.read_vmcr();
  enum class Class : std::uint8_t { pending, active, blocked };
  const auto classify = [&](const VIrq& irq) {
    if (irq.active) return Class::active;
    return (irq.group1 ? vmcr.get<IchVmcr::VENG1>() : vmcr.get<IchVmcr::VENG0>()) ? Class::pending : Class::blocked;
  };
  for (unsigned slot = 0; slot < limits_.list_registers; ++slot) {
    std::tuple<Class, std::uint8_t, std::uint32_t> best{};
    bool any = false;
    cpu.queue_.for_each([&](std::uint32_t intid) {
      const VIrq& irq = irq_of(cpu, intid);
      const std::tuple rank{classify(irq), irq.priority, intid};
      if (!any || rank < best) best = rank;
      any = true;
    });
    if (!any) break;
    const std::uint32_t intid = std::get<2>(best);
    place(cpu, intid, slot);
    cpu.queue_.reset(intid);
  }
  IchHcr hcr = usual_hcr_;
  cpu.queue_.for_each([&](std::uint32_t intid) {
    const VIrq& irq = irq_of(cpu, intid);
    switch (classify(irq)) {
      case Class::pending:
        hcr.set<IchHcr::NPIE>(true);
        // A group that is disabled now would keep its list registers pending, and this one out.
        hcr.set<IchHcr::VGrp0DIE>(vmcr.get<IchVmcr::VENG0>()).set<IchHcr::VGrp1DIE>(vmcr.get<IchVmcr::VENG1>());
        break;
      case Class::active: hcr.set<IchHcr::LRENPIE>(true).set<IchHcr::TDIR>(limits_.traps_dir); break;
      case Class::blocked:
        if (irq.group1)
          hcr.set<IchHcr::VGrp1EIE>(true);
        else
          hcr.set<IchHcr::VGrp0EIE>(true);
        break;
    }
  });
  return hcr;
}

void VGic::write_hcr(VGicCpu& cpu, IchHcr hcr) {
  if (cpu.hcr_ == hcr) return;
  cpu.hcr_ = hcr;
  port_.write_hcr(hcr);
}

void VGic::snapshot(VGicCpu& cpu) {
  for_each_bit(cpu.used_, [&](unsigned slot) {
    VIrq& irq = irq_of(cpu, cpu.slots_[slot]);
    const IchLr lr = port_.read_lr(slot);
    irq.active = lr.get<IchLr::Active>();
    irq.lr_pending = lr.get<IchLr::Pending>();
  });
}

void VGic::flush_locked(VGicCpu& cpu) {
  if (cpu.online_) retire(cpu);
  cpu.work_.store(false, std::memory_order_relaxed);
  if (!cpu.online_) return;
  const unsigned waiting = sift(cpu);
  IchHcr hcr = usual_hcr_;
  std::uint32_t free = (lr_bit(limits_.list_registers) - 1) & ~cpu.used_;
  if (waiting <= static_cast<unsigned>(std::popcount(free))) {
    cpu.queue_.for_each([&](std::uint32_t intid) {
      place(cpu, intid, static_cast<unsigned>(std::countr_zero(free)));
      free &= free - 1;
    });
    cpu.queue_.clear();
  } else {
    hcr = choose(cpu);
  }
  for_each_bit(cpu.stale_, [&](unsigned slot) { port_.write_lr(slot, IchLr{}); });
  cpu.stale_ = 0;
  write_hcr(cpu, hcr);
  cpu.retracting_ = false;
  if (cpu.snapshot_wanted_.load(std::memory_order_relaxed)) {
    snapshot(cpu);
    cpu.snapshot_wanted_.store(false, std::memory_order_release);
  }
}

void VGic::flush(unsigned vcpu) {
  const SpinLock::Guard guard{lock_};
  flush_locked(cpus_[vcpu]);
}

void VGic::online(unsigned vcpu) {
  offline(vcpu);
  const SpinLock::Guard guard{lock_};
  VGicCpu& cpu = cpus_[vcpu];
  for (unsigned n = 0; n < limits_.list_registers; ++n) port_.write_lr(n, IchLr{});
  port_.reset_interface();
  cpu.hcr_ = usual_hcr_;
  port_.write_hcr(cpu.hcr_);
  cpu.online_ = true;
  for (const VIrq& irq : cpu.irqs_)
    if (irq.forwarded) port_.set_enabled(physical_of(irq), irq.enabled);
  cpu.work_.store(true, std::memory_order_relaxed);
}

void VGic::offline(unsigned vcpu) {
  const SpinLock::Guard guard{lock_};
  VGicCpu& cpu = cpus_[vcpu];
  if (!cpu.online_) return;
  cpu.online_ = false;
  retire(cpu);
  for_each_bit(cpu.used_, [&](unsigned slot) { cpu.queue_.set(cpu.slots_[slot]); });
  static_cast<void>(sift(cpu));
  for_each_bit(cpu.stale_, [&](unsigned slot) { port_.write_lr(slot, IchLr{}); });
  cpu.stale_ = 0;
  write_hcr(cpu, IchHcr{});
  for (std::uint32_t intid = 0; intid < kFirstSpi; ++intid) {
    VIrq& irq = cpu.irqs_[intid];
    if (!irq.forwarded) continue;
    port_.set_enabled(physical_of(irq), false);
    irq.latch = irq.active = false;
    port_.set_active(physical_of(irq), false);
    cpu.queue_.reset(intid);
  }
  cpu.retracting_ = false;
  cpu.snapshot_wanted_.store(false, std::memory_order_release);
}

bool VGic::pending(unsigned vcpu) {
  const SpinLock::Guard guard{lock_};
  VGicCpu& cpu = cpus_[vcpu];
  flush_locked(cpu);
  if (!cpu.queue_.empty()) return true;
  bool found = false;
  for_each_bit(cpu.used_, [&](unsigned slot) { found = found || port_.read_lr(slot).get<IchLr::Pending>(); });
  return found;
}

// ---- Sources

void VGic::pulse(std::uint32_t intid) {
  const SpinLock::Guard guard{lock_};
  if (VIrq* irq = find(nullptr, intid); irq != nullptr && !irq->forwarded) raise(*irq, intid);
}

void VGic::set_level(std::uint32_t intid, bool high) {
  const SpinLock::Guard guard{lock_};
  VIrq* irq = find(nullptr, intid);
  if (irq == nullptr || irq->forwarded || irq->line == high) return;
  irq->line = high;
  if (high && !irq->level)
    raise(*irq, intid);
  else
    touch(*irq, intid);
}

// A level-sensitive SPI stays asserted until it is cleared.
void VGic::message(std::uint32_t intid, bool set) {
  const SpinLock::Guard guard{lock_};
  VIrq* irq = find(nullptr, intid);
  if (irq == nullptr || irq->forwarded) return;
  if (irq->level) {
    irq->line = set;
    touch(*irq, intid);
  } else {
    write_bit(*irq, intid, set ? Bit::set_pending : Bit::clear_pending, true);
  }
}

bool VGic::bind_spi(std::uint32_t intid, std::uint32_t physical) {
  const SpinLock::Guard guard{lock_};
  VIrq* irq = find(nullptr, intid);
  if (irq == nullptr || irq->forwarded || irq->resident() || irq->active || physical < kFirstSpi ||
      physical >= gic::kSpiEnd || !port_.bind(physical, intid))
    return false;
  irq->forwarded = true;
  irq->latch = false;
  irq->physical = static_cast<std::uint16_t>(physical);
  touch(*irq, intid);
  const PhysicalInterrupt hw = physical_of(*irq);
  port_.set_edge(hw, !irq->level);
  port_.route(hw);
  port_.set_enabled(hw, irq->enabled);
  return true;
}

bool VGic::bind_ppi(std::uint32_t intid, std::uint32_t physical) {
  const SpinLock::Guard guard{lock_};
  if (intid < gic::kSgis || intid >= kFirstSpi || physical < gic::kSgis || physical >= kFirstSpi) return false;
  for (unsigned v = 0; v < limits_.vcpus; ++v) {
    VIrq& irq = cpus_[v].irqs_[intid];
    irq.forwarded = true;
    irq.physical = static_cast<std::uint16_t>(physical);
  }
  return true;
}

void VGic::unbind(VIrq& irq, std::uint32_t intid) {
  const PhysicalInterrupt hw = physical_of(irq);
  port_.set_enabled(hw, false);
  irq.forwarded = irq.latch = false;
  port_.set_pending(hw, false);
  port_.set_active(hw, false);
  if (!irq.resident()) irq.active = false;
  touch(irq, intid);
}

void VGic::unbind_spi(std::uint32_t intid) {
  const SpinLock::Guard guard{lock_};
  VIrq* irq = find(nullptr, intid);
  if (irq == nullptr || !irq->forwarded) return;
  unbind(*irq, intid);
  port_.unbind(irq->physical);
}

void VGic::release() {
  for (std::uint32_t intid = kFirstSpi; intid < kSpiEnd; ++intid) unbind_spi(intid);
  const SpinLock::Guard guard{lock_};
  for (unsigned v = 0; v < limits_.vcpus; ++v)
    for (std::uint32_t intid = 0; intid < kFirstSpi; ++intid)
      if (VIrq& irq = cpus_[v].irqs_[intid]; irq.forwarded) unbind(irq, intid);
}

bool VGic::taken(unsigned vcpu, std::uint32_t intid) {
  const SpinLock::Guard guard{lock_};
  VIrq* irq = find(&cpus_[vcpu], intid);
  if (irq == nullptr || !irq->forwarded) return false;
  if (intid < kFirstSpi && !cpus_[vcpu].online_) return false;
  raise(*irq, intid);
  return true;
}

// ---- Trapped system registers

// A write to ICC_SGI0R_EL1 makes only group 0 interrupts. With one Security state, one to ICC_SGI1R_EL1 makes those of
// whichever group the target has the SGI in, and there is no other state that ICC_ASGI1R_EL1 could mean: it is like SGI0R.
void VGic::send_sgi(unsigned vcpu, gic::IccSgir target, bool any_group) {
  using gic::IccSgir;
  const std::uint32_t intid = target.get<IccSgir::INTID>();
  const SpinLock::Guard guard{lock_};
  const auto send = [&](unsigned to) {
    VIrq& irq = cpus_[to].irqs_[intid];
    if (any_group || !irq.group1) raise(irq, intid);
  };
  if (target.get<IccSgir::IRM>()) {
    for (unsigned v = 0; v < limits_.vcpus; ++v)
      if (v != vcpu) send(v);
    return;
  }
  using gic::Affinity;
  Affinity affinity = Affinity{}
                          .set<Affinity::Aff1>(target.get<IccSgir::Aff1>())
                          .set<Affinity::Aff2>(target.get<IccSgir::Aff2>())
                          .set<Affinity::Aff3>(target.get<IccSgir::Aff3>());
  for_each_bit(target.get<IccSgir::TargetList>(), [&](unsigned n) {
    const std::uint16_t to = vcpu_of(affinity.set<Affinity::Aff0>(16 * target.get<IccSgir::RS>() + n));
    if (to != VIrq::kNowhere) send(to);
  });
}

// Of an interrupt that is in a list register of this vCPU's, of another's, or of none.
void VGic::write_dir(unsigned vcpu, std::uint32_t intid) {
  const SpinLock::Guard guard{lock_};
  VIrq* irq = find(&cpus_[vcpu], intid);
  if (irq == nullptr || !port_.read_vmcr().get<IchVmcr::VEOIM>()) return;
  write_bit(*irq, intid, Bit::clear_active, true);
}

bool VGic::write_sysreg(unsigned vcpu, gic::Icc reg, std::uint64_t value) {
  const auto sgir = [value] {
    gic::IccSgir r;
    r.words[0] = value;
    return r;
  };
  switch (reg) {
    case gic::Icc::SGI1R_EL1: send_sgi(vcpu, sgir(), true); return true;
    case gic::Icc::ASGI1R_EL1:
    case gic::Icc::SGI0R_EL1: send_sgi(vcpu, sgir(), false); return true;
    case gic::Icc::DIR_EL1: write_dir(vcpu, gic::IccIntid::INTID::decode(value)); return true;
    case gic::Icc::SRE_EL1: return true;  // all of it is RAO/WI: there is no other interface than system registers
  }
  return false;
}

bool VGic::read_sysreg(unsigned, gic::Icc reg, std::uint64_t& value) {
  if (reg != gic::Icc::SRE_EL1) return false;  // the others are write-only
  using gic::IccSre;
  value = IccSre{}.set<IccSre::SRE>(true).set<IccSre::DFB>(true).set<IccSre::DIB>(true).words[0];
  return true;
}

// ---- Looking at what is in list registers

// Brings the memory's view of those interrupts of [first, first + 32) up to date that are in list registers, wherever.
void VGic::synchronise(VGicCpu& self, const Bank& bank, std::uint32_t first) {
  std::uint64_t others = 0;
  {
    const SpinLock::Guard guard{lock_};
    for (std::uint32_t intid = first; intid < first + 32 && intid < bank.end; ++intid) {
      const VIrq& irq = *find(bank.cpu, intid);
      if (irq.resident()) others |= std::uint64_t{1} << irq.owner;
    }
    for (std::uint64_t left = others; left != 0; left &= left - 1) {
      VGicCpu& cpu = cpus_[static_cast<unsigned>(std::countr_zero(left))];
      cpu.snapshot_wanted_.store(true, std::memory_order_relaxed);
      if (&cpu == &self)
        flush_locked(self);
      else
        signal(cpu);
    }
  }
  // Two vCPUs may wait for each other: each answers meanwhile.
  for (unsigned n = 0; others != 0 && n < kPatience; ++n) {
    for (std::uint64_t left = others; left != 0; left &= left - 1)
      if (!cpus_[static_cast<unsigned>(std::countr_zero(left))].snapshot_wanted_.load(std::memory_order_acquire))
        others &= ~(left & (~left + 1));
    if (self.has_work()) flush(self.index_);
    if (others != 0) port_.relax();
  }
}

}  // namespace weir
