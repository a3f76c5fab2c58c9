// What decoded loads and stores do to registers and devices.
#include "hyp/cpu/mmio_execute.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <vector>

namespace weir {
namespace {

constexpr IPA kDevice{0x0c00'0000};
constexpr std::uint64_t kVa = 0xffff'8000'1234'5000;  // where the guest maps it
constexpr std::uint64_t kOnes = ~std::uint64_t{0};

struct Access {
  std::uint64_t at;
  unsigned size;
  std::uint64_t value;
  friend bool operator==(const Access&, const Access&) = default;
};
void PrintTo(const Access& a, std::ostream* out) { *out << std::hex << a.at << '/' << a.size << '=' << a.value; }

struct FakePort final : MmioPort {
  std::array<std::uint64_t, 32> x{};  // 31: SP
  std::array<VectorValue, 32> v{};
  std::map<std::uint64_t, std::uint64_t> device;  // what reads give
  std::vector<Access> reads, writes;
  MmioResult last = MmioResult::done;  // of the access number `fails_at`
  unsigned fails_at = 99;

  std::uint64_t base(unsigned n) override { return x.at(n); }
  void set_base(unsigned n, std::uint64_t value) override { x.at(n) = value; }
  std::uint64_t general(unsigned n) override {
    EXPECT_LT(n, 31U);
    return x.at(n);
  }
  void set_general(unsigned n, std::uint64_t value) override {
    EXPECT_LT(n, 31U);
    x.at(n) = value;
  }
  VectorValue vector(unsigned n) override { return v.at(n); }
  void set_vector(unsigned n, VectorValue value) override { v.at(n) = value; }
  MmioResult read(IPA at, unsigned size, std::uint64_t& value) override {
    EXPECT_TRUE(at.aligned(size));
    if (reads.size() == fails_at) return last;
    value = device[at.value];
    reads.push_back({at.value, size, value});
    return MmioResult::done;
  }
  MmioResult write(IPA at, unsigned size, std::uint64_t value) override {
    EXPECT_TRUE(at.aligned(size));
    if (writes.size() == fails_at) return last;
    writes.push_back({at.value, size, value});
    return MmioResult::done;
  }
};

class MmioExecuteTest : public ::testing::Test {
 protected:
  MmioExecuteTest() { port.x[1] = kVa + 0x10; }
  FakePort port;
  DecodedAccess access{.store = false,
                       .register_class = RegisterClass::general,
                       .size = 4,
                       .sign_extend = false,
                       .register_bits = 32,
                       .count = 1,
                       .regs = {0, 2},
                       .base = 1,
                       .offset = 0,
                       .index = {},
                       .writeback = {}};

  auto run(std::uint64_t page_offset = 0x10) {
    return execute_mmio(access, {.far = kVa + page_offset, .ipa = kDevice + page_offset, .write = access.store}, port);
  }
  void vector_of(unsigned size) {
    access.register_class = RegisterClass::vector;
    access.size = size;
    access.register_bits = 64;
  }
};

TEST_F(MmioExecuteTest, LoadZeroExtends) {
  port.x[0] = kOnes;
  port.device[kDevice.value + 0x10] = 0xffff'ffff'8000'0001;  // no more than four bytes of it count
  EXPECT_EQ(run(), MmioResult::done);
  EXPECT_EQ(port.x[0], 0x8000'0001U);
}

TEST_F(MmioExecuteTest, LoadSignExtendsToTheRegister) {
  port.device[kDevice.value + 0x10] = 0x80;
  access.size = 1;
  access.sign_extend = true;
  EXPECT_EQ(run(), MmioResult::done);
  EXPECT_EQ(port.x[0], 0xffff'ff80U) << "to W: the upper half is zero";
  access.register_bits = 64;
  EXPECT_EQ(run(), MmioResult::done);
  EXPECT_EQ(port.x[0], kOnes << 7);
}

TEST_F(MmioExecuteTest, StoreWritesTheLowBytes) {
  access.store = true;
  access.size = 2;
  port.x[0] = 0x1122'3344'5566'7788;
  EXPECT_EQ(run(), MmioResult::done);
  EXPECT_THAT(port.writes, ::testing::ElementsAre(Access{kDevice.value + 0x10, 2, 0x7788}));
}

TEST_F(MmioExecuteTest, ZeroRegister) {
  access.regs[0] = 31;
  port.x[31] = 0x1234;  // SP is something else
  access.store = true;
  EXPECT_EQ(run(), MmioResult::done);
  EXPECT_THAT(port.writes, ::testing::ElementsAre(Access{kDevice.value + 0x10, 4, 0}));
  access.store = false;
  port.device[kDevice.value + 0x10] = 77;
  EXPECT_EQ(run(), MmioResult::done);
  EXPECT_EQ(port.x[31], 0x1234U);
}

TEST_F(MmioExecuteTest, PairsInOrder) {
  access.count = 2;
  access.size = 8;
  access.register_bits = 64;
  access.store = true;
  port.x[0] = 0xa;
  port.x[2] = 0xb;
  EXPECT_EQ(run(), MmioResult::done);
  EXPECT_THAT(port.writes,
              ::testing::ElementsAre(Access{kDevice.value + 0x10, 8, 0xa}, Access{kDevice.value + 0x18, 8, 0xb}));
}

TEST_F(MmioExecuteTest, TheFaultMayBeAtTheSecondOfAPair) {
  access.count = 2;
  port.device = {{kDevice.value + 0x10, 1}, {kDevice.value + 0x14, 2}};
  EXPECT_EQ(run(0x14), MmioResult::done);
  EXPECT_EQ(port.x[0], 1U);
  EXPECT_EQ(port.x[2], 2U);
}

TEST_F(MmioExecuteTest, Writeback) {
  access.offset = -8;
  access.writeback = -8;
  EXPECT_EQ(run(0x8), MmioResult::done);
  EXPECT_EQ(port.reads.at(0).at, kDevice.value + 8);
  EXPECT_EQ(port.x[1], kVa + 0x8);

  access.offset = 0;
  access.writeback = 16;
  EXPECT_EQ(run(0x8), MmioResult::done);
  EXPECT_EQ(port.reads.at(1).at, kDevice.value + 8);
  EXPECT_EQ(port.x[1], kVa + 0x18);
}

TEST_F(MmioExecuteTest, Index) {
  port.x[2] = 0xffff'ffff'0000'0004;
  access.index = IndexRegister{2, IndexExtension::zero_32, 2};
  EXPECT_EQ(run(0x20), MmioResult::done);
  port.x[2] = 0xffff'fffc;
  access.index = IndexRegister{2, IndexExtension::sign_32, 2};
  EXPECT_EQ(run(0x0), MmioResult::done);
  port.x[2] = kOnes - 3;
  access.index = IndexRegister{2, IndexExtension::none, 0};
  EXPECT_EQ(run(0xc), MmioResult::done);
  access.index = IndexRegister{31, IndexExtension::none, 0};
  EXPECT_EQ(run(0x10), MmioResult::done);
}

TEST_F(MmioExecuteTest, VectorsOfSixteenBytesAreTwoAccesses) {
  vector_of(16);
  access.count = 2;
  access.store = true;
  port.v[0] = {1, 2};
  port.v[2] = {3, 4};
  EXPECT_EQ(run(), MmioResult::done);
  const std::uint64_t at = kDevice.value + 0x10;
  EXPECT_THAT(port.writes, ::testing::ElementsAre(Access{at, 8, 1}, Access{at + 8, 8, 2}, Access{at + 16, 8, 3},
                                                  Access{at + 24, 8, 4}));

  access.store = false;
  port.device = {{at, 5}, {at + 8, 6}, {at + 16, 7}, {at + 24, 8}};
  EXPECT_EQ(run(), MmioResult::done);
  EXPECT_TRUE(port.v[0] == (VectorValue{5, 6}));
  EXPECT_TRUE(port.v[2] == (VectorValue{7, 8}));
}

TEST_F(MmioExecuteTest, SmallVectorLoadsClearTheRest) {
  vector_of(1);
  port.v[0] = {kOnes, kOnes};
  port.device[kDevice.value + 0x10] = 0x1ff;
  EXPECT_EQ(run(), MmioResult::done);
  EXPECT_TRUE(port.v[0] == (VectorValue{0xff, 0}));
}

TEST_F(MmioExecuteTest, NothingChangesUnlessAllIsDone) {
  access.count = 2;
  access.writeback = 8;
  const auto before = port.x;
  for (const MmioResult result : {MmioResult::again, MmioResult::abort})
    for (const unsigned at : {0U, 1U}) {
      port.reads.clear();
      port.last = result;
      port.fails_at = at;
      EXPECT_EQ(run(), result);
      EXPECT_EQ(port.x, before);
    }
}

TEST_F(MmioExecuteTest, RefusesWhatDidNotFault) {
  const auto mismatch = std::unexpected{DecodeError::mismatch};
  EXPECT_EQ(run(0x14), mismatch) << "behind it";
  EXPECT_EQ(run(0x0c), mismatch) << "before it";
  EXPECT_EQ(execute_mmio(access, {kVa + 0x1010, kDevice + 0x10, false}, port), mismatch) << "another page";
  EXPECT_EQ(execute_mmio(access, {kVa + 0x10, kDevice + 0x10, true}, port), mismatch) << "a store faulted";
  EXPECT_EQ(execute_mmio(access, {kVa + 0x10, kDevice + 0x14, false}, port), mismatch);
  EXPECT_TRUE(port.reads.empty());
}

TEST_F(MmioExecuteTest, RefusesToCrossThePage) {
  access.count = 2;
  port.x[1] = kVa + 0xffc;
  EXPECT_EQ(run(0xffc), std::unexpected{DecodeError::mismatch});
  port.x[1] = kVa + 0xff8;
  EXPECT_EQ(run(0xff8), MmioResult::done);
}

TEST_F(MmioExecuteTest, RefusesUnaligned) {
  port.x[1] = kVa + 0x11;
  EXPECT_EQ(run(0x11), std::unexpected{DecodeError::mismatch});
  EXPECT_TRUE(port.reads.empty());
}

TEST_F(MmioExecuteTest, TopByteMayBeATag) {
  constexpr std::uint64_t kUser = 0x0000'7fff'1234'5000;
  port.x[1] = (kUser + 0x10) | (std::uint64_t{0xa5} << 56);
  EXPECT_EQ(execute_mmio(access, {kUser + 0x10, kDevice + 0x10, false}, port), MmioResult::done);
}

}  // namespace
}  // namespace weir
