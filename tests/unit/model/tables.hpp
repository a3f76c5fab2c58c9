// Translation tables of 39 bits (three levels of 4 KiB) as a driver builds them, in memory that is found by a function:
// the tests that use them move pages around.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>

#include "guest-abi/smmu/cd.hpp"

namespace weir::model::test {

inline constexpr std::uint64_t kValid = 1;
inline constexpr std::uint64_t kTable = 2;  // or page
inline constexpr std::uint64_t kUser = 1 << 6;
inline constexpr std::uint64_t kReadOnly = 1 << 7;
inline constexpr std::uint64_t kAccessed = 1 << 10;
inline constexpr std::uint64_t kNotGlobal = 1 << 11;
inline constexpr std::uint64_t kPageRw = kValid | kTable | kUser | kAccessed | kNotGlobal;
inline constexpr std::uint64_t kPageRo = kPageRw | kReadOnly;
// Stage 2
inline constexpr std::uint64_t kS2Rw = kValid | kTable | (3 << 6) | kAccessed;

class Tables {
 public:
  // `at`: the host's pointer to an address as the tables hold it. `page`: a new, zeroed page.
  Tables(std::function<std::byte*(std::uint64_t)> at, std::function<std::uint64_t()> page)
      : at_{std::move(at)}, page_{std::move(page)}, root_{page_()} {}
  [[nodiscard]] std::uint64_t root() const { return root_; }

  // The address of the descriptor of `va` at level 3; makes what is missing above it.
  [[nodiscard]] std::uint64_t leaf(std::uint64_t va) {
    std::uint64_t table = root_;
    for (unsigned level = 1; level < 3; ++level) {
      const std::uint64_t descriptor = table + ((va >> (39 - 9 * level)) & 511) * 8;
      if (load(descriptor) == 0) store(descriptor, page_() | kValid | kTable);
      table = load(descriptor) & ~std::uint64_t{0xfff};
    }
    return table + ((va >> 12) & 511) * 8;
  }
  void map(std::uint64_t va, std::uint64_t to, std::uint64_t flags = kPageRw) { store(leaf(va), to | flags); }
  void unmap(std::uint64_t va) { store(leaf(va), 0); }
  [[nodiscard]] std::uint64_t load(std::uint64_t address) const {
    std::uint64_t value{};
    std::memcpy(&value, at_(address), sizeof value);
    return value;
  }
  void store(std::uint64_t address, std::uint64_t value) { std::memcpy(at_(address), &value, sizeof value); }

 private:
  std::function<std::byte*(std::uint64_t)> at_;
  std::function<std::uint64_t()> page_;
  std::uint64_t root_;
};

inline smmu::Cd context(std::uint64_t ttb, std::uint16_t asid) {
  using smmu::Cd;
  return Cd{}
      .set<Cd::V>(true)
      .set<Cd::AA64>(true)
      .set<Cd::T0SZ>(25)
      .set<Cd::EPD1>(true)
      .set<Cd::IPS>(smmu::AddressSize::bits40)
      .set<Cd::R>(true)
      .set<Cd::A>(true)
      .set<Cd::ASET>(true)
      .set<Cd::ASID>(ASID{asid})
      .set<Cd::TTB0>(IPA{ttb});
}

}  // namespace weir::model::test
