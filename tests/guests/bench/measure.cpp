#include "tests/guests/bench/measure.hpp"

#include <algorithm>

#include "tests/guests/bare/report.hpp"

namespace weir::guest {

void Samples::report(std::string_view key, std::uint64_t baseline) const {
  std::array<Sample, kSamples> sorted = values_;
  const auto end = sorted.begin() + static_cast<std::ptrdiff_t>(count_);
  std::sort(sorted.begin(), end, [](const Sample& a, const Sample& b) { return a.ticks < b.ticks; });
  const Sample& median = sorted[count_ / 2];
  Text<120> text;
  text.put("value ").put(key);
  for (const Sample& s : {median, sorted[0], sorted[count_ - 1]})
    text.put(' ').dec(s.ticks > baseline ? s.ticks - baseline : 0);
  text.put(' ').dec(median.window);
  say(text.view());
}

void report(std::string_view key, std::uint64_t value) {
  Text<120> text;
  text.put("value ").put(key);
  for (unsigned i = 0; i < 3; ++i) text.put(' ').dec(value);
  say(text.put(" 0").view());
}

}  // namespace weir::guest
