#include "stage2/geometry.hpp"

#include <gtest/gtest.h>

namespace weir::stage2 {
namespace {

// Most is proven at compile time, in the header. Here: the values that other formats take over.
TEST(Geometry, FieldsOfTheReferencePlatform) {
  const auto g = Geometry::make(40, smmu::AddressSize::bits44);
  ASSERT_TRUE(g);
  EXPECT_EQ(g->t0sz(), 24);
  EXPECT_EQ(g->start_level(), 1u);
  EXPECT_EQ(g->sl0(), 1);
  EXPECT_EQ(g->root_bytes(), 2 * kPage4K);
  EXPECT_EQ(g->ps(), smmu::AddressSize::bits44);
  EXPECT_EQ(g->input_end(), IPA{std::uint64_t{1} << 40});
}

TEST(Geometry, LargeOutputSizesCountAs48Bits) {
  const auto g = Geometry::make(48, smmu::AddressSize::bits56);
  ASSERT_TRUE(g);
  EXPECT_EQ(g->ps(), smmu::AddressSize::bits48);
  EXPECT_EQ(g->output_end(), PA{std::uint64_t{1} << 48});
}

TEST(Geometry, InconsistentLevelsAreNoticed) {
  EXPECT_TRUE(consistent(24, 1, 44));
  EXPECT_FALSE(consistent(24, 2, 42));  // level 0 below 44 bits of physical address
  EXPECT_FALSE(consistent(24, 0, 44));  // would need 64 tables
  EXPECT_FALSE(consistent(16, 1, 48));
  EXPECT_FALSE(consistent(40, 0, 44));
  EXPECT_FALSE(consistent(32, 3, 44));
}

}  // namespace
}  // namespace weir::stage2
