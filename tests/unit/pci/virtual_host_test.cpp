#include "hyp/pci/virtual_host.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/unit/fakes/vcpu.hpp"
#include "tests/unit/pci/fake_config.hpp"

namespace weir::pci {
namespace {

using namespace test;

struct FakeBars final : BarPort {
  std::map<std::uint64_t, std::pair<PA, std::uint64_t>> mapped;
  bool map_bar(IPA at, PA registers, std::uint64_t bytes) override {
    for (const auto& [base, what] : mapped)
      if (at.value < base + what.second && base < at.value + bytes) return false;
    mapped[at.value] = {registers, bytes};
    return true;
  }
  bool reaches(PA registers, std::uint64_t bytes) const override { return registers.value + bytes <= end; }
  std::uint64_t end = std::uint64_t{1} << 44;
  void unmap_bar(IPA at, std::uint64_t bytes) override {
    ASSERT_TRUE(mapped.contains(at.value));
    ASSERT_EQ(mapped[at.value].second, bytes);
    mapped.erase(at.value);
  }
};

struct VirtualHostTest : testing::Test {
  VirtualHostTest() {
    disk.set(kStatus, 2, 0x10);
    disk.set(kCapabilities, 1, 0x40);
    disk.set(0x40, 4, 0x00018011);  // MSI-X -> 0x80
    disk.allow(0x40, 4, 0xc0000000);
    disk.set(0x80, 4, 0x00026010);  // Express, an endpoint -> 0x60
    disk.set(0x84, 4, 0x10008000);  // FLR, role-based errors
    disk.allow(0x88, 2, 0xffff);
    disk.set(0x60, 4, 0x00030001);  // power management, end
    disk.allow(0x64, 4, 0x3);
    disk.set(0x100, 4, 0x00010001);  // AER
    bus.put(9, 0, disk);
    add_bar(disk, 0, 0x4000, true, false);
    function.rid = Rid{9, 0, 0};
    function.bars[0] = {PA{0x10100000}, 0x4000, true, false};
    EXPECT_TRUE(host.add(bus, function, 1, true));
  }
  std::uint64_t rd(unsigned slot, std::uint16_t at, unsigned size) {
    std::uint64_t v = 0;
    EXPECT_EQ(host.read(vcpu, {EcamAddress{Rid{0, slot, 0}, at}.words[0], size}, v), MmioResult::done);
    return v;
  }
  void wr(unsigned slot, std::uint16_t at, unsigned size, std::uint64_t v) {
    EXPECT_EQ(host.write(vcpu, {EcamAddress{Rid{0, slot, 0}, at}.words[0], size}, v), MmioResult::done);
  }
  FakeFunction disk = endpoint(0x1b36, 0x10, 1);
  FakeBus bus;
  FakeBars bars;
  Function function;
  VirtualHost host{bars, {IPA{0x10000000}, 0x2eff0000}, {IPA{0x80'0000'0000}, 0x80'0000'0000}};
  Vcpu vcpu;
};

TEST_F(VirtualHostTest, ShowsItsFunctionsAndNothingElse) {
  EXPECT_EQ(rd(1, kVendorId, 4), 0x00101b36u);
  EXPECT_EQ(rd(2, kVendorId, 4), 0xffffffffu);
  EXPECT_EQ(rd(0, kVendorId, 2), 0xffffu);
  std::uint64_t v = 0;
  EXPECT_EQ(host.read(vcpu, {EcamAddress{Rid{9, 0, 0}, 0}.words[0], 4}, v), MmioResult::done);
  EXPECT_EQ(v, 0xffffffffu) << "the physical bus number means nothing to the guest";
}

// A vendor-specific capability whose length reaches over the next one does not give the guest that one's registers.
TEST(VirtualHost, AVendorCapabilityEndsWhereTheNextBegins) {
  FakeFunction card = endpoint(0x1234, 1, 1);
  card.set(kStatus, 2, 0x10);
  card.set(kCapabilities, 1, 0x40);
  card.set(0x40, 4, 0x00ff4809);  // vendor-specific, 255 bytes -> 0x48
  card.allow(0x44, 4, 0xffffffff);
  card.set(0x48, 4, 0x00000005);  // MSI, end
  card.allow(0x4c, 4, 0xfffffffc);
  card.allow(0x104, 4, 0xffffffff);  // of an extended capability
  FakeBus bus;
  bus.put(9, 0, card);
  Function function;
  function.rid = Rid{9, 0, 0};
  FakeBars bars;
  VirtualHost host{bars, {IPA{0x10000000}, 0x2eff0000}, {IPA{0x80'0000'0000}, 0x80'0000'0000}};
  ASSERT_TRUE(host.add(bus, function, 1, true));
  Vcpu vcpu;
  for (const std::uint16_t at : std::initializer_list<std::uint16_t>{0x44, 0x48, 0x4c, 0x104})
    EXPECT_EQ(host.write(vcpu, {EcamAddress{Rid{0, 1, 0}, at}.words[0], 4}, 0x89abcdec), MmioResult::done);
  EXPECT_EQ(card.get(0x44, 4), 0x89abcdecU);
  EXPECT_EQ(card.get(0x4c, 4), 0U);
  EXPECT_EQ(card.get(0x104, 4), 0U);
  std::uint64_t value = 1;
  EXPECT_EQ(host.read(vcpu, {EcamAddress{Rid{0, 1, 0}, 0x48}.words[0], 4}, value), MmioResult::done);
  EXPECT_EQ(value, 0U);
}

TEST_F(VirtualHostTest, OffersOnlyTheExpressCapabilityAsAnIntegratedEndpoint) {
  EXPECT_EQ(rd(1, kCapabilities, 1), 0x80u);
  EXPECT_EQ(rd(1, 0x80, 4), 0x00920010u);
  EXPECT_EQ(rd(1, 0x84, 4), 0x00008000u) << "no FLR";
  EXPECT_EQ(rd(1, 0x40, 4), 0u);
  EXPECT_EQ(rd(1, 0x60, 4), 0u);
  EXPECT_EQ(rd(1, 0x100, 4), 0u);
  wr(1, 0x64, 4, 3);  // D3
  EXPECT_EQ(disk.get(0x64, 4), 0u);
  wr(1, 0x40, 4, 0x80000000);
  EXPECT_EQ(disk.get(0x40, 4), 0x00018011u);
}

TEST_F(VirtualHostTest, DeviceControlIsFiltered) {
  wr(1, 0x88, 2, 0xffff);
  EXPECT_EQ(disk.get(0x88, 2), 0x701fu);
}

TEST_F(VirtualHostTest, ABarIsSizedAssignedAndMapped) {
  const std::uint64_t firmware = rd(1, kBar0, 4);
  EXPECT_EQ(firmware & 0xf, 0x4u);
  wr(1, kBar0, 4, 0xffffffff);
  wr(1, kBar0 + 4, 4, 0xffffffff);
  EXPECT_EQ(rd(1, kBar0, 4), 0xffffc004u);
  EXPECT_EQ(rd(1, kBar0 + 4, 4), 0xffffffffu);
  EXPECT_TRUE(bars.mapped.empty());
  wr(1, kBar0, 4, 0x20000000);
  wr(1, kBar0 + 4, 4, 0);
  wr(1, kCommand, 2, 0x6);
  ASSERT_TRUE(bars.mapped.contains(0x20000000));
  EXPECT_EQ(bars.mapped[0x20000000].first, PA{0x10100000});
  EXPECT_EQ(disk.get(kCommand, 2), 0x6u);
  wr(1, kBar0, 4, 0x20004000);  // moved while decoding
  EXPECT_FALSE(bars.mapped.contains(0x20000000));
  EXPECT_TRUE(bars.mapped.contains(0x20004000));
  wr(1, kCommand, 2, 0);
  EXPECT_TRUE(bars.mapped.empty());
}

TEST_F(VirtualHostTest, ABarOverMemoryIsNotMapped) {
  wr(1, kCommand, 1, 2);
  wr(1, kBar0, 4, 0x40000000);
  EXPECT_TRUE(bars.mapped.empty());
  wr(1, kBar0, 4, 0x08000000);
  EXPECT_TRUE(bars.mapped.empty());
}

TEST_F(VirtualHostTest, TwoBarsAtOneAddressDoNotBothAppear) {
  Function other = function;
  other.bars[0].base = PA{0x10200000};
  ASSERT_TRUE(host.add(bus, other, 2, false));
  wr(1, kCommand, 2, 2);
  wr(2, kBar0, 4, rd(1, kBar0, 4));
  wr(2, kCommand, 2, 2);
  ASSERT_EQ(bars.mapped.size(), 1u);
  EXPECT_EQ(bars.mapped.begin()->second.first, PA{0x10100000});
  host.release();
  EXPECT_TRUE(bars.mapped.empty());
  EXPECT_EQ(disk.get(kCommand, 2), 0x400u);
}

TEST_F(VirtualHostTest, AFunctionWithoutItsLineHasNoPin) {
  EXPECT_EQ(rd(1, kInterruptPin, 1), 1u);
  Function other = function;
  ASSERT_TRUE(host.add(bus, other, 3, false));
  EXPECT_EQ(rd(3, kInterruptPin, 1), 0u);
  wr(3, kCommand, 2, 0x4);
  EXPECT_EQ(disk.get(kCommand, 2) & 0x400, 0x400u) << "INTx Disable is forced";
  EXPECT_EQ(rd(3, kCommand, 2), 0x4u);
}

TEST_F(VirtualHostTest, IoSpaceIsOffWhereThereIsNone) {
  wr(1, kCommand, 2, 0xffff);
  EXPECT_EQ(disk.get(kCommand, 2) & 1, 0u);
  EXPECT_EQ(rd(1, kCommand, 2), 0x546u);
}

// Addresses of I/O count from the beginning of the host's window.
TEST(VirtualHost, AnIoBarIsMapped) {
  FakeFunction card = endpoint(0x1234, 1, 1);
  FakeBus bus;
  bus.put(9, 0, card);
  Function function;
  function.rid = Rid{9, 0, 0};
  function.bars[0] = {PA{0x1010'0000}, 0x1000, false, false};
  function.bars[3] = {PA{0x3eff'2000}, 0x1000, false, false, true};
  FakeBars bars;
  VirtualHost host{
      bars, {IPA{0x10000000}, 0x2eff0000}, {IPA{0x80'0000'0000}, 0x80'0000'0000}, {IPA{0x3eff'0000}, 0x1'0000}};
  ASSERT_TRUE(host.add(bus, function, 1, true));
  Vcpu vcpu;
  const auto at = [](std::uint16_t reg) { return EcamAddress{Rid{0, 1, 0}, reg}.words[0]; };
  const auto rd = [&](std::uint16_t reg) {
    std::uint64_t v = 0;
    EXPECT_EQ(host.read(vcpu, {at(reg), 4}, v), MmioResult::done);
    return v;
  };
  const auto wr = [&](std::uint16_t reg, std::uint64_t v) {
    EXPECT_EQ(host.write(vcpu, {at(reg), 4}, v), MmioResult::done);
  };
  constexpr std::uint16_t kBar3 = kBar0 + 12;
  EXPECT_EQ(rd(kBar3), 0x1001u) << "not 0, which is no address";
  wr(kBar3, 0xffff'ffff);
  EXPECT_EQ(rd(kBar3), 0xffff'f001u);
  wr(kBar3, 0x5000);
  wr(kCommand, 2);
  EXPECT_EQ(bars.mapped.size(), 1u) << "memory alone";
  EXPECT_EQ(card.get(kCommand, 2) & 3, 2u);
  wr(kCommand, 3);
  ASSERT_TRUE(bars.mapped.contains(0x3eff'5000));
  EXPECT_EQ(bars.mapped[0x3eff'5000].first, PA{0x3eff'2000});
  EXPECT_EQ(card.get(kCommand, 2) & 3, 3u);
  for (const std::uint64_t beyond : {0x1'0000ULL, 0xffff'f000ULL, 0xc100'0000ULL}) {
    wr(kBar3, beyond);
    EXPECT_EQ(bars.mapped.size(), 1u) << beyond;
  }
  wr(kBar3, 0x6000);
  wr(kCommand, 1);
  EXPECT_EQ(bars.mapped.size(), 1u) << "I/O alone";
  EXPECT_TRUE(bars.mapped.contains(0x3eff'6000));
  host.release();
  EXPECT_TRUE(bars.mapped.empty());
}

TEST_F(VirtualHostTest, ABarThatCannotBeMappedIsNamed) {
  Function other = function;
  other.bars[2] = {PA{0x2000'0000'0000}, 0x4000, true, true};
  const auto added = host.add(bus, other, 2, false);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().what, AddError::What::unreachable);
  EXPECT_EQ(added.error().bar, 2u);
  EXPECT_EQ(rd(2, kVendorId, 4), 0xffff'ffffu);
  bars.end = std::uint64_t{1} << 48;
  EXPECT_TRUE(host.add(bus, other, 2, false));
  EXPECT_EQ(host.add(bus, other, 2, false).error().what, AddError::What::slot_taken);
  other.bars[0].bytes = 0x4000'0000;
  const auto large = host.add(bus, other, 3, false);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().what, AddError::What::no_room);
  EXPECT_EQ(large.error().bar, 0u);
}

// What a guest has set is not there for the next owner.
TEST_F(VirtualHostTest, AFunctionThatIsGivenBackIsInItsKnownState) {
  wr(1, kCommand, 2, 0x6);
  wr(1, 0x88, 2, 0xffff);
  disk.set(0x88, 2, disk.get(0x88, 2) | 0x0a00);  // by a way of the device's own
  host.release();
  EXPECT_EQ(disk.get(kCommand, 2), 0x400u);
  EXPECT_EQ(disk.get(0x88, 2) & 0x0a0f, 0u);
}

// A function with AER, then ATS, PRI and PASID, in another order than that of their addresses.
struct TranslationServices : testing::Test {
  static constexpr std::uint16_t kAts = 0x160, kPri = 0x140, kPasid = 0x180;
  TranslationServices() {
    card.set(kExtended, 4, 0x1601'0001);
    card.set(kAts, 4, 0x1401'000f);
    card.set(kAts + 4, 4, 0x0000'0065);
    card.set(kPri, 4, 0x1801'0013);
    card.set(kPri + 4, 4, 0x8103'0000);  // PASID required, stopped; response failure, unexpected index
    card.set(kPri + 8, 4, 64);
    card.set(kPasid, 4, 0x1901'001b);
    card.set(kPasid + 4, 4, 0x0000'1406);
    card.set(0x190, 4, 0x0001'0010);  // SR-IOV, the last
    card.set(0x198, 4, 0x0000'0000);
    for (unsigned at = kExtended; at < 0x200; ++at) card.writable[at] = 0xff;
    bus.put(9, 0, card);
    function.rid = Rid{9, 0, 0};
  }
  void add(const CapabilityGrant& grant) { ASSERT_TRUE(host.add(bus, function, 1, false, grant)); }
  std::uint64_t rd(std::uint16_t at, unsigned size = 4) {
    std::uint64_t v = 0;
    EXPECT_EQ(host.read(vcpu, {EcamAddress{Rid{0, 1, 0}, at}.words[0], size}, v), MmioResult::done);
    return v;
  }
  void wr(std::uint16_t at, unsigned size, std::uint64_t v) {
    EXPECT_EQ(host.write(vcpu, {EcamAddress{Rid{0, 1, 0}, at}.words[0], size}, v), MmioResult::done);
  }
  // The guest's list, as a driver walks it.
  std::vector<std::uint64_t> list() {
    std::vector<std::uint64_t> ids;
    for (std::uint64_t at = kExtended; at != 0 && ids.size() < 9; at = rd(static_cast<std::uint16_t>(at)) >> 20)
      if (const std::uint64_t id = rd(static_cast<std::uint16_t>(at)) & 0xffff; id != 0) ids.push_back(id);
    return ids;
  }
  FakeFunction card = endpoint(0x1234, 1, 1);
  FakeBus bus;
  FakeBars bars;
  Function function;
  VirtualHost host{bars, {IPA{0x10000000}, 0x2eff0000}, {IPA{0x80'0000'0000}, 0x80'0000'0000}};
  Vcpu vcpu;
};

TEST_F(TranslationServices, AreHiddenUnlessGranted) {
  add({});
  EXPECT_EQ(rd(kExtended), 0u);
  for (unsigned at = kExtended; at < 0x200; at += 4) {
    EXPECT_EQ(rd(static_cast<std::uint16_t>(at)), 0u) << at;
    wr(static_cast<std::uint16_t>(at), 4, 0xffff'ffff);
  }
  EXPECT_EQ(card.get(kAts + 4, 4), 0x65u);
  EXPECT_EQ(card.get(kPri + 4, 4), 0x8103'0000u);
  EXPECT_EQ(card.get(kPasid + 4, 4), 0x1406u);
  EXPECT_EQ(card.get(0x198, 4), 0u);
}

TEST_F(TranslationServices, TheGuestsListHasWhatIsGranted) {
  add({.ats = true, .pri = true, .pasid_bits = 20});
  EXPECT_EQ(list(), (std::vector<std::uint64_t>{kExtendedPri, kExtendedAts, kExtendedPasid}));
  EXPECT_EQ(rd(kExtended), 0x1400'0000u) << "nothing, and the first of the list behind it";
  EXPECT_EQ(rd(kPasid) >> 20, 0u);
}

TEST_F(TranslationServices, EachIsGrantedByItself) {
  add({.ats = true});
  EXPECT_EQ(list(), (std::vector<std::uint64_t>{kExtendedAts}));
  EXPECT_EQ(rd(kPri + 4), 0u);
  wr(kPri + 4, 2, 1);
  EXPECT_EQ(card.get(kPri + 4, 2), 0u);
}

TEST_F(TranslationServices, AtTheBeginningOfTheList) {
  card.set(kExtended, 4, 0x1301'000f);
  card.set(0x130, 4, 0x0001'0010);
  add({.ats = true});
  EXPECT_EQ(rd(kExtended), 0x0001'000fu);
}

TEST_F(TranslationServices, AtsControlIsTheGuests) {
  add({.ats = true});
  wr(kAts + 4, 4, 0xffff'ffff);
  EXPECT_EQ(card.get(kAts + 4, 4), 0x801f'0065u);
  wr(kAts + 6, 2, 0x8001);
  EXPECT_EQ(card.get(kAts + 4, 4), 0x8001'0065u);
  wr(kAts, 4, 0xffff'ffff);
  EXPECT_EQ(card.get(kAts, 4), 0x1401'000fu);
}

TEST_F(TranslationServices, PriControlIsTheGuestsAndStatusIsClearedByOnes) {
  add({.ats = true, .pri = true, .page_requests = 1000});
  wr(kPri + 4, 2, 0xffff);
  EXPECT_EQ(card.get(kPri + 4, 4) & 0xffff, 3u);
  EXPECT_EQ(card.get(kPri + 6, 2) & 3, 0u) << "ones that the guest did not write";
  wr(kPri + 6, 2, 1);
  EXPECT_EQ(card.get(kPri + 6, 2) & 3, 1u);
  wr(kPri + 8, 4, 1);
  EXPECT_EQ(card.get(kPri + 8, 4), 64u);
  wr(kPri + 12, 4, 16);
  EXPECT_EQ(card.get(kPri + 12, 4), 16u);
  wr(kPri + 12, 4, 65);
  EXPECT_EQ(card.get(kPri + 12, 4), 64u) << "no more than there are";
}

// The SMMU's queue is everybody's: no guest gives its device more credits than its share of it.
TEST_F(TranslationServices, PageRequestsAreNoMoreThanTheShare) {
  card.set(kPri + 12, 4, 60);  // of whoever had it before
  add({.ats = true, .pri = true, .page_requests = 20});
  EXPECT_EQ(card.get(kPri + 12, 4), 0u);
  EXPECT_EQ(rd(kPri + 8), 20u);
  EXPECT_EQ(rd(kPri + 8, 1), 20u);
  wr(kPri + 12, 4, 19);
  EXPECT_EQ(card.get(kPri + 12, 4), 19u);
  for (const unsigned size : {1u, 2u, 4u}) {
    wr(kPri + 12, size, 0xffff'ffff);
    EXPECT_EQ(card.get(kPri + 12, 4), 20u) << size;
  }
}

TEST_F(TranslationServices, PasidsAreAsWideAsTheSmmusSubstreams) {
  add({.pasid_bits = 8});
  EXPECT_EQ(rd(kPasid + 4), 0x0806u);
  wr(kPasid + 6, 2, 0xffff);
  EXPECT_EQ(card.get(kPasid + 4, 4), 0x0007'1406u);
}

TEST_F(TranslationServices, ACapabilityThatReachesIntoAnotherIsNone) {
  card.set(kAts, 4, 0x1641'000f);  // the next lies in its control register
  card.set(0x164, 4, 0x0001'0010);
  add({.ats = true});
  EXPECT_EQ(rd(kExtended), 0u);
}

TEST_F(TranslationServices, AFenceTurnsThemAndDmaOffForGood) {
  add({.ats = true, .pri = true, .pasid_bits = 20});
  wr(kCommand, 2, 0x6);
  wr(kAts + 6, 2, 0x8000);
  wr(kPri + 4, 2, 1);
  wr(kPasid + 6, 2, 1);
  EXPECT_EQ(card.get(kCommand, 2) & 4, 4u);
  host.fence(1);
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(card.get(kCommand, 2) & 6, 2u) << "its registers stay";
    EXPECT_EQ(card.get(kAts + 6, 2), 0u);
    EXPECT_EQ(card.get(kPri + 4, 2), 0u);
    EXPECT_EQ(card.get(kPasid + 6, 2), 0u);
    wr(kCommand, 2, 0x6);
    wr(kAts + 6, 2, 0x8000);
    wr(kPri + 4, 2, 1);
    wr(kPasid + 6, 2, 1);
  }
  host.fence(2);  // nobody
}

TEST_F(TranslationServices, AreOffWhenTheFunctionIsGivenBack) {
  add({.ats = true, .pri = true, .pasid_bits = 20});
  wr(kAts + 6, 2, 0x8000);
  wr(kPri + 4, 2, 1);
  wr(kPasid + 6, 2, 1);
  host.release();
  EXPECT_EQ(card.get(kAts + 6, 2), 0u);
  EXPECT_EQ(card.get(kPri + 4, 2), 0u);
  EXPECT_EQ(card.get(kPasid + 6, 2), 0u);
}

// A VM may stop in the moment in which its device is found not to answer.
TEST_F(TranslationServices, AFenceAfterwardsBringsNoInterruptBack) {
  ASSERT_TRUE(host.add(bus, function, 1, true));
  host.release();
  EXPECT_EQ(card.get(kCommand, 2), 0x400u);
  host.fence(1);
  EXPECT_EQ(card.get(kCommand, 2), 0x400u) << "INTx stays off";
}

// Garbage to the granted capabilities: their own control registers change, and nothing else.
TEST_F(TranslationServices, GarbageIsHarmless) {
  add({.ats = true, .pri = true, .pasid_bits = 20});
  const FakeFunction before = card;
  std::mt19937_64 random{1};
  for (unsigned i = 0; i < 100'000; ++i) {
    const unsigned size = 1u << (random() % 4);
    wr(static_cast<std::uint16_t>((kExtended + random() % 0x200) & ~(size - 1ull)), size, random());
  }
  for (std::uint16_t at = kExtended; at < kConfigEnd; at += 4) {
    if (at == kAts + 4 || at == kPri + 4 || at == kPri + 12 || at == kPasid + 4) continue;
    EXPECT_EQ(card.get(at, 4), before.get(at, 4)) << at;
  }
  EXPECT_EQ(card.get(kAts + 4, 2), before.get(kAts + 4, 2));
  EXPECT_EQ(card.get(kPasid + 4, 2), before.get(kPasid + 4, 2));
  EXPECT_LE(card.get(kPri + 12, 4), 64u);
}

// Garbage everywhere: nothing outside of the function's own settable fields changes, and nothing outside of windows
// is mapped.
TEST_F(VirtualHostTest, GarbageIsHarmless) {
  std::mt19937_64 random{1};
  disk.writable.fill(0xff);
  const FakeFunction before = disk;
  for (unsigned i = 0; i < 200'000; ++i) {
    const unsigned size = 1u << (random() % 4);
    const std::uint64_t offset =
        (random() % 4 == 0 ? random() & 0xffffff : 0x8000 + (random() & 0xfff)) & ~(size - 1ull);
    if (random() % 2 == 0) {
      ASSERT_EQ(host.write(vcpu, {offset, size}, random()), MmioResult::done);
    } else {
      std::uint64_t v = 0;
      ASSERT_EQ(host.read(vcpu, {offset, size}, v), MmioResult::done);
    }
    for (const auto& [at, what] : bars.mapped)
      ASSERT_TRUE((at >= 0x10000000 && at + what.second <= 0x3eff0000) || at >= 0x80'0000'0000);
  }
  for (unsigned at = 0; at < kConfigEnd; at += 4) {
    if (at == kCommand || at == 0x88) continue;
    EXPECT_EQ(disk.get(static_cast<std::uint16_t>(at), 4), before.get(static_cast<std::uint16_t>(at), 4)) << at;
  }
}

}  // namespace
}  // namespace weir::pci
