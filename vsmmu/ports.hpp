// What a vSMMU needs from its surroundings besides the physical SMMUs (stage2/port.hpp). hyp/ implements these at EL2,
// tests over plain memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "guest-abi/types.hpp"
#include "stage2/port.hpp"
#include "stage2/table_pages.hpp"

namespace weir::vsmmu {

// The VM's RAM, as the guest's SMMU would reach it. Both calls are bounded by it: false, and nothing is transferred
// that the caller may rely on, if any byte lies outside. Coherent with what the guest sees (IDR0.COHACC is the caller's
// business: clean or invalidate behind this interface).
class GuestMemory {
 public:
  [[nodiscard]] virtual bool read(IPA from, std::span<std::byte> to) = 0;
  [[nodiscard]] virtual bool write(IPA to, std::span<const std::byte> from) = 0;

 protected:
  ~GuestMemory() = default;
};

// The four wired interrupts of an SMMUv3 (IHI 0070, 3.18.2), all edge-triggered.
enum class Irq : std::uint8_t { evtq, priq, cmdq_sync, gerror };

class Interrupts {
 public:
  virtual void raise(Irq irq) = 0;
  // The event of CMD_SYNC with CS == SIG_SEV (4.7.3): wakes whichever of the VM's CPUs waits in WFE.
  virtual void send_event() = 0;
  // A message-signalled interrupt (3.18.1): one aligned 32-bit store, single-copy atomic, of `data` to `to`, which is RAM of the
  // VM or a doorbell. False: an external abort, nothing takes it there.
  [[nodiscard]] virtual bool message(IPA to, std::uint32_t data) = 0;

 protected:
  ~Interrupts() = default;
};

// The physical event queues. A guest's CMD_SYNC promises that earlier fault events of its own are visible (4.7.3).
class EventDrain {
 public:
  // Hands events of this vSMMU's streams that `smmu` has recorded to it (VSmmu::handle_event), oldest first and at most
  // `most`, before it returns. Returns how many: fewer than `most` if none was left. Others' records may wait for the
  // interrupt: their delivery is not this guest's to pay. Called with no lock of the vSMMU held.
  [[nodiscard]] virtual unsigned drain_events(stage2::SmmuPort& smmu, unsigned most) = 0;
  // False: `smmu` has recorded nothing that is not handed over yet, nor is anybody in the middle of handing over. A
  // cheap look, for each SYNC.
  [[nodiscard]] virtual bool events_pending(stage2::SmmuPort&) { return true; }

 protected:
  ~EventDrain() = default;
};

// The two 4 KiB pages that the guest reads without exits. Zero at first; whoever owns them maps them to the guest
// read-only. The vSMMU stores to them, with release order, after the effect that a value announces.
struct RegisterPages {
  static constexpr std::size_t kWords = 1024;
  std::span<std::uint32_t, kWords> page0;
  std::span<std::uint32_t, kWords> page1;
};

// Where a vSMMU in precise mode keeps context descriptors: memory of Weir's that it maps itself, read-only, into the
// domain from `base` on. Nothing of the VM's lies there, and no other vSMMU has the range.
struct HiddenRegion {
  stage2::TablePages* pages = nullptr;  // outlives the vSMMU
  IPA base;                             // aligned to 4 KiB
  std::uint64_t bytes = 0;              // 4 KiB for each 32 streams
};

}  // namespace weir::vsmmu
