// build/host/conformance [MACHINE [SEED]]: runs the conformance cases on a machine of tests/unit/conformance and prints
// an outcome a line, as the payload of tests/guests/conformance does. Without arguments: the machines. --cases: the
// cases, as rows of a table.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tests/conformance/run.hpp"
#include "tests/unit/conformance/machines.hpp"

namespace {

using namespace weir;
using namespace weir::conformance;

void say(std::string_view text) { std::printf("%.*s\n", static_cast<int>(text.size()), text.data()); }

int print_all(const host::MachineType& type, std::uint64_t seed) {
  for (const auto& list : all_cases())
    for (const Case& c : list) {
      const auto machine = type.make(seed);
      Run r{machine->rig()};
      run(c, r);
      Text<300> text;
      print(c, r, text);
      say(text.view());
    }
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view wanted = argc > 1 ? argv[1] : "";
  if (wanted == "--cases") {
    for (const auto& list : all_cases())
      for (const Case& c : list) {
        Text<400> text;
        text.put("| ").put(c.section).put(" | `").put(c.name).put("` | ").put(c.rule).put(" |");
        say(text.view());
      }
    return EXIT_SUCCESS;
  }
  for (const auto& type : host::machine_types()) {
    if (type.name == wanted) return print_all(type, argc > 2 ? std::strtoull(argv[2], nullptr, 0) : 0);
    if (wanted.empty()) say((std::string{type.name} + ": " + std::string{type.what}));
  }
  return wanted.empty() ? EXIT_SUCCESS : EXIT_FAILURE;
}
