#include "hyp/log/log.hpp"

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>

#include "hyp/log/early_console.hpp"
#include "hyp/panic/panic.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir {

namespace {

constexpr std::string_view kPrefix = "weir: ";
constexpr std::size_t kMaxLine = 480;

constinit SpinLock lock;
constinit LogSink sink = early_console_write;

// Whoever panics does not wait for ever: the holder may be stopped, or be itself.
bool lock_for_output() {
  if (!panicked()) {
    lock.lock();
    return true;
  }
  constexpr unsigned kTries = 1'000'000;
  for (unsigned i = 0; i < kTries; ++i) {
    if (lock.try_lock()) return true;
  }
  return false;
}

}  // namespace

void log(const char* format, ...) {
  std::array<char, kMaxLine> line;  // NOLINT: written below
  std::copy(kPrefix.begin(), kPrefix.end(), line.begin());
  std::va_list arguments;
  va_start(arguments, format);
  const int n = std::vsnprintf(line.data() + kPrefix.size(), line.size() - kPrefix.size(), format, arguments);
  va_end(arguments);
  std::size_t length = kPrefix.size() + static_cast<std::size_t>(std::max(n, 0));
  if (length > kMaxLine - 1) {  // one for the newline
    constexpr std::string_view kCut = "...";
    length = kMaxLine - 1;
    std::copy(kCut.begin(), kCut.end(), line.begin() + (length - kCut.size()));
  }
  line[length++] = '\n';

  const bool locked = lock_for_output();
  // A panic prints straight to the UART: whoever holds the sink's locks may be stopped.
  (panicked() ? early_console_write : sink)({line.data(), length});
  if (locked) lock.unlock();
}

LogSink set_log_sink(LogSink to) {
  const SpinLock::Guard guard{lock};
  const LogSink before = sink;
  sink = to;
  return before;
}

}  // namespace weir
