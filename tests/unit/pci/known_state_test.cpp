#include "hyp/pci/known_state.hpp"

#include <gtest/gtest.h>

#include "tests/unit/pci/fake_config.hpp"

namespace weir::pci {
namespace {

using namespace test;

// A function on which firmware has left everything on.
struct KnownState : testing::Test {
  KnownState() {
    card.set(kStatus, 2, 0x10);
    card.set(kCapabilities, 1, 0x40);
    card.set(kCommand, 2, 0x0147);
    card.allow(kCommand, 2, 0x0547);
    bus.put(0, 1 << 3, card);
  }
  void reset() { bring_to_known_state(bus, Rid{0, 1, 0}); }
  FakeFunction card = endpoint(0x1234, 0x11e8, 1);
  FakeBus bus;
};

TEST_F(KnownState, DecodesMastersAndInterruptsNothing) {
  reset();
  EXPECT_EQ(card.get(kCommand, 2), 0x0400u);
}

TEST_F(KnownState, ExpansionRomsAreOff) {
  card.set(kExpansionRom, 4, 0x1000'0001);
  card.allow(kExpansionRom, 4, 0xffff'f801);
  card.set(kBridgeExpansionRom, 4, 0x1000'0001);
  card.allow(kBridgeExpansionRom, 4, 0xffff'f801);
  reset();
  EXPECT_EQ(card.get(kExpansionRom, 4), 0u);
  EXPECT_EQ(card.get(kBridgeExpansionRom, 4), 0x1000'0001u) << "an endpoint's is elsewhere";
  card.set(kHeaderType, 1, kHeaderBridge);
  reset();
  EXPECT_EQ(card.get(kBridgeExpansionRom, 4), 0u);
}

TEST_F(KnownState, PowerIsOnAndPmesAreOff) {
  card.set(0x40, 4, 0x0003'0001);
  card.set(0x44, 2, 0x8103);  // D3hot, PME_En, PME_Status
  card.allow(0x44, 2, 0x0103);
  reset();
  EXPECT_EQ(card.get(0x44, 2) & 0x0103, 0u);
  EXPECT_EQ(bus.waited, 10'000u);
  reset();
  EXPECT_EQ(bus.waited, 10'000u) << "it is in D0 already";
  card.set(0x44, 2, 0x0001);
  reset();
  EXPECT_EQ(bus.waited, 10'200u);
  card.set(kHeaderType, 1, kHeaderBridge);
  card.set(0x44, 2, 0x0003);
  reset();
  EXPECT_EQ(bus.waited, 110'200u) << "what is behind it wakes up, too";
}

// A function that resets itself on the way out of D3hot.
struct ForgetfulBus final : ConfigPort {
  FakeBus& bus;
  FakeFunction& f;
  ForgetfulBus(FakeBus& b, FakeFunction& function) : bus{b}, f{function} {}
  std::uint32_t read(Rid rid, std::uint16_t offset, unsigned size) override { return bus.read(rid, offset, size); }
  void write(Rid rid, std::uint16_t offset, unsigned size, std::uint32_t value) override {
    const bool sleeping = (f.get(0x44, 2) & 3) == 3;
    bus.write(rid, offset, size, value);
    if (!sleeping || (f.get(0x44, 2) & 3) != 0) return;
    f.set(kCommand, 2, 0);
    f.set(0x58, 2, 0x2810);
  }
  void wait(std::uint32_t us) override { bus.wait(us); }
};

TEST_F(KnownState, AFunctionThatWakesUpAnewKeepsItsPacketSizes) {
  card.set(0x40, 4, 0x0003'5001);
  card.set(0x44, 2, 0x0003);
  card.allow(0x44, 2, 0x0103);
  card.set(0x50, 4, 0x0002'0010);
  card.set(0x58, 2, 0x503f);  // 256 bytes and 4 KiB
  card.allow(0x58, 2, 0xffff);
  ForgetfulBus forgetful{bus, card};
  bring_to_known_state(forgetful, Rid{0, 1, 0});
  EXPECT_EQ(card.get(kCommand, 2), 0x0400u) << "INTx Disable again";
  EXPECT_EQ(card.get(0x58, 2), 0x5030u);
}

TEST_F(KnownState, MsiAndMsixAreOff) {
  card.set(0x40, 4, 0x0081'5005);
  card.allow(0x42, 2, 0x0071);
  card.set(0x50, 4, 0xc007'0011);
  card.allow(0x52, 2, 0xc000);
  reset();
  EXPECT_EQ(card.get(0x40, 4), 0x0080'5005u);
  EXPECT_EQ(card.get(0x50, 4), 0x4007'0011u);
}

TEST_F(KnownState, DeviceControlIsWhatStage2ReliesOn) {
  card.set(0x40, 4, 0x0002'0010);
  card.set(0x48, 2, 0x7fff);
  card.set(0x4a, 2, 0x000f);  // status: errors
  card.allow(0x48, 2, 0xffff);
  card.set(0x68, 2, 0xffff);  // Device Control 2
  card.allow(0x68, 2, 0xffff);
  reset();
  EXPECT_EQ(card.get(0x48, 2), 0x75f0u)
      << "no errors, phantom functions, No Snoop; sizes, tags and ordering as they were";
  EXPECT_EQ(card.get(0x4a, 2), 0x000fu);
  EXPECT_EQ(card.get(0x68, 2), 0x100fu) << "completion timeout and 10-bit tags";
}

TEST_F(KnownState, VersionOneHasNoDeviceControl2) {
  card.set(0x40, 4, 0x0001'0010);
  card.set(0x68, 2, 0x1234);  // something else
  card.allow(0x68, 2, 0xffff);
  reset();
  EXPECT_EQ(card.get(0x68, 2), 0x1234u);
}

TEST_F(KnownState, ErrorsBelowARootPortAreNotTheSystems) {
  add_express(card, PortType::root_port);
  card.set(0x5c, 2, 0x001f);
  card.allow(0x5c, 2, 0x001f);
  reset();
  EXPECT_EQ(card.get(0x5c, 2), 0u);
  add_express(card, PortType::endpoint);
  card.set(0x5c, 2, 0x001f);
  reset();
  EXPECT_EQ(card.get(0x5c, 2), 0x001fu) << "an endpoint has none";
}

TEST_F(KnownState, ExtendedCapabilitiesAreOff) {
  card.set(0x100, 4, 0x1400'0010);  // SR-IOV
  card.set(0x108, 2, 0x001f);
  card.set(0x140, 4, 0x1500'0012);  // Multicast
  card.set(0x146, 2, 0x8003);
  card.set(0x150, 4, 0x1600'0017);  // TPH
  card.set(0x158, 2, 0x0101);
  card.set(0x160, 4, 0x1700'001f);  // PTM
  card.set(0x168, 2, 0x0003);
  card.set(0x170, 4, 0x1801'001b);  // PASID
  card.set(0x176, 2, 0x0007);
  card.set(0x180, 4, 0x1901'000f);  // ATS
  card.set(0x186, 2, 0x8005);
  card.set(0x190, 4, 0x0001'0013);  // PRI
  card.set(0x194, 2, 0x0001);
  constexpr std::uint16_t kControls[] = {0x108, 0x146, 0x158, 0x168, 0x176, 0x186, 0x194};
  for (const std::uint16_t at : kControls) card.allow(at, 2, 0xffff);
  reset();
  for (const std::uint16_t at : kControls) EXPECT_EQ(card.get(at, 2), 0u) << std::hex << at;
}

TEST_F(KnownState, BridgesAreClosed) {
  card = bridge();
  card.set(kBusNumbers, 4, 0x0005'0200);
  card.set(kMemoryWindow, 4, 0x2000'1000);
  card.set(kPrefetchWindow, 4, 0x2001'1001);
  card.set(kIoWindow, 2, 0x2111);
  card.set(kBridgeControl, 2, 0x004b);  // parity, SERR#, VGA, secondary bus reset
  card.allow(kBridgeControl, 2, 0x0fff);
  card.set(kCommand, 2, 0x0007);
  reset();
  EXPECT_EQ(card.get(kCommand, 2), 0x0400u);
  EXPECT_EQ(card.get(kBusNumbers, 4), 0u);
  EXPECT_EQ(card.get(kMemoryWindow, 4), 0x0000'fff0u);
  EXPECT_EQ(card.get(kPrefetchWindow, 4), 0x0001'fff1u);
  EXPECT_EQ(card.get(kIoWindow, 2), 0x01f1u);
  EXPECT_EQ(card.get(kBridgeControl, 2), 0u);
  EXPECT_EQ(bus.waited, 100'000u) << "its bus was in reset";
}

// A capability near the end of its space does not let Weir write beyond it.
TEST_F(KnownState, CapabilitiesThatAreCutOff) {
  card.set(kCapabilities, 1, 0xf8);
  card.set(0xf8, 4, 0x0002'0010);
  for (unsigned at = kExtended; at < kConfigEnd; ++at) card.writable[at] = 0xff;
  card.set(0x100, 4, 0xffc0'0001);
  card.set(0xffc, 4, 0x0001'0010);
  const FakeFunction before = card;
  reset();
  for (std::uint16_t at = kExtended; at < kConfigEnd; at += 4) EXPECT_EQ(card.get(at, 4), before.get(at, 4)) << at;
}

}  // namespace
}  // namespace weir::pci
