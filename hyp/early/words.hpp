// The last words of Weir when it cannot go on, and how they reach a UART: with the MMU off or on, at any exception level,
// without heap, locks, libc, thread-locals or anything else that has to be there first.
//
// All of hyp/early is compiled for strictly aligned accesses and by itself (no link-time optimisation); the Makefile checks
// that it calls nothing outside.
#pragma once

#include <cstdint>

#include "hyp/early/uart.hpp"
#include "hyp/panic/frame.hpp"

namespace weir::early {

// Found by early_start() with the MMU off, not changed afterwards; mapped one to one from the first tables on. Kind none:
// there is no UART.
[[gnu::visibility("hidden")]] extern constinit Uart early_uart;

// Writes `text`; newlines become CR LF. Returns false, and writes the rest to nowhere, if the UART takes nothing.
bool write(const char* text, std::uint64_t length);

// Pieces of a line; `text` ends with NUL.
void say(const char* text);
void say_hex(std::uint64_t value);

}  // namespace weir::early
