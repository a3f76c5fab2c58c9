#include "hyp/vm/guest_memory.hpp"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "tests/unit/fakes/fake_table_pages.hpp"

namespace weir {
namespace {

class GuestMemoryTest : public testing::Test {
 protected:
  static constexpr IPA kBase{0x4000'0000};
  static constexpr PA kPhysical{0x10'0000};
  GuestMemoryTest() { EXPECT_TRUE(table_->map(kBase, kPhysical, ram_.size(), {.execute = true})); }

  std::array<std::byte, 0x1000> ram_{};
  test::FakeTablePages pages_;
  std::unique_ptr<stage2::Table> table_ =
      *stage2::Table::create(*stage2::Geometry::make(40, smmu::AddressSize::bits44), pages_, {});
  // A section is open exactly while somebody reads or writes.
  static inline std::array<stage2::EpochGrace::Slot, 1> slots_{};
  static inline unsigned sections_ = 0;
  [[nodiscard]] static bool inside() { return slots_[0].epoch.load() != 0; }
  stage2::EpochGrace grace_{slots_, [] {
                              EXPECT_FALSE(inside());
                              ++sections_;
                              return 0u;
                            }};
  GuestMemory memory_{
      {.ram = kBase, .ram_bytes = 0x1000, .end = kBase + 0x10'0000, .physical = ram_.data() - kPhysical.value},
      *table_,
      grace_};
  std::array<std::byte, 8> buffer_{};
};

TEST_F(GuestMemoryTest, CopiesWithinItsRange) {
  buffer_.fill(std::byte{0x5a});
  EXPECT_TRUE(memory_.write(kBase + 0xff8, buffer_));
  EXPECT_EQ(ram_[0xff8], std::byte{0x5a});
  EXPECT_EQ(ram_[0xff7], std::byte{0});
  buffer_.fill(std::byte{0});
  EXPECT_TRUE(memory_.read(kBase + 0xff8, buffer_));
  EXPECT_EQ(buffer_[7], std::byte{0x5a});
}

TEST_F(GuestMemoryTest, RefusesWhatSticksOut) {
  EXPECT_FALSE(memory_.read(kBase + 0xff9, buffer_));
  EXPECT_FALSE(memory_.read(kBase + 0x1000, buffer_));
  EXPECT_FALSE(memory_.read(kBase - 1, buffer_));
  EXPECT_FALSE(memory_.write(IPA{0}, buffer_));
  EXPECT_FALSE(memory_.write(IPA{~std::uint64_t{0}}, buffer_));
  EXPECT_FALSE(memory_.contains(kBase, 0x1001));
  EXPECT_FALSE(memory_.contains(kBase + 8, ~std::uint64_t{0}));
  EXPECT_FALSE(memory_.contains(IPA{~std::uint64_t{0} - 3}, 8));
  EXPECT_TRUE(memory_.view(kBase, 0x1001).empty());
  EXPECT_TRUE(memory_.view(kBase, 0).empty());
  EXPECT_EQ(memory_.view(kBase + 1, 0xfff).size(), 0xfffU);
}

struct NoTables final : stage2::CpuTables {
  std::expected<void, stage2::Error> use_log(stage2::S2Domain&, bool) override { return {}; }
};

TEST_F(GuestMemoryTest, WhatIsWrittenIsInTheDirtyLog) {
  stage2::ImmediateGrace grace;
  const auto domain = *stage2::S2Domain::create(*stage2::Geometry::make(40, smmu::AddressSize::bits44), pages_, grace,
                                                {.table = {.bbml = 2, .dirty_state = true}});
  ASSERT_TRUE(domain->map(kBase, kPhysical, ram_.size(), {}));
  NoTables cpus;
  stage2::DirtyLog log{*domain, &cpus, {kBase, ram_.size()}, {}};
  GuestMemory memory{
      {.ram = kBase, .ram_bytes = 0x1000, .end = kBase + 0x10'0000, .physical = ram_.data() - kPhysical.value},
      domain->table(),
      grace_,
      &log};
  EXPECT_TRUE(memory.write(kBase, buffer_));
  EXPECT_EQ(log.start().value_or(1), 0u);
  const auto written = [&] {
    std::array<std::uint64_t, 1> dirty{};
    EXPECT_TRUE(log.collect(kBase, 1, dirty));
    return dirty[0] != 0;
  };
  EXPECT_TRUE(memory.read(kBase, buffer_));
  EXPECT_TRUE(memory.allows(kBase, false, false));
  EXPECT_FALSE(written());
  EXPECT_TRUE(memory.write(kBase + 0x100, buffer_));
  EXPECT_TRUE(written());
  EXPECT_TRUE(memory.store(kBase + 0x100, 1));
  EXPECT_TRUE(written());
  EXPECT_TRUE(memory.allows(kBase + 0x100, true, false)) << "a CPU is about to";
  EXPECT_TRUE(written());
  EXPECT_FALSE(written());
  EXPECT_EQ(log.stop(), 0u);
}

// What was asked of the caches, in bytes.
std::vector<std::pair<const void*, std::size_t>> maintained;
void note(const void* at, std::size_t bytes) { maintained.emplace_back(at, bytes); }

TEST_F(GuestMemoryTest, AVsmmuMaintainsCachesUntilTheGuestReliesOnCoherency) {
  using namespace smmu;
  maintained.clear();
  VsmmuMemory seen{memory_, note};
  EXPECT_TRUE(seen.read(kBase + 8, buffer_));
  ASSERT_EQ(maintained.size(), 1u) << "before the read";
  EXPECT_EQ(maintained[0], (std::pair<const void*, std::size_t>{&ram_[8], 8}));
  EXPECT_TRUE(seen.write(kBase + 16, buffer_));
  EXPECT_EQ(maintained.size(), 3u) << "before and after the write";
  EXPECT_FALSE(seen.read(kBase + 0x1000, buffer_));
  EXPECT_FALSE(seen.write(kBase - 1, buffer_));
  EXPECT_FALSE(seen.read(kBase + 0xff9, buffer_));
  EXPECT_LE(maintained.size(), 4u) << "nothing outside";
  for (const auto& [at, bytes] : maintained)
    EXPECT_TRUE(at >= ram_.data() && static_cast<const std::byte*>(at) + bytes <= ram_.data() + ram_.size());
  maintained.resize(3);

  constexpr auto kWb = QueueCacheability::write_back;
  CR1 cr1 = CR1{}.set<CR1::TABLE_OC>(kWb).set<CR1::TABLE_IC>(kWb).set<CR1::QUEUE_OC>(kWb).set<CR1::QUEUE_IC>(kWb);
  const IDR0 coherent = IDR0{}.set<IDR0::COHACC>(true);
  seen.follow(coherent, cr1);
  EXPECT_TRUE(seen.coherent());
  EXPECT_TRUE(seen.read(kBase, buffer_) && seen.write(kBase, buffer_));
  EXPECT_EQ(maintained.size(), 3u);
  seen.follow(IDR0{}, cr1);
  EXPECT_FALSE(seen.coherent());
  CR1 table = cr1;
  seen.follow(coherent, table.set<CR1::TABLE_IC>(QueueCacheability::non_cacheable));
  EXPECT_FALSE(seen.coherent());
  CR1 queue = cr1;
  seen.follow(coherent, queue.set<CR1::QUEUE_OC>(QueueCacheability::non_cacheable));
  EXPECT_FALSE(seen.coherent());
}

TEST_F(GuestMemoryTest, FollowsTheTableNotTheRange) {
  const auto page = [&](IPA at, PA pa, stage2::Attributes attributes) {
    EXPECT_TRUE(table_->map(at, pa, kPage4K, attributes));
  };
  stage2::RetiredPages retired;
  ASSERT_TRUE(table_->unmap(kBase, 0x1000, retired));
  EXPECT_FALSE(memory_.read(kBase, buffer_)) << "given back";
  EXPECT_FALSE(memory_.write(kBase, buffer_));
  EXPECT_FALSE(memory_.store(kBase, 1));
  EXPECT_TRUE(memory_.view(kBase, 8).empty());

  // A record across two pages that are not neighbours in physical memory.
  std::array<std::byte, 0x3000> store{};
  GuestMemory memory{
      {.ram = kBase, .ram_bytes = 0x2000, .end = kBase + 0x5000, .physical = store.data()}, *table_, grace_};
  page(kBase, PA{0x2000}, {});
  page(kBase + 0x1000, PA{0x1000}, {});
  buffer_.fill(std::byte{0x77});
  ASSERT_TRUE(memory.write(kBase + 0xffc, buffer_));
  EXPECT_EQ(store[0x2fff], std::byte{0x77});
  EXPECT_EQ(store[0x1003], std::byte{0x77});
  EXPECT_EQ(store[0x1004], std::byte{0});
  std::array<std::byte, 8> back{};
  ASSERT_TRUE(memory.read(kBase + 0xffc, back));
  EXPECT_EQ(back, buffer_);
  EXPECT_TRUE(memory.view(kBase + 0xffc, 8).empty()) << "not one piece";

  // What another VM shares lies beyond RAM, and may be read-only; what is lent is mapped, but for nobody.
  page(kBase + 0x3000, PA{0}, {.write = false});
  page(kBase + 0x4000, PA{0}, {.read = false, .write = false});
  EXPECT_TRUE(memory.read(kBase + 0x3000, back));
  EXPECT_FALSE(memory.write(kBase + 0x3000, buffer_));
  EXPECT_FALSE(memory.store(kBase + 0x3000, 1));
  EXPECT_FALSE(memory.read(kBase + 0x4000, back));
  EXPECT_FALSE(memory.write(kBase + 0x4000, buffer_));
  EXPECT_FALSE(memory.read(kBase + 0x3ffc, back)) << "no half of it";
  EXPECT_FALSE(memory.read(kBase + 0x4ffc, back)) << "beyond the end";
  table_->release(retired);
}

TEST_F(GuestMemoryTest, StoresOneWordInOnePiece) {
  EXPECT_TRUE(memory_.store(kBase + 0xffc, 0x1122'3344));
  EXPECT_EQ(ram_[0xffc], std::byte{0x44});
  EXPECT_FALSE(memory_.store(kBase + 0xffe, 1));
  EXPECT_FALSE(memory_.store(kBase + 0x1000, 1));
}

TEST_F(GuestMemoryTest, EachCopyIsOneReadSection) {
  sections_ = 0;
  EXPECT_TRUE(memory_.read(kBase, buffer_, [](const void*, std::size_t) { EXPECT_TRUE(inside()); }));
  EXPECT_TRUE(memory_.write(kBase, buffer_));
  EXPECT_TRUE(memory_.store(kBase, 1));
  EXPECT_EQ(sections_, 3u);
  EXPECT_FALSE(inside());
}

TEST(GuestMemory, EmptyRefusesEverything) {
  GuestMemory none;
  std::array<std::byte, 1> byte{};
  EXPECT_FALSE(none.read(IPA{0}, byte));
}

}  // namespace
}  // namespace weir
