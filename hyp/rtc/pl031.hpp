// The PL031 real time clock's registers (Arm DDI 0224), for the physical one and the virtual ones.
#pragma once

#include <cstdint>

#include "guest-abi/field.hpp"

namespace weir::pl031 {

enum class Reg : std::uint32_t {
  DR = 0x000,  // seconds since 1970-01-01
  MR = 0x004,  // when to interrupt
  LR = 0x008,  // sets DR
  CR = 0x00c,  // bit 0: running; once on, on until reset
  IMSC = 0x010,
  RIS = 0x014,
  MIS = 0x018,
  ICR = 0x01c,
  PeriphID0 = 0xfe0  // eight bytes of identification, one every four
};

struct Interrupts : Record<Interrupts, 32> {  // IMSC, RIS, MIS, ICR
  using RTC = Field<"RTC", 0, 0, bool>;       // DR has reached MR
  using Layout = weir::Layout<32, RTC, Res0<31, 1>>;
};

}  // namespace weir::pl031
