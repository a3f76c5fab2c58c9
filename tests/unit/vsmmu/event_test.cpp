#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <utility>

#include "tests/unit/vsmmu/fixture.hpp"
#include "vsmmu/event_rebuild.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;
using vsmmu::EventOwner;
using vsmmu::rebuild_event;
using vsmmu::SteFault;
using vsmmu::StreamFacts;

constexpr VStreamID kVsid{0x08};

StreamFacts stage1_stream() {
  Ste ste;
  ste.set<Ste::V>(true).set<Ste::Config>(SteConfig::s1_s2).set<Ste::S1ContextPtr>(IPA{0x4030'0040});
  return {.vsid = kVsid, .fault = {}, .installed = ste, .record_bad_streamid = true};
}
StreamFacts faulty(SteFault fault) {
  return {.vsid = kVsid, .fault = fault, .installed = {}, .record_bad_streamid = true};
}

// A record of this type with every bit set but the number.
template <typename T>
T noisy() {
  T t;
  for (auto& w : t.words) w = ~std::uint64_t{0};
  t.template set<typename T::Id>(T::kId);
  return t;
}

// Every record of every type, all bits set: whatever reaches the guest has only fields that it may see, its own
// StreamID, and translated addresses.
TEST(EventRebuild, NothingOfTheHostLeaks) {
  AllEvents::for_each([]<typename T>(const T&) {
    for (const bool fault : {false, true}) {
      const auto facts = fault ? faulty({EventId::F_STE_FETCH, IPA{0x1000}}) : stage1_stream();
      const auto r = rebuild_event(noisy<T>(), facts);
      if (r.owner != EventOwner::guest) continue;
      EventMask allowed = *guest_visible(r.event.id());
      allowed[0] |= Event::StreamID::mask;
      allowed[3] |= FetchFields::FetchAddr::mask;  // checked where it is set
      EXPECT_TRUE(r.event.within(allowed)) << T::name;
      EXPECT_EQ(r.event.template get<Event::StreamID>(), kVsid.value) << T::name;
    }
  });
}

TEST(EventRebuild, UnknownTypesAreTheHosts) {
  for (unsigned id = 0; id < 256; ++id) {
    Event e;
    e.set<Event::Id>(static_cast<EventId>(id));
    if (!guest_visible(e.id())) {
      EXPECT_EQ(rebuild_event(e, stage1_stream()).owner, EventOwner::host) << id;
    }
  }
}

template <typename T>
class TranslationFaults : public ::testing::Test {};
using FaultTypes = ::testing::Types<FTranslation, FAddrSize, FAccess, FPermission>;
TYPED_TEST_SUITE(TranslationFaults, FaultTypes);

TYPED_TEST(TranslationFaults, OfStage1AreForwarded) {
  using T = TypeParam;
  T physical;
  physical.template set<typename T::StreamID>(0x1108);
  physical.template set<typename T::SSV>(true).template set<typename T::SubstreamID>(SubstreamID{3});
  physical.template set<typename T::CLASS>(EventClass::IN).template set<typename T::RnW>(true);
  physical.template set<typename T::PnU>(true).template set<typename T::InD>(true);
  physical.template set<typename T::InputAddr>(IOVA{0xffff'0000'1234'5678});
  physical.template set<typename T::IPA>(IPA{0x7777'7000});  // UNKNOWN at stage 1
  const vsmmu::Rebuilt r = rebuild_event(physical, stage1_stream());
  ASSERT_EQ(r.owner, EventOwner::guest);
  const T e = *r.event.as<T>();
  EXPECT_EQ(e.template get<typename T::StreamID>(), kVsid.value);
  EXPECT_TRUE(e.template get<typename T::SSV>());
  EXPECT_EQ(e.template get<typename T::SubstreamID>(), SubstreamID{3});
  EXPECT_EQ(e.template get<typename T::CLASS>(), EventClass::IN);
  EXPECT_TRUE(e.template get<typename T::RnW>());
  EXPECT_TRUE(e.template get<typename T::PnU>());
  EXPECT_TRUE(e.template get<typename T::InD>());
  EXPECT_EQ(e.template get<typename T::InputAddr>(), IOVA{0xffff'0000'1234'5678});
  EXPECT_EQ(e.template get<typename T::IPA>(), IPA{});
  EXPECT_FALSE(e.template get<typename T::S2>());
}

TYPED_TEST(TranslationFaults, OfStage2OnDataAreNotForwarded) {
  using T = TypeParam;
  T physical;
  physical.template set<typename T::CLASS>(EventClass::IN).template set<typename T::S2>(true);
  EXPECT_EQ(rebuild_event(physical, stage1_stream()).owner, EventOwner::stage2);
}

// The VM's address space ends where the guest was told that its output addresses end, but it is the guest that goes there.
TYPED_TEST(TranslationFaults, OfStage2BeyondTheGuestsOutputSize) {
  using T = TypeParam;
  T physical;
  physical.template set<typename T::CLASS>(EventClass::IN)
      .template set<typename T::S2>(true)
      .template set<typename T::Stall>(true)
      .template set<typename T::InputAddr>(IOVA{0x12'3000})
      .template set<typename T::IPA>(IPA{std::uint64_t{1} << 40});
  vsmmu::StreamFacts facts = stage1_stream();
  facts.oas_bits = 40;
  vsmmu::Rebuilt r = rebuild_event(physical, facts);
  ASSERT_EQ(r.owner, EventOwner::guest);
  const std::optional<FAddrSize> e = r.event.template as<FAddrSize>();
  ASSERT_TRUE(e);
  EXPECT_FALSE(e->get<FAddrSize::S2>());
  EXPECT_FALSE(e->get<FAddrSize::Stall>());
  EXPECT_EQ(e->get<FAddrSize::CLASS>(), EventClass::IN);
  EXPECT_EQ(e->get<FAddrSize::InputAddr>(), IOVA{0x12'3000});
  EXPECT_EQ(e->get<FAddrSize::IPA>(), IPA{});
  facts.enabled = false;
  EXPECT_EQ(rebuild_event(physical, facts).owner, EventOwner::quiet);
  facts.enabled = true;
  physical.template set<typename T::IPA>(IPA{(std::uint64_t{1} << 40) - 0x1000});
  EXPECT_EQ(rebuild_event(physical, facts).owner, EventOwner::stage2);
}

TYPED_TEST(TranslationFaults, OfStage2OnContextDescriptors) {
  using T = TypeParam;
  T physical;
  physical.template set<typename T::CLASS>(EventClass::CD).template set<typename T::S2>(true);
  physical.template set<typename T::IPA>(IPA{0x9000'0000});
  const vsmmu::Rebuilt r = rebuild_event(physical, stage1_stream());
  ASSERT_EQ(r.owner, EventOwner::guest);
  const std::optional<FCdFetch> e = r.event.as<FCdFetch>();
  ASSERT_TRUE(e);
  EXPECT_EQ(e->get<FCdFetch::FetchAddr>(), 0x9000'0000u);
  EXPECT_EQ(e->get<FCdFetch::StreamID>(), kVsid.value);
}

// S2 == 0 is what QEMU reports for a non-root table.
TYPED_TEST(TranslationFaults, OfStage2OnStage1Tables) {
  using T = TypeParam;
  for (const bool s2 : {true, false}) {
    T physical;
    physical.template set<typename T::CLASS>(EventClass::TT).template set<typename T::S2>(s2);
    physical.template set<typename T::IPA>(IPA{0x9000'1000}).template set<typename T::RnW>(true);
    physical.template set<typename T::InputAddr>(IOVA{0x1234'0000});
    const vsmmu::Rebuilt r = rebuild_event(physical, stage1_stream());
    ASSERT_EQ(r.owner, EventOwner::guest);
    const std::optional<FWalkEabt> e = r.event.as<FWalkEabt>();
    ASSERT_TRUE(e);
    EXPECT_EQ(e->get<FWalkEabt::FetchAddr>(), 0x9000'1000u);
    EXPECT_EQ(e->get<FWalkEabt::InputAddr>(), IOVA{0x1234'0000});
    EXPECT_EQ(e->get<FWalkEabt::CLASS>(), EventClass::TT);
    EXPECT_TRUE(e->get<FWalkEabt::RnW>());
    EXPECT_FALSE(e->get<FWalkEabt::S2>());
  }
}

TYPED_TEST(TranslationFaults, NeverAskTheGuestToResume) {
  using T = TypeParam;
  T physical;
  physical.template set<typename T::CLASS>(EventClass::IN);
  physical.template set<typename T::Stall>(true).template set<typename T::STAG>(0x1234);
  const vsmmu::Rebuilt r = rebuild_event(physical, stage1_stream());
  const T e = *r.event.as<T>();
  EXPECT_FALSE(e.template get<typename T::Stall>());
  EXPECT_EQ(e.template get<typename T::STAG>(), 0u);
}

TEST(EventRebuild, SubstreamIsDroppedWithoutSsv) {
  FTranslation physical;
  physical.set<FTranslation::CLASS>(EventClass::IN).set<FTranslation::SubstreamID>(SubstreamID{5});
  EXPECT_EQ(rebuild_event(physical, stage1_stream()).event.get<Event::SubstreamID>(), SubstreamID{});
  CBadSubstreamid bad;
  bad.set<CBadSubstreamid::SubstreamID>(SubstreamID{5});
  EXPECT_EQ(rebuild_event(bad, stage1_stream()).event.get<Event::SubstreamID>(), SubstreamID{5});
}

TEST(EventRebuild, BadSteSpeaksOfTheGuestsTable) {
  const CBadSte physical;
  auto r = rebuild_event(physical, faulty({EventId::C_BAD_STE, {}}));
  EXPECT_EQ(r.owner, EventOwner::guest);
  EXPECT_EQ(r.event.id(), EventId::C_BAD_STE);

  r = rebuild_event(physical, faulty({EventId::F_STE_FETCH, IPA{0x1000'0040}}));
  ASSERT_TRUE(r.event.as<FSteFetch>());
  EXPECT_EQ(r.event.as<FSteFetch>()->get<FSteFetch::FetchAddr>(), 0x1000'0040u);

  auto facts = faulty({EventId::C_BAD_STREAMID, {}});
  r = rebuild_event(physical, facts);
  EXPECT_EQ(r.event.id(), EventId::C_BAD_STREAMID);
  facts.record_bad_streamid = false;
  EXPECT_EQ(rebuild_event(physical, facts).owner, EventOwner::quiet);

  // An STE that Weir holds valid.
  EXPECT_EQ(rebuild_event(physical, stage1_stream()).owner, EventOwner::guest);
  facts = stage1_stream();
  facts.installed.set<Ste::Config>(SteConfig::s2);
  EXPECT_EQ(rebuild_event(physical, facts).owner, EventOwner::host);
}

TEST(EventRebuild, CdFetchGetsTheGuestsPointer) {
  FCdFetch physical;
  physical.set<FCdFetch::FetchAddr>(0x8765'4000);  // a PA
  auto facts = stage1_stream();
  EXPECT_EQ(rebuild_event(physical, facts).event.as<FCdFetch>()->get<FCdFetch::FetchAddr>(), 0x4030'0040u);
  facts.installed.set<Ste::S1CDMax>(4).set<Ste::S1Fmt>(S1Fmt::two_level_64k);  // the pointer or the CD
  EXPECT_EQ(rebuild_event(physical, facts).event.as<FCdFetch>()->get<FCdFetch::FetchAddr>(), 0u);
}

TEST(EventRebuild, WalkAborts) {
  FWalkEabt physical;
  physical.set<FWalkEabt::CLASS>(EventClass::TT).set<FWalkEabt::FetchAddr>(0x8765'4008);  // a PA
  physical.set<FWalkEabt::InputAddr>(IOVA{0x1000}).set<FWalkEabt::Reason>(3);
  auto r = rebuild_event(physical, stage1_stream());
  ASSERT_EQ(r.owner, EventOwner::guest);
  EXPECT_EQ(r.event.as<FWalkEabt>()->get<FWalkEabt::FetchAddr>(), 0u);
  EXPECT_EQ(r.event.as<FWalkEabt>()->get<FWalkEabt::Reason>(), 0u);
  EXPECT_EQ(r.event.as<FWalkEabt>()->get<FWalkEabt::InputAddr>(), IOVA{0x1000});
  physical.set<FWalkEabt::S2>(true);  // Weir's own table
  EXPECT_EQ(rebuild_event(physical, stage1_stream()).owner, EventOwner::host);
}

TEST(EventRebuild, OwnersOfTheRest) {
  const auto owner = [](const Event& e) { return rebuild_event(e, stage1_stream()).owner; };
  EXPECT_EQ(owner(FUut{}), EventOwner::guest);
  EXPECT_EQ(owner(FStreamDisabled{}), EventOwner::guest);
  EXPECT_EQ(owner(CBadCd{}), EventOwner::guest);
  EXPECT_EQ(owner(EPageRequest{}), EventOwner::guest);
  EXPECT_EQ(owner(FTlbConflict{}), EventOwner::guest);
  EXPECT_EQ(owner(FTlbConflict{}.set<FTlbConflict::S2>(true)), EventOwner::host);
  EXPECT_EQ(owner(FTranslForbidden{}), EventOwner::stage2);
  EXPECT_EQ(owner(CBadStreamid{}), EventOwner::host);
  EXPECT_EQ(owner(FSteFetch{}), EventOwner::host);
  EXPECT_EQ(owner(FCfgConflict{}), EventOwner::host);
  EXPECT_EQ(owner(FVmsFetch{}), EventOwner::host);
  EXPECT_EQ(owner(FBadAtsTreq{}), EventOwner::host);
}

// --- The queue -------------------------------------------------------------------------------------------------------

class EventQueue : public ::testing::Test {
 protected:
  EventQueue() {
    EXPECT_TRUE(virt.vsmmu->attach(kVsid, *machine.smmus[0], StreamID{0x1108}));
    guest.put_ste(kVsid.value, Guest::s1_ste());
    guest.enable();
  }
  std::optional<vsmmu::EventReport> fault(std::uint64_t address = 0x1000) {
    FTranslation e;
    e.set<FTranslation::StreamID>(0x1108).set<FTranslation::CLASS>(EventClass::IN);
    e.set<FTranslation::InputAddr>(IOVA{address});
    return virt.vsmmu->handle_event(*machine.smmus[0], e);
  }
  void consume(std::uint32_t rd, bool ovack = false) {
    guest.write(Reg::EVENTQ_CONS, rd | (ovack ? EVENTQ_CONS::OVACKFLG::mask : 0));
  }

  Machine machine{2};
  Virtual virt{machine};
  Guest guest{virt};
};

TEST_F(EventQueue, RecordIndexAndInterrupt) {
  const auto report = fault(0xabc000);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->owner, EventOwner::guest);
  EXPECT_EQ(report->vsid, kVsid);
  EXPECT_EQ(guest.evtq_prod(), 1u);
  const auto e = guest.event(0).as<FTranslation>();
  ASSERT_TRUE(e);
  EXPECT_EQ(e->get<FTranslation::StreamID>(), kVsid.value);
  EXPECT_EQ(e->get<FTranslation::InputAddr>(), IOVA{0xabc000});
  EXPECT_EQ(virt.interrupts.count[vsmmu::Irq::evtq], 1u);
  fault();  // not empty any more: no second interrupt
  EXPECT_EQ(virt.interrupts.count[vsmmu::Irq::evtq], 1u);
  consume(2);
  fault();
  EXPECT_EQ(virt.interrupts.count[vsmmu::Irq::evtq], 2u);
}

TEST_F(EventQueue, TheIndexIsVisibleBeforeTheInterrupt) {
  std::uint32_t seen = 0;
  virt.interrupts.on_raise = [&](vsmmu::Irq) { seen = guest.evtq_prod(); };
  fault();
  EXPECT_EQ(seen, 1u);
}

TEST_F(EventQueue, InterruptsCanBeOff) {
  guest.write(Reg::IRQ_CTRL, 0);
  fault();
  EXPECT_EQ(guest.evtq_prod(), 1u);
  EXPECT_TRUE(virt.interrupts.count.empty());
}

TEST_F(EventQueue, OtherStreamsAreNotOurs) {
  FTranslation e;
  e.set<FTranslation::StreamID>(0x1109);
  EXPECT_FALSE(virt.vsmmu->handle_event(*machine.smmus[0], e));
  e.set<FTranslation::StreamID>(0x1108);
  EXPECT_FALSE(virt.vsmmu->handle_event(*machine.smmus[1], e));
}

TEST_F(EventQueue, Stage2FaultsAreTheCallers) {
  FTranslation e;
  e.set<FTranslation::StreamID>(0x1108).set<FTranslation::CLASS>(EventClass::IN).set<FTranslation::S2>(true);
  const auto report = virt.vsmmu->handle_event(*machine.smmus[0], e);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->owner, EventOwner::stage2);
  EXPECT_EQ(report->vsid, kVsid);
  EXPECT_EQ(guest.evtq_prod(), 0u);
  EXPECT_EQ(virt.vsmmu->counters().stage2_faults, 1u);
}

TEST_F(EventQueue, WrapsAndOverflows) {
  constexpr std::uint32_t kEntries = 1u << Guest::kLog2;
  for (std::uint32_t i = 0; i < kEntries; ++i) EXPECT_EQ(fault(i << 12)->delivery, vsmmu::Delivery::written);
  EXPECT_EQ(guest.evtq_prod(), kEntries);  // index 0, wrapped
  EXPECT_EQ(fault()->delivery, vsmmu::Delivery::overflowed);
  EXPECT_EQ(guest.evtq_prod(), kEntries | EVENTQ_PROD::OVFLG::mask);
  fault();  // a second one cannot be indicated
  EXPECT_EQ(guest.evtq_prod(), kEntries | EVENTQ_PROD::OVFLG::mask);
  consume(1);  // space, but not acknowledged
  EXPECT_EQ(fault(0x77000)->delivery, vsmmu::Delivery::written);
  EXPECT_EQ(guest.event(0).as<FTranslation>()->get<FTranslation::InputAddr>(), IOVA{0x77000});
  EXPECT_EQ(guest.evtq_prod(), (kEntries + 1) | EVENTQ_PROD::OVFLG::mask);
  consume(1, true);
  EXPECT_EQ(fault()->delivery, vsmmu::Delivery::overflowed);
  EXPECT_EQ(guest.evtq_prod(), kEntries + 1);  // toggled back
  EXPECT_EQ(virt.vsmmu->counters().events, kEntries + 1);
  EXPECT_EQ(virt.vsmmu->counters().events_lost, 3u);
}

TEST_F(EventQueue, AnInstanceThatFailsIsServiceFailureMode) {
  const auto active = [&] { return (guest.read(Reg::GERROR) ^ guest.read(Reg::GERRORN)) & GERROR::SFM_ERR::mask; };
  virt.vsmmu->instance_failed(*machine.smmus[1]);  // carries none of the guest's streams
  EXPECT_EQ(active(), 0u);
  virt.vsmmu->instance_failed(*machine.smmus[0]);
  EXPECT_NE(active(), 0u);
  EXPECT_EQ(virt.interrupts.count[vsmmu::Irq::gerror], 1u);
  virt.vsmmu->instance_failed(*machine.smmus[0]);
  EXPECT_EQ(virt.interrupts.count[vsmmu::Irq::gerror], 1u);
  guest.write(Reg::GERRORN, guest.read(Reg::GERROR));
  EXPECT_EQ(active(), 0u);
}

TEST_F(EventQueue, AQuarantineLastsUntilTheStreamIsAttachedAnew) {
  const auto installed = [&] { return machine.smmus[0]->stes[StreamID{0x1108}]; };
  ASSERT_NE(installed(), vsmmu::abort_ste());
  virt.vsmmu->quarantine(kVsid);
  EXPECT_EQ(installed(), vsmmu::abort_ste());
  guest.submit({cfgi_ste(kVsid.value), sync_none()});
  EXPECT_EQ(installed(), vsmmu::abort_ste());
  virt.vsmmu->quarantine(kVsid);
  virt.vsmmu->reset();
  EXPECT_EQ(installed(), vsmmu::abort_ste());
  ASSERT_TRUE(virt.vsmmu->detach(kVsid));
  ASSERT_TRUE(virt.vsmmu->attach(kVsid, *machine.smmus[0], StreamID{0x1108}));
  EXPECT_NE(installed(), vsmmu::abort_ste());
}

// It is called on the pCPU that took the interrupt, perhaps another VM's, while a vCPU's store owns the command side.
TEST_F(EventQueue, AQuarantineWaitsForNobody) {
  unsigned calls = 0;
  machine.drain.on_drain = [&](stage2::SmmuPort&) {
    if (++calls != 1) return;
    virt.vsmmu->quarantine(kVsid);
    EXPECT_NE(machine.smmus[0]->stes[StreamID{0x1108}], vsmmu::abort_ste());
  };
  guest.submit({sync_none()});
  machine.drain.on_drain = nullptr;
  EXPECT_GE(calls, 1u);
  EXPECT_EQ(machine.smmus[0]->stes[StreamID{0x1108}], vsmmu::abort_ste());
}

// Records that an instance has lost were meant for whichever vSMMU: each says so as if its own queue had been full (7.4).
TEST_F(EventQueue, WhatAnInstanceHasLostIsAnOverflow) {
  const auto lose = [&](unsigned smmu) { virt.vsmmu->events_lost(*machine.smmus[smmu]); };
  lose(1);  // carries none of the guest's streams
  EXPECT_EQ(guest.evtq_prod(), 0u);
  lose(0);
  EXPECT_EQ(guest.evtq_prod(), EVENTQ_PROD::OVFLG::mask);
  EXPECT_EQ(virt.interrupts.count[vsmmu::Irq::evtq], 1u);
  lose(0);  // a second one cannot be indicated
  EXPECT_EQ(guest.evtq_prod(), EVENTQ_PROD::OVFLG::mask);
  EXPECT_EQ(virt.interrupts.count[vsmmu::Irq::evtq], 1u);
  EXPECT_EQ(fault()->delivery, vsmmu::Delivery::written);  // the queue goes on
  consume(1, true);
  lose(0);
  EXPECT_EQ(guest.evtq_prod(), 1u);  // toggled back
}

TEST_F(EventQueue, NoOverflowOfAQueueThatIsOff) {
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask);
  virt.vsmmu->events_lost(*machine.smmus[0]);
  EXPECT_EQ(guest.evtq_prod(), 0u);
  EXPECT_EQ(virt.interrupts.count[vsmmu::Irq::evtq], 0u);
}

TEST_F(EventQueue, InconsistentIndexIsFull) {
  consume(0x40);  // ahead of PROD
  EXPECT_EQ(fault()->delivery, vsmmu::Delivery::overflowed);
  consume(0);
  EXPECT_EQ(fault()->delivery, vsmmu::Delivery::written);
}

TEST_F(EventQueue, DisabledDiscardsSilently) {
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask);
  EXPECT_EQ(fault()->delivery, vsmmu::Delivery::disabled);
  EXPECT_EQ(guest.evtq_prod(), 0u);
}

TEST_F(EventQueue, OutsideOfRamIsAGlobalError) {
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask);
  guest.write64(Reg::EVENTQ_BASE, 0x1000'0000 | Guest::kLog2);
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask | CR0::EVENTQEN::mask);
  EXPECT_EQ(fault()->delivery, vsmmu::Delivery::aborted);
  EXPECT_EQ(guest.evtq_prod(), 0u);
  EXPECT_EQ(guest.read(Reg::GERROR), GERROR::EVENTQ_ABT_ERR::mask);
  EXPECT_EQ(virt.interrupts.count[vsmmu::Irq::gerror], 1u);
  EXPECT_EQ(fault()->delivery, vsmmu::Delivery::disabled);
  guest.acknowledge();
  EXPECT_EQ(fault()->delivery, vsmmu::Delivery::aborted);
  EXPECT_EQ(guest.read(Reg::GERROR), 0u);
}

TEST_F(EventQueue, HugeSizesAreCapped) {
  guest.write(Reg::CR0, 0);
  guest.write64(Reg::EVENTQ_BASE, FakeMemory::kBase.value | 31);
  guest.write(Reg::EVENTQ_PROD, 0x7ffff);
  guest.write(Reg::EVENTQ_CONS, 0x7ffff);
  guest.write(Reg::CR0, CR0::EVENTQEN::mask | CR0::SMMUEN::mask);
  const auto report = fault();
  EXPECT_EQ(report->delivery, vsmmu::Delivery::written);  // 2^12 entries: within RAM
}

// --- Floods ----------------------------------------------------------------------------------------------------------

// Of whatever kind the events are; the stream is silenced without anybody's help.
TEST_F(EventQueue, AStreamThatFloodsIsSilenced) {
  const auto installed = [&] { return machine.smmus[0]->stes[StreamID{0x1108}]; };
  for (unsigned i = 0; i < vsmmu::EventBudget::kBurst; ++i) EXPECT_FALSE(fault()->flooding);
  EXPECT_EQ(installed().get<Ste::Config>(), SteConfig::s1_s2);
  EXPECT_TRUE(fault()->flooding);
  virt.vsmmu->tick();
  EXPECT_EQ(installed(), vsmmu::abort_ste());
  EXPECT_EQ(virt.vsmmu->counters().silenced, 1u);
  // Until the guest next invalidates it; then a few events more are heard.
  guest.submit({cfgi_ste(kVsid.value), sync_none()});
  EXPECT_EQ(installed().get<Ste::Config>(), SteConfig::s1_s2);
  for (unsigned i = 0; i < vsmmu::EventBudget::kFloodFloor; ++i) EXPECT_FALSE(fault()->flooding) << i;
}

TEST_F(EventQueue, TheOwnerOfTheCommandSideSilences) {
  for (unsigned i = 0; i < vsmmu::EventBudget::kBurst; ++i) EXPECT_FALSE(fault()->flooding);
  bool once = true;
  machine.smmus[0]->on_command = [&](const Command&) {  // while a store is being served
    if (!std::exchange(once, false)) return;
    EXPECT_TRUE(fault()->flooding);
    EXPECT_EQ(machine.smmus[0]->stes[StreamID{0x1108}].get<Ste::Config>(), SteConfig::s1_s2);
  };
  guest.submit({smmu::cfgi_cd_all(StreamID{kVsid.value}), sync_none()});
  EXPECT_FALSE(once);
  EXPECT_EQ(machine.smmus[0]->stes[StreamID{0x1108}], vsmmu::abort_ste());
}

// Where its events are delivered, without waiting for a clock or a store of the guest's.
TEST_F(EventQueue, AFloodIsSilencedAtOnce) {
  for (unsigned i = 0; i <= vsmmu::EventBudget::kBurst; ++i) (void)fault();
  virt.vsmmu->silence_floods();
  EXPECT_EQ(machine.smmus[0]->stes[StreamID{0x1108}], vsmmu::abort_ste());
  EXPECT_EQ(virt.vsmmu->counters().silenced, 1u);
}

// Whatever the guest does: in n ticks it hears of a burst and n refills, and its STE is replaced ever less often.
TEST_F(EventQueue, AFloodIsBoundedWhateverItsGuestSends) {
  using vsmmu::EventBudget;
  constexpr unsigned kTicks = 200;
  const auto live = [&] { return machine.smmus[0]->stes[StreamID{0x1108}].get<Ste::Config>() == SteConfig::s1_s2; };
  std::uint64_t before_budget = 0, events = 0;
  for (unsigned tick = 0; tick < kTicks; ++tick) {
    for (unsigned n = 0; n < 8; ++n) {
      guest.submit({cfgi_ste(kVsid.value), smmu::cfgi_all(), sync_none()});
      for (unsigned i = 0; i < 20'000 && live(); ++i) {
        ++events;
        if (fault()->flooding)
          virt.vsmmu->silence_floods();
        else
          ++before_budget;
      }
    }
    if (tick % 16 == 5) {  // as a driver's reset
      guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask);
      guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::SMMUEN::mask);
    }
    virt.vsmmu->tick();
  }
  EXPECT_LE(before_budget, EventBudget::kBurst + kTicks * EventBudget::kRefill);
  EXPECT_GE(before_budget, EventBudget::kBurst + kTicks * EventBudget::kRefill / 2) << "nor is it cut off for good";
  const std::uint64_t silenced = virt.vsmmu->counters().silenced;
  EXPECT_LE(events, before_budget + silenced) << "the first event beyond the budget is the last";
  EXPECT_LE(silenced, kTicks / 8);
}

// It is heard again without another command, as soon as the budget allows it.
TEST_F(EventQueue, ARepairThatCameTooEarlyTakesEffectLater) {
  const auto config = [&] { return machine.smmus[0]->stes[StreamID{0x1108}].get<Ste::Config>(); };
  for (unsigned i = 0; i <= vsmmu::EventBudget::kBurst; ++i) (void)fault();
  guest.submit({cfgi_ste(kVsid.value), sync_none()});
  EXPECT_EQ(config(), SteConfig::abort);
  EXPECT_EQ(virt.vsmmu->counters().silenced, 1u);
  virt.vsmmu->tick();
  EXPECT_EQ(config(), SteConfig::s1_s2);
  EXPECT_FALSE(fault()->flooding);
}

TEST_F(EventQueue, EventsBeyondTheBudgetCountAsLost) {
  for (unsigned i = 0; i < vsmmu::EventBudget::kBurst; ++i) {
    (void)fault();
    guest.write(Reg::EVENTQ_CONS, static_cast<std::uint32_t>(guest.read(Reg::EVENTQ_PROD)));
  }
  const std::uint64_t lost = virt.vsmmu->counters().events_lost;
  const auto before = EVENTQ_PROD{{{static_cast<std::uint32_t>(guest.read(Reg::EVENTQ_PROD))}}};
  EXPECT_TRUE(fault()->flooding);
  const auto after = EVENTQ_PROD{{{static_cast<std::uint32_t>(guest.read(Reg::EVENTQ_PROD))}}};
  EXPECT_EQ(virt.vsmmu->counters().events_lost, lost + 1);
  EXPECT_EQ(after.get<EVENTQ_PROD::WR>(), before.get<EVENTQ_PROD::WR>());
  EXPECT_NE(after.get<EVENTQ_PROD::OVFLG>(), before.get<EVENTQ_PROD::OVFLG>());
}

TEST_F(EventQueue, ASlowTrickleIsNoFlood) {
  for (unsigned second = 0; second < 60; ++second) {
    for (unsigned i = 0; i < 10 * vsmmu::EventBudget::kRefill; ++i) ASSERT_FALSE(fault()->flooding) << second;
    for (unsigned i = 0; i < 10; ++i) virt.vsmmu->tick();
  }
}

// --- Events of a configuration that has gone -------------------------------------------------------------------------

// What the physical queue still holds when the STE changes is about the old one.
TEST_F(EventQueue, ALateErrorSpeaksOfItsOwnTime) {
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask);
  guest.write64(Reg::STRTAB_BASE, 0x8000'0000);  // not RAM
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::SMMUEN::mask);
  const auto late = [&] {
    CBadSte e;
    (void)virt.vsmmu->handle_event(*machine.smmus[0], e.set<CBadSte::StreamID>(0x1108));
  };
  const std::uint32_t first = guest.evtq_prod();
  late();
  EXPECT_EQ(guest.event(first).id(), EventId::F_STE_FETCH);
  // The guest repairs it while one more is under way: drained between the new STE and the new facts.
  unsigned drained = 0;
  machine.drain.on_drain = [&](stage2::SmmuPort& port) {
    if (&port == machine.ports[0] && ++drained == 1) late();
  };
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask);
  EXPECT_EQ(drained, 1u);
  EXPECT_EQ(guest.event(first + 1).id(), EventId::F_STE_FETCH);
  late();  // and now Weir has no explanation: nothing of the guest's
  EXPECT_EQ(guest.evtq_prod(), first + 2);
}

TEST_F(EventQueue, OneErrorAfterAnother) {
  guest.put_ste(kVsid.value, Ste{});
  guest.submit({cfgi_ste(kVsid.value), sync_none()});
  EXPECT_FALSE(machine.smmus[0]->stes[StreamID{0x1108}].get<Ste::V>());
  const std::uint32_t first = guest.evtq_prod();
  bool once = true;
  machine.drain.on_drain = [&](stage2::SmmuPort&) {
    if (!std::exchange(once, false)) return;
    CBadSte e;
    (void)virt.vsmmu->handle_event(*machine.smmus[0], e.set<CBadSte::StreamID>(0x1108));
  };
  // Without a new STE: V == 0 as before, but the table has become unreadable.
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask);
  machine.drain.on_drain = nullptr;
  EXPECT_EQ(guest.event(first).id(), EventId::C_BAD_STE);
}

TEST(EventRebuild, WhileAnSteIsReplaced) {
  StreamFacts facts = stage1_stream();
  facts.previous = vsmmu::StreamConfig{SteFault{EventId::F_STE_FETCH, IPA{0x1000'0040}}, Ste{}};
  EXPECT_EQ(rebuild_event(CBadSte{}, facts).event.id(), EventId::F_STE_FETCH);
  // One pointer or the other: neither is told.
  facts.previous = vsmmu::StreamConfig{{}, facts.installed};
  EXPECT_EQ(rebuild_event(FCdFetch{}, facts).event.as<FCdFetch>()->get<FCdFetch::FetchAddr>(), 0x4030'0040u);
  facts.previous->installed.set<Ste::S1ContextPtr>(IPA{0x5000'0000});
  EXPECT_EQ(rebuild_event(FCdFetch{}, facts).event.as<FCdFetch>()->get<FCdFetch::FetchAddr>(), 0u);
  // Stage 1 has gone, a fault of it is late.
  facts.installed = vsmmu::abort_ste();
  FTranslation f;
  f.set<FTranslation::CLASS>(EventClass::IN);
  EXPECT_EQ(rebuild_event(f, facts).owner, EventOwner::guest);
  facts.previous.reset();
  EXPECT_EQ(rebuild_event(f, facts).owner, EventOwner::host);
}

TEST(EventRebuild, CdsOfSubstreams) {
  StreamFacts facts = stage1_stream();
  facts.installed.set<Ste::S1CDMax>(4).set<Ste::S1ContextPtr>(IPA{0x4030'0000});
  FCdFetch physical;
  physical.set<FCdFetch::SSV>(true).set<FCdFetch::SubstreamID>(SubstreamID{3});
  const auto at = [&] { return rebuild_event(physical, facts).event.as<FCdFetch>()->get<FCdFetch::FetchAddr>(); };
  EXPECT_EQ(at(), 0x4030'00c0u);
  facts.installed.set<Ste::S1Fmt>(S1Fmt::two_level_4k);  // the pointer or the CD
  EXPECT_EQ(at(), 0u);
}

// What a vSMMU that is off, or a stream that bypasses, would not have recorded.
TEST(EventRebuild, WithoutStage1) {
  StreamFacts facts = stage1_stream();
  facts.installed.set<Ste::Config>(SteConfig::s2);
  for (const bool on : {true, false}) {
    facts.enabled = on;
    FAddrSize size;
    size.set<FAddrSize::CLASS>(EventClass::IN);
    EXPECT_EQ(rebuild_event(size, facts).owner, on ? EventOwner::guest : EventOwner::quiet);
    EXPECT_EQ(rebuild_event(CBadSubstreamid{}, facts).owner, on ? EventOwner::guest : EventOwner::quiet);
    EXPECT_EQ(rebuild_event(EPageRequest{}, facts).owner, EventOwner::quiet);
    EXPECT_EQ(rebuild_event(FUut{}, facts).owner, EventOwner::guest);
    for (const Event& e : {Event{FCdFetch{}}, Event{CBadCd{}}, Event{FStreamDisabled{}}, Event{FWalkEabt{}},
                           Event{FTlbConflict{}}, Event{CBadSte{}}, Event{FTranslation{}}, Event{FAccess{}}})
      EXPECT_EQ(rebuild_event(e, facts).owner, EventOwner::host) << name_of(e.id());
    FTranslation s2;
    s2.set<FTranslation::S2>(true).set<FTranslation::CLASS>(EventClass::IN);
    EXPECT_EQ(rebuild_event(s2, facts).owner, EventOwner::stage2);
  }
}

TEST(EventRebuild, AtsEventsNeedAGrant) {
  StreamFacts facts = stage1_stream();
  facts.ats = true;
  EXPECT_EQ(rebuild_event(FTranslForbidden{}, facts).owner, EventOwner::guest);
  EXPECT_EQ(rebuild_event(FBadAtsTreq{}, facts).owner, EventOwner::guest);
}

// Random records of every type under random facts. The guest's never have a bit that is not on its list, an address
// that is not its own, or the host's StreamID; a stalled one is always accounted for.
TEST(EventRebuild, RandomRecordsLeakNothing) {
  std::mt19937_64 random{3};
  AllEvents::for_each([&]<typename T>(const T&) {
    for (unsigned i = 0; i < 20000; ++i) {
      T physical;
      for (auto& w : physical.words) w = random();
      physical.template set<typename T::Id>(T::kId);
      StreamFacts facts = stage1_stream();
      if (random() % 4 == 0) facts.installed.set<Ste::Config>(SteConfig::s2);
      if (random() % 4 == 0) facts.installed = vsmmu::abort_ste();
      if (random() % 4 == 0) facts = faulty({EventId::F_STE_FETCH, IPA{0x1000'0040}});
      if (random() % 4 == 0) facts.previous = vsmmu::StreamConfig{{}, stage1_stream().installed};
      facts.stall = random() % 2 == 0;
      facts.ats = random() % 2 == 0;
      facts.enabled = random() % 2 == 0;
      facts.oas_bits = 40;
      const auto r = rebuild_event(physical, facts);
      const bool stalled = vsmmu::is_stalled(physical);
      ASSERT_EQ(r.stalled.has_value(), stalled) << T::name;
      if (r.owner != EventOwner::guest) continue;
      if (vsmmu::is_stalled(r.event)) ASSERT_TRUE(facts.stall && stalled) << T::name;
      EventMask allowed = *guest_visible(r.event.id());
      allowed[0] |= Event::StreamID::mask;
      // Addresses: the guest's own table or CD, or the IPA of a stage-2 fault on what stage 1 fetched.
      const std::uint64_t fetch = r.event.words[3];
      allowed[3] |= FetchFields::FetchAddr::mask;
      ASSERT_TRUE(r.event.within(allowed)) << T::name;
      ASSERT_EQ(r.event.template get<Event::StreamID>(), kVsid.value) << T::name;
      if (fetch != 0) {
        ASSERT_TRUE(r.event.id() == EventId::F_CD_FETCH || r.event.id() == EventId::F_STE_FETCH ||
                    r.event.id() == EventId::F_WALK_EABT)
            << T::name;
        ASSERT_EQ(fetch >> 40, 0u) << T::name;
        const bool known = fetch == 0x4030'0040 || fetch == 0x1000'0040;
        ASSERT_TRUE(known || T::kId == EventId::F_TRANSLATION || T::kId == EventId::F_ADDR_SIZE ||
                    T::kId == EventId::F_ACCESS || T::kId == EventId::F_PERMISSION)
            << T::name;
      }
    }
  });
}

// --- Fairness --------------------------------------------------------------------------------------------------------

// Vcpus that execute stores again and again do not keep an administrative call out.
TEST_F(EventQueue, AdministrationIsNotStarved) {
  std::atomic<bool> stop{false};
  std::atomic<unsigned> rounds{0};
  std::vector<std::thread> vcpus;
  for (unsigned i = 0; i < 2; ++i)
    vcpus.emplace_back([&] {
      while (!stop.load()) {
        (void)virt.vsmmu->write(static_cast<std::uint32_t>(Reg::CMDQ_PROD), 4, 0);
        rounds.fetch_add(1);
      }
    });
  while (rounds.load() < 1000) std::this_thread::yield();
  for (unsigned i = 0; i < 20; ++i) {
    EXPECT_TRUE(virt.vsmmu->attach(VStreamID{0x20}, *machine.smmus[0], StreamID{0x1200}));
    EXPECT_TRUE(virt.vsmmu->detach(VStreamID{0x20}));
  }
  stop.store(true);
  for (std::thread& t : vcpus) t.join();
}

}  // namespace
}  // namespace weir::vsmmu::test
