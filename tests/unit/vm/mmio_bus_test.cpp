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

  EXPECT_EQ(bus.find(IPA{0x1000}, 4).device, &low);
  EXPECT_EQ(bus.find(IPA{0x1ffc}, 4).device, &low);
  EXPECT_EQ(bus.find(IPA{0x1ffc}, 4).offset, 0xffcU);
  EXPECT_EQ(bus.find(IPA{0x9008}, 8).device, &high);
  EXPECT_EQ(bus.find(IPA{0x9008}, 8).offset, 8U);
}

TEST(MmioBus, NobodyAnswersOutsideOrAcrossAnEnd) {
  Nothing a, b;
  MmioBus bus;
  EXPECT_EQ(bus.find(IPA{0}, 1).device, nullptr);
  ASSERT_TRUE(bus.add(IPA{0x1000}, 0x1000, a));
  ASSERT_TRUE(bus.add(IPA{0x2000}, 0x1000, b));
  EXPECT_EQ(bus.find(IPA{0xfff}, 1).device, nullptr);
  EXPECT_EQ(bus.find(IPA{0xffc}, 8).device, nullptr);
  EXPECT_EQ(bus.find(IPA{0x1ffc}, 8).device, nullptr) << "half in one device, half in the next";
  EXPECT_EQ(bus.find(IPA{0x3000}, 1).device, nullptr);
  EXPECT_EQ(bus.find(IPA{~std::uint64_t{0}}, 8).device, nullptr);
}

TEST(MmioBus, RemembersTheLastDeviceAndNothingElse) {
  Nothing a, b;
  MmioBus bus;
  MmioBus::Recent recent;
  EXPECT_EQ(bus.find(IPA{0}, 1, recent).device, nullptr);
  ASSERT_TRUE(bus.add(IPA{0x2000}, 0x1000, b));
  EXPECT_EQ(bus.find(IPA{0x2010}, 4, recent).device, &b);
  EXPECT_EQ(bus.find(IPA{0x2ffc}, 4, recent).offset, 0xffcU);
  EXPECT_EQ(bus.find(IPA{0x2ffc}, 8, recent).device, nullptr) << "past its end";
  EXPECT_EQ(bus.find(IPA{0x2010}, 4, recent).device, &b);
  EXPECT_EQ(bus.find(IPA{0x1ffc}, 4, recent).device, nullptr) << "below it";
  ASSERT_TRUE(bus.add(IPA{0x1000}, 0x1000, a));
  EXPECT_EQ(bus.find(IPA{0x2010}, 4, recent).device, &b);
  EXPECT_EQ(bus.find(IPA{0x1010}, 4, recent).device, &a);
  EXPECT_EQ(bus.find(IPA{0x1010}, 4, recent).offset, 0x10U);
  EXPECT_EQ(bus.find(IPA{0x2010}, 4, recent).device, &b);
}

TEST(MmioBus, RefusesOverlapEmptyAndWrapping) {
  Nothing d;
  MmioBus bus;
  ASSERT_TRUE(bus.add(IPA{0x2000}, 0x1000, d));
  EXPECT_FALSE(bus.add(IPA{0x2000}, 0x1000, d));
  EXPECT_FALSE(bus.add(IPA{0x2fff}, 1, d));
  EXPECT_FALSE(bus.add(IPA{0x1fff}, 2, d));
  EXPECT_FALSE(bus.add(IPA{0x1000}, 0x3000, d));
  EXPECT_FALSE(bus.add(IPA{0x5000}, 0, d));
  EXPECT_FALSE(bus.add(IPA{~std::uint64_t{0}}, 2, d));
  EXPECT_TRUE(bus.add(IPA{0x1000}, 0x1000, d)) << "side by side is fine";
  EXPECT_TRUE(bus.add(IPA{0x3000}, 0x1000, d));
  EXPECT_TRUE(bus.add(IPA{~std::uint64_t{0}}, 1, d)) << "the last byte there is";
}

TEST(MmioBus, IsFullAtSomePoint) {
  std::array<Nothing, MmioBus::kMaxDevices> devices;
  MmioBus bus;
  for (std::size_t i = 0; i < devices.size(); ++i)
    ASSERT_TRUE(bus.add(IPA{(devices.size() - i) * kPage4K}, kPage4K, devices[i]));
  Nothing more;
  EXPECT_FALSE(bus.add(IPA{0x100'0000}, kPage4K, more));
  for (std::size_t i = 0; i < devices.size(); ++i)
    EXPECT_EQ(bus.find(IPA{(devices.size() - i) * kPage4K}, 4).device, &devices[i]);
}

}  // namespace
}  // namespace weir
