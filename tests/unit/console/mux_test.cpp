#include "hyp/console/mux.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>

namespace weir {
namespace {

struct Terminal final : MuxPort {
  std::string text;
  void put(char c) override { text += c; }
};

struct MuxTest : testing::Test {
  using Action = ConsoleMux::Action;
  void say(unsigned vm, std::string_view text) {
    for (const char c : text) mux.vm_output(vm, c);
  }
  std::string heard(unsigned vm) {
    std::string s;
    for (char c; mux.next(vm, c);) s += c;
    return s;
  }
  Action command(char c) {
    EXPECT_EQ(mux.typed(ConsoleMux::kHotKey), Action::none);
    return mux.typed(c);
  }
  std::string shown() { return std::exchange(terminal.text, {}); }
  Terminal terminal;
  std::unique_ptr<ConsoleMux::Storage> storage = std::make_unique<ConsoleMux::Storage>();
  ConsoleMux mux{terminal, *storage};
};

TEST_F(MuxTest, LinesOfASingleVmAreToldApartToo) {
  mux.add("a");
  say(0, "hello\r\nlogin: ");
  EXPECT_EQ(shown(), "a| hello\r\na| login: ") << "prompts show at once";
  mux.weir_line("weir: x\n");
  EXPECT_EQ(shown(), "\r\nweir: x\r\n");
  say(0, "root\n\n");
  EXPECT_EQ(shown(), "a| login: root\r\na| \r\n") << "what goes on behind a line of Weir's is whole again";
  say(0, "half");
  mux.weir_line("weir: y\n");
  say(0, "\n");
  EXPECT_EQ(shown(), "a| half\r\nweir: y\r\na| half\r\n");
}

TEST_F(MuxTest, SeveralVmsAreToldApart) {
  mux.add("a");
  mux.add("b");
  say(0, "one");
  say(1, "two\r\n");
  say(1, "thr");
  say(0, "four\r\n");
  say(1, "ee\r\n");
  EXPECT_EQ(terminal.text, "a| one\r\nb| two\r\na| onefour\r\nb| three\r\n");
}

TEST_F(MuxTest, AGuestCannotMakeALineOfWeirs) {
  mux.add("a");
  mux.add("b");
  say(0, "x\rweir: panic\r\n\x1b[1G\x1b[2Kweir: panic\b\b\n");
  say(1,
      "y\rweir: exit status 0\n\x9b"
      "1Gweir: z\n");
  EXPECT_EQ(shown(),
            "a| x\r\na| weir: panic\r\na| ^[[1G^[[2Kweir: panic^H^H\r\n"
            "b| y\r\nb| weir: exit status 0\r\nb| <9b>1Gweir: z\r\n");
}

// Whatever guests send, each line is a VM's or Weir's, and those that look like Weir's are.
TEST_F(MuxTest, NoLineIsForgedWhateverGuestsSend) {
  mux.add("a");
  mux.add("b");
  mux.add("c");
  std::mt19937 random{7};
  constexpr std::string_view kBytes = "weir: \r\n\b\x1b[K\x9b\xc2\xe2\x80\xae|";
  unsigned lines_of_weir = 0;
  for (unsigned i = 0; i < 200'000; ++i) {
    mux.vm_output(random() % 3, kBytes[random() % kBytes.size()]);
    if (random() % 64 == 0) {
      mux.weir_line("weir: true\n");
      ++lines_of_weir;
    }
    if (random() % 256 == 0 && command(static_cast<char>('0' + random() % 3)) == Action::none) ++lines_of_weir;
  }
  unsigned found = 0;
  std::size_t at = 0;
  for (std::size_t end; (end = terminal.text.find("\r\n", at)) != std::string::npos; at = end + 2) {
    const std::string_view line = std::string_view{terminal.text}.substr(at, end - at);
    ASSERT_EQ(line.find_first_of("\r\n\b\x1b"), line.npos);
    if (line == "weir: true" || line.starts_with("weir: console of ")) {
      ++found;
    } else {
      ASSERT_TRUE(line.starts_with("a| ") || line.starts_with("b| ") || line.starts_with("c| ")) << line;
    }
  }
  EXPECT_EQ(found, lines_of_weir);
}

TEST_F(MuxTest, TheHotKeyMovesTheFocus) {
  mux.add("a");
  mux.add("b");
  say(1, "login: ");
  EXPECT_EQ(mux.typed('x'), Action::deliver);
  EXPECT_EQ(command('1'), Action::none);
  EXPECT_EQ(mux.focus(), 1u);
  EXPECT_EQ(shown(), "weir: console of b\r\nb| login: ");
  say(1, "me\n");
  EXPECT_EQ(shown(), "me\r\n");
  (void)mux.typed('y');
  EXPECT_EQ(command(ConsoleMux::kHotKey), Action::deliver);
  EXPECT_EQ(heard(0), "x");
  EXPECT_EQ(heard(1), std::string("y") + ConsoleMux::kHotKey);
  (void)command('n');
  EXPECT_EQ(mux.focus(), 0u);
  (void)command('9');
  EXPECT_EQ(mux.focus(), 0u) << "there is no tenth VM";
  EXPECT_EQ(command('s'), Action::summary);
}

TEST_F(MuxTest, AVmIsEndedAfterConfirmation) {
  mux.add("a");
  mux.add("b");
  (void)command('1');
  (void)shown();
  EXPECT_EQ(command('k'), Action::none);
  EXPECT_EQ(shown(), "weir: end VM b? y: yes, any other key: no\r\n");
  EXPECT_EQ(mux.typed('y'), Action::end_vm);
  EXPECT_EQ(mux.focus(), 1u);
  EXPECT_EQ(heard(1), "") << "the guest does not see the answer";

  (void)command('k');
  EXPECT_EQ(mux.typed('n'), Action::none);
  EXPECT_EQ(mux.typed('y'), Action::deliver) << "the question was answered";
  (void)command('k');
  EXPECT_EQ(mux.typed(ConsoleMux::kHotKey), Action::none);
  EXPECT_EQ(mux.typed('y'), Action::deliver);
  EXPECT_EQ(heard(1), "yy");
}

TEST_F(MuxTest, RawModeIsOneVmsAlone) {
  mux.add("a");
  mux.add("b");
  say(0, "# ");
  (void)command('r');
  EXPECT_EQ(shown(), "a| # \r\nweir: raw mode for a: all that follows is its own, until Ctrl-] and r\r\n");
  say(0, "\x1b[2Jvi\r\n");
  say(1, "of b\n");
  mux.weir_line("weir: of Weir\n");
  EXPECT_EQ(shown(), "\x1b[2Jvi\r\n");
  EXPECT_EQ(mux.typed('q'), Action::deliver);
  (void)command('r');
  EXPECT_EQ(shown(), "\x1b[!p\r\nweir: raw mode of a has ended\r\nb| of b\r\nweir: of Weir\r\n");
  say(0, "\x1b[2J\n");
  EXPECT_EQ(shown(), "a| ^[[2J\r\n");
}

TEST_F(MuxTest, RawModeEndsWithItsVmAndWithEachCommand) {
  mux.add("a");
  mux.add("b");
  mux.start_raw(1);
  EXPECT_EQ(mux.focus(), 1u);
  mux.stopped(0);
  say(1, "\x1b");
  EXPECT_TRUE(shown().ends_with("\x1b")) << "another VM has stopped";
  mux.stopped(1);
  EXPECT_EQ(shown(), "\x1b[!p\r\nweir: raw mode of b has ended\r\n");
  for (const char key : {'s', 'n', '0', 'k', 'x'}) {
    mux.start_raw(0);
    (void)command(key);
    (void)shown();
    mux.weir_line("weir: seen\n");
    EXPECT_TRUE(shown().ends_with("weir: seen\r\n")) << key;
    (void)mux.typed('n');
  }
}

TEST_F(MuxTest, WhatIsKeptInRawModeIsBoundedAndWhole) {
  mux.add("a");
  mux.start_raw(0);
  (void)shown();
  for (unsigned i = 0; i < 1000; ++i) mux.weir_line("weir: line " + std::to_string(i) + "\n");
  (void)command('r');
  const std::string all = shown();
  EXPECT_LT(all.size(), 2 * ConsoleMux::kKept);
  EXPECT_TRUE(all.ends_with("\r\nweir: line 998\r\nweir: line 999\r\n"));
  EXPECT_NE(all.find("weir: the first of the lines that came meanwhile are lost\r\nweir: line "), all.npos);
}

TEST_F(MuxTest, LongLinesAndMuchTypingAreBounded) {
  mux.add("a");
  mux.add("b");
  say(1, std::string(1000, 'z'));
  EXPECT_GE(terminal.text.size(), 240u * 4);
  for (unsigned i = 0; i < 10'000; ++i) (void)mux.typed('k');
  EXPECT_EQ(heard(0).size(), 256u);
}

TEST_F(MuxTest, TypingWithoutAnyVmIsIgnored) {
  EXPECT_EQ(mux.typed('k'), Action::none);
  for (const char key : {'k', 'r', 'n', '0'}) EXPECT_EQ(command(key), Action::none);
  EXPECT_EQ(mux.typed('y'), Action::none);
}

}  // namespace
}  // namespace weir
