// Physical CPUs. Index 0 is the one Weir booted on; the others follow in the devicetree's order. Per-pCPU data is plain
// `constinit thread_local`: TPIDR_EL2 is the thread pointer, and .tdata is copied for each pCPU.
#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <span>

#include "hyp/arch/smccc.hpp"

namespace weir {

class Vcpu;

inline constexpr unsigned kMaxPcpus = 64;

struct Pcpu {
  unsigned index{};
  std::uint64_t mpidr{};  // affinity fields only, as in the devicetree's `reg`
  std::uint64_t midr{};   // MIDR_EL1, once it is online
  Vcpu* vcpu{};           // the vCPU pinned to it, or none
  std::atomic<bool> online{};
  std::atomic<bool> unfit{};  // it came up, and cannot run the image as it was patched for the boot pCPU

  void (*entry)(){};

  // The stack, for backtraces and overflow checks: [stack_low, stack_high), a guard page below.
  std::uint64_t stack_low{};
  std::uint64_t stack_high{};
};

namespace detail {
extern constinit thread_local Pcpu* current_pcpu;
}

[[nodiscard]] inline Pcpu& this_pcpu() { return *detail::current_pcpu; }
[[nodiscard]] unsigned pcpu_count();
[[nodiscard]] Pcpu& pcpu(unsigned index);  // index < pcpu_count()

enum class PcpuError : std::uint8_t { bad_index, out_of_memory, refused_by_firmware, does_not_suit, no_answer };
[[nodiscard]] const char* to_string(PcpuError error);

// Makes this_pcpu() work on the boot pCPU. First of all.
void boot_pcpu_init();

// Called once on the boot pCPU with the affinity values of all pCPUs. Those beyond kMaxPcpus, the boot pCPU counted first, are
// not used. False: its own is not among them; it is pCPU 0 nevertheless.
[[nodiscard]] bool pcpus_init(std::span<const std::uint64_t> mpidrs);

// Starts pCPU `index` by PSCI with a stack and thread-local data of its own; it runs `entry`, at EL2 with the MMU on,
// and is parked if `entry` returns. Waits until the pCPU is up (at most a second). Not for the boot pCPU. On error the pCPU is
// not online, and keeps its index.
[[nodiscard]] std::expected<void, PcpuError> pcpu_start(unsigned index, void (*entry)());

}  // namespace weir
