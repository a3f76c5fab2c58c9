#include "hyp/platform/platform.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "hyp/platform/devicetree.hpp"
#include "tests/unit/platform/discover.hpp"

namespace weir {
namespace {

using test::Bytes;
using test::cells;
using test::discover_blob;
using test::discover_tree;
using test::error_of;
using test::expect_range;
using test::kDtb;
using test::strings;
using test::Tree;
using test::virt_tree;

// As QEMU describes itself with -smp 1.
TEST(Platform, OneCpuNeedsNoEnableMethod) {
  Tree tree = virt_tree();
  for (const char* other : {"cpu@1", "cpu@2", "cpu@3"}) tree["cpus"].remove(other);
  tree["cpus"]["cpu@0"].remove("enable-method");
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.error, "");
  EXPECT_EQ(result.platform->cpus.size(), 1U);
}

TEST(Platform, TheTimeOfDayComesFromAPl031) {
  EXPECT_FALSE(discover_tree(virt_tree()).platform->rtc);
  Tree tree = virt_tree();
  Tree& rtc = tree["pl031@9010000"];
  rtc.set("compatible", strings({"arm,pl031", "arm,primecell"})).set("reg", cells({0, 0x9010000, 0, 0x1000}));
  expect_range(*discover_tree(tree).platform->rtc, 0x9010000, 0x1000);
  rtc.set("status", "disabled");
  EXPECT_FALSE(discover_tree(tree).platform->rtc);
  rtc.remove("status").set("reg", cells({0, 0x50000000, 0, 0x1000}));  // memory is there
  const test::Discovered result = discover_tree(tree);
  EXPECT_EQ(result.error, "");
  EXPECT_FALSE(result.platform->rtc);
}

TEST(Platform, Virt) {
  const test::Discovered result = discover_tree(virt_tree());
  ASSERT_EQ(result.error, "");
  const Platform& p = *result.platform;
  EXPECT_EQ(p.model, "linux,dummy-virt");
  ASSERT_EQ(p.ram.size(), 1U);
  expect_range(p.ram[0], 0x40000000, 0x80000000);
  ASSERT_EQ(p.reserved.size(), 2U);  // the tree, the initrd
  EXPECT_EQ(p.reserved[0].base, kDtb);
  expect_range(p.reserved[1], 0x49000000, 0x1001000);
  expect_range(*p.initrd, 0x49000000, 0x1000123);
  EXPECT_EQ(p.unreserved_ram(), 0x80000000 - p.reserved[0].bytes - p.reserved[1].bytes);
  EXPECT_TRUE(std::ranges::equal(p.cpus, std::array{0, 1, 2, 3}));

  expect_range(p.gic.distributor, 0x8000000, 0x10000);
  ASSERT_EQ(p.gic.redistributors.size(), 1U);
  expect_range(p.gic.redistributors[0], 0x80a0000, 0xf60000);
  EXPECT_EQ(p.gic.maintenance->intid, 25U);
  expect_range(*p.gic.its, 0x8080000, 0x20000);
  EXPECT_EQ(p.timers.physical, 30U);
  EXPECT_EQ(p.timers.virtual_, 27U);
  EXPECT_EQ(p.timers.hypervisor, 26U);
  EXPECT_EQ(p.uart.name, "pl011@9000000");
  expect_range(p.uart.registers, 0x9000000, 0x1000);
  EXPECT_EQ(p.uart.interrupt, (Interrupt{33, Trigger::level}));
}

TEST(Platform, VirtSmmus) {
  const test::Discovered result = discover_tree(virt_tree());
  const Platform& p = *result.platform;
  ASSERT_EQ(p.smmus.size(), 3U);
  EXPECT_EQ(p.smmus[1].name, "smmuv3@c020000");
  EXPECT_TRUE(p.smmus[1].compatible.empty());
  EXPECT_EQ(p.last_stream(0), StreamID{0x7ff});
  EXPECT_EQ(p.last_stream(2), StreamID{0xffff});
  expect_range(p.smmus[1].registers, 0xc020000, 0x20000);
  EXPECT_TRUE(p.smmus[1].coherent);
  EXPECT_EQ(p.smmus[1].event_queue, (Interrupt{148, Trigger::edge}));
  EXPECT_EQ(p.smmus[1].global_error, (Interrupt{151, Trigger::edge}));
}

TEST(Platform, VirtPci) {
  const test::Discovered result = discover_tree(virt_tree());
  ASSERT_EQ(result.platform->pci_hosts.size(), 1U);
  const PciHost& host = result.platform->pci_hosts[0];
  expect_range(host.ecam, 0x4010000000, 0x10000000);
  EXPECT_EQ(host.last_bus, 255);
  EXPECT_TRUE(host.coherent);  // inherited
  ASSERT_EQ(host.windows.size(), 3U);
  EXPECT_EQ(host.windows[0].kind, PciWindowKind::io);
  EXPECT_EQ(host.windows[1].kind, PciWindowKind::memory32);
  EXPECT_EQ(host.windows[1].cpu, PA{0x10000000});
  EXPECT_EQ(host.windows[1].bytes, 0x2eff0000U);
  EXPECT_EQ(host.windows[2].kind, PciWindowKind::memory64);
  EXPECT_EQ(host.windows[2].pci, 0x8000000000U);

  // Only the low two bits of the device number count, and no bus.
  EXPECT_EQ(host.route(0x08, 1 << 3, 1), (Interrupt{36, Trigger::level}));
  EXPECT_EQ(host.route(0x10, 5 << 3 | 2, 2), (Interrupt{37, Trigger::level}));
  EXPECT_EQ(host.route(0x10, 0, 5), std::nullopt);

  EXPECT_EQ(host.stream(0x7ff)->smmu, 0U);
  EXPECT_EQ(host.stream(0x900)->smmu, 1U);
  EXPECT_EQ(host.stream(0x900)->stream, StreamID{0x900});
  EXPECT_EQ(host.stream(0x1000)->smmu, 2U);
}

TEST(Platform, StreamIdsAreOffsetAndGapsHaveNone) {
  Tree tree = virt_tree();
  tree["pcie@10000000"].set("iommu-map", cells({0x100, test::kSmmu, 0x5000, 0x10}));
  const test::Discovered result = discover_tree(tree);
  const PciHost& host = result.platform->pci_hosts[0];
  EXPECT_EQ(host.stream(0x10f)->stream, StreamID{0x500f});
  EXPECT_FALSE(host.stream(0x110));
  EXPECT_FALSE(host.stream(0xff));
}

TEST(Platform, DisabledSmmuIsLeftOut) {
  Tree tree = virt_tree();
  tree["smmuv3@c000000"].set("status", "disabled");
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.error, "");
  EXPECT_EQ(result.platform->smmus.size(), 2U);
  EXPECT_FALSE(result.platform->pci_hosts[0].stream(0));
  EXPECT_EQ(result.platform->pci_hosts[0].stream(0x800)->smmu, 0U);
}

TEST(Platform, ReservedMemory) {
  Tree tree = virt_tree();
  Tree& reserved = tree["reserved-memory"];
  reserved.set("#address-cells", cells(2)).set("#size-cells", cells(2)).set("ranges");
  reserved["secure"].set("reg", cells({0, 0x50000800, 0, 0x1000})).set("no-map");
  reserved["fb"].set("reg", cells({0, 0x60000000, 0, 0x100000}));
  reserved["pool"].set("size", cells({0, 0x100000}));
  const test::Discovered result = discover_blob(tree.blob({{0x47000000, 0x1800}}));
  ASSERT_EQ(result.error, "");
  const Platform& p = *result.platform;
  ASSERT_EQ(p.ram.size(), 2U);
  expect_range(p.ram[0], 0x40000000, 0x10000000);
  expect_range(p.ram[1], 0x50002000, 0x80000000 - 0x10002000);
  ASSERT_EQ(p.reserved.size(), 4U);
  expect_range(p.reserved[0], 0x47000000, 0x2000);
}

// As on the Base models: a UART on a bus below a bus below a bus, with addresses of a chip select and an offset, and
// interrupts that an interrupt-map translates.
TEST(Platform, NestedBuses) {
  Tree tree = virt_tree();
  Tree& bus = tree["bus@8000000"];
  bus.set("compatible", "simple-bus")
      .set("#address-cells", cells(2))
      .set("#size-cells", cells(1))
      .set("ranges", cells({0, 0, 0, 0x08000000, 0x04000000,  //
                            3, 0, 0, 0x1c000000, 0x04000000}))
      .set("#interrupt-cells", cells(1))
      .set("interrupt-map-mask", cells(0, 0, 63))
      .set("interrupt-map", cells({0, 0, 4, test::kGic, 0, 0, 0, 4, 4,  //
                                   0, 0, 5, test::kGic, 0, 0, 0, 5, 4}));
  Tree& motherboard = bus["motherboard-bus"];
  motherboard.set("#address-cells", cells(2))
      .set("#size-cells", cells(1))
      .set("#interrupt-cells", cells(1))
      .set("ranges");
  Tree& inner = motherboard["iofpga-bus@300000000"];
  inner.set("#address-cells", cells(1)).set("#size-cells", cells(1)).set("ranges", cells({0, 3, 0, 0x200000}));
  inner["serial@90000"]
      .set("compatible", strings({"arm,pl011", "arm,primecell"}))
      .set("reg", cells(0x90000, 0x1000))
      .set("interrupts", cells(5));
  tree["aliases"].set("serial0", "/bus@8000000/motherboard-bus/iofpga-bus@300000000/serial@90000");
  tree["chosen"].set("stdout-path", "serial0:115200n8");
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.error, "");
  expect_range(result.platform->uart.registers, 0x1c090000, 0x1000);
  EXPECT_EQ(result.platform->uart.interrupt, (Interrupt{37, Trigger::level}));
}

TEST(Platform, UartBySerial0OrTheFirst) {
  Tree tree = virt_tree();
  tree["chosen"].remove("stdout-path");
  EXPECT_EQ(discover_tree(tree).platform->uart.name, "pl011@9000000");
  tree.remove("aliases");
  const Bytes blob = tree.blob();
  EXPECT_EQ(discover_uart(blob.data(), blob.size())->name, "pl011@9000000");
}

// What tells of errata: a compatible of its own, or a flag.
TEST(Platform, SmmusThatAreMoreThanGeneric) {
  Tree tree = virt_tree();
  tree["smmuv3@c000000"].set("compatible", strings({"vendor,odd-smmu", "arm,smmu-v3"}));
  tree["smmuv3@c020000"].set("cavium,cn9900-broken-page1-regspace").set("hisilicon,broken-prefetch-cmd");
  tree["smmuv3@c040000"].set("hisilicon,broken-prefetch-cmd");  // does not concern Weir
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.error, "");
  EXPECT_EQ(result.platform->smmus[0].compatible, "vendor,odd-smmu");
  EXPECT_EQ(result.platform->smmus[1].compatible, "cavium,cn9900-broken-page1-regspace");
  EXPECT_EQ(result.platform->smmus[2].compatible, "");
}

TEST(Platform, CombinedSmmuInterruptAndInterruptsExtended) {
  Tree tree = virt_tree();
  tree["smmuv3@c000000"]
      .remove("interrupts")
      .set("interrupts-extended", cells({test::kGic, 0, 10, 1, test::kGic, 0, 11, 4}))
      .set("interrupt-names", strings({"eventq", "combined"}));
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.error, "");
  EXPECT_EQ(result.platform->smmus[0].event_queue, (Interrupt{42, Trigger::edge}));
  EXPECT_EQ(result.platform->smmus[0].global_error, (Interrupt{43, Trigger::level}));
}

// ---- What is wrong is said with node, property, value and what was expected.

TEST(PlatformError, NotATree) {
  EXPECT_EQ(
      discover_blob(Bytes(64)).error,
      "devicetree: it does not begin as a devicetree blob does; expected a flattened devicetree of version 17, of at "
      "most 64 bytes");
}

struct Case {
  const char* name;
  void (*change)(Tree&);
  const char* line;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class PlatformErrors : public testing::TestWithParam<Case> {};
TEST_P(PlatformErrors, Line) {
  Tree tree = virt_tree();
  GetParam().change(tree);
  EXPECT_EQ(error_of(tree), GetParam().line);
}

constexpr Case kCases[] = {
    {"NoMemory", [](Tree& t) { t.remove("memory@40000000"); },
     "/: device_type = \"memory\": no such node; expected one"},
    {"NoCpus", [](Tree& t) { t.remove("cpus"); },
     "/: device_type = \"cpu\" in /cpus, started by PSCI: no such node; expected one"},
    {"PsciByHvc", [](Tree& t) { t["psci"].set("method", "hvc"); },
     "/psci: method = \"hvc\": from EL2, firmware is called by SMC; expected \"smc\""},
    {"NoPsci", [](Tree& t) { t.remove("psci"); },
     "/: compatible = \"arm,psci-1.0\" or \"arm,psci-0.2\": no such node; expected one"},
    {"NoGic", [](Tree& t) { t["intc@8000000"].set("compatible", "arm,cortex-a15-gic"); },
     "/: compatible = \"arm,gic-v3\": no such node; expected one"},
    {"GicReg", [](Tree& t) { t["intc@8000000"].set("reg", cells({0, 0x8000000, 0, 0x10000})); },
     "/intc@8000000: reg = <0x0 0x8000000 0x0 0x10000>: too short; expected at least 2 ranges"},
    {"TimerSpi", [](Tree& t) { t["timer"].set("interrupts", cells(0, 13, 4, 0, 14, 4)); },
     "/timer: interrupts = <0x0 0xd 0x4 0x0 0xe 0x4>: a timer's interrupt is missing or no PPI; expected a PPI for "
     "\"phys\""},
    {"NoUart", [](Tree& t) { t.remove("aliases").remove("pl011@9000000"), t["chosen"].remove("stdout-path"); },
     "/: compatible = \"arm,pl011\": no such node; expected one"},
    {"GicRegions", [](Tree& t) { t["intc@8000000"].set("#redistributor-regions", cells(0)); },
     "/intc@8000000: #redistributor-regions = <0x0>: not a number of regions; expected one cell, at least 1"},
    {"GicInMemory",
     [](Tree& t) { t["intc@8000000"].set("reg", cells({0, 0x50000000, 0, 0x10000, 0, 0x80a0000, 0, 0xf60000})); },
     "/intc@8000000: window 0x50000000 + 0x10000: overlaps memory 0x40000000 + 0x80000000; expected disjoint ranges"},
    {"UartInMemory", [](Tree& t) { t["pl011@9000000"].set("reg", cells({0, 0x50000000, 0, 0x1000})); },
     "/pl011@9000000: window 0x50000000 + 0x1000: overlaps memory 0x40000000 + 0x80000000; expected disjoint ranges"},
    {"EmptyMemory", [](Tree& t) { t["memory@40000000"].set("reg", cells(0, 0, 0, 0)); },
     "/: device_type = \"memory\": no such node; expected one"},
    {"OtherUart",
     [](Tree& t) { t["pl011@9000000"].set("compatible", strings({"rockchip,rk3588-uart", "snps,dw-apb-uart"})); },
     "/chosen: stdout-path = \"/pl011@9000000\": a UART of another kind, compatible = \"rockchip,rk3588-uart\", "
     "\"snps,dw-apb-uart\"; expected path or alias of an arm,pl011"},
};
INSTANTIATE_TEST_SUITE_P(All, PlatformErrors, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

// ---- The index of the tree that was opened last says what libfdt says.

std::vector<int> walk(dt::Node root) {
  std::vector<int> seen;
  for (dt::Node n = root; n; n = n.next()) {
    for (const dt::Node other : {n, n.parent(), n.first_child(), n.next_sibling()})
      seen.push_back(other ? other.offset() : -1);
    const dt::Property phandle = n.property("phandle");
    if (phandle) seen.push_back(root.by_phandle(phandle.cell(0)).offset());
  }
  seen.push_back(root.by_phandle(0x7654'3210) ? 1 : -1);
  return seen;
}

TEST(Devicetree, WalksTheTreeThatWasOpenedLastAsAnyOther) {
  const Bytes blob = virt_tree().blob();
  const dt::Node root = dt::open(blob.data(), blob.size()).root;
  const std::vector<int> indexed = walk(root);
  const Bytes other = virt_tree().blob();
  ASSERT_TRUE(dt::open(other.data(), other.size()).root);
  EXPECT_EQ(walk(root), indexed);
  EXPECT_GT(indexed.size(), 50U);
}

// ---- Damaged trees. There is nothing to assert: the sanitizers do.

TEST(PlatformFuzz, EveryTruncation) {
  const Bytes blob = virt_tree().blob();
  Platform platform;
  for (std::size_t size = 0; size < blob.size(); ++size) {
    const Bytes cut{blob.begin(), blob.begin() + static_cast<std::ptrdiff_t>(size)};
    EXPECT_FALSE(discover(cut.data(), cut.size(), kDtb, platform)) << size;
  }
}

TEST(PlatformFuzz, EveryByteFlipped) {
  Bytes blob = virt_tree().blob();
  Platform platform;
  for (std::byte& byte : blob)
    for (const std::byte flip : {std::byte{0xff}, std::byte{0x01}, std::byte{0x80}}) {
      byte ^= flip;
      (void)discover(blob.data(), blob.size(), kDtb, platform);
      (void)platform.unreserved_ram();
      byte ^= flip;
    }
}

}  // namespace
}  // namespace weir
