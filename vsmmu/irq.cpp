#include "vsmmu/irq.hpp"

#include <utility>

namespace weir::vsmmu {

using smmu::GERROR;
using smmu::IRQ_CTRL;
using smmu::Reg;

namespace {

struct MsiRegisters {
  Reg address;
  Reg data;
};

constexpr MsiRegisters msi_registers(Irq source) {
  switch (source) {
    case Irq::evtq: return {Reg::EVENTQ_IRQ_CFG0, Reg::EVENTQ_IRQ_CFG1};
    case Irq::priq: return {Reg::PRIQ_IRQ_CFG0, Reg::PRIQ_IRQ_CFG1};
    case Irq::gerror:
    case Irq::cmdq_sync: break;
  }
  return {Reg::GERROR_IRQ_CFG0, Reg::GERROR_IRQ_CFG1};
}

constexpr std::uint64_t enable_bit(Irq source) {
  switch (source) {
    case Irq::evtq: return IRQ_CTRL::EVENTQ_IRQEN::mask;
    case Irq::priq: return IRQ_CTRL::PRIQ_IRQEN::mask;
    case Irq::gerror: return IRQ_CTRL::GERROR_IRQEN::mask;
    case Irq::cmdq_sync: break;  // is not enabled by IRQ_CTRL
  }
  return 0;
}

}  // namespace

bool IrqUnit::Due::empty() const {
  for (const Entry& e : entries_)
    if (e.pending) return false;
  return true;
}

std::size_t IrqUnit::slot(Irq source) {
  for (std::size_t i = 0; i < kSources; ++i)
    if (kOrder[i] == source) return i;
  return kSources - 1;
}

bool IrqUnit::enabled(Irq source) const { return (registers_.irq_ctrl().words[0] & enable_bit(source)) != 0; }

void IrqUnit::signal(Irq source, Due& due) {
  Due::Entry& entry = due.entries_[slot(source)];
  if (!enabled(source) || entry.pending) return;  // what is not sent yet says the same: one interrupt will do (3.18)
  const MsiRegisters config = msi_registers(source);
  const auto to = registers_.get<smmu::IRQ_CFG0>(config.address).get<smmu::IRQ_CFG0::ADDR>();
  entry.pending = true;
  // RES0 without MSIs; 0 sends none.
  if (to != 0)
    entry.msi = Due::Message{IPA{to}, registers_.get<smmu::IRQ_CFG1>(config.data).get<smmu::IRQ_CFG1::DATA>()};
  ++under_way_[slot(source)];
}

void IrqUnit::acknowledge() {
  std::uint64_t shown = registers_.irq_ctrlack().words[0];
  for (const Irq source : kOrder) {
    if (enabled(source)) {
      shown |= enable_bit(source);
    } else if (under_way_[slot(source)] == 0) {
      shown &= ~enable_bit(source);
    }
  }
  IRQ_CTRL ack;
  ack.words[0] = static_cast<std::uint32_t>(shown);
  registers_.publish_irq_ctrlack(ack);
}

void IrqUnit::report_abort(Irq source, Due& due) {
  switch (source) {
    case Irq::evtq: activate<GERROR::MSI_EVENTQ_ABT_ERR>(due); break;
    case Irq::priq: activate<GERROR::MSI_PRIQ_ABT_ERR>(due); break;
    case Irq::gerror: activate<GERROR::MSI_GERROR_ABT_ERR>(due); break;
    case Irq::cmdq_sync: activate<GERROR::MSI_CMDQ_ABT_ERR>(due); break;
  }
}

void IrqUnit::send(Due& due) {
  // Global errors last: an abort of the others is one.
  for (const Irq source : kOrder) {
    const Due::Entry entry = std::exchange(due.entries_[slot(source)], {});
    if (!entry.pending) continue;
    out_.raise(source);
    const bool aborted = entry.msi && !out_.message(entry.msi->to, entry.msi->data);
    const SpinLock::Guard guard{lock_};
    if (aborted) report_abort(source, due);
    --under_way_[slot(source)];
    acknowledge();
  }
}

[[gnu::noinline]] void IrqUnit::signal_sync(smmu::Sync sync) {
  using smmu::Sync;
  switch (sync.get<Sync::CS>()) {
    case smmu::SyncSignal::none:
    case smmu::SyncSignal::illegal: return;
    case smmu::SyncSignal::sev:  // without IDR0.SEV as SIG_NONE
      if (announced_.idr0.get<smmu::IDR0::SEV>()) out_.send_event();
      return;
    case smmu::SyncSignal::irq: break;
  }
  // The wired interrupt is asserted whatever MSIAddress is (4.7.3).
  out_.raise(Irq::cmdq_sync);
  const std::uint64_t to = sync.get<Sync::MSIAddress>();
  if (!announced_.idr0.get<smmu::IDR0::MSI>() || to == 0) return;
  // Cut to OAS after it was compared with 0 (4.7.3).
  if (out_.message(IPA{to & bit_mask(announced_.oas_bits() - 1, 0)}, sync.get<Sync::MSIData>())) return;
  Due due;
  {
    const SpinLock::Guard guard{lock_};
    report_abort(Irq::cmdq_sync, due);
  }
  send(due);
}

void IrqUnit::quiesce() {
  {
    const SpinLock::Guard guard{lock_};
    registers_.disable_interrupts();
  }
  for (;;) {
    const SpinLock::Guard guard{lock_};
    acknowledge();
    if (registers_.irq_ctrlack().words[0] == 0) return;
  }
}

}  // namespace weir::vsmmu
