// One line of output at a time. `log` puts "weir: " in front and the newline behind; a line longer than 480 bytes is cut
// and ends in "...". Callable from any pCPU, before the heap exists, and with any lock held except a sink's own.
#pragma once

#include <string_view>

namespace weir {

[[gnu::format(printf, 1, 2)]] void log(const char* format, ...);

// Prints "weir: panic: " and the message, registers and a backtrace; stops the machine with a failure status.
[[noreturn, gnu::format(printf, 1, 2)]] void panic(const char* format, ...);

// Where whole lines go (each with its newline). Called under the log's lock. Until it is set, lines go to the early
// console, if there is one. Returns the sink that was in place.
using LogSink = void (*)(std::string_view line);
LogSink set_log_sink(LogSink sink);

}  // namespace weir
