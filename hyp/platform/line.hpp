// Text of one line, built piece by piece in place; what does not fit is cut off and replaced by "...". Devicetrees are
// not trusted: whatever is not printable ASCII becomes '?', so the text stays one line.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace weir::dt {

class Line {
 public:
  static constexpr std::size_t kMax = 400;

  [[nodiscard]] const char* c_str() const { return text_; }
  [[nodiscard]] std::string_view view() const { return {text_, length_}; }

  Line& operator<<(std::string_view text);
  Line& operator<<(const char* text) { return *this << std::string_view{text}; }
  Line& operator<<(std::unsigned_integral auto number) { return decimal(number); }
  Line& hex(std::uint64_t number);  // with 0x

 private:
  Line& decimal(std::uint64_t number);

  std::size_t length_{};
  char text_[kMax + 1]{};
};

}  // namespace weir::dt
