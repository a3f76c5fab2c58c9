// A VM's GICv3: a distributor, a redistributor for each vCPU, and the list registers through which the hardware's virtual
// CPU interface presents interrupts. One Security state (GICD_CTLR.DS = 1), affinity routing always on, no LPIs.
//
// vCPUs are pinned, so list registers are never switched: what the hardware holds stays there, and is read back only when
// something about it changes, or when there are more interrupts than list registers. Everything that may concern a vCPU's
// list registers is marked in its queue, `work` is set, and the vCPU kicked; it reconciles the two (flush) before it next
// enters the guest. With no work to do, entry costs one load and a branch. What is raised on the vCPU's own pCPU goes into a
// list register at once, if there is no work and one is free.
//
// Where an interrupt's truth is:
//   in a list register     pending and active there; VIrq only holds what is to be merged at the next flush
//   anywhere else          VIrq; if it is active or to be delivered it is in the queue of its owner
//
// Locks: one for each VM, `lock_`, over all VIrq and queues. It is taken inside of device locks (a device raises an
// interrupt while it holds its own), and outside of the physical GIC's. Nothing waits with it held.
//
// Portable: the machine is reached through VGicPort. The hardware's side is hyp/gic/vgic_hardware.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "hyp/gic/intid_set.hpp"
#include "hyp/gic/registers.hpp"
#include "hyp/gic/vgic_port.hpp"
#include "hyp/vm/mmio_device.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir {

inline constexpr std::uint32_t kVgicIntids = 288;  // 0..287: 256 SPIs
inline constexpr unsigned kVgicMaxVcpus = 64;

// One interrupt, as one vCPU or (SPIs) the distributor sees it.
struct VIrq {
  static constexpr std::uint8_t kNoLr = 0xff;
  static constexpr std::uint16_t kNowhere = 0xffff;

  std::uint64_t router{};    // SPI: GICD_IROUTER
  std::uint16_t home{};      // vCPU that it is routed to, or kNowhere
  std::uint16_t owner{};     // vCPU that has it in a list register or in its queue
  std::uint16_t physical{};  // forwarded: its physical INTID
  std::uint8_t priority{};
  std::uint8_t lr{kNoLr};
  bool enabled : 1 {};
  bool group1 : 1 {};
  bool level : 1 {true};  // level-sensitive, not edge-triggered
  bool line : 1 {};       // state of an emulated device's line
  bool latch : 1 {};      // pending: an edge, a write to ISPENDR, or a forwarded interrupt that was taken
  bool active : 1 {};
  bool forwarded : 1 {};
  bool lr_latch : 1 {};    // went into its list register as pending because of `latch`, which is clear since
  bool lr_pending : 1 {};  // pending in its list register when that was last looked at
  // Asked for while in a list register.
  bool set_active : 1 {};
  bool clear_active : 1 {};
  bool clear_pending : 1 {};

  // Pending is an event that is remembered, whatever the trigger.
  [[nodiscard]] bool latched() const { return forwarded || !level; }
  [[nodiscard]] bool pending() const { return latch || (!latched() && line); }
  [[nodiscard]] bool resident() const { return lr != kNoLr; }
};

// A vCPU's half.
class VGicCpu {
 public:
  // Is there anything to reconcile? If not, enter the guest.
  [[nodiscard]] bool has_work() const { return work_.load(std::memory_order_relaxed); }

 private:
  friend class VGic;
  std::atomic<bool> work_{};
  std::atomic<bool> snapshot_wanted_{};  // somebody reads the state of what is in the list registers
  bool online_{};
  bool retracting_{};      // an interrupt in a list register was disabled: RWP
  std::uint32_t used_{};   // list registers that hold an interrupt
  std::uint32_t stale_{};  // list registers that hold something that is over
  std::uint32_t eoi_{};    // of `used_`: with maintenance at deactivation
  gic::IchHcr hcr_{};
  std::uint16_t index_{};
  gic::Affinity affinity_{};
  gic::GicrWaker waker_{};
  IntidSet<kVgicIntids> queue_;
  std::array<std::uint16_t, gic::kMaxListRegisters> slots_{};  // INTIDs
  std::array<VIrq, gic::kFirstSpi> irqs_{};
};

struct VGicLimits {
  unsigned vcpus{};           // 1..kVgicMaxVcpus
  unsigned list_registers{};  // 1..16
  unsigned priority_bits{};   // 5..8: of the virtual CPU interface
  // ICH_HCR_EL2.TDIR works. Without it, ICC_DIR_EL1 reaches only what is in the writing vCPU's own list registers.
  bool traps_dir{};
};

class VGic {
 public:
  // nullptr: out of memory. The port outlives the VGic.
  [[nodiscard]] static std::unique_ptr<VGic> create(const VGicLimits& limits, VGicPort& port);
  VGic(const VGic&) = delete;
  VGic& operator=(const VGic&) = delete;

  [[nodiscard]] VGicCpu& cpu(unsigned vcpu) { return cpus_[vcpu]; }  // vcpu < limits.vcpus

  // ---- Devices of the VM, on any pCPU. INTIDs that are no SPIs of this GIC are ignored.
  void pulse(std::uint32_t intid);  // an edge
  void set_level(std::uint32_t intid, bool high);
  // A message-based SPI (GICD_TYPER.MBIS): what a store of `intid` to GICD_SETSPI_NSR does, or to GICD_CLRSPI_NSR. A
  // forwarded SPI is its device's alone.
  void message(std::uint32_t intid, bool set);

  // ---- Forwarded interrupts.
  // The guest's `intid` is the physical SPI `physical`, from now on: enable, trigger and routing follow the guest's
  // registers. False: no such SPI here or there, or bound already.
  [[nodiscard]] bool bind_spi(std::uint32_t intid, std::uint32_t physical);
  [[gnu::cold]] void unbind_spi(std::uint32_t intid);  // the physical SPI ends up disabled, neither pending nor active
  // The same for a PPI of every vCPU; before the vCPUs are online.
  [[nodiscard]] bool bind_ppi(std::uint32_t intid, std::uint32_t physical);
  // The physical interrupt was taken (is active, its priority dropped). `vcpu` is that of the calling pCPU, for PPIs.
  // False if it is not bound: the caller deactivates it.
  bool taken(unsigned vcpu, std::uint32_t intid);

  // ---- The vCPU's pCPU.
  void online(unsigned vcpu);  // before its first entry, and at each PSCI CPU_ON: the CPU interface after reset
  [[gnu::cold]] void offline(unsigned vcpu);  // it will not enter the guest again before online(); its PPIs are silent
  void flush(unsigned vcpu);  // reconciles: before entry when has_work(), and at the maintenance interrupt
  // Is there an enabled, pending interrupt? For a vCPU that is suspended by PSCI. An approximation from above: whether
  // the guest's priorities and masks let it in is not looked at.
  [[nodiscard]] bool pending(unsigned vcpu);

  // Trapped system registers. False: not one of the GIC's, the access is UNDEFINED.
  [[nodiscard]] bool write_sysreg(unsigned vcpu, gic::Icc reg, std::uint64_t value);
  [[nodiscard]] bool read_sysreg(unsigned vcpu, gic::Icc reg, std::uint64_t& value);

  // Registers, accessed by `vcpu`: GICD, and all redistributors one after the other. Any offset and size; what is not
  // defined reads as zero and ignores writes.
  [[nodiscard]] std::uint64_t read_gicd(unsigned vcpu, std::uint64_t offset, unsigned size);
  void write_gicd(unsigned vcpu, std::uint64_t offset, unsigned size, std::uint64_t value);
  [[nodiscard]] std::uint64_t read_gicr(unsigned vcpu, std::uint64_t offset, unsigned size);
  void write_gicr(unsigned vcpu, std::uint64_t offset, unsigned size, std::uint64_t value);

  // Unbinds everything. When all vCPUs are offline.
  void release();

 private:
  enum class Bit : std::uint8_t {
    group,
    set_enable,
    clear_enable,
    set_pending,
    clear_pending,
    set_active,
    clear_active
  };

  // Whose registers: a redistributor's (INTIDs 0..31) or the distributor's (from 32 on). `cpu` is null for the latter.
  struct Bank {
    VGicCpu* cpu;
    std::uint32_t first, end;  // INTIDs [first, end)
  };

  VGic(const VGicLimits& limits, VGicPort& port);

  // With lock_ held.
  [[nodiscard]] VIrq* find(VGicCpu* cpu, std::uint32_t intid);    // nullptr: no such INTID, or private and no cpu
  [[nodiscard]] VIrq& irq_of(VGicCpu& cpu, std::uint32_t intid);  // intid < kVgicIntids
  [[nodiscard]] bool deliverable(const VIrq& irq) const;
  [[nodiscard]] bool wanted(const VIrq& irq) const { return irq.active || deliverable(irq); }
  [[nodiscard]] static PhysicalInterrupt physical_of(const VIrq& irq);
  void touch(VIrq& irq, std::uint32_t intid);
  void touch_all();
  void signal(VGicCpu& cpu);
  void raise(VIrq& irq, std::uint32_t intid);
  [[nodiscard]] bool deliver(VIrq& irq, std::uint32_t intid);
  void give_back(VIrq& irq);
  void settle(VIrq& irq);
  void deactivate(VIrq& irq, std::uint32_t intid);
  void unbind(VIrq& irq, std::uint32_t intid);
  [[nodiscard]] std::uint16_t vcpu_of(gic::Affinity affinity) const;  // or kNowhere

  // With lock_ held, on the cpu's own pCPU.
  void flush_locked(VGicCpu& cpu);
  void retire(VGicCpu& cpu);
  void leave(VGicCpu& cpu, VIrq& irq);
  void fold(VGicCpu& cpu, VIrq& irq);
  void place(VGicCpu& cpu, std::uint32_t intid, unsigned slot);
  [[nodiscard]] unsigned sift(VGicCpu& cpu);
  [[nodiscard]] gic::IchHcr choose(VGicCpu& cpu);
  void snapshot(VGicCpu& cpu);
  void write_hcr(VGicCpu& cpu, gic::IchHcr hcr);

  // With lock_ not held.
  void synchronise(VGicCpu& self, const Bank& bank, std::uint32_t first);
  void send_sgi(unsigned vcpu, gic::IccSgir target, bool any_group);
  void write_dir(unsigned vcpu, std::uint32_t intid);

  // hyp/gic/vgic_registers.cpp
  [[nodiscard]] std::uint32_t read_array(VGicCpu& self, const Bank& bank, std::uint32_t offset, unsigned size);
  void write_array(const Bank& bank, std::uint32_t offset, unsigned size, std::uint32_t value);
  [[nodiscard]] std::uint32_t read_bits(VGicCpu& self, const Bank& bank, Bit kind, std::uint32_t first);
  void write_bits(const Bank& bank, Bit kind, std::uint32_t first, std::uint32_t value);
  void write_bit(VIrq& irq, std::uint32_t intid, Bit kind, bool value);
  void write_trigger(VIrq& irq, std::uint32_t intid, bool edge);
  void write_router(std::uint32_t intid, std::uint64_t value, std::uint64_t mask);
  void write_ctlr(std::uint32_t value);
  [[nodiscard]] std::uint32_t read_gicd_word(VGicCpu& self, std::uint32_t offset);
  [[nodiscard]] std::uint64_t read_rd(VGicCpu& of, std::uint32_t offset, unsigned size);

  const VGicLimits limits_;
  const gic::IchHcr usual_hcr_;
  VGicPort& port_;
  SpinLock lock_;
  gic::GicdCtlr ctlr_{};  // EnableGrp0, EnableGrp1
  std::unique_ptr<VGicCpu[]> cpus_;
  std::array<VIrq, kVgicIntids - gic::kFirstSpi> spis_{};
};

// The two register windows as devices on a VM's bus.
class VGicDistributor final : public MmioDevice {
 public:
  explicit VGicDistributor(VGic& vgic) : vgic_{vgic} {}
  [[nodiscard]] std::string_view name() const override { return "GICD"; }
  MmioResult read(Vcpu& vcpu, MmioAccess access, std::uint64_t& value) override;
  MmioResult write(Vcpu& vcpu, MmioAccess access, std::uint64_t value) override;

 private:
  VGic& vgic_;
};

class VGicRedistributors final : public MmioDevice {
 public:
  explicit VGicRedistributors(VGic& vgic) : vgic_{vgic} {}
  [[nodiscard]] std::string_view name() const override { return "GICR"; }
  MmioResult read(Vcpu& vcpu, MmioAccess access, std::uint64_t& value) override;
  MmioResult write(Vcpu& vcpu, MmioAccess access, std::uint64_t value) override;

 private:
  VGic& vgic_;
};

}  // namespace weir
