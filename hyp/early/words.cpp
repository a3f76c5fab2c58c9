#include "hyp/early/words.hpp"

#include "hyp/arch/mmio.hpp"

namespace weir::early {

constinit Uart early_uart{};

namespace {

struct Mmio {  // VA = PA
  std::uint32_t read(std::uint64_t at, unsigned width) {
    auto* const registers = reinterpret_cast<volatile void*>(at);
    return width == 4 ? read32(registers) : width == 2 ? read16(registers) : read8(registers);
  }
  void write(std::uint64_t at, unsigned width, std::uint32_t value) {
    auto* const registers = reinterpret_cast<volatile void*>(at);
    if (width == 4)
      write32(registers, value);
    else if (width == 2)
      write16(registers, static_cast<std::uint16_t>(value));
    else
      write8(registers, static_cast<std::uint8_t>(value));
  }
};

void say_number(std::uint64_t value) {
  if (value >= 10) say_number(value / 10);
  const char digit = static_cast<char>('0' + value % 10);
  write(&digit, 1);
}

// The index of SP_EL0's four vectors, then SP_ELx's, then those of lower exception levels.
void say_vector(std::uint64_t vector) {
  switch (vector % 4) {
    case 0: return say("synchronous exception");
    case 1: return say("IRQ");
    case 2: return say("FIQ");
    default: return say("SError");
  }
}

void say_registers(const PanicFrame& f) {
  say("weir: panic: ESR ");
  say_hex(f.esr);
  say(" FAR ");
  say_hex(f.far);
  say(" PC ");
  say_hex(f.pc);
  say(" SP ");
  say_hex(f.sp);
  say(" PSTATE ");
  say_hex(f.pstate);
  for (unsigned i = 0; i < 31; ++i) {
    say(i % 4 == 0 ? "\nweir: panic: x" : " x");
    say_number(i);
    say(" ");
    say_hex(f.x[i]);
  }
  say("\n");
}

}  // namespace

bool write(const char* text, std::uint64_t length) {
  Mmio bus;
  for (std::uint64_t i = 0; i < length; ++i) {
    if (text[i] == '\n' && !put(early_uart, bus, '\r')) return false;
    if (!put(early_uart, bus, text[i])) return false;
  }
  return true;
}

void say(const char* text) {
  std::uint64_t length = 0;
  while (text[length] != 0) ++length;
  write(text, length);
}

void say_hex(std::uint64_t value) {
  say("0x");
  for (unsigned shift = 64; shift != 0;) {
    shift -= 4;
    const auto nibble = static_cast<unsigned>(value >> shift & 0xf);
    const char digit = static_cast<char>(nibble < 10 ? '0' + nibble : 'a' + (nibble - 10));
    write(&digit, 1);
  }
}

// From head.S: an exception with the MMU off.
extern "C" void early_exception_report(const PanicFrame* f, std::uint64_t vector, std::uint64_t el) {
  say("\nweir: panic: ");
  say_vector(vector);
  say(" at EL");
  say_number(el);
  say(", before the MMU is on\n");
  say_registers(*f);
}

// From vectors.S: an exception that nothing can be said about in the usual way.
extern "C" void minimal_exception_report(const PanicFrame* f, std::uint64_t vector) {
  say("\nweir: panic: ");
  say_vector(vector);
  say(" at EL2, while a panic was being reported or could not be\n");
  say_registers(*f);
}

}  // namespace weir::early
