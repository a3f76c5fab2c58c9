// A virtual CPU, pinned to one pCPU for its life. Its EL1 and EL0 state other than GuestRegisters stays in the hardware.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "hyp/arch/guest_registers.hpp"
#include "hyp/vm/exits.hpp"
#include "hyp/vm/mmio_bus.hpp"
#include "hyp/vm/vcpu_affinity.hpp"
#include "hyp/vm/vcpu_health.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir {

class Vm;
class VGicCpu;

enum class Power : std::uint8_t {
  off,
  on_pending,  // CPU_ON was called; its pCPU has not reset it yet
  on
};

class Vcpu {
 public:
  Vcpu(Vm& vm, unsigned index, unsigned pcpu) : vm_{vm}, index_{index}, pcpu_{pcpu} {}
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  [[nodiscard]] Vm& vm() const { return vm_; }
  [[nodiscard]] unsigned index() const { return index_; }
  [[nodiscard]] unsigned pcpu() const { return pcpu_; }  // index of the pCPU that it is pinned to
  [[nodiscard]] std::uint64_t affinity() const { return vcpu_affinity(index_); }

  // Makes the vCPU look before it next enters the guest what it is to do, and leave the guest for that, or its pCPU wake
  // from WFI. Callable from any pCPU; cheap if it is this one.
  void kick();
  // The same on its own pCPU.
  void look_soon() { look_ = 1; }

  // PSCI. turn_on: false unless the vCPU was off; it then starts at `entry` with x0 = `context`.
  [[nodiscard]] bool turn_on(std::uint64_t entry, std::uint64_t context);
  [[nodiscard]] Power power() const { return power_.load(std::memory_order_acquire); }
  void turn_off() {  // by its own pCPU
    power_.store(Power::off, std::memory_order_release);
    look_soon();
  }

  // What it is doing at this moment. Asks its pCPU, and waits for the answer, half a second at most: no value then. For people, from
  // any pCPU, with no lock held.
  [[nodiscard, gnu::cold]] std::optional<VcpuSample> sample();

  // Runs the vCPU on this pCPU, which must be its own, until the VM stops. While the vCPU is off, the pCPU idles.
  void run();

  // A 64-bit general register by its number in an instruction: 31 is XZR.
  [[nodiscard]] std::uint64_t reg(unsigned n) const { return registers.x[n]; }
  void set_reg(unsigned n, std::uint64_t value) {
    if (n < 31) registers.x[n] = value;
  }

  GuestRegisters registers;
  ExitCounters exits;
  MmioBus::Recent recent_device;  // of its accesses to devices
  VGicCpu* gic{};                 // its half of the virtual GIC; owned by the VM's VGic, set by it

 private:
  static GuestNext exited(void* vcpu, ExitKind kind);
  [[nodiscard]] GuestNext look(GuestNext next);
  [[gnu::cold]] VcpuSample sample_here() const;  // between an exit and the next entry
  [[gnu::cold]] void answer_sample();
  void reset();  // registers and EL1 state to what PSCI CPU_ON promises

  Vm& vm_;
  unsigned index_;
  unsigned pcpu_;
  std::uint32_t look_{};  // its own pCPU's; not 0: something about it may have changed since the last look()
  std::atomic<Power> power_{Power::off};
  SpinLock power_lock_;
  std::uint64_t entry_{};  // of a pending turn_on
  std::uint64_t context_{};
  std::atomic<bool> sample_wanted_{};
  SpinLock sample_lock_;  // of the two
  std::optional<VcpuSample> sample_;
  unsigned samples_taken_{};
};

}  // namespace weir
