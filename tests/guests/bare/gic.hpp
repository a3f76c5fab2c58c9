// GICv3 of one CPU: enough to take SPIs, PPIs and SGIs. interrupts() in exceptions.hpp counts them.
#pragma once

#include <cstdint>

namespace weir::guest::gic {

void init();                  // distributor, the boot CPU's redistributor and CPU interface
void enable(unsigned intid);  // routed to the boot CPU if an SPI
void disable(unsigned intid);
void set_edge(unsigned intid);  // an SPI
void send_sgi(unsigned intid);  // to this CPU

}  // namespace weir::guest::gic
