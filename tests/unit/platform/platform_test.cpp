#include "hyp/platform/platform.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "hyp/platform/devicetree.hpp"
#include "tests/unit/platform/virt_tree.hpp"

namespace weir {
namespace {

using test::Bytes;
using test::cells;
using test::strings;
using test::Tree;
using test::virt_tree;

constexpr PA kDtb{0x48000000};

struct Result {
  Bytes blob;  // names are views into it
  std::unique_ptr<Platform> platform = std::make_unique<Platform>();
  std::string error;  // empty: none
};

Result discover_blob(Bytes blob) {
  Result result{.blob = std::move(blob), .error = {}};
  const auto done = discover(result.blob.data(), result.blob.size(), kDtb, *result.platform);
  if (!done) result.error = done.error().line();
  return result;
}
Result discover_tree(const Tree& tree) { return discover_blob(tree.blob()); }
std::string error_of(const Tree& tree) { return discover_tree(tree).error; }

void expect_range(const MemoryRange& range, std::uint64_t base, std::uint64_t bytes) {
  EXPECT_EQ(range.base.value, base);
  EXPECT_EQ(range.bytes, bytes);
}

// As QEMU describes itself with -smp 1.
TEST(Platform, OneCpuNeedsNoEnableMethod) {
  Tree tree = virt_tree();
  for (const char* other : {"cpu@1", "cpu@2", "cpu@3"}) tree["cpus"].remove(other);
  tree["cpus"]["cpu@0"].remove("enable-method");
  const Result result = discover_tree(tree);
  ASSERT_EQ(result.error, "");
  EXPECT_EQ(result.platform->cpus.size(), 1U);
}

TEST(Platform, Virt) {
  const Result result = discover_tree(virt_tree());
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
  const Result result = discover_tree(virt_tree());
  const Platform& p = *result.platform;
  ASSERT_EQ(p.smmus.size(), 3U);
  EXPECT_EQ(p.smmus[1].name, "smmuv3@c020000");
  expect_range(p.smmus[1].registers, 0xc020000, 0x20000);
  EXPECT_TRUE(p.smmus[1].coherent);
  EXPECT_EQ(p.smmus[1].event_queue, (Interrupt{148, Trigger::edge}));
  EXPECT_EQ(p.smmus[1].global_error, (Interrupt{151, Trigger::edge}));
}

TEST(Platform, VirtPci) {
  const Result result = discover_tree(virt_tree());
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
  const Result result = discover_tree(tree);
  const PciHost& host = result.platform->pci_hosts[0];
  EXPECT_EQ(host.stream(0x10f)->stream, StreamID{0x500f});
  EXPECT_FALSE(host.stream(0x110));
  EXPECT_FALSE(host.stream(0xff));
}

TEST(Platform, DisabledSmmuIsLeftOut) {
  Tree tree = virt_tree();
  tree["smmuv3@c000000"].set("status", "disabled");
  const Result result = discover_tree(tree);
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
  const Result result = discover_blob(tree.blob({{0x47000000, 0x1800}}));
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
  const Result result = discover_tree(tree);
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

TEST(Platform, CombinedSmmuInterruptAndInterruptsExtended) {
  Tree tree = virt_tree();
  tree["smmuv3@c000000"]
      .remove("interrupts")
      .set("interrupts-extended", cells({test::kGic, 0, 10, 1, test::kGic, 0, 11, 4}))
      .set("interrupt-names", strings({"eventq", "combined"}));
  const Result result = discover_tree(tree);
  ASSERT_EQ(result.error, "");
  EXPECT_EQ(result.platform->smmus[0].event_queue, (Interrupt{42, Trigger::edge}));
  EXPECT_EQ(result.platform->smmus[0].global_error, (Interrupt{43, Trigger::level}));
}

// ---- What is wrong is said with node, property, value and what was expected.

TEST(PlatformError, NotATree) {
  EXPECT_EQ(discover_blob(Bytes(64)).error,
            "devicetree: FDT_ERR_BADMAGIC: not a flattened devicetree of at most 64 bytes; expected one of version 17");
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
    {"MemoryCells", [](Tree& t) { t["memory@40000000"].set("reg", cells(1, 2, 3)); },
     "/memory@40000000: reg = <0x1 0x2 0x3>: not a whole number of ranges; expected address and size, 4 cells "
     "together"},
    {"MemoryWraps", [](Tree& t) { t["memory@40000000"].set("reg", cells({0xffffffff, 0xfffff000, 0, 0x2000})); },
     "/memory@40000000: reg = <0xffffffff 0xfffff000 0x0 0x2000>: empty, or beyond the end of the address space; "
     "expected address and size"},
    {"MemoryTwice",
     [](Tree& t) { t["memory@5"].set("reg", cells({0, 0x50000000, 0, 0x1000})).set("device_type", "memory"); },
     "/memory@5: reg = <0x0 0x50000000 0x0 0x1000>: overlaps other memory; expected disjoint ranges"},
    {"WindowInMemory", [](Tree& t) { t["smmuv3@c040000"].set("reg", cells({0, 0x41000000, 0, 0x20000})); },
     "/smmuv3@c040000: window 0x41000000 + 0x20000: overlaps memory 0x40000000 + 0x80000000; expected disjoint ranges"},
    {"NoCpus", [](Tree& t) { t.remove("cpus"); }, "/: device_type = \"cpu\" in /cpus: no such node; expected one"},
    {"CpuTwice", [](Tree& t) { t["cpus"]["cpu@3"].set("reg", cells(1)); },
     "/cpus/cpu@3: reg = <0x1>: given twice; expected one node for each CPU"},
    {"SpinTable", [](Tree& t) { t["cpus"]["cpu@1"].set("enable-method", "spin-table"); },
     "/cpus/cpu@1: enable-method = \"spin-table\": cannot be started; expected \"psci\""},
    {"NoEnableMethod", [](Tree& t) { t["cpus"]["cpu@1"].remove("enable-method"); },
     "/cpus/cpu@1: enable-method: missing; expected \"psci\""},
    {"PsciByHvc", [](Tree& t) { t["psci"].set("method", "hvc"); },
     "/psci: method = \"hvc\": from EL2, firmware is called by SMC; expected \"smc\""},
    {"NoPsci", [](Tree& t) { t.remove("psci"); },
     "/: compatible = \"arm,psci-1.0\" or \"arm,psci-0.2\": no such node; expected one"},
    {"NoGic", [](Tree& t) { t["intc@8000000"].set("compatible", "arm,cortex-a15-gic"); },
     "/: compatible = \"arm,gic-v3\": no such node; expected one"},
    {"GicReg", [](Tree& t) { t["intc@8000000"].set("reg", cells({0, 0x8000000, 0, 0x10000})); },
     "/intc@8000000: reg = <0x0 0x8000000 0x0 0x10000>: too short; expected at least 2 ranges"},
    {"GicRegions", [](Tree& t) { t["intc@8000000"].set("#redistributor-regions", cells(33)); },
     "/intc@8000000: #redistributor-regions = <0x21>: too few or too many; expected 1 to 32"},
    {"TimerSpi", [](Tree& t) { t["timer"].set("interrupts", cells(0, 13, 4, 0, 14, 4)); },
     "/timer: interrupts = <0x0 0xd 0x4 0x0 0xe 0x4>: a timer's interrupt is missing or no PPI; expected a PPI for "
     "\"phys\""},
    {"StdoutPath", [](Tree& t) { t["chosen"].set("stdout-path", "/uart"); },
     "/chosen: stdout-path = \"/uart\": no such node; expected path or alias of an arm,pl011"},
    {"NoUart", [](Tree& t) { t.remove("aliases").remove("pl011@9000000"), t["chosen"].remove("stdout-path"); },
     "/: compatible = \"arm,pl011\": no such node; expected one"},
    {"InterruptKind", [](Tree& t) { t["pl011@9000000"].set("interrupts", cells(7, 1, 4)); },
     "/pl011@9000000: interrupts = <0x7 0x1 0x4>: not a GICv3 interrupt; expected three cells: 0 (SPI) or 1 (PPI), "
     "number, "
     "1 (edge) or 4 (level)"},
    {"InterruptParent", [](Tree& t) { t["pl011@9000000"].set("interrupt-parent", cells(99)); },
     "/pl011@9000000: interrupts = <0x0 0x1 0x4>: its interrupt parent is not in the tree; expected interrupt-parent "
     "to be "
     "the phandle of the arm,gic-v3 node"},
    {"InterruptRing",
     [](Tree& t) {
       t["psci"].set("phandle", cells(98)).set("interrupt-parent", cells(98)),
           t["pl011@9000000"].set("interrupt-parent", cells(98));
     },
     "/pl011@9000000: interrupts = <0x0 0x1 0x4>: its interrupt parent is not in the tree; expected interrupt-parent "
     "to be "
     "the phandle of the arm,gic-v3 node"},
    {"SmmuSmall", [](Tree& t) { t["smmuv3@c000000"].set("reg", cells({0, 0xc000000, 0, 0x10000})); },
     "/smmuv3@c000000: reg = <0x0 0xc000000 0x0 0x10000>: too small for two register pages; expected 0x20000 bytes"},
    {"SmmuNames", [](Tree& t) { t["smmuv3@c000000"].remove("interrupt-names"); },
     "/smmuv3@c000000: interrupt-names: missing; expected eventq, priq, cmdq-sync, gerror or combined"},
    {"BusWithoutRanges",
     [](Tree& t) {
       t["soc"]["smmu@1"].set("compatible", "arm,smmu-v3").set("reg", cells({0, 0, 0x20000}));
       t["soc"].set("#address-cells", cells(2)).set("#size-cells", cells(1));
     },
     "/soc: ranges: missing; expected a translation of the addresses of its children"},
    {"EcamSmall", [](Tree& t) { t["pcie@10000000"].set("reg", cells({0x40, 0x10000000, 0, 0x100000})); },
     "/pcie@10000000: reg = <0x40 0x10000000 0x0 0x100000>: too small for its bus-range; expected 1 MiB for each bus"},
    {"BusRange", [](Tree& t) { t["pcie@10000000"].set("bus-range", cells(3, 1)); },
     "/pcie@10000000: bus-range = <0x3 0x1>: not a range of buses; expected first and last bus, 0 to 255"},
    {"NoRanges", [](Tree& t) { t["pcie@10000000"].remove("ranges"); },
     "/pcie@10000000: ranges: missing; expected the windows of the host bridge"},
    {"RangesCells", [](Tree& t) { t["pcie@10000000"].set("ranges", cells(1, 2)); },
     "/pcie@10000000: ranges = <0x1 0x2>: not a whole number of lines; expected PCI address, CPU address, size"},
    {"InterruptMap", [](Tree& t) { t["pcie@10000000"].set("interrupt-map", cells({0, 0, 0, 1, 77, 0, 0, 0, 3, 4})); },
     "/pcie@10000000: interrupt-map = <0x0 0x0 0x0 0x1 0x4d 0x0 0x0 0x0 ...>: a line has no interrupt parent, or is "
     "cut off; "
     "expected PCI address, pin, phandle of the parent, its address and specifier"},
    {"IommuPhandle", [](Tree& t) { t["pcie@10000000"].set("iommu-map", cells(0, 77, 0, 1)); },
     "/pcie@10000000: iommu-map = <0x0 0x4d 0x0 0x1>: a phandle is in no node; expected lines of RID, phandle of an "
     "SMMU, "
     "StreamID, count"},
    {"IommuOverlap",
     [](Tree& t) { t["pcie@10000000"].set("iommu-map", cells({0, test::kSmmu, 0, 9, 8, test::kSmmu, 8, 1})); },
     "/pcie@10000000: iommu-map = <0x0 0x8008 0x0 0x9 0x8 0x8008 0x8 0x1>: two lines contain the same RID; expected "
     "disjoint lines"},
    {"IommuEnd", [](Tree& t) { t["pcie@10000000"].set("iommu-map", cells({1, test::kSmmu, 0, 0x10000})); },
     "/pcie@10000000: iommu-map = <0x1 0x8008 0x0 0x10000>: a line reaches beyond the last RID or StreamID; expected "
     "lines "
     "of RID, phandle of an SMMU, StreamID, count"},
    {"InitrdEnd", [](Tree& t) { t["chosen"].remove("linux,initrd-end"); },
     "/chosen: linux,initrd-end: missing; expected the address after the initrd"},
    {"TooManyCpus",
     [](Tree& t) {
       for (int i = 4; i < 65; ++i)
         t["cpus"]["cpu@" + std::to_string(i)]
             .set("device_type", "cpu")
             .set("reg", cells(i))
             .set("enable-method", "psci");
     },
     "/cpus: too many CPUs; expected at most 64"},
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
