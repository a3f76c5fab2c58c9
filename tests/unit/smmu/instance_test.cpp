#include "hyp/smmu/instance.hpp"

#include <gtest/gtest.h>

#include "hyp/smmu/errata.hpp"
#include "tests/unit/smmu/fake_hardware.hpp"

namespace weir {
namespace {

using namespace smmu;
using test::FakeHardware;

Ste stage2_only(std::uint16_t vmid) {
  return Ste{}
      .set<Ste::V>(true)
      .set<Ste::Config>(SteConfig::s2)
      .set<Ste::S2VMID>(VMID{vmid})
      .set<Ste::S2AA64>(true)
      .set<Ste::S2R>(true)
      .set<Ste::S2TTB>(PA{0x8000'0000});
}

struct SmmuInstanceTest : testing::Test {
  void start() {
    ASSERT_TRUE(smmu->quiesce());
    ASSERT_TRUE(smmu->init());
    hardware.executed.clear();
    hardware.prod_stores = 0;
  }
  FakeHardware hardware;
  std::unique_ptr<SmmuInstance> smmu = std::make_unique<SmmuInstance>(0, "smmuv3@0", hardware, true);
};

TEST_F(SmmuInstanceTest, AbortsDmaBeforeItTurnsTranslationOff) {
  hardware.registers[Reg::CR0] = hardware.registers[Reg::CR0ACK] = 0xd;
  ASSERT_TRUE(smmu->quiesce());
  ASSERT_EQ(hardware.log, (std::vector<std::string>{"GBPA", "CR0=0"}));
  EXPECT_TRUE((GBPA{{{static_cast<std::uint32_t>(hardware.registers[Reg::GBPA])}}}.get<GBPA::ABORT>()));
  EXPECT_TRUE(hardware.executed.empty());
}

TEST_F(SmmuInstanceTest, ASilentDeviceIsNotWaitedForForEver) {
  hardware.acknowledges = false;
  EXPECT_FALSE(smmu->quiesce());
}

TEST_F(SmmuInstanceTest, StartsWithCleanCachesAndEnablesTranslationLast) {
  ASSERT_TRUE(smmu->quiesce());
  hardware.log.clear();
  ASSERT_TRUE(smmu->init());
  ASSERT_EQ(hardware.executed.size(), 3u);
  EXPECT_EQ(hardware.executed[0], Command{cfgi_all()});
  EXPECT_EQ(hardware.executed[1], Command{tlbi_nsnh_all()});
  EXPECT_EQ(hardware.executed[2].opcode(), Opcode::SYNC);
  ASSERT_EQ(hardware.log.size(), 3u);
  for (unsigned i = 0; i < 2; ++i) EXPECT_EQ(std::stoi(hardware.log[i].substr(4)) & 1, 0);
  EXPECT_EQ(hardware.log[2], "CR0=13");  // SMMUEN, EVENTQEN, CMDQEN
}

// Without IDR0.ATS the bit is RES0, and an acknowledge with it never comes (6.3.9).
TEST_F(SmmuInstanceTest, TranslatedRequestsAreCheckedWhereTheyExist) {
  hardware.change<IDR0>(Reg::IDR0, [](auto& r) { r.template set<IDR0::ATS>(true); });
  ASSERT_TRUE(smmu->quiesce());
  ASSERT_TRUE(smmu->init());
  EXPECT_EQ(hardware.log.back(), "CR0=29");  // SMMUEN, EVENTQEN, CMDQEN, ATSCHK
}

TEST_F(SmmuInstanceTest, AnErrorThatSomebodyLeftBehindDoesNotStopTheFirstCommands) {
  hardware.registers[Reg::GERROR] = GERROR{}.set<GERROR::CMDQ_ERR>(true).words[0];
  std::size_t acknowledged_after = ~std::size_t{0};
  hardware.on_write = [&](Reg reg, std::uint32_t value) {
    if (reg == Reg::GERRORN && value == hardware.registers[Reg::GERROR]) acknowledged_after = hardware.executed.size();
    if (reg == Reg::CR0 && CR0{{{value}}}.get<CR0::CMDQEN>()) EXPECT_NE(acknowledged_after, ~std::size_t{0});
  };
  ASSERT_TRUE(smmu->quiesce());
  ASSERT_TRUE(smmu->init());
  EXPECT_EQ(acknowledged_after, 0u);
}

TEST_F(SmmuInstanceTest, AnUpdateOfGbpaThatIsUnderWayIsAwaitedFirst) {
  hardware.registers[Reg::GBPA] = GBPA{}.set<GBPA::Update>(true).words[0];
  hardware.acknowledges = false;  // and never ends
  EXPECT_FALSE(smmu->quiesce());
  EXPECT_TRUE(hardware.log.empty());
}

TEST_F(SmmuInstanceTest, AMissingFeatureIsNamed) {
  const auto refuse = [&](auto change, const char* feature) {
    FakeHardware lacking;
    change(lacking);
    SmmuInstance instance{0, "x", lacking, true};
    ASSERT_TRUE(instance.quiesce());
    const auto result = instance.init();
    ASSERT_FALSE(result) << feature;
    EXPECT_NE(std::string{result.error()}.find(feature), std::string::npos) << result.error();
    EXPECT_EQ(lacking.registers[Reg::CR0] & 1, 0u);
  };
  refuse([](auto& h) { h.template change<IDR0>(Reg::IDR0, [](auto& r) { r.template set<IDR0::S2P>(false); }); }, "S2P");
  refuse([](auto& h) { h.template change<IDR0>(Reg::IDR0, [](auto& r) { r.template set<IDR0::S1P>(false); }); }, "S1P");
  refuse(
      [](auto& h) {
        h.template change<IDR0>(Reg::IDR0, [](auto& r) { r.template set<IDR0::TTF>(TtFormat::aarch32); });
      },
      "TTF");
  refuse([](auto& h) { h.template change<IDR5>(Reg::IDR5, [](auto& r) { r.template set<IDR5::GRAN4K>(false); }); },
         "GRAN4K");
  refuse(
      [](auto& h) { h.template change<IDR1>(Reg::IDR1, [](auto& r) { r.template set<IDR1::QUEUES_PRESET>(true); }); },
      "QUEUES_PRESET");
  refuse([](auto& h) { h.registers[Reg::IIDR] = 0x48300'43b; }, "1209401");  // MMU-600 r0p0
}

TEST_F(SmmuInstanceTest, StreamIdsMayHaveUpTo32Bits) {
  for (const unsigned bits : {0u, 1u, 8u, 9u, 16u, 31u, 32u}) {
    FakeHardware wide;
    wide.eager = true;
    wide.change<IDR1>(Reg::IDR1, [&](auto& r) { r.template set<IDR1::SIDSIZE>(bits); });
    SmmuInstance instance{0, "x", wide, true};
    ASSERT_TRUE(instance.quiesce());
    ASSERT_TRUE(instance.init());
    for (const std::uint32_t sid : {0u, 1u, 0xffu, 0x100u, 0xffffu, 0x10000u, 0xffff'ffffu}) {
      const bool exists = sid <= 0xffff && std::uint64_t{sid} >> bits == 0;
      EXPECT_EQ(instance.install_ste(StreamID{sid}, stage2_only(3)).has_value(), exists) << bits << ": " << sid;
      if (exists) EXPECT_EQ(wide.ste(StreamID{sid}), stage2_only(3));
    }
  }
}

// SIDSIZE may allow for a gigabyte of stream table, of which a machine uses nothing.
TEST_F(SmmuInstanceTest, TheStreamTableIsAsLargeAsTheMachineNeedsIt) {
  const auto log2size = [](std::uint32_t last, unsigned sidsize) {
    FakeHardware wide;
    wide.eager = true;
    wide.change<IDR1>(Reg::IDR1, [&](auto& r) { r.template set<IDR1::SIDSIZE>(sidsize); });
    SmmuInstance instance{0, "x", wide, true};
    EXPECT_TRUE(instance.quiesce());
    EXPECT_TRUE(instance.init({.last_stream = StreamID{last}}));
    EXPECT_TRUE(instance.install_ste(StreamID{last}, stage2_only(3)));
    EXPECT_EQ(wide.ste(StreamID{last}), stage2_only(3));
    return STRTAB_BASE_CFG{{{static_cast<std::uint32_t>(wide.registers[Reg::STRTAB_BASE_CFG])}}}
        .get<STRTAB_BASE_CFG::LOG2SIZE>();
  };
  EXPECT_EQ(log2size(0, 32), 0u);
  EXPECT_EQ(log2size(0xff, 32), 8u);
  EXPECT_EQ(log2size(0x100, 32), 9u);
  EXPECT_EQ(log2size(0x12345, 32), 17u);
  EXPECT_EQ(log2size(0xfff, 12), 12u);
}

// A linear table is refused for what the machine needs, not for what SIDSIZE allows.
TEST_F(SmmuInstanceTest, ALinearStreamTableIsLargeEnoughOrRefused) {
  hardware.eager = true;
  hardware.change<IDR0>(Reg::IDR0, [](auto& r) { r.template set<IDR0::ST_LEVEL>(StLevel::linear); });
  hardware.change<IDR1>(Reg::IDR1, [](auto& r) { r.template set<IDR1::SIDSIZE>(32); });
  ASSERT_TRUE(smmu->quiesce());
  const auto refused = smmu->init({.last_stream = StreamID{0x10000}});
  ASSERT_FALSE(refused);
  EXPECT_NE(std::string{refused.error()}.find("ST_LEVEL"), std::string::npos);
  EXPECT_TRUE(smmu->init({.last_stream = StreamID{0xffff}}));
}

// An SMMU that walks past the caches cannot update flags atomically with CPUs that use them.
TEST_F(SmmuInstanceTest, DirtyStateNeedsCoherentWalks) {
  hardware.eager = true;
  hardware.snoops = false;
  hardware.change<IDR0>(
      Reg::IDR0, [](auto& r) { r.template set<IDR0::HTTU>(Htt::access_dirty).template set<IDR0::COHACC>(true); });
  for (const bool coherent : {false, true}) {
    SmmuInstance instance{0, "x", hardware, coherent};
    ASSERT_TRUE(instance.quiesce());
    ASSERT_TRUE(instance.init());
    EXPECT_EQ(instance.capabilities().idr0.get<IDR0::HTTU>(), coherent ? Htt::access_dirty : Htt::none);
  }
}

// 3.5.6: earlier software may have left enhanced command queues behind, which go on on their own.
TEST_F(SmmuInstanceTest, ControlPagesOfEnhancedCommandQueuesAreSwitchedOff) {
  hardware.change<IDR1>(Reg::IDR1, [](auto& r) { r.template set<IDR1::ECMDQ>(true); });
  hardware.registers[Reg::IDR6] = IDR6{}.set<IDR6::CMDQ_CONTROL_PAGE_LOG2NUMP>(2).words[0];
  for (unsigned page = 0; page < 5; ++page)
    hardware.registers[control_page_cfg(page)] = hardware.registers[control_page_status(page)] = 1;
  EXPECT_TRUE(smmu->quiesce());
  for (unsigned page = 0; page < 5; ++page)
    EXPECT_EQ(hardware.registers[control_page_cfg(page)], page < 4 ? 0u : 1u) << page;
  hardware.acknowledges = false;
  EXPECT_FALSE(smmu->quiesce());
}

TEST_F(SmmuInstanceTest, APartThatNothingIsKnownOfIsNotUsedUnlessItIsAccepted) {
  hardware.eager = true;
  ASSERT_TRUE(smmu->quiesce());
  const auto refused = smmu->init({.compatible = "vendor,odd-smmu"});
  ASSERT_FALSE(refused);
  EXPECT_NE(std::string{refused.error()}.find("accept-smmus"), std::string::npos);
  EXPECT_EQ(hardware.registers[Reg::CR0] & CR0::SMMUEN::mask, 0u);
  EXPECT_TRUE(smmu->init({.compatible = "vendor,odd-smmu", .accept_unknown = true}));
}

TEST_F(SmmuInstanceTest, Tegra264InvalidatesTwice) {
  ASSERT_TRUE(smmu->quiesce());
  ASSERT_TRUE(smmu->init({.compatible = "nvidia,tegra264-smmu"}));
  EXPECT_EQ(std::string{smmu->part()}, "Tegra264");
  hardware.executed.clear();
  const Command one = tlbi_nh_all(VMID{7});
  stage2::wait(*smmu, smmu->issue_and_sync({&one, 1}));
  EXPECT_EQ(std::ranges::count(hardware.executed, one), 2);
  ASSERT_EQ(hardware.executed.size(), 4u);
}

TEST_F(SmmuInstanceTest, RunsOutOfMemoryAtEveryAllocation) {
  for (unsigned n = 0; n < 3; ++n) {
    FakeHardware poor;
    poor.allocations_left = n;
    SmmuInstance instance{0, "x", poor, true};
    ASSERT_TRUE(instance.quiesce());
    EXPECT_FALSE(instance.init()) << n;
    EXPECT_EQ(poor.registers[Reg::CR0] & 1, 0u);
  }
}

TEST_F(SmmuInstanceTest, EveryStreamAbortsUntilItIsGivenAnSte) {
  start();
  EXPECT_FALSE(hardware.ste(StreamID{0x900}).get<Ste::V>());
  ASSERT_TRUE(smmu->install_ste(StreamID{0x900}, stage2_only(3)));
  EXPECT_EQ(hardware.ste(StreamID{0x900}), stage2_only(3));
  for (std::uint32_t sid : {0x901u, 0x9ffu}) {
    EXPECT_TRUE(hardware.ste(StreamID{sid}).get<Ste::V>());
    EXPECT_TRUE(is_abort(hardware.ste(StreamID{sid}).get<Ste::Config>()));
  }
  // A new second-level table, then the entry; each dropped from the configuration cache, each waited for.
  ASSERT_GE(hardware.executed.size(), 4u);
  EXPECT_EQ(hardware.executed[0], Command{cfgi_ste(StreamID{0x900}, false)});
  EXPECT_EQ(hardware.executed[1].opcode(), Opcode::SYNC);
  EXPECT_EQ(hardware.executed[2], Command{cfgi_ste(StreamID{0x900}, true)});
  EXPECT_EQ(hardware.executed.back().opcode(), Opcode::SYNC);
  EXPECT_EQ(smmu->install_ste(StreamID{0x10000}, stage2_only(3)).error(), stage2::Error::no_such_stream);
}

TEST_F(SmmuInstanceTest, AFailedAllocationLeavesTheStreamAborting) {
  start();
  hardware.allocations_left = 0;
  EXPECT_EQ(smmu->install_ste(StreamID{0x900}, stage2_only(3)).error(), stage2::Error::out_of_memory);
  EXPECT_FALSE(hardware.ste(StreamID{0x900}).get<Ste::V>());
}

TEST_F(SmmuInstanceTest, ATicketIsCompleteWhenItsSyncIs) {
  start();
  const Command c = tlbi_nh_all(VMID{7});
  const auto ticket = smmu->issue_and_sync({&c, 1});
  EXPECT_FALSE(hardware.executed.size() == 2);
  unsigned polls = 0;
  while (!smmu->completed(ticket)) ++polls;
  EXPECT_GE(polls, 2u) << "late hardware was waited for";
  EXPECT_EQ(hardware.executed.size(), 2u);
  EXPECT_EQ(hardware.prod_stores, 1u) << "one store for the batch and its SYNC";
}

TEST_F(SmmuInstanceTest, TheRingWrapsForEver) {
  start();
  std::vector<Command> sent;
  for (unsigned i = 0; i < 500; ++i) {
    std::vector<Command> batch;
    for (unsigned n = 0; n < i % 7; ++n)
      batch.push_back(tlbi_nh_asid(VMID{1}, ASID{static_cast<std::uint16_t>(i * 8 + n)}));
    const auto ticket = smmu->issue_and_sync(batch);
    sent.insert(sent.end(), batch.begin(), batch.end());
    if (i % 3 == 0) stage2::wait(*smmu, ticket);
  }
  stage2::wait(*smmu, smmu->issue_and_sync({}));
  std::erase_if(hardware.executed, [](const Command& c) { return c.opcode() == Opcode::SYNC; });
  EXPECT_EQ(hardware.executed, sent);
}

TEST_F(SmmuInstanceTest, ABatchLargerThanTheQueueWaitsForRoom) {
  start();
  std::vector<Command> batch(100, tlbi_nh_all(VMID{1}));
  stage2::wait(*smmu, smmu->issue_and_sync(batch));
  EXPECT_EQ(hardware.executed.size(), 101u);
}

TEST_F(SmmuInstanceTest, ACommandErrorDoesNotStopTheQueue) {
  start();
  Command illegal;
  illegal.words[0] = 0xff;
  const Command batch[] = {tlbi_nh_all(VMID{1}), illegal, tlbi_nh_all(VMID{2})};
  stage2::wait(*smmu, smmu->issue_and_sync(batch));
  EXPECT_EQ(hardware.executed.front(), batch[0]);
  EXPECT_EQ(hardware.executed[2], batch[2]);
  EXPECT_EQ(smmu->command_counters().errors, 1u);
}

TEST_F(SmmuInstanceTest, AStandstillIsSaidOnce) {
  start();
  hardware.hung = true;
  testing::internal::CaptureStdout();
  const auto ticket = smmu->issue_and_sync({});
  for (unsigned i = 0; i < 10'000'000 && !smmu->completed(ticket); ++i) {
  }
  const std::string said = testing::internal::GetCapturedStdout();
  EXPECT_NE(said.find("smmuv3@0: the command queue stands still"), std::string::npos) << said;
  EXPECT_EQ(said.find('\n'), said.size() - 1) << said;
  hardware.hung = false;
  stage2::wait(*smmu, ticket);
}

struct Owner final : StreamOwner {
  using StreamOwner::StreamOwner;
  std::vector<Event> seen;
  unsigned losses = 0;
  void on_event(SmmuInstance&, const Event& event) override { seen.push_back(event); }
  void on_events_lost(SmmuInstance&) override { ++losses; }
};

Event fault(std::uint32_t sid) {
  FTranslation f;
  f.set<FTranslation::StreamID>(sid);
  return f;
}

TEST_F(SmmuInstanceTest, EventsGoToTheOwnerOfTheirStream) {
  start();
  Owner a{StreamID{0x900}};
  Owner b{StreamID{0x1100}};
  Owner again{StreamID{0x900}};
  ASSERT_TRUE(smmu->claim(a));
  ASSERT_TRUE(smmu->claim(b));
  EXPECT_FALSE(smmu->claim(again));
  for (unsigned round = 0; round < 10; ++round) {  // the queue of 8 wraps
    hardware.record(fault(0x900));
    hardware.record(fault(0x1100));
    hardware.record(fault(5));  // nobody's
    EXPECT_EQ(smmu->drain_events(2), 2u);
    EXPECT_EQ(smmu->drain_events(64), 1u);
    EXPECT_EQ(smmu->drain_events(64), 0u);
  }
  EXPECT_EQ(a.seen.size(), 10u);
  EXPECT_EQ(b.seen.size(), 10u);
  EXPECT_EQ(a.seen[0], fault(0x900));
  smmu->release(a);
  hardware.record(fault(0x900));
  smmu->drain_events(64);
  EXPECT_EQ(a.seen.size(), 10u);
  smmu->release(b);
}

TEST_F(SmmuInstanceTest, EventsArePendingUntilTheirOwnersHaveThem) {
  struct Curious final : StreamOwner {
    using StreamOwner::StreamOwner;
    void on_event(SmmuInstance& from, const Event&) override { pending_inside = from.events_pending(); }
    bool pending_inside = false;
  };
  start();
  Curious owner{StreamID{0x900}};
  ASSERT_TRUE(smmu->claim(owner));
  EXPECT_FALSE(smmu->events_pending());
  for (unsigned round = 0; round < 10; ++round) {  // the queue of 8 wraps
    hardware.record(fault(0x900));
    hardware.record(fault(5));  // nobody's
    EXPECT_TRUE(smmu->events_pending());
    EXPECT_EQ(smmu->drain_events(1), 1u);
    EXPECT_TRUE(owner.pending_inside) << "what is being delivered is not delivered";
    EXPECT_TRUE(smmu->events_pending());
    EXPECT_EQ(smmu->drain_events(64), 1u);
    EXPECT_FALSE(smmu->events_pending());
  }
  smmu->release(owner);
}

// The queue was never empty, so the SMMU raises no interrupt for a record that is written while another is delivered.
TEST_F(SmmuInstanceTest, EventsThatArriveDuringADrainAreNotLeftBehind) {
  struct Chatty final : StreamOwner {
    Chatty(FakeHardware& h, StreamID sid) : StreamOwner{sid}, hardware{h} {}
    void on_event(SmmuInstance&, const Event&) override {
      if (++seen < 4) hardware.record(fault(sid.value));
    }
    FakeHardware& hardware;
    unsigned seen = 0;
  };
  start();
  Chatty owner{hardware, StreamID{0x900}};
  ASSERT_TRUE(smmu->claim(owner));
  hardware.record(fault(0x900));
  EXPECT_EQ(smmu->drain_events(64), 4u);
  EXPECT_EQ(owner.seen, 4u);
  EXPECT_EQ(hardware.registers[Reg::EVENTQ_CONS], hardware.registers[Reg::EVENTQ_PROD]);
  owner.seen = 0;
  hardware.record(fault(0x900));
  EXPECT_EQ(smmu->drain_events(2), 2u);  // still bounded
  smmu->release(owner);
}

// A vSMMU that waits for all events so far waits for what fits, not for what would fit into the largest of queues.
TEST_F(SmmuInstanceTest, SaysHowManyEventsFit) {
  hardware.change<IDR1>(Reg::IDR1, [](auto& r) { r.template set<IDR1::EVENTQS>(19); });
  start();
  EXPECT_EQ(1u << smmu->capabilities().idr1.get<IDR1::EVENTQS>(), smmu->event_capacity());
  EXPECT_LE(smmu->event_capacity(), 512u);
}

TEST_F(SmmuInstanceTest, GlobalErrorsAreAcknowledgedWithoutTouchingTheCommandQueues) {
  start();
  const auto active = [&] { return hardware.registers[Reg::GERROR] ^ hardware.registers[Reg::GERRORN]; };
  hardware.registers[Reg::GERROR] ^= GERROR::EVENTQ_ABT_ERR::mask;
  smmu->on_global_error();
  EXPECT_EQ(active(), 0u);
  smmu->on_global_error();
  EXPECT_EQ(active(), 0u);
}

struct EventOverflow : SmmuInstanceTest {
  EventOverflow() {
    start();
    EXPECT_TRUE(smmu->claim(flooder));
    EXPECT_TRUE(smmu->claim(victim));
  }
  ~EventOverflow() override {
    smmu->release(flooder);
    smmu->release(victim);
  }
  // The queue is full and a record is discarded (7.4).
  void overflow() {
    hardware.change<EVENTQ_PROD>(
        Reg::EVENTQ_PROD, [](auto& r) { r.template set<EVENTQ_PROD::OVFLG>(!r.template get<EVENTQ_PROD::OVFLG>()); });
  }
  [[nodiscard]] bool acknowledged() {
    const auto of = [&](Reg reg) { return static_cast<std::uint32_t>(hardware.registers[reg]); };
    return EVENTQ_CONS{{{of(Reg::EVENTQ_CONS)}}}.get<EVENTQ_CONS::OVACKFLG>() ==
           EVENTQ_PROD{{{of(Reg::EVENTQ_PROD)}}}.get<EVENTQ_PROD::OVFLG>();
  }
  Owner flooder{StreamID{0x900}};
  Owner victim{StreamID{0x1100}};
};

TEST_F(EventOverflow, IsToldToAllOwnersOnceAndAcknowledged) {
  testing::internal::CaptureStdout();
  for (unsigned round = 1; round < 4; ++round) {
    for (unsigned i = 0; i < smmu->event_capacity(); ++i) hardware.record(fault(0x900));
    overflow();
    while (smmu->drain_events(3) != 0) {
    }
    EXPECT_TRUE(acknowledged());
    EXPECT_EQ(victim.losses, round);
    EXPECT_EQ(flooder.losses, round);
    EXPECT_EQ(smmu->event_overflows(), round);
  }
  EXPECT_EQ(victim.seen.size(), 0u);
  EXPECT_EQ(flooder.seen.size(), 3 * smmu->event_capacity());
  const std::string said = testing::internal::GetCapturedStdout();  // the 1st and the 2nd
  EXPECT_EQ(std::ranges::count(said, '\n'), 2) << said;
}

// It may be flagged after all that is in the queue was taken, with no record behind it.
TEST_F(EventOverflow, IsSeenInAnEmptyQueue) {
  hardware.record(fault(0x900));
  smmu->drain_events(64);
  overflow();
  EXPECT_EQ(smmu->drain_events(64), 0u);
  EXPECT_TRUE(acknowledged());
  EXPECT_EQ(victim.losses, 1u);
}

TEST_F(EventOverflow, IsSeenWhateverIsNotYetTaken) {
  for (unsigned i = 0; i < smmu->event_capacity(); ++i) hardware.record(fault(0x900));
  overflow();
  EXPECT_EQ(smmu->drain_events(1), 1u);
  EXPECT_EQ(victim.losses, 1u);
  smmu->drain_events(64);
  EXPECT_EQ(victim.losses, 1u);
}

// A queue that cannot be written loses records just so, and so does one that is full on some implementations (7.2.2).
TEST_F(EventOverflow, AnAbortIsALossToo) {
  hardware.registers[Reg::GERROR] ^= GERROR::EVENTQ_ABT_ERR::mask;
  smmu->on_global_error();
  EXPECT_EQ(victim.losses, 1u);
  smmu->on_global_error();
  EXPECT_EQ(victim.losses, 1u);
}

// --- An SMMU that fails ----------------------------------------------------------------------------------------------

struct Failure : SmmuInstanceTest {
  struct Victim final : StreamOwner {
    Victim(FakeHardware& h, StreamID s) : StreamOwner{s}, hardware{h} {}
    void on_event(SmmuInstance&, const Event&) override {}
    void on_smmu_failed(SmmuInstance&) override {
      ++failures;
      told_first = hardware.registers[Reg::CR0] != 0 && hardware.cut_offs == 0;
    }
    FakeHardware& hardware;
    unsigned failures = 0;
    bool told_first = false;
  };
  Failure() {
    start();
    EXPECT_TRUE(smmu->claim(victim));
  }
  ~Failure() override { smmu->release(victim); }
  void hang() {
    hardware.hung = true;
    hardware.tick = 200'000;
    ticket = smmu->issue_and_sync({&invalidate, 1});
  }
  bool completes_by(std::uint64_t end) {
    while (hardware.now < end)
      if (smmu->completed(ticket)) return true;
    return false;
  }
  [[nodiscard]] bool translates() { return (hardware.registers[Reg::CR0ACK] & CR0::SMMUEN::mask) != 0; }
  const Command invalidate = tlbi_s12_vmall(VMID{1});
  stage2::Ticket ticket = 0;
  Victim victim{hardware, StreamID{0x900}};
};

TEST_F(Failure, ADeadQueueAbortsAllDmaBeforeAnythingIsComplete) {
  hang();
  EXPECT_TRUE(completes_by(3 * CommandQueue::kGiveUp));
  EXPECT_FALSE(translates());
  EXPECT_TRUE((GBPA{{{static_cast<std::uint32_t>(hardware.registers[Reg::GBPA])}}}.get<GBPA::ABORT>()));
  EXPECT_EQ(victim.failures, 1u);
  EXPECT_TRUE(victim.told_first);
  EXPECT_EQ(hardware.cut_offs, 0u);
  EXPECT_FALSE(smmu->vmids().allocate()) << "a VMID that nothing can clean any more";
}

TEST_F(Failure, AnSmmuThatGoesOnTranslatingLosesItsMasters) {
  hang();
  hardware.acknowledges = false;
  EXPECT_TRUE(completes_by(10 * CommandQueue::kGiveUp));
  EXPECT_EQ(hardware.cut_offs, 1u);
  EXPECT_TRUE(victim.told_first);
}

// GBPA is stored to, and CR0 is not acknowledged; nor can the masters be stopped.
TEST_F(Failure, NothingIsCompleteWhileDmaMayGoOn) {
  hang();
  hardware.acknowledges = false;
  hardware.cuts_off = false;
  EXPECT_FALSE(completes_by(5 * CommandQueue::kGiveUp));
  EXPECT_TRUE(translates());
  EXPECT_GE(hardware.cut_offs, 2u);
  hardware.cuts_off = true;
  EXPECT_TRUE(completes_by(10 * CommandQueue::kGiveUp));
}

TEST_F(Failure, OfTheServiceEndsDmaAtOnce) {
  hang();
  EXPECT_FALSE(smmu->completed(ticket));
  hardware.registers[Reg::GERROR] ^= GERROR::SFM_ERR::mask;
  smmu->on_global_error();
  EXPECT_LT(hardware.now, CommandQueue::kGiveUp);
  EXPECT_TRUE(smmu->completed(ticket));
  EXPECT_FALSE(translates());
  EXPECT_EQ(victim.failures, 1u);
}

TEST_F(Failure, OfOneSmmuDoesNotStopAnother) {
  FakeHardware second;
  SmmuInstance other{1, "other", second, true};
  ASSERT_TRUE(other.quiesce());
  ASSERT_TRUE(other.init());
  hang();
  hardware.acknowledges = false;
  hardware.cuts_off = false;
  EXPECT_FALSE(completes_by(2 * CommandQueue::kGiveUp));
  stage2::wait(other, other.issue_and_sync({&invalidate, 1}));
  EXPECT_TRUE(other.vmids().allocate());
  second.tick = 200'000;
  second.hung = true;  // and now this one, too
  const auto also = other.issue_and_sync({&invalidate, 1});
  while (!other.completed(also)) ASSERT_LT(second.now, 3 * CommandQueue::kGiveUp);
  EXPECT_EQ(second.registers[Reg::CR0ACK] & CR0::SMMUEN::mask, 0u);
  EXPECT_FALSE(smmu->completed(ticket));
}

TEST_F(SmmuInstanceTest, AnSmmuWhoseQueueIsDeadFromTheStartIsNotUsed) {
  ASSERT_TRUE(smmu->quiesce());
  hardware.hung = true;
  hardware.tick = 200'000;
  const auto refused = smmu->init();
  ASSERT_FALSE(refused);
  EXPECT_NE(std::string{refused.error()}.find("command queue"), std::string::npos);
  EXPECT_EQ(hardware.registers[Reg::CR0] & CR0::SMMUEN::mask, 0u);
}

// --- Page requests ---------------------------------------------------------------------------------------------------

// A guest's SYNC makes its own events visible; others' are delivered where their interrupt is taken, in the order that they
// came in.
TEST_F(SmmuInstanceTest, OnesOwnEventsComeBeforeOthers) {
  start();
  const int mine = 0, theirs = 0;
  Owner one{StreamID{0x900}, &mine}, two{StreamID{0x901}, &mine}, other{StreamID{0x1100}, &theirs};
  for (Owner* o : {&one, &two, &other}) ASSERT_TRUE(smmu->claim(*o));
  for (unsigned round = 0; round < 10; ++round) {  // the queue of 8 wraps
    for (Owner* o : {&one, &two, &other}) o->seen.clear();
    const std::uint64_t before = smmu->events();
    for (const std::uint32_t sid : {0x1100U, 0x900U, 0x1100U, 5U, 0x901U, 0x900U, 0x1100U}) hardware.record(fault(sid));
    EXPECT_EQ(smmu->deliver_events_of(&mine, 2), 2u) << "bounded";
    EXPECT_EQ(smmu->deliver_events_of(&mine, 64), 1u);
    EXPECT_EQ(smmu->deliver_events_of(&mine, 64), 0u);
    EXPECT_EQ(one.seen.size(), 2u);
    EXPECT_EQ(two.seen.size(), 1u);
    EXPECT_EQ(other.seen.size(), 0u);
    EXPECT_TRUE(smmu->events_pending());
    EXPECT_EQ(smmu->drain_events(64), 7u);
    EXPECT_EQ(one.seen.size(), 2u) << "once";
    EXPECT_EQ(two.seen.size(), 1u);
    EXPECT_EQ(other.seen.size(), 3u);
    EXPECT_FALSE(smmu->events_pending());
    EXPECT_EQ(smmu->events() - before, 7u);
  }
  for (Owner* o : {&one, &two, &other}) smmu->release(*o);
}

TEST_F(SmmuInstanceTest, OnesOwnEventsMakeRoomUnlessOthersAreInTheWay) {
  start();
  const int mine = 0, theirs = 0;
  Owner one{StreamID{0x900}, &mine}, other{StreamID{0x1100}, &theirs};
  for (Owner* o : {&one, &other}) ASSERT_TRUE(smmu->claim(*o));
  for (unsigned round = 0; round < 3; ++round) {
    for (unsigned i = 0; i < smmu->event_capacity(); ++i) hardware.record(fault(0x900));
    EXPECT_EQ(smmu->deliver_events_of(&mine, 64), smmu->event_capacity());
    EXPECT_FALSE(smmu->events_pending());
  }
  for (const std::uint32_t sid : {0x900U, 0x1100U, 0x900U}) hardware.record(fault(sid));
  EXPECT_EQ(smmu->deliver_events_of(&mine, 64), 2u);
  EXPECT_TRUE(smmu->events_pending());
  EXPECT_EQ(smmu->drain_events(64), 2u) << "the first has gone";
  EXPECT_EQ(other.seen.size(), 1u);
  EXPECT_EQ(one.seen.size(), 3u * smmu->event_capacity() + 2);
  for (Owner* o : {&one, &other}) smmu->release(*o);
}

// Another device's flood costs a SYNC no look into its owner, and no delivery.
TEST_F(SmmuInstanceTest, AQueueFullOfOthersEventsIsOnlyLookedAt) {
  start();
  const int mine = 0, theirs = 0;
  Owner one{StreamID{0x900}, &mine}, other{StreamID{0x1100}, &theirs};
  for (Owner* o : {&one, &other}) ASSERT_TRUE(smmu->claim(*o));
  for (unsigned i = 0; i < smmu->event_capacity(); ++i) hardware.record(fault(0x1100));
  for (unsigned i = 0; i < 100; ++i) EXPECT_EQ(smmu->deliver_events_of(&mine, 64), 0u);
  EXPECT_EQ(other.seen.size(), 0u);
  EXPECT_EQ(smmu->drain_events(64), smmu->event_capacity());
  EXPECT_EQ(other.seen.size(), smmu->event_capacity());
  for (Owner* o : {&one, &other}) smmu->release(*o);
}

struct Pager final : StreamOwner {
  using StreamOwner::StreamOwner;
  void on_event(SmmuInstance&, const Event&) override {}
  bool on_page_request(SmmuInstance&, const PriEntry& request) override {
    seen.push_back(request);
    return takes;
  }
  void on_page_requests_lost(SmmuInstance&) override { ++losses; }
  std::vector<PriEntry> seen;
  bool takes = true;
  unsigned losses = 0;
};

PriEntry page_request(std::uint32_t sid, std::uint16_t group) {
  return PriEntry{}.set<PriEntry::StreamID>(sid).set<PriEntry::PRGIndex>(group).set<PriEntry::R>(true);
}

class PageRequestQueue : public SmmuInstanceTest {
 protected:
  PageRequestQueue() {
    hardware.change<IDR0>(Reg::IDR0, [](auto& r) { r.template set<IDR0::ATS>(true).template set<IDR0::PRI>(true); });
    hardware.change<IDR1>(Reg::IDR1, [](auto& r) { r.template set<IDR1::PRIQS>(3); });
    hardware.eager = true;
    start();
  }
  [[nodiscard]] std::vector<PriResp> responses() {
    smmu->issue_and_sync({});
    while (hardware.step()) {
    }
    std::vector<PriResp> found;
    for (const Command& c : hardware.executed)
      if (const auto r = c.as<PriResp>()) found.push_back(*r);
    return found;
  }
};

TEST_F(PageRequestQueue, IsSetUp) {
  EXPECT_EQ(smmu->page_request_capacity(), 8u);
  const CR0 cr0{{{static_cast<std::uint32_t>(hardware.registers[Reg::CR0])}}};
  EXPECT_TRUE(cr0.get<CR0::PRIQEN>() && cr0.get<CR0::ATSCHK>());
  EXPECT_NE(hardware.registers[Reg::IRQ_CTRL] & IRQ_CTRL::PRIQ_IRQEN::mask, 0u);
  EXPECT_EQ((PRIQ_BASE{{{hardware.registers[Reg::PRIQ_BASE]}}}.get<PRIQ_BASE::LOG2SIZE>()), 3u);
}

TEST_F(PageRequestQueue, RequestsGoToTheOwnerOfTheirStream) {
  Pager a{StreamID{0x900}};
  ASSERT_TRUE(smmu->claim(a));
  for (std::uint16_t round = 0; round < 20; ++round) {  // the queue of 8 wraps
    hardware.request(page_request(0x900, round));
    EXPECT_EQ(smmu->drain_page_requests(1), 1u);
    EXPECT_EQ(smmu->drain_page_requests(1), 0u);
    ASSERT_EQ(a.seen.size(), round + 1u);
    EXPECT_EQ(a.seen.back(), page_request(0x900, round));
  }
  EXPECT_TRUE(responses().empty());
  smmu->release(a);
}

TEST_F(PageRequestQueue, WhatNobodyTakesIsRefused) {
  Pager a{StreamID{0x900}};
  a.takes = false;
  ASSERT_TRUE(smmu->claim(a));
  hardware.request(page_request(0x900, 1));
  hardware.request(page_request(0x55, 2));
  PriEntry stop = page_request(0x55, 3);  // gets no response
  hardware.request(stop.set<PriEntry::R>(false).set<PriEntry::Last>(true).set<PriEntry::SSV>(true));
  EXPECT_EQ(smmu->drain_page_requests(64), 3u);
  EXPECT_EQ(responses(), (std::vector<PriResp>{pri_resp(StreamID{0x900}, {}, 1, PriResponse::failure),
                                               pri_resp(StreamID{0x55}, {}, 2, PriResponse::failure)}));
  smmu->release(a);
}

TEST_F(PageRequestQueue, AnOverflowIsToldAndAcknowledgedAtTheEnd) {
  Pager a{StreamID{0x900}};
  Pager b{StreamID{0x901}};
  ASSERT_TRUE(smmu->claim(a));
  ASSERT_TRUE(smmu->claim(b));
  for (std::uint16_t i = 0; i < 8; ++i) hardware.request(page_request(0x900, i));
  hardware.change<PRIQ_PROD>(Reg::PRIQ_PROD, [](auto& r) { r.template set<PRIQ_PROD::OVFLG>(true); });
  const auto acknowledged = [&] {
    return PRIQ_CONS{{{static_cast<std::uint32_t>(hardware.registers[Reg::PRIQ_CONS])}}}.get<PRIQ_CONS::OVACKFLG>();
  };
  EXPECT_EQ(smmu->drain_page_requests(5), 5u);
  EXPECT_EQ(a.losses, 0u);
  EXPECT_FALSE(acknowledged());
  EXPECT_EQ(smmu->drain_page_requests(5), 3u);
  EXPECT_EQ(a.losses, 1u);
  EXPECT_EQ(b.losses, 1u);
  EXPECT_TRUE(acknowledged());
  EXPECT_EQ(smmu->drain_page_requests(5), 0u);
  EXPECT_EQ(a.losses, 1u);
  EXPECT_EQ(a.seen.size(), 8u);
  smmu->release(a);
  smmu->release(b);
}

TEST_F(SmmuInstanceTest, WithoutPriThereIsNoSuchQueue) {
  start();
  EXPECT_EQ(smmu->page_request_capacity(), 0u);
  EXPECT_EQ(smmu->drain_page_requests(8), 0u);
  EXPECT_EQ(hardware.registers[Reg::CR0] & CR0::PRIQEN::mask, 0u);
}

TEST(Errata, ClearsWhatAPartDoesNotDo) {
  stage2::Capabilities c{};
  c.idr0.set<IDR0::SEV>(true);
  IIDR iidr{{{0x48300'43b}}};
  EXPECT_STREQ(apply_errata(iidr, {}, c).part, "MMU-600");
  EXPECT_FALSE(c.idr0.get<IDR0::SEV>());
  EXPECT_EQ(apply_errata(iidr.set<IIDR::Variant>(2), {}, c).no_nesting, nullptr);
  EXPECT_NE(apply_errata(IIDR{{{0x48710'43b}}}, {}, c).no_nesting, nullptr);
  EXPECT_EQ(apply_errata(IIDR{{{0x48711'43b}}}, {}, c).no_nesting, nullptr);
  EXPECT_EQ(apply_errata(IIDR{}, {}, c).part, nullptr);
}

}  // namespace
}  // namespace weir
