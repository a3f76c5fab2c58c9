// The discovery on every devicetree of Debian's arm64 kernel (tools/sources fetches them): no crash, under the sanitizers,
// and of each machine what a person would say of it. `make verdicts` writes verdicts.txt anew, to be read before it is kept.
#include "tests/unit/platform/verdicts.hpp"

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(PlatformVerdicts, EveryMachineOfDebiansKernel) {
  std::ifstream in{"tests/unit/platform/verdicts.txt"};
  std::vector<std::string> expected;
  for (std::string line; std::getline(in, line);) expected.push_back(line);
  ASSERT_FALSE(expected.empty()) << "run in the repository's folder";
  const std::vector<std::string> found = test::verdicts_of("build/kernel/dtbs");
  ASSERT_FALSE(found.empty()) << "build/kernel/dtbs: `make toolchain` fetches them";
  ASSERT_EQ(found.size(), expected.size()) << "another kernel package: `make verdicts`";
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i], expected[i]);
}

}  // namespace
}  // namespace weir
