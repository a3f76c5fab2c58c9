#include "hyp/pci/topology.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>

#include "tests/unit/pci/fake_config.hpp"

namespace weir::pci {
namespace {

using namespace test;

// The machine of `make run`: root buses 0, 8 and 16; a root port and a disk on the latter two.
struct TopologyTest : testing::Test {
  TopologyTest() {
    host.first_bus = 0;
    host.last_bus = 255;
    add_window(PciWindowKind::memory32, 0x10000000, 0x2eff0000);
    add_window(PciWindowKind::memory64, 0x80'0000'0000, 0x80'0000'0000);
    host.route_address_mask = 0x1800;
    host.route_pin_mask = 7;
    for (unsigned device = 0; device < 4; ++device)
      for (unsigned pin = 1; pin <= 4; ++pin)
        EXPECT_TRUE(host.routes.push_back({device << 11, pin, {35 + (device + pin - 1) % 4, Trigger::level}}));
    EXPECT_TRUE(host.streams.push_back({0, 0x800, 0, StreamID{0}}));
    EXPECT_TRUE(host.streams.push_back({0x800, 0x800, 1, StreamID{0x800}}));
    EXPECT_TRUE(host.streams.push_back({0x1000, 0xf000, 2, StreamID{0x1000}}));
    add_bar(disk1, 0, 0x4000, true, false);
    add_bar(disk2, 0, 0x4000, true, false);
    add_bar(card, 0, 0x100, false, false);
    add_bar(card, 2, 0x40'0000, true, true);
    port1.behind[0] = &disk1;
    port2.behind[0] = &disk2;
    bus.put(0, 1 << 3, card);
    bus.put(8, 1 << 3, port1);
    bus.put(16, 2 << 3, port2);
  }
  void add_window(PciWindowKind kind, std::uint64_t base, std::uint64_t bytes) {
    EXPECT_TRUE(host.windows.push_back({kind, false, base, PA{base}, bytes}));
  }
  // What was remarked upon, one line each.
  std::string remarks() {
    std::string all;
    for (const Remark& remark : topology->remarks()) {
      Text<160> line;
      print(line, remark);
      all += std::string{line.view()} + "\n";
    }
    return all;
  }
  const Function* find(const char* path) { return topology->find(TopologyPath::parse(path).value()); }

  FakeFunction card = endpoint(0x1234, 0x11e8, 1), disk1 = endpoint(0x1b36, 0x10, 1), disk2 = endpoint(0x1b36, 0x10, 1);
  FakeFunction port1 = bridge(), port2 = bridge();
  FakeBus bus;
  PciHost host;
  std::unique_ptr<Topology> topology = std::make_unique<Topology>();
};

TEST_F(TopologyTest, FindsRootBusesAndWhatIsBehindThem) {
  topology->enumerate(bus, host);
  EXPECT_EQ(topology->functions().size(), 5u);
  const Function* d1 = find("08:01.0/00.0");
  const Function* d2 = find("10:02.0/00.0");
  ASSERT_TRUE(d1 && d2);
  EXPECT_EQ(d1->rid, Rid(9, 0, 0));
  EXPECT_EQ(d2->rid, Rid(17, 0, 0));
  EXPECT_EQ(d1->streams[0].smmu, 1u);
  EXPECT_EQ(d1->streams[0].stream, StreamID{0x900});
  EXPECT_EQ(d2->streams[0].smmu, 2u);
  EXPECT_TRUE(find("08:01.0")->bridge);
  EXPECT_EQ(find("08:02.0"), nullptr);
}

TEST_F(TopologyTest, SwizzlesInterruptsUpToTheRootBus) {
  topology->enumerate(bus, host);
  // INTA of device 0 behind root device d arrives as pin A of... device d: INTA on the root bus.
  EXPECT_EQ(find("08:01.0/00.0")->line->intid, 36u);
  EXPECT_EQ(find("10:02.0/00.0")->line->intid, 37u);
  EXPECT_EQ(find("00:01.0")->line->intid, 36u);  // shares its line with disk 1
}

TEST_F(TopologyTest, BarsAreDisjointAndInsideOfBridgeWindows) {
  topology->enumerate(bus, host);
  const BarInfo& bar = find("08:01.0/00.0")->bars[0];
  EXPECT_EQ(bar.bytes, 0x4000u);
  EXPECT_TRUE(bar.base.aligned(0x4000));
  EXPECT_EQ(disk1.get(kBar0, 4) & ~0xfu, bar.base.value);
  const Window window{{{port1.get(kMemoryWindow, 4)}}};
  EXPECT_EQ(window.get<Window::Base>(), bar.base.value >> 20);
  EXPECT_EQ(window.get<Window::Limit>(), bar.base.value >> 20);
  const Window prefetch{{{port1.get(kPrefetchWindow, 4)}}};
  EXPECT_GT(prefetch.get<Window::Base>(), prefetch.get<Window::Limit>()) << "empty";
  EXPECT_NE(find("10:02.0/00.0")->bars[0].base, bar.base);
  // A BAR smaller than a page gets a page; a 64-bit prefetchable one the high window.
  EXPECT_EQ(find("00:01.0")->bars[0].bytes, kPage4K);
  EXPECT_GE(find("00:01.0")->bars[2].base.value, 0x80'0000'0000u);
}

TEST_F(TopologyTest, NumbersOfAnEarlierFirmwareAreForgotten) {
  port1.set(kBusNumbers, 4, 0x00'20'20'08);
  disk1.set(kCommand, 2, 0x0006);
  topology->enumerate(bus, host);
  EXPECT_EQ(find("08:01.0/00.0")->rid, Rid(9, 0, 0));
  EXPECT_EQ(disk1.get(kCommand, 2), 0x0400u) << "no decoding, no DMA, no INTx";
}

TEST_F(TopologyTest, AcsKeepsFunctionsBehindABridgeApart) {
  port1.set(kExtended, 4, 0x1400'0001);  // AER, then at 0x140
  port1.set(0x140, 4, 0x0001'000d);      // ACS, the last
  port1.set(0x144, 4, 0x0000'001d);      // all but translation blocking
  port1.allow(0x146, 2, 0x001f);
  topology->enumerate(bus, host);
  EXPECT_EQ(port1.get(0x144, 4), 0x001d'001du);
}

// Blocking translated requests is on with the rest of ACS, and would keep ATS from working.
TEST_F(TopologyTest, TranslatedRequestsPassOnTheWayOfAFunctionThatHasAts) {
  for (FakeFunction* port : {&port1, &port2}) {
    port->set(kExtended, 4, 0x0001'000d);
    port->set(0x104, 4, 0x0000'001f);
    port->allow(0x106, 2, 0x001f);
  }
  topology->enumerate(bus, host);
  topology->pass_translated(bus, *find("08:01.0/00.0"));
  EXPECT_EQ(port1.get(0x104, 4), 0x001d'001fu);
  EXPECT_EQ(port2.get(0x104, 4), 0x001f'001fu);
}

TEST_F(TopologyTest, TranslationServicesAreTurnedOff) {
  disk1.set(kExtended, 4, 0x1100'001b);  // PASID
  disk1.set(0x104, 4, 0x0007'1406);
  disk1.set(0x110, 4, 0x1200'000f);  // ATS
  disk1.set(0x114, 4, 0x8001'0025);
  disk1.set(0x120, 4, 0x0001'0013);  // PRI, the last
  disk1.set(0x124, 4, 0x0000'0001);
  for (const int at : {0x106, 0x116, 0x124}) disk1.allow(static_cast<std::uint16_t>(at), 2, 0xffff);
  topology->enumerate(bus, host);
  EXPECT_EQ(disk1.get(0x104, 4), 0x0000'1406u);
  EXPECT_EQ(disk1.get(0x114, 4), 0x0000'0025u);
  EXPECT_EQ(disk1.get(0x124, 4), 0u);
}

TEST_F(TopologyTest, AListOfExtendedCapabilitiesThatLoopsEnds) {
  port1.set(kExtended, 4, 0x1000'0001);  // itself
  topology->enumerate(bus, host);
}

TEST_F(TopologyTest, MsiIsTurnedOff) {
  card.set(kStatus, 2, 0x10);
  card.set(kCapabilities, 1, 0x40);
  card.set(0x40, 4, 0x80000011);  // MSI-X, enabled, end of the list
  card.allow(0x40, 4, 0xc0000000);
  topology->enumerate(bus, host);
  EXPECT_EQ(card.get(0x40, 4), 0x11u);
}

// ---- What is odd costs a line, not the machine ----

TEST_F(TopologyTest, ABridgeWithoutABusNumberStaysClosed) {
  FakeFunction other = endpoint(1, 1, 0);
  bus.put(9, 0, other);
  topology->enumerate(bus, host);
  EXPECT_EQ(remarks(), "PCI function 08:01.0: nothing behind this bridge is used: no bus number is left for it\n");
  EXPECT_EQ(port1.get(kBusNumbers, 4), 0u);
  EXPECT_EQ(port1.get(kCommand, 2), 0x0400u) << "forwards nothing";
  EXPECT_TRUE(find("09:00.0") && find("10:02.0/00.0"));
}

TEST_F(TopologyTest, ACardThatDoesNotFitIsLeftOut) {
  add_bar(card, 1, 0x4000'0000, false, false);  // 1 GiB, below 4 GiB
  topology->enumerate(bus, host);
  EXPECT_EQ(
      remarks(),
      "PCI function 00:01.0: BAR 1, 1073741824 bytes, finds no room in the host's windows: the function cannot be "
      "used\n");
  ASSERT_TRUE(find("00:01.0")->problem);
  for (unsigned i = 0; i < kBars; ++i) {
    EXPECT_EQ(find("00:01.0")->bars[i].bytes, 0u);
    EXPECT_EQ(card.get(static_cast<std::uint16_t>(kBar0 + 4 * i), 4) & ~0xfu, 0u);
  }
  EXPECT_EQ(find("08:01.0/00.0")->bars[0].base, PA{0x1000'0000}) << "what it did not get is the others'";
}

TEST_F(TopologyTest, AFullWindowOfABridgeIsItsFunctionsLoss) {
  host.windows.clear();
  add_window(PciWindowKind::memory32, 0x10000000, 0x18'0000);  // one MiB and a half: what disk 2 would get is cut off
  topology->enumerate(bus, host);
  EXPECT_TRUE(find("00:01.0")->problem);
  EXPECT_FALSE(find("08:01.0/00.0")->problem);
  EXPECT_TRUE(find("10:02.0/00.0")->problem);
  const Window window{{{port2.get(kMemoryWindow, 4)}}};
  EXPECT_GT(window.get<Window::Base>(), window.get<Window::Limit>()) << "empty";
}

TEST_F(TopologyTest, BarsThatMakeNoSenseAreAbsent) {
  struct Case {
    unsigned bar;
    std::uint32_t fixed, settable;
    const char* line;
  };
  for (const Case& c :
       {Case{1, 0x8, 0, "BAR 1, 0x00000008, has type bits and no size: taken as absent"},
        Case{3, 0x4, 0, "BAR 3, 0x00000004, has type bits and no size: taken as absent"},
        Case{1, 0x1, 0, "BAR 1, 0x00000001, has type bits and no size: taken as absent"},
        Case{1, 0x0, 0xff0f0000, "BAR 1, 0xff0f0000, has a size that is no power of two: taken as absent"},
        Case{1, 0x1, 0xf0f0, "BAR 1, 0x0000f0f1, has a size that is no power of two: taken as absent"},
        Case{1, 0x2, 0xffff0000, "BAR 1, 0xffff0002, is of a type that there is not: taken as absent"},
        Case{1, 0x6, 0xffff0000, "BAR 1, 0xffff0006, is of a type that there is not: taken as absent"},
        Case{5, 0x4, 0xffff0000, "BAR 5, 0xffff0004, is 64-bit and in the last slot: taken as absent"}}) {
    auto scratch = std::make_unique<Topology>();
    topology.swap(scratch);
    FakeFunction odd = endpoint(1, 1, 0);
    add_bar(odd, 0, 0x1000, false, false);
    odd.set(static_cast<std::uint16_t>(kBar0 + 4 * c.bar), 4, c.fixed);
    odd.allow(static_cast<std::uint16_t>(kBar0 + 4 * c.bar), 4, c.settable);
    bus.put(0, 2 << 3, odd);
    topology->enumerate(bus, host);
    EXPECT_EQ(remarks(), std::string{"PCI function 00:02.0: "} + c.line + "\n");
    const Function* f = find("00:02.0");
    EXPECT_FALSE(f->problem) << "the others are good";
    EXPECT_NE(f->bars[0].bytes, 0u);
    EXPECT_EQ(f->bars[c.bar].bytes, 0u);
  }
}

// It might lie over another function's BAR.
TEST_F(TopologyTest, AFunctionWhoseBarCannotBeMovedIsNotUsed) {
  add_bar(card, 1, 0x1000, false, false);
  card.allow(kBar0 + 4, 4, 0xffff0000);
  card.set(kBar0 + 4, 4, 0x1000'1000);
  card.allow(kBar0 + 4, 4, 0);
  topology->enumerate(bus, host);
  EXPECT_EQ(remarks(),
            "PCI function 00:01.0: BAR 1, 0x10001000, does not take an address: the function cannot be used\n");
  EXPECT_TRUE(find("00:01.0")->problem);
}

TEST_F(TopologyTest, AWideBarWithoutAnUpperHalfLiesLow) {
  add_bar(card, 2, 0x10'0000, true, true);
  card.allow(kBar0 + 12, 4, 0);
  topology->enumerate(bus, host);
  EXPECT_EQ(remarks(), "");
  EXPECT_LT(find("00:01.0")->bars[2].base.value, 0x1'0000'0000u);
}

TEST_F(TopologyTest, AFullHighWindowLeavesTheLowOne) {
  host.windows.clear();
  add_window(PciWindowKind::memory32, 0x10000000, 0x2eff0000);
  add_window(PciWindowKind::memory64, 0x80'0000'0000, 0x20'0000);
  topology->enumerate(bus, host);
  EXPECT_EQ(remarks(), "");
  EXPECT_EQ(find("00:01.0")->bars[2].base.value, 0x1040'0000u);
}

// Addresses on the bus are not those of the CPU.
TEST_F(TopologyTest, AHostThatTranslates) {
  host.windows.clear();
  EXPECT_TRUE(host.windows.push_back({PciWindowKind::memory32, false, 0x2000'0000, PA{0x6'2000'0000}, 0x1000'0000}));
  topology->enumerate(bus, host);
  EXPECT_EQ(find("00:01.0")->bars[0].base, PA{0x6'2000'0000});
  EXPECT_EQ(card.get(kBar0, 4), 0x2000'0000u);
}

// A bridge need not have windows for I/O and for what is prefetchable.
TEST_F(TopologyTest, BridgesWithoutWindows) {
  add_window(PciWindowKind::io, 0, 0x1'0000);
  disk1 = endpoint(1, 1, 1);
  add_bar(disk1, 0, 0x4000, true, true);
  add_io_bar(disk1, 2, 0x20);
  port1.set(kPrefetchWindow, 4, 0);
  port1.allow(kPrefetchWindow, 4, 0);
  port1.set(kIoWindow, 2, 0);
  port1.allow(kIoWindow, 2, 0);
  topology->enumerate(bus, host);
  EXPECT_LT(find("08:01.0/00.0")->bars[0].base.value, 0x1'0000'0000u);
  EXPECT_EQ(find("08:01.0/00.0")->bars[2].bytes, 0u);
  EXPECT_EQ(remarks(),
            "PCI function 08:01.0/00.0: BAR 2, 4096 bytes, finds no room in an I/O window: taken as absent\n");
  EXPECT_FALSE(find("08:01.0/00.0")->problem);

  port2.allow(kMemoryWindow, 4, 0);
  topology = std::make_unique<Topology>();
  topology->enumerate(bus, host);
  EXPECT_TRUE(find("10:02.0/00.0")->problem) << "it has a BAR, and no way to it";
}

TEST_F(TopologyTest, IoBarsHavePagesOfTheirOwn) {
  EXPECT_TRUE(host.windows.push_back({PciWindowKind::io, false, 0, PA{0x3eff'0000}, 0x1'0000}));
  add_io_bar(card, 1, 0x20);
  add_io_bar(disk1, 2, 0x100);
  disk1.allow(kBar0 + 8, 4, 0xff00);  // 16 bits of address
  topology->enumerate(bus, host);
  EXPECT_EQ(remarks(), "");
  const BarInfo& on_root = find("00:01.0")->bars[1];
  EXPECT_TRUE(on_root.io);
  EXPECT_EQ(on_root.base, PA{0x3eff'1000}) << "page 0 is left out";
  EXPECT_EQ(on_root.bytes, kPage4K);
  EXPECT_EQ(card.get(kBar0 + 4, 4), 0x1001u);
  EXPECT_EQ(find("08:01.0/00.0")->bars[2].base, PA{0x3eff'2000});
  EXPECT_EQ(disk1.get(kBar0 + 8, 4), 0x2001u);
  EXPECT_EQ(port1.get(kIoWindow, 2), 0x2121u);
  EXPECT_EQ(port1.get(kIoUpper, 4), 0u);
  EXPECT_EQ(port1.get(kCommand, 2), 0x0407u);
  EXPECT_EQ(port2.get(kIoWindow, 2), 0x01f1u) << "empty";
  EXPECT_EQ(port2.get(kCommand, 2), 0x0406u);
}

TEST_F(TopologyTest, IoBarsBeyondTheWindowAreAbsent) {
  add_window(PciWindowKind::io, 0, 0x2000);
  add_io_bar(card, 1, 0x20);
  add_io_bar(card, 4, 0x20);
  topology->enumerate(bus, host);
  EXPECT_NE(find("00:01.0")->bars[1].bytes, 0u);
  EXPECT_EQ(find("00:01.0")->bars[4].bytes, 0u);
  EXPECT_FALSE(find("00:01.0")->problem);
}

TEST_F(TopologyTest, MoreFunctionsThanThereIsRoomFor) {
  FakeFunction many = endpoint(1, 1, 0);
  many.set(kHeaderType, 1, 0x80);
  for (unsigned number = 32; number < 34; ++number)
    for (unsigned devfn = 0; devfn < 256; ++devfn) bus.put(number, devfn, many);
  many.set(kCommand, 2, 0x0006);
  topology->enumerate(bus, host);
  EXPECT_EQ(topology->functions().size(), kMaxFunctions);
  EXPECT_EQ(remarks(), "PCI function 20:1f.3: skipped: more than 256 functions\n");
  EXPECT_EQ(many.get(kCommand, 2), 0x0400u);
}

TEST_F(TopologyTest, TooManyBridgesBehindOneAnother) {
  std::vector<FakeFunction> chain(TopologyPath::kMaxDepth, bridge(PortType::upstream));
  for (unsigned i = 0; i + 1 < chain.size(); ++i) chain[i].behind[0] = &chain[i + 1];
  chain.back().behind[0] = &disk1;
  bus.put(32, 0, chain[0]);
  topology->enumerate(bus, host);
  EXPECT_NE(remarks().find("nothing behind this bridge is used: too many bridges behind one another"),
            std::string::npos);
  EXPECT_EQ(chain.back().get(kBusNumbers, 4), 0u);
}

// A function that is pulled out, or hangs, while it is looked at.
struct VanishingBus final : ConfigPort {
  FakeBus& bus;
  Rid rid;
  unsigned reads_left;
  VanishingBus(FakeBus& b, Rid r, unsigned reads) : bus{b}, rid{r}, reads_left{reads} {}
  std::uint32_t read(Rid at, std::uint16_t offset, unsigned size) override {
    if (at.value() == rid.value() && (reads_left == 0 || reads_left-- == 0))
      return static_cast<std::uint32_t>(bit_mask(size * 8 - 1, 0));
    return bus.read(at, offset, size);
  }
  void write(Rid at, std::uint16_t offset, unsigned size, std::uint32_t value) override {
    if (at.value() != rid.value() || reads_left != 0) bus.write(at, offset, size, value);
  }
  void wait(std::uint32_t) override {}
};

TEST_F(TopologyTest, FunctionsThatVanishAtAnyTime) {
  add_express(card, PortType::endpoint);
  for (const Rid rid : {Rid{0, 1, 0}, Rid{8, 1, 0}, Rid{9, 0, 0}})
    for (unsigned reads = 0; reads < 120; reads += 3) {
      topology = std::make_unique<Topology>();
      VanishingBus vanishing{bus, rid, reads};
      topology->enumerate(vanishing, host);
      EXPECT_TRUE(find("10:02.0/00.0")) << "the others are found";
      for (const Function& f : topology->functions()) EXPECT_NE(f.vendor, 0xffff);
      for (const Function& f : topology->functions())
        for (const BarInfo& bar : f.bars) EXPECT_LE(bar.bytes, 0x40'0000u);
    }
}

TEST_F(TopologyTest, ListsThatLoopAreUsedUpToThere) {
  card.set(kStatus, 2, 0x10);
  card.set(kCapabilities, 1, 0x40);
  card.set(0x40, 4, 0x80004011);  // MSI-X, enabled; the next is itself
  card.allow(0x40, 4, 0xc0000000);
  port1.set(kExtended, 4, 0x1000'0001);  // itself
  disk1.set(kStatus, 2, 0x10);
  disk1.set(kCapabilities, 1, 0x30);  // in the header
  topology->enumerate(bus, host);
  EXPECT_EQ(card.get(0x40, 4), 0x00004011u);
  EXPECT_EQ(remarks(),
            "PCI function 00:01.0: its list of capabilities loops or leaves its range: used up to there\n"
            "PCI function 08:01.0: its list of capabilities loops or leaves its range: used up to there\n"
            "PCI function 08:01.0/00.0: its list of capabilities loops or leaves its range: used up to there\n");
}

TEST_F(TopologyTest, HeadersOfAnotherType) {
  card.set(kHeaderType, 1, 2);  // CardBus
  topology->enumerate(bus, host);
  EXPECT_EQ(remarks(), "PCI function 00:01.0: skipped: header type 0x2\n");
  EXPECT_TRUE(find("00:01.0")->problem);
  EXPECT_EQ(card.get(kBar0, 4), 0u);
}

// Garbage in all of a machine's configuration space: enumeration ends, and BARs that it gives out are disjoint.
TEST_F(TopologyTest, GarbageIsHarmless) {
  std::mt19937_64 random{1};
  add_window(PciWindowKind::io, 0, 0x1'0000);
  for (unsigned round = 0; round < 60; ++round) {
    std::vector<FakeFunction> all(12);
    for (FakeFunction& f : all) {
      for (auto& b : f.bytes) b = static_cast<std::uint8_t>(random());
      for (auto& b : f.writable) b = random() % 2 == 0 ? 0xff : static_cast<std::uint8_t>(random());
      f.set(kHeaderType, 1, static_cast<std::uint32_t>(random() % 3));
      if (f.get(kHeaderType, 1) == kHeaderBridge) f.allow(kBusNumbers, 4, 0x00ffffff);
    }
    for (unsigned k = 8; k < all.size(); ++k) all[random() % k].behind[random() % 256] = &all[k];
    FakeBus garbage;
    for (unsigned i = 0; i < 8; ++i) garbage.put(static_cast<unsigned>(random() % 64), i << 3, all[i]);
    topology = std::make_unique<Topology>();
    topology->enumerate(garbage, host);
    std::vector<std::pair<std::uint64_t, std::uint64_t>> used;
    for (const Function& f : topology->functions())
      for (const BarInfo& bar : f.bars)
        if (bar.bytes != 0) used.emplace_back(bar.base.value, bar.bytes);
    std::ranges::sort(used);
    for (std::size_t i = 1; i < used.size(); ++i) ASSERT_LE(used[i - 1].first + used[i - 1].second, used[i].first);
  }
}

TEST_F(TopologyTest, WhatBelongsToTheMachineIsNobodys) {
  card.set(kRevision, 4, 0x0600'0000);
  FakeFunction collector = endpoint(1, 1, 0);
  collector.set(kRevision, 4, 0x0807'0000);
  bus.put(0, 2 << 3, collector);
  topology->enumerate(bus, host);
  EXPECT_STREQ(find("00:01.0")->problem, "a host bridge, or another that belongs to the machine");
  EXPECT_STREQ(find("00:02.0")->problem, "a root complex event collector");
  EXPECT_TRUE(find("08:01.0")->problem);
  EXPECT_FALSE(find("08:01.0/00.0")->problem);
}

}  // namespace
}  // namespace weir::pci
