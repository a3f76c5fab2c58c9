#include "stage2/tag.hpp"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "tests/unit/fakes/failing_new.hpp"
#include "tests/unit/fakes/fake_smmu.hpp"

namespace weir::stage2 {
namespace {

using test::FakeSmmu;

Capabilities capabilities(bool vmid16) {
  auto c = test::qemu_like_capabilities();
  c.idr0.set<smmu::IDR0::VMID16>(vmid16);
  return c;
}

TEST(VmidAllocator, HandsOutAllButZeroAndThenNone) {
  for (const bool wide : {false, true}) {
    VmidAllocator vmids{wide};
    const unsigned expected = wide ? 65535 : 255;
    EXPECT_EQ(vmids.capacity(), expected);
    std::set<unsigned> seen;
    for (unsigned i = 0; i < expected; ++i) {
      const auto vmid = vmids.allocate();
      ASSERT_TRUE(vmid);
      EXPECT_NE(vmid->value, 0);
      EXPECT_TRUE(seen.insert(vmid->value).second);
    }
    EXPECT_EQ(*seen.rbegin(), expected);
    EXPECT_EQ(vmids.in_use(), expected);
    EXPECT_EQ(vmids.allocate().error(), Error::no_free_vmid);
    vmids.free(VMID{77});
    EXPECT_EQ(vmids.in_use(), expected - 1);
    EXPECT_EQ(vmids.allocate(), VMID{77});
    EXPECT_EQ(vmids.allocate().error(), Error::no_free_vmid);
  }
}

TEST(HostTag, ExhaustionLeavesNothingBehind) {
  FakeSmmu smmu{0, capabilities(false)};
  std::vector<std::unique_ptr<HostTag>> tags;
  for (unsigned i = 0; i < 255; ++i) tags.push_back(std::move(*HostTag::create(smmu)));
  EXPECT_EQ(HostTag::create(smmu).error(), Error::no_free_vmid);
  EXPECT_EQ(smmu.vmids().in_use(), 255u);
  tags.clear();
  EXPECT_EQ(smmu.vmids().in_use(), 0u);
}

TEST(HostTag, EachInstanceCountsByItself) {
  FakeSmmu a{0}, b{1};
  const auto first = *HostTag::create(a);
  const auto second = *HostTag::create(a);
  const auto other = *HostTag::create(b);
  EXPECT_EQ(first->vmid(), VMID{1});
  EXPECT_EQ(second->vmid(), VMID{2});
  EXPECT_EQ(other->vmid(), VMID{1});
  EXPECT_EQ(a.vmids().in_use(), 2u);
  EXPECT_EQ(b.vmids().in_use(), 1u);
}

TEST(HostTag, DirtyTagKeepsItsVmid) {
  FakeSmmu smmu{0};
  {
    const auto tag = *HostTag::create(smmu);
    tag->dirty();
  }
  EXPECT_EQ(smmu.vmids().in_use(), 1u);  // lost, not reused
  {
    const auto tag = *HostTag::create(smmu);
    tag->dirty();
    tag->flushed();
  }
  EXPECT_EQ(smmu.vmids().in_use(), 1u);
}

TEST(HostTag, OutOfMemoryGivesTheVmidBack) {
  FakeSmmu smmu{0};
  {
    const test::FailingNew failing{0};
    EXPECT_EQ(HostTag::create(smmu).error(), Error::out_of_memory);
  }
  EXPECT_EQ(smmu.vmids().in_use(), 0u);
}

}  // namespace
}  // namespace weir::stage2
