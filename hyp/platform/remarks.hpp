// What the discovery found odd and went on without, a line each. Bounded: what does not fit is only counted.
#pragma once

#include <span>

#include "hyp/platform/line.hpp"
#include "hyp/platform/static_vector.hpp"

namespace weir {

class Remarks {
 public:
  static constexpr std::size_t kMax = 24;

  void add(const dt::Line& line) {
    if (!lines_.push_back(line)) ++more_;
  }
  [[nodiscard]] std::span<const dt::Line> lines() const { return {lines_.data(), lines_.size()}; }
  [[nodiscard]] unsigned more() const { return more_; }  // that had no room

 private:
  StaticVector<dt::Line, kMax> lines_;
  unsigned more_{};
};

}  // namespace weir
