#include "hyp/log/early_console.hpp"

#include "hyp/console/physical_uart.hpp"

namespace weir {

namespace {

constinit PhysicalUart uart;
constinit bool present = false;

}  // namespace

void early_console_init(void* registers) {
  uart = PhysicalUart{registers};
  present = true;
}

void early_console_write(std::string_view text) {
  if (!present) return;
  for (const char c : text) {
    if (c == '\n') uart.put('\r');
    uart.put(c);
  }
}

}  // namespace weir
