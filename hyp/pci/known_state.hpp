// The state in which a function waits for an owner, whatever firmware or an owner before has left in it.
#pragma once

#include "hyp/pci/config.hpp"

namespace weir::pci {

// Afterwards the function is in D0 and does nothing of its own accord: no decoding, no DMA, no interrupts or
// messages, no expansion ROM, no virtual functions, no Requester ID but its own (phantom functions), no transaction
// that stage 2 or the order of the other functions does not cover (No Snoop, AtomicOps, ID-based ordering, steering
// tags, multicast). A bridge forwards nothing: its bus numbers are 0 and its windows closed.
//
// What belongs to the path and says nothing about isolation stays as firmware found it to work: Relaxed Ordering,
// Max_Payload_Size, Max_Read_Request_Size, Extended and 10-bit tags, the completion timeout, link and slot. The
// function's BARs stay, too. Takes up to 200 ms, where a bridge has to wake up.
void bring_to_known_state(ConfigPort& config, Rid rid);

// Turns PRI, ATS and PASID off, in this order: none of them may change under one that is built on it. DMA comes first.
void disable_translation_services(ConfigPort& config, Rid rid);

// Is it a bridge that forwards, with a header of type 1?
[[nodiscard]] bool is_bridge(ConfigPort& config, Rid rid);

}  // namespace weir::pci
