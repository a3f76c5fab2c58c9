#include "tests/guests/bench/measure.hpp"

#include <algorithm>

#include "tests/guests/bare/report.hpp"

namespace weir::guest {

void Samples::report(std::string_view key, std::uint64_t baseline) const {
  std::array<std::uint64_t, kSamples> sorted = values_;
  const auto end = sorted.begin() + static_cast<std::ptrdiff_t>(count_);
  std::sort(sorted.begin(), end);
  Text<120> text;
  text.put("value ").put(key);
  for (const std::uint64_t v : {sorted[count_ / 2], sorted[0], sorted[count_ - 1]}) {
    text.put(' ').dec(v > baseline ? v - baseline : 0);
  }
  text.put(' ').dec(window_);
  say(text.view());
}

void report(std::string_view key, std::uint64_t value) {
  Samples one;
  one.add(value);
  one.report(key, 0);
}

}  // namespace weir::guest
