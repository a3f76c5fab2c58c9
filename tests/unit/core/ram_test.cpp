#include "hyp/mem/ram.hpp"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <vector>

#include "hyp/mem/translation.hpp"

namespace weir::ram {
namespace {

using el2::Access;
using el2::MapResult;
using el2::Memory;
using el2::Table;

constexpr PA kEnd{std::uint64_t{1} << vmsa::kMaxOutputBits};
constexpr std::uint64_t kPool = 2_MiB;

// EL2's tables over made-up physical memory. A table out of the allocator must lie where the direct map has Normal memory
// already, since EL2 writes it there.
class Machine {
 public:
  explicit Machine(std::size_t tables_in_image) : early_{tables_in_image} {}

  bool map(const MemoryRange& r) { return map_as(r, Memory::normal); }
  bool map_device(const MemoryRange& r) { return map_as(r, Memory::device_nGnRE); }
  bool add(const MemoryRange& r) {
    for (PA at = r.base; at < r.base + r.bytes; at += kPage4K) {
      if (free_.contains(at)) return false;
      EXPECT_EQ(memory_at(at), Memory::normal) << std::hex << at.value;
      free_[at] = true;
    }
    return true;
  }
  void tables_from_allocator() { from_allocator_ = true; }

  // How EL2 reaches `at`, if at all.
  std::optional<Memory> memory_at(PA at) {
    Table* table = &root_;
    for (unsigned level = 0;; ++level) {
      const vmsa::Descriptor entry = table->entry[vmsa::level_index(at.value, level)];
      const vmsa::Kind kind = entry.kind(level);
      if (kind == vmsa::Kind::invalid) return std::nullopt;
      if (kind != vmsa::Kind::table) {
        vmsa::S1Page leaf{};
        leaf.words = entry.words;
        return static_cast<Memory>(leaf.get<vmsa::S1Page::AttrIndx>());
      }
      vmsa::S1Table next{};
      next.words = entry.words;
      table = tables_.at(PA{next.get<vmsa::S1Table::NLTA>()}).get();
    }
  }
  [[nodiscard]] bool is_free(PA at) const { return free_.contains(at); }
  [[nodiscard]] std::uint64_t free_bytes() const { return free_.size() * kPage4K; }
  [[nodiscard]] std::size_t early_used() const { return early_used_; }
  [[nodiscard]] std::size_t tables() const { return tables_.size(); }
  std::size_t allocator_limit = ~std::size_t{0};

 private:
  bool map_as(const MemoryRange& r, Memory memory) {
    struct Source {
      Machine& machine;
      Table* allocate() { return machine.allocate(); }
      Table* pointer(PA pa) { return machine.tables_.at(pa).get(); }
      PA address(const Table* table) { return machine.addresses_.at(table); }
    } source{*this};
    return el2::map(&root_, source, r.base.value, r.base, r.bytes, Access::read_write, memory) == MapResult::done;
  }
  Table* allocate() {
    PA at{};
    if (from_allocator_) {
      if (free_.empty() || tables_.size() - early_used_ == allocator_limit) return nullptr;
      at = free_.begin()->first;
      free_.erase(free_.begin());
    } else {
      if (early_used_ == early_) return nullptr;
      at = PA{0xf000'0000'0000 + early_used_++ * kPage4K};
    }
    auto& table = tables_[at] = std::make_unique<Table>();
    addresses_[table.get()] = at;
    return table.get();
  }

  Table root_{};
  std::size_t early_, early_used_ = 0;
  bool from_allocator_ = false;
  std::map<PA, bool> free_;
  std::map<PA, std::unique_ptr<Table>> tables_;
  std::map<const Table*, PA> addresses_;
};

constexpr MemoryRange kImage{PA{0x4020'0000}, 0x28'0000};

std::expected<PA, Failure> take(Machine& machine, const std::vector<MemoryRange>& ram,
                                const std::vector<MemoryRange>& reserved = {}, PA end = kEnd) {
  return take_over(machine, ram, reserved, kImage, end, kPool);
}

// `bytes` of RAM at 1 GiB, without `count` pieces of `hole` bytes, one in each `step`.
std::vector<MemoryRange> carved(std::uint64_t bytes, std::size_t count, std::uint64_t hole, std::uint64_t step) {
  std::vector<MemoryRange> ram;
  PA at{1_GiB};
  const PA end = at + bytes;
  for (std::size_t i = 0; i < count; ++i) {
    const PA cut = PA{1_GiB} + 16_MiB + i * step;
    ram.push_back({at, cut - at});
    at = cut + hole;
  }
  ram.push_back({at, end - at});
  return ram;
}

TEST(Ram, GapsAreWhatNoHoleCovers) {
  const std::vector<MemoryRange> many{
      {PA{0x9000}, 0x1000}, {PA{0x3800}, 0x100}, {PA{0x3000}, 0x1000}, {PA{0x5000}, 0}, {PA{0x8000}, 0x1800}};
  std::vector<std::pair<std::uint64_t, std::uint64_t>> gaps;
  EXPECT_TRUE(for_gaps({PA{0x2000}, 0x8000}, {.many = many, .few = {MemoryRange{PA{}, 0x2001}}}, [&](MemoryRange gap) {
    gaps.emplace_back(gap.base.value, gap.bytes);
    return true;
  }));
  EXPECT_EQ(gaps, (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0x4000, 0x4000}}));
  EXPECT_FALSE(for_gaps({PA{0x2000}, 0x8000}, {.many = many}, [](MemoryRange) { return false; }));
}

TEST(Ram, RangesAtTheEndOfAllAddresses) {
  const MemoryRange last{PA{~std::uint64_t{0} - 0x2fff}, 0x5000};
  EXPECT_EQ(end_of(last), PA{~(kPage4K - 1)});
  EXPECT_EQ(pages_around(last).bytes, 0x2000U);
  EXPECT_EQ(pages_within(last, kEnd).bytes, 0U);
  EXPECT_EQ(pages_within({kEnd - 0x1800, 0x4000}, kEnd).bytes, 0x1000U);
  EXPECT_EQ(pages_within({PA{0x1001}, 0xffe}, kEnd).bytes, 0U);
}

TEST(Ram, EverythingIsMappedAndWhatIsFreeIsAvailable) {
  Machine machine{8};
  const std::vector<MemoryRange> reserved{
      {PA{0x4800'0123}, 0x10'0000}, {PA{0x4000'0000}, 0x1000}, {PA{0x1000}, 0x1000}};
  const auto pool = take(machine, {{PA{1_GiB}, 512_MiB}, {PA{0x1'0000'0800}, 8_MiB}}, reserved);
  ASSERT_TRUE(pool);
  EXPECT_EQ(machine.memory_at(*pool), Memory::device_nGnRE);
  EXPECT_FALSE(machine.is_free(*pool) || machine.is_free(*pool + kPool - kPage4K));
  EXPECT_EQ(machine.memory_at(kImage.base), std::nullopt);
  EXPECT_EQ(machine.memory_at(kImage.base + kImage.bytes), Memory::normal);
  EXPECT_EQ(machine.memory_at(PA{0x4800'0000}), Memory::normal);  // in use, and to be read
  EXPECT_FALSE(machine.is_free(PA{0x4800'0000}) || machine.is_free(PA{0x4810'0000}));
  EXPECT_TRUE(machine.is_free(PA{0x4810'1000}));
  EXPECT_FALSE(machine.is_free(PA{0x4000'0000}));
  EXPECT_EQ(machine.memory_at(PA{0x1'0000'0000}), std::nullopt);  // not a whole page
  EXPECT_TRUE(machine.is_free(PA{0x1'0000'1000}));
  EXPECT_EQ(machine.memory_at(PA{0x1'0080'0000}), std::nullopt);
  EXPECT_EQ(machine.free_bytes() + (machine.tables() - machine.early_used()) * kPage4K,
            512_MiB + 8_MiB - kPage4K - kImage.bytes - kPool - 0x10'1000 - 0x1000);
}

// The tables in the image do not limit how often RAM is cut, in steps of blocks or of pages.
TEST(Ram, HundredsOfCarveOuts) {
  struct Case {
    std::uint64_t hole, step;
  };
  for (const Case& c : {Case{2_MiB, 4_MiB}, Case{64_KiB, 2_MiB}, Case{kPage4K, 2 * kPage4K}, Case{kPage4K, 1_GiB}}) {
    Machine machine{8};
    const auto ram = carved(c.step == 1_GiB ? 600 * 1_GiB : 4_GiB, 500, c.hole, c.step);
    // Gigabytes are mapped, but most of their pages are not counted one by one.
    const auto pool = take(machine, ram, {{PA{1_GiB} + 32_MiB, kEnd - PA{2_GiB}}});
    ASSERT_TRUE(pool) << c.hole << " " << c.step;
    EXPECT_LE(machine.early_used(), 8U);
    for (std::size_t i = 0; i < ram.size(); ++i) {
      EXPECT_TRUE(machine.memory_at(ram[i].base + ram[i].bytes - kPage4K));
      if (i + 1 < ram.size()) EXPECT_FALSE(machine.memory_at(ram[i].base + ram[i].bytes)) << i;
    }
  }
}

// Lone pages, each of which needs more tables than it brings, wait for what the large ranges bring.
TEST(Ram, LonePagesComeLast) {
  Machine machine{8};
  std::vector<MemoryRange> ram;
  for (std::uint64_t i = 0; i < 400; ++i) ram.push_back({PA{0x10'0000'0000 + i * 4_GiB}, kPage4K});
  ram.push_back({PA{0x1000'0000'0000}, 16_MiB});
  ASSERT_TRUE(take(machine, ram));
  ram.pop_back();
  for (const MemoryRange& r : ram) EXPECT_EQ(machine.memory_at(r.base), Memory::normal);
}

TEST(Ram, HighMemory) {
  for (const unsigned bit : {40U, 44U, 45U, 47U}) {
    Machine machine{8};
    const PA high{std::uint64_t{1} << bit};
    ASSERT_TRUE(take(machine, {{PA{1_GiB}, 64_MiB}, {high - 2_MiB, 64_MiB}}));
    EXPECT_TRUE(machine.is_free(high - kPage4K) && machine.is_free(high)) << bit;
  }
}

TEST(Ram, WhatAddressesDoNotReachIsLeftAlone) {
  Machine machine{8};
  const PA end{std::uint64_t{1} << 36};
  ASSERT_TRUE(take(machine, {{PA{1_GiB}, 64_MiB}, {end - 4_MiB, 64_MiB}, {end + 1_GiB, 64_MiB}}, {}, end));
  EXPECT_TRUE(machine.is_free(end - kPage4K));
  EXPECT_EQ(machine.memory_at(end), std::nullopt);
  EXPECT_EQ(machine.memory_at(end + 1_GiB), std::nullopt);
}

TEST(Ram, SaysWhatIsWrong) {
  Machine small{8};
  auto failed = take(small, {{PA{1_GiB}, 8_MiB}}, {{PA{1_GiB}, 7_MiB}});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().problem, Problem::no_block);

  Machine twice{8};
  failed = take(twice, {{PA{1_GiB}, 64_MiB}, {PA{1_GiB} + 32_MiB, 64_MiB}});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().problem, Problem::twice);

  Machine without{1};
  failed = take(without, {{PA{1_GiB}, 64_MiB}});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().problem, Problem::cannot_map);

  Machine later{8};
  later.allocator_limit = 2;
  failed = take(later, carved(1_GiB, 20, kPage4K, 4_MiB));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().problem, Problem::cannot_map);
}

// Whatever the devicetree says, a free page is Normal memory, RAM, and in nobody's use.
TEST(Ram, RandomMachines) {
  std::mt19937_64 random{6};
  unsigned good = 0;
  for (int round = 0; round < 40; ++round) {
    Machine machine{8};
    std::vector<MemoryRange> ram, reserved;
    PA at{1_GiB};
    for (std::uint64_t i = 0, n = 1 + random() % 12; i < n; ++i) {
      const std::uint64_t bytes = 1 + random() % 12_MiB;
      ram.push_back({at, bytes});
      at += bytes + random() % 1_MiB;
    }
    for (std::uint64_t i = 0, n = random() % 8; i < n; ++i)
      reserved.push_back({PA{1_GiB} + random() % 64_MiB, random() % 2_MiB});
    const auto pool = take(machine, ram, reserved);
    if (!pool) continue;
    ++good;
    for (PA page{1_GiB}; page < at; page += kPage4K) {
      if (!machine.is_free(page)) continue;
      const MemoryRange one{page, kPage4K};
      EXPECT_EQ(machine.memory_at(page), Memory::normal);
      EXPECT_TRUE(std::ranges::any_of(
          ram, [&](const MemoryRange& r) { return r.base <= page && page + kPage4K <= end_of(r); }));
      EXPECT_FALSE(overlap(one, kImage) || overlap(one, {*pool, kPool}));
      for (const MemoryRange& r : reserved) EXPECT_FALSE(r.bytes != 0 && overlap(one, r));
    }
  }
  EXPECT_GT(good, 20U);
}

}  // namespace
}  // namespace weir::ram
