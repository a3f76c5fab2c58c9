// What each of a folder's devicetrees is to Weir: "NAME: VERDICT", a line each, sorted. Usage: platform-verdicts FOLDER
#include <cstdio>

#include "tests/unit/platform/verdicts.hpp"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: platform-verdicts FOLDER\n", stderr);
    return 2;
  }
  for (const std::string& line : weir::test::verdicts_of(argv[1])) std::printf("%s\n", line.c_str());
  return 0;
}
