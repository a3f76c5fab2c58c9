#include "hyp/mem/translation.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace weir::el2 {
namespace {

struct Source {
  std::vector<std::unique_ptr<Table>> tables;
  std::size_t limit = 100;
  Table* allocate() {
    if (tables.size() == limit) return nullptr;
    return tables.emplace_back(std::make_unique<Table>()).get();
  }
  Table* pointer(PA pa) { return reinterpret_cast<Table*>(pa.value); }
  PA address(const Table* table) { return PA{reinterpret_cast<std::uint64_t>(table)}; }
};

class TranslationTest : public testing::Test {
 protected:
  Source source;
  Table* root = source.allocate();
  MapResult map_ram(std::uint64_t at, std::uint64_t bytes) {
    return map(root, source, at, PA{at}, bytes, Access::read_write, Memory::normal);
  }
  // The leaf for `va` and its level; level 4: none.
  std::pair<vmsa::Descriptor, unsigned> leaf_of(std::uint64_t va) {
    Table* table = root;
    for (unsigned level = 0; level <= vmsa::kLastLevel; ++level) {
      const vmsa::Descriptor entry = table->entry[vmsa::level_index(va, level)];
      switch (entry.kind(level)) {
        case vmsa::Kind::invalid: return {entry, 4};
        case vmsa::Kind::table: {
          vmsa::S1Table next{};
          next.words = entry.words;
          table = source.pointer(PA{next.get<vmsa::S1Table::NLTA>()});
          break;
        }
        default: return {entry, level};
      }
    }
    return {{}, 4};
  }
};

TEST_F(TranslationTest, UsesTheLargestBlocks) {
  EXPECT_EQ(map_ram(0x4000'0000 - 0x20'1000, 0x20'1000 + 1_GiB + 0x1000), MapResult::done);
  EXPECT_EQ(leaf_of(0x4000'0000 - 0x20'1000).second, 3U);
  EXPECT_EQ(leaf_of(0x4000'0000 - 0x20'0000).second, 2U);
  EXPECT_EQ(leaf_of(0x4000'0000).second, 1U);
  EXPECT_EQ(leaf_of(0x8000'0000).second, 3U);
  EXPECT_EQ(leaf_of(0x8000'1000).second, 4U);
}

TEST_F(TranslationTest, NothingIsWritableAndExecutable) {
  ASSERT_EQ(map(root, source, 0x1000, PA{0x1000}, 0x1000, Access::read_execute, Memory::normal), MapResult::done);
  ASSERT_EQ(map(root, source, 0x2000, PA{0x2000}, 0x1000, Access::read_only, Memory::normal), MapResult::done);
  ASSERT_EQ(map(root, source, 0x3000, PA{0x3000}, 0x1000, Access::read_write, Memory::device_nGnRE), MapResult::done);
  const auto page = [&](std::uint64_t va) {
    vmsa::S1Page p{};
    p.words = leaf_of(va).first.words;
    return p;
  };
  using P = vmsa::S1Page;
  EXPECT_EQ(page(0x1000).get<P::AP>(), vmsa::S1Ap::any_ro);
  EXPECT_FALSE(page(0x1000).get<P::UXN>());
  EXPECT_EQ(page(0x2000).get<P::AP>(), vmsa::S1Ap::any_ro);
  EXPECT_TRUE(page(0x2000).get<P::UXN>());
  EXPECT_EQ(page(0x3000).get<P::AP>(), vmsa::S1Ap::any_rw);
  EXPECT_TRUE(page(0x3000).get<P::UXN>());
  EXPECT_EQ(page(0x3000).get<P::AttrIndx>(), 1U);
}

TEST_F(TranslationTest, TheSameAgainIsFineAndAnythingElseAConflict) {
  ASSERT_EQ(map_ram(0x4000'3000, 0x2000), MapResult::done);
  EXPECT_EQ(map_ram(0x4000'0000, 0x4000'0000), MapResult::done);  // around the two pages
  EXPECT_EQ(leaf_of(0x4000'3000).second, 3U);
  EXPECT_EQ(leaf_of(0x4020'0000).second, 2U);
  EXPECT_EQ(map_ram(0x4020'1000, 0x1000), MapResult::done);  // inside of a block that says so
  EXPECT_EQ(map(root, source, 0x4020'1000, PA{0x4020'1000}, 0x1000, Access::read_only, Memory::normal),
            MapResult::conflict);
  EXPECT_EQ(map(root, source, 0x4000'3000, PA{0x4000'4000}, 0x1000, Access::read_write, Memory::normal),
            MapResult::conflict);
}

TEST_F(TranslationTest, SaysWhenTablesRunOut) {
  source.limit = 3;
  EXPECT_EQ(map_ram(0x1000, 0x1000), MapResult::out_of_memory);
}

}  // namespace
}  // namespace weir::el2
