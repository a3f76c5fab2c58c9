// Ranges in single steps: every address of the range lies in a step, and no step lies outside of it.
#include "vsmmu/range.hpp"

#include <gtest/gtest.h>

#include "tests/unit/vsmmu/fixture.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;

TEST(Steps, CoverTheRangeAndNoMore) {
  for (const TlbiGranule tg : {TlbiGranule::size4k, TlbiGranule::size16k, TlbiGranule::size64k}) {
    const std::uint64_t granule = tg == TlbiGranule::size4k ? 0x1000 : tg == TlbiGranule::size16k ? 0x4000 : 0x10000;
    const std::uint64_t entries = granule / 8;  // of a table
    for (unsigned ttl = 0; ttl < 4; ++ttl)
      for (unsigned num : {0u, 1u, 7u, 31u})
        for (unsigned scale : {0u, 1u, 5u, 12u, 31u})
          for (const std::uint64_t address : {std::uint64_t{0}, granule * 3, granule * entries * 5}) {
            std::uint64_t leaf = granule;
            for (unsigned level = ttl; level != 0 && level < 3; ++level) leaf *= entries;
            const Steps s = Steps::of(address, {.tg = tg, .ttl = ttl, .num = num, .scale = scale});
            const std::uint64_t end = address + ((std::uint64_t{num} + 1) << scale) * granule;
            EXPECT_EQ(std::uint64_t{1} << s.log2, leaf);
            EXPECT_LE(s.first, address);
            EXPECT_GT(s.first + leaf, address);
            EXPECT_LT(s.at(s.count - 1), end);
            EXPECT_GE(s.at(s.count - 1) + leaf, end);
          }
  }
}

TEST(Steps, EndWithTheAddressSpace) {
  const Steps s = Steps::of(0xffff'ffff'ffff'e000, {.tg = TlbiGranule::size4k, .num = 31, .scale = 39});
  EXPECT_EQ(s.first, 0xffff'ffff'ffff'e000);
  EXPECT_EQ(s.count, 2u);
}

TEST(Steps, ScalesBeyond39Mean39) {
  EXPECT_EQ(Steps::of(0, {.tg = TlbiGranule::size64k, .num = 31, .scale = 63}).count,
            Steps::of(0, {.tg = TlbiGranule::size64k, .num = 31, .scale = 39}).count);
}

// One instance has range invalidation, the other has not.
struct Mixed : testing::Test {
  Mixed() {
    stage2::Capabilities lacking = qemu_like_capabilities();
    lacking.idr3.set<IDR3::RIL>(false);
    machine.smmus.push_back(std::make_unique<FakeSmmu>(1, lacking, &machine.log));
    machine.ports.push_back(machine.smmus.back().get());
    virt = std::make_unique<Virtual>(machine);
    EXPECT_TRUE(virt->vsmmu->attach(VStreamID{8}, *machine.smmus[0], StreamID{8}));
    EXPECT_TRUE(virt->vsmmu->attach(VStreamID{9}, *machine.smmus[1], StreamID{9}));
    guest = std::make_unique<Guest>(*virt);
    guest->put_ste(8, Guest::s1_ste());
    guest->put_ste(9, Guest::s1_ste());
    guest->enable();
    machine.forget();
  }
  VMID vmid(unsigned i) { return virt->vsmmu->backings()[i].tag(vsmmu::TagKind::open)->vmid(); }
  bool announced() { return virt->vsmmu->announced().idr3.get<IDR3::RIL>(); }

  Machine machine{1};
  std::unique_ptr<Virtual> virt;
  std::unique_ptr<Guest> guest;
};

TEST_F(Mixed, AnInstanceWithoutRangesGetsSteps) {
  ASSERT_TRUE(announced());
  const Command c =
      tlbi_nh_va(VMID{}, ASID{7}, IOVA{0x20'0000}, true, {.tg = TlbiGranule::size4k, .ttl = 3, .num = 2, .scale = 0});
  guest->submit({c, sync_none()});
  ASSERT_EQ(machine.smmus[0]->commands.size(), 1u);
  EXPECT_EQ(machine.smmus[0]->commands[0], Command{c.as<TlbiNhVa>()->set<TlbiNhVa::VMID>(vmid(0))});
  std::vector<Command> expected;
  for (std::uint64_t i = 0; i < 3; ++i)
    expected.push_back(tlbi_nh_va(vmid(1), ASID{7}, IOVA{0x20'0000 + i * 0x1000}, true));
  EXPECT_EQ(machine.smmus[1]->commands, expected);
}

TEST_F(Mixed, TooManyStepsBecomeAll) {
  ASSERT_TRUE(announced());
  guest->submit(
      {tlbi_nh_vaa(VMID{}, IOVA{0x4000'0000}, false, {.tg = TlbiGranule::size4k, .num = 31, .scale = 5}), sync_none()});
  EXPECT_EQ(machine.smmus[1]->commands, (std::vector<Command>{tlbi_nh_all(vmid(1))}));
}

}  // namespace
}  // namespace weir::vsmmu::test
