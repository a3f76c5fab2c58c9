#include "stage2/invalidation_array.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <tuple>
#include <vector>

#include "tests/unit/fakes/failing_new.hpp"
#include "tests/unit/fakes/fake_smmu.hpp"

namespace weir::stage2 {
namespace {

using test::FakeSmmu;

TEST(InvalidationArray, SortedByInstanceKindAndId) {
  FakeSmmu a{0}, b{1};
  const Target targets[] = {
      Target::stream(b, TargetKind::ats_stream, StreamID{3}),
      Target::tag(a, TargetKind::nested_clear, VMID{9}),
      Target::tag(b, TargetKind::s2_tag, VMID{1}),
      Target::tag(a, TargetKind::s2_tag, VMID{9}),
      Target::stream(a, TargetKind::stage1_stream, StreamID{7}),
      Target::tag(a, TargetKind::s2_tag, VMID{2}),
      Target::tag(a, TargetKind::s2_tag, VMID{9}),
  };
  const auto array = InvalidationArray::merge(*InvalidationArray::empty(), targets);
  ASSERT_NE(array, nullptr);
  ASSERT_EQ(array->entries().size(), 6u);
  EXPECT_TRUE(std::ranges::is_sorted(array->entries(), {}, &InvalidationArray::Entry::target));
  EXPECT_EQ(array->users(targets[3]), 2u);
  EXPECT_EQ(array->users(targets[0]), 1u);
  EXPECT_EQ(array->users(Target::tag(b, TargetKind::s2_tag, VMID{9})), 0u);
}

TEST(InvalidationArray, OldArraysDoNotChange) {
  FakeSmmu a{0};
  const Target target = Target::tag(a, TargetKind::s2_tag, VMID{1});
  const auto first = InvalidationArray::merge(*InvalidationArray::empty(), {&target, 1});
  const auto second = InvalidationArray::merge(*first, {&target, 1});
  EXPECT_EQ(first->users(target), 1u);
  EXPECT_EQ(second->users(target), 2u);
  second->unref(target);
  second->unref(target);
  EXPECT_TRUE(second->has_dead());
  EXPECT_FALSE(second->entries()[0].live());
  EXPECT_TRUE(InvalidationArray::purge(*second)->entries().empty());
  EXPECT_EQ(first->users(target), 1u);
  second->unref(target);  // one too many does no harm
  EXPECT_EQ(second->users(target), 0u);
}

TEST(InvalidationArray, OutOfMemory) {
  FakeSmmu a{0};
  const Target target = Target::tag(a, TargetKind::s2_tag, VMID{1});
  const auto array = InvalidationArray::empty();
  for (int fail = 0; fail < 2; ++fail) {
    const test::FailingNew failing{fail};
    EXPECT_EQ(InvalidationArray::merge(*array, {&target, 1}), nullptr);
  }
  EXPECT_NE(InvalidationArray::merge(*array, {&target, 1}), nullptr);
}

TEST(InvalidationArray, RandomAgainstReference) {
  FakeSmmu smmus[] = {FakeSmmu{0}, FakeSmmu{1}, FakeSmmu{2}};
  std::mt19937 random{42};
  std::map<std::tuple<unsigned, TargetKind, std::uint32_t>, std::uint32_t> reference;
  auto array = InvalidationArray::empty();
  for (int step = 0; step < 3000; ++step) {
    const Target target{.smmu = &smmus[random() % 3],
                        .kind = static_cast<TargetKind>(random() % 4),
                        .id = static_cast<std::uint32_t>(random() % 5)};
    auto& users = reference[{target.smmu->index(), target.kind, target.id}];
    ASSERT_EQ(array->users(target), users);
    if (random() % 2 == 0) {
      array = InvalidationArray::merge(*array, {&target, 1});
      ++users;
    } else if (users != 0) {
      array->unref(target);
      --users;
      if (random() % 2 == 0) array = InvalidationArray::purge(*array);
    }
    ASSERT_TRUE(std::ranges::is_sorted(array->entries(), {}, &InvalidationArray::Entry::target));
    ASSERT_EQ(std::ranges::count_if(array->entries(), [](const auto& e) { return e.live(); }),
              std::ranges::count_if(reference, [](const auto& r) { return r.second != 0; }));
  }
}

}  // namespace
}  // namespace weir::stage2
