// Precise mode: whose context descriptors the hardware reads, under which ASID, and where invalidations go.
#include <gtest/gtest.h>

#include "tests/unit/fakes/failing_new.hpp"
#include "tests/unit/model/tables.hpp"
#include "tests/unit/vsmmu/fixture.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;

constexpr std::uint32_t kA = 8;    // on instance 0
constexpr std::uint32_t kB = 16;   // on instance 1
constexpr std::uint32_t kA2 = 24;  // on instance 0
constexpr StreamID sid_of(std::uint32_t vsid) { return StreamID{0x1000 + vsid}; }
constexpr IPA cd_of(std::uint32_t vsid) { return kCd + std::uint64_t{vsid} * sizeof(Cd); }
Cd cd(std::uint16_t asid, std::uint64_t ttb = 0x4005'0000) { return model::test::context(ttb, asid); }
stage2::Capabilities narrow(stage2::Capabilities c) {
  c.idr0.set<IDR0::ASID16>(false);
  return c;
}

struct Precise : testing::Test {
  explicit Precise(vsmmu::Config config = {.precise = true}) {
    machine.smmus.push_back(std::make_unique<FakeSmmu>(1, narrow(qemu_like_capabilities()), &machine.log));
    machine.ports.push_back(machine.smmus.back().get());
    virt = std::make_unique<Virtual>(machine, config);
    guest = std::make_unique<Guest>(*virt);
    attach(kA, 0);
    attach(kB, 1);
    attach(kA2, 0);
  }
  void attach(std::uint32_t vsid, unsigned instance) {
    ASSERT_TRUE(virt->vsmmu->attach(VStreamID{vsid}, *machine.smmus[instance], sid_of(vsid)));
  }
  // The stream uses its own descriptor, with this ASID; everybody knows.
  void use(std::uint32_t vsid, std::uint16_t asid) {
    machine.memory.put(cd_of(vsid), cd(asid));
    guest->put_ste(vsid, Guest::s1_ste(cd_of(vsid)));
    guest->submit({cfgi_ste(vsid), sync_none()});
  }
  void stop(std::uint32_t vsid) {
    guest->put_ste(vsid, Ste{}.set<Ste::V>(true));
    guest->submit({cfgi_ste(vsid), sync_none()});
  }
  Ste ste(std::uint32_t vsid, unsigned instance) { return machine.smmus[instance]->stes.at(sid_of(vsid)); }
  // What the hardware finds there.
  Cd at(IPA ipa) {
    const auto mapping = machine.domain->lookup(ipa);
    EXPECT_TRUE(mapping);
    if (!mapping) return {};
    EXPECT_TRUE(mapping->attributes.read);
    EXPECT_FALSE(mapping->attributes.write);
    Cd copy;
    const PA page = mapping->at.align_down(kPage4K);
    std::memcpy(copy.words.data(), static_cast<const std::byte*>(machine.hidden.pointer(page)) + ipa.value % kPage4K,
                sizeof copy);
    return copy;
  }
  Cd held(std::uint32_t vsid, unsigned instance) { return at(ste(vsid, instance).get<Ste::S1ContextPtr>()); }
  ASID host(std::uint32_t vsid, unsigned instance) { return held(vsid, instance).get<Cd::ASID>(); }
  VMID vmid(unsigned i, TagKind kind = TagKind::held) { return virt->vsmmu->backings()[i].tag(kind)->vmid(); }
  unsigned asids(unsigned i) { return virt->vsmmu->backing_counters(i).host_asids; }
  const std::vector<Command>& sent(unsigned i) { return machine.smmus[i]->commands; }
  void submit(std::initializer_list<Command> commands) {
    machine.forget();
    guest->submit(commands);
  }
  static Command asid_gone(std::uint16_t asid) { return tlbi_nh_asid(VMID{}, ASID{asid}); }

  Machine machine{1};
  std::unique_ptr<Virtual> virt;
  std::unique_ptr<Guest> guest;
};

struct On : Precise {
  On() { guest->enable(); }
};
struct NoGlobals : Precise {
  NoGlobals() : Precise({.precise = true, .no_global_pages = true, .late_events = true}) { guest->enable(); }
};

// --- Copies ----------------------------------------------------------------------------------------------------------

TEST_F(On, TheHardwareReadsACopyUnderAHostAsid) {
  use(kA, 0x305);
  EXPECT_TRUE(ste(kA, 0).get<Ste::S1ContextPtr>() >= kHidden);
  EXPECT_EQ(ste(kA, 0).get<Ste::S2VMID>(), vmid(0));
  EXPECT_NE(vmid(0), vmid(0, TagKind::open));
  Cd copy = held(kA, 0);
  EXPECT_EQ(asids(0), 1u);
  EXPECT_EQ(copy.set<Cd::ASID>(ASID{0x305}), cd(0x305));
  EXPECT_EQ(virt->vsmmu->counters().contexts, 1u);
  EXPECT_FALSE(virt->vsmmu->dirty(0, TagKind::open));
  EXPECT_TRUE(virt->vsmmu->dirty(0, TagKind::held));
}

TEST_F(On, InstancesOfEightBitsCarryWideAsids) {
  EXPECT_TRUE(virt->vsmmu->announced().idr0.get<IDR0::ASID16>());
  use(kB, 0xfffe);
  use(kA, 0xfffe);
  EXPECT_LT(host(kB, 1).value, 0x100u);
  EXPECT_NE(host(kA, 0), host(kB, 1));
  submit({asid_gone(0xfffe), sync_none()});
  EXPECT_EQ(sent(1), (std::vector<Command>{tlbi_nh_asid(vmid(1), host(kB, 1))}));
  EXPECT_EQ(sent(0), (std::vector<Command>{tlbi_nh_asid(vmid(0), host(kA, 0))}));
}

TEST_F(On, OneAsidOfTheGuestIsOneOnAnInstance) {
  use(kA, 7);
  use(kA2, 7);
  EXPECT_EQ(host(kA, 0), host(kA2, 0));
  EXPECT_EQ(asids(0), 1u);
}

// The other slot is written, and made the stream's by one word of the STE.
TEST_F(On, AChangedDescriptorIsCopiedAtItsCfgiAndNotBefore) {
  use(kA, 1);
  const Ste before = ste(kA, 0);
  const Cd old = held(kA, 0);
  machine.memory.put(cd_of(kA), cd(2, 0x4007'0000));
  submit({nh_va(1, 0), sync_none()});
  EXPECT_EQ(ste(kA, 0), before);
  EXPECT_EQ(held(kA, 0), old);
  bool checked = false;
  machine.smmus[0]->on_ste = [&](StreamID, const Ste& now) {
    checked = true;
    for (unsigned i = 1; i < 8; ++i) EXPECT_EQ(now.words[i], before.words[i]);
    EXPECT_EQ(now.words[0] & ~Ste::S1ContextPtr::mask, before.words[0] & ~Ste::S1ContextPtr::mask);
    EXPECT_EQ(at(now.get<Ste::S1ContextPtr>()).get<Cd::TTB0>(), IPA{0x4007'0000});
    EXPECT_EQ(at(before.get<Ste::S1ContextPtr>()), old);  // until nobody reads it
    EXPECT_EQ(asids(0), 2u);                              // recorded before the flip, the old one still there
  };
  submit({cfgi_cd(StreamID{kA}, SubstreamID{}, true), sync_none()});
  EXPECT_TRUE(checked);
  machine.smmus[0]->on_ste = nullptr;
  EXPECT_EQ(guest->cons(), guest->prod);
  EXPECT_EQ(virt->vsmmu->counters().commands[static_cast<std::size_t>(Opcode::CFGI_CD)], 1u);
}

TEST_F(On, AnUnchangedDescriptorCostsNothing) {
  use(kA, 1);
  const Ste before = ste(kA, 0);
  submit(
      {cfgi_cd(StreamID{kA}, SubstreamID{}, true), cfgi_cd_all(StreamID{kA}), cfgi_ste(kA), cfgi_all(), sync_none()});
  EXPECT_EQ(ste(kA, 0), before);
  EXPECT_TRUE(sent(0).empty());
  EXPECT_EQ(virt->vsmmu->counters().contexts, 1u);
}

TEST_F(On, EveryCfgiThatCoversTheStreamCopies) {
  const Command kinds[] = {cfgi_cd(StreamID{kA}, SubstreamID{}, true), cfgi_cd_all(StreamID{kA}), cfgi_ste(kA),
                           smmu::cfgi_ste_range(StreamID{kA}, 2), cfgi_all()};
  use(kA, 1);
  std::uint16_t asid = 1;
  for (const Command& c : kinds) {
    ++asid;
    machine.memory.put(cd_of(kA), cd(asid, 0x4000'0000 + asid * 0x1000u));
    submit({c, sync_none()});
    EXPECT_EQ(held(kA, 0).get<Cd::TTB0>(), IPA{0x4000'0000 + asid * 0x1000u}) << unsigned{asid};
  }
  machine.memory.put(cd_of(kA), cd(40, 0x4009'0000));
  guest->write(Reg::CR0, CR0::CMDQEN::mask);
  guest->write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask);
  EXPECT_EQ(held(kA, 0).get<Cd::TTB0>(), IPA{0x4009'0000});
}

TEST_F(On, CfgiCdDoesNotReadTheSte) {
  use(kA, 1);
  guest->put_ste(kA, Ste{}.set<Ste::V>(true));
  machine.memory.put(cd_of(kA), cd(2));
  submit({cfgi_cd(StreamID{kA}, SubstreamID{}, true), sync_none()});
  EXPECT_EQ(ste(kA, 0).get<Ste::Config>(), SteConfig::s1_s2);
  EXPECT_EQ(asids(0), 2u);
}

TEST_F(On, AnInvalidDescriptorStaysInvalid) {
  machine.memory.put(cd_of(kA), cd(5).set<Cd::V>(false));
  guest->put_ste(kA, Guest::s1_ste(cd_of(kA)));
  submit({cfgi_ste(kA), sync_none()});
  EXPECT_FALSE(held(kA, 0).get<Cd::V>());
  EXPECT_EQ(asids(0), 0u);
}

TEST_F(On, BitsThatNoGuestIsOfferedAreLeftOut) {
  machine.memory.put(cd_of(kA), cd(5).set<Cd::PARTID>(3).set<Cd::PnCH>(true));
  guest->put_ste(kA, Guest::s1_ste(cd_of(kA)));
  submit({cfgi_ste(kA), sync_none()});
  EXPECT_EQ(held(kA, 0).get<Cd::PARTID>(), 0u);
  EXPECT_FALSE(held(kA, 0).get<Cd::PnCH>());
}

TEST(PreciseNarrow, AnAsidThatTheGuestDoesNotHaveIsABadDescriptor) {
  Machine machine{1};
  Virtual virt{machine, {.asid16 = false, .precise = true}};
  Guest guest{virt};
  ASSERT_TRUE(virt.vsmmu->attach(VStreamID{kA}, *machine.smmus[0], sid_of(kA)));
  machine.memory.put(cd_of(kA), cd(0x101));
  guest.put_ste(kA, Guest::s1_ste(cd_of(kA)));
  guest.enable();
  const IPA ptr = machine.smmus[0]->stes[sid_of(kA)].get<Ste::S1ContextPtr>();
  Cd copy;
  std::memcpy(
      copy.words.data(),
      static_cast<const std::byte*>(machine.hidden.pointer(machine.domain->lookup(ptr)->at.align_down(kPage4K))) +
          ptr.value % kPage4K,
      sizeof copy);
  EXPECT_FALSE(copy.get<Cd::V>());
}

TEST_F(On, WhatCannotBeReadIsTheHardwaresToReport) {
  guest->put_ste(kA, Guest::s1_ste(IPA{0x9000'0000}));
  submit({cfgi_ste(kA), sync_none()});
  EXPECT_EQ(ste(kA, 0).get<Ste::S1ContextPtr>(), IPA{0x9000'0000});
  EXPECT_EQ(ste(kA, 0).get<Ste::S2VMID>(), vmid(0, TagKind::open));
  EXPECT_TRUE(virt->vsmmu->dirty(0, TagKind::open));
  // Any ASID may be there, as far as anybody knows.
  submit({asid_gone(9), cfgi_cd(StreamID{kA}, SubstreamID{}, true), sync_none()});
  EXPECT_EQ(sent(0), (std::vector<Command>{tlbi_nh_asid(vmid(0, TagKind::open), ASID{9}), cfgi_cd_all(sid_of(kA))}));
  // Back in memory that can be read.
  use(kA, 3);
  EXPECT_EQ(ste(kA, 0).get<Ste::S2VMID>(), vmid(0));
  EXPECT_EQ(held(kA, 0).get<Cd::TTB0>(), cd(3).get<Cd::TTB0>());
}

// On an instance that has no such ASID there may still be global entries under the open tag.
TEST_F(On, WideAsidsUnderTheOpenTagOfANarrowInstance) {
  guest->put_ste(kB, Guest::s1_ste(IPA{0x9000'0000}));
  submit({cfgi_ste(kB), sync_none()});
  submit({nh_va(0x105, 0x5000), asid_gone(0x105), sync_none()});
  EXPECT_EQ(sent(1), (std::vector<Command>{tlbi_nh_vaa(vmid(1, TagKind::open), IOVA{0x5000}, true)}));
}

TEST(PreciseSubstreams, AreTheHardwaresToRead) {
  auto able = qemu_like_capabilities();
  able.idr1.set<IDR1::SSIDSIZE>(8);
  Machine machine{1, able};
  Virtual virt{machine, {.precise = true}};
  Guest guest{virt};
  ASSERT_EQ(virt.vsmmu->announced().ssid_bits(), 8u);
  ASSERT_TRUE(virt.vsmmu->attach(VStreamID{kA}, *machine.smmus[0], sid_of(kA)));
  guest.put_ste(kA, Guest::s1_ste().set<Ste::S1CDMax>(4));
  guest.enable();
  const Ste ste = machine.smmus[0]->stes[sid_of(kA)];
  EXPECT_EQ(ste.get<Ste::S1ContextPtr>(), kCd);
  EXPECT_EQ(ste.get<Ste::S2VMID>(), virt.vsmmu->backings()[0].tag(TagKind::open)->vmid());
  machine.forget();
  guest.submit({cfgi_cd(StreamID{kA}, SubstreamID{2}, true), nh_va(4, 0), sync_none()});
  EXPECT_EQ(machine.smmus[0]->commands.size(), 2u);
}

TEST(PreciseSubstreams, AreNotOfferedWhereAsidsAreBridged) {
  auto able = qemu_like_capabilities();
  able.idr1.set<IDR1::SSIDSIZE>(8);
  Machine machine{1, able};
  machine.smmus.push_back(std::make_unique<FakeSmmu>(1, narrow(able)));
  machine.ports.push_back(machine.smmus.back().get());
  EXPECT_EQ((Virtual{machine, {.precise = true}}.vsmmu->announced().ssid_bits()), 0u);
  EXPECT_EQ((Virtual{machine, {.asid16 = false, .precise = true}}.vsmmu->announced().ssid_bits()), 8u);
}

TEST_F(On, FetchAddrIsTheGuestsOwn) {
  use(kA, 1);
  const auto fetch = FCdFetch{}
                         .set<FCdFetch::Id>(EventId::F_CD_FETCH)
                         .set<FCdFetch::StreamID>(sid_of(kA).value)
                         .set<FCdFetch::FetchAddr>(0x1'2340);
  Event physical;
  physical.words = fetch.words;
  ASSERT_TRUE(virt->vsmmu->handle_event(*machine.smmus[0], physical));
  FCdFetch seen;
  seen.words = guest->event(0).words;
  EXPECT_EQ(seen.get<FCdFetch::FetchAddr>(), cd_of(kA).value);
  // And so if stage 2 refuses it.
  FTranslation refused;
  refused.set<FTranslation::Id>(EventId::F_TRANSLATION)
      .set<FTranslation::StreamID>(sid_of(kA).value)
      .set<FTranslation::S2>(true)
      .set<FTranslation::CLASS>(EventClass::CD)
      .set<FTranslation::IPA>(ste(kA, 0).get<Ste::S1ContextPtr>());
  physical.words = refused.words;
  ASSERT_TRUE(virt->vsmmu->handle_event(*machine.smmus[0], physical));
  seen.words = guest->event(1).words;
  EXPECT_EQ(seen.get<FCdFetch::Id>(), EventId::F_CD_FETCH);
  EXPECT_EQ(seen.get<FCdFetch::FetchAddr>(), cd_of(kA).value);
}

// --- Where invalidations go ------------------------------------------------------------------------------------------

TEST_F(NoGlobals, InvalidationsGoWhereTheAsidLives) {
  use(kA, 1);
  use(kB, 2);
  submit({nh_va(2, 0x7000), sync_none()});
  EXPECT_TRUE(sent(0).empty());
  EXPECT_EQ(machine.smmus[0]->syncs, 0u);  // nor does anybody wait there
  EXPECT_EQ(sent(1), (std::vector<Command>{tlbi_nh_va(vmid(1), host(kB, 1), IOVA{0x7000}, true)}));
  EXPECT_EQ(machine.smmus[1]->syncs, 1u);
  submit({asid_gone(1), sync_none()});
  EXPECT_EQ(sent(0), (std::vector<Command>{tlbi_nh_asid(vmid(0), host(kA, 0))}));
  EXPECT_TRUE(sent(1).empty());
  submit({nh_va(3, 0), asid_gone(3), sync_none()});
  EXPECT_TRUE(sent(0).empty() && sent(1).empty());
  submit({tlbi_nh_vaa(VMID{}, IOVA{0x7000}, true), sync_none(), tlbi_nh_all(VMID{}), sync_none()});
  for (unsigned i : {0u, 1u})
    EXPECT_EQ(sent(i), (std::vector<Command>{tlbi_nh_vaa(vmid(i), IOVA{0x7000}, true), tlbi_nh_all(vmid(i))}));
}

// The same ASID of the guest is another one on each instance, also when many commands are taken at once.
TEST_F(NoGlobals, ARunGoesUnderTheHostAsidOfEachInstance) {
  use(kA2, 9);  // so that they differ
  use(kA, 1);
  use(kB, 1);
  ASSERT_NE(host(kA, 0), host(kB, 1));
  submit({nh_va(1, 0x7000), nh_va(1, 0x8000), nh_va(1, 0x9000), sync_none()});
  for (const auto& [vsid, i] : {std::pair{kA, 0u}, std::pair{kB, 1u}})
    EXPECT_EQ(sent(i), (std::vector<Command>{tlbi_nh_va(vmid(i), host(vsid, i), IOVA{0x7000}, true),
                                             tlbi_nh_va(vmid(i), host(vsid, i), IOVA{0x8000}, true),
                                             tlbi_nh_va(vmid(i), host(vsid, i), IOVA{0x9000}, true)}));
  submit({nh_va(1, 0x7000), sync_none()});  // and one alone
  for (const auto& [vsid, i] : {std::pair{kA, 0u}, std::pair{kB, 1u}})
    EXPECT_EQ(sent(i), (std::vector<Command>{tlbi_nh_va(vmid(i), host(vsid, i), IOVA{0x7000}, true)}));
}

// NH_VA also removes global entries, whichever ASID made them.
TEST_F(On, WithGlobalPagesAnAddressGoesEverywhere) {
  use(kA, 1);
  use(kB, 2);
  submit({nh_va(2, 0x7000), sync_none()});
  EXPECT_EQ(sent(0), (std::vector<Command>{tlbi_nh_vaa(vmid(0), IOVA{0x7000}, true)}));
  EXPECT_EQ(sent(1), (std::vector<Command>{tlbi_nh_va(vmid(1), host(kB, 1), IOVA{0x7000}, true)}));
}

TEST_F(On, WithGlobalPagesARunGoesEverywhere) {
  use(kA, 1);
  use(kB, 2);
  submit({nh_va(2, 0x7000), nh_va(2, 0x8000), sync_none()});
  EXPECT_EQ(sent(0),
            (std::vector<Command>{tlbi_nh_vaa(vmid(0), IOVA{0x7000}, true), tlbi_nh_vaa(vmid(0), IOVA{0x8000}, true)}));
  EXPECT_EQ(sent(1), (std::vector<Command>{tlbi_nh_va(vmid(1), host(kB, 1), IOVA{0x7000}, true),
                                           tlbi_nh_va(vmid(1), host(kB, 1), IOVA{0x8000}, true)}));
}

// --- How long an ASID lives ------------------------------------------------------------------------------------------

TEST_F(NoGlobals, AnAsidLivesUntilItsInvalidationIsComplete) {
  use(kA, 1);
  const ASID was = host(kA, 0);
  stop(kA);
  EXPECT_EQ(asids(0), 1u);
  submit({nh_va(1, 0x1000), sync_none()});
  EXPECT_EQ(sent(0), (std::vector<Command>{tlbi_nh_va(vmid(0), was, IOVA{0x1000}, true)}));
  submit({asid_gone(1)});
  EXPECT_EQ(asids(0), 1u);
  submit({nh_va(1, 0x2000)});
  EXPECT_EQ(sent(0).size(), 1u);  // not known to be complete
  submit({sync_none()});
  EXPECT_EQ(asids(0), 0u);
  submit({nh_va(1, 0x3000), sync_none()});
  EXPECT_TRUE(sent(0).empty());
}

TEST_F(NoGlobals, AnInvalidationWhileItIsUsedDropsNothing) {
  use(kA, 1);
  guest->submit({asid_gone(1), sync_none()});
  EXPECT_EQ(asids(0), 1u);
  guest->submit({asid_gone(1)});
  stop(kA);  // its SYNC completes the NH_ASID, but that was sent before
  EXPECT_EQ(asids(0), 1u);
  guest->submit({asid_gone(1), sync_none()});
  EXPECT_EQ(asids(0), 0u);
}

TEST_F(NoGlobals, ANewUseBetweenInvalidationAndSyncKeepsIt) {
  use(kA, 1);
  const ASID was = host(kA, 0);
  stop(kA);
  guest->submit({asid_gone(1)});
  use(kA, 1);
  EXPECT_EQ(asids(0), 1u);
  EXPECT_EQ(host(kA, 0), was);
  submit({asid_gone(1), sync_none()});
  EXPECT_EQ(sent(0).size(), 1u);
}

TEST_F(NoGlobals, TheLastOfTwoUsersCounts) {
  use(kA, 1);
  use(kA2, 1);
  stop(kA);
  guest->submit({asid_gone(1), sync_none()});
  EXPECT_EQ(asids(0), 1u);
  stop(kA2);
  guest->submit({tlbi_nh_all(VMID{}), sync_none()});
  EXPECT_EQ(asids(0), 0u);
  EXPECT_FALSE(virt->vsmmu->dirty(0, TagKind::held));
}

// 8 bits of ASIDs, more of which are used one after another than there are: those without users are made clean.
TEST_F(NoGlobals, ExhaustedHostAsidsAreTakenBack) {
  for (std::uint16_t asid = 1; asid <= 255; ++asid) use(kB, asid);
  EXPECT_EQ(asids(1), 255u);
  machine.forget();
  std::vector<Command> before_flip;
  machine.smmus[1]->on_ste = [&](StreamID, const Ste&) { before_flip = machine.smmus[1]->commands; };
  use(kB, 300);
  machine.smmus[1]->on_ste = nullptr;
  ASSERT_FALSE(before_flip.empty());
  for (const Command& c : before_flip) EXPECT_EQ(c.opcode(), Opcode::TLBI_NH_ASID);
  EXPECT_EQ(asids(1), 256 - before_flip.size());
  EXPECT_EQ(virt->vsmmu->counters().asids_exhausted, 0u);
  EXPECT_EQ(ste(kB, 1).get<Ste::Config>(), SteConfig::s1_s2);
  for (std::uint16_t asid = 400; asid <= 3000; asid = static_cast<std::uint16_t>(asid + 1)) use(kB, asid);
  EXPECT_LE(asids(1), 255u);
}

TEST_F(NoGlobals, AStreamForWhichNoHostAsidIsLeftAborts) {
  for (std::uint16_t n = 0; n < 255; ++n) {
    const std::uint32_t vsid = 100 + n;
    attach(vsid, 1);
    use(vsid, static_cast<std::uint16_t>(1000 + n));
    ASSERT_EQ(ste(vsid, 1).get<Ste::Config>(), SteConfig::s1_s2) << n;
  }
  use(kB, 5);
  EXPECT_EQ(ste(kB, 1), vsmmu::abort_ste());
  EXPECT_EQ(virt->vsmmu->counters().asids_exhausted, 1u);
  EXPECT_EQ(virt->vsmmu->counters().install_failures, 1u);
  // With one free again, the next CFGI does it.
  stop(100);
  use(kB, 5);
  EXPECT_EQ(ste(kB, 1).get<Ste::Config>(), SteConfig::s1_s2);
  // A stream's own is not free while the hardware has its descriptor.
  use(kB, 6);
  EXPECT_EQ(ste(kB, 1), vsmmu::abort_ste());
  EXPECT_EQ(virt->vsmmu->counters().asids_exhausted, 2u);
}

// --- Life ------------------------------------------------------------------------------------------------------------

TEST_F(On, SlotsAndPagesComeBack) {
  for (std::uint32_t vsid = 100; vsid < 164; ++vsid) attach(vsid, 0);
  EXPECT_EQ(machine.hidden.in_use, 3u);  // 67 streams, 32 in a page
  use(100, 5);
  const IPA first = ste(100, 0).get<Ste::S1ContextPtr>();
  EXPECT_TRUE(virt->vsmmu->detach(VStreamID{100}));
  EXPECT_EQ(ste(100, 0), vsmmu::abort_ste());
  attach(100, 0);
  use(100, 5);
  EXPECT_EQ(ste(100, 0).get<Ste::S1ContextPtr>().align_down(128), first.align_down(128));
  virt->vsmmu->shutdown();
  EXPECT_EQ(machine.hidden.in_use, 0u);
  EXPECT_FALSE(machine.domain->lookup(kHidden));
  for (const auto& s : machine.smmus) EXPECT_EQ(s->vmids().in_use(), 0u);
}

TEST_F(On, AFullRegionRefusesStreams) {
  for (std::uint32_t n = 3; n < 512; ++n) attach(1024 - 512 + n, 0);
  EXPECT_EQ(virt->vsmmu->attach(VStreamID{600 + 512}, *machine.smmus[0], sid_of(9999)).error(),
            stage2::Error::out_of_memory);
  EXPECT_EQ(machine.hidden.in_use, 16u);
}

TEST_F(On, WithoutMemoryNothingIsAttached) {
  for (std::uint32_t vsid = 100; vsid < 129; ++vsid) attach(vsid, 0);
  machine.hidden.fail_after = 0;
  EXPECT_EQ(virt->vsmmu->attach(VStreamID{500}, *machine.smmus[0], sid_of(500)).error(), stage2::Error::out_of_memory);
  machine.hidden.fail_after = -1;
  attach(500, 0);
}

TEST(PreciseCreate, FailsWithNothingHalfDone) {
  for (int after = 0; after < 40; ++after) {
    Machine machine{2};
    bool done = false;
    {
      Virtual virt{machine, {.oas_bits = 1}};  // only for its surroundings
      virt.vsmmu.reset();
      const FailingNew fail{after};
      auto made = vsmmu::VSmmu::create({.precise = true}, machine.ports, virt.surroundings());
      done = made.has_value();
      if (!done) EXPECT_EQ(made.error().error, stage2::Error::out_of_memory) << after;
    }
    for (const auto& s : machine.smmus) EXPECT_EQ(s->vmids().in_use(), 0u) << after;
    EXPECT_EQ(machine.domain->tag_count(), 0u);
    if (done) return;
  }
  FAIL() << "never succeeds";
}

TEST_F(On, WithoutMemoryForTheDomainAStreamAborts) {
  use(kA, 1);
  guest->put_ste(kA, Guest::s1_ste(IPA{0x9000'0000}));  // to the open tag: out of one, into the other
  {
    const FailingNew fail{0};
    guest->submit({cfgi_ste(kA), sync_none()});
  }
  EXPECT_EQ(ste(kA, 0), vsmmu::abort_ste());
  EXPECT_EQ(virt->vsmmu->counters().install_failures, 1u);
  EXPECT_EQ(guest->cons(), guest->prod);
  use(kA, 2);
  EXPECT_EQ(ste(kA, 0).get<Ste::Config>(), SteConfig::s1_s2);
}

}  // namespace
}  // namespace weir::vsmmu::test
