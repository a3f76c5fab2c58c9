#include "hyp/machine/tick.hpp"

#include <algorithm>
#include <array>
#include <atomic>

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/counter.hpp"
#include "hyp/arch/pcpu.hpp"
#include "hyp/gic/gic.hpp"
#include "hyp/platform/static_vector.hpp"

namespace weir {
namespace {

constexpr std::uint64_t kPeriodUs = 100'000;

struct CnthpCtl : Record<CnthpCtl, 64> {  // CNTHP_CTL_EL2: EL2's physical timer
  using Enable = BitField<"ENABLE", 0>;
  using Mask = BitField<"IMASK", 1>;
  using Status = BitField<"ISTATUS", 2>;
  using Layout = weir::Layout<64, Enable, Mask, Status, Res0<63, 3>>;
};

constexpr std::uint64_t kNever = ~std::uint64_t{0};

// Of one pCPU, which alone touches them, with interrupts masked: when its timer is to fire, in ticks of the counter.
struct Alarms {
  std::uint64_t tick = kNever;
  std::uint64_t pend = kNever;
  StaticVector<std::uint32_t, 32> pending;  // INTIDs, at `pend`
};

constinit std::atomic<bool> running{false};
constinit std::atomic<std::uint64_t> ticks{0};
constinit unsigned keeper = 0;  // the pCPU that ticks
constinit bool (*tick_work)() = nullptr;
constinit std::array<Alarms, kMaxPcpus> alarms{};

Alarms& mine() { return alarms[this_pcpu().index]; }

void set_timer() {
  const std::uint64_t at = std::min(mine().tick, mine().pend);
  if (at != kNever) WRITE_SYSREG(cnthp_cval_el2, at);
  WRITE_SYSREG_RECORD(cnthp_ctl_el2, CnthpCtl{}.set<CnthpCtl::Enable>(at != kNever));
  isb();
}

void start_tick(void*) {
  mine().tick = counter() + microseconds_to_ticks(kPeriodUs);
  set_timer();
}

void tick() {
  // Whoever wants a tick from here on gets another one.
  running.store(false);
  ticks.fetch_add(1, std::memory_order_relaxed);
  if (tick_work()) machine_want_tick();
}

void on_timer(void*) {
  Alarms& a = mine();
  const std::uint64_t now = counter();
  if (a.pend <= now) {
    a.pend = kNever;
    for (const std::uint32_t intid : a.pending) gic_set_pending(intid, 0, true);
    a.pending.clear();
  }
  const bool ticked = a.tick <= now;
  if (ticked) a.tick = kNever;
  set_timer();
  if (ticked) tick();
}

}  // namespace

void machine_tick_init(const Timers& timers, bool (*work)()) {
  tick_work = work;
  for (unsigned i = 0; i < pcpu_count(); ++i)
    if (pcpu(i).online && pcpu(i).vcpu == nullptr) keeper = i;
  gic_on_ppi(timers.hypervisor, on_timer, nullptr);
  gic_on_ipi(Ipi::call, start_tick, nullptr);
  for (unsigned i = 0; i < pcpu_count(); ++i) gic_set_enabled(timers.hypervisor, i, true);
}

void machine_pend_soon(std::uint32_t intid, std::uint64_t us) {
  Alarms& a = mine();
  for (const std::uint32_t other : a.pending)
    if (other == intid) return;
  if (!a.pending.push_back(intid)) return gic_set_pending(intid, 0, true);
  if (a.pend == kNever) a.pend = counter() + microseconds_to_ticks(us);
  set_timer();
}

void machine_want_tick() {
  if (running.load(std::memory_order_relaxed) || running.exchange(true)) return;
  gic_send_ipi(keeper, Ipi::call);
}

std::uint64_t machine_ticks() { return ticks.load(std::memory_order_relaxed); }

}  // namespace weir
