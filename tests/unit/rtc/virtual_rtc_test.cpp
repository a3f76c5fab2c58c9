#include "hyp/rtc/virtual_rtc.hpp"

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/fakes/vcpu.hpp"

namespace weir {
namespace {

using pl031::Reg;

struct FakePort final : RtcPort {
  std::uint32_t seconds = 1'790'000'000;
  bool line = false;
  unsigned edges = 0;
  unsigned wanted = 0;
  std::uint32_t now() override { return seconds; }
  void set_interrupt(bool level) override {
    line = level;
    ++edges;
  }
  void want_tick() override { ++wanted; }
};

struct VirtualRtcTest : testing::Test {
  std::uint32_t read(Reg reg) { return read_at(static_cast<std::uint32_t>(reg)); }
  std::uint32_t read_at(std::uint64_t offset, unsigned size = 4) {
    std::uint64_t value = ~std::uint64_t{0};
    EXPECT_EQ(rtc.read(vcpu, {offset, size}, value), MmioResult::done);
    return static_cast<std::uint32_t>(value);
  }
  void write(Reg reg, std::uint32_t value) {
    EXPECT_EQ(rtc.write(vcpu, {static_cast<std::uint32_t>(reg), 4}, value), MmioResult::done);
  }
  Vcpu vcpu;
  FakePort port;
  VirtualRtc rtc{port};
};

TEST_F(VirtualRtcTest, ShowsTheMachinesTime) {
  EXPECT_EQ(read(Reg::DR), 1'790'000'000u);
  ++port.seconds;
  EXPECT_EQ(read(Reg::DR), 1'790'000'001u);
  EXPECT_EQ(read(Reg::CR), 1u);
  write(Reg::DR, 5);
  write(Reg::CR, 0);
  EXPECT_EQ(read(Reg::DR), 1'790'000'001u) << "DR is read-only, and the clock cannot be stopped";
}

TEST_F(VirtualRtcTest, IsIdentified) {
  const std::uint32_t expected[] = {0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(read_at(0xfe0 + 4 * i), expected[i]);
  EXPECT_EQ(read_at(0xfe1), 0u);
  EXPECT_EQ(read_at(0xfdc), 0u);
}

TEST_F(VirtualRtcTest, TheGuestsTimeIsItsOwn) {
  write(Reg::LR, 1000);
  EXPECT_EQ(read(Reg::DR), 1000u);
  EXPECT_EQ(read(Reg::LR), 1000u);
  port.seconds += 7;
  EXPECT_EQ(read(Reg::DR), 1007u);
  EXPECT_EQ(port.now(), 1'790'000'007u);
}

TEST_F(VirtualRtcTest, AnAlarmComesInTime) {
  write(Reg::IMSC, 1);
  write(Reg::MR, read(Reg::DR) + 3);
  EXPECT_EQ(port.wanted, 1u);
  port.seconds += 2;
  EXPECT_TRUE(rtc.tick());
  EXPECT_FALSE(port.line);
  port.seconds += 2;  // the very second was missed
  EXPECT_FALSE(rtc.tick());
  EXPECT_TRUE(port.line);
  EXPECT_EQ(read(Reg::RIS), 1u);
  EXPECT_EQ(read(Reg::MIS), 1u);
  write(Reg::ICR, 1);
  EXPECT_FALSE(port.line);
  EXPECT_EQ(read(Reg::RIS), 0u);
  EXPECT_FALSE(rtc.tick());
  EXPECT_FALSE(port.line) << "an alarm comes once";
}

TEST_F(VirtualRtcTest, AMaskedAlarmIsRememberedAndNotTickedFor) {
  write(Reg::MR, read(Reg::DR) + 1);
  EXPECT_EQ(port.wanted, 0u);
  EXPECT_FALSE(rtc.tick());
  ++port.seconds;
  EXPECT_EQ(read(Reg::RIS), 1u);
  EXPECT_EQ(read(Reg::MIS), 0u);
  EXPECT_FALSE(port.line);
  write(Reg::IMSC, ~0u);
  EXPECT_TRUE(port.line);
  EXPECT_EQ(read(Reg::IMSC), 1u);
  write(Reg::IMSC, 0);
  EXPECT_FALSE(port.line);
}

TEST_F(VirtualRtcTest, AnAlarmThatIsUnmaskedIsTickedFor) {
  write(Reg::MR, read(Reg::DR) + 1);
  write(Reg::IMSC, 1);
  EXPECT_EQ(port.wanted, 1u);
  ++port.seconds;
  EXPECT_FALSE(rtc.tick());
  EXPECT_TRUE(port.line);
}

TEST_F(VirtualRtcTest, AnAlarmOfThePastDoesNotCome) {
  write(Reg::IMSC, 1);
  write(Reg::MR, read(Reg::DR) - 1);
  EXPECT_FALSE(rtc.tick());
  EXPECT_FALSE(port.line);
  write(Reg::MR, read(Reg::DR));
  EXPECT_TRUE(port.line) << "this very second";
}

TEST_F(VirtualRtcTest, SettingTheTimeMovesTheAlarm) {
  write(Reg::IMSC, 1);
  write(Reg::MR, read(Reg::DR) + 100);
  write(Reg::LR, read(Reg::MR) - 1);
  EXPECT_FALSE(port.line);
  ++port.seconds;
  EXPECT_FALSE(rtc.tick());
  EXPECT_TRUE(port.line);
}

TEST_F(VirtualRtcTest, ResetLeavesNothingOfTheGuests) {
  write(Reg::IMSC, 1);
  write(Reg::LR, 1000);
  write(Reg::MR, 1000);
  EXPECT_TRUE(port.line);
  write(Reg::MR, 2000);
  rtc.reset();
  EXPECT_FALSE(port.line);
  EXPECT_FALSE(rtc.tick());
  EXPECT_EQ(read(Reg::DR), port.seconds);
  for (const Reg reg : {Reg::MR, Reg::LR, Reg::IMSC, Reg::RIS, Reg::MIS}) EXPECT_EQ(read(reg), 0u);
  port.seconds += 3000;
  EXPECT_FALSE(rtc.tick());
  EXPECT_EQ(read(Reg::RIS), 0u);
}

TEST_F(VirtualRtcTest, TimePassesTheEndOfItsRegister) {
  write(Reg::LR, 0xffff'fffe);
  write(Reg::IMSC, 1);
  write(Reg::MR, 1);
  port.seconds += 2;
  EXPECT_EQ(read(Reg::DR), 0u);
  EXPECT_TRUE(rtc.tick());
  ++port.seconds;
  EXPECT_FALSE(rtc.tick());
  EXPECT_TRUE(port.line);
}

}  // namespace
}  // namespace weir
