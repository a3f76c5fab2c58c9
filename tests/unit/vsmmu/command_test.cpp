// What each command does, which are refused, and how the queue stops and goes on.
#include <gtest/gtest.h>

#include "tests/unit/vsmmu/fixture.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;

constexpr std::uint32_t kA = 0x08;  // on instance 0
constexpr std::uint32_t kB = 0x10;  // on instance 1
constexpr StreamID kSidA{0x0808};
constexpr StreamID kSidB{0x1010};

class Commands : public ::testing::Test {
 protected:
  explicit Commands(const Config& config = {}, const Bounds& bounds = {}) : virt{machine, config, bounds} {
    EXPECT_TRUE(virt.vsmmu->attach(VStreamID{kA}, smmu0, kSidA));
    EXPECT_TRUE(virt.vsmmu->attach(VStreamID{kB}, smmu1, kSidB));
    guest.put_ste(kA, Guest::s1_ste());
    guest.put_ste(kB, Guest::s1_ste());
    guest.enable();
    machine.forget();
  }
  VMID vmid(unsigned instance) { return virt.vsmmu->backings()[instance].tag(vsmmu::TagKind::open)->vmid(); }
  // What the hardware got, in all.
  std::size_t issued() { return smmu0.commands.size() + smmu1.commands.size() + smmu0.syncs + smmu1.syncs; }
  void expect_illegal(const smmu::Command& c) {
    const std::size_t before = issued();
    const std::uint32_t at = guest.cons();
    guest.submit({c});
    EXPECT_TRUE(guest.cmdq_error());
    EXPECT_EQ(guest.error(), CmdqError::CERROR_ILL);
    EXPECT_EQ(guest.cons(), at);
    EXPECT_EQ(issued(), before);
    guest.recover();
    EXPECT_FALSE(guest.cmdq_error());
  }

  Machine machine{2};
  FakeSmmu& smmu0 = *machine.smmus[0];
  FakeSmmu& smmu1 = *machine.smmus[1];
  Virtual virt;
  Guest guest{virt};
};

// --- One by one ------------------------------------------------------------------------------------------------------

TEST_F(Commands, AddressInvalidationGoesToEveryDirtyTagWithItsVmid) {
  guest.submit({nh_va(5, 0x1234'5000), sync_none()});
  for (unsigned i : {0u, 1u}) {
    const auto found = machine.smmus[i]->all<TlbiNhVa>();
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0], tlbi_nh_va(vmid(i), ASID{5}, IOVA{0x1234'5000}, true));
    EXPECT_EQ(machine.smmus[i]->syncs, 1u);
  }
  EXPECT_EQ(guest.cons(), 2u);
}

TEST_F(Commands, AllKindsOfTlbi) {
  guest.submit({tlbi_nh_asid(VMID{}, ASID{0xbeef}), tlbi_nh_vaa(VMID{}, IOVA{0x7000}, false), sync_none()});
  guest.submit({tlbi_nh_all(VMID{}), sync_none(), tlbi_nsnh_all(), sync_none()});
  for (unsigned i : {0u, 1u}) {
    const std::vector<Command> expected = {tlbi_nh_asid(vmid(i), ASID{0xbeef}),
                                           tlbi_nh_vaa(vmid(i), IOVA{0x7000}, false), tlbi_nh_all(vmid(i)),
                                           tlbi_nh_all(vmid(i))};
    EXPECT_EQ(machine.smmus[i]->commands, expected);
  }
}

TEST_F(Commands, TheGuestsVmidDoesNotCount) {
  guest.submit({tlbi_nh_va(VMID{0xffff}, ASID{1}, IOVA{}, true), sync_none(), tlbi_nh_all(VMID{3}), sync_none()});
  EXPECT_EQ(smmu0.all<TlbiNhVa>().at(0).get<TlbiNhVa::VMID>(), vmid(0));
  EXPECT_EQ(smmu0.all<TlbiNhAll>().at(0).get<TlbiNhAll::VMID>(), vmid(0));
}

TEST_F(Commands, RangesPassThrough) {
  const TlbiRange range{.tg = TlbiGranule::size4k, .ttl = 3, .num = 17, .scale = 5};
  guest.submit({tlbi_nh_va(VMID{}, ASID{1}, IOVA{0x20'0000}, true, range), sync_none()});
  EXPECT_EQ(smmu1.all<TlbiNhVa>().at(0), tlbi_nh_va(vmid(1), ASID{1}, IOVA{0x20'0000}, true, range));
}

TEST_F(Commands, ReservedRangesAreIllegal) {
  expect_illegal(tlbi_nh_va(VMID{}, ASID{1}, IOVA{}, true, {.tg = TlbiGranule::size4k}));
  expect_illegal(tlbi_nh_va(VMID{}, ASID{1}, IOVA{}, true, {.num = 1}));
  expect_illegal(tlbi_nh_va(VMID{}, ASID{1}, IOVA{}, true, {.scale = 1}));
  expect_illegal(tlbi_nh_va(VMID{}, ASID{1}, IOVA{}, true, {.ttl = 3}));
  expect_illegal(tlbi_nh_vaa(VMID{}, IOVA{}, true, {.tg = TlbiGranule::size64k}));
  expect_illegal(tlbi_nh_vaa(VMID{}, IOVA{}, true, {.tg = TlbiGranule::size4k, .num = 1, .scale = 32}));
  expect_illegal(tlbi_nh_va(VMID{}, ASID{1}, IOVA{}, true, {.tg = TlbiGranule::size16k, .ttl = 1}));
}

TEST_F(Commands, ALevelHintThatIsReservedMeansAnyLevel) {
  guest.submit(
      {tlbi_nh_va(VMID{}, ASID{1}, IOVA{}, true, {.tg = TlbiGranule::size16k, .ttl = 1, .num = 3}), sync_none()});
  EXPECT_EQ(smmu0.all<TlbiNhVa>().at(0).get<TlbiNhVa::TTL>(), 0u);
  EXPECT_EQ(smmu0.all<TlbiNhVa>().at(0).get<TlbiNhVa::NUM>(), 3u);
}

TEST_F(Commands, CfgiCdGoesToItsOwnInstanceOnly) {
  guest.submit({cfgi_cd(StreamID{kB}, SubstreamID{}, true), cfgi_cd_all(StreamID{kB}), sync_none()});
  EXPECT_EQ(smmu1.commands, (std::vector<Command>{cfgi_cd(kSidB, SubstreamID{}, true), cfgi_cd_all(kSidB)}));
  EXPECT_TRUE(smmu0.commands.empty());
}

TEST_F(Commands, CfgiCdWithoutSubstreamsHasIndex0) {
  guest.submit({cfgi_cd(StreamID{kA}, SubstreamID{0xfffff}, false), sync_none()});
  EXPECT_EQ(smmu0.commands, (std::vector<Command>{cfgi_cd(kSidA, SubstreamID{}, false)}));
}

TEST_F(Commands, CfgiSteOfAnUnchangedSteInvalidatesIt) {
  guest.submit({cfgi_ste(kA), sync_none()});
  EXPECT_EQ(smmu0.commands, (std::vector<Command>{smmu::cfgi_ste(kSidA, true)}));
  EXPECT_TRUE(smmu1.commands.empty());
}

TEST_F(Commands, CfgiSteInstallsAChangedSte) {
  auto ste = Guest::s1_ste(kCd + 64);
  guest.put_ste(kA, ste);
  guest.submit({cfgi_ste(kA), sync_none()});
  EXPECT_EQ(smmu0.stes[kSidA].get<Ste::S1ContextPtr>(), kCd + 64);
  EXPECT_EQ(smmu0.stes[kSidA].get<Ste::S2VMID>(), vmid(0));
  EXPECT_EQ(smmu0.stes[kSidA].get<Ste::Config>(), SteConfig::s1_s2);
}

TEST_F(Commands, CfgiSteOfUnknownStreamsHasNoEffect) {
  guest.submit(
      {cfgi_ste(7), cfgi_ste(0xffff'ffff), cfgi_cd(StreamID{7}, SubstreamID{}, true), cfgi_cd_all(StreamID{7})});
  EXPECT_FALSE(guest.cmdq_error());
  EXPECT_EQ(guest.cons(), 4u);
  EXPECT_EQ(issued(), 0u);
}

TEST_F(Commands, CfgiSteRangeAndAll) {
  const auto change = [&](unsigned cd) {
    guest.put_ste(kA, Guest::s1_ste(kCd + cd * 64));
    guest.put_ste(kB, Guest::s1_ste(kCd + cd * 64));
  };
  const auto cd_of = [](FakeSmmu& s, StreamID sid) { return (s.stes[sid].get<Ste::S1ContextPtr>() - kCd) / 64; };
  change(1);
  guest.submit({cfgi_ste_range(StreamID{0x0b}, 2)});  // 0x08..0x0f
  EXPECT_EQ(cd_of(smmu0, kSidA), 1u);
  EXPECT_EQ(cd_of(smmu1, kSidB), 0u);
  change(2);
  guest.submit({cfgi_ste_range(StreamID{0}, 4)});  // 0x00..0x1f
  EXPECT_EQ(cd_of(smmu0, kSidA), 2u);
  EXPECT_EQ(cd_of(smmu1, kSidB), 2u);
  change(3);
  guest.submit({cfgi_all()});
  EXPECT_EQ(cd_of(smmu0, kSidA), 3u);
  EXPECT_EQ(cd_of(smmu1, kSidB), 3u);
  change(4);
  guest.submit({cfgi_ste_range(StreamID{0xffff'ffff}, 31)});
  EXPECT_EQ(cd_of(smmu1, kSidB), 4u);
}

TEST_F(Commands, PrefetchesAreIgnored) {
  guest.submit({PrefetchConfig{}.set<PrefetchConfig::StreamID>(kA), PrefetchAddr{}.set<PrefetchAddr::Size>(31)});
  EXPECT_FALSE(guest.cmdq_error());
  EXPECT_EQ(issued(), 0u);
}

TEST_F(Commands, SyncSignals) {
  guest.submit({sync_none(), sync_sev()});
  EXPECT_TRUE(virt.interrupts.count.empty());
  guest.submit({sync_irq(PA{0x4000'0000}, 0xdead)});
  EXPECT_EQ(virt.interrupts.count[Irq::cmdq_sync], 1u);
  EXPECT_EQ(machine.memory.get<CMDQ_PROD>(IPA{0x4000'0000}).words[0] == 0xdead, false);  // no MSIs
  expect_illegal(Sync{}.set<Sync::CS>(SyncSignal::illegal));
}

TEST_F(Commands, ConsIsVisibleBeforeTheSyncsInterrupt) {
  std::uint32_t seen = 0;
  virt.interrupts.on_raise = [&](Irq) { seen = guest.cons(); };
  guest.submit({nh_va(1, 0), sync_irq(PA{}, 0)});
  EXPECT_EQ(seen, 2u);
}

TEST_F(Commands, SyncDrainsEventsFirst) {
  std::vector<std::uint32_t> seen;
  machine.drain.on_drain = [&](stage2::SmmuPort& port) {
    seen.push_back(guest.cons());
    FTranslation e;
    e.set<FTranslation::StreamID>(kSidA.value).set<FTranslation::CLASS>(EventClass::IN);
    (void)virt.vsmmu->handle_event(port, e);
  };
  guest.submit({nh_va(1, 0), sync_none()});
  EXPECT_EQ(seen, (std::vector<std::uint32_t>{0, 0}));
  EXPECT_EQ(guest.evtq_prod(), 1u);  // instance 1 has no such stream
}

TEST_F(Commands, WhatIsNotAnnouncedIsIllegal) {
  expect_illegal(tlbi_s12_vmall(VMID{1}));
  expect_illegal(tlbi_s2_ipa(VMID{1}, IPA{}, true));
  expect_illegal(tlbi_el2_all());
  expect_illegal(TlbiEl2Asid{});
  expect_illegal(TlbiEl2Va{});
  expect_illegal(TlbiEl2Vaa{});
  expect_illegal(CfgiVmsPidm{});
  expect_illegal(atc_inv_all(StreamID{kA}));
  expect_illegal(pri_resp(StreamID{kA}, {}, 0, PriResponse::success));
  expect_illegal(smmu::resume(StreamID{kA}, 0, ResumeAction::retry));
  expect_illegal(stall_term(StreamID{kA}));
  expect_illegal(DptiAll{});
}

TEST_F(Commands, EveryOpcodeThatIsNotOfferedIsIllegal) {
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    Command c;
    c.set<Command::Op>(static_cast<Opcode>(opcode));
    if (!guest_mask(c.opcode())) expect_illegal(c);
  }
}

// Each single bit of each command: accepted as the field definitions say, or CERROR_ILL and nothing issued.
TEST_F(Commands, EverySingleBitOfEveryCommand) {
  const std::vector<Command> valid = {
      PrefetchConfig{},
      PrefetchAddr{},
      cfgi_ste(kA),
      cfgi_ste_range(StreamID{kA}, 3),
      cfgi_all(),
      cfgi_cd(StreamID{kA}, SubstreamID{}, true),
      cfgi_cd_all(StreamID{kA}),
      tlbi_nh_all(VMID{}),
      tlbi_nh_asid(VMID{}, ASID{1}),
      nh_va(1, 0x1000),
      tlbi_nh_va(VMID{}, ASID{1}, IOVA{0x1000}, true, {.tg = TlbiGranule::size4k, .num = 1}),
      tlbi_nh_vaa(VMID{}, IOVA{0x1000}, true),
      tlbi_nsnh_all(),
      sync_none(),
      sync_irq(PA{0x1000}, 1)};
  unsigned refused = 0;
  for (const Command& good : valid) {
    for (unsigned bit = 0; bit < 128; ++bit) {
      Command c = good;
      c.words[bit / 64] ^= std::uint64_t{1} << (bit % 64);
      const auto mask = guest_mask(c.opcode());
      const std::size_t before = issued();
      const std::uint32_t at = guest.cons();
      guest.submit({c});
      if (!mask || !c.within(*mask)) {
        EXPECT_TRUE(guest.cmdq_error()) << name_of(good.opcode()) << " bit " << bit;
      }
      if (guest.cmdq_error()) {
        ++refused;
        EXPECT_EQ(guest.error(), CmdqError::CERROR_ILL);
        EXPECT_EQ(issued(), before);
        EXPECT_EQ(guest.cons(), at);
        guest.recover();
      } else {
        EXPECT_EQ(guest.cons(), (at + 1) & 0x1ff);
      }
      // Whatever was accepted, the hardware saw no bit that a physical command must not have.
      for (const auto& s : machine.smmus) {
        for (const Command& out : s->commands) {
          const auto legal = guest_mask(out.opcode());
          ASSERT_TRUE(legal && out.within(*legal));
        }
      }
      machine.forget();
    }
  }
  EXPECT_GT(refused, 500u);
}

// --- SYNC ------------------------------------------------------------------------------------------------------------

TEST_F(Commands, BatchIsIssuedWithItsSync) {
  guest.submit({nh_va(1, 0x1000), nh_va(1, 0x2000), nh_va(1, 0x3000), sync_none()});
  EXPECT_EQ(smmu0.commands.size(), 3u);
  EXPECT_EQ(smmu0.syncs, 1u);
  EXPECT_EQ(smmu1.syncs, 1u);
}

TEST_F(Commands, SyncIsSubmittedToAllInstancesBeforeAnyIsAwaited) {
  smmu0.hold_syncs = smmu1.hold_syncs = true;
  smmu0.complete_after_polls = smmu1.complete_after_polls = 3;
  guest.submit({nh_va(1, 0x1000), sync_none()});
  std::vector<FakeEvent::Kind> kinds;
  for (const FakeEvent& e : machine.log)
    if (e.kind != FakeEvent::Kind::command) kinds.push_back(e.kind);
  using enum FakeEvent::Kind;
  EXPECT_EQ(kinds, (std::vector{sync_issued, sync_issued, sync_awaited, sync_awaited}));
  EXPECT_EQ(guest.cons(), 2u);
}

TEST_F(Commands, WithoutASyncCommandsAreIssuedAllTheSame) {
  guest.submit({nh_va(1, 0x1000)});
  EXPECT_EQ(smmu0.commands.size(), 1u);
  EXPECT_EQ(smmu0.syncs, 0u);
  EXPECT_EQ(guest.cons(), 1u);
}

TEST_F(Commands, ALaterSyncCoversEarlierExits) {
  // No stream can report anything that would have to be waited for; the tags are dirty still.
  for (const std::uint32_t vsid : {kA, kB})
    guest.put_ste(vsid, Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::abort));
  guest.submit({cfgi_ste(kA), cfgi_ste(kB), sync_none()});
  guest.submit({nh_va(1, 0x1000)});
  machine.forget();
  guest.submit({sync_none()});
  EXPECT_EQ(smmu0.syncs, 1u);
  EXPECT_EQ(smmu1.syncs, 1u);
}

TEST_F(Commands, ASyncIsForInstancesWithSomethingToWaitForOnly) {
  // Streams that abort report nothing to the guest, and nothing is outstanding.
  guest.put_ste(kB, Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::abort));
  guest.submit({cfgi_ste(kB), tlbi_nh_all(VMID{}), sync_none()});
  machine.forget();
  guest.submit({cfgi_cd(StreamID{kA}, SubstreamID{}, true), sync_none()});
  EXPECT_EQ(smmu0.syncs, 1u);
  EXPECT_EQ(smmu1.syncs, 0u);
}

TEST_F(Commands, BatchesLongerThanTheBufferKeepTheirOrder) {
  for (unsigned i = 0; i < 200; ++i) guest.queue(nh_va(1, i * kPage4K));
  guest.queue(sync_none());
  guest.kick();
  const auto all = smmu1.all<TlbiNhVa>();
  ASSERT_EQ(all.size(), 200u);
  for (unsigned i = 0; i < 200; ++i) EXPECT_EQ(all[i].get<TlbiNhVa::Address>(), IOVA{i * kPage4K});
  EXPECT_EQ(smmu1.syncs, 1u);
}

// And so if each has to be taken alone, because the next one has another ASID.
TEST_F(Commands, LongBatchesOfMixedAsids) {
  const auto asid = [](unsigned i) { return static_cast<std::uint16_t>(1 + i % 2); };
  for (unsigned i = 0; i < 200; ++i) guest.queue(nh_va(asid(i), i * kPage4K));
  guest.submit({sync_none()});
  for (unsigned n : {0u, 1u}) {
    const auto all = machine.smmus[n]->all<TlbiNhVa>();
    ASSERT_EQ(all.size(), 200u);
    for (unsigned i = 0; i < 200; ++i) EXPECT_EQ(all[i], tlbi_nh_va(vmid(n), ASID{asid(i)}, IOVA{i * kPage4K}, true));
  }
}

// --- Dirty tags ------------------------------------------------------------------------------------------------------

TEST_F(Commands, TagsAreDirtyUntilNhAllWithoutStage1Streams) {
  const auto bypass = Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::bypass);
  guest.put_ste(kB, bypass);
  guest.submit({cfgi_ste(kB), sync_none()});
  machine.forget();
  guest.submit({nh_va(1, 0), sync_none()});
  EXPECT_EQ(smmu1.all<TlbiNhVa>().size(), 1u);  // old entries may still be there
  guest.submit({tlbi_nh_all(VMID{})});
  guest.submit({nh_va(1, 0)});
  EXPECT_EQ(smmu1.all<TlbiNhVa>().size(), 2u);  // not known to be complete
  guest.submit({sync_none()});
  machine.forget();
  guest.submit({nh_va(1, 0), tlbi_nh_all(VMID{}), sync_none()});
  EXPECT_TRUE(smmu1.commands.empty());
  EXPECT_EQ(smmu0.commands, (std::vector<Command>{tlbi_nh_all(vmid(0))}));  // which does what NH_VA does
  // With a stage-1 stream again, it is dirty from before the STE is in place.
  guest.put_ste(kB, Guest::s1_ste());
  bool dirty = false;
  smmu1.on_ste = [&](StreamID, const Ste&) { dirty = virt.vsmmu->dirty(1); };
  guest.submit({cfgi_ste(kB), nh_va(1, 0), sync_none()});
  EXPECT_TRUE(dirty);
  EXPECT_EQ(smmu1.all<TlbiNhVa>().size(), 1u);
}

TEST_F(Commands, AStage1StreamBetweenNhAllAndSyncKeepsTheTagDirty) {
  const auto bypass = Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::bypass);
  guest.put_ste(kB, bypass);
  guest.submit({cfgi_ste(kB), tlbi_nh_all(VMID{})});
  guest.put_ste(kB, Guest::s1_ste());
  guest.submit({cfgi_ste(kB), sync_none()});
  EXPECT_TRUE(virt.vsmmu->dirty(1));
}

// --- Errors and the ring ---------------------------------------------------------------------------------------------

TEST_F(Commands, AnErrorStopsAtTheCommand) {
  guest.submit({nh_va(1, 0x1000), Command{}, nh_va(2, 0x2000), sync_none()});
  EXPECT_TRUE(guest.cmdq_error());
  EXPECT_EQ(guest.cons(), 1u);
  EXPECT_EQ(virt.interrupts.count[Irq::gerror], 1u);
  EXPECT_EQ(smmu0.commands.size(), 1u);  // the one before it has been consumed
  // More may be submitted; nothing is consumed.
  guest.submit({sync_none()});
  EXPECT_EQ(guest.cons(), 1u);
  // The guest repairs the command and goes on from there.
  machine.memory.put(kCmdq + 16, Command{nh_va(3, 0x3000)});
  guest.acknowledge();
  EXPECT_FALSE(guest.cmdq_error());
  EXPECT_EQ(guest.cons(), 5u);
  ASSERT_EQ(smmu0.all<TlbiNhVa>().size(), 3u);
  EXPECT_EQ(smmu0.all<TlbiNhVa>().at(1).get<TlbiNhVa::ASID>(), ASID{3});
}

TEST_F(Commands, GerrorTogglesEachTime) {
  expect_illegal(Command{});
  const std::uint32_t first = guest.read(Reg::GERROR);
  expect_illegal(Command{});
  EXPECT_NE(guest.read(Reg::GERROR), first);
}

TEST_F(Commands, ErrIsVisibleBeforeTheInterrupt) {
  CmdqError seen{};
  virt.interrupts.on_raise = [&](Irq) { seen = guest.error(); };
  guest.submit({Command{}});
  EXPECT_EQ(seen, CmdqError::CERROR_ILL);
}

TEST_F(Commands, ProdMayMoveBackToConsWhileInError) {
  guest.submit({Command{}, nh_va(1, 0), sync_none()});
  guest.prod = guest.cons();
  guest.kick();
  guest.acknowledge();
  EXPECT_FALSE(guest.cmdq_error());
  EXPECT_TRUE(smmu0.commands.empty());
  guest.submit({nh_va(1, 0), sync_none()});
  EXPECT_EQ(smmu0.commands.size(), 1u);
}

TEST_F(Commands, OutsideOfRamIsAnAbort) {
  guest.write(Reg::CR0, 0);
  guest.write64(Reg::CMDQ_BASE, 0x1000'0000 | Guest::kLog2);
  guest.write(Reg::CR0, CR0::CMDQEN::mask);
  guest.write(Reg::CMDQ_PROD, 3);
  EXPECT_TRUE(guest.cmdq_error());
  EXPECT_EQ(guest.error(), CmdqError::CERROR_ABT);
  EXPECT_EQ(guest.cons(), 0u);
  EXPECT_EQ(virt.vsmmu->counters().aborted, 1u);
  guest.acknowledge();  // tries again
  EXPECT_TRUE(guest.cmdq_error());
}

TEST_F(Commands, CommandsBeforeTheEndOfRamAreConsumed) {
  guest.write(Reg::CR0, 0);
  guest.write64(Reg::CMDQ_BASE, FakeMemory::kLastPage.value | Guest::kLog2);
  for (std::uint64_t i = 0; i < FakeMemory::kInLastPage / 16; ++i)
    machine.memory.put(FakeMemory::kLastPage + i * 16, Command{nh_va(1, i << 12)});
  guest.write(Reg::CR0, CR0::CMDQEN::mask);
  machine.forget();
  guest.write(Reg::CMDQ_PROD, 1u << Guest::kLog2);
  EXPECT_EQ(guest.error(), CmdqError::CERROR_ABT);
  EXPECT_EQ(guest.cons(), FakeMemory::kInLastPage / 16);
  EXPECT_EQ(smmu0.commands.size(), FakeMemory::kInLastPage / 16);
}

TEST_F(Commands, RingWraps) {
  for (unsigned round = 0; round < 700; ++round) {
    guest.submit({nh_va(1, std::uint64_t{round} << 12), sync_none(), tlbi_nh_asid(VMID{}, ASID{2})});
    ASSERT_EQ(guest.cons(), guest.prod);
    ASSERT_EQ(smmu0.commands.size(), 2u);
    ASSERT_EQ(smmu0.all<TlbiNhVa>().at(0).get<TlbiNhVa::Address>(), IOVA{std::uint64_t{round} << 12});
    machine.forget();
  }
}

TEST_F(Commands, AFullRing) {
  for (unsigned i = 0; i < (1u << Guest::kLog2); ++i) guest.queue(nh_va(1, i * kPage4K));
  guest.kick();
  EXPECT_EQ(guest.cons(), guest.prod);
  EXPECT_EQ(smmu0.commands.size(), 1u << Guest::kLog2);
}

TEST_F(Commands, QueueOfOneEntry) {
  guest.write(Reg::CR0, 0);
  guest.write64(Reg::CMDQ_BASE, kCmdq.value);
  guest.write(Reg::CMDQ_PROD, 0);
  guest.write(Reg::CMDQ_CONS, 0);
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask);
  machine.forget();
  machine.memory.put(kCmdq, Command{nh_va(1, 0)});
  for (unsigned i = 0; i < 4; ++i) {
    guest.write(Reg::CMDQ_PROD, (i + 1) & 1);
    EXPECT_EQ(guest.cons(), (i + 1) & 1);
  }
  EXPECT_EQ(smmu0.commands.size(), 4u);
}

TEST_F(Commands, InconsistentIndexesConsumeNothing) {
  guest.write(Reg::CR0, 0);
  guest.write(Reg::CMDQ_CONS, 0x10);
  guest.write(Reg::CMDQ_PROD, 0x08);
  guest.write(Reg::CR0, CR0::CMDQEN::mask);
  EXPECT_EQ(guest.cons(), 0x10u);
  EXPECT_FALSE(guest.cmdq_error());
  guest.prod = 0x10;
  machine.forget();
  guest.submit({tlbi_nh_all(VMID{}), sync_none()});  // consistent again
  EXPECT_EQ(guest.cons(), 0x12u);
}

TEST_F(Commands, ProdNeverMovesBackOutsideOfAnError) {
  guest.submit({nh_va(1, 0), nh_va(1, 0)});
  machine.forget();
  for (const std::uint32_t wr : {0u, 1u, 0x1ffu, 0x105u, 0xffff'ffffu}) {
    guest.write(Reg::CMDQ_PROD, wr);
    EXPECT_EQ(guest.cons(), 2u) << wr;
    EXPECT_TRUE(smmu0.commands.empty());
  }
}

TEST_F(Commands, HugeQueueSizesAreCapped) {
  guest.write(Reg::CR0, 0);
  guest.write64(Reg::CMDQ_BASE, kCmdq.value | 31);
  guest.write(Reg::CMDQ_PROD, 0);
  guest.write(Reg::CMDQ_CONS, 0);
  guest.write(Reg::CR0, CR0::CMDQEN::mask);
  guest.write(Reg::CMDQ_PROD, 0xfffff);  // 2^14 entries: index 0x7fff is inconsistent
  EXPECT_EQ(guest.cons(), 0u);
  guest.write(Reg::CMDQ_PROD, 0x4000);  // full of zeros
  EXPECT_TRUE(guest.cmdq_error());
  EXPECT_EQ(guest.cons(), 0u);
}

TEST_F(Commands, DisabledQueuesAreNotRead) {
  guest.write(Reg::CR0, CR0::SMMUEN::mask);
  guest.submit({nh_va(1, 0), sync_none()});
  EXPECT_EQ(guest.cons(), 0u);
  guest.write(Reg::CR0, CR0::SMMUEN::mask | CR0::CMDQEN::mask);
  EXPECT_EQ(guest.cons(), 2u);
}

TEST_F(Commands, AnErrorOutlivesDisabling) {
  guest.submit({Command{}});
  guest.write(Reg::CR0, CR0::SMMUEN::mask);
  guest.write(Reg::CR0, CR0::SMMUEN::mask | CR0::CMDQEN::mask);
  EXPECT_TRUE(guest.cmdq_error());
  EXPECT_EQ(guest.cons(), 0u);
  machine.memory.put(kCmdq, Command{sync_none()});
  guest.acknowledge();
  EXPECT_EQ(guest.cons(), 1u);
}

TEST_F(Commands, EachCommandIsReadOnce) {
  machine.memory.reads = 0;
  for (unsigned i = 0; i < 32; ++i) guest.queue(nh_va(1, 0));
  guest.kick();
  EXPECT_EQ(machine.memory.reads, 1u);
}

TEST_F(Commands, AreCounted) {
  guest.submit({nh_va(1, 0), nh_va(1, 0), cfgi_ste(kA), sync_none(), Command{}});
  const Counters c = virt.vsmmu->counters();
  EXPECT_EQ(c.commands[static_cast<std::size_t>(Opcode::TLBI_NH_VA)], 2u);
  EXPECT_EQ(c.commands[static_cast<std::size_t>(Opcode::CFGI_STE)], 1u);
  EXPECT_EQ(c.commands[static_cast<std::size_t>(Opcode::SYNC)], 1u);
  EXPECT_EQ(c.syncs, 1u);
  EXPECT_EQ(c.illegal, 1u);
}

// --- Bounded work ----------------------------------------------------------------------------------------------------

class BoundedCommands : public Commands {
 protected:
  BoundedCommands() : Commands{{}, {.commands = 4, .polls = 5, .installs = 1}} {}
};

TEST_F(BoundedCommands, ALongQueueTakesSeveralExits) {
  unsigned again = 0;
  guest.on_again = [&] { ++again; };
  for (unsigned i = 0; i < 20; ++i) guest.queue(nh_va(1, i * kPage4K));
  guest.queue(sync_none());
  guest.kick();
  EXPECT_GE(again, 4u);
  EXPECT_EQ(guest.cons(), 21u);
  EXPECT_EQ(smmu0.all<TlbiNhVa>().size(), 20u);
  EXPECT_EQ(smmu0.syncs, 1u);
}

TEST_F(BoundedCommands, NoSyncIsSubmittedTwice) {
  smmu0.hold_syncs = true;
  unsigned again = 0;
  guest.on_again = [&] {
    EXPECT_EQ(guest.cons(), 0u);
    EXPECT_EQ(smmu0.syncs, 1u);
    if (++again == 10) smmu0.complete_syncs();
  };
  guest.submit({nh_va(1, 0), sync_none()});
  EXPECT_EQ(again, 10u);
  EXPECT_EQ(smmu0.syncs, 1u);
  EXPECT_EQ(smmu0.all<TlbiNhVa>().size(), 1u);
  EXPECT_EQ(guest.cons(), 2u);
}

TEST_F(BoundedCommands, AnotherVcpuGoesOnAndTheOldStoreIsHarmless) {
  smmu0.hold_syncs = true;
  guest.queue(nh_va(1, 0));
  guest.queue(sync_none());
  const std::uint32_t old = guest.prod;
  EXPECT_EQ(virt.vsmmu->write(static_cast<std::uint32_t>(Reg::CMDQ_PROD), 4, old), Progress::again);
  smmu0.hold_syncs = false;
  smmu0.complete_syncs();
  guest.submit({nh_va(2, 0), sync_none()});  // the other one
  EXPECT_EQ(guest.cons(), 4u);
  EXPECT_EQ(virt.vsmmu->write(static_cast<std::uint32_t>(Reg::CMDQ_PROD), 4, old), Progress::done);
  EXPECT_EQ(guest.cons(), 4u);
  EXPECT_EQ(guest.read(Reg::CMDQ_PROD), 4u);
  EXPECT_EQ(smmu0.all<TlbiNhVa>().size(), 2u);
}

TEST_F(BoundedCommands, CfgiAllTakesAnExitPerStream) {
  guest.put_ste(kA, Guest::s1_ste(kCd + 64));
  guest.put_ste(kB, Guest::s1_ste(kCd + 64));
  unsigned again = 0;
  guest.on_again = [&] { ++again; };
  guest.submit({cfgi_all(), sync_none()});
  EXPECT_GE(again, 1u);
  EXPECT_EQ(guest.cons(), 2u);
  EXPECT_EQ(smmu1.stes[kSidB].get<Ste::S1ContextPtr>(), kCd + 64);
  EXPECT_EQ(virt.vsmmu->counters().commands[static_cast<std::size_t>(Opcode::CFGI_STE_RANGE)], 1u);
}

TEST_F(BoundedCommands, ADisablingStoreWaitsForThePendingSync) {
  smmu0.hold_syncs = true;
  guest.queue(nh_va(1, 0));
  guest.queue(sync_none());
  EXPECT_EQ(virt.vsmmu->write(static_cast<std::uint32_t>(Reg::CMDQ_PROD), 4, guest.prod), Progress::again);
  unsigned again = 0;
  guest.on_again = [&] {
    EXPECT_NE(guest.read(Reg::CR0ACK), 0u);
    if (++again == 3) smmu0.complete_syncs();
  };
  guest.write(Reg::CR0, 0);
  EXPECT_GE(again, 3u);
  EXPECT_EQ(guest.read(Reg::CR0ACK), 0u);
  EXPECT_EQ(guest.cons(), 2u);
}

// That never executes its store again: another vCPU's does the rest.
TEST_F(BoundedCommands, TheNextStoreFinishesWhatAVcpuAbandoned) {
  smmu0.hold_syncs = true;
  guest.queue(nh_va(1, 0));
  guest.queue(sync_none());
  EXPECT_EQ(virt.vsmmu->write(static_cast<std::uint32_t>(Reg::CMDQ_PROD), 4, guest.prod), Progress::again);
  smmu0.complete_syncs();
  EXPECT_EQ(virt.vsmmu->write(static_cast<std::uint32_t>(Reg::CMDQ_PROD), 4, guest.prod), Progress::done);
  EXPECT_EQ(guest.cons(), 2u);
}

// --- Narrow announcements --------------------------------------------------------------------------------------------

class NarrowCommands : public Commands {
 protected:
  NarrowCommands() : Commands{{.range_invalidation = false, .asid16 = false}} {}
};

TEST_F(NarrowCommands, RangesNeedRil) {
  expect_illegal(tlbi_nh_va(VMID{}, ASID{1}, IOVA{}, true, {.tg = TlbiGranule::size4k, .num = 1}));
  expect_illegal(tlbi_nh_va(VMID{}, ASID{1}, IOVA{}, true, {.tg = TlbiGranule::size4k, .ttl = 3}));
}

TEST_F(NarrowCommands, WideAsidsHaveNoEffect) {
  guest.submit({nh_va(0x100, 0), tlbi_nh_asid(VMID{}, ASID{0x8001}), sync_none()});
  EXPECT_FALSE(guest.cmdq_error());
  EXPECT_TRUE(smmu0.commands.empty());
}

}  // namespace
}  // namespace weir::vsmmu::test
