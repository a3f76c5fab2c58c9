#include "hyp/vm/vm.hpp"

#include <algorithm>
#include <new>

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/counter.hpp"
#include "hyp/arch/pcpu.hpp"
#include "hyp/arch/physical_size.hpp"
#include "hyp/gic/gic.hpp"
#include "hyp/log/log.hpp"
#include "hyp/machine/grace.hpp"
#include "hyp/mem/pages.hpp"
#include "hyp/vm/memory_calls.hpp"
#include "hyp/vm/table_pages.hpp"

namespace weir {
namespace {

constinit std::array<std::unique_ptr<Vm>, kMaxVms> vms{};
constinit unsigned vms_used = 0;
constinit void (*vm_teardown)(Vm&) = nullptr;

constexpr std::uint64_t kBlock = 2_MiB;
constexpr std::uint64_t kMostRam = guest_map::kLoans - guest_map::kRam;  // of a VM that may have loans

VmError error_of(stage2::Error e) {
  return e == stage2::Error::out_of_memory ? VmError::out_of_memory : VmError::map_failed;
}

}  // namespace

const char* to_string(StopReason reason) {
  switch (reason) {
    case StopReason::none: return "running";
    case StopReason::off: return "powered off";
    case StopReason::reset: return "asked for a reset, which is not supported";
    case StopReason::ended: return "ended from the console";
    case StopReason::violation: return "stopped: a device touched memory that is not the VM's";
  }
  return "?";
}

const char* to_string(VmError error) {
  switch (error) {
    case VmError::out_of_memory: return "out of memory";
    case VmError::map_failed: return "stage 2 cannot map its memory";
    case VmError::bad_kernel: return "the kernel is no arm64 Image";
    case VmError::no_fit: return "kernel, initrd and devicetree do not fit into its memory";
    case VmError::devicetree: return "its devicetree cannot be made";
  }
  return "?";
}

std::expected<std::unique_ptr<Vm>, VmError> Vm::create(unsigned id, const VmConfig& config, const DmaDemands& demands) {
  std::unique_ptr<Vm> vm{new (std::nothrow) Vm{id, config}};
  if (!vm) return std::unexpected{VmError::out_of_memory};

  auto view = CpuView::create(VMID{static_cast<std::uint16_t>(id + 1)});
  if (!view) return std::unexpected{error_of(view.error())};
  vm->view_ = std::move(*view);
  const unsigned bbml = std::min(demands.bbml, CpuView::bbml());
  const stage2::S2Domain::Options options{.table = {.pages_only = config.memory_calls && bbml == 0,
                                                    .bbml = bbml,
                                                    .dirty_state = config.memory_calls && demands.dirty_state},
                                          .clean_to_memory = demands.clean_to_memory,
                                          .cpu = vm->view_.get()};
  // BARs may lie beyond what the SMMUs reach, memory not: their tables say less than the CPUs', and are shared all the same.
  const smmu::AddressSize cpus = vm->view_->geometry().ps();
  // An SMMU that reaches less than most gets tables of its own, or is refused by name.
  const auto output = std::clamp(demands.output, std::min(smmu::AddressSize::bits44, cpus), cpus);
  const auto geometry = stage2::Geometry::make(CpuView::kInputBits, output);
  if (!geometry) return std::unexpected{VmError::map_failed};
  auto domain = stage2::S2Domain::create(
      *geometry, demands.clean_to_memory ? cleaned_table_pages() : coherent_table_pages(), hyp_grace(), options);
  if (!domain) return std::unexpected{error_of(domain.error())};
  vm->domain_ = std::move(*domain);
  const stage2::VmMemory::Config moves{.id = id,
                                       .ram = guest_map::kRam,
                                       .ram_bytes = config.memory,
                                       .loans = guest_map::kLoans,
                                       .loan_bytes = guest_map::kLoansBytes,
                                       .calls = config.memory_calls && config.memory <= kMostRam,
                                       .share_with = config.share_with};
  vm->memory_moves_ = make<stage2::VmMemory>(moves, *vm->domain_, guest_pages(), grant_table(), vm->view_.get());
  if (!vm->memory_moves_) return std::unexpected{VmError::out_of_memory};
  if (const auto mapped = vm->map_ram(); !mapped) return std::unexpected{mapped.error()};
  vm->memory_ = GuestMemory{{.ram = guest_map::kRam,
                             .ram_bytes = config.memory,
                             .end = guest_map::kPci64,
                             .physical = static_cast<std::byte*>(direct(PA{0}))},
                            vm->domain_->table(),
                            hyp_grace(),
                            config.memory_calls ? &vm->memory_moves_->log() : nullptr};
  if (const auto done = vm->view_->share(*vm->domain_, guest_map::kRam, guest_map::kPci64 - guest_map::kRam); !done)
    return std::unexpected{error_of(done.error())};

  for (unsigned i = 0; i < config.vcpus; ++i) {
    vm->vcpus_[i].reset(new (std::nothrow) Vcpu{*vm, i, config.pcpus[i]});
    if (!vm->vcpus_[i]) return std::unexpected{VmError::out_of_memory};
    ++vm->vcpu_count_;
  }
  vm->in_guest_.store(vm->vcpu_count_, std::memory_order_relaxed);
  return vm;
}

std::expected<void, VmError> Vm::map_ram() {
  for (std::uint64_t at = 0; at < config_.memory;) {
    const auto piece = allocate_piece(config_.memory - at, kBlock);
    if (!piece) return std::unexpected{VmError::out_of_memory};
    if (const auto mapped = domain_->map(guest_map::kRam + at, piece->at, piece->bytes, {.execute = true}); !mapped) {
      free_pages(piece->at, piece->bytes);
      return std::unexpected{error_of(mapped.error())};
    }
    at += piece->bytes;
    ++memory_pieces_;
  }
  return {};
}

Vm::~Vm() {
  if (!memory_moves_) return;  // no memory yet
  memory_moves_->stop();
  memory_moves_->free_all();
}

Vcpu* Vm::vcpu_by_affinity(std::uint64_t affinity) {
  for (unsigned i = 0; i < vcpu_count_; ++i)
    if (vcpus_[i]->affinity() == affinity) return vcpus_[i].get();
  return nullptr;
}

void Vm::start(IPA entry, std::uint64_t context) {
  counter_offset_ = counter();
  state_.store(VmState::running, std::memory_order_release);
  static_cast<void>(vcpus_[0]->turn_on(entry.value, context));
}

void Vm::stop(StopReason reason) {
  StopReason none = StopReason::none;
  if (!reason_.compare_exchange_strong(none, reason, std::memory_order_acq_rel)) return;
  stop_requested_.store(true, std::memory_order_release);
  for (unsigned i = 0; i < vcpu_count_; ++i) vcpus_[i]->kick();
}

void Vm::vcpu_left() {
  if (in_guest_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (vm_teardown != nullptr) vm_teardown(*this);
  log("VM '%.*s': %s", static_cast<int>(name().size()), name().data(), to_string(stop_reason()));
  state_.store(VmState::stopped, std::memory_order_release);
  if (this_pcpu().index != 0) gic_send_ipi(0, Ipi::kick);  // the boot pCPU looks whether this was the last one
}

void set_vm_teardown(void (*teardown)(Vm&)) { vm_teardown = teardown; }

unsigned vm_count() { return vms_used; }
Vm& vm(unsigned id) { return *vms[id]; }

bool add_vm(std::unique_ptr<Vm> vm) {
  if (vms_used == vms.size()) return false;
  for (unsigned i = 0; i < vm->vcpu_count(); ++i) pcpu(vm->vcpu(i).pcpu()).vcpu = &vm->vcpu(i);
  vms[vms_used++] = std::move(vm);
  return true;
}

bool all_vms_stopped() {
  return std::all_of(vms.begin(), vms.begin() + vms_used,
                     [](const auto& vm) { return vm->state() == VmState::stopped; });
}

void run_pcpu() {
  if (Vcpu* const vcpu = this_pcpu().vcpu) vcpu->run();
  for (;;) {
    if (this_pcpu().index == 0 && all_vms_stopped()) return;
    wfi();
    gic_dispatch();
  }
}

}  // namespace weir
