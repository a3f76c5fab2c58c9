#include "hyp/console/physical_uart.hpp"

#include "hyp/arch/mmio.hpp"

namespace weir {

using namespace pl011;

void PhysicalUart::put(char c) {
  while (Flags{{{read32(at(Reg::FR))}}}.get<Flags::TXFF>()) {
  }
  write32(at(Reg::DR), static_cast<unsigned char>(c));
}

bool PhysicalUart::get(char& c) {
  if (Flags{{{read32(at(Reg::FR))}}}.get<Flags::RXFE>()) return false;
  c = static_cast<char>(read32(at(Reg::DR)));
  return true;
}

void PhysicalUart::enable_receive_interrupt() {
  LineControl line{{{read32(at(Reg::LCR_H))}}};
  write32(at(Reg::LCR_H), line.set<LineControl::FEN>(true).words[0]);
  Control control{{{read32(at(Reg::CR))}}};
  control.set<Control::UARTEN>(true).set<Control::TXE>(true).set<Control::RXE>(true);
  write32(at(Reg::CR), control.words[0]);
  write32(at(Reg::IMSC), Interrupts{}.set<Interrupts::RX>(true).set<Interrupts::RT>(true).words[0]);
}

}  // namespace weir
