// A machine for VGic: list registers and the virtual CPU interface of each pCPU as Arm IHI 0069 describes them, and the
// states of physical interrupts. Checks what Weir writes against what the architecture allows.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "hyp/gic/vgic.hpp"

namespace weir {

inline constexpr std::uint32_t kSpurious = 1023;

class FakeMachine final : public VGicPort {
 public:
  struct Physical {
    bool enabled{}, pending{}, active{}, edge{};
    unsigned vcpu{};
    std::uint32_t bound{};  // SPIs: the guest's INTID
  };
  struct Cpu {
    std::array<gic::IchLr, gic::kMaxListRegisters> lrs{};
    gic::IchHcr hcr;
    gic::IchVmcr vmcr;
    std::vector<unsigned> running;  // active priorities
    bool kicked{};
    unsigned port_calls{};
  };

  explicit FakeMachine(unsigned cpus = 2, unsigned lrs = 4, bool traps_dir = true)
      : cpus_(cpus), lrs_{lrs}, traps_dir_{traps_dir} {
    vgic = VGic::create({.vcpus = cpus, .list_registers = lrs, .priority_bits = 5, .traps_dir = traps_dir}, *this);
    EXPECT_TRUE(vgic->bind_ppi(27, 27));
    for (unsigned v = 0; v < cpus; ++v) bring_up(v);
  }

  // What Linux does first: CPU interface, groups, everything in group 1.
  void bring_up(unsigned v) {
    on(v, [&] { vgic->online(v); });
    auto& vmcr = cpus_[v].vmcr;
    vmcr.set<gic::IchVmcr::VENG1>(true).set<gic::IchVmcr::VENG0>(true).set<gic::IchVmcr::VPMR>(0xf0);
    write_gicd(v, 0x0, 3);
    write_sgi_frame(v, 0x80, 0xffff'ffff);
    for (unsigned n = 1; n < kVgicIntids / 32; ++n) write_gicd(v, 0x80 + 4 * n, 0xffff'ffff);
  }

  template <typename Fn>
  void on(unsigned v, Fn&& fn) {
    const unsigned before = here_;
    here_ = v;
    fn();
    here_ = before;
  }

  // ---- The guest's accesses, on vCPU v. Exits and entries included.
  std::uint64_t read_gicd(unsigned v, std::uint64_t offset, unsigned size = 4) {
    std::uint64_t value = 0;
    on(v, [&] { value = vgic->read_gicd(v, offset, size); });
    enter_all();
    return value;
  }
  void write_gicd(unsigned v, std::uint64_t offset, std::uint64_t value, unsigned size = 4) {
    on(v, [&] { vgic->write_gicd(v, offset, size, value); });
    enter_all();
  }
  std::uint64_t read_gicr(unsigned v, std::uint64_t offset, unsigned size = 4) {
    std::uint64_t value = 0;
    on(v, [&] { value = vgic->read_gicr(v, offset, size); });
    enter_all();
    return value;
  }
  void write_gicr(unsigned v, std::uint64_t offset, std::uint64_t value, unsigned size = 4) {
    on(v, [&] { vgic->write_gicr(v, offset, size, value); });
    enter_all();
  }
  void write_sgi_frame(unsigned v, std::uint64_t offset, std::uint64_t value, unsigned size = 4) {
    write_gicr(v, v * gic::kGicrBytes + gic::kGicrFrame + offset, value, size);
  }
  std::uint64_t read_sgi_frame(unsigned v, std::uint64_t offset, unsigned size = 4) {
    return read_gicr(v, v * gic::kGicrBytes + gic::kGicrFrame + offset, size);
  }
  void enable(std::uint32_t intid, bool yes = true, unsigned v = 0) {
    const std::uint64_t at = yes ? 0x100 : 0x180;
    if (intid < 32)
      write_sgi_frame(v, at, 1U << intid);
    else
      write_gicd(v, at + intid / 32 * 4, 1U << intid % 32);
  }
  void set_priority(std::uint32_t intid, unsigned priority, unsigned v = 0) {
    if (intid < 32)
      write_sgi_frame(v, 0x400 + intid, priority, 1);
    else
      write_gicd(v, 0x400 + intid, priority, 1);
  }
  void set_edge(std::uint32_t intid) {
    const std::uint64_t at = 0xc00 + intid / 16 * 4;
    write_gicd(0, at, read_gicd(0, at) | 2U << intid % 16 * 2);
  }
  void route(std::uint32_t intid, std::uint64_t affinity) { write_gicd(0, 0x6000 + 8 * intid, affinity, 8); }
  bool bit(std::uint64_t array, std::uint32_t intid, unsigned reader = 0) {
    const std::uint64_t word = intid < 32 ? read_sgi_frame(reader, array) : read_gicd(reader, array + intid / 32 * 4);
    return (word >> intid % 32 & 1) != 0;
  }
  bool is_pending(std::uint32_t intid, unsigned reader = 0) { return bit(0x200, intid, reader); }
  bool is_active(std::uint32_t intid, unsigned reader = 0) { return bit(0x300, intid, reader); }

  void pulse(std::uint32_t intid) {
    vgic->pulse(intid);
    enter_all();
  }
  void level(std::uint32_t intid, bool high) {
    vgic->set_level(intid, high);
    enter_all();
  }
  void sgi(unsigned v, gic::IccSgir value, gic::Icc reg = gic::Icc::SGI1R_EL1) {
    on(v, [&] { EXPECT_TRUE(vgic->write_sysreg(v, reg, value.words[0])); });
    enter_all();
  }

  // ---- The guest's CPU interface
  std::uint32_t ack(unsigned v) {
    Cpu& cpu = cpus_[v];
    gic::IchLr* best = nullptr;
    for (gic::IchLr& lr : cpu.lrs) {
      using gic::IchLr;
      if (!lr.get<IchLr::Pending>() || lr.get<IchLr::Active>()) continue;
      if (!(lr.get<IchLr::Group>() ? cpu.vmcr.get<gic::IchVmcr::VENG1>() : cpu.vmcr.get<gic::IchVmcr::VENG0>()))
        continue;
      if (best == nullptr || lr.get<IchLr::Priority>() < best->get<IchLr::Priority>()) best = &lr;
    }
    if (best == nullptr) return kSpurious;
    const unsigned priority = best->get<gic::IchLr::Priority>();
    if (priority >= cpu.vmcr.get<gic::IchVmcr::VPMR>()) return kSpurious;
    if (!cpu.running.empty() && priority >= cpu.running.back()) return kSpurious;
    best->set<gic::IchLr::Pending>(false).set<gic::IchLr::Active>(true);
    cpu.running.push_back(priority);
    const std::uint32_t intid = best->get<gic::IchLr::VINTID>();
    maintain(v);
    return intid;
  }
  // EOIR: with EOImode = 0 deactivates, too.
  void eoi(unsigned v, std::uint32_t intid) {
    Cpu& cpu = cpus_[v];
    if (!cpu.running.empty()) cpu.running.pop_back();
    if (!cpu.vmcr.get<gic::IchVmcr::VEOIM>())
      deactivate(v, intid);
    else if (counts_drops && !in_lr(cpu, intid))
      count_eoi(cpu);
    maintain(v);
  }
  void dir(unsigned v, std::uint32_t intid) {
    if (cpus_[v].hcr.get<gic::IchHcr::TDIR>())
      on(v, [&] { EXPECT_TRUE(vgic->write_sysreg(v, gic::Icc::DIR_EL1, intid)); });
    else
      deactivate(v, intid);
    enter_all();
    maintain(v);
  }
  std::uint32_t take(unsigned v) {  // ack and EOI
    const std::uint32_t intid = ack(v);
    if (intid != kSpurious) eoi(v, intid);
    return intid;
  }

  // ---- The physical GIC
  // The source of a physical SPI or PPI fires: the pCPU takes it if it is enabled and not active.
  bool fire(std::uint32_t physical, unsigned ppi_vcpu = 0) {
    Physical& p = physical_at(physical, ppi_vcpu);
    p.pending = true;
    return deliver(physical, ppi_vcpu);
  }
  bool deliver(std::uint32_t physical, unsigned ppi_vcpu = 0) {
    Physical& p = physical_at(physical, ppi_vcpu);
    if (!p.pending || !p.enabled || p.active) return false;
    p.pending = false;
    p.active = true;
    const unsigned v = physical < 32 ? ppi_vcpu : p.vcpu;
    bool taken = false;
    on(v, [&] { taken = vgic->taken(v, physical < 32 ? physical : p.bound); });
    if (!taken) p.active = false;
    enter_all();
    return taken;
  }
  Physical& physical_at(std::uint32_t intid, unsigned v = 0) { return physicals[{intid, intid < 32 ? v : 0}]; }

  void enter(unsigned v) {
    on(v, [&] {
      cpus_[v].kicked = false;
      if (vgic->cpu(v).has_work()) vgic->flush(v);
      EXPECT_FALSE(vgic->cpu(v).has_work());
    });
    maintain(v);
  }
  void enter_all() {
    for (unsigned round = 0; round < 2; ++round)
      for (unsigned v = 0; v < cpus_.size(); ++v)
        if (vgic->cpu(v).has_work()) enter(v);
  }
  Cpu& cpu(unsigned v) { return cpus_[v]; }
  unsigned valid_lrs(unsigned v) {
    unsigned n = 0;
    for (const auto& lr : cpus_[v].lrs) n += lr.get<gic::IchLr::Pending>() || lr.get<gic::IchLr::Active>();
    return n;
  }

  // ---- VGicPort
  gic::IchLr read_lr(unsigned n) override {
    ++cpus_[here_].port_calls;
    EXPECT_LT(n, lrs_);
    return cpus_[here_].lrs[n];
  }
  void write_lr(unsigned n, gic::IchLr value) override {
    using gic::IchLr;
    ++cpus_[here_].port_calls;
    EXPECT_LT(n, lrs_);
    EXPECT_TRUE(value.within(IchLr::Layout::covered));
    if (value.get<IchLr::HW>()) EXPECT_FALSE(value.get<IchLr::Pending>() && value.get<IchLr::Active>());
    cpus_[here_].lrs[n] = value;
  }
  std::uint32_t empty_lrs() override {
    ++cpus_[here_].port_calls;
    return lrs_where([](gic::IchLr lr) { return !eoi_asked(lr); });
  }
  std::uint32_t eoi_lrs() override {
    ++cpus_[here_].port_calls;
    return lrs_where([](gic::IchLr lr) { return eoi_asked(lr); });
  }
  gic::IchHcr read_hcr() override { return cpus_[here_].hcr; }
  void write_hcr(gic::IchHcr value) override {
    if (!traps_dir_) EXPECT_FALSE(value.get<gic::IchHcr::TDIR>());
    cpus_[here_].hcr = value;
  }
  gic::IchVmcr read_vmcr() override { return cpus_[here_].vmcr; }
  void reset_interface() override {
    cpus_[here_].vmcr = {};
    cpus_[here_].running.clear();
  }
  bool bind(std::uint32_t intid, std::uint32_t virtual_intid) override {
    if (intid > 255 || physical_at(intid).bound != 0) return false;
    physical_at(intid).bound = virtual_intid;
    return true;
  }
  void unbind(std::uint32_t intid) override { physical_at(intid).bound = 0; }
  void set_enabled(PhysicalInterrupt i, bool enabled) override { physical_at(i.intid, i.vcpu).enabled = enabled; }
  void set_pending(PhysicalInterrupt i, bool pending) override { physical_at(i.intid, i.vcpu).pending = pending; }
  void set_active(PhysicalInterrupt i, bool active) override { physical_at(i.intid, i.vcpu).active = active; }
  bool is_pending(PhysicalInterrupt i) override { return physical_at(i.intid, i.vcpu).pending; }
  void set_edge(PhysicalInterrupt i, bool edge) override { physical_at(i.intid).edge = edge; }
  void route(PhysicalInterrupt i) override { physical_at(i.intid).vcpu = i.vcpu; }
  unsigned here() override { return here_; }
  void kick(unsigned vcpu) override { cpus_[vcpu].kicked = true; }
  void relax() override {
    for (unsigned v = 0; v < cpus_.size(); ++v)
      if (v != here_ && cpus_[v].kicked) on(v, [&] { vgic->flush(v); });
  }

  std::unique_ptr<VGic> vgic;
  std::map<std::pair<std::uint32_t, unsigned>, Physical> physicals;
  unsigned maintenance_interrupts{};
  bool counts_drops{};  // QEMU counts priority drops as deactivations (EOIcount)

 private:
  static bool eoi_asked(gic::IchLr lr) {
    return !lr.get<gic::IchLr::HW>() && (lr.get<gic::IchLr::PINTID>() & gic::IchLr::kEoi) != 0;
  }
  template <typename Pred>
  std::uint32_t lrs_where(Pred pred) const {
    std::uint32_t bits = 0;
    for (unsigned n = 0; n < lrs_; ++n) {
      const gic::IchLr lr = cpus_[here_].lrs[n];
      if (!lr.get<gic::IchLr::Pending>() && !lr.get<gic::IchLr::Active>() && pred(lr)) bits |= 1U << n;
    }
    return bits;
  }

  void deactivate(unsigned v, std::uint32_t intid) {
    Cpu& cpu = cpus_[v];
    for (gic::IchLr& lr : cpu.lrs) {
      if (!lr.get<gic::IchLr::Active>() || lr.get<gic::IchLr::VINTID>() != intid) continue;
      lr.set<gic::IchLr::Active>(false);
      if (lr.get<gic::IchLr::HW>()) {
        const std::uint32_t p = lr.get<gic::IchLr::PINTID>();
        physical_at(p, v).active = false;
      }
      return;
    }
    count_eoi(cpu);
  }
  static void count_eoi(Cpu& cpu) {
    cpu.hcr.set<gic::IchHcr::EOIcount>((cpu.hcr.get<gic::IchHcr::EOIcount>() + 1) & 31);
  }
  static bool in_lr(const Cpu& cpu, std::uint32_t intid) {
    for (const gic::IchLr& lr : cpu.lrs)
      if (lr.get<gic::IchLr::Active>() && lr.get<gic::IchLr::VINTID>() == intid) return true;
    return false;
  }

  // ICH_MISR_EL2 is not 0.
  bool maintenance(unsigned v) {
    using gic::IchHcr;
    Cpu& cpu = cpus_[v];
    bool wanted = false;
    on(v, [&] { wanted = lrs_where([](gic::IchLr lr) { return eoi_asked(lr); }) != 0; });
    bool pending = false;
    for (const auto& lr : cpu.lrs)
      pending = pending || (lr.get<gic::IchLr::Pending>() && !lr.get<gic::IchLr::Active>());
    wanted = wanted || (cpu.hcr.get<IchHcr::NPIE>() && !pending);
    wanted = wanted || (cpu.hcr.get<IchHcr::LRENPIE>() && cpu.hcr.get<IchHcr::EOIcount>() != 0);
    wanted = wanted || (cpu.hcr.get<IchHcr::VGrp0EIE>() && cpu.vmcr.get<gic::IchVmcr::VENG0>());
    wanted = wanted || (cpu.hcr.get<IchHcr::VGrp1EIE>() && cpu.vmcr.get<gic::IchVmcr::VENG1>());
    wanted = wanted || (cpu.hcr.get<IchHcr::VGrp0DIE>() && !cpu.vmcr.get<gic::IchVmcr::VENG0>());
    wanted = wanted || (cpu.hcr.get<IchHcr::VGrp1DIE>() && !cpu.vmcr.get<gic::IchVmcr::VENG1>());
    return wanted && cpu.hcr.get<IchHcr::En>();
  }

 public:
  // Takes the maintenance interrupt while it is asserted: it must not stay so.
  void maintain(unsigned v) {
    unsigned n = 0;
    while (maintenance(v)) {
      ++maintenance_interrupts;
      ASSERT_LT(++n, 4U) << "the maintenance interrupt does not go away";
      on(v, [&] { vgic->flush(v); });
    }
    std::set<std::uint32_t> seen;
    for (const auto& lr : cpus_[v].lrs)
      if (lr.get<gic::IchLr::Pending>() || lr.get<gic::IchLr::Active>()) {
        EXPECT_TRUE(seen.insert(lr.get<gic::IchLr::VINTID>()).second) << "one INTID in two list registers";
      }
  }

 private:
  std::vector<Cpu> cpus_;
  unsigned lrs_;
  bool traps_dir_;
  unsigned here_{};
};

}  // namespace weir
