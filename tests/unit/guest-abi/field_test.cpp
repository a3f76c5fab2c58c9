// The field machinery itself: masks, encodings, addresses in place.
#include "guest-abi/field.hpp"

#include <gtest/gtest.h>

#include "guest-abi/types.hpp"

namespace weir {
namespace {

enum class Colour : std::uint8_t { red = 1, blue = 6 };

struct Sample : Record<Sample, 128> {
  using Flag = BitField<"Flag", 0>;
  using Paint = Field<"Paint", 6, 4, Colour>;
  using Base = AddressField<"Base", 51, 12, PA>;
  using Own = OwnField<"Own", 63, 60>;
  using Owner = Field<"Owner", 79, 64, VMID>;
  using Layout =
      weir::Layout<128, Flag, Res0<3, 1>, Paint, Ignored<11, 7>, Base, Res0<59, 52>, Own, Owner, Res0<127, 80>>;
};
static_assert(sizeof(Sample) == 16);

// Masks are derived from the one list.
static_assert(Sample::Layout::covered == Sample::Layout::Words{~0ull, ~0ull});
static_assert(Sample::Layout::res0 == Sample::Layout::Words{0x0ff0'0000'0000'000e, 0xffff'ffff'ffff'0000});
static_assert(Sample::Layout::guest == Sample::Layout::Words{0x000f'ffff'ffff'fff1, 0x0000'0000'0000'ffff});

TEST(Field, MaskOfBits) {
  EXPECT_EQ(bit_mask(0, 0), 1u);
  EXPECT_EQ(bit_mask(63, 0), ~0ull);
  EXPECT_EQ(bit_mask(63, 63), 1ull << 63);
  EXPECT_EQ(bit_mask(11, 8), 0xf00u);
}

TEST(Field, SetAndGetTouchTheirBitsOnly) {
  Sample s;
  s.words = {~0ull, ~0ull};
  s.set<Sample::Paint>(Colour::red);
  EXPECT_EQ(s.words[0], ~0x70ull | 0x10);
  EXPECT_EQ(s.words[1], ~0ull);
  EXPECT_EQ(s.get<Sample::Paint>(), Colour::red);
  EXPECT_TRUE(s.get<Sample::Flag>());
  s.set<Sample::Owner>(VMID{0x1234});
  EXPECT_EQ(s.words[1], 0xffff'ffff'ffff'1234);
  EXPECT_EQ(s.get<Sample::Owner>(), VMID{0x1234});
}

TEST(Field, AddressesSitInPlace) {
  Sample s;
  s.set<Sample::Base>(PA{0xfff0'0000'1234'5fff});  // what does not fit is cut off
  EXPECT_EQ(s.words[0], 0x0000'0000'1234'5000ull);
  EXPECT_EQ(s.get<Sample::Base>(), PA{0x1234'5000});
}

TEST(Field, ExcessBitsAreCutOff) {
  Sample s;
  s.set<Sample::Own>(0x1ff);
  EXPECT_EQ(s.words[0], 0xf000'0000'0000'0000);
}

TEST(Field, Within) {
  Sample s;
  EXPECT_TRUE(s.within(Sample::Layout::guest));
  s.set<Sample::Flag>(true).set<Sample::Owner>(VMID{7});
  EXPECT_TRUE(s.within(Sample::Layout::guest));
  s.set<Sample::Own>(1);
  EXPECT_FALSE(s.within(Sample::Layout::guest));
  s.set<Sample::Own>(0).words[1] |= 1ull << 127 % 64;
  EXPECT_FALSE(s.within(Sample::Layout::guest));
}

TEST(Field, ForEachSkipsReservedAndIgnored) {
  std::size_t n = 0;
  Sample::Layout::for_each([&](auto) { ++n; });
  EXPECT_EQ(n, 5u);
}

// Small records are as wide as their register.
struct Narrow : Record<Narrow, 32> {
  using Low = Field<"Low", 15, 0>;
  using High = Field<"High", 31, 16>;
  using Layout = weir::Layout<32, Low, High>;
};
static_assert(sizeof(Narrow) == 4 && std::is_same_v<Narrow::Word, std::uint32_t>);
static_assert(Narrow{}.set<Narrow::High>(0xabcd).words[0] == 0xabcd'0000);

TEST(Types, DistinctAndOrdered) {
  static_assert(!std::is_convertible_v<VStreamID, StreamID> && !std::is_constructible_v<StreamID, VStreamID>);
  static_assert(!std::is_convertible_v<IPA, PA> && !std::is_constructible_v<PA, IPA>);
  EXPECT_EQ((IPA{0x1fff}.align_down(kPage4K)), IPA{0x1000});
  EXPECT_EQ((IPA{0x1001}.align_up(kPage4K)), IPA{0x2000});
  EXPECT_TRUE(PA{0x4000}.aligned(0x4000));
  EXPECT_EQ(PA{0x5000} - PA{0x4000}, 0x1000u);
  EXPECT_EQ(2_MiB, 0x20'0000u);
}

}  // namespace
}  // namespace weir
