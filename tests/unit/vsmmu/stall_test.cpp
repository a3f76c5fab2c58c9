// Stalled transactions end to end: the event with its tag, the guest's answer, and what Weir does without one.
#include <gtest/gtest.h>

#include "tests/unit/vsmmu/fixture.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;
using vsmmu::Delivery;
using vsmmu::kStallTicks;
using vsmmu::Stall;
using vsmmu::StallTable;

constexpr VStreamID kVsid{0x08};
constexpr StreamID kSid{0x1108};
constexpr unsigned kStallMax = 16;  // of the instance; 4 for one vSMMU

stage2::Capabilities stalling() {
  stage2::Capabilities c = qemu_like_capabilities();
  c.idr0.set<IDR0::STALL_MODEL>(StallModel::stall_and_terminate).set<IDR0::TERM_MODEL>(false);
  c.idr5.set<IDR5::STALL_MAX>(kStallMax);
  return c;
}

TEST(StallTable, OnlyWhatTheGuestHasSeenAndOfItsStream) {
  FakeSmmu smmu{0, stalling()};
  FakeSmmu other{1, stalling()};
  StallTable table;
  table.add({.port = &smmu, .sid = kSid, .stag = 7, .recorded = true});
  table.add({.port = &smmu, .sid = kSid, .stag = 8, .recorded = false});
  EXPECT_FALSE(table.take(smmu, StreamID{1}, 7));
  EXPECT_FALSE(table.take(other, kSid, 7));
  EXPECT_FALSE(table.take(smmu, kSid, 9));
  EXPECT_FALSE(table.take(smmu, kSid, 8));
  EXPECT_TRUE(table.take(smmu, kSid, 7));
  EXPECT_FALSE(table.take(smmu, kSid, 7));
  EXPECT_EQ(table.unrecorded(), 1u);
}

TEST(StallTable, AShareOfEachInstance) {
  FakeSmmu smmu{0, stalling()};
  FakeSmmu other{1, stalling()};
  StallTable table;
  for (std::uint16_t stag = 0; stag < kStallMax / 4; ++stag) {
    ASSERT_TRUE(table.has_room({.port = &smmu, .sid = kSid, .stag = stag}));
    table.add({.port = &smmu, .sid = kSid, .stag = stag});
  }
  EXPECT_FALSE(table.has_room({.port = &smmu, .sid = kSid, .stag = 99}));
  EXPECT_TRUE(table.has_room({.port = &smmu, .sid = kSid, .stag = 0}));  // the same tag again
  EXPECT_TRUE(table.has_room({.port = &other, .sid = kSid, .stag = 99}));
  table.add({.port = &smmu, .sid = kSid, .stag = 0});
  EXPECT_EQ(table.size(), kStallMax / 4);
}

TEST(StallTable, Shares) {
  EXPECT_EQ(vsmmu::stall_share(0), 1u);
  EXPECT_EQ(vsmmu::stall_share(3), 1u);
  EXPECT_EQ(vsmmu::stall_share(64), 16u);
  EXPECT_EQ(vsmmu::stall_share(65535), 64u);
}

class Stalls : public ::testing::Test {
 protected:
  Stalls() {
    EXPECT_TRUE(virt.vsmmu->attach(kVsid, smmu, kSid));
    EXPECT_TRUE(virt.vsmmu->attach(VStreamID{0x10}, smmu, StreamID{0x1110}));
    guest.put_ste(kVsid.value, Guest::s1_ste());
    guest.put_ste(0x10, Guest::s1_ste());
    guest.enable();
    smmu.forget();
  }
  std::optional<vsmmu::EventReport> stall(std::uint16_t stag, std::uint32_t sid = kSid.value) {
    FTranslation e;
    e.set<FTranslation::StreamID>(sid).set<FTranslation::CLASS>(EventClass::IN);
    e.set<FTranslation::Stall>(true).set<FTranslation::STAG>(stag).set<FTranslation::InputAddr>(IOVA{0x1000});
    return virt.vsmmu->handle_event(smmu, e);
  }
  [[nodiscard]] std::vector<Resume> resumes() const { return machine.smmus[0]->all<Resume>(); }
  [[nodiscard]] Resume only_resume() {
    const auto all = resumes();
    EXPECT_EQ(all.size(), 1u);
    smmu.forget();
    return all.empty() ? Resume{} : all[0];
  }
  [[nodiscard]] static Resume terminated(std::uint16_t stag) {
    return smmu::resume(kSid, stag, ResumeAction::terminate_abort);
  }
  [[nodiscard]] FTranslation record(std::uint32_t index) { return *guest.event(index).as<FTranslation>(); }

  Machine machine{2, stalling()};
  FakeSmmu& smmu = *machine.smmus[0];
  Virtual virt{machine};
  Guest guest{virt};
};

TEST_F(Stalls, AreAnnouncedAndLeftToTheGuest) {
  EXPECT_EQ(virt.vsmmu->announced().idr0.get<IDR0::STALL_MODEL>(), StallModel::stall_and_terminate);
  EXPECT_FALSE(smmu.stes[kSid].get<Ste::S1STALLD>());
  guest.put_ste(kVsid.value, Guest::s1_ste().set<Ste::S1STALLD>(true));
  guest.submit({cfgi_ste(kVsid.value), sync_none()});
  EXPECT_TRUE(smmu.stes[kSid].get<Ste::S1STALLD>());
}

TEST_F(Stalls, TheGuestGetsTheTagAndAnswers) {
  EXPECT_EQ(stall(0x1234)->delivery, Delivery::written);
  EXPECT_TRUE(record(0).get<FTranslation::Stall>());
  EXPECT_EQ(record(0).get<FTranslation::STAG>(), 0x1234u);
  EXPECT_TRUE(resumes().empty());
  guest.submit({smmu::resume(StreamID{kVsid.value}, 0x1234, ResumeAction::retry), sync_none()});
  EXPECT_EQ(only_resume(), smmu::resume(kSid, 0x1234, ResumeAction::retry));
  // Once is enough, and only a stall of its own.
  guest.submit({smmu::resume(StreamID{kVsid.value}, 0x1234, ResumeAction::retry), sync_none()});
  stall(5);
  guest.submit({smmu::resume(StreamID{0x10}, 5, ResumeAction::retry), sync_none()});
  guest.submit({smmu::resume(StreamID{0x77}, 5, ResumeAction::retry), sync_none()});
  guest.submit({smmu::resume(StreamID{kVsid.value}, 6, ResumeAction::retry), sync_none()});
  EXPECT_TRUE(resumes().empty());
  EXPECT_FALSE(guest.cmdq_error());
  guest.submit({smmu::resume(StreamID{kVsid.value}, 5, ResumeAction::terminate_raz_wi), sync_none()});
  EXPECT_EQ(only_resume(), smmu::resume(kSid, 5, ResumeAction::terminate_raz_wi));
}

TEST_F(Stalls, BeyondTheShareAreTerminatedAtOnce) {
  for (std::uint16_t stag = 0; stag < kStallMax / 4; ++stag) stall(stag);
  EXPECT_TRUE(resumes().empty());
  stall(50);
  EXPECT_EQ(only_resume(), terminated(50));
  EXPECT_FALSE(record(kStallMax / 4).get<FTranslation::Stall>());  // seen as a fault that terminated
  EXPECT_EQ(record(kStallMax / 4).get<FTranslation::STAG>(), 0u);
}

TEST_F(Stalls, NobodyWaitsForEver) {
  stall(1);
  for (unsigned i = 0; i + 1 < kStallTicks; ++i) virt.vsmmu->tick();
  EXPECT_TRUE(resumes().empty());
  virt.vsmmu->tick();
  EXPECT_EQ(only_resume(), terminated(1));
  guest.submit({smmu::resume(StreamID{kVsid.value}, 1, ResumeAction::retry), sync_none()});
  EXPECT_TRUE(resumes().empty());
}

TEST_F(Stalls, StallTerm) {
  stall(1);
  stall(2);
  stall(3, 0x1110);
  guest.submit({smmu::stall_term(StreamID{kVsid.value}), sync_none()});
  // One by one, since the STE does not yet abort (4.7.2).
  EXPECT_EQ(resumes(), (std::vector<Resume>{terminated(1), terminated(2)}));
  EXPECT_TRUE(smmu.all<StallTerm>().empty());
  guest.put_ste(kVsid.value, vsmmu::abort_ste());
  guest.submit({cfgi_ste(kVsid.value), sync_none(), smmu::stall_term(StreamID{kVsid.value}), sync_none()});
  EXPECT_EQ(smmu.all<StallTerm>(), (std::vector<StallTerm>{smmu::stall_term(kSid)}));
  EXPECT_EQ(resumes().size(), 2u);
}

// Not lost, no overflow, and nothing of the guest's hangs: the transaction faults again when there is room (7.2.1, 7.4).
TEST_F(Stalls, AFullQueueMakesThemLate) {
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask);
  guest.write64(Reg::EVENTQ_BASE, kEvtq.value | 0);  // one record
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask | CR0::EVENTQEN::mask);
  smmu.forget();
  EXPECT_EQ(stall(1)->delivery, Delivery::written);
  EXPECT_EQ(stall(2)->delivery, Delivery::overflowed);
  EXPECT_EQ(stall(3)->delivery, Delivery::overflowed);
  EXPECT_EQ(guest.evtq_prod() & EVENTQ_PROD::OVFLG::mask, 0u);
  EXPECT_EQ(virt.vsmmu->counters().events_lost, 0u);
  // Its tag is not the guest's to use.
  guest.submit({smmu::resume(StreamID{kVsid.value}, 2, ResumeAction::retry), sync_none()});
  EXPECT_TRUE(resumes().empty());
  guest.write(Reg::EVENTQ_CONS, 1);  // room for one
  EXPECT_EQ(only_resume(), smmu::resume(kSid, 2, ResumeAction::retry));
  EXPECT_EQ(stall(2)->delivery, Delivery::written);
  guest.write(Reg::EVENTQ_CONS, 0);  // 2 entries are consumed: index and wrap
  EXPECT_EQ(only_resume(), smmu::resume(kSid, 3, ResumeAction::retry));
}

TEST_F(Stalls, ADisabledQueueMakesThemLate) {
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask);
  smmu.forget();
  EXPECT_EQ(stall(1)->delivery, Delivery::disabled);
  virt.vsmmu->tick();
  EXPECT_TRUE(resumes().empty());
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask | CR0::EVENTQEN::mask);
  EXPECT_EQ(only_resume(), smmu::resume(kSid, 1, ResumeAction::retry));
  // And for one that is never enabled.
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask);
  stall(2);
  for (unsigned i = 0; i < kStallTicks; ++i) virt.vsmmu->tick();
  EXPECT_EQ(only_resume(), terminated(2));
}

TEST_F(Stalls, EndWithSmmuen) {
  stall(1);
  stall(2);
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask);
  EXPECT_EQ(resumes(), (std::vector<Resume>{terminated(1), terminated(2)}));
  smmu.forget();
  stall(3);  // late
  EXPECT_EQ(only_resume(), terminated(3));
}

TEST_F(Stalls, EndWithTheStream) {
  stall(1);
  EXPECT_TRUE(virt.vsmmu->detach(kVsid));
  EXPECT_EQ(only_resume(), terminated(1));
}

TEST_F(Stalls, EndWithTheStreamEvenIfUnseen) {
  EXPECT_TRUE(virt.vsmmu->detach(kVsid));
  EXPECT_EQ(smmu.all<StallTerm>(), (std::vector<StallTerm>{smmu::stall_term(kSid)}));
  EXPECT_EQ(smmu.stes[kSid], vsmmu::abort_ste());
}

TEST_F(Stalls, EndWithAReset) {
  stall(1);
  virt.vsmmu->reset();
  EXPECT_EQ(only_resume(), terminated(1));
}

// A stage-2 fault never stalls in Weir's STEs; if one did, nobody would be asked.
TEST_F(Stalls, OfStage2AreTerminated) {
  FTranslation e;
  e.set<FTranslation::StreamID>(kSid.value).set<FTranslation::CLASS>(EventClass::IN).set<FTranslation::S2>(true);
  e.set<FTranslation::Stall>(true).set<FTranslation::STAG>(9);
  EXPECT_EQ(virt.vsmmu->handle_event(smmu, e)->owner, vsmmu::EventOwner::stage2);
  EXPECT_EQ(only_resume(), terminated(9));
  e.set<FTranslation::CLASS>(EventClass::TT).set<FTranslation::STAG>(10);
  EXPECT_EQ(virt.vsmmu->handle_event(smmu, e)->owner, vsmmu::EventOwner::guest);
  EXPECT_EQ(guest.event(0).id(), EventId::F_WALK_EABT);
  EXPECT_EQ(only_resume(), terminated(10));
}

TEST_F(Stalls, AStreamThatMayNotStall) {
  EXPECT_TRUE(virt.vsmmu->attach(VStreamID{0x18}, smmu, StreamID{0x1118}, {.stall = false}));
  guest.put_ste(0x18, Guest::s1_ste());
  guest.submit({cfgi_ste(0x18), sync_none()});
  EXPECT_TRUE(smmu.stes[StreamID{0x1118}].get<Ste::S1STALLD>());
  smmu.forget();
  stall(1, 0x1118);  // whatever its reason
  EXPECT_EQ(only_resume(), smmu::resume(StreamID{0x1118}, 1, ResumeAction::terminate_abort));
  EXPECT_FALSE(record(0).get<FTranslation::Stall>());
}

}  // namespace
}  // namespace weir::vsmmu::test
