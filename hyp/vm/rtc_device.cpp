#include "hyp/vm/rtc_device.hpp"

#include "hyp/gic/vgic.hpp"
#include "hyp/machine/tick.hpp"
#include "hyp/machine/wall_clock.hpp"
#include "hyp/vm/vm.hpp"

namespace weir {

// A VM has this device only where there is a time of day.
std::uint32_t RtcDevice::now() { return wall_clock().value_or(0); }
void RtcDevice::set_interrupt(bool level) { vm_.vgic->set_level(guest_map::kRtcIntid, level); }
void RtcDevice::want_tick() { machine_want_tick(); }

}  // namespace weir
