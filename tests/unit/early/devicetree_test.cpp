#include "hyp/early/devicetree.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

extern "C" {
#include <libfdt.h>
}

namespace weir::early {
namespace {

// Writes a tree node by node. The blob ends where its allocation does, so that the sanitizer sees a read behind it.
class Tree {
 public:
  Tree() : buffer_(16384) {
    fdt_create(buffer_.data(), static_cast<int>(buffer_.size()));
    fdt_finish_reservemap(buffer_.data());
    begin("");
    cells("#address-cells", {2});
    cells("#size-cells", {2});
  }
  Tree& begin(const char* name) { return fdt_begin_node(buffer_.data(), name), *this; }
  Tree& end() { return fdt_end_node(buffer_.data()), *this; }
  Tree& text(const char* name, std::string_view value) {
    return fdt_property(buffer_.data(), name, value.data(), static_cast<int>(value.size())), *this;
  }
  Tree& cells(const char* name, std::initializer_list<std::uint32_t> values) {
    std::vector<std::uint32_t> big;
    for (const std::uint32_t v : values) big.push_back(cpu_to_fdt32(v));
    return fdt_property(buffer_.data(), name, big.data(), static_cast<int>(big.size() * 4)), *this;
  }
  Tree& uart(const char* name, std::string_view compatible, std::uint32_t address) {
    return begin(name).text("compatible", compatible).cells("reg", {0, address, 0, 0x1000});
  }
  std::unique_ptr<std::byte[]> blob() {
    end();
    fdt_finish(buffer_.data());
    bytes_ = fdt_totalsize(static_cast<const void*>(buffer_.data()));
    auto copy = std::make_unique<std::byte[]>(bytes_);
    std::memcpy(copy.get(), buffer_.data(), bytes_);
    return copy;
  }
  FoundUart find() { return find_uart(blob().get()); }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::vector<char> buffer_;
  std::size_t bytes_ = 0;
};

using namespace std::string_view_literals;
constexpr auto kPl011 = "arm,pl011\0arm,primecell\0"sv;
constexpr auto kDesignWare = "rockchip,rk3588-uart\0snps,dw-apb-uart\0"sv;

Tree& chosen(Tree& tree, std::string_view path) { return tree.begin("chosen").text("stdout-path", path).end(); }

TEST(EarlyDevicetree, TakesWhatStdoutPathNames) {
  for (const auto path :
       {"/soc/serial@2000\0"sv, "/soc/serial@2000:115200n8\0"sv, "serial1\0"sv, "serial1:1500000n8\0"sv}) {
    Tree tree;
    chosen(tree, path)
        .begin("aliases")
        .text("serial0", "/pl011@1000\0"sv)
        .text("serial1", "/soc/serial@2000\0"sv)
        .end();
    tree.uart("pl011@1000", kPl011, 0x1000).end();
    tree.begin("soc")
        .cells("#address-cells", {1})
        .cells("#size-cells", {1})
        .cells("ranges", {0x2000, 0, 0xfd00'2000, 0x4000});
    tree.begin("serial@2000").text("compatible", kDesignWare).cells("reg", {0x2000, 0x100});
    tree.cells("reg-shift", {2}).cells("reg-io-width", {4}).end().end();
    const FoundUart found = tree.find();
    EXPECT_EQ(found.by, Chosen::stdout_path) << path;
    EXPECT_EQ(found.uart.base, 0xfd00'2000U);
    EXPECT_EQ(found.uart.kind, UartKind::ns8250);
    EXPECT_EQ(found.uart.shift, 2);
    EXPECT_EQ(found.uart.width, 4);
  }
}

TEST(EarlyDevicetree, UnitAddressesMayBeLeftOut) {
  Tree tree;
  chosen(tree, "/pl011\0"sv).uart("serial@800", "ns16550a\0"sv, 0x800).end().uart("pl011@1000", kPl011, 0x1000).end();
  const FoundUart found = tree.find();
  EXPECT_EQ(found.by, Chosen::stdout_path);
  EXPECT_EQ(found.uart.base, 0x1000U);
  EXPECT_EQ(found.uart.kind, UartKind::pl011);
  EXPECT_EQ(found.uart.width, 4);
}

// Of another kind, disabled, below a bus without ranges, or not there: the next best.
TEST(EarlyDevicetree, FallsBack) {
  for (const auto path : {"/lpuart@800\0"sv, "/off@900\0"sv, "/spi@a00/serial@0\0"sv, "/none@0\0"sv,
                          "/pl011@1000/x\0"sv, "nope\0"sv, "\0"sv}) {
    for (const bool alias : {false, true}) {
      Tree tree;
      chosen(tree, path);
      if (alias) tree.begin("aliases").text("serial0", "/sbsa@2000\0"sv).end();
      tree.uart("lpuart@800", "fsl,imx7ulp-lpuart\0"sv, 0x800).end();
      tree.uart("off@900", kPl011, 0x900).text("status", "disabled\0"sv).end();
      tree.begin("spi@a00").cells("#address-cells", {1}).cells("#size-cells", {0});
      tree.begin("serial@0").text("compatible", "ns16550\0"sv).cells("reg", {0}).end().end();
      tree.uart("pl011@1000", kPl011, 0x1000).end().uart("sbsa@2000", "arm,sbsa-uart\0"sv, 0x2000).end();
      const FoundUart found = tree.find();
      EXPECT_EQ(found.by, alias ? Chosen::serial0 : Chosen::first) << path;
      EXPECT_EQ(found.uart.base, alias ? 0x2000U : 0x1000U);
    }
  }
}

TEST(EarlyDevicetree, NothingThatItKnows) {
  Tree tree;
  tree.uart("lpuart@800", "fsl,imx7ulp-lpuart\0"sv, 0x800).end().uart("p@0", "arm,pl01\0arm,pl0111\0"sv, 0).end();
  EXPECT_EQ(tree.find().by, Chosen::nothing);
}

TEST(EarlyDevicetree, DeepTreesArePassedOver) {
  Tree tree;
  for (int i = 0; i < 40; ++i) tree.begin("deeper").text("ranges", ""sv);
  tree.uart("serial@1", kPl011, 1).end();
  for (int i = 0; i < 40; ++i) tree.end();
  tree.uart("serial@2", kPl011, 2).end();
  EXPECT_EQ(tree.find().uart.base, 2U);
}

TEST(EarlyDevicetree, ItsSize) {
  Tree tree;
  const auto blob = tree.blob();
  EXPECT_EQ(devicetree_bytes(blob.get()), tree.bytes());
  blob[0] = std::byte{1};
  EXPECT_EQ(devicetree_bytes(blob.get()), 0U);
  const std::uint32_t big[2] = {cpu_to_fdt32(0xd00dfeed), cpu_to_fdt32(kMaxDevicetree + 8)};
  EXPECT_EQ(devicetree_bytes(reinterpret_cast<const std::byte*>(big)), 0U);
}

// Whatever bytes are wrong, nothing outside of the blob is read.
TEST(EarlyDevicetree, Garbage) {
  std::mt19937 random{3};
  Tree tree;
  chosen(tree, "/soc/serial@2000:115200\0"sv).begin("aliases").text("serial0", "/pl011@1000\0"sv).end();
  tree.uart("pl011@1000", kPl011, 0x1000).end();
  tree.begin("soc")
      .cells("#address-cells", {1})
      .cells("#size-cells", {1})
      .cells("ranges", {0x2000, 0, 0xfd00'2000, 0x4000});
  tree.begin("serial@2000").text("compatible", kDesignWare).cells("reg", {0x2000, 0x100}).end().end();
  const auto good = tree.blob();
  for (int round = 0; round < 5'000; ++round) {
    auto blob = std::make_unique<std::byte[]>(tree.bytes());
    std::memcpy(blob.get(), good.get(), tree.bytes());
    for (unsigned i = 0, n = 1 + random() % 4; i < n; ++i) {
      // The total size stays: it says how much there is.
      const std::size_t at = 8 + random() % (tree.bytes() - 8);
      blob[at] = static_cast<std::byte>(random() % 3 == 0 ? random() : random() % 8);
    }
    (void)find_uart(blob.get());
  }
}

}  // namespace
}  // namespace weir::early
