// What tests of stage-2 tables share: a walk as hardware does it, and what must be mapped.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "stage2/table.hpp"
#include "tests/unit/fakes/fake_table_pages.hpp"

namespace weir::stage2::test {

using weir::test::FakeTablePages;

inline constexpr Attributes kRam{};
inline constexpr Attributes kReadOnly{.write = false};
inline constexpr Attributes kDevice{.memory = Memory::device_nGnRE};
inline constexpr Attributes kCode{.write = false, .execute = true};

inline Geometry geometry(unsigned bits, smmu::AddressSize output = smmu::AddressSize::bits48) {
  return *Geometry::make(bits, output);
}

// A walk as the hardware does it, from the root and the register fields alone, written without the code under test:
// PA and descriptor (level, attributes in place), or nothing.
struct Walked {
  std::uint64_t pa;
  std::uint64_t attributes;
  unsigned level;
  bool nt;   // bit 16 of a block
  bool dbm;  // bit 51
  std::uint64_t* descriptor;
};
inline std::optional<Walked> hardware_walk(TablePages& pages, const Table& table, std::uint64_t ipa) {
  const unsigned bits = 64u - table.geometry().t0sz();
  unsigned level = 2u - table.geometry().sl0();
  if ((ipa >> bits) != 0) return std::nullopt;
  auto* entries = static_cast<std::uint64_t*>(pages.pointer(table.root()));
  for (bool root = true;; ++level, root = false) {
    const unsigned shift = 12 + 9 * (3 - level);
    const std::uint64_t index = root ? ipa >> shift : (ipa >> shift) & 0x1ff;
    const std::uint64_t descriptor = std::atomic_ref{entries[index]}.load();
    if ((descriptor & 1) == 0) return std::nullopt;
    const bool table_bit = (descriptor & 2) != 0;
    const std::uint64_t address = descriptor & 0x0000'ffff'ffff'f000;
    if (level < 3 && table_bit) {
      entries = static_cast<std::uint64_t*>(pages.pointer(PA{address}));
      continue;
    }
    if (level == 0 || (level == 3 && !table_bit)) return std::nullopt;
    const std::uint64_t offset = ipa & ((std::uint64_t{1} << shift) - 1);
    const std::uint64_t base = address & ~((std::uint64_t{1} << shift) - 1);
    return Walked{.pa = base + offset,
                  .attributes = descriptor & 0x0060'0000'0000'07fc,
                  .level = level,
                  .nt = level < 3 && ((descriptor >> 16) & 1) != 0,
                  .dbm = ((descriptor >> 51) & 1) != 0,
                  .descriptor = &entries[index]};
  }
}

// A store by hardware that keeps dirty state: the page becomes dirty if it is writable-clean. False: a permission fault.
inline bool hardware_write(std::uint64_t* descriptor) {
  const std::atomic_ref<std::uint64_t> shared{*descriptor};
  constexpr std::uint64_t kWrite = std::uint64_t{1} << 7, kDbm = std::uint64_t{1} << 51;
  for (std::uint64_t old = shared.load();;) {
    if ((old & 1) == 0) return false;
    if ((old & kWrite) != 0) return true;
    if ((old & kDbm) == 0) return false;
    if (shared.compare_exchange_weak(old, old | kWrite)) return true;
  }
}
inline bool hardware_write(TablePages& pages, const Table& table, std::uint64_t ipa) {
  const auto walked = hardware_walk(pages, table, ipa);
  return walked && hardware_write(walked->descriptor);
}

// What must be mapped, as non-overlapping segments.
class Reference {
 public:
  bool any(std::uint64_t from, std::uint64_t to) const {
    for (const auto& [start, s] : segments_)
      if (start < to && s.end > from) return true;
    return false;
  }
  bool all(std::uint64_t from, std::uint64_t to) const {
    for (const auto& [start, s] : segments_)
      if (start <= from && s.end > from) from = s.end;
    return from >= to;
  }
  std::optional<Memory> memory(std::uint64_t from, std::uint64_t to) const {  // if it is one
    std::optional<Memory> found;
    for (const auto& [start, s] : segments_) {
      if (start >= to || s.end <= from) continue;
      if (found && *found != s.attributes.memory) return std::nullopt;
      found = s.attributes.memory;
    }
    return found;
  }
  void map(std::uint64_t from, std::uint64_t to, std::uint64_t pa, Attributes attributes) {
    segments_[from] = {to, pa, attributes};
  }
  void unmap(std::uint64_t from, std::uint64_t to) {
    cut(from);
    cut(to);
    segments_.erase(segments_.lower_bound(from), segments_.lower_bound(to));
  }
  void protect(std::uint64_t from, std::uint64_t to, Attributes attributes) {
    cut(from);
    cut(to);
    for (auto s = segments_.lower_bound(from); s != segments_.lower_bound(to); ++s) s->second.attributes = attributes;
  }
  std::optional<std::pair<std::uint64_t, Attributes>> lookup(std::uint64_t at) const {
    auto s = segments_.upper_bound(at);
    if (s == segments_.begin()) return std::nullopt;
    --s;
    if (at >= s->second.end) return std::nullopt;
    return std::pair{s->second.pa + (at - s->first), s->second.attributes};
  }
  std::vector<std::uint64_t> edges() const {
    std::vector<std::uint64_t> found;
    for (const auto& [start, s] : segments_) {
      found.push_back(start);
      found.push_back(s.end - 1);
      found.push_back(s.end);
      if (start != 0) found.push_back(start - 1);
    }
    return found;
  }

 private:
  struct Segment {
    std::uint64_t end, pa;
    Attributes attributes;
  };
  void cut(std::uint64_t at) {
    auto s = segments_.lower_bound(at);
    if (s == segments_.begin()) return;
    --s;
    if (s->second.end <= at) return;
    segments_[at] = {s->second.end, s->second.pa + (at - s->first), s->second.attributes};
    s->second.end = at;
  }
  std::map<std::uint64_t, Segment> segments_;
};

inline void expect_same(FakeTablePages& pages, const Table& table, const Reference& reference, std::uint64_t at) {
  const auto expected = reference.lookup(at);
  const auto found = table.lookup(IPA{at});
  const auto walked = hardware_walk(pages, table, at);
  ASSERT_EQ(found.has_value(), expected.has_value()) << std::hex << at;
  ASSERT_EQ(walked.has_value(), expected.has_value()) << std::hex << at;
  if (!expected) return;
  EXPECT_EQ(found->at.value, expected->first) << std::hex << at;
  EXPECT_EQ(found->attributes, expected->second) << std::hex << at;
  EXPECT_EQ(walked->pa, expected->first) << std::hex << at;
  EXPECT_EQ(walked->level, found->level);
}

}  // namespace weir::stage2::test
