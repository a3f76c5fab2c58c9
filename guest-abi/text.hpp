// Text into a caller's buffer: no heap, no locale, no snprintf. What does not fit is cut off, and truncated() says so.
//
//   std::array<char, 80> space;
//   TextBuffer text{space};
//   text.put("vm ").dec(3).put(" faulted at ").hex(0x1000);
//   uart.write(text.view());
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace weir {

class TextBuffer {
 public:
  constexpr explicit TextBuffer(std::span<char> space) : space_{space} {}

  constexpr TextBuffer& put(char c) {
    if (size_ < space_.size()) {
      space_[size_++] = c;
    } else {
      truncated_ = true;
    }
    return *this;
  }
  constexpr TextBuffer& put(std::string_view s) {
    const std::size_t n = std::min(s.size(), space_.size() - size_);
    for (std::size_t i = 0; i < n; ++i) space_[size_ + i] = s[i];
    size_ += n;
    truncated_ = truncated_ || n < s.size();
    return *this;
  }
  constexpr TextBuffer& put(const char* s) { return put(std::string_view{s}); }
  // Appends `c` until the text has `column` characters.
  constexpr TextBuffer& pad_to(std::size_t column, char c = ' ') {
    while (size_ < std::min(column, space_.size())) put(c);
    return *this;
  }

  constexpr TextBuffer& dec(std::uint64_t v) { return number(v, 10, 1); }
  constexpr TextBuffer& dec_signed(std::int64_t v) {
    if (v < 0) put('-');
    return dec(v < 0 ? ~static_cast<std::uint64_t>(v) + 1 : static_cast<std::uint64_t>(v));
  }
  // 0x..., with at least `digits` digits.
  constexpr TextBuffer& hex(std::uint64_t v, unsigned digits = 1) { return put("0x").number(v, 16, digits); }
  // Without the 0x.
  constexpr TextBuffer& hex_digits(std::uint64_t v, unsigned digits = 1) { return number(v, 16, digits); }

  [[nodiscard]] constexpr std::string_view view() const { return {space_.data(), size_}; }
  [[nodiscard]] constexpr std::size_t size() const { return size_; }
  [[nodiscard]] constexpr bool truncated() const { return truncated_; }
  constexpr void clear() {
    size_ = 0;
    truncated_ = false;
  }

 private:
  constexpr TextBuffer& number(std::uint64_t v, unsigned base, unsigned digits) {
    std::array<char, 20> reversed{};
    unsigned n = 0;
    for (; v != 0; v /= base) reversed[n++] = "0123456789abcdef"[v % base];
    for (unsigned i = n; i < digits; ++i) put('0');
    while (n != 0) put(reversed[--n]);
    return *this;
  }

  std::span<char> space_;
  std::size_t size_{};
  bool truncated_{};
};

// A TextBuffer with its own N bytes.
template <std::size_t N>
class Text : public TextBuffer {
 public:
  constexpr Text() : TextBuffer{chars_} {}
  Text(const Text&) = delete;
  Text& operator=(const Text&) = delete;

 private:
  std::array<char, N> chars_{};
};

}  // namespace weir
