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

// What a phase sends lies ready, instance by instance.
TEST(InvalidationArray, CommandsLieInTheOrderOfThePhases) {
  auto c = test::qemu_like_capabilities();
  c.idr3.set<smmu::IDR3::RIL>(false);
  FakeSmmu a{0}, b{1, c};
  const Target targets[] = {
      Target::stream(a, TargetKind::ats_stream, StreamID{3}),
      Target::tag(b, TargetKind::s2_tag, VMID{1}),
      Target::tag(a, TargetKind::nested_clear, VMID{9}),
      Target::tag(a, TargetKind::s2_tag, VMID{9}),
      Target::stream(a, TargetKind::stage1_stream, StreamID{3}),
      Target::stream(a, TargetKind::stage1_stream, StreamID{7}),
  };
  const auto array = InvalidationArray::merge(*InvalidationArray::empty(), targets);
  const auto groups = array->groups();
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].smmu, &a);
  EXPECT_TRUE(groups[0].ranges);
  const smmu::Command expected[] = {smmu::tlbi_s12_vmall(VMID{9}), smmu::cfgi_cd_all(StreamID{3}),
                                    smmu::cfgi_cd_all(StreamID{7}), smmu::tlbi_nh_all(VMID{9}),
                                    smmu::atc_inv_all(StreamID{3})};
  const auto commands = array->commands(groups[0].tags, groups[0].end);
  ASSERT_EQ(commands.size(), std::size(expected));
  for (std::size_t i = 0; i < commands.size(); ++i) EXPECT_EQ(commands[i].words, expected[i].words) << i;
  EXPECT_EQ(groups[0].streams, 1u);
  EXPECT_EQ(groups[0].nested, 3u);
  EXPECT_EQ(groups[0].ats, 4u);
  EXPECT_EQ(groups[0].end, 5u);
  EXPECT_EQ(groups[1].smmu, &b);
  EXPECT_FALSE(groups[1].ranges);
  EXPECT_EQ(groups[1].tags, 5u);
  EXPECT_EQ(groups[1].streams, 6u);
  EXPECT_EQ(groups[1].end, 6u);
}

TEST(InvalidationArray, WhoHoldsItKeepsIt) {
  ImmediateGrace grace;
  auto made = InvalidationArray::empty();
  InvalidationArray* const array = made.get();
  array->hold();
  grace.retire(std::move(made));
  EXPECT_TRUE(array->entries().empty());  // the sanitizers notice if it has gone
  array->put();
}

TEST(InvalidationArray, OutOfMemory) {
  FakeSmmu a{0};
  const Target target = Target::tag(a, TargetKind::s2_tag, VMID{1});
  const auto array = InvalidationArray::empty();
  for (int fail = 0; fail < 4; ++fail) {
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
