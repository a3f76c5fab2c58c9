// A virtual machine: its memory, its vCPUs, its devices.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <memory>
#include <string_view>

#include "guest-abi/types.hpp"
#include "hyp/manifest/manifest.hpp"
#include "hyp/vm/cpu_view.hpp"
#include "hyp/vm/guest_map.hpp"
#include "hyp/vm/guest_memory.hpp"
#include "hyp/vm/mmio_bus.hpp"
#include "hyp/vm/vcpu.hpp"
#include "stage2/domain.hpp"
#include "stage2/support/spinlock.hpp"
#include "stage2/vm_memory.hpp"

namespace weir {

class VGic;
class VirtualUart;
namespace pci {
class VirtualHost;
}
namespace vsmmu {
class VSmmu;
}

enum class VmState : std::uint8_t { created, running, stopped };
enum class StopReason : std::uint8_t {
  none,
  off,       // PSCI SYSTEM_OFF: the only good one
  reset,     // PSCI SYSTEM_RESET, which is not offered yet
  ended,     // from the console
  violation  // a device's DMA violation, and the manifest's policy is to stop the VM
};
[[nodiscard]] const char* to_string(StopReason reason);

enum class VmError : std::uint8_t { out_of_memory, map_failed, bad_kernel, no_fit, devicetree };
[[nodiscard]] const char* to_string(VmError error);

// A vSMMU in a VM. The rest of it belongs to whoever assembles VMs (hyp/vm/devices).
struct VmVsmmu {
  vsmmu::VSmmu* device{};
  IPA base;
};

// What the SMMUs behind a VM demand of its stage-2 tables.
struct DmaDemands {
  bool clean_to_memory = false;                          // one of them walks tables past the caches
  unsigned bbml = 2;                                     // the lowest IDR3.BBML
  bool dirty_state = false;                              // all of them keep dirty state (IDR0.HTTU)
  smmu::AddressSize output = smmu::AddressSize::bits48;  // the lowest IDR5.OAS
};

class Vm {
 public:
  // Memory, stage 2 of CPUs and devices, vCPUs; no devices yet. `config` outlives the VM and has a pCPU for each vCPU. `id`
  // counts from 0.
  [[nodiscard, gnu::cold]] static std::expected<std::unique_ptr<Vm>, VmError> create(unsigned id,
                                                                                     const VmConfig& config,
                                                                                     const DmaDemands& demands);
  [[gnu::cold]] ~Vm();
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;

  [[nodiscard]] unsigned id() const { return id_; }
  [[nodiscard]] std::string_view name() const { return config_.name; }
  [[nodiscard]] const VmConfig& config() const { return config_; }
  [[nodiscard]] GuestMemory& memory() { return memory_; }
  [[nodiscard]] unsigned memory_pieces() const { return memory_pieces_; }  // that its RAM was created from
  [[nodiscard]] CpuView& view() { return *view_; }
  [[nodiscard]] stage2::S2Domain& domain() { return *domain_; }  // its memory, as devices see it
  [[nodiscard]] stage2::VmMemory& memory_moves() { return *memory_moves_; }
  [[nodiscard]] MmioBus& bus() { return bus_; }

  [[nodiscard]] unsigned vcpu_count() const { return vcpu_count_; }
  [[nodiscard]] Vcpu& vcpu(unsigned index) { return *vcpus_[index]; }  // index < vcpu_count()
  [[nodiscard]] Vcpu* vcpu_by_affinity(std::uint64_t affinity);        // nullptr: there is none

  [[nodiscard]] VmState state() const { return state_.load(std::memory_order_acquire); }
  [[nodiscard]] StopReason stop_reason() const { return reason_.load(std::memory_order_acquire); }
  // vCPU 0 starts at `entry` with x0 = `context` as soon as its pCPU runs it.
  void start(IPA entry, std::uint64_t context);
  // Callable from any pCPU, with no lock held. The first reason counts. vCPUs leave soon; the last to leave calls the
  // teardown hook, and only then is the VM `stopped`.
  void stop(StopReason reason);
  [[nodiscard]] bool stopping() const { return stop_requested_.load(std::memory_order_acquire); }
  void vcpu_left();  // by each vCPU's pCPU, once, when it is out of the guest for good

  // CNTVOFF_EL2 of all vCPUs: the virtual counter starts at 0 with the VM. The physical one is the machine's.
  [[nodiscard]] std::uint64_t counter_offset() const { return counter_offset_; }

  // Devices; owned elsewhere (hyp/vm/devices), null if there is none.
  VGic* vgic{};
  VirtualUart* uart{};
  pci::VirtualHost* pci{};
  std::array<VmVsmmu, kMaxVsmmus> vsmmus{};
  unsigned vsmmu_count{};

 private:
  Vm(unsigned id, const VmConfig& config) : id_{id}, config_{config} {}

  // Maps RAM, from as few pieces of physical memory as there are, the largest first. On error some of it is mapped, and none
  // is taken that is not.
  [[nodiscard]] std::expected<void, VmError> map_ram();

  unsigned id_;
  const VmConfig& config_;
  unsigned memory_pieces_{};
  GuestMemory memory_;
  std::unique_ptr<stage2::S2Domain> domain_;
  std::unique_ptr<CpuView> view_;  // shares the domain's tables: goes first
  std::unique_ptr<stage2::VmMemory> memory_moves_;
  MmioBus bus_;
  std::uint64_t counter_offset_{};
  unsigned vcpu_count_{};
  std::array<std::unique_ptr<Vcpu>, kMaxVcpus> vcpus_{};
  std::atomic<VmState> state_{VmState::created};
  std::atomic<StopReason> reason_{StopReason::none};
  std::atomic<bool> stop_requested_{};
  std::atomic<unsigned> in_guest_{};
};

// Called on the pCPU of the last vCPU to leave, before the VM counts as stopped: stop its devices' DMA and interrupts.
void set_vm_teardown(void (*teardown)(Vm&));

// All VMs, in the manifest's order; filled before any of them starts.
[[nodiscard]] unsigned vm_count();
[[nodiscard]] Vm& vm(unsigned id);
[[nodiscard]] bool add_vm(std::unique_ptr<Vm> vm);
[[nodiscard]] bool all_vms_stopped();

// What each pCPU does once everything is set up: runs its vCPU, or idles. On the boot pCPU it returns when all VMs have
// stopped; on the others never.
void run_pcpu();

}  // namespace weir
