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
  overflowed,  // full: discarded, OVFLG says so
  aborted      // the queue is not in RAM: EVENTQ_ABT_ERR
};

struct Delivered {
  Delivery outcome{};
  bool interrupt{};         // the queue was empty: its interrupt is due, if enabled
  bool gerror_interrupt{};  // EVENTQ_ABT_ERR became active: GERROR's is due, if enabled
};

// Appends `event`. The caller serialises this with stores to `registers` and raises the interrupts afterwards.
[[nodiscard]] Delivered deliver_event(RegisterFile& registers, GuestMemory& memory, unsigned max_log2,
                                      const smmu::Event& event);

}  // namespace weir::vsmmu
