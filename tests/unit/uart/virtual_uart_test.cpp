#include "hyp/uart/virtual_uart.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <string>

#include "tests/unit/fakes/vcpu.hpp"

namespace weir {
namespace {

using namespace pl011;

struct FakePort final : UartPort {
  std::string sent;
  std::deque<char> typed;
  bool line = false;
  void transmit(char c) override { sent += c; }
  void set_interrupt(bool level) override { line = level; }
  bool next(char& c) override {
    if (typed.empty()) return false;
    c = typed.front();
    typed.pop_front();
    return true;
  }
};

struct VirtualUartTest : testing::Test {
  std::uint64_t rd(Reg reg, unsigned size = 4) {
    std::uint64_t v = 0;
    EXPECT_EQ(uart.read(vcpu, {static_cast<std::uint64_t>(reg), size}, v), MmioResult::done);
    return v;
  }
  void wr(Reg reg, std::uint64_t v) {
    EXPECT_EQ(uart.write(vcpu, {static_cast<std::uint64_t>(reg), 4}, v), MmioResult::done);
  }
  void type(std::string_view text) {
    port.typed.insert(port.typed.end(), text.begin(), text.end());
    uart.receive();
  }
  Vcpu vcpu;
  FakePort port;
  VirtualUart uart{port};
};

TEST_F(VirtualUartTest, SendsAtOnce) {
  for (const char c : std::string{"hi"}) wr(Reg::DR, static_cast<unsigned char>(c));
  EXPECT_EQ(port.sent, "hi");
  const Flags flags{{{static_cast<std::uint32_t>(rd(Reg::FR))}}};
  EXPECT_TRUE(flags.get<Flags::TXFE>());
  EXPECT_FALSE(flags.get<Flags::TXFF>());
  EXPECT_FALSE(flags.get<Flags::BUSY>());
}

TEST_F(VirtualUartTest, ReceivesInOrderAndLosesNothing) {
  wr(Reg::LCR_H, LineControl{}.set<LineControl::FEN>(true).words[0]);
  std::string text;
  for (unsigned i = 0; i < 100; ++i) text += static_cast<char>('a' + i % 26);
  type(text);
  std::string got;
  while (!Flags{{{static_cast<std::uint32_t>(rd(Reg::FR))}}}.get<Flags::RXFE>()) got += static_cast<char>(rd(Reg::DR));
  EXPECT_EQ(got, text);
  EXPECT_EQ(rd(Reg::DR), 0u);
}

TEST_F(VirtualUartTest, TheInterruptIsALevel) {
  wr(Reg::IMSC, Interrupts{}.set<Interrupts::RX>(true).words[0]);
  EXPECT_FALSE(port.line);
  type("x");
  EXPECT_TRUE(port.line);
  EXPECT_EQ(rd(Reg::MIS), Interrupts{}.set<Interrupts::RX>(true).words[0]);
  wr(Reg::ICR, ~0u);
  EXPECT_TRUE(port.line) << "the cause is still there";
  rd(Reg::DR);
  EXPECT_FALSE(port.line);
}

TEST_F(VirtualUartTest, TransmitInterruptIsClearedByIcr) {
  wr(Reg::IMSC, Interrupts{}.set<Interrupts::TX>(true).words[0]);
  wr(Reg::DR, 'x');
  EXPECT_TRUE(port.line);
  wr(Reg::ICR, Interrupts{}.set<Interrupts::TX>(true).words[0]);
  EXPECT_FALSE(port.line);
}

TEST_F(VirtualUartTest, IsRecognisedAsAPl011) {
  EXPECT_EQ(rd(static_cast<Reg>(0xfe0)), 0x11u);
  EXPECT_EQ(rd(static_cast<Reg>(0xff0)), 0x0du);
  EXPECT_EQ(rd(static_cast<Reg>(0xffc)), 0xb1u);
}

TEST_F(VirtualUartTest, GarbageIsHarmless) {
  std::mt19937_64 random{1};
  for (unsigned i = 0; i < 200'000; ++i) {
    const unsigned size = 1u << (random() % 4);
    const std::uint64_t offset = (random() & 0xfff) & ~(size - 1ull);
    std::uint64_t v = 0;
    if (random() % 8 == 0) type("q");
    if (random() % 2 == 0) {
      ASSERT_EQ(uart.write(vcpu, {offset, size}, random()), MmioResult::done);
    } else {
      ASSERT_EQ(uart.read(vcpu, {offset, size}, v), MmioResult::done);
    }
  }
  wr(Reg::IMSC, 0);
  EXPECT_FALSE(port.line);
}

}  // namespace
}  // namespace weir
