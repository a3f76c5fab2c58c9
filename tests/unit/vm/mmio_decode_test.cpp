// Encodings are those of an assembler; what they mean is from the Arm ARM, C6.2 and C7.2.
#include "hyp/cpu/mmio_decode.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>

#include "tests/unit/fakes/failing_new.hpp"

namespace weir {
namespace {

constexpr unsigned kSp = 31, kZr = 31;

struct Case {
  std::uint32_t instruction;
  const char* text;
  DecodedAccess access;
};

// The forms, composed: load(8, {0}, 1).at(16).
struct Build {
  DecodedAccess a;
  constexpr Build at(std::int64_t offset) const {
    Build b = *this;
    b.a.offset = offset;
    return b;
  }
  constexpr Build back(std::int64_t by) const {
    Build b = *this;
    b.a.writeback = by;
    return b;
  }
  constexpr Build sign(unsigned bits) const {
    Build b = *this;
    b.a.sign_extend = true;
    b.a.register_bits = bits;
    return b;
  }
  constexpr Build index(unsigned reg, IndexExtension extension, unsigned shift) const {
    Build b = *this;
    b.a.index = IndexRegister{reg, extension, shift};
    return b;
  }
};
constexpr Build general(bool store, unsigned size, std::array<unsigned, 2> regs, unsigned count, unsigned base) {
  DecodedAccess a;
  a.store = store;
  a.size = size;
  a.register_bits = size == 8 ? 64 : 32;
  a.regs = regs;
  a.count = count;
  a.base = base;
  return {a};
}
constexpr Build load(unsigned size, unsigned reg, unsigned base) { return general(false, size, {reg, 0}, 1, base); }
constexpr Build store(unsigned size, unsigned reg, unsigned base) { return general(true, size, {reg, 0}, 1, base); }
constexpr Build load2(unsigned size, unsigned a, unsigned b, unsigned base) {
  return general(false, size, {a, b}, 2, base);
}
constexpr Build store2(unsigned size, unsigned a, unsigned b, unsigned base) {
  return general(true, size, {a, b}, 2, base);
}
constexpr Build vector(Build b) {
  b.a.register_class = RegisterClass::vector;
  b.a.register_bits = 64;
  return b;
}

constexpr auto kWhole = IndexExtension::none;
constexpr auto kZero32 = IndexExtension::zero_32;
constexpr auto kSign32 = IndexExtension::sign_32;

const Case kCases[] = {
    {0xf8408420, "ldr x0, [x1], #8", load(8, 0, 1).back(8).a},
    {0xf8408c20, "ldr x0, [x1, #8]!", load(8, 0, 1).at(8).back(8).a},
    {0xf85f8420, "ldr x0, [x1], #-8", load(8, 0, 1).back(-8).a},
    {0xf9400bfe, "ldr x30, [sp, #16]", load(8, 30, kSp).at(16).a},
    {0xf940003d, "ldr x29, [x1]", load(8, 29, 1).a},
    {0xf900003f, "str xzr, [x1]", store(8, kZr, 1).a},
    {0x889fffff, "stlr wzr, [sp]", store(4, kZr, kSp).a},

    {0xf8625820, "ldr x0, [x1, w2, uxtw #3]", load(8, 0, 1).index(2, kZero32, 3).a},
    {0xf862c820, "ldr x0, [x1, w2, sxtw]", load(8, 0, 1).index(2, kSign32, 0).a},
    {0xf8626820, "ldr x0, [x1, x2]", load(8, 0, 1).index(2, kWhole, 0).a},
    {0xf8627820, "ldr x0, [x1, x2, lsl #3]", load(8, 0, 1).index(2, kWhole, 3).a},
    {0xf862f820, "ldr x0, [x1, x2, sxtx #3]", load(8, 0, 1).index(2, kWhole, 3).a},
    {0xf87f6820, "ldr x0, [x1, xzr]", load(8, 0, 1).index(kZr, kWhole, 0).a},
    {0x38627820, "ldrb w0, [x1, x2, lsl #0]", load(1, 0, 1).index(2, kWhole, 0).a},
    {0x38625820, "ldrb w0, [x1, w2, uxtw #0]", load(1, 0, 1).index(2, kZero32, 0).a},

    {0x39c00020, "ldrsb w0, [x1]", load(1, 0, 1).sign(32).a},
    {0x39800020, "ldrsb x0, [x1]", load(1, 0, 1).sign(64).a},
    {0xb8804420, "ldrsw x0, [x1], #4", load(4, 0, 1).sign(64).back(4).a},
    {0x78802820, "ldtrsh x0, [x1, #2]", load(2, 0, 1).sign(64).at(2).a},
    {0x999fc020, "ldapursw x0, [x1, #-4]", load(4, 0, 1).sign(64).at(-4).a},
    {0x19403020, "ldapurb w0, [x1, #3]", load(1, 0, 1).at(3).a},
    {0x59003020, "stlurh w0, [x1, #3]", store(2, 0, 1).at(3).a},
    {0xd94ff041, "ldapur x1, [x2, #255]", load(8, 1, 2).at(255).a},
    {0xc8dffc20, "ldar x0, [x1]", load(8, 0, 1).a},
    {0xc8df7c20, "ldlar x0, [x1]", load(8, 0, 1).a},
    {0x089f7c20, "stllrb w0, [x1]", store(1, 0, 1).a},
    {0xf8bfc020, "ldapr x0, [x1]", load(8, 0, 1).a},

    {0xa8c10440, "ldp x0, x1, [x2], #16", load2(8, 0, 1, 2).back(16).a},
    {0x29fe07e0, "ldp w0, w1, [sp, #-16]!", load2(4, 0, 1, kSp).at(-16).back(-16).a},
    {0x69410440, "ldpsw x0, x1, [x2, #8]", load2(4, 0, 1, 2).sign(64).at(8).a},
    {0xa8400440, "ldnp x0, x1, [x2]", load2(8, 0, 1, 2).a},

    {0xad3f7c40, "stp q0, q31, [x2, #-32]", vector(store2(16, 0, 31, 2)).at(-32).a},
    {0x2cc10440, "ldp s0, s1, [x2], #8", vector(load2(4, 0, 1, 2)).back(8).a},
    {0x3ca47867, "str q7, [x3, x4, lsl #4]", vector(store(16, 7, 3)).index(4, kWhole, 4).a},
    {0x3d000467, "str b7, [x3, #1]", vector(store(1, 7, 3)).at(1).a},
    {0x7c5ff061, "ldur h1, [x3, #-1]", vector(load(2, 1, 3)).at(-1).a},
    {0x3cdf0441, "ldr q1, [x2], #-16", vector(load(16, 1, 2)).back(-16).a},
    {0xfc1f0fe0, "str d0, [sp, #-16]!", vector(store(8, 0, kSp)).at(-16).back(-16).a},
    {0xfc408421, "ldr d1, [x1], #8", vector(load(8, 1, 1)).back(8).a},  // D1 and X1 do not collide
};

struct Refused {
  std::uint32_t instruction;
  const char* text;
  DecodeError why;
};
constexpr Refused kRefused[] = {
    {0xc85f7c20, "ldxr x0, [x1]", DecodeError::exclusive_or_atomic},
    {0xc8208861, "stlxp w0, x1, x2, [x3]", DecodeError::exclusive_or_atomic},
    {0xc8a07c41, "cas x0, x1, [x2]", DecodeError::exclusive_or_atomic},
    {0x48207c82, "casp x0, x1, x2, x3, [x4]", DecodeError::exclusive_or_atomic},
    {0x38208041, "swpb w0, w1, [x2]", DecodeError::exclusive_or_atomic},
    {0xf8200041, "ldadd x0, x1, [x2]", DecodeError::exclusive_or_atomic},
    {0xf820005f, "stadd x0, [x2]", DecodeError::exclusive_or_atomic},
    {0xf820403f, "stsmax x0, [x1]", DecodeError::exclusive_or_atomic},
    {0xb860503f, "stsminl w0, [x1]", DecodeError::exclusive_or_atomic},

    // Unpredictable forms; Capstone does not decode all of them.
    {0xf8408421, "ldr x1, [x1], #8", DecodeError::undecodable},
    {0xf8008c21, "str x1, [x1, #8]!", DecodeError::unpredictable},
    {0xa8810c21, "stp x1, x3, [x1], #16", DecodeError::undecodable},
    {0xa9400441, "ldp x1, x1, [x2]", DecodeError::undecodable},
    {0xa8c10c21, "ldp x1, x3, [x1], #16", DecodeError::undecodable},
    {0xa8c10843, "ldp x3, x2, [x2], #16", DecodeError::undecodable},

    {0x4c407820, "ld1 {v0.4s}, [x1]", DecodeError::not_supported},
    {0x85804020, "ldr z0, [x1]", DecodeError::not_supported},
    {0xf83fd080, "ld64b x0, [x4]", DecodeError::not_supported},
    {0xf8201420, "ldraa x0, [x1, #8]", DecodeError::not_supported},
    {0x58000080, "ldr x0, .+16", DecodeError::not_supported},
    {0xf9800020, "prfm pldl1keep, [x1]", DecodeError::not_supported},
    {0xd50b7420, "dc zva, x0", DecodeError::not_supported},
    {0xd9200820, "stg x0, [x1]", DecodeError::not_supported},
    {0x8b020020, "add x0, x1, x2", DecodeError::not_supported},
    {0xd503201f, "nop", DecodeError::not_supported},
    {0xffffffff, "unallocated", DecodeError::undecodable},
};

class MmioDecodeTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(decoder.open()); }
  void TearDown() override { decoder.close(); }
  MmioDecoder decoder;
};

TEST_F(MmioDecodeTest, SaysWhatTheInstructionDoes) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    const auto decoded = decoder.decode(c.instruction);
    ASSERT_TRUE(decoded.has_value()) << to_string(decoded.error());
    const DecodedAccess &is = *decoded, &want = c.access;
    EXPECT_EQ(is.store, want.store);
    EXPECT_EQ(is.register_class, want.register_class);
    EXPECT_EQ(is.size, want.size);
    EXPECT_EQ(is.sign_extend, want.sign_extend);
    EXPECT_EQ(is.register_bits, want.register_bits);
    EXPECT_EQ(is.count, want.count);
    EXPECT_EQ(is.regs, want.regs);
    EXPECT_EQ(is.base, want.base);
    EXPECT_EQ(is.offset, want.offset);
    EXPECT_TRUE(is.index == want.index);
    EXPECT_EQ(is.writeback, want.writeback);
    EXPECT_TRUE(is == want);
  }
}

TEST_F(MmioDecodeTest, RefusesTheRestAndSaysWhy) {
  constexpr std::uint32_t kLdp = 0xa8c10440;
  for (const Refused& r : kRefused) {
    ASSERT_TRUE(decoder.decode(kLdp).has_value());  // nothing of the instruction before may be left
    const auto decoded = decoder.decode(r.instruction);
    ASSERT_FALSE(decoded.has_value()) << r.text;
    EXPECT_EQ(decoded.error(), r.why) << r.text << ": " << to_string(decoded.error());
  }
}

TEST(MmioDecoder, ClosedRefuses) {
  MmioDecoder decoder;
  EXPECT_EQ(decoder.decode(0xf940003d).error(), DecodeError::no_decoder);
  ASSERT_TRUE(decoder.open());
  EXPECT_TRUE(decoder.open()) << "again is fine";
  decoder.close();
  decoder.close();
  EXPECT_EQ(decoder.decode(0xf940003d).error(), DecodeError::no_decoder);
}

TEST(MmioDecoder, WithoutMemoryItDoesNotOpen) {
  MmioDecoder decoder;
  {
    const test::FailingNew fail{0};
    EXPECT_FALSE(decoder.open());
  }
  EXPECT_EQ(decoder.decode(0xf940003d).error(), DecodeError::no_decoder);
  EXPECT_TRUE(decoder.open());
  decoder.close();
}

// Whatever a guest puts there, what comes out is within bounds: it indexes registers and sizes accesses.
TEST_F(MmioDecodeTest, AnyWordGivesAccessesWithinBounds) {
  std::mt19937 random{20261121};
  constexpr std::uint32_t kClassMask = 0x0a00'0000, kLoadsAndStores = 0x0800'0000;  // C4.1: op0 = x1x0
  unsigned decoded = 0;
  for (unsigned i = 0; i < 200'000; ++i) {
    auto word = static_cast<std::uint32_t>(random());
    if (i % 4 != 0) word = (word & ~kClassMask) | kLoadsAndStores;
    const auto m = decoder.decode(word);
    if (!m) continue;
    ++decoded;
    const bool is_vector = m->register_class == RegisterClass::vector;
    ASSERT_TRUE(m->count == 1 || m->count == 2) << std::hex << word;
    ASSERT_TRUE(std::ranges::contains(std::array{1U, 2U, 4U, 8U, 16U}, m->size)) << std::hex << word;
    ASSERT_TRUE(is_vector || m->size <= 8) << std::hex << word;
    ASSERT_TRUE(m->register_bits == 32 || m->register_bits == 64) << std::hex << word;
    ASSERT_TRUE(!m->sign_extend || (!is_vector && !m->store && m->size * 8 < m->register_bits)) << std::hex << word;
    ASSERT_LE(m->base, 31U) << std::hex << word;
    for (const unsigned reg : m->regs) ASSERT_LE(reg, 31U) << std::hex << word;
    ASSERT_LE(m->offset, 65'520) << std::hex << word;  // 4095 * 16
    ASSERT_GE(m->offset, -1024) << std::hex << word;   // -64 * 16
    if (!m->index) continue;
    ASSERT_TRUE(m->index->reg <= 31 && m->index->shift <= 4) << std::hex << word;
    ASSERT_TRUE(!m->writeback && m->count == 1 && m->offset == 0) << std::hex << word;
  }
  EXPECT_GT(decoded, 10'000U);
}

}  // namespace
}  // namespace weir
