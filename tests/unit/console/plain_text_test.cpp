#include "hyp/console/plain_text.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace weir {
namespace {

// Line ends are shown as "|".
std::string plain(std::string_view bytes) {
  PlainText filter;
  std::string out;
  for (const char c : bytes) {
    const PlainText::Piece piece = filter.feed(c);
    if (piece.line == PlainText::Break::before) out += '|';
    out += piece.view();
    if (piece.line == PlainText::Break::after) out += '|';
  }
  return out;
}

TEST(PlainTextTest, PrintableTextPasses) {
  EXPECT_EQ(plain("hello ~ world\t!"), "hello ~ world\t!");
  EXPECT_EQ(plain("Grüße, 水, 😀"), "Grüße, 水, 😀");
}

TEST(PlainTextTest, ControlCharactersAreShown) {
  EXPECT_EQ(plain("\x1b[2J"), "^[[2J");
  EXPECT_EQ(plain({"\0\a\b\v\f\x7f", 6}), "^@^G^H^K^L^?");
}

TEST(PlainTextTest, LinesEndWithLf) { EXPECT_EQ(plain("a\nb\r\nc\r\r\n\n"), "a|b|c||"); }

TEST(PlainTextTest, AReturnDoesNotGoBackInTheLine) {
  EXPECT_EQ(plain("10 %\r20 %\r\n"), "10 %|20 %|");
  EXPECT_EQ(plain("a\r\rb"), "a|b");
  EXPECT_EQ(plain("a\r"), "a") << "an LF may follow";
  EXPECT_EQ(plain("a\r\x1bM"), "a|^[M");
}

TEST(PlainTextTest, C1ControlsDoNotPassInEitherForm) {
  EXPECT_EQ(plain("\x9b"
                  "2J"),
            "<9b>2J");  // as one byte, CSI
  EXPECT_EQ(plain("\xc2\x9b"
                  "2J"),
            "<c2><9b>2J");                   // as UTF-8
  EXPECT_EQ(plain("\xc2\xa0"), "\xc2\xa0");  // the first that is none
}

TEST(PlainTextTest, WritingDirectionAndSeparatorsDoNotPass) {
  EXPECT_EQ(plain("\u202e"
                  "x\u2066\u2028"),
            "<e2><80><ae>x<e2><81><a6><e2><80><a8>");
  EXPECT_EQ(plain("\u2027\u202f"), "\u2027\u202f");  // beside the range
}

TEST(PlainTextTest, WhatIsNotUtf8IsShownByteByByte) {
  EXPECT_EQ(plain("\xff\xc0\xaf"), "<ff><c0><af>");            // overlong
  EXPECT_EQ(plain("\xe0\x80\xaf"), "<e0><80><af>");            // overlong, in three bytes
  EXPECT_EQ(plain("\xf0\x80\x80\x8a"), "<f0><80><80><8a>");    // an LF in four
  EXPECT_EQ(plain("\xed\xa0\x80"), "<ed><a0><80>");            // a surrogate
  EXPECT_EQ(plain("\xf4\x90\x80\x80"), "<f4><90><80><80>");    // beyond U+10FFFF
  EXPECT_EQ(plain("\xf0\x9f\x98x"), "<f0><9f><98>x");          // broken off
  EXPECT_EQ(plain("\xf0\x9f\x98\xff"), "<f0><9f><98><ff>");    // the longest piece
  EXPECT_EQ(plain("\xe2\x82\xe2\x82\xac"), "<e2><82>\u20ac");  // and begun anew
  EXPECT_EQ(plain("\xe2\x82\nx"), "<e2><82>|x") << "belongs to the line that ends";
  EXPECT_EQ(plain("\xe2\x82\rx"), "<e2><82>|x");
}

TEST(PlainTextTest, NothingThatSteersATerminalGetsThrough) {
  std::mt19937 random{1};
  for (unsigned round = 0; round < 20'000; ++round) {
    std::string bytes;
    for (unsigned i = 0; i < 24; ++i) bytes += static_cast<char>(random());
    const std::string out = plain(bytes);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto byte = static_cast<unsigned char>(out[i]);
      ASSERT_TRUE(byte == '\t' || (byte >= ' ' && byte != 0x7f));
      const bool starts_c1 = byte == 0xc2 && i + 1 < out.size() && static_cast<unsigned char>(out[i + 1]) < 0xa0;
      ASSERT_FALSE(starts_c1);
    }
    ASSERT_EQ(plain(out), out) << "what was made plain is plain";
  }
}

}  // namespace
}  // namespace weir
