// Distinct integer types for the things that must never be mixed up.
#pragma once

#include <compare>
#include <concepts>
#include <cstdint>

namespace weir {

// An integer of one meaning. Two Ids of different Tag do not convert into each other.
template <typename Tag, std::unsigned_integral Rep>
struct Id {
  using rep = Rep;
  Rep value{};

  constexpr Id() = default;
  constexpr explicit Id(Rep v) : value{v} {}
  friend constexpr auto operator<=>(Id, Id) = default;
};

// One of the 2^`bits` smallest. For any number of bits: a shift by the width of its operand is undefined.
template <typename Tag, std::unsigned_integral Rep>
[[nodiscard]] constexpr bool fits(Id<Tag, Rep> id, unsigned bits) {
  return bits >= 64 || std::uint64_t{id.value} >> bits == 0;
}

// A byte address in one address space.
template <typename Tag>
struct Address {
  using rep = std::uint64_t;
  std::uint64_t value{};

  constexpr Address() = default;
  constexpr explicit Address(std::uint64_t v) : value{v} {}
  friend constexpr auto operator<=>(Address, Address) = default;
  friend constexpr Address operator+(Address a, std::uint64_t bytes) { return Address{a.value + bytes}; }
  friend constexpr Address operator-(Address a, std::uint64_t bytes) { return Address{a.value - bytes}; }
  friend constexpr std::uint64_t operator-(Address a, Address b) { return a.value - b.value; }
  constexpr Address& operator+=(std::uint64_t bytes) { return value += bytes, *this; }

  // `alignment` is a power of two.
  [[nodiscard]] constexpr bool aligned(std::uint64_t alignment) const { return (value & (alignment - 1)) == 0; }
  [[nodiscard]] constexpr Address align_down(std::uint64_t alignment) const {
    return Address{value & ~(alignment - 1)};
  }
  [[nodiscard]] constexpr Address align_up(std::uint64_t alignment) const {
    return Address{(value + alignment - 1) & ~(alignment - 1)};
  }
};

using PA = Address<struct PATag>;      // physical address
using IPA = Address<struct IPATag>;    // intermediate physical address: a VM's "physical" address
using IOVA = Address<struct IOVATag>;  // input address of a device's stage-1 translation

using StreamID = Id<struct StreamIDTag, std::uint32_t>;    // of a physical SMMU
using VStreamID = Id<struct VStreamIDTag, std::uint32_t>;  // of a vSMMU, as the guest sees it
using SubstreamID = Id<struct SubstreamIDTag, std::uint32_t>;
using VMID = Id<struct VMIDTag, std::uint16_t>;
using ASID = Id<struct ASIDTag, std::uint16_t>;

inline constexpr std::uint64_t kPage4K = 0x1000;

constexpr std::uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
constexpr std::uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
constexpr std::uint64_t operator""_GiB(unsigned long long n) { return n << 30; }

}  // namespace weir
