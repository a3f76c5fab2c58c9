#include "hyp/console/plain_text.hpp"

#include <algorithm>

namespace weir {
namespace {

constexpr std::uint8_t kEscapeAs = 0x40;  // ^X stands for X - 0x40, and ^? for DEL
constexpr std::uint8_t kDelete = 0x7f;
constexpr std::uint8_t kContinuation = 0x80, kContinuationMask = 0xc0;

// The number of bytes of the character that this byte begins (Unicode, table 3-7); 0: it begins none.
constexpr std::uint8_t length_of(std::uint8_t first) {
  if (first >= 0xc2 && first <= 0xdf) return 2;
  if (first >= 0xe0 && first <= 0xef) return 3;
  if (first >= 0xf0 && first <= 0xf4) return 4;
  return 0;
}

// Code points that move the cursor, end a line, or change the direction of what stands beside them.
constexpr bool is_control(std::uint32_t code) {
  struct Range {
    std::uint32_t first, last;
  };
  constexpr std::array<Range, 6> kControls = {{{0x80, 0x9f},          // C1
                                               {0x061c, 0x061c},      // Arabic letter mark
                                               {0x200e, 0x200f},      // left-to-right and right-to-left marks
                                               {0x2028, 0x202e},      // separators of lines, embeddings and overrides
                                               {0x2066, 0x2069},      // isolates
                                               {0xe0000, 0xe0fff}}};  // tags, which are invisible
  return std::ranges::any_of(kControls, [code](Range r) { return code >= r.first && code <= r.last; });
}

}  // namespace

void PlainText::put(Piece& to, std::string_view text) {
  for (const char c : text) to.text[to.bytes++] = c;
}

void PlainText::show(Piece& to, std::uint8_t byte) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  if (byte < kContinuation) {
    const char caret[] = {'^', static_cast<char>(byte ^ kEscapeAs)};
    return put(to, {caret, sizeof caret});
  }
  const char hex[] = {'<', kDigits[byte >> 4], kDigits[byte & 0xf], '>'};
  put(to, {hex, sizeof hex});
}

// At most three bytes are held, so that with the byte after them no Piece overflows.
void PlainText::give_up(Piece& to) {
  for (unsigned i = 0; i < have_; ++i) show(to, held_[i]);
  have_ = need_ = 0;
}

void PlainText::continued(Piece& to, std::uint8_t byte) {
  held_[have_++] = byte;
  if (have_ < need_) return;
  constexpr std::array<std::uint8_t, 5> kFirstBits = {0, 0, 0x1f, 0x0f, 0x07};
  constexpr std::array<std::uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x1'0000};
  std::uint32_t code = held_[0] & kFirstBits[need_];
  for (unsigned i = 1; i < need_; ++i) code = code << 6 | (held_[i] & 0x3fU);
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  if (code < kLeast[need_] || code > 0x10'ffff || surrogate || is_control(code)) return give_up(to);
  for (unsigned i = 0; i < have_; ++i) to.text[to.bytes++] = static_cast<char>(held_[i]);
  have_ = need_ = 0;
}

PlainText::Piece PlainText::feed(char c) {
  Piece piece;
  const auto byte = static_cast<std::uint8_t>(c);
  if (need_ != 0 && (byte & kContinuationMask) == kContinuation) {
    continued(piece, byte);
    return piece;
  }
  give_up(piece);
  if (c == '\n') piece.line = Break::after;
  if (c != '\n' && c != '\r' && return_) piece.line = Break::before;
  return_ = c == '\r';
  if (c == '\n' || c == '\r') return piece;
  if (c == '\t' || (byte >= ' ' && byte < kDelete)) {
    put(piece, {&c, 1});
  } else if ((need_ = length_of(byte)) != 0) {
    held_[have_++] = byte;
  } else {
    show(piece, byte);
  }
  return piece;
}

}  // namespace weir
