#include "hyp/vm/vcpu.hpp"

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/counter.hpp"
#include "hyp/arch/pcpu.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/cpu/guest_address.hpp"
#include "hyp/cpu/guest_state.hpp"
#include "hyp/cpu/pstate.hpp"
#include "hyp/cpu/traps.hpp"
#include "hyp/gic/gic.hpp"
#include "hyp/gic/vgic_hardware.hpp"
#include "hyp/vm/vm.hpp"

namespace weir {

void Vcpu::kick() {
  if (this_pcpu().index == pcpu_)
    look_soon();
  else
    gic_send_ipi(pcpu_, Ipi::kick);
}

bool Vcpu::turn_on(std::uint64_t entry, std::uint64_t context) {
  {
    const SpinLock::Guard guard{power_lock_};
    if (power() != Power::off) return false;
    entry_ = entry;
    context_ = context;
    power_.store(Power::on_pending, std::memory_order_release);
  }
  kick();
  return true;
}

void Vcpu::reset() {
  registers = {};
  {
    const SpinLock::Guard guard{power_lock_};
    registers.pc = entry_;
    registers.x[0] = context_;
  }
  registers.pstate = Pstate::entry().words[0];
  reset_guest_state(*this);
  vgic_online(*this);
  power_.store(Power::on, std::memory_order_release);
}

// After an exit. What others want comes with an IPI, which is an exit of its own, and sets look_, too: most exits need not
// look at anything.
GuestNext Vcpu::exited(void* vcpu, ExitKind kind) {
  Vcpu& self = *static_cast<Vcpu*>(vcpu);
  const GuestNext next = handle_exit(self, kind);
  if (self.look_ != 0) [[unlikely]]
    return self.look(next);
  return next;
}

[[gnu::noinline]] GuestNext Vcpu::look(GuestNext next) {
  look_ = 0;
  if (sample_wanted_.exchange(false, std::memory_order_acq_rel)) [[unlikely]]
    answer_sample();
  if (vm_.stopping() || power() != Power::on) [[unlikely]]
    return GuestNext::leave;
  vgic_enter(*this);
  return next;
}

VcpuSample Vcpu::sample_here() const {
  constexpr std::int64_t kInstruction = 4;
  Pstate pstate;
  pstate.words[0] = registers.pstate;
  VcpuSample s{.on = true,
               .pc = registers.pc,
               .vbar = READ_SYSREG(vbar_el1),
               .irqs_masked = (pstate.get<Pstate::DAIF>() & Pstate::kIrqsMasked) != 0,
               .before_pc = fetch_instruction(*this, -kInstruction).value_or(0),
               .at_pc = fetch_instruction(*this).value_or(0),
               .unhandled = exits.get(ExitCause::unhandled)};
  for (std::size_t cause = 0; cause < kExitCauses; ++cause)
    if (static_cast<ExitCause>(cause) != ExitCause::interrupt) s.exits += exits.get(static_cast<ExitCause>(cause));
  return s;
}

void Vcpu::answer_sample() {
  const VcpuSample now = sample_here();
  const SpinLock::Guard guard{sample_lock_};
  sample_ = now;
  ++samples_taken_;
}

std::optional<VcpuSample> Vcpu::sample() {
  if (power() != Power::on) return VcpuSample{};
  if (this_pcpu().index == pcpu_) return sample_here();
  const auto taken = [this] {
    const SpinLock::Guard guard{sample_lock_};
    return samples_taken_;
  };
  const unsigned before = taken();
  sample_wanted_.store(true, std::memory_order_release);
  kick();
  constexpr std::uint64_t kPatienceUs = 500'000;
  const std::uint64_t deadline = counter() + microseconds_to_ticks(kPatienceUs);
  while (taken() == before) {
    if (counter() > deadline) return std::nullopt;
  }
  const SpinLock::Guard guard{sample_lock_};
  return sample_;
}

void Vcpu::run() {
  install_guest_controls(*this);
  bool online = false;
  while (!vm_.stopping()) {
    const Power now = power();
    if (online && now != Power::on) {  // it called CPU_OFF, and may already be wanted again
      vgic_offline(*this);
      online = false;
    }
    if (now == Power::on_pending) {
      reset();
      online = true;
    }
    if (!online) {
      wfi();  // whoever turns it on, or stops the VM, does so before its IPI: none is missed
      gic_dispatch();
      continue;
    }
    vgic_enter(*this);
    run_guest(&registers, exited, this);
  }
  if (online) vgic_offline(*this);
  turn_off();
  vm_.vcpu_left();
}

}  // namespace weir
