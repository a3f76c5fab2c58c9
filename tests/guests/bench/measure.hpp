// Counts what a trapped access costs. Under QEMU's -icount shift=0 the counter ticks once for each instruction, at whatever
// exception level, so the difference of two readings is exact and the same from run to run.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace weir::guest {

inline constexpr unsigned kSamples = 16;

// Each of these opens and closes a window of tests/bench/count.c, too. How many there were:
inline unsigned windows = 0;

// Ticks from before the store of `value` to `at` until after it.
[[nodiscard]] inline std::uint64_t ticks_of_store(std::uint64_t at, std::uint32_t value) {
  std::uint64_t before, after;
  asm volatile("dsb sy\n isb\n hint #120\n mrs %0, cntvct_el0\n str %w2, [%3]\n mrs %1, cntvct_el0\n hint #121"
               : "=&r"(before), "=&r"(after)
               : "r"(value), "r"(at)
               : "memory");
  ++windows;
  return after - before;
}
// The same of a load.
[[nodiscard]] inline std::uint64_t ticks_of_load(std::uint64_t at) {
  std::uint64_t before, after, value;
  asm volatile("dsb sy\n isb\n hint #120\n mrs %0, cntvct_el0\n ldr %w2, [%3]\n mrs %1, cntvct_el0\n hint #121"
               : "=&r"(before), "=&r"(after), "=&r"(value)
               : "r"(at)
               : "memory");
  ++windows;
  return after - before;
}

// The same of a hypercall with two arguments; what it returns in X0 goes to `result`.
[[nodiscard]] inline std::uint64_t ticks_of_call(std::uint32_t function, std::uint64_t a, std::uint64_t b,
                                                 std::int64_t& result) {
  register std::uint64_t x0 asm("x0") = function;
  register std::uint64_t x1 asm("x1") = a;
  register std::uint64_t x2 asm("x2") = b;
  register std::uint64_t before asm("x19") = 0;
  register std::uint64_t after asm("x20") = 0;
  asm volatile("dsb sy\n isb\n hint #120\n mrs %0, cntvct_el0\n hvc #0\n mrs %1, cntvct_el0\n hint #121"
               : "=&r"(before), "=&r"(after), "+r"(x0), "+r"(x1), "+r"(x2)
               :
               : "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
                 "memory");
  result = static_cast<std::int64_t>(x0);
  ++windows;
  return after - before;
}

// Samples of one measurement.
class Samples {
 public:
  // The ticks of the window that was closed last.
  void add(std::uint64_t ticks) {
    if (count_ < values_.size()) values_[count_++] = {ticks, windows - 1};
  }
  // "value KEY MEDIAN LEAST MOST WINDOW", `baseline` taken off each; the window of the median.
  void report(std::string_view key, std::uint64_t baseline) const;

 private:
  struct Sample {
    std::uint64_t ticks = 0;
    unsigned window = 0;
  };
  std::array<Sample, kSamples> values_{};
  std::size_t count_ = 0;
};

// A line "value KEY V V V 0" of something that is not sampled.
void report(std::string_view key, std::uint64_t value);

}  // namespace weir::guest
