// Text that cannot steer a terminal, made from what a guest writes to its console. Portable.
//
// Passed: printable ASCII, TAB, and well-formed UTF-8 of printable characters. Shown instead of being passed: C0 controls
// and DEL as ^X, everything else (C1 controls, line separators, changes of writing direction, bytes that are not UTF-8)
// as <xx> for each byte. A line ends with LF; CRs before it are dropped, and any other CR counts as the end of a line.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace weir {

class PlainText {
 public:
  enum class Break : std::uint8_t {
    none,
    before,  // a CR ended the line, and the text belongs to the next
    after    // the line ends with the text
  };
  // What one more byte of a guest's output comes to. A character of UTF-8 comes whole, with its last byte.
  struct Piece {
    std::array<char, 16> text{};
    unsigned bytes = 0;
    Break line = Break::none;
    [[nodiscard]] std::string_view view() const { return {text.data(), bytes}; }
  };
  [[nodiscard]] Piece feed(char c);

 private:
  void put(Piece& to, std::string_view text);
  void show(Piece& to, std::uint8_t byte);
  void give_up(Piece& to);  // on an unfinished character
  void continued(Piece& to, std::uint8_t byte);

  std::array<std::uint8_t, 4> held_{};  // the bytes of an unfinished character
  std::uint8_t have_ = 0;
  std::uint8_t need_ = 0;
  bool return_ = false;  // the last byte was a CR
};

}  // namespace weir
