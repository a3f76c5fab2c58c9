// The log on the host: standard output; a panic ends the test program.
#include "hyp/log/log.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace weir {

void log(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::puts("");
}

void panic(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::abort();
}

}  // namespace weir
