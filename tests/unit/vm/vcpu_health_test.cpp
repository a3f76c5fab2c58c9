#include "hyp/vm/vcpu_health.hpp"

#include <gtest/gtest.h>

namespace weir {
namespace {

constexpr std::uint32_t kNop = 0xd503'201f, kWfi = 0xd503'207f, kWfe = 0xd503'205f, kWfit = 0xd503'1025,
                        kWfet = 0xd503'1005;

VcpuSample at(std::uint64_t pc, bool masked = false) {
  return {.on = true, .pc = pc, .vbar = 0x8000, .irqs_masked = masked, .before_pc = kNop, .at_pc = kNop, .exits = 5};
}

TEST(VcpuHealthTest, OffAndUnreachable) {
  EXPECT_EQ(health(VcpuSample{}, VcpuSample{}), Health::off);
  EXPECT_EQ(health(at(0x1000), VcpuSample{}), Health::off) << "it was turned off between";
  EXPECT_EQ(health(VcpuSample{}, at(0x1000)), Health::running);
  EXPECT_EQ(health(std::nullopt, at(0x1000)), Health::no_answer);
  EXPECT_EQ(health(at(0x1000), std::nullopt), Health::no_answer);
}

TEST(VcpuHealthTest, WaitingIsIdleWhateverIsMasked) {
  for (const std::uint32_t wait : {kWfi, kWfe, kWfit, kWfet}) {
    VcpuSample behind = at(0x1000, true);
    behind.before_pc = wait;
    EXPECT_EQ(health(behind, behind), Health::idle);
    VcpuSample before = at(0x1000, true);
    before.at_pc = wait;
    EXPECT_EQ(health(before, before), Health::idle);
  }
}

TEST(VcpuHealthTest, ALoopWithInterruptsMaskedHangs) {
  EXPECT_EQ(health(at(0x1000, true), at(0x1000, true)), Health::hung);
  EXPECT_EQ(health(at(0x1000, true), at(0x1010, true)), Health::hung);
  EXPECT_EQ(health(at(0x1010, true), at(0x1000, true)), Health::hung);
  EXPECT_EQ(health(at(0x1000, true), at(0x2000, true)), Health::running) << "it gets about";
  EXPECT_EQ(health(at(0x1000, true), at(0x1000, false)), Health::running);
  EXPECT_EQ(health(at(0x1000, false), at(0x1000, true)), Health::running);
  VcpuSample later = at(0x1000, true);
  ++later.exits;
  EXPECT_EQ(health(at(0x1000, true), later), Health::running) << "it talks to a device";
}

TEST(VcpuHealthTest, ExceptionsAtItsOwnVectorsAreACrash) {
  EXPECT_EQ(health(at(0x8200), at(0x8200)), Health::crashed);
  EXPECT_EQ(health(at(0x8000), at(0x87fc)), Health::crashed);
  EXPECT_EQ(health(at(0x8200), at(0x8800)), Health::running) << "past the vectors";
  EXPECT_EQ(health(at(0x7ffc), at(0x8000)), Health::running);
  // Each of its exceptions is one that Weir injected, because the vector cannot be fetched.
  VcpuSample later = at(0x8200);
  later.exits += 64;
  later.unhandled += 64;
  EXPECT_EQ(health(at(0x8200), later), Health::crashed);
  --later.unhandled;
  EXPECT_EQ(health(at(0x8200), later), Health::running) << "a few may be a probe";
}

}  // namespace
}  // namespace weir
