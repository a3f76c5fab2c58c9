#include "hyp/console/mux.hpp"

#include <gtest/gtest.h>

#include <string>

namespace weir {
namespace {

struct Terminal final : MuxPort {
  std::string text;
  void put(char c) override { text += c; }
};

struct MuxTest : testing::Test {
  void say(unsigned vm, std::string_view text) {
    for (const char c : text) mux.vm_output(vm, c);
  }
  std::string heard(unsigned vm) {
    std::string s;
    for (char c; mux.next(vm, c);) s += c;
    return s;
  }
  Terminal terminal;
  ConsoleMux::Vms vms;
  ConsoleMux mux{terminal, vms};
};

TEST_F(MuxTest, OneVmPassesAsItIs) {
  mux.add("a");
  say(0, "hello\r\nlogin: ");
  EXPECT_EQ(terminal.text, "hello\r\nlogin: ");
  mux.weir_line("weir: x\n");
  EXPECT_EQ(terminal.text, "hello\r\nlogin: \r\nweir: x\r\n");
}

TEST_F(MuxTest, SeveralVmsAreToldApart) {
  mux.add("a");
  mux.add("b");
  say(0, "one");
  say(1, "two\r\n");
  say(1, "thr");
  say(0, "four\r\n");
  say(1, "ee\r\n");
  EXPECT_EQ(terminal.text, "a| one\r\nb| two\r\na| four\r\nb| three\r\n");
}

TEST_F(MuxTest, TheHotKeyMovesTheFocus) {
  mux.add("a");
  mux.add("b");
  say(1, "login: ");
  EXPECT_EQ(mux.typed('x'), ConsoleMux::Action::deliver);
  EXPECT_EQ(mux.typed(ConsoleMux::kHotKey), ConsoleMux::Action::none);
  EXPECT_EQ(mux.typed('1'), ConsoleMux::Action::none);
  EXPECT_EQ(mux.focus(), 1u);
  EXPECT_EQ(terminal.text, "weir: console of b\r\nb| login: ");
  (void)mux.typed('y');
  (void)mux.typed(ConsoleMux::kHotKey);
  (void)mux.typed(ConsoleMux::kHotKey);
  EXPECT_EQ(heard(0), "x");
  EXPECT_EQ(heard(1), std::string("y") + ConsoleMux::kHotKey);
  (void)mux.typed(ConsoleMux::kHotKey);
  (void)mux.typed('n');
  EXPECT_EQ(mux.focus(), 0u);
  (void)mux.typed(ConsoleMux::kHotKey);
  (void)mux.typed('9');
  EXPECT_EQ(mux.focus(), 0u) << "there is no tenth VM";
  (void)mux.typed(ConsoleMux::kHotKey);
  EXPECT_EQ(mux.typed('s'), ConsoleMux::Action::summary);
}

TEST_F(MuxTest, LongLinesAndMuchTypingAreBounded) {
  mux.add("a");
  mux.add("b");
  say(1, std::string(1000, 'z'));
  EXPECT_GE(terminal.text.size(), 240u * 4);
  for (unsigned i = 0; i < 10'000; ++i) (void)mux.typed('k');
  EXPECT_EQ(heard(0).size(), 256u);
}

TEST_F(MuxTest, TypingWithoutAnyVmIsIgnored) { EXPECT_EQ(mux.typed('k'), ConsoleMux::Action::none); }

}  // namespace
}  // namespace weir
