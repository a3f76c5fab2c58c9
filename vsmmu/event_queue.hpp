// Writing records into a guest's event queue (IHI 0070, 3.5, 7.2, 7.4).
#pragma once

#include <cstdint>

#include "guest-abi/smmu/event.hpp"
#include "vsmmu/ports.hpp"
#include "vsmmu/register_file.hpp"

namespace weir::vsmmu {

enum class Delivery : std::uint8_t {
  written,
  disabled,    // EVENTQEN == 0, or an unacknowledged EVENTQ_ABT_ERR: discarded
  overflowed,  // full: discarded, OVFLG says so unless the record is of a stalled transaction
  aborted      // the queue is not in RAM: EVENTQ_ABT_ERR
};

struct Delivered {
  Delivery outcome{};
  bool interrupt{};         // the queue was empty: its interrupt is due, if enabled
  bool gerror_interrupt{};  // EVENTQ_ABT_ERR became active: GERROR's is due, if enabled
};

// Records that the queue has room for now; 0 if it is not writable (7.2.1).
[[nodiscard]] unsigned event_room(const RegisterFile& registers, unsigned max_log2);

// Appends `event`. A record of a stalled transaction that cannot be written is not lost, only late (7.2.1, 7.4): the
// caller keeps it, and no overflow is flagged. The caller serialises this with stores to `registers` and raises the interrupts afterwards.
[[nodiscard]] Delivered deliver_event(RegisterFile& registers, GuestMemory& memory, unsigned max_log2,
                                      const smmu::Event& event);

// Records that were meant for the queue have been lost elsewhere: flags an overflow as if they had found it full (7.4). False,
// with nothing changed: the queue is not writable, so the records would have been discarded silently (7.2.1), or an overflow
// is flagged already. Serialised like deliver_event().
[[nodiscard]] bool flag_overflow(RegisterFile& registers);

}  // namespace weir::vsmmu
