// The PL011 UART's registers (Arm DDI 0183), for the physical one and the virtual ones.
#pragma once

#include <cstdint>

#include "guest-abi/field.hpp"

namespace weir::pl011 {

enum class Reg : std::uint32_t {
  DR = 0x000,
  RSR = 0x004,  // ECR when written
  FR = 0x018,
  ILPR = 0x020,
  IBRD = 0x024,
  FBRD = 0x028,
  LCR_H = 0x02c,
  CR = 0x030,
  IFLS = 0x034,
  IMSC = 0x038,
  RIS = 0x03c,
  MIS = 0x040,
  ICR = 0x044,
  DMACR = 0x048,
  PeriphID0 = 0xfe0  // eight bytes of identification, one every four
};

inline constexpr unsigned kFifo = 16;

struct Flags : Record<Flags, 32> {  // FR
  using CTS = Field<"CTS", 0, 0, bool>;
  using BUSY = Field<"BUSY", 3, 3, bool>;
  using RXFE = Field<"RXFE", 4, 4, bool>;
  using TXFF = Field<"TXFF", 5, 5, bool>;
  using RXFF = Field<"RXFF", 6, 6, bool>;
  using TXFE = Field<"TXFE", 7, 7, bool>;
  using Layout = weir::Layout<32, CTS, Ignored<2, 1>, BUSY, RXFE, TXFF, RXFF, TXFE, Ignored<31, 8>>;
};

struct LineControl : Record<LineControl, 32> {  // LCR_H
  using FEN = Field<"FEN", 4, 4, bool>;
  using WLEN = Field<"WLEN", 6, 5>;
  using Layout = weir::Layout<32, Ignored<3, 0>, FEN, WLEN, Ignored<7, 7>, Res0<31, 8>>;
};

struct Control : Record<Control, 32> {  // CR
  using UARTEN = Field<"UARTEN", 0, 0, bool>;
  using TXE = Field<"TXE", 8, 8, bool>;
  using RXE = Field<"RXE", 9, 9, bool>;
  using Layout = weir::Layout<32, UARTEN, Ignored<7, 1>, TXE, RXE, Ignored<15, 10>, Res0<31, 16>>;
};

struct FifoLevels : Record<FifoLevels, 32> {  // IFLS
  using TX = Field<"TXIFLSEL", 2, 0, unsigned>;
  using RX = Field<"RXIFLSEL", 5, 3, unsigned>;
  using Layout = weir::Layout<32, TX, RX, Res0<31, 6>>;
};

struct Interrupts : Record<Interrupts, 32> {  // IMSC, RIS, MIS, ICR
  using RX = Field<"RX", 4, 4, bool>;
  using TX = Field<"TX", 5, 5, bool>;
  using RT = Field<"RT", 6, 6, bool>;  // received, but fewer than the trigger level
  using OE = Field<"OE", 10, 10, bool>;
  using Layout = weir::Layout<32, Ignored<3, 0>, RX, TX, RT, Ignored<9, 7>, OE, Res0<31, 11>>;
};

}  // namespace weir::pl011
