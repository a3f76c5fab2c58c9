#include "hyp/arch/pcpu.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/cache.hpp"
#include "hyp/arch/counter.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/boot/early_patch.hpp"
#include "hyp/boot/image.hpp"
#include "hyp/mem/pages.hpp"
#include "hyp/mem/translation.hpp"
#include "hyp/panic/frame.hpp"
#include "hyp/panic/panic.hpp"

namespace weir {

namespace detail {
constinit thread_local Pcpu* current_pcpu = nullptr;
}

namespace {

// What TPIDR_EL2 points to: the two words that the AArch64 TLS ABI reserves, then, at the alignment of the TLS segment
// (hyp/boot/weir.lds), the thread-locals. The ABI leaves the second word to us: vectors.S finds the emergency frame there.
constexpr std::size_t kTlsAlignment = 64;
struct alignas(kTlsAlignment) ThreadArea {
  std::uint64_t reserved;
  PanicFrame* emergency;
  std::byte pad[kTlsAlignment - 16];
  std::byte thread_locals[0x2000 - kTlsAlignment];
};
static_assert(offsetof(ThreadArea, emergency) == 8 && offsetof(ThreadArea, thread_locals) == kTlsAlignment);

// Secondary pCPUs' stacks: a window of their own, each with unmapped memory below. Two for each pCPU: the lower one is for
// panics, with the emergency frame at its top.
constexpr std::uint64_t kStackWindow = 0xff80'0000'0000;
constexpr std::uint64_t kStackStride = 0x20000;
constexpr std::uint64_t kStackBytes = 0x10000;
constexpr std::uint64_t kEmergencyBytes = 0x8000;
static_assert(kStackBytes + kEmergencyBytes + 2 * kPage4K <= kStackStride);

// head.S reads this with the MMU off.
struct SecondaryStart {
  std::uint64_t stack;
  std::uint64_t thread;
  Pcpu* pcpu;
};

constinit ThreadArea boot_area{};
constinit std::array<Pcpu, kMaxPcpus> pcpus{};
constinit unsigned count = 1;

struct MpidrEl1 : Record<MpidrEl1, 64> {
  using Aff210 = Field<"Aff2:0", 23, 0>;
  using Aff3 = Field<"Aff3", 39, 32>;
  using Layout = weir::Layout<64, Aff210, Ignored<31, 24>, Aff3, Ignored<63, 40>>;
};

std::uint64_t affinity(std::uint64_t mpidr) {
  MpidrEl1 all{};
  all.words[0] = mpidr;
  return MpidrEl1{}
      .set<MpidrEl1::Aff210>(all.get<MpidrEl1::Aff210>())
      .set<MpidrEl1::Aff3>(all.get<MpidrEl1::Aff3>())
      .words[0];
}

// Fills `area`; returns the thread pointer. `emergency_top` is the end of a stack.
std::uint64_t prepare(ThreadArea& area, std::uint64_t emergency_top) {
  const auto initialised = static_cast<std::size_t>(__tdata_end - __tdata_start);
  std::memcpy(area.thread_locals, __tdata_start, initialised);  // the rest, .tbss, is zero already
  area.emergency = reinterpret_cast<PanicFrame*>(emergency_top - sizeof(PanicFrame));  // NOLINT
  return reinterpret_cast<std::uint64_t>(&area);
}

// [high - bytes, high) of the window, with memory behind it.
bool map_stack(std::uint64_t high, PA memory, std::uint64_t bytes) {
  return el2::map(high - bytes, memory, bytes, el2::Access::read_write, el2::Memory::normal) == el2::MapResult::done;
}

}  // namespace

unsigned pcpu_count() { return count; }
Pcpu& pcpu(unsigned index) { return pcpus[index]; }

const char* to_string(PcpuError error) {
  switch (error) {
    case PcpuError::bad_index: return "no such CPU";
    case PcpuError::out_of_memory: return "out of memory";
    case PcpuError::refused_by_firmware: return "PSCI refuses to start it";
    case PcpuError::does_not_suit:
      return "the image was not made fit for this CPU when it booted on another kind (no FEAT_LSE, or an erratum)";
    case PcpuError::no_answer: return "it did not come up within a second";
  }
  return "unknown error";
}

// For head.S, before boot_main.
extern "C" std::uint64_t boot_thread_pointer() {
  return prepare(boot_area, reinterpret_cast<std::uint64_t>(__boot_emergency_top));
}

void boot_pcpu_init() {
  detail::current_pcpu = &pcpus[0];
  Pcpu& self = pcpus[0];
  self.mpidr = affinity(READ_SYSREG(mpidr_el1));
  self.midr = READ_SYSREG(midr_el1);
  self.stack_low = reinterpret_cast<std::uint64_t>(__boot_stack_bottom);
  self.stack_high = reinterpret_cast<std::uint64_t>(__boot_stack_top);
  self.online = true;
}

bool pcpus_init(std::span<const std::uint64_t> mpidrs) {
  const std::uint64_t own = pcpus[0].mpidr;
  count = 1;
  for (const std::uint64_t mpidr : mpidrs) {
    if (mpidr == own || count == kMaxPcpus) continue;
    pcpus[count].index = count;
    pcpus[count].mpidr = mpidr;
    ++count;
  }
  return std::ranges::find(mpidrs, own) != mpidrs.end();
}

std::expected<void, PcpuError> pcpu_start(unsigned index, void (*entry)()) {
  if (index == 0 || index >= count) return std::unexpected{PcpuError::bad_index};
  Pcpu& target = pcpus[index];

  const auto stacks = allocate_pages(kStackBytes + kEmergencyBytes);
  if (!stacks) return std::unexpected{PcpuError::out_of_memory};
  const auto memory = allocate_pages(sizeof(ThreadArea) + sizeof(SecondaryStart));
  if (!memory) {
    free_pages(*stacks, kStackBytes + kEmergencyBytes);
    return std::unexpected{PcpuError::out_of_memory};
  }
  const std::uint64_t high = kStackWindow + (index + 1) * kStackStride;
  const std::uint64_t emergency_high = high - kStackBytes - kPage4K;
  // What was mapped before an error stays mapped, and so keeps its memory.
  if (!map_stack(high, *stacks, kStackBytes) || !map_stack(emergency_high, *stacks + kStackBytes, kEmergencyBytes)) {
    free_pages(*memory, sizeof(ThreadArea) + sizeof(SecondaryStart));
    return std::unexpected{PcpuError::out_of_memory};
  }
  auto* area = static_cast<ThreadArea*>(direct(*memory));
  auto* start = reinterpret_cast<SecondaryStart*>(area + 1);
  target.entry = entry;
  target.stack_low = high - kStackBytes;
  target.stack_high = high;
  *start = {high, prepare(*area, emergency_high), &target};
  clean_and_invalidate_to_poc(start, sizeof *start);

  // From here on the memory is the pCPU's, even if it does not answer: it may still come up.
  const auto started = psci::cpu_on(target.mpidr, physical(secondary_entry).value, physical(start).value);
  if (!started) return std::unexpected{PcpuError::refused_by_firmware};
  const std::uint64_t deadline = counter() + counter_hz();
  while (!target.online.load(std::memory_order_acquire)) {
    if (target.unfit.load(std::memory_order_acquire)) return std::unexpected{PcpuError::does_not_suit};
    if (counter() > deadline) return std::unexpected{PcpuError::no_answer};
  }
  return {};
}

// From head.S: on its own stack, with its thread pointer, and nothing else.
extern "C" [[noreturn]] void secondary_main(Pcpu* self) {
  detail::current_pcpu = self;
  if (!image_suits_this_pcpu()) {
    self->unfit.store(true, std::memory_order_release);
    for (;;) wfi();
  }
  self->midr = READ_SYSREG(midr_el1);
  self->online.store(true, std::memory_order_release);
  self->entry();
  park();
}

}  // namespace weir
