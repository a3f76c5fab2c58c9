#include "hyp/vm/guest_seed.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/unit/platform/tree.hpp"

namespace weir {
namespace {

using test::Bytes;

std::string hex(const Blake2sDigest& digest) {
  std::string text;
  for (const std::byte b : digest)
    for (const unsigned shift : {4U, 0U}) text += "0123456789abcdef"[std::to_integer<unsigned>(b) >> shift & 0xf];
  return text;
}
Bytes counted(std::size_t n) {
  Bytes bytes(n);
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

// RFC 7693, appendix B; the others by Python's hashlib.
TEST(Blake2s, KnownAnswers) {
  const Bytes abc{std::byte{'a'}, std::byte{'b'}, std::byte{'c'}};
  EXPECT_EQ(hex(blake2s({}, abc)), "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982");
  EXPECT_EQ(hex(blake2s(counted(32), counted(200))),
            "13c88480a5d00d6c8c7ad2110d76a82d9b70f4fa6696d4e5dd42a066dcaf9920");
  EXPECT_EQ(hex(blake2s(counted(32), {})), "48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49");
  EXPECT_EQ(hex(blake2s(Bytes{std::byte{'k'}}, Bytes(64))),
            "f655fe105d1a5f2f7e2ab909e1aa5b9328eba66c7139645d957cb77a0a3a3d72");
}

Bytes platform(std::uint32_t seed) {
  test::Tree tree;
  tree["chosen"].set("kaslr-seed", test::cells({seed, 2})).set("rng-seed", counted(32));
  return tree.blob();
}
GuestSeeds seeds(Bytes blob, unsigned vm, std::string_view name, std::uint64_t counter = 1) {
  SeedPool pool;
  pool.take(blob);
  pool.stir(counter);
  return pool.for_vm(vm, name).value();
}

// Two VMs get different ones, and the same boot the same only if its counter is the same, too, as in a test.
TEST(GuestSeeds, DependOnEverything) {
  const GuestSeeds one = seeds(platform(1), 0, "a");
  const GuestSeeds again = seeds(platform(1), 0, "a");
  EXPECT_EQ(one.kaslr, again.kaslr);
  EXPECT_EQ(one.rng, again.rng);
  for (const GuestSeeds& other : {seeds(platform(1), 1, "a"), seeds(platform(1), 0, "b"), seeds(platform(2), 0, "a"),
                                  seeds(platform(1), 0, "a", 2)}) {
    EXPECT_NE(other.kaslr, one.kaslr);
    EXPECT_NE(other.rng, one.rng);
  }
  EXPECT_FALSE(std::ranges::equal(std::span{one.rng}.first(32), std::span{one.rng}.last(32)));
}

TEST(GuestSeeds, ThePlatformsAreWipedAndGivenToNoGuest) {
  Bytes blob = platform(0x12345678);
  const Bytes before = blob;
  SeedPool pool;
  pool.take(blob);
  const Bytes kaslr = test::cells({0x12345678, 2});
  const Bytes rng = counted(32);
  EXPECT_FALSE(std::ranges::search(before, kaslr).empty());
  EXPECT_TRUE(std::ranges::search(blob, kaslr).empty());
  EXPECT_TRUE(std::ranges::search(blob, rng).empty());
  const GuestSeeds given = pool.for_vm(0, "a").value();
  EXPECT_NE(given.kaslr, 0x1234567800000002U);
  EXPECT_FALSE(std::ranges::equal(std::span{given.rng}.first(32), rng));
}

TEST(GuestSeeds, NoneWithoutOneOfThePlatform) {
  for (const Bytes& rng : {Bytes{}, Bytes(64), counted(4)}) {
    test::Tree tree;
    tree["chosen"].set("rng-seed", rng);
    Bytes blob = tree.blob();
    SeedPool pool;
    pool.take(blob);
    pool.stir(0x1234);
    EXPECT_FALSE(pool.for_vm(0, "a")) << rng.size();
  }
  Bytes nothing = test::Tree{}.blob();
  SeedPool pool;
  pool.take(nothing);
  EXPECT_FALSE(pool.for_vm(0, "a"));
}

}  // namespace
}  // namespace weir
