#include "hyp/machine/tick.hpp"

#include <atomic>

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/counter.hpp"
#include "hyp/arch/pcpu.hpp"
#include "hyp/gic/gic.hpp"

namespace weir {
namespace {

constexpr std::uint64_t kPeriodUs = 100'000;

struct CnthpCtl : Record<CnthpCtl, 64> {  // CNTHP_CTL_EL2: EL2's physical timer
  using Enable = BitField<"ENABLE", 0>;
  using Mask = BitField<"IMASK", 1>;
  using Status = BitField<"ISTATUS", 2>;
  using Layout = weir::Layout<64, Enable, Mask, Status, Res0<63, 3>>;
};

constinit std::atomic<bool> running{false};
constinit std::atomic<std::uint64_t> ticks{0};
constinit unsigned keeper = 0;  // the pCPU whose timer it is
constinit bool (*tick_work)() = nullptr;

void set_timer(bool on) {
  if (on) WRITE_SYSREG(cnthp_cval_el2, counter() + microseconds_to_ticks(kPeriodUs));
  WRITE_SYSREG_RECORD(cnthp_ctl_el2, CnthpCtl{}.set<CnthpCtl::Enable>(on));
  isb();
}

void on_timer(void*) {
  set_timer(false);
  // Whoever wants a tick from here on gets another one.
  running.store(false);
  ticks.fetch_add(1, std::memory_order_relaxed);
  if (tick_work()) machine_want_tick();
}

}  // namespace

void machine_tick_init(const Timers& timers, bool (*work)()) {
  tick_work = work;
  for (unsigned i = 0; i < pcpu_count(); ++i)
    if (pcpu(i).online && pcpu(i).vcpu == nullptr) keeper = i;
  gic_on_ppi(timers.hypervisor, on_timer, nullptr);
  gic_on_ipi(Ipi::call, [](void*) { set_timer(true); }, nullptr);
  gic_set_enabled(timers.hypervisor, keeper, true);
}

void machine_want_tick() {
  if (running.load(std::memory_order_relaxed) || running.exchange(true)) return;
  gic_send_ipi(keeper, Ipi::call);
}

std::uint64_t machine_ticks() { return ticks.load(std::memory_order_relaxed); }

}  // namespace weir
