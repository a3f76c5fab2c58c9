// Where all interrupts of a vSMMU come from: wired, by MSI, or both (IHI 0070, 3.18, 4.7.3, 6.3.16, 7.5.1).
//
// An occurrence is noted in a Due while the register lock is held, and send() carries it out without the lock. In
// between it counts as under way: IRQ_CTRLACK shows a disabled source as 0 only when nothing of it is under way, so no
// interrupt follows that, and the source's IRQ_CFG registers cannot change before it was sent.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "guest-abi/types.hpp"
#include "stage2/support/spinlock.hpp"
#include "vsmmu/announced.hpp"
#include "vsmmu/ports.hpp"
#include "vsmmu/register_file.hpp"

namespace weir::vsmmu {

class IrqUnit {
 public:
  // The sources that IRQ_CTRL enables: the event queue, the PRI queue and global errors.
  static constexpr std::size_t kSources = 3;

  // What one section under the lock has made due. Whoever fills it passes it to send(), or IRQ_CTRLACK waits for ever.
  class Due {
   public:
    [[nodiscard]] bool empty() const;

   private:
    friend class IrqUnit;
    struct Message {
      IPA to;
      std::uint32_t data{};
    };
    struct Entry {
      bool pending{};
      std::optional<Message> msi;
    };
    std::array<Entry, kSources> entries_;
  };

  // `lock` is the one under which `registers` change.
  IrqUnit(const Announced& announced, RegisterFile& registers, SpinLock& lock, Interrupts& out)
      : announced_{announced}, registers_{registers}, lock_{lock}, out_{out} {}

  // --- With the lock held ---

  // Something happened for which `source` (not cmdq_sync) interrupts, if it is enabled now.
  void signal(Irq source, Due& due);
  // Makes a global error active, with its interrupt. Nothing happens if it is active already.
  template <typename ErrorBit>
  void activate(Due& due) {
    if (!registers_.activate<ErrorBit>()) return;
    // A GERROR MSI that aborted is not announced by another one (7.5.1).
    if constexpr (!std::is_same_v<ErrorBit, smmu::GERROR::MSI_GERROR_ABT_ERR>) signal(Irq::gerror, due);
  }
  // IRQ_CTRL was stored to.
  void acknowledge();

  // --- Without the lock ---

  // Raises and sends all of `due`, which is empty afterwards. An MSI that aborts becomes MSI_*_ABT_ERR.
  void send(Due& due);
  // The completion signal of `sync`, which the guest must already see as consumed. MSIs of CMD_SYNCs are complete, or
  // their abort is visible, on return: the caller does not complete the next one before that.
  void sync_completed(smmu::Sync sync) {
    if (sync.get<smmu::Sync::CS>() != smmu::SyncSignal::none) signal_sync(sync);
  }
  // The command queue was full, and is no longer (4.1.2).
  void queue_has_room() { out_.send_event(); }
  // Disables all sources and waits for what is under way.
  void quiesce();

 private:
  static constexpr std::array<Irq, kSources> kOrder{Irq::evtq, Irq::priq, Irq::gerror};
  [[nodiscard]] static std::size_t slot(Irq source);
  [[nodiscard]] bool enabled(Irq source) const;
  void report_abort(Irq source, Due& due);
  void signal_sync(smmu::Sync sync);

  const Announced& announced_;
  RegisterFile& registers_;
  SpinLock& lock_;
  Interrupts& out_;
  std::array<unsigned, kSources> under_way_{};  // under lock_
};

}  // namespace weir::vsmmu
