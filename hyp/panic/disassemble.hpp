// A64 instructions in words, by Capstone.
#pragma once

#include <cstdint>
#include <span>

namespace weir {

// Opens the disassembler; needs the heap. Without it, disassemble() gives the number in hexadecimal.
void disassembler_init();

// Writes the assembly text of `insn`, as found at `pc`, and a NUL into `text` (cut to fit). Allocates nothing.
void disassemble(std::uint32_t insn, std::uint64_t pc, std::span<char> text);

}  // namespace weir
