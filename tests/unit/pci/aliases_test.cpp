#include "hyp/pci/aliases.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "hyp/pci/topology.hpp"
#include "tests/unit/pci/fake_config.hpp"

namespace weir::pci {
namespace {

using namespace test;

std::vector<std::uint32_t> ids(std::span<const BridgeHop> above, Rid rid = Rid{5, 3, 0}, std::uint16_t vendor = 0,
                               std::uint16_t device = 0) {
  std::vector<std::uint32_t> all;
  if (const auto found = requester_ids(rid, vendor, device, above))
    for (const Rid id : *found) all.push_back(id.value());
  return all;
}
using Ids = std::vector<std::uint32_t>;

TEST(Aliases, OfPciExpressAreTheFunctionsOwn) {
  EXPECT_EQ(ids({}), (Ids{0x518}));
  const BridgeHop ports[] = {{Rid{0, 1, 0}, 3, PortType::root_port},
                             {Rid{3, 0, 0}, 4, PortType::upstream},
                             {Rid{4, 2, 0}, 5, PortType::downstream}};
  EXPECT_EQ(ids(ports), (Ids{0x518}));
}

TEST(Aliases, BehindABridgeFromPciExpressIsItsSecondaryBus) {
  const BridgeHop above[] = {{Rid{0, 1, 0}, 3, PortType::root_port}, {Rid{3, 0, 0}, 5, PortType::to_pci}};
  EXPECT_EQ(ids(above), (Ids{0x518, 0x500}));
  EXPECT_EQ(ids(above, Rid{5, 0, 0}), (Ids{0x500})) << "once";
}

TEST(Aliases, BehindAConventionalBridgeIsTheBridge) {
  const BridgeHop above[] = {{Rid{0, 1, 0}, 5, std::nullopt}};
  EXPECT_EQ(ids(above), (Ids{0x518, 0x008}));
}

// Bridges that are on a link are from PCI Express, even if they do not say so; which ID they use is not known.
TEST(Aliases, OfABridgeOnALinkAreBoth) {
  const BridgeHop above[] = {{Rid{0, 1, 0}, 3, PortType::root_port}, {Rid{3, 0, 0}, 5, std::nullopt}};
  EXPECT_EQ(ids(above), (Ids{0x518, 0x500, 0x300}));
}

TEST(Aliases, OfBridgesBehindOneAnother) {
  const BridgeHop above[] = {
      {Rid{0, 1, 0}, 3, PortType::to_pci}, {Rid{3, 2, 0}, 4, std::nullopt}, {Rid{4, 6, 0}, 5, PortType::from_pci}};
  EXPECT_EQ(ids(above), (Ids{0x518, 0x430, 0x310, 0x300}));
}

TEST(Aliases, OfDevicesThatUseAnotherFunctionsId) {
  EXPECT_EQ(ids({}, Rid{5, 3, 0}, 0x1b4b, 0x9230), (Ids{0x518, 0x519}));
  EXPECT_EQ(ids({}, Rid{5, 3, 1}, 0x1b4b, 0x9230), (Ids{0x519}));
  EXPECT_EQ(ids({}, Rid{5, 3, 2}, 0x1180, 0xe832), (Ids{0x51a, 0x518}));
}

TEST(Aliases, AreNeverCutOff) {
  std::vector<BridgeHop> chain{{Rid{0, 0, 0}, 1, PortType::root_port}};
  for (unsigned i = 1; i < 14; ++i) chain.push_back({Rid{i, 1, 0}, i + 1, std::nullopt});
  EXPECT_EQ(requester_ids(Rid{20, 1, 0}, 0, 0, chain), std::nullopt);
}

// Two cards behind one bridge on root bus 0, and one next to it.
struct AliasedTopology : testing::Test {
  AliasedTopology() {
    host.last_bus = 255;
    EXPECT_TRUE(host.windows.push_back({PciWindowKind::memory32, false, 0x10000000, PA{0x10000000}, 0x2eff0000}));
    port.behind[1 << 3] = &first;
    port.behind[2 << 3] = &second;
    bus.put(0, 1 << 3, port);
    bus.put(0, 2 << 3, other);
  }
  const Function& find(const char* path) { return *topology->find(TopologyPath::parse(path).value()); }
  FakeFunction port = bridge(PortType::to_pci), first = endpoint(1, 1, 1), second = endpoint(1, 1, 1),
               other = endpoint(1, 1, 1);
  FakeBus bus;
  PciHost host;
  std::unique_ptr<Topology> topology = std::make_unique<Topology>();
};

TEST_F(AliasedTopology, FunctionsBehindOneBridgeAreAGroup) {
  EXPECT_TRUE(host.streams.push_back({0, 0x10000, 0, StreamID{0x4000}}));
  topology->enumerate(bus, host);
  const Function& a = find("00:01.0/01.0");
  const Function& b = find("00:01.0/02.0");
  ASSERT_EQ(a.streams.size(), 2u);
  EXPECT_EQ(a.streams[0].stream, StreamID{0x4108});
  EXPECT_EQ(a.streams[1].stream, StreamID{0x4100});
  EXPECT_EQ(b.streams[1].stream, StreamID{0x4100});
  EXPECT_EQ(a.group, b.group);
  EXPECT_NE(a.group, find("00:02.0").group);
  EXPECT_EQ(a.requester, find("00:01.0").path);
  EXPECT_EQ(find("00:02.0").requester.depth, 0u);
}

// What arrives under the bridge's ID is not translated: it is not enough that the function's own would be.
TEST_F(AliasedTopology, AnIdWithoutAnSmmuIsAFunctionWithoutOne) {
  EXPECT_TRUE(host.streams.push_back({0, 0x100, 0, StreamID{0}}));
  EXPECT_TRUE(host.streams.push_back({0x108, 0xff, 0, StreamID{0x108}}));
  topology->enumerate(bus, host);
  EXPECT_TRUE(find("00:01.0/01.0").streams.empty());
  EXPECT_FALSE(find("00:02.0").streams.empty());
}

// iommu-map-mask may fold IDs.
TEST_F(AliasedTopology, FunctionsThatShareAStreamIdOtherwise) {
  host.rid_mask = 0xff00;
  EXPECT_TRUE(host.streams.push_back({0, 0x10000, 0, StreamID{0}}));
  FakeFunction third = endpoint(1, 1, 0);
  bus.put(0, 3 << 3, third);
  topology->enumerate(bus, host);
  EXPECT_EQ(find("00:02.0").group, find("00:03.0").group);
  EXPECT_EQ(find("00:02.0").requester.depth, 0u);
}

}  // namespace
}  // namespace weir::pci
