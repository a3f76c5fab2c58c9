// The verdicts on all devicetrees below a folder.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "hyp/platform/platform.hpp"
#include "hyp/platform/verdict.hpp"

namespace weir::test {

inline std::vector<std::byte> read_blob(const std::filesystem::path& path) {
  std::ifstream in{path, std::ios::binary};
  const std::vector<char> chars{std::istreambuf_iterator<char>{in}, {}};
  std::vector<std::byte> bytes(chars.size());
  std::ranges::transform(chars, bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

// "VENDOR/MACHINE.dtb: VERDICT", sorted by name.
inline std::vector<std::string> verdicts_of(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> trees;
  for (const auto& entry : std::filesystem::recursive_directory_iterator{folder})
    if (entry.path().extension() == ".dtb") trees.push_back(entry.path());
  std::ranges::sort(trees);
  std::vector<std::string> lines;
  const auto platform = std::make_unique<Platform>();
  for (const auto& path : trees) {
    const std::vector<std::byte> blob = read_blob(path);
    static_cast<void>(discover(blob.data(), blob.size(), PA{0}, *platform));
    const dt::Line words = verdict(blob.data(), blob.size(), *platform);
    lines.push_back(path.lexically_relative(folder).string() + ": " + words.c_str());
  }
  return lines;
}

}  // namespace weir::test
