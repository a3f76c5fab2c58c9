// Page requests, and ATS as far as a stream's STE decides about it.
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/vsmmu/fixture.hpp"
#include "vsmmu/pri_queue.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;
using vsmmu::AtsGrant;
using vsmmu::deliver_page_request;
using vsmmu::PasidRules;
using vsmmu::PriDelivered;
using vsmmu::PriQueue;

constexpr VStreamID kVsid{0x08};
constexpr StreamID kSid{0x1108};
constexpr IPA kPriq{0x4018'0000};

PriEntry request(bool last, bool pasid = false) {
  PriEntry e;
  e.set<PriEntry::StreamID>(kSid.value).set<PriEntry::PRGIndex>(0x55).set<PriEntry::R>(true);
  e.set<PriEntry::Last>(last).set<PriEntry::SSV>(pasid).set<PriEntry::SubstreamID>(SubstreamID{3});
  return e.set<PriEntry::Address>(IOVA{0x1234'5000});
}
PriEntry stop_marker() { return request(true, true).set<PriEntry::R>(false).set<PriEntry::W>(false); }
PriDelivered::Answer answer(PriResponse r, std::optional<SubstreamID> ssid = {}) { return {r, ssid}; }

TEST(PriEntries, HaveNothingOfTheHost) {
  std::mt19937_64 random{5};
  for (unsigned i = 0; i < 10000; ++i) {
    PriEntry physical{{{random(), random()}}};
    const PriEntry e = vsmmu::rebuild_page_request(physical, kVsid);
    ASSERT_EQ(e.get<PriEntry::StreamID>(), kVsid.value);
    ASSERT_EQ(e.words[0] & ~(PriEntry::Layout::guest[0] | PriEntry::StreamID::mask), 0u);
    ASSERT_EQ(e.words[1] & ~PriEntry::Layout::guest[1], 0u);
    ASSERT_EQ(e.words[1], physical.words[1] & PriEntry::Layout::guest[1]);
    ASSERT_EQ(e.get<PriEntry::Last>(), physical.get<PriEntry::Last>());
    if (!physical.get<PriEntry::SSV>()) {
      ASSERT_EQ(e.get<PriEntry::SubstreamID>(), SubstreamID{});
      ASSERT_FALSE(e.get<PriEntry::Priv>() || e.get<PriEntry::X>());
    }
  }
}

class PriQueueRules : public ::testing::Test {
 protected:
  PriQueueRules() {
    queue.enabled = true;
    queue.base.set<PRIQ_BASE::ADDR>(kPriq.value).set<PRIQ_BASE::LOG2SIZE>(1);
    queue.max_log2 = 10;
  }
  PriDelivered deliver(const PriEntry& e) {
    const PriDelivered d = deliver_page_request(queue, memory, rules, e);
    queue.prod = d.prod;
    return d;
  }
  [[nodiscard]] bool overflow() const {
    return queue.prod.get<PRIQ_PROD::OVFLG>() != queue.cons.get<PRIQ_CONS::OVACKFLG>();
  }
  FakeMemory memory;
  PriQueue queue;
  PasidRules rules{.substreams = true, .always = false, .ste_valid = true, .ste_ppar = true};
};

TEST_F(PriQueueRules, Written) {
  const auto d = deliver(request(false));
  EXPECT_TRUE(d.written && d.interrupt);
  EXPECT_FALSE(d.answer || d.abort);
  EXPECT_EQ(d.prod.get<PRIQ_PROD::WR>(), 1u);
  EXPECT_EQ(memory.get<PriEntry>(kPriq), request(false));
  EXPECT_FALSE(deliver(stop_marker()).interrupt);  // not empty any more; a marker is written like a request
  EXPECT_EQ(memory.get<PriEntry>(kPriq + 16), stop_marker());
}

TEST_F(PriQueueRules, AnInterruptPerGroup) {
  queue.irq_per_group = true;
  EXPECT_FALSE(deliver(request(false)).interrupt);
  EXPECT_TRUE(deliver(request(true)).interrupt);
  EXPECT_FALSE(deliver(request(false)).interrupt);
  EXPECT_TRUE(deliver(request(true)).interrupt);  // discarded because of an overflow: none the less
  queue.enabled = false;
  EXPECT_FALSE(deliver(request(true)).interrupt);  // for another reason: not
}

TEST_F(PriQueueRules, DisabledOrInError) {
  for (const bool error : {false, true}) {
    queue.enabled = error;
    queue.error = error;
    for (const bool last : {false, true}) {
      const auto d = deliver(request(last, true));
      EXPECT_EQ(d.answer, answer(PriResponse::failure));  // no PASID
      EXPECT_FALSE(d.written || d.interrupt);
      EXPECT_FALSE(overflow());
    }
    EXPECT_FALSE(deliver(stop_marker()).answer);
  }
}

TEST_F(PriQueueRules, Overflow) {
  (void)deliver(request(true));
  (void)deliver(request(true));
  auto d = deliver(request(false));
  EXPECT_TRUE(overflow());
  EXPECT_FALSE(d.answer || d.written);
  EXPECT_EQ(deliver(request(true)).answer, answer(PriResponse::success));
  EXPECT_TRUE(overflow());  // toggled once only
  EXPECT_FALSE(deliver(stop_marker()).answer);
  // Room alone does not help: the overflow must be acknowledged (unlike the event queue's).
  queue.cons.set<PRIQ_CONS::RD>(2);
  d = deliver(request(true));
  EXPECT_FALSE(d.written);
  EXPECT_EQ(d.answer, answer(PriResponse::success));
  queue.cons.set<PRIQ_CONS::OVACKFLG>(queue.prod.get<PRIQ_PROD::OVFLG>());
  EXPECT_TRUE(deliver(request(true)).written);
}

TEST_F(PriQueueRules, PasidsOfAutomaticResponses) {
  (void)deliver(request(true));
  (void)deliver(request(true));
  const auto response = [&](bool pasid) { return deliver(request(true, pasid)).answer; };
  const SubstreamID ssid{3};
  EXPECT_EQ(response(false), answer(PriResponse::success));
  EXPECT_EQ(response(true), answer(PriResponse::success, ssid));
  rules.ste_ppar = false;
  EXPECT_EQ(response(true), answer(PriResponse::success));
  rules.ste_valid = false;
  EXPECT_EQ(response(true), answer(PriResponse::failure));
  EXPECT_EQ(response(false), answer(PriResponse::success));
  rules.always = true;  // PPS: the STE is not looked at
  EXPECT_EQ(response(true), answer(PriResponse::success, ssid));
  rules.substreams = false;
  EXPECT_EQ(response(true), answer(PriResponse::success));
}

TEST_F(PriQueueRules, NotInRam) {
  queue.base.set<PRIQ_BASE::ADDR>(0x8000'0000);
  const auto d = deliver(request(false, true));
  EXPECT_TRUE(d.abort);
  EXPECT_FALSE(d.written || d.interrupt);
  EXPECT_EQ(d.answer, answer(PriResponse::failure));
  EXPECT_EQ(d.prod.get<PRIQ_PROD::WR>(), 0u);
}

// --- With a vSMMU ----------------------------------------------------------------------------------------------------

stage2::Capabilities with_pri() {
  stage2::Capabilities c = qemu_like_capabilities();
  c.idr0.set<IDR0::ATS>(true).set<IDR0::PRI>(true);
  c.idr1.set<IDR1::PRIQS>(10).set<IDR1::SSIDSIZE>(8);
  return c;
}
vsmmu::Config offering() {
  vsmmu::Config c;
  c.ats = c.pri = true;
  return c;
}

class PageRequests : public ::testing::Test {
 protected:
  PageRequests() {
    EXPECT_TRUE(virt.vsmmu->attach(kVsid, smmu, kSid, {.ats = AtsGrant::split_stage, .pri = true}));
    EXPECT_TRUE(virt.vsmmu->attach(VStreamID{0x10}, smmu, StreamID{0x1110}));
    guest.put_ste(kVsid.value, Guest::s1_ste().set<Ste::EATS>(Eats::full).set<Ste::PPAR>(true));
    guest.put_ste(0x10, Guest::s1_ste().set<Ste::EATS>(Eats::full));
    guest.write64(Reg::PRIQ_BASE, kPriq.value | 2);
    guest.enable(CR0::SMMUEN::mask | CR0::PRIQEN::mask | CR0::ATSCHK::mask);
    guest.write(Reg::IRQ_CTRL, 7);
    smmu.forget();
  }
  bool arrives(const PriEntry& e) { return virt.vsmmu->handle_page_request(smmu, e); }
  [[nodiscard]] std::vector<PriResp> responses() {
    auto all = smmu.all<PriResp>();
    smmu.forget();
    return all;
  }
  [[nodiscard]] Ste installed(StreamID sid = kSid) { return smmu.stes[sid]; }

  Machine machine{1, with_pri()};
  FakeSmmu& smmu = *machine.smmus[0];
  Virtual virt{machine, offering()};
  Guest guest{virt};
};

TEST_F(PageRequests, ReachTheGuestAndAreAnswered) {
  EXPECT_TRUE(arrives(request(true, true)));
  EXPECT_EQ(guest.read(Reg::PRIQ_PROD), 1u);
  EXPECT_EQ(machine.memory.get<PriEntry>(kPriq), request(true, true).set<PriEntry::StreamID>(kVsid.value));
  EXPECT_EQ(virt.interrupts.count[vsmmu::Irq::priq], 1u);
  EXPECT_TRUE(responses().empty());
  guest.submit({pri_resp(StreamID{kVsid.value}, SubstreamID{3}, 0x55, PriResponse::success), sync_none()});
  EXPECT_EQ(responses(), (std::vector<PriResp>{pri_resp(kSid, SubstreamID{3}, 0x55, PriResponse::success)}));
  // Streams without the grant, or that are not there, have no such responses.
  guest.submit({pri_resp(StreamID{0x10}, {}, 0x55, PriResponse::success),
                pri_resp(StreamID{0x99}, {}, 0x55, PriResponse::success), sync_none()});
  EXPECT_TRUE(responses().empty());
  EXPECT_FALSE(guest.cmdq_error());
}

TEST_F(PageRequests, WithoutAGrantNobodySeesThem) {
  EXPECT_FALSE(arrives(request(true).set<PriEntry::StreamID>(0x1110)));
  EXPECT_FALSE(arrives(request(true).set<PriEntry::StreamID>(0x4444)));
  EXPECT_EQ(guest.read(Reg::PRIQ_PROD), 0u);
}

TEST_F(PageRequests, ADisabledQueueFails) {
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask);
  smmu.forget();
  EXPECT_TRUE(arrives(request(true)));
  EXPECT_EQ(responses(), (std::vector<PriResp>{pri_resp(kSid, {}, 0x55, PriResponse::failure)}));
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::PRIQEN::mask);  // SMMUEN == 0 implies PRIQEN == 0
  smmu.forget();
  EXPECT_TRUE(arrives(request(true)));
  EXPECT_EQ(responses(), (std::vector<PriResp>{pri_resp(kSid, {}, 0x55, PriResponse::failure)}));
}

TEST_F(PageRequests, AnUnreachableQueueIsAnError) {
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask);
  guest.write64(Reg::PRIQ_BASE, 0x8000'0000);
  guest.write(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask | CR0::PRIQEN::mask);
  smmu.forget();
  EXPECT_TRUE(arrives(request(true)));
  EXPECT_EQ(responses(), (std::vector<PriResp>{pri_resp(kSid, {}, 0x55, PriResponse::failure)}));
  EXPECT_NE(guest.read(Reg::GERROR) & GERROR::PRIQ_ABT_ERR::mask, 0u);
  EXPECT_EQ(virt.interrupts.count[vsmmu::Irq::gerror], 1u);
  EXPECT_TRUE(arrives(request(true)));  // until it is acknowledged
  EXPECT_EQ(responses().size(), 1u);
}

TEST_F(PageRequests, ALossIsAnOverflow) {
  virt.vsmmu->page_requests_lost(smmu);
  EXPECT_EQ(guest.read(Reg::PRIQ_PROD), PRIQ_PROD::OVFLG::mask);
  EXPECT_EQ(virt.interrupts.count[vsmmu::Irq::priq], 1u);
  virt.vsmmu->page_requests_lost(smmu);
  EXPECT_EQ(guest.read(Reg::PRIQ_PROD), PRIQ_PROD::OVFLG::mask);
  EXPECT_TRUE(arrives(request(true)));
  EXPECT_EQ(responses(), (std::vector<PriResp>{pri_resp(kSid, {}, 0x55, PriResponse::success)}));
  guest.write(Reg::PRIQ_CONS, PRIQ_CONS::OVACKFLG::mask);
  EXPECT_TRUE(arrives(request(true)));
  EXPECT_EQ(guest.read(Reg::PRIQ_PROD), PRIQ_PROD::OVFLG::mask | 1u);
}

TEST_F(PageRequests, AtsIsSplitOrNothing) {
  EXPECT_EQ(installed().get<Ste::EATS>(), Eats::split_stage);
  EXPECT_TRUE(installed().get<Ste::PPAR>());
  EXPECT_EQ(installed(StreamID{0x1110}).get<Ste::EATS>(), Eats::none);
}

// When ATS goes away the device forgets, after the STE has changed.
TEST_F(PageRequests, AtcIsInvalidatedWhenAtsGoes) {
  machine.forget();
  guest.put_ste(kVsid.value, Guest::s1_ste());
  guest.submit({cfgi_ste(kVsid.value), sync_none()});
  EXPECT_EQ(smmu.all<AtcInv>(), (std::vector<AtcInv>{atc_inv_all(kSid)}));
  bool stored = false;
  for (const FakeEvent& e : machine.log) {
    if (e.kind == FakeEvent::Kind::ste) stored = true;
    if (e.kind == FakeEvent::Kind::command && e.command.opcode() == Opcode::ATC_INV) EXPECT_TRUE(stored);
  }
}

// A change of stage 2 reaches the device's cache while it has ATS, and not any longer.
TEST_F(PageRequests, Stage2ChangesReachTheDevice) {
  const auto unmap = [&] {
    machine.forget();
    ASSERT_TRUE(machine.domain->map(IPA{0x9000'0000}, PA{0x9000'0000}, 0x1000, {.read = true, .write = true}));
    ASSERT_TRUE(machine.domain->unmap(IPA{0x9000'0000}, 0x1000));
  };
  unmap();
  EXPECT_EQ(smmu.all<AtcInv>(), (std::vector<AtcInv>{atc_inv_all(kSid)}));
  EXPECT_EQ(smmu.commands.back().opcode(), Opcode::ATC_INV);  // after all that it could be refilled from
  virt.vsmmu->atc_timed_out(kVsid);
  virt.vsmmu->tick();
  unmap();
  EXPECT_TRUE(smmu.all<AtcInv>().empty());
}

TEST_F(PageRequests, ADeviceThatDoesNotAnswerIsFenced) {
  smmu.forget();
  virt.vsmmu->atc_timed_out(kVsid);
  EXPECT_EQ(installed().get<Ste::EATS>(), Eats::split_stage);  // called with locks held: nothing yet
  virt.vsmmu->tick();
  EXPECT_EQ(installed(), vsmmu::abort_ste());
  EXPECT_TRUE(smmu.all<AtcInv>().empty());  // it would not answer
  guest.submit({cfgi_ste(kVsid.value), sync_none()});
  EXPECT_EQ(installed(), vsmmu::abort_ste());
  EXPECT_FALSE(arrives(request(true)));
  virt.vsmmu->reset();
  EXPECT_EQ(installed(), vsmmu::abort_ste());
  // Until it is attached anew.
  EXPECT_TRUE(virt.vsmmu->detach(kVsid));
  EXPECT_TRUE(smmu.all<AtcInv>().empty());
  EXPECT_TRUE(virt.vsmmu->attach(kVsid, smmu, kSid, {.ats = AtsGrant::split_stage, .pri = true}));
  EXPECT_EQ(installed().get<Ste::Config>(), SteConfig::s2);
}

// Each such answer makes the device ask again, at the cost of whoever's pCPU takes the interrupt.
TEST_F(PageRequests, AQueueThatStaysFullMakesThemFailInTheEnd) {
  virt.vsmmu->page_requests_lost(smmu);
  for (unsigned i = 0; i < vsmmu::EventBudget::kBurst; ++i) ASSERT_TRUE(arrives(request(true)));
  EXPECT_EQ(responses().back(), pri_resp(kSid, {}, 0x55, PriResponse::success));
  EXPECT_TRUE(arrives(request(true)));
  EXPECT_EQ(responses(), (std::vector<PriResp>{pri_resp(kSid, {}, 0x55, PriResponse::failure)}));
  virt.vsmmu->tick();
  EXPECT_TRUE(arrives(request(true)));
  EXPECT_EQ(responses(), (std::vector<PriResp>{pri_resp(kSid, {}, 0x55, PriResponse::success)}));
  // Requests that the guest gets to see have no such bound.
  for (unsigned i = 0; i < 2 * vsmmu::EventBudget::kBurst; ++i) {
    guest.write(Reg::PRIQ_CONS, guest.read(Reg::PRIQ_PROD));
    ASSERT_TRUE(arrives(request(true)));
  }
  EXPECT_TRUE(responses().empty());
}

// What the guest asks for before the fence is up is refused with ATS, and does not take the fence's place.
TEST_F(PageRequests, AnSteInBetweenDoesNotReplaceTheFence) {
  smmu.hung.insert(kSid);
  virt.vsmmu->atc_timed_out(kVsid);
  guest.put_ste(kVsid.value, Guest::s1_ste(IPA{0x9000'0000}).set<Ste::EATS>(Eats::full));
  guest.submit({cfgi_ste(kVsid.value), sync_none()});
  EXPECT_EQ(installed(), vsmmu::abort_ste());
  guest.put_ste(kVsid.value, Guest::s1_ste());
  guest.submit({cfgi_ste(kVsid.value), sync_none()});
  EXPECT_EQ(installed(), vsmmu::abort_ste());
}

}  // namespace
}  // namespace weir::vsmmu::test
