// What is odd in a devicetree costs a line, not the machine.
#include <algorithm>

#include "tests/unit/platform/discover.hpp"

namespace weir {
namespace {

using test::cells;
using test::discover_tree;
using test::expect_range;
using test::strings;
using test::Tree;
using test::virt_tree;

struct Case {
  const char* name;
  void (*change)(Tree&);
  const char* line;  // the only remark
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class PlatformRemarks : public testing::TestWithParam<Case> {};
TEST_P(PlatformRemarks, Line) {
  Tree tree = virt_tree();
  GetParam().change(tree);
  const test::Discovered result = discover_tree(tree);
  EXPECT_EQ(result.error, "");
  EXPECT_EQ(result.platform->missing, 0);
  EXPECT_EQ(result.remarks(), std::vector<std::string>{GetParam().line});
}

constexpr Case kCases[] = {
    {"EmptyBank", [](Tree& t) { t["memory@0"].set("device_type", "memory").set("reg", cells(0, 0, 0, 0)); },
     "memory is left out: /memory@0: reg = <0x0 0x0 0x0 0x0>: an empty bank; expected address and size"},
    {"MemoryCells", [](Tree& t) { t["memory@0"].set("device_type", "memory").set("reg", cells(1, 2, 3)); },
     "memory is left out: /memory@0: reg = <0x1 0x2 0x3>: not a whole number of ranges; expected address and size, 4 "
     "cells together"},
    {"MemoryWraps",
     [](Tree& t) { t["memory@0"].set("device_type", "memory").set("reg", cells({0xffffffff, 0xfffff000, 0, 0x2000})); },
     "memory is left out: /memory@0: reg = <0xffffffff 0xfffff000 0x0 0x2000>: a bank beyond the end of the address "
     "space; expected addresses of 52 bits"},
    {"MemoryHuge",
     [](Tree& t) {
       t["memory@0"].set("device_type", "memory").set("reg", cells({0, 0xc0000000, 0xffffffff, 0xfffff000}));
     },
     "memory is left out: /memory@0: reg = <0x0 0xc0000000 0xffffffff 0xfffff000>: a bank beyond the end of the "
     "address space; expected addresses of 52 bits"},
    {"ReservedEmpty",
     [](Tree& t) {
       Tree& reserved = t["reserved-memory"];
       reserved.set("#address-cells", cells(2)).set("#size-cells", cells(2)).set("ranges");
       reserved["x"].set("reg", cells(0, 0x50000000, 0, 0));
     },
     "reserved range is left out: /reserved-memory/x: reg = <0x0 0x50000000 0x0 0x0>: an empty range; expected address "
     "and size"},
    {"InitrdOutside", [](Tree& t) { t["chosen"].set("linux,initrd-start", cells(0x30000000)); },
     "initrd is left out: /chosen: linux,initrd-start = <0x30000000>: not in memory; expected all of the initrd, up to "
     "0x4a000123, in one range of RAM that may be mapped"},
    {"InitrdBeyond", [](Tree& t) { t["chosen"].set("linux,initrd-end", cells({0xffffffff, 0xffffffff})); },
     "initrd is left out: /chosen: linux,initrd-start = <0x49000000>: not in memory; expected all of the initrd, up to "
     "0xffffffffffffffff, in one range of RAM that may be mapped"},
    {"GicRegions", [](Tree& t) { t["intc@8000000"].set("#redistributor-regions", cells(33)); },
     "redistributors are left out: /intc@8000000: reg = <0x0 0x8000000 0x0 0x10000 0x0 0x80a0000 0x0 0xf60000>: too "
     "short; expected at least 3 ranges"},
    {"Stride", [](Tree& t) { t["intc@8000000"].set("redistributor-stride", cells(0x1000)); },
     "stride is left out: /intc@8000000: redistributor-stride = <0x1000>: not a stride; expected a multiple of 64 KiB "
     "in one or two cells"},
    {"ItsWithoutAddress", [](Tree& t) { t["intc@8000000"]["its@8080000"].remove("reg"); },
     "ITS is left out: /intc@8000000/its@8080000: reg: missing; expected address and size"},
    {"Maintenance", [](Tree& t) { t["intc@8000000"].set("interrupts", cells(9, 9, 4)); },
     "maintenance interrupt is left out: /intc@8000000: interrupts = <0x9 0x9 0x4>: not a GICv3 interrupt; expected "
     "three cells: 0 (SPI) or 1 (PPI), number, 1 (edge) or 4 (level)"},
    {"FailedCpu", [](Tree& t) { t["cpus"]["cpu@3"].set("reg", cells(0x1000000)); },
     "CPU is left out: /cpus/cpu@3: reg = <0x1000000>: not an MPIDR affinity; expected #address-cells cells"},
    {"SmmuTwice",
     [](Tree& t) {
       t["soc"].set("#address-cells", cells(2)).set("#size-cells", cells(2)).set("ranges");
       test::add_smmu(t["soc"], "smmuv3@c000000", 8);
     },
     "SMMU is left out: /soc/smmuv3@c000000: another SMMU has this name; expected different ones, as manifests name "
     "them by it"},
    {"SmmuWireToNowhere",
     [](Tree& t) {
       t["smmuv3@c000000"]
           .set("interrupts", cells({0, 112, 1, 9, 113, 1}))
           .set("interrupt-names", strings({"eventq", "gerror"}));
     },
     "interrupt \"gerror\" is left out: /smmuv3@c000000: interrupts = <0x0 0x70 0x1 0x9 0x71 0x1>: not a GICv3 "
     "interrupt; expected three cells: 0 (SPI) or 1 (PPI), number, 1 (edge) or 4 (level)"},
    {"WindowOfPciInMemory",
     [](Tree& t) {
       t["pcie@10000000"].set("ranges", cells({0x2000000, 0, 0x10000000, 0, 0x10000000, 0, 0x2eff0000,  //
                                               0x2000000, 0, 0x40000000, 0, 0x40000000, 0, 0x10000000}));
     },
     "PCI window is left out: /pcie@10000000: window 0x40000000 + 0x10000000: overlaps memory 0x40000000 + "
     "0x80000000; expected disjoint ranges"},
    {"WindowEmpty",
     [](Tree& t) {
       t["pcie@10000000"].set("ranges", cells({0x2000000, 0, 0x10000000, 0, 0x10000000, 0, 0x2eff0000,  //
                                               0x2000000, 0, 0, 0, 0, 0, 0}));
     },
     "PCI window is left out: /pcie@10000000: ranges = <0x2000000 0x0 0x10000000 0x0 0x10000000 0x0 0x2eff0000 "
     "0x2000000 ...>: the window of line 2 is empty, or beyond the end of the address space; expected PCI address, CPU "
     "address, size"},
    {"OtherHost",
     [](Tree& t) {
       Tree& host = t["pcie@4000000"];
       host.set("compatible", strings({"rockchip,rk3588-pcie"})).set("device_type", "pci");
       host["pcie@0,0"].set("device_type", "pci");
     },
     "PCI host is left out: /pcie@4000000: compatible = \"rockchip,rk3588-pcie\": a kind of PCI host that Weir cannot "
     "drive; expected \"pci-host-ecam-generic\""},
    {"SegmentTwice",
     [](Tree& t) {
       Tree other = t["pcie@10000000"];
       t["pcie@20000000"] = other.rename("pcie@20000000").set("reg", cells({0x41, 0, 0, 0x10000000}));
     },
     "PCI host is left out: /pcie@20000000: PCI segment 0 is that of another host, too; expected linux,pci-domain to "
     "give each its own"},
    {"MemoryTwice",
     [](Tree& t) { t["memory@5"].set("reg", cells({0, 0x50000000, 0, 0x1000})).set("device_type", "memory"); },
     "memory is counted once: "
     "/memory@5: reg = <0x0 0x50000000 0x0 0x1000>: overlaps other memory; expected disjoint ranges"},
    {"WindowInMemory", [](Tree& t) { t["smmuv3@c040000"].set("reg", cells({0, 0x41000000, 0, 0x20000})); },
     "SMMU is left out: "
     "/smmuv3@c040000: window 0x41000000 + 0x20000: overlaps memory 0x40000000 + 0x80000000; expected disjoint ranges"},
    {"CpuTwice", [](Tree& t) { t["cpus"]["cpu@3"].set("reg", cells(1)); },
     "CPU is left out: "
     "/cpus/cpu@3: reg = <0x1>: given twice; expected one node for each CPU"},
    {"SpinTable", [](Tree& t) { t["cpus"]["cpu@1"].set("enable-method", "spin-table"); },
     "CPU is left out: "
     "/cpus/cpu@1: enable-method = \"spin-table\": cannot be started; expected \"psci\""},
    {"NoEnableMethod", [](Tree& t) { t["cpus"]["cpu@1"].remove("enable-method"); },
     "CPU is left out: "
     "/cpus/cpu@1: enable-method: missing; expected \"psci\""},
    {"StdoutPath", [](Tree& t) { t["chosen"].set("stdout-path", "/uart"); },
     "/pl011@9000000 is the console: "
     "/chosen: stdout-path = \"/uart\": no such node; expected path or alias of an arm,pl011"},
    {"InterruptKind", [](Tree& t) { t["pl011@9000000"].set("interrupts", cells(7, 1, 4)); },
     "input of the UART is left out: "
     "/pl011@9000000: interrupts = <0x7 0x1 0x4>: not a GICv3 interrupt; expected three cells: 0 (SPI) or 1 (PPI), "
     "number, "
     "1 (edge) or 4 (level)"},
    {"InterruptParent", [](Tree& t) { t["pl011@9000000"].set("interrupt-parent", cells(99)); },
     "input of the UART is left out: "
     "/pl011@9000000: interrupts = <0x0 0x1 0x4>: its interrupt parent is not in the tree; expected interrupt-parent "
     "to be "
     "the phandle of the arm,gic-v3 node"},
    {"InterruptRing",
     [](Tree& t) {
       t["psci"].set("phandle", cells(98)).set("interrupt-parent", cells(98)),
           t["pl011@9000000"].set("interrupt-parent", cells(98));
     },
     "input of the UART is left out: "
     "/pl011@9000000: interrupts = <0x0 0x1 0x4>: its interrupt parent is not in the tree; expected interrupt-parent "
     "to be "
     "the phandle of the arm,gic-v3 node"},
    {"SmmuSmall", [](Tree& t) { t["smmuv3@c000000"].set("reg", cells({0, 0xc000000, 0, 0x10000})); },
     "SMMU is left out: "
     "/smmuv3@c000000: reg = <0x0 0xc000000 0x0 0x10000>: too small for two register pages; expected 0x20000 bytes"},
    {"SmmuNames", [](Tree& t) { t["smmuv3@c000000"].remove("interrupt-names"); },
     "interrupts are left out: "
     "/smmuv3@c000000: interrupt-names: missing; expected eventq, priq, cmdq-sync, gerror or combined"},
    {"BusWithoutRanges",
     [](Tree& t) {
       t["soc"]["smmu@1"].set("compatible", "arm,smmu-v3").set("reg", cells({0, 0, 0x20000}));
       t["soc"].set("#address-cells", cells(2)).set("#size-cells", cells(1));
     },
     "SMMU is left out: "
     "/soc: ranges: missing; expected a translation of the addresses of its children"},
    {"EcamSmall", [](Tree& t) { t["pcie@10000000"].set("reg", cells({0x40, 0x10000000, 0, 0x100000})); },
     "the last buses are left out: "
     "/pcie@10000000: reg = <0x40 0x10000000 0x0 0x100000>: too small for its bus-range; expected 1 MiB for each bus"},
    {"BusRange", [](Tree& t) { t["pcie@10000000"].set("bus-range", cells(3, 1)); },
     "PCI host is left out: "
     "/pcie@10000000: bus-range = <0x3 0x1>: not a range of buses; expected first and last bus, 0 to 255"},
    {"NoRanges", [](Tree& t) { t["pcie@10000000"].remove("ranges"); },
     "PCI host is left out: "
     "/pcie@10000000: ranges: missing; expected the windows of the host bridge"},
    {"RangesCells", [](Tree& t) { t["pcie@10000000"].set("ranges", cells(1, 2)); },
     "PCI host is left out: "
     "/pcie@10000000: ranges = <0x1 0x2>: not a whole number of lines; expected PCI address, CPU address, size"},
    {"InterruptMap", [](Tree& t) { t["pcie@10000000"].set("interrupt-map", cells({0, 0, 0, 1, 77, 0, 0, 0, 3, 4})); },
     "INTx is left out: "
     "/pcie@10000000: interrupt-map = <0x0 0x0 0x0 0x1 0x4d 0x0 0x0 0x0 ...>: a line has no interrupt parent, or is "
     "cut off; "
     "expected PCI address, pin, phandle of the parent, its address and specifier"},
    {"IommuPhandle", [](Tree& t) { t["pcie@10000000"].set("iommu-map", cells(0, 77, 0, 1)); },
     "line of iommu-map is left out: "
     "/pcie@10000000: iommu-map = <0x0 0x4d 0x0 0x1>: a phandle is in no node; expected lines of RID, phandle of an "
     "SMMU, "
     "StreamID, count"},
    {"IommuOverlap",
     [](Tree& t) { t["pcie@10000000"].set("iommu-map", cells({0, test::kSmmu, 0, 9, 8, test::kSmmu, 8, 1})); },
     "RID of the second line is left out: "
     "/pcie@10000000: iommu-map = <0x0 0x8008 0x0 0x9 0x8 0x8008 0x8 0x1>: two lines contain the same RID; expected "
     "disjoint lines"},
    {"IommuEnd", [](Tree& t) { t["pcie@10000000"].set("iommu-map", cells({1, test::kSmmu, 0, 0x10000})); },
     "line of iommu-map is left out: "
     "/pcie@10000000: iommu-map = <0x1 0x8008 0x0 0x10000>: a line reaches beyond the last RID or StreamID; expected "
     "lines "
     "of RID, phandle of an SMMU, StreamID, count"},
    {"InitrdEnd", [](Tree& t) { t["chosen"].remove("linux,initrd-end"); },
     "initrd is left out: "
     "/chosen: linux,initrd-end: missing; expected the address after the initrd"},
};
INSTANTIATE_TEST_SUITE_P(All, PlatformRemarks, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

// ---- Memory

Tree& reserve(Tree& tree, const char* name, std::uint32_t at, std::uint32_t bytes) {
  Tree& reserved = tree["reserved-memory"];
  reserved.set("#address-cells", cells(2)).set("#size-cells", cells(2)).set("ranges");
  return reserved[name].set("reg", cells({0, at, 0, bytes}));
}

TEST(PlatformMemory, BanksThatTouchOrOverlapAreJoined) {
  Tree tree = virt_tree();
  tree["memory@40000000"].set("reg", cells({0, 0x60000000, 0, 0x20000000,  //
                                            0, 0x40000000, 0, 0x10000000,  //
                                            0, 0x50000000, 0, 0x10000800,  //
                                            0, 0x90000800, 0, 0x00001000}));
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.error, "");
  ASSERT_EQ(result.platform->ram.size(), 1U);  // half pages at the ends make no whole one
  expect_range(result.platform->ram[0], 0x40000000, 0x40000000);
  EXPECT_EQ(result.remarks().size(), 1U);
}

TEST(PlatformMemory, NoMapOverTwoBanksIsCutOutOfBoth) {
  Tree tree = virt_tree();
  tree["memory@40000000"].set("reg", cells({0, 0x40000000, 0, 0x10000000, 0, 0x58000000, 0, 0x10000000}));
  reserve(tree, "secure", 0x4f000000, 0x0a000000).set("no-map");
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.platform->ram.size(), 2U);
  expect_range(result.platform->ram[0], 0x40000000, 0x0f000000);
  expect_range(result.platform->ram[1], 0x59000000, 0x0f000000);
}

TEST(PlatformMemory, NoMapTakesAWholeBank) {
  Tree tree = virt_tree();
  tree["memory@40000000"].set("reg", cells({0, 0x40000000, 0, 0x10000000, 0, 0x58000000, 0, 0x10000000}));
  reserve(tree, "secure", 0x57000000, 0x12000000).set("no-map");
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.platform->ram.size(), 1U);
  expect_range(result.platform->ram[0], 0x40000000, 0x10000000);
}

TEST(PlatformMemory, HundredsOfCarveOuts) {
  Tree tree = virt_tree();
  for (std::uint32_t i = 0; i < 400; ++i)
    reserve(tree, ("x" + std::to_string(i)).c_str(), 0x50000000 + i * 0x200000, 0x1000).set("no-map");
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.error, "");
  EXPECT_EQ(result.platform->ram.size(), 401U);
  EXPECT_TRUE(result.remarks().empty());
  EXPECT_TRUE(std::ranges::is_sorted(result.platform->ram, {}, [](const MemoryRange& r) { return r.base; }));
}

// More than there is room for: memory is lost, and none that may not be mapped is kept.
TEST(PlatformMemory, MoreCarveOutsThanThereIsRoomFor) {
  for (const bool no_map : {true, false}) {
    Tree tree = virt_tree();
    for (std::uint32_t i = 0; i < 1000; ++i) {
      Tree& node = reserve(tree, ("x" + std::to_string(i)).c_str(), 0x50000000 + i * 0x100000, 0x1000);
      if (no_map) node.set("no-map");
    }
    const test::Discovered result = discover_tree(tree);
    ASSERT_EQ(result.error, "");
    const Platform& p = *result.platform;
    EXPECT_FALSE(result.remarks().empty());
    ASSERT_TRUE(p.initrd);
    std::uint64_t free = 0;
    for (const MemoryRange& ram : p.ram) {
      free += ram.bytes;
      for (std::uint32_t i = 0; i < 1000; ++i) {
        const std::uint64_t at = 0x50000000 + i * 0x100000;
        const bool in_ram = at < ram.base.value + ram.bytes && ram.base.value < at + 0x1000;
        const bool reserved = std::ranges::any_of(
            p.reserved, [&](const MemoryRange& r) { return at >= r.base.value && at < r.base.value + r.bytes; });
        EXPECT_TRUE(!in_ram || (!no_map && reserved)) << i;
      }
    }
    EXPECT_GT(free, 0x40000000U);
    EXPECT_LT(p.unreserved_ram(), 0x80000000U);
  }
}

TEST(PlatformMemory, ReservedRangesNeedNoTranslation) {
  Tree tree = virt_tree();
  reserve(tree, "x", 0x50000000, 0x1000);
  tree["reserved-memory"].remove("ranges");
  const test::Discovered result = discover_tree(tree);
  EXPECT_TRUE(std::ranges::any_of(result.platform->reserved,
                                  [](const MemoryRange& r) { return r.base == PA{0x50000000} && r.bytes == 0x1000; }));
  EXPECT_EQ(result.remarks(), std::vector<std::string>{"/reserved-memory: ranges: missing; its children are taken to "
                                                       "have addresses of the machine"});
}

TEST(PlatformMemory, AnInitrdThatMayNotBeMappedIsNone) {
  Tree tree = virt_tree();
  reserve(tree, "secure", 0x49800000, 0x1000).set("no-map");
  const test::Discovered result = discover_tree(tree);
  EXPECT_FALSE(result.platform->initrd);
  EXPECT_EQ(result.remarks().size(), 1U);
}

TEST(PlatformMemory, ReservedRangesJoin) {
  Tree tree = virt_tree();
  reserve(tree, "a", 0x50000000, 0x1000);
  reserve(tree, "b", 0x50001000, 0x1000);
  reserve(tree, "c", 0x50000800, 0x1000);
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.platform->reserved.size(), 3U);  // with the tree and the initrd
  expect_range(result.platform->reserved[2], 0x50000000, 0x2000);
}

TEST(PlatformMemory, WholeUnitsThatNothingUses) {
  Tree tree = virt_tree();
  tree["memory@40000000"].set("reg", cells({0, 0x40100000, 0, 0x10000000}));  // 127 whole ones
  tree["chosen"].remove("linux,initrd-start").remove("linux,initrd-end");
  reserve(tree, "a", 0x42000000, 0x1000);
  reserve(tree, "b", 0x42002000, 0x1000);
  const test::Discovered result = discover_tree(tree);
  const Platform& p = *result.platform;
  EXPECT_EQ(p.unreserved_units(0x200000), 125U * 0x200000);  // without those of the two, and of the tree
  EXPECT_EQ(p.unreserved_ram(), 0x10000000U - 0x2000 - (p.dtb.bytes + 0xfff) / 0x1000 * 0x1000);
}

TEST(PlatformMemory, StatusDecides) {
  for (const char* status : {"disabled", "reserved", "fail"}) {
    Tree tree = virt_tree();
    tree["memory@c0000000"].set("device_type", "memory").set("reg", cells({0, 0xd0000000, 0, 0x1000}));
    tree["memory@c0000000"].set("status", status);
    reserve(tree, "x", 0x50000000, 0x1000).set("no-map").set("status", status);
    EXPECT_EQ(discover_tree(tree).platform->ram.size(), 1U) << status;
  }
}

// ---- CPUs

TEST(PlatformCpus, MoreThanThereIsRoomFor) {
  Tree tree = virt_tree();
  for (unsigned i = 4; i < 72; ++i)
    tree["cpus"]
        .add("cpu@" + std::to_string(i))
        .set("device_type", "cpu")
        .set("reg", cells({(i / 16) << 8 | i % 16}))
        .set("enable-method", "psci");
  const test::Discovered result = discover_tree(tree);
  EXPECT_EQ(result.error, "");
  EXPECT_EQ(result.platform->cpus.size(), 64U);
  EXPECT_EQ(result.platform->cpus_beyond, 8U);
  EXPECT_EQ(result.remarks(), std::vector<std::string>{"8 CPUs are left out: /cpus: there is room for 64 only"});
}

TEST(PlatformCpus, DisabledOnesMayBeStartedFailedOnesNot) {
  Tree tree = virt_tree();
  tree["cpus"]["cpu@1"].set("status", "disabled");
  tree["cpus"]["cpu@2"].set("status", "fail-cache");
  EXPECT_TRUE(std::ranges::equal(discover_tree(tree).platform->cpus, std::array{0, 1, 3}));
}

TEST(PlatformCpus, AffinityInTwoCells) {
  Tree tree = virt_tree();
  tree["cpus"].set("#address-cells", cells(2));
  for (int i = 0; i < 4; ++i) tree["cpus"]["cpu@" + std::to_string(i)].set("reg", cells(1, i << 8));
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.error, "");
  EXPECT_EQ(result.platform->cpus[3], 0x1'0000'0300U);
}

// ---- Interrupts

TEST(PlatformInterrupts, Triggers) {
  const auto trigger = [](std::uint32_t flags) {
    Tree tree = virt_tree();
    tree["pl011@9000000"].set("interrupts", cells({0, 1, flags}));
    return discover_tree(tree).platform->uart.interrupt.value().trigger;
  };
  EXPECT_EQ(trigger(1), Trigger::edge);
  EXPECT_EQ(trigger(2), Trigger::edge);
  EXPECT_EQ(trigger(4), Trigger::level);
  EXPECT_EQ(trigger(8), Trigger::level);
  EXPECT_EQ(trigger(0), Trigger::level);
}

TEST(PlatformInterrupts, ExtendedOnesMayHaveHoles) {
  Tree tree = virt_tree();
  tree["smmuv3@c000000"]
      .remove("interrupts")
      .set("interrupts-extended", cells({0, test::kGic, 0, 11, 1}))
      .set("interrupt-names", strings({"eventq", "gerror"}));
  const test::Discovered result = discover_tree(tree);
  EXPECT_FALSE(result.platform->smmus[0].event_queue);
  EXPECT_EQ(result.platform->smmus[0].global_error, (Interrupt{43, Trigger::edge}));
}

// The usual form of a DesignWare or Cadence host: INTx end in a controller of its own, which has one line to the GIC.
TEST(PlatformInterrupts, PciThroughTheHostsOwnController) {
  Tree tree = virt_tree();
  Tree& host = tree["pcie@10000000"];
  host["legacy-interrupt-controller"]
      .set("interrupt-controller")
      .set("#interrupt-cells", cells(1))
      .set("#address-cells", cells(0))
      .set("interrupts", cells(0, 40, 1))
      .set("phandle", cells(77));
  host.set("interrupt-map-mask", cells(0, 0, 0, 7)).set("interrupt-map", cells({0, 0, 0, 1, 77,         0,  //
                                                                                0, 0, 0, 2, 77,         1,  //
                                                                                0, 0, 0, 3, test::kGic, 0,
                                                                                0, 0, 9, 4}));
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.error, "");
  ASSERT_EQ(result.platform->pci_hosts.size(), 1U);
  EXPECT_EQ(result.platform->pci_hosts[0].route(0, 0, 1), std::nullopt);
  EXPECT_EQ(result.platform->pci_hosts[0].route(0, 0, 3), (Interrupt{41, Trigger::level}));
  ASSERT_EQ(result.remarks().size(), 1U);
  EXPECT_TRUE(result.remarks()[0].starts_with("INTx is left out: /pcie@10000000: interrupt-map = "));
}

// ---- Buses

Tree& bus(Tree& tree, const char* name, test::Bytes ranges) {
  return tree[name].set("#address-cells", cells(1)).set("#size-cells", cells(1)).set("ranges", std::move(ranges));
}

TEST(PlatformBuses, AnAddressGoesThroughTheLineThatContainsAllOfIt) {
  const auto smmu_at = [](std::uint32_t at) {
    Tree tree = virt_tree();
    bus(tree, "soc", cells({0, 0, 0x1c000000, 0x100000, 0x100000, 1, 0x1d000000, 0x100000}))["smmu@0"]
        .set("compatible", "arm,smmu-v3")
        .set("reg", cells({at, 0x20000}));
    return discover_tree(tree);
  };
  EXPECT_EQ(smmu_at(0x10000).platform->smmus.back().registers.base, PA{0x1c010000});
  EXPECT_EQ(smmu_at(0xe0000).platform->smmus.back().registers.base, PA{0x1c0e0000});
  EXPECT_EQ(smmu_at(0x100000).platform->smmus.back().registers.base, PA{0x1'1d000000});
  for (const std::uint32_t outside : {0xf0000U, 0x1f0000U, 0x200000U}) {
    const test::Discovered result = smmu_at(outside);
    EXPECT_EQ(result.platform->smmus.size(), 3U);
    EXPECT_EQ(result.remarks().size(), 1U);
  }
}

TEST(PlatformBuses, ALineBeyondTheEndOfTheAddressSpace) {
  Tree tree = virt_tree();
  bus(tree, "soc", cells({0, 0xffffffff, 0xfffff000, 0x100000}))["smmu@0"]
      .set("compatible", "arm,smmu-v3")
      .set("reg", cells({0x2000, 0x20000}));
  const test::Discovered result = discover_tree(tree);
  EXPECT_EQ(result.platform->smmus.size(), 3U);
  ASSERT_EQ(result.remarks().size(), 1U);
  EXPECT_NE(result.remarks()[0].find("a line reaches beyond the end of the address space"), std::string::npos);
}

TEST(PlatformBuses, WindowsOfAHostBelowABus) {
  Tree tree = virt_tree();
  Tree& soc = tree["soc"];
  soc.set("#address-cells", cells(2)).set("#size-cells", cells(2)).set("ranges", cells({0, 0, 0x50, 0, 0x10, 0}));
  soc["pcie@0"]
      .set("compatible", "pci-host-ecam-generic")
      .set("device_type", "pci")
      .set("#address-cells", cells(3))
      .set("#size-cells", cells(2))
      .set("reg", cells(0, 0x10000000, 0, 0x100000))
      .set("ranges", cells({0x2000000, 0, 0x10000000, 0, 0x20000000, 0, 0x1000000}));
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.platform->pci_hosts.size(), 2U);
  const PciHost& host = result.platform->pci_hosts[1];
  EXPECT_EQ(host.ecam.base, PA{0x50'10000000});
  EXPECT_EQ(host.windows[0].cpu, PA{0x50'20000000});
  EXPECT_EQ(host.windows[0].pci, 0x10000000U);
  EXPECT_EQ(host.last_bus, 0);
  EXPECT_EQ(host.segment, 1);  // it does not say which: the first that is free
}

TEST(PlatformBuses, CoherencyOfTheNearestThatSays) {
  Tree tree = virt_tree();
  Tree& soc = tree["soc"].set("#address-cells", cells(2)).set("#size-cells", cells(2)).set("ranges");
  soc.set("dma-noncoherent");
  soc["smmu@1"].set("compatible", "arm,smmu-v3").set("reg", cells({0, 0xd000000, 0, 0x20000}));
  soc["smmu@2"].set("compatible", "arm,smmu-v3").set("reg", cells({0, 0xd100000, 0, 0x20000})).set("dma-coherent");
  tree.remove("dma-coherent");
  tree["bus"].set("#address-cells", cells(2)).set("#size-cells", cells(2)).set("ranges").set("dma-coherent");
  tree["bus"]["smmu@3"].set("compatible", "arm,smmu-v3").set("reg", cells({0, 0xd200000, 0, 0x20000}));
  const test::Discovered result = discover_tree(tree);
  ASSERT_EQ(result.platform->smmus.size(), 6U);
  EXPECT_FALSE(result.platform->smmus[3].coherent);
  EXPECT_TRUE(result.platform->smmus[4].coherent);
  EXPECT_TRUE(result.platform->smmus[5].coherent);
}

TEST(PlatformSmmus, MoreThanThereIsRoomFor) {
  Tree tree = virt_tree();
  for (std::uint32_t i = 3; i < 20; ++i) test::add_smmu(tree, ("smmuv3@" + std::to_string(i)).c_str(), i);
  const test::Discovered result = discover_tree(tree);
  EXPECT_EQ(result.platform->smmus.size(), 16U);
  EXPECT_EQ(result.remarks(), std::vector<std::string>{"4 SMMUs are left out: /: there is room for 16 only"});
}

TEST(PlatformRemarksLimit, MoreThanThereIsRoomForAreCounted) {
  Tree tree = virt_tree();
  for (unsigned i = 0; i < 30; ++i)
    tree.add("memory@" + std::to_string(i)).set("device_type", "memory").set("reg", cells(0, 0, 0, 0));
  const test::Discovered result = discover_tree(tree);
  EXPECT_EQ(result.remarks().size(), Remarks::kMax);
  EXPECT_EQ(result.platform->remarks.more(), 30 - Remarks::kMax);
}

// Everything that is required and missing is told at once: the first as the error, the others as remarks.
TEST(PlatformMissing, All) {
  Tree tree = virt_tree();
  tree.remove("memory@40000000").remove("psci").remove("intc@8000000");
  const test::Discovered result = discover_tree(tree);
  EXPECT_EQ(result.error, "/: device_type = \"memory\": no such node; expected one");
  for (const Piece piece : {Piece::memory, Piece::psci, Piece::gic, Piece::timers})
    EXPECT_TRUE(result.platform->lacks(piece));
  EXPECT_FALSE(result.platform->lacks(Piece::cpus));
  EXPECT_FALSE(result.platform->lacks(Piece::uart));
}

}  // namespace
}  // namespace weir
