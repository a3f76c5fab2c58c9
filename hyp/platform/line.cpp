#include "hyp/platform/line.hpp"

#include <array>

#include "guest-abi/text.hpp"

namespace weir::dt {

Line& Line::operator<<(std::string_view text) {
  for (const char c : text) {
    if (length_ == kMax) {
      for (std::size_t i = kMax - 3; i < kMax; ++i) text_[i] = '.';
      break;
    }
    text_[length_++] = c >= ' ' && c <= '~' ? c : '?';
  }
  return *this;
}

Line& Line::decimal(std::uint64_t number) {
  std::array<char, 20> digits;
  return *this << TextBuffer{digits}.dec(number).view();
}

Line& Line::hex(std::uint64_t number) {
  std::array<char, 18> digits;
  return *this << TextBuffer{digits}.hex(number).view();
}

}  // namespace weir::dt
