#include "hyp/machine/interrupt_home.hpp"

#include <gtest/gtest.h>

#include <array>

namespace weir {
namespace {

constexpr PcpuUse kOther{.online = true}, kOwner{.online = true, .owns = true}, kIdle{.online = true, .idle = true};
constexpr PcpuUse kOffIdle{.idle = true};

TEST(InterruptHome, AnIdlePcpuTakesThem) {
  const std::array pcpus{kOwner, kOther, kIdle};
  EXPECT_EQ(interrupt_home(pcpus, 0), 2u);
  EXPECT_EQ(interrupt_home(pcpus, 7), 2u);
  const std::array two{kIdle, kOwner, kIdle};
  EXPECT_EQ(interrupt_home(two, 0), 0u);
  EXPECT_EQ(interrupt_home(two, 1), 2u) << "spread";
}

TEST(InterruptHome, ElseOneWhoseVmHasDevicesThere) {
  const std::array pcpus{kOther, kOwner, kOther, kOwner};
  EXPECT_EQ(interrupt_home(pcpus, 0), 1u);
  EXPECT_EQ(interrupt_home(pcpus, 1), 3u);
  EXPECT_EQ(interrupt_home(pcpus, 2), 1u);
}

TEST(InterruptHome, NeverOneThatIsOff) {
  EXPECT_EQ(interrupt_home(std::array{kOther, kOffIdle, kOwner}, 0), 2u);
  EXPECT_EQ(interrupt_home(std::array{kOther, kOffIdle}, 3), 0u) << "the boot pCPU is always there";
}

}  // namespace
}  // namespace weir
