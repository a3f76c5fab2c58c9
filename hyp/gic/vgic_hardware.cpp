#include "hyp/gic/vgic_hardware.hpp"

#include <array>
#include <memory>
#include <utility>

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/pcpu.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/gic/gic.hpp"
#include "hyp/log/log.hpp"
#include "hyp/manifest/manifest.hpp"
#include "hyp/vm/guest_map.hpp"
#include "hyp/vm/vm.hpp"
#include "stage2/support/make.hpp"

namespace weir {

using gic::IchHcr;
using gic::IchLr;
using gic::IchVmcr;
using gic::IchVtr;

namespace {

// The guest's timers, as its devicetree says: virtual_ and physical.
constexpr std::uint32_t kVirtualTimer = 27;
constexpr std::uint32_t kPhysicalTimer = 30;

constinit std::uint32_t maintenance_intid = 0;
constinit std::uint32_t virtual_timer = 0;
constinit std::uint32_t physical_timer = 0;

// List registers have numbers in their names.
#define WEIR_LIST_REGISTERS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

std::uint64_t read_list_register(unsigned n) {
  switch (n) {
#define WEIR_READ(n) \
  case n: return READ_SYSREG(ICH_LR##n##_EL2);
    WEIR_LIST_REGISTERS(WEIR_READ)
#undef WEIR_READ
  }
  return 0;
}
void write_list_register(unsigned n, std::uint64_t value) {
  switch (n) {
#define WEIR_WRITE(n) \
  case n: WRITE_SYSREG(ICH_LR##n##_EL2, value); return;
    WEIR_LIST_REGISTERS(WEIR_WRITE)
#undef WEIR_WRITE
  }
}
#undef WEIR_LIST_REGISTERS

bool spi_taken(void* context, std::uint32_t intid);

class Hardware final : public VGicPort {
 public:
  explicit Hardware(Vm& vm) : vm_{vm} {}

  IchLr read_lr(unsigned n) override {
    IchLr lr;
    lr.words[0] = read_list_register(n);
    return lr;
  }
  void write_lr(unsigned n, IchLr value) override { write_list_register(n, value.words[0]); }
  std::uint32_t empty_lrs() override { return static_cast<std::uint32_t>(READ_SYSREG(ICH_ELRSR_EL2)); }
  std::uint32_t eoi_lrs() override { return static_cast<std::uint32_t>(READ_SYSREG(ICH_EISR_EL2)); }
  IchHcr read_hcr() override { return READ_SYSREG_AS(IchHcr, ICH_HCR_EL2); }
  void write_hcr(IchHcr value) override {
    WRITE_SYSREG_RECORD(ICH_HCR_EL2, value);
    isb();  // the maintenance interrupt goes before it is deactivated
  }
  IchVmcr read_vmcr() override { return READ_SYSREG_AS(IchVmcr, ICH_VMCR_EL2); }
  void reset_interface() override;

  bool bind(std::uint32_t physical, std::uint32_t intid) override {
    Forward& forward = forwards_[intid - gic::kFirstSpi];
    forward = {vm_.vgic, intid};
    return gic_forward(physical, spi_taken, &forward);
  }
  void unbind(std::uint32_t physical) override {
    gic_forward(physical, nullptr, nullptr);
    gic_route_spi(physical, 0);
  }
  void set_enabled(PhysicalInterrupt i, bool enabled) override { gic_set_enabled(i.intid, pcpu_of(i), enabled); }
  void set_pending(PhysicalInterrupt i, bool pending) override { gic_set_pending(i.intid, pcpu_of(i), pending); }
  void set_active(PhysicalInterrupt i, bool active) override { gic_set_active(i.intid, pcpu_of(i), active); }
  bool is_pending(PhysicalInterrupt i) override { return gic_is_pending(i.intid, pcpu_of(i)); }
  void set_edge(PhysicalInterrupt i, bool edge) override { gic_configure_spi(i.intid, edge); }
  void route(PhysicalInterrupt i) override { gic_route_spi(i.intid, pcpu_of(i)); }

  unsigned here() override {
    const Vcpu* const vcpu = this_pcpu().vcpu;
    return vcpu != nullptr && &vcpu->vm() == &vm_ ? vcpu->index() : kVgicMaxVcpus;
  }
  void kick(unsigned vcpu) override { vm_.vcpu(vcpu).kick(); }
  void relax() override { asm volatile("yield"); }

  struct Forward {
    VGic* vgic{};
    std::uint32_t intid{};  // the guest's
  };

 private:
  [[nodiscard]] unsigned pcpu_of(PhysicalInterrupt i) const { return vm_.vcpu(i.vcpu).pcpu(); }
  Vm& vm_;
  std::array<Forward, kVgicIntids - gic::kFirstSpi> forwards_{};
};

void Hardware::reset_interface() {
  WRITE_SYSREG(ICH_VMCR_EL2, 0);
  // As many as the preemption levels need.
  const unsigned bits = IchVtr::PREbits::decode(READ_SYSREG(ICH_VTR_EL2)) + 1;
  WRITE_SYSREG(ICH_AP0R0_EL2, 0);
  WRITE_SYSREG(ICH_AP1R0_EL2, 0);
  if (bits >= 6) {
    WRITE_SYSREG(ICH_AP0R1_EL2, 0);
    WRITE_SYSREG(ICH_AP1R1_EL2, 0);
  }
  if (bits >= 7) {
    WRITE_SYSREG(ICH_AP0R2_EL2, 0);
    WRITE_SYSREG(ICH_AP0R3_EL2, 0);
    WRITE_SYSREG(ICH_AP1R2_EL2, 0);
    WRITE_SYSREG(ICH_AP1R3_EL2, 0);
  }
}

bool spi_taken(void* context, std::uint32_t) {
  const auto& forward = *static_cast<Hardware::Forward*>(context);
  return forward.vgic->taken(0, forward.intid);
}

bool ppi_taken(void*, std::uint32_t physical) {
  Vcpu* vcpu = this_pcpu().vcpu;
  if (vcpu == nullptr || vcpu->vm().vgic == nullptr) return false;
  return vcpu->vm().vgic->taken(vcpu->index(), physical == virtual_timer ? kVirtualTimer : kPhysicalTimer);
}

void on_maintenance(void*) {
  Vcpu* vcpu = this_pcpu().vcpu;
  if (vcpu != nullptr && vcpu->gic != nullptr)
    vgic_flush(*vcpu);
  else
    WRITE_SYSREG_RECORD(ICH_HCR_EL2, IchHcr{});
}

// All of a VM's GIC.
struct Attached {
  explicit Attached(Vm& vm) : hardware{vm} {}
  Hardware hardware;
  std::unique_ptr<VGic> vgic;
  std::unique_ptr<VGicDistributor> distributor;
  std::unique_ptr<VGicRedistributors> redistributors;
};
constinit std::array<std::unique_ptr<Attached>, kMaxVms> attached{};

}  // namespace

void vgic_init(const GicV3& gic, const Timers& timers) {
  maintenance_intid = gic.maintenance ? gic.maintenance->intid : 25;
  virtual_timer = timers.virtual_;
  physical_timer = timers.physical;
  gic_on_ppi(maintenance_intid, on_maintenance, nullptr);
  if (!gic_forward(virtual_timer, ppi_taken, nullptr) || !gic_forward(physical_timer, ppi_taken, nullptr))
    log("gic: the timers' interrupts %u and %u are in use", static_cast<unsigned>(virtual_timer),
        static_cast<unsigned>(physical_timer));
}

void vgic_init_pcpu() {
  WRITE_SYSREG_RECORD(ICH_HCR_EL2, IchHcr{});
  isb();
  gic_enable_ppi(maintenance_intid);
}

bool vgic_attach(Vm& vm) {
  const auto vtr = READ_SYSREG_AS(IchVtr, ICH_VTR_EL2);
  const VGicLimits limits{.vcpus = vm.vcpu_count(),
                          .list_registers = vtr.get<IchVtr::ListRegs>() + 1,
                          .priority_bits = vtr.get<IchVtr::PRIbits>() + 1,
                          .traps_dir = vtr.get<IchVtr::TDS>()};
  auto all = make<Attached>(vm);
  if (!all) return false;
  all->vgic = VGic::create(limits, all->hardware);
  if (!all->vgic) return false;
  all->distributor = make<VGicDistributor>(*all->vgic);
  all->redistributors = make<VGicRedistributors>(*all->vgic);
  if (!all->distributor || !all->redistributors || !all->vgic->bind_ppi(kVirtualTimer, virtual_timer) ||
      !all->vgic->bind_ppi(kPhysicalTimer, physical_timer))
    return false;
  Attached& a = *(attached[vm.id()] = std::move(all));  // before the bus refers to it
  if (!vm.bus().add(guest_map::kGicd, guest_map::kGicdBytes, *a.distributor) ||
      !vm.bus().add(guest_map::kGicr, guest_map::kGicrBytes * vm.vcpu_count(), *a.redistributors))
    return false;
  vm.vgic = a.vgic.get();
  for (unsigned v = 0; v < vm.vcpu_count(); ++v) vm.vcpu(v).gic = &vm.vgic->cpu(v);
  return true;
}

void vgic_release(Vm& vm) {
  if (vm.vgic != nullptr) vm.vgic->release();
}

void vgic_online(Vcpu& vcpu) { vcpu.vm().vgic->online(vcpu.index()); }
void vgic_offline(Vcpu& vcpu) { vcpu.vm().vgic->offline(vcpu.index()); }
void vgic_flush(Vcpu& vcpu) { vcpu.vm().vgic->flush(vcpu.index()); }

bool vgic_write_sysreg(Vcpu& vcpu, gic::Icc reg, std::uint64_t value) {
  return vcpu.vm().vgic->write_sysreg(vcpu.index(), reg, value);
}
bool vgic_read_sysreg(Vcpu& vcpu, gic::Icc reg, std::uint64_t& value) {
  return vcpu.vm().vgic->read_sysreg(vcpu.index(), reg, value);
}

}  // namespace weir
