// The conformance suite on the host: each case on each machine is a test.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/conformance/run.hpp"
#include "tests/unit/conformance/machines.hpp"

namespace weir::conformance::host {
namespace {

std::string outcome(const MachineType& type, const Case& c, std::uint64_t seed) {
  const auto machine = type.make(seed);
  Run r{machine->rig()};
  run(c, r);
  Text<300> text;
  print(c, r, text);
  return r.verdict() == Verdict::fail ? std::string{text.view()} : std::string{};
}

class CaseTest : public testing::Test {
 public:
  CaseTest(const MachineType& type, const Case& c) : type_{type}, case_{c} {}
  void TestBody() override {
    for (std::uint64_t seed = 0; seed < type_.seeds; ++seed) EXPECT_EQ(outcome(type_, case_, seed), "") << seed;
  }

 private:
  const MachineType& type_;
  const Case& case_;
};

// ConformanceWeir.cr0_ack_6_3_9
std::string identifier(std::string_view text) {
  std::string id{text};
  std::ranges::replace_if(id, [](char ch) { return ch == '-' || ch == '.'; }, '_');
  return id;
}
const bool kRegistered = [] {
  for (const MachineType& type : machine_types()) {
    if (type.seeds == 0) continue;
    for (const auto& list : all_cases())
      for (const Case& c : list)
        testing::RegisterTest(("Conformance_" + identifier(type.name)).c_str(),
                              (identifier(c.name) + "_" + identifier(c.section)).c_str(), nullptr, nullptr, __FILE__,
                              __LINE__, [&type, &c]() -> CaseTest* { return new CaseTest(type, c); });
  }
  return true;
}();

TEST(Conformance, NamesAreUnique) {
  std::vector<std::string_view> names;
  for (const auto& list : all_cases())
    for (const Case& c : list) names.push_back(c.name);
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  EXPECT_EQ(twice, names.end()) << *twice;
  EXPECT_TRUE(kRegistered);
}

}  // namespace
}  // namespace weir::conformance::host
