// The conformance suite on the host: each case on each machine is a test. tests/conformance/differences.md says which cases
// fail on which machine, and why; such a case must fail, for one seed at least.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/conformance/run.hpp"
#include "tests/unit/conformance/machines.hpp"

namespace weir::conformance::host {
namespace {

constexpr auto kDifferences = "tests/conformance/differences.md";

// (machine, case) of the rows "| section | `case` | machine, machine | fail | why |".
const std::set<std::pair<std::string, std::string>>& differences() {
  static const auto known = [] {
    std::set<std::pair<std::string, std::string>> rows;
    const std::string path = __FILE__;  // .../tests/unit/conformance/conformance_test.cpp
    std::ifstream file{path.substr(0, path.rfind("tests/unit/")) + kDifferences};
    for (std::string line; std::getline(file, line);) {
      std::vector<std::string> cells;
      for (std::size_t at = line.find('|'), next; at != std::string::npos; at = next) {
        next = line.find('|', at + 1);
        if (next == std::string::npos) break;
        std::string cell = line.substr(at + 1, next - at - 1);
        std::erase_if(cell, [](char ch) { return ch == ' ' || ch == '`'; });
        cells.push_back(cell);
      }
      if (cells.size() < 5 || cells[3] != "fail") continue;
      for (std::size_t at = 0; at <= cells[2].size();) {
        const std::size_t end = std::min(cells[2].find(',', at), cells[2].size());
        rows.emplace(cells[2].substr(at, end - at), cells[1]);
        at = end + 1;
      }
    }
    return rows;
  }();
  return known;
}

class CaseTest : public testing::Test {
 public:
  CaseTest(const MachineType& type, const Case& c) : type_{type}, case_{c} {}
  void TestBody() override {
    const bool expected = differences().contains({std::string{type_.name}, std::string{case_.name}});
    unsigned failures = 0;
    for (std::uint64_t seed = 0; seed < type_.seeds; ++seed) {
      const auto machine = type_.make(seed);
      conformance::Run r{machine->rig()};
      conformance::run(case_, r);
      if (r.verdict() != Verdict::fail) continue;
      ++failures;
      Text<300> text;
      print(case_, r, text);
      if (!expected) ADD_FAILURE() << text.view() << " (seed " << seed << "; " << kDifferences << " does not list it)";
    }
    if (expected) EXPECT_NE(failures, 0u) << kDifferences << " lists a failure that no longer happens";
  }

 private:
  const MachineType& type_;
  const Case& case_;
};

// Conformance_vsmmu_full.cr0_ack: no other characters are allowed.
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
        testing::RegisterTest(("Conformance_" + identifier(type.name)).c_str(), identifier(c.name).c_str(), nullptr,
                              nullptr, __FILE__, __LINE__,
                              [&type, &c]() -> CaseTest* { return new CaseTest(type, c); });
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
  EXPECT_GT(names.size(), 300u);
}

TEST(Conformance, DifferencesNameCasesAndMachines) {
  std::set<std::string, std::less<>> names, machines{"qemu", "weir"};
  for (const auto& list : all_cases())
    for (const Case& c : list) names.emplace(c.name);
  for (const MachineType& type : machine_types()) machines.emplace(type.name);
  EXPECT_FALSE(differences().empty());
  for (const auto& [machine, name] : differences()) {
    EXPECT_TRUE(names.contains(name)) << name;
    EXPECT_TRUE(machines.contains(machine)) << machine;
  }
}

}  // namespace
}  // namespace weir::conformance::host
