// Life of a vSMMU, its streams and tags, and a driver's way through probe and reset.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/fakes/failing_new.hpp"
#include "tests/unit/vsmmu/fixture.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;

constexpr VStreamID kA{0x08};
constexpr VStreamID kB{0x10};
constexpr StreamID kSidA{0x0808};
constexpr StreamID kSidB{0x1010};

// --- Life ------------------------------------------------------------------------------------------------------------

TEST(VSmmu, HoldsOneVmidPerInstance) {
  Machine m{2};
  {
    Virtual v{m};
    ASSERT_TRUE(v.vsmmu);
    EXPECT_EQ(m.smmus[0]->vmids().in_use(), 1u);
    EXPECT_EQ(m.smmus[1]->vmids().in_use(), 1u);
    EXPECT_EQ(m.domain->tag_count(), 2u);
  }
  EXPECT_EQ(m.smmus[0]->vmids().in_use(), 0u);
  EXPECT_EQ(m.domain->tag_count(), 0u);
}

TEST(VSmmu, TwoOnOneInstanceHaveDifferentVmids) {
  Machine m{1};
  Virtual a{m};
  Virtual b{m};
  EXPECT_NE(a.vsmmu->backings()[0].tag(vsmmu::TagKind::open)->vmid(),
            b.vsmmu->backings()[0].tag(vsmmu::TagKind::open)->vmid());
}

// VMIDs differ between the instances: a mix-up would show.
TEST(VSmmu, FanOutUsesEachInstancesVmid) {
  Machine m{2};
  Virtual other{m, std::span{m.ports}.subspan(1)};  // takes the first VMID of instance 1
  Virtual v{m};
  const VMID v0 = v.vsmmu->backings()[0].tag(vsmmu::TagKind::open)->vmid();
  const VMID v1 = v.vsmmu->backings()[1].tag(vsmmu::TagKind::open)->vmid();
  ASSERT_NE(v0, v1);
  ASSERT_TRUE(v.vsmmu->attach(kA, *m.smmus[0], kSidA));
  ASSERT_TRUE(v.vsmmu->attach(kB, *m.smmus[1], kSidB));
  Guest g{v};
  g.put_ste(kA.value, Guest::s1_ste());
  g.put_ste(kB.value, Guest::s1_ste());
  g.enable();
  EXPECT_EQ(m.smmus[0]->stes[kSidA].get<Ste::S2VMID>(), v0);
  EXPECT_EQ(m.smmus[1]->stes[kSidB].get<Ste::S2VMID>(), v1);
  m.forget();
  g.submit({nh_va(9, 0x5000), sync_none()});
  EXPECT_EQ(m.smmus[0]->all<TlbiNhVa>().at(0).get<TlbiNhVa::VMID>(), v0);
  EXPECT_EQ(m.smmus[1]->all<TlbiNhVa>().at(0).get<TlbiNhVa::VMID>(), v1);
}

TEST(VSmmu, ExhaustedVmidsNameTheInstanceAndLeaveNothing) {
  auto few = qemu_like_capabilities();
  few.idr0.set<IDR0::VMID16>(false);
  Machine m{2, few};
  while (m.smmus[1]->vmids().allocate()) {
  }
  Virtual v{m, std::span<stage2::SmmuPort* const>{}};
  const auto made = vsmmu::VSmmu::create({}, m.ports, v.surroundings());
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().error, stage2::Error::no_free_vmid);
  EXPECT_EQ(made.error().instance, "smmu1");
  EXPECT_EQ(m.smmus[0]->vmids().in_use(), 0u);
  EXPECT_EQ(m.domain->tag_count(), 0u);
}

TEST(VSmmu, AnInstanceWithoutNestingIsRefusedByName) {
  Machine m{1};
  auto poor = qemu_like_capabilities();
  poor.idr0.set<IDR0::S2P>(false);
  FakeSmmu bad{7, poor};
  m.ports.push_back(&bad);
  Virtual v{m, std::span<stage2::SmmuPort* const>{}};
  EXPECT_FALSE(v.vsmmu);
  const auto made = vsmmu::VSmmu::create({}, m.ports, v.surroundings());
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().error, stage2::Error::incompatible);
  EXPECT_EQ(made.error().instance, "smmu7");
  EXPECT_EQ(made.error().feature, "IDR0.S2P");
  EXPECT_EQ(m.smmus[0]->vmids().in_use(), 0u);
}

TEST(VSmmu, AnnouncesNoMoreAddressBitsThanTheDomainHas) {
  Machine m{1};
  Virtual v{m};
  EXPECT_EQ(v.vsmmu->announced().oas_bits(), 40u);
}

TEST(VSmmu, CreationSurvivesEveryFailingAllocation) {
  Machine m{2};
  Virtual v{m, std::span<stage2::SmmuPort* const>{}};
  bool made = false;
  for (int successes = 0; successes < 50 && !made; ++successes) {
    std::expected<std::unique_ptr<vsmmu::VSmmu>, CreateFailure> result;
    {
      const FailingNew failing{successes};
      result = vsmmu::VSmmu::create({}, m.ports, v.surroundings());
    }
    made = result.has_value();
    if (!made) {
      EXPECT_EQ(result.error().error, stage2::Error::out_of_memory);
      EXPECT_EQ(m.smmus[0]->vmids().in_use(), 0u) << successes;
      EXPECT_EQ(m.smmus[1]->vmids().in_use(), 0u) << successes;
      EXPECT_EQ(m.domain->tag_count(), 0u);
    }
  }
  EXPECT_TRUE(made);
}

TEST(VSmmu, ShutdownAbortsStreamsBeforeItFlushesTheTag) {
  Machine m{1};
  Virtual v{m};
  ASSERT_TRUE(v.vsmmu->attach(kA, *m.smmus[0], kSidA));
  const VMID vmid = v.vsmmu->backings()[0].tag(vsmmu::TagKind::open)->vmid();
  m.forget();
  v.vsmmu->shutdown();
  ASSERT_GE(m.log.size(), 3u);
  EXPECT_EQ(m.log[0].kind, FakeEvent::Kind::ste);
  EXPECT_EQ(m.log[0].ste, abort_ste());
  const auto flushes = m.smmus[0]->all<TlbiS12Vmall>();
  ASSERT_EQ(flushes.size(), 1u);
  EXPECT_EQ(flushes[0].get<TlbiS12Vmall::VMID>(), vmid);
  EXPECT_EQ(m.smmus[0]->vmids().in_use(), 0u);
  // Late stores find nothing.
  Guest g{v};
  g.enable();
  g.submit({nh_va(1, 0), sync_none()});
  EXPECT_EQ(v.vsmmu->attach(kA, *m.smmus[0], kSidA).error(), stage2::Error::incompatible);
}

// --- Streams ---------------------------------------------------------------------------------------------------------

class Streams : public ::testing::Test {
 protected:
  Streams() { EXPECT_TRUE(virt.vsmmu->attach(kA, smmu0, kSidA)); }
  Ste installed(StreamID sid = kSidA) { return machine.smmus[0]->stes[sid]; }
  void gbpa(bool abort) { guest.write(Reg::GBPA, GBPA::Update::mask | (abort ? GBPA::ABORT::mask : 0)); }

  Machine machine{1};
  FakeSmmu& smmu0 = *machine.smmus[0];
  Virtual virt{machine};
  Guest guest{virt};
};

TEST_F(Streams, BypassStage1UntilTheGuestTakesOver) {
  EXPECT_TRUE(installed().get<Ste::V>());
  EXPECT_EQ(installed().get<Ste::Config>(), SteConfig::s2);
  EXPECT_TRUE(installed().get<Ste::S2R>());
  EXPECT_EQ(installed().get<Ste::S2TTB>(), machine.domain->table().root());
}

TEST_F(Streams, FollowGbpaWhileDisabled) {
  gbpa(true);
  EXPECT_EQ(guest.read(Reg::GBPA), GBPA::ABORT::mask);
  EXPECT_EQ(installed(), abort_ste());
  gbpa(false);
  EXPECT_EQ(installed().get<Ste::Config>(), SteConfig::s2);
  EXPECT_EQ(guest.read(Reg::GBPA), 0u);
}

TEST_F(Streams, GbpaIsAcknowledgedAfterItsEffect) {
  std::uint32_t during = 0;
  smmu0.on_ste = [&](StreamID, const Ste&) { during = guest.read(Reg::GBPA); };
  gbpa(true);
  EXPECT_EQ(during, GBPA::ABORT::mask | GBPA::Update::mask);
}

TEST_F(Streams, SmmuenRemergesEveryStreamBeforeTheAcknowledge) {
  ASSERT_TRUE(virt.vsmmu->attach(VStreamID{9}, smmu0, StreamID{9}));
  guest.put_ste(kA.value, Guest::s1_ste());
  guest.put_ste(9, Ste{}.set<Ste::V>(true));
  std::vector<std::uint32_t> acks;
  smmu0.on_ste = [&](StreamID, const Ste&) { acks.push_back(guest.read(Reg::CR0ACK)); };
  guest.enable();
  EXPECT_EQ(acks, (std::vector<std::uint32_t>{0, 0}));
  EXPECT_EQ(guest.read(Reg::CR0ACK), guest.read(Reg::CR0));
  EXPECT_EQ(installed().get<Ste::Config>(), SteConfig::s1_s2);
  EXPECT_EQ(installed(StreamID{9}), abort_ste());
  acks.clear();
  const std::uint32_t on = guest.read(Reg::CR0ACK);
  guest.write(Reg::CR0, CR0::CMDQEN::mask);
  EXPECT_EQ(acks, (std::vector<std::uint32_t>{on, on}));
  EXPECT_EQ(installed().get<Ste::Config>(), SteConfig::s2);
  EXPECT_EQ(installed(StreamID{9}).get<Ste::Config>(), SteConfig::s2);
}

// With more streams than one exit may touch: the store that is executed again finds its work done.
TEST(ManyStreams, GlobalChangesTakeSeveralExits) {
  Machine m{1};
  Virtual v{m, {}, {.commands = 4, .polls = 4, .installs = 2}};
  for (std::uint32_t i = 0; i < 40; ++i) ASSERT_TRUE(v.vsmmu->attach(VStreamID{i}, *m.smmus[0], StreamID{0x100 + i}));
  Guest g{v};
  unsigned again = 0;
  g.on_again = [&] { ++again; };
  g.write(Reg::GBPA, GBPA::Update::mask | GBPA::ABORT::mask);
  EXPECT_EQ(again, 20u - 1);
  EXPECT_EQ(g.read(Reg::GBPA), GBPA::ABORT::mask);
  for (const auto& [sid, ste] : m.smmus[0]->stes) EXPECT_EQ(ste, abort_ste());
  g.enable();
  EXPECT_EQ(g.read(Reg::CR0ACK), g.read(Reg::CR0));
  for (const auto& [sid, ste] : m.smmus[0]->stes) EXPECT_FALSE(ste.get<Ste::V>());
  for (std::uint32_t i = 0; i < 40; ++i) g.put_ste(i, Guest::s1_ste());
  g.submit({cfgi_all(), sync_none()});
  m.forget();
  again = 0;
  g.submit({cfgi_all(), sync_none()});
  EXPECT_GE(again, 9u);
  EXPECT_EQ(g.cons(), 4u);
  EXPECT_EQ(m.smmus[0]->all<CfgiSte>().size(), 40u);
}

TEST_F(Streams, GbpaWhileEnabledConcernsNobodyYet) {
  guest.put_ste(kA.value, Guest::s1_ste());
  guest.enable();
  gbpa(true);
  EXPECT_EQ(installed().get<Ste::Config>(), SteConfig::s1_s2);
  guest.write(Reg::CR0, 0);
  EXPECT_EQ(installed(), abort_ste());
  gbpa(false);
  EXPECT_EQ(installed().get<Ste::Config>(), SteConfig::s2);
}

// Linux sends CFGI_ALL before SMMUEN: nothing of the stream table may be taken in then.
TEST_F(Streams, NothingIsReadWhileDisabled) {
  guest.enable(0);
  machine.forget();
  machine.memory.reads = 0;
  guest.submit({cfgi_all(), sync_none()});
  EXPECT_EQ(machine.memory.reads, 1u);  // the commands
  EXPECT_TRUE(smmu0.commands.empty());
  guest.put_ste(kA.value, Guest::s1_ste());
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::SMMUEN::mask);
  EXPECT_EQ(installed().get<Ste::Config>(), SteConfig::s1_s2);
}

TEST_F(Streams, AnSteChangesOnlyWithItsInvalidation) {
  guest.put_ste(kA.value, Guest::s1_ste());
  guest.enable();
  guest.put_ste(kA.value, Ste{});
  guest.submit({tlbi_nsnh_all(), sync_none()});
  EXPECT_TRUE(installed().get<Ste::V>());
  guest.submit({cfgi_all(), sync_none()});
  EXPECT_FALSE(installed().get<Ste::V>());
}

TEST_F(Streams, IllegalAndUnreachableStesAreReportedAsTheGuestsOwn) {
  const auto report = [&] {
    CBadSte e;
    e.set<CBadSte::StreamID>(kSidA.value);
    (void)virt.vsmmu->handle_event(smmu0, e);
    return guest.event(guest.evtq_prod() - 1);
  };
  guest.put_ste(kA.value, Ste{});
  guest.enable();
  EXPECT_FALSE(installed().get<Ste::V>());
  EXPECT_EQ(report().id(), EventId::C_BAD_STE);
  EXPECT_EQ(report().get<Event::StreamID>(), kA.value);
  // A table too small for the stream.
  guest.write(Reg::CR0, CR0::EVENTQEN::mask);
  guest.write(Reg::STRTAB_BASE_CFG, 3);
  guest.write(Reg::CR0, CR0::EVENTQEN::mask | CR0::SMMUEN::mask);
  EXPECT_EQ(report().id(), EventId::C_BAD_STREAMID);
  // A table outside of RAM.
  guest.write(Reg::CR0, CR0::EVENTQEN::mask);
  guest.write(Reg::STRTAB_BASE_CFG, 10);
  guest.write64(Reg::STRTAB_BASE, 0x1000'0000);
  guest.write(Reg::CR0, CR0::EVENTQEN::mask | CR0::SMMUEN::mask);
  const auto e = report().as<FSteFetch>();
  ASSERT_TRUE(e);
  EXPECT_EQ(e->get<FSteFetch::FetchAddr>(), 0x1000'0000u + kA.value * 64);
}

TEST_F(Streams, AttachChecksItsArguments) {
  using stage2::Error;
  FakeSmmu foreign{5};
  EXPECT_EQ(virt.vsmmu->attach(VStreamID{1}, foreign, StreamID{1}).error(), Error::incompatible);
  EXPECT_EQ(virt.vsmmu->attach(kA, smmu0, StreamID{1}).error(), Error::already_mapped);
  EXPECT_EQ(virt.vsmmu->attach(VStreamID{0x10000}, smmu0, StreamID{1}).error(), Error::out_of_range);
  EXPECT_EQ(virt.vsmmu->attach(VStreamID{1}, smmu0, StreamID{0x10000}).error(), Error::no_such_stream);
  EXPECT_EQ(virt.vsmmu->streams().size(), 1u);
}

// A device behind a conventional PCI bridge: the guest's one StreamID stands for several.
TEST_F(Streams, FurtherStreamsFollowTheirVStreamId) {
  using stage2::Error;
  ASSERT_TRUE(virt.vsmmu->attach(VStreamID{3}, smmu0, StreamID{0x33}));
  ASSERT_TRUE(virt.vsmmu->attach_further(VStreamID{3}, smmu0, StreamID{0x30}));
  EXPECT_EQ(virt.vsmmu->attach_further(VStreamID{3}, smmu0, StreamID{0x30}).error(), Error::already_mapped);
  EXPECT_EQ(virt.vsmmu->attach_further(VStreamID{4}, smmu0, StreamID{0x34}).error(), Error::no_such_stream);
  EXPECT_EQ(virt.vsmmu->streams().size(), 3u);
  guest.put_ste(3, Guest::s1_ste());
  guest.enable();
  guest.submit({cfgi_ste(3), sync_none()});
  for (const StreamID sid : {StreamID{0x33}, StreamID{0x30}})
    EXPECT_EQ(installed(sid).get<Ste::Config>(), SteConfig::s1_s2) << sid.value;
  smmu0.commands.clear();
  guest.submit({smmu::cfgi_cd(StreamID{3}, SubstreamID{}, true), smmu::cfgi_cd_all(StreamID{3}), smmu::sync_none()});
  EXPECT_THAT(smmu0.commands,
              testing::UnorderedElementsAre(smmu::cfgi_cd(StreamID{0x33}, SubstreamID{}, true),
                                            smmu::cfgi_cd(StreamID{0x30}, SubstreamID{}, true),
                                            smmu::cfgi_cd_all(StreamID{0x33}), smmu::cfgi_cd_all(StreamID{0x30})));
  ASSERT_TRUE(virt.vsmmu->detach(VStreamID{3}));
  for (const StreamID sid : {StreamID{0x33}, StreamID{0x30}})
    EXPECT_EQ(installed(sid).get<Ste::Config>(), SteConfig::abort) << sid.value;
  EXPECT_EQ(virt.vsmmu->streams().size(), 1u);
}

TEST_F(Streams, AttachWhileEnabledUsesTheGuestsTable) {
  guest.put_ste(3, Guest::s1_ste());
  guest.enable();
  ASSERT_TRUE(virt.vsmmu->attach(VStreamID{3}, smmu0, StreamID{0x33}));
  EXPECT_EQ(installed(StreamID{0x33}).get<Ste::Config>(), SteConfig::s1_s2);
  EXPECT_EQ(virt.vsmmu->streams()[0].vsid, VStreamID{3});  // sorted
  EXPECT_EQ(virt.vsmmu->streams()[1].vsid, kA);
}

TEST_F(Streams, DetachedStreamsAbort) {
  ASSERT_TRUE(virt.vsmmu->attach(VStreamID{3}, smmu0, StreamID{0x33}));
  ASSERT_TRUE(virt.vsmmu->detach(VStreamID{3}));
  EXPECT_EQ(installed(StreamID{0x33}), abort_ste());
  EXPECT_EQ(virt.vsmmu->streams().size(), 1u);
  EXPECT_EQ(virt.vsmmu->detach(VStreamID{3}).error(), stage2::Error::no_such_stream);
}

TEST_F(Streams, ADetachThatFailsKeepsTheStream) {
  smmu0.fail_install = stage2::Error::out_of_memory;
  EXPECT_EQ(virt.vsmmu->detach(kA).error(), stage2::Error::out_of_memory);
  EXPECT_EQ(virt.vsmmu->streams().size(), 1u);
  smmu0.fail_install.reset();
  EXPECT_TRUE(virt.vsmmu->detach(kA));
}

// The guest takes access away and there is no memory for the STE that it asks for: abort, rather than leave the old
// one.
TEST_F(Streams, AnInstallThatFailsAborts) {
  guest.put_ste(kA.value, Guest::s1_ste());
  guest.enable();
  guest.put_ste(kA.value, Guest::s1_ste(kCd + 64));
  guest.write(Reg::CR0, CR0::CMDQEN::mask);  // back to bypass, so that stage 1 needs memory again
  guest.submit({sync_none()});
  {
    const FailingNew failing{0};
    guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask);
  }
  EXPECT_EQ(installed(), abort_ste());
  EXPECT_EQ(virt.vsmmu->counters().install_failures, 1u);
  guest.submit({cfgi_ste(kA.value), sync_none()});
  EXPECT_EQ(installed().get<Ste::S1ContextPtr>(), kCd + 64);
}

TEST_F(Streams, WhenNotEvenAnAbortWorksTheNextInvalidationTriesAgain) {
  guest.put_ste(kA.value, Guest::s1_ste());
  guest.enable(0);
  smmu0.fail_install = stage2::Error::out_of_memory;
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask);
  EXPECT_EQ(virt.vsmmu->counters().install_failures, 2u);
  EXPECT_EQ(installed().get<Ste::Config>(), SteConfig::s2);
  smmu0.fail_install.reset();
  guest.submit({cfgi_ste(kA.value), sync_none()});
  EXPECT_EQ(installed().get<Ste::Config>(), SteConfig::s1_s2);
}

TEST_F(Streams, ResetGoesBackToBypass) {
  guest.put_ste(kA.value, Guest::s1_ste());
  guest.enable();
  guest.submit({Command{}});
  virt.vsmmu->reset();
  EXPECT_EQ(installed().get<Ste::Config>(), SteConfig::s2);
  EXPECT_EQ(guest.read(Reg::CR0ACK), 0u);
  EXPECT_EQ(guest.read(Reg::GERROR), 0u);
  guest.prod = 0;
  guest.write(Reg::CMDQ_PROD, 0);
  guest.enable();
  guest.submit({nh_va(1, 0), sync_none()});
  EXPECT_EQ(guest.cons(), 2u);
}

// --- Linux -----------------------------------------------------------------------------------------------------------

TEST(LinuxDriver, ProbesAndResets) {
  Machine m{2};
  Virtual v{m};
  ASSERT_TRUE(v.vsmmu->attach(kA, *m.smmus[0], kSidA));
  ASSERT_TRUE(v.vsmmu->attach(kB, *m.smmus[1], kSidB));
  Guest g{v};

  // Probe: what would be fatal.
  const auto idr0 = g.get<IDR0>(Reg::IDR0);
  const auto idr1 = g.get<IDR1>(Reg::IDR1);
  EXPECT_TRUE(idr0.get<IDR0::TTENDIAN>() == TtEndian::mixed || idr0.get<IDR0::TTENDIAN>() == TtEndian::little);
  EXPECT_TRUE(idr0.get<IDR0::S1P>());
  EXPECT_FALSE(idr0.get<IDR0::S2P>());
  EXPECT_EQ(idr0.get<IDR0::TTF>(), TtFormat::aarch64);
  EXPECT_FALSE(idr1.get<IDR1::TABLES_PRESET>() || idr1.get<IDR1::QUEUES_PRESET>() || idr1.get<IDR1::REL>());
  EXPECT_GT(idr1.get<IDR1::CMDQS>(), 6u);
  EXPECT_NE(g.get<IDR5>(Reg::IDR5).get<IDR5::OAS>(), AddressSize::bits32);

  // Reset.
  ASSERT_EQ(g.read(Reg::CR0), 0u);
  g.write(Reg::CR0, 0);
  EXPECT_EQ(g.read(Reg::CR0ACK), 0u);
  g.write(Reg::CR1, 0xd75);
  g.write(Reg::CR2, CR2::PTM::mask | CR2::RECINVSID::mask);
  const IPA l2{0x4021'0000};
  g.write64(Reg::STRTAB_BASE, kStrtab.value | STRTAB_BASE::RA::mask);
  STRTAB_BASE_CFG cfg;
  cfg.set<STRTAB_BASE_CFG::FMT>(StrtabFmt::two_level).set<STRTAB_BASE_CFG::SPLIT>(8).set<STRTAB_BASE_CFG::LOG2SIZE>(16);
  g.write(Reg::STRTAB_BASE_CFG, cfg.words[0]);
  g.write64(Reg::CMDQ_BASE, kCmdq.value | Guest::kLog2 | CMDQ_BASE::RA::mask);
  g.write(Reg::CMDQ_PROD, 0);
  g.write(Reg::CMDQ_CONS, 0);
  std::uint32_t enables = CR0::CMDQEN::mask;
  g.write(Reg::CR0, enables);
  EXPECT_EQ(g.read(Reg::CR0ACK), enables);
  g.submit({cfgi_all(), sync_sev()});
  EXPECT_EQ(g.cons(), g.prod);
  g.submit({tlbi_nsnh_all(), sync_sev()});
  EXPECT_EQ(g.cons(), g.prod);
  g.write64(Reg::EVENTQ_BASE, kEvtq.value | Guest::kLog2 | EVENTQ_BASE::WA::mask);
  g.write(Reg::EVENTQ_PROD, 0);
  g.write(Reg::EVENTQ_CONS, 0);
  enables |= CR0::EVENTQEN::mask;
  g.write(Reg::CR0, enables);
  EXPECT_EQ(g.read(Reg::CR0ACK), enables);
  g.write(Reg::IRQ_CTRL, 0);
  EXPECT_EQ(g.read(Reg::IRQ_CTRLACK), 0u);
  g.write64(Reg::GERROR_IRQ_CFG0, 0);
  g.write64(Reg::EVENTQ_IRQ_CFG0, 0);
  g.write(Reg::IRQ_CTRL, IRQ_CTRL::EVENTQ_IRQEN::mask | IRQ_CTRL::GERROR_IRQEN::mask);
  EXPECT_EQ(g.read(Reg::IRQ_CTRLACK), g.read(Reg::IRQ_CTRL));
  enables |= CR0::SMMUEN::mask;
  g.write(Reg::CR0, enables);
  EXPECT_EQ(g.read(Reg::CR0ACK), enables);
  // Nothing in the table yet: level-1 descriptors of Span 0.
  EXPECT_FALSE(m.smmus[0]->stes[kSidA].get<Ste::V>());

  // First device: a level-2 table of aborting STEs, then the CD, then the STE.
  m.memory.put(kStrtab, L1Std{}.set<L1Std::L2Ptr>(l2.value).set<L1Std::Span>(9));
  for (unsigned i = 0; i < 256; ++i) m.memory.put(l2 + i * 64u, Ste{}.set<Ste::V>(true));
  g.submit({cfgi_cd(StreamID{kA.value}, SubstreamID{}, true), sync_sev()});
  auto ste = Guest::s1_ste().set<Ste::SHCFG>(ShareabilityConfig::use_incoming);
  m.memory.put(l2 + kA.value * 64, ste);
  g.submit({cfgi_ste(kA.value), sync_sev()});
  EXPECT_EQ(m.smmus[0]->stes[kSidA].get<Ste::Config>(), SteConfig::s1_s2);
  EXPECT_FALSE(m.smmus[1]->stes[kSidB].get<Ste::V>());  // its STE was not invalidated
  // Second device.
  m.memory.put(l2 + kB.value * 64, ste);
  g.submit({PrefetchConfig{}.set<PrefetchConfig::StreamID>(kB.value), cfgi_ste(kB.value), sync_sev()});
  EXPECT_EQ(m.smmus[1]->stes[kSidB].get<Ste::Config>(), SteConfig::s1_s2);

  // A strict unmap: one exit, one SYNC per instance.
  m.forget();
  const auto exits = v.vsmmu->counters().exits;
  g.submit({nh_va(1, 0xffff'f000), sync_sev()});
  EXPECT_EQ(v.vsmmu->counters().exits, exits + 1);
  EXPECT_EQ(m.smmus[0]->commands.size(), 1u);
  EXPECT_EQ(m.smmus[0]->syncs, 1u);
  EXPECT_EQ(m.smmus[1]->syncs, 1u);
  EXPECT_FALSE(g.cmdq_error());
  EXPECT_TRUE(v.interrupts.count.empty());
}

// A client that writes STEs and sends only CFGI_ALL must work.
TEST(Firmware, SendsOnlyCfgiAll) {
  Machine m{1};
  Virtual v{m};
  ASSERT_TRUE(v.vsmmu->attach(kA, *m.smmus[0], kSidA));
  Guest g{v};
  g.enable();
  g.put_ste(kA.value, Guest::s1_ste());
  g.submit({cfgi_all(), sync_none()});
  EXPECT_EQ(m.smmus[0]->stes[kSidA].get<Ste::Config>(), SteConfig::s1_s2);
}

// An administrative call may run on a pCPU of another VM (a quarantine): it does not do the work of this VM's stores.
TEST_F(Streams, AdministrationServesNobodysQueue) {
  guest.enable();
  Progress during = Progress::done;
  smmu0.on_ste = [&](StreamID, const Ste&) {
    guest.queue(sync_none());
    during = virt.vsmmu->write(static_cast<std::uint32_t>(Reg::CMDQ_PROD), 4, guest.prod);
  };
  ASSERT_TRUE(virt.vsmmu->detach(kA));
  EXPECT_EQ(during, Progress::again);
  EXPECT_EQ(guest.cons(), 0u);
  guest.kick();  // the same store, executed again
  EXPECT_EQ(guest.cons(), guest.prod);
}

// --- Several pCPUs ---------------------------------------------------------------------------------------------------

// A FakeSmmu records without locks: only the owner of the command side may be at it, which is what this shows (run
// under TSan to be sure).
TEST(Concurrency, StoresEventsAndAdministrationFromSeveralThreads) {
  Machine m{1};
  Virtual v{m, {}, {.commands = 8, .polls = 4, .installs = 1}};
  ASSERT_TRUE(v.vsmmu->attach(kA, *m.smmus[0], kSidA));
  Guest g{v};
  g.put_ste(kA.value, Guest::s1_ste());
  g.enable();
  constexpr unsigned kRounds = 2000;
  std::atomic<std::uint32_t> submitted{0};
  std::thread kicker{[&] {  // a second vCPU that stores PROD for what the first has queued
    for (unsigned i = 0; i < kRounds; ++i)
      while (v.vsmmu->write(static_cast<std::uint32_t>(Reg::CMDQ_PROD), 4, submitted.load()) == Progress::again) {
      }
  }};
  std::thread events{[&] {
    FTranslation e;
    e.set<FTranslation::StreamID>(kSidA.value).set<FTranslation::CLASS>(EventClass::IN);
    for (unsigned i = 0; i < kRounds; ++i) {
      (void)v.vsmmu->handle_event(*m.smmus[0], e);
      (void)v.vsmmu->write(static_cast<std::uint32_t>(Reg::EVENTQ_CONS), 4, (i + 1) & 0x1ff);
    }
  }};
  const auto cons = [&] {
    return std::atomic_ref{v.page0[static_cast<std::uint32_t>(Reg::CMDQ_CONS) / 4]}.load(std::memory_order_acquire);
  };
  for (unsigned i = 0; i < kRounds; ++i) {
    g.queue(nh_va(1, std::uint64_t{i} << 12));
    g.queue(sync_none());
    submitted.store(g.prod);
    g.kick();
    while (cons() != g.prod) {  // another thread may be at it
      (void)v.vsmmu->write(static_cast<std::uint32_t>(Reg::CMDQ_PROD), 4, g.prod);
    }
  }
  kicker.join();
  events.join();
  EXPECT_EQ(m.smmus[0]->all<TlbiNhVa>().size(), kRounds);
  EXPECT_FALSE(g.cmdq_error());
}

}  // namespace
}  // namespace weir::vsmmu::test
