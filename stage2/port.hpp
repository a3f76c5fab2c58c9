// The port through which stage2/ and vsmmu/ see one physical SMMUv3. The driver (hyp/smmu) implements it at EL2, the
// tests implement it over fakes and over the software model.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "guest-abi/smmu/ste.hpp"
#include "guest-abi/types.hpp"

namespace weir::stage2 {

enum class Error : std::uint8_t {
  out_of_memory,
  no_free_vmid,    // the instance has no VMID left
  no_such_stream,  // StreamID outside of the instance's stream table
  not_mapped,
  already_mapped,
  misaligned,
  out_of_range,  // address beyond the domain's input or output size
  live_block,    // would break a live block under DMA below BBML 1
  incompatible,  // the instance cannot join; see Incompatibility
  shared,        // the range belongs to the table that shares its root with this one
  no_answer,     // ATS for a device that does not answer invalidations; see SmmuPort::atc_answers
};

// What one instance can do: its ID registers, after known errata were applied (IHI 0070, 6.3.1 to 6.3.7). IDR1.EVENTQS is
// the size that its event queue has, not the largest that it could have.
struct Capabilities {
  smmu::IDR0 idr0;
  smmu::IDR1 idr1;
  smmu::IDR3 idr3;
  smmu::IDR5 idr5;
};

// A position in an instance's command stream; grows for ever. Ticket t is complete when every command before t, ended
// by a CMD_SYNC, has taken effect; ticket 0 is from the beginning.
using Ticket = std::uint64_t;

class VmidAllocator;

class SmmuPort {
 public:
  // Position in the platform's list of instances, from 0.
  [[nodiscard]] virtual unsigned index() const = 0;
  // For messages: the devicetree's node name, for example "smmuv3@c020000".
  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual const Capabilities& capabilities() const = 0;
  [[nodiscard]] virtual VmidAllocator& vmids() = 0;

  // Appends `commands` in order (none is a CMD_SYNC), and after them one CMD_SYNC; one store of CMDQ_PROD for as much
  // as fits at once. Waits for room if the queue is full. Returns the ticket of that SYNC. Callable from any pCPU.
  virtual Ticket issue_and_sync(std::span<const smmu::Command> commands) = 0;
  // The same without the SYNC: nothing is known to be complete until a later SYNC of the same instance is.
  virtual void issue(std::span<const smmu::Command> commands) = 0;
  // True once the SYNC of `ticket` has completed; never blocks, takes no lock for long.
  [[nodiscard]] virtual bool completed(Ticket ticket) = 0;

  // Replaces the STE of `sid` (allocating its second-level stream table if need be), hitless where the architecture
  // allows it, each step invalidated and SYNCed (CFGI_STE); complete on return. Errors: no_such_stream, out_of_memory.
  [[nodiscard]] virtual std::expected<void, Error> install_ste(StreamID sid, const smmu::Ste& ste) = 0;

  // False from before the SYNC behind an ATC_INV of `sid` that timed out completes, until the stream has a new owner: the
  // device may go on using what it was to forget (3.9.1.4).
  [[nodiscard]] virtual bool atc_answers(StreamID sid) = 0;

 protected:
  ~SmmuPort() = default;
};

// Waits for one ticket. To wait for several instances, issue to all first, then wait for each.
[[gnu::noinline]] inline void wait_longer(SmmuPort& smmu, Ticket ticket) {
  while (!smmu.completed(ticket)) {
  }
}
inline void wait(SmmuPort& smmu, Ticket ticket) {
  if (!smmu.completed(ticket)) [[unlikely]]
    wait_longer(smmu, ticket);
}

}  // namespace weir::stage2
