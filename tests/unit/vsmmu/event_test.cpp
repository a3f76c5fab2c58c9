#include <gtest/gtest.h>

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
  facts.installed.set<Ste::S1CDMax>(4);  // which of 16 is not known
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
  guest.write(Reg::CR0, CR0::EVENTQEN::mask);
  const auto report = fault();
  EXPECT_EQ(report->delivery, vsmmu::Delivery::written);  // 2^12 entries: within RAM
}

TEST_F(EventQueue, AStreamThatFloodsIsSilenced) {
  guest.put_ste(kVsid.value, Ste{});
  guest.submit({cfgi_ste(kVsid.value), sync_none()});
  CBadSte e;
  e.set<CBadSte::StreamID>(0x1108);
  for (unsigned i = 0; i < vsmmu::VSmmu::kFloodLimit; ++i)
    EXPECT_FALSE(virt.vsmmu->handle_event(*machine.smmus[0], e)->flooding);
  EXPECT_TRUE(virt.vsmmu->handle_event(*machine.smmus[0], e)->flooding);
  EXPECT_TRUE(virt.vsmmu->silence(kVsid));
  EXPECT_EQ(machine.smmus[0]->stes[StreamID{0x1108}], vsmmu::abort_ste());
  // The next invalidation starts afresh.
  guest.submit({cfgi_ste(kVsid.value), sync_none()});
  EXPECT_FALSE(machine.smmus[0]->stes[StreamID{0x1108}].get<Ste::V>());
  EXPECT_FALSE(virt.vsmmu->handle_event(*machine.smmus[0], e)->flooding);
}

}  // namespace
}  // namespace weir::vsmmu::test
