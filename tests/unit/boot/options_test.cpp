#include "hyp/boot/options.hpp"

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/platform/tree.hpp"

namespace weir {
namespace {

test::Bytes with(std::string_view bootargs) {
  test::Tree tree;
  tree["chosen"].set("bootargs", bootargs);
  return tree.blob();
}
std::string said(std::string_view bootargs) {
  const auto line = misspelt_option(with(bootargs));
  return line ? std::string{line->view()} : std::string{};
}

TEST(BootOptions, Values) {
  const test::Bytes dtb = with("quiet weir.exit=psci weir.selftest=core");
  EXPECT_EQ(boot_option(dtb, "weir.exit"), "psci");
  EXPECT_EQ(boot_option(dtb, "weir.selftest"), "core");
  EXPECT_EQ(boot_option(dtb, "weir"), "");
  EXPECT_EQ(boot_option(test::Tree{}.blob(), "weir.exit"), "");
}

TEST(BootOptions, WhatIsMisspeltIsRefused) {
  constexpr std::string_view kKnown =
      ": not an option of Weir; expected weir.exit=semihosting|psci or weir.selftest=NAME";
  for (const std::string_view word :
       {"weir.exitt=psci", "weir.exit=pcsi", "weir.exit=", "weir.exit", "weir.selftest=", "weir.", "weir.exit=psci|"})
    EXPECT_EQ(said("quiet " + std::string{word} + " weir.exit=psci"),
              "/chosen: bootargs: \"" + std::string{word} + "\"" + std::string{kKnown});
  EXPECT_EQ(said("quiet weir.exit=psci  weir.selftest=core"), "");
  EXPECT_EQ(said("console=weir.exit weird=1"), "");  // another's words
  EXPECT_EQ(misspelt_option(test::Tree{}.blob()), std::nullopt);
}

}  // namespace
}  // namespace weir
