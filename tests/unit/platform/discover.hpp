// The discovery in tests: of trees that are written as C++.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "hyp/platform/platform.hpp"
#include "tests/unit/platform/virt_tree.hpp"

namespace weir::test {

inline constexpr PA kDtb{0x48000000};

struct Discovered {
  Bytes blob;  // names are views into it
  std::unique_ptr<Platform> platform = std::make_unique<Platform>();
  std::string error;  // empty: none

  [[nodiscard]] std::vector<std::string> remarks() const {
    std::vector<std::string> lines;
    for (const dt::Line& line : platform->remarks.lines()) lines.emplace_back(line.view());
    return lines;
  }
};

inline Discovered discover_blob(Bytes blob) {
  Discovered result{.blob = std::move(blob), .error = {}};
  const auto done = discover(result.blob.data(), result.blob.size(), kDtb, *result.platform);
  if (!done) result.error = done.error().line();
  return result;
}
inline Discovered discover_tree(const Tree& tree) { return discover_blob(tree.blob()); }
inline std::string error_of(const Tree& tree) { return discover_tree(tree).error; }

inline void expect_range(const MemoryRange& range, std::uint64_t base, std::uint64_t bytes) {
  EXPECT_EQ(range.base.value, base);
  EXPECT_EQ(range.bytes, bytes);
}

}  // namespace weir::test
