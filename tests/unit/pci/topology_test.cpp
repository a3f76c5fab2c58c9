#include "hyp/pci/topology.hpp"

#include <gtest/gtest.h>

#include <memory>

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
  const Function* find(const char* path) { return topology->find(TopologyPath::parse(path).value()); }

  FakeFunction card = endpoint(0x1234, 0x11e8, 1), disk1 = endpoint(0x1b36, 0x10, 1), disk2 = endpoint(0x1b36, 0x10, 1);
  FakeFunction port1 = bridge(), port2 = bridge();
  FakeBus bus;
  PciHost host;
  std::unique_ptr<Topology> topology = std::make_unique<Topology>();
};

TEST_F(TopologyTest, FindsRootBusesAndWhatIsBehindThem) {
  ASSERT_TRUE(topology->enumerate(bus, host));
  EXPECT_EQ(topology->functions().size(), 5u);
  const Function* d1 = find("08:01.0/00.0");
  const Function* d2 = find("10:02.0/00.0");
  ASSERT_TRUE(d1 && d2);
  EXPECT_EQ(d1->rid, Rid(9, 0, 0));
  EXPECT_EQ(d2->rid, Rid(17, 0, 0));
  EXPECT_EQ(d1->stream->smmu, 1u);
  EXPECT_EQ(d1->stream->stream, StreamID{0x900});
  EXPECT_EQ(d2->stream->smmu, 2u);
  EXPECT_TRUE(find("08:01.0")->bridge);
  EXPECT_EQ(find("08:02.0"), nullptr);
}

TEST_F(TopologyTest, SwizzlesInterruptsUpToTheRootBus) {
  ASSERT_TRUE(topology->enumerate(bus, host));
  // INTA of device 0 behind root device d arrives as pin A of... device d: INTA on the root bus.
  EXPECT_EQ(find("08:01.0/00.0")->line->intid, 36u);
  EXPECT_EQ(find("10:02.0/00.0")->line->intid, 37u);
  EXPECT_EQ(find("00:01.0")->line->intid, 36u);  // shares its line with disk 1
}

TEST_F(TopologyTest, BarsAreDisjointAndInsideOfBridgeWindows) {
  ASSERT_TRUE(topology->enumerate(bus, host));
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
  ASSERT_TRUE(topology->enumerate(bus, host));
  EXPECT_EQ(find("08:01.0/00.0")->rid, Rid(9, 0, 0));
  EXPECT_EQ(disk1.get(kCommand, 2), 0x0400u) << "no decoding, no DMA, no INTx";
}

TEST_F(TopologyTest, ABridgeWithoutABusNumberIsAnError) {
  FakeFunction other = endpoint(1, 1, 0);
  bus.put(9, 0, other);
  EXPECT_EQ(topology->enumerate(bus, host).error(), EnumerationError::no_bus_number);
}

TEST_F(TopologyTest, AFullWindowIsAnError) {
  host.windows.clear();
  add_window(PciWindowKind::memory32, 0x10000000, 0x2000);
  EXPECT_EQ(topology->enumerate(bus, host).error(), EnumerationError::no_address);
}

TEST_F(TopologyTest, AcsKeepsFunctionsBehindABridgeApart) {
  port1.set(kExtended, 4, 0x1400'0001);  // AER, then at 0x140
  port1.set(0x140, 4, 0x0001'000d);      // ACS, the last
  port1.set(0x144, 4, 0x0000'001d);      // all but translation blocking
  port1.allow(0x146, 2, 0x001f);
  ASSERT_TRUE(topology->enumerate(bus, host));
  EXPECT_EQ(port1.get(0x144, 4), 0x001d'001du);
}

// Blocking translated requests is on with the rest of ACS, and would keep ATS from working.
TEST_F(TopologyTest, TranslatedRequestsPassOnTheWayOfAFunctionThatHasAts) {
  for (FakeFunction* port : {&port1, &port2}) {
    port->set(kExtended, 4, 0x0001'000d);
    port->set(0x104, 4, 0x0000'001f);
    port->allow(0x106, 2, 0x001f);
  }
  ASSERT_TRUE(topology->enumerate(bus, host));
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
  ASSERT_TRUE(topology->enumerate(bus, host));
  EXPECT_EQ(disk1.get(0x104, 4), 0x0000'1406u);
  EXPECT_EQ(disk1.get(0x114, 4), 0x0000'0025u);
  EXPECT_EQ(disk1.get(0x124, 4), 0u);
}

TEST_F(TopologyTest, AListOfExtendedCapabilitiesThatLoopsEnds) {
  port1.set(kExtended, 4, 0x1000'0001);  // itself
  EXPECT_TRUE(topology->enumerate(bus, host));
}

TEST_F(TopologyTest, MsiIsTurnedOff) {
  card.set(kStatus, 2, 0x10);
  card.set(kCapabilities, 1, 0x40);
  card.set(0x40, 4, 0x80000011);  // MSI-X, enabled, end of the list
  card.allow(0x40, 4, 0xc0000000);
  ASSERT_TRUE(topology->enumerate(bus, host));
  EXPECT_EQ(card.get(0x40, 4), 0x11u);
}

}  // namespace
}  // namespace weir::pci
