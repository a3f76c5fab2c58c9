#include "hyp/vm/mmio_bus.hpp"

#include <gtest/gtest.h>

#include <array>

namespace weir {
namespace {

struct Nothing final : MmioDevice {
  [[nodiscard]] std::string_view name() const override { return "nothing"; }
  MmioResult read(Vcpu&, MmioAccess, std::uint64_t&) override { return MmioResult::abort; }
  MmioResult write(Vcpu&, MmioAccess, std::uint64_t) override { return MmioResult::abort; }
};

TEST(MmioBus, FindsTheDeviceAndTheOffset) {
  Nothing low, high;
  MmioBus bus;
  ASSERT_TRUE(bus.add(IPA{0x9000}, 0x1000, high));
  ASSERT_TRUE(bus.add(IPA{0x1000}, 0x1000, low));

  EXPECT_EQ(bus.find(IPA{0x1000}).device, &low);
  EXPECT_EQ(bus.find(IPA{0x1ffc}).device, &low);
  EXPECT_EQ(bus.find(IPA{0x1ffc}).offset, 0xffcU);
  EXPECT_EQ(bus.find(IPA{0x9008}).device, &high);
  EXPECT_EQ(bus.find(IPA{0x9008}).offset, 8U);
}

TEST(MmioBus, NobodyAnswersOutside) {
  Nothing a, b;
  MmioBus bus;
  EXPECT_EQ(bus.find(IPA{0}).device, nullptr);
  ASSERT_TRUE(bus.add(IPA{0x1000}, 0x1000, a));
  ASSERT_TRUE(bus.add(IPA{0x2000}, 0x1000, b));
  EXPECT_EQ(bus.find(IPA{0xfff}).device, nullptr);
  EXPECT_EQ(bus.find(IPA{0xff8}).device, nullptr);
  EXPECT_EQ(bus.find(IPA{0x1fff}).device, &a);
  EXPECT_EQ(bus.find(IPA{0x3000}).device, nullptr);
  EXPECT_EQ(bus.find(IPA{~std::uint64_t{0}}).device, nullptr);
}

TEST(MmioBus, RemembersTheLastDeviceAndNothingElse) {
  Nothing a, b;
  MmioBus bus;
  MmioBus::Recent recent;
  EXPECT_EQ(bus.find(IPA{0}, recent).device, nullptr);
  ASSERT_TRUE(bus.add(IPA{0x2000}, 0x1000, b));
  EXPECT_EQ(bus.find(IPA{0x2010}, recent).device, &b);
  EXPECT_EQ(bus.find(IPA{0x2ffc}, recent).offset, 0xffcU);
  EXPECT_EQ(bus.find(IPA{0x3000}, recent).device, nullptr) << "past its end";
  EXPECT_EQ(bus.find(IPA{0x2010}, recent).device, &b);
  EXPECT_EQ(bus.find(IPA{0x1ffc}, recent).device, nullptr) << "below it";
  ASSERT_TRUE(bus.add(IPA{0x1000}, 0x1000, a));
  EXPECT_EQ(bus.find(IPA{0x2010}, recent).device, &b);
  EXPECT_EQ(bus.find(IPA{0x1010}, recent).device, &a);
  EXPECT_EQ(bus.find(IPA{0x1010}, recent).offset, 0x10U);
  EXPECT_EQ(bus.find(IPA{0x2010}, recent).device, &b);
}

TEST(MmioBus, RefusesOverlapEmptyWrappingAndParts) {
  Nothing d;
  MmioBus bus;
  ASSERT_TRUE(bus.add(IPA{0x2000}, 0x1000, d));
  EXPECT_FALSE(bus.add(IPA{0x2000}, 0x1000, d));
  EXPECT_FALSE(bus.add(IPA{0x2ff8}, 8, d));
  EXPECT_FALSE(bus.add(IPA{0x1ff8}, 16, d));
  EXPECT_FALSE(bus.add(IPA{0x1000}, 0x3000, d));
  EXPECT_FALSE(bus.add(IPA{0x5000}, 0, d));
  EXPECT_FALSE(bus.add(IPA{~std::uint64_t{7}}, 16, d));
  EXPECT_FALSE(bus.add(IPA{0x5000}, 0x1004, d)) << "accesses across its end";
  EXPECT_FALSE(bus.add(IPA{0x5004}, 0x1000, d)) << "and across its start";
  EXPECT_TRUE(bus.add(IPA{0x1000}, 0x1000, d)) << "side by side is fine";
  EXPECT_TRUE(bus.add(IPA{0x3000}, 0x1000, d));
  EXPECT_TRUE(bus.add(IPA{~std::uint64_t{7}}, 8, d)) << "the last there are";
}

TEST(MmioBus, IsFullAtSomePoint) {
  std::array<Nothing, MmioBus::kMaxDevices> devices;
  MmioBus bus;
  for (std::size_t i = 0; i < devices.size(); ++i)
    ASSERT_TRUE(bus.add(IPA{(devices.size() - i) * kPage4K}, kPage4K, devices[i]));
  Nothing more;
  EXPECT_FALSE(bus.add(IPA{0x100'0000}, kPage4K, more));
  for (std::size_t i = 0; i < devices.size(); ++i)
    EXPECT_EQ(bus.find(IPA{(devices.size() - i) * kPage4K}).device, &devices[i]);
}

}  // namespace
}  // namespace weir
