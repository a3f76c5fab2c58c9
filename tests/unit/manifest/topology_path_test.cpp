#include "hyp/manifest/topology_path.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace weir {
namespace {

std::string again(std::string_view text) {
  const auto path = TopologyPath::parse(text);
  if (!path) return "no path";
  std::array<char, TopologyPath::kMaxText> space{};
  return std::string{path->print(space)};
}

TEST(TopologyPath, ParsesAndPrints) {
  EXPECT_EQ(again("08:01.0"), "08:01.0");
  EXPECT_EQ(again("08:1F.7/00.0"), "08:1f.7/00.0");
  EXPECT_EQ(again("abcd:ff:1f.7/00.0"), "abcd:ff:1f.7/00.0");
  EXPECT_EQ(again("0000:08:01.0"), "08:01.0");
  EXPECT_EQ(again("ffff:00:01.0/01.0/01.0/01.0/01.0/01.0/01.0/1f.7"),
            "ffff:00:01.0/01.0/01.0/01.0/01.0/01.0/01.0/1f.7");
}

TEST(TopologyPath, Fields) {
  const TopologyPath path = TopologyPath::parse("10:02.1/03.0").value();
  EXPECT_EQ(path.segment, 0);
  EXPECT_EQ(path.root_bus, 0x10);
  EXPECT_EQ(path.depth, 2);
  EXPECT_EQ(path.devfn[0], 2 << 3 | 1);
  EXPECT_EQ(path.devfn[1], 3 << 3);
}

TEST(TopologyPath, Refuses) {
  for (const std::string_view text : {"",
                                      "08",
                                      "08:",
                                      "08:01",
                                      "08:01.",
                                      "08:1.0",
                                      "8:01.0",
                                      "08:01.8",
                                      "08:20.0",
                                      "08:01.0/",
                                      "08:01.0/00",
                                      "08:01.0 ",
                                      " 08:01.0",
                                      "08:01.0//00.0",
                                      "08:01.0/00.0x",
                                      "0g:01.0",
                                      "08:01.0:00.0",
                                      "00001:08:01.0",
                                      "01:08:01.0",
                                      "00:01.0/01.0/01.0/01.0/01.0/01.0/01.0/01.0/01.0"})
    EXPECT_EQ(again(text), "no path") << text;
}

}  // namespace
}  // namespace weir
