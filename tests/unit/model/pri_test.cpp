// Arm IHI 0070, chapter 8 and 4.5.2: page requests.
#include "tests/unit/model/fixture.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

constexpr Parameters quiet(Parameters p) {
  p.prefetches = false;
  p.evicts = false;
  return p;
}
constexpr auto kOn = CR0::SMMUEN::mask | CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::PRIQEN::mask;

class ModelPri : public Model {
 protected:
  void begin(const Parameters& p) {
    start(p);
    enable(kOn);
    put_ste(1, Ste{}.set<Ste::V>(true));
    device = &smmu->endpoint(StreamID{1});
    irqs = 0;
    smmu->on_irq = [&](unsigned which) { irqs += which == 1 ? 1 : 0; };
  }
  void begin(std::uint64_t seed = 0) { begin(quiet(Parameters::everything(seed))); }
  void request(std::uint16_t prg, bool last = true, std::optional<SubstreamID> ssid = std::nullopt) {
    device->page_request({.address = kVa, .last = last, .prg_index = prg, .ssid = ssid});
  }
  [[nodiscard]] PriEntry entry(unsigned at) { return *memory.load<PriEntry>(priq + (at & 3) * sizeof(PriEntry)); }
  [[nodiscard]] std::uint32_t wr() { return smmu->read(Reg::PRIQ_PROD); }
  // The only response, after everything has settled.
  [[nodiscard]] std::optional<PrgResponse> response() {
    settle();
    const auto all = device->responses();
    device->clear_responses();
    if (all.size() != 1) return std::nullopt;
    return all[0];
  }
  Endpoint* device = nullptr;
  unsigned irqs = 0;
};

TEST_F(ModelPri, S8_RequestsReachTheQueueLater) {
  unsigned late = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    begin(seed);
    device->page_request({.address = kVa,
                          .read = true,
                          .write = true,
                          .execute = true,
                          .privileged = true,
                          .last = true,
                          .prg_index = 0x155,
                          .ssid = SubstreamID{9}});
    late += wr() == 0 ? 1 : 0;
    settle();
    ASSERT_EQ(wr(), 1u);
    const PriEntry e = entry(0);
    EXPECT_EQ(e.get<PriEntry::StreamID>(), 1u);
    EXPECT_EQ(e.get<PriEntry::SubstreamID>(), SubstreamID{9});
    EXPECT_TRUE(e.get<PriEntry::SSV>() && e.get<PriEntry::R>() && e.get<PriEntry::W>() && e.get<PriEntry::X>() &&
                e.get<PriEntry::Priv>() && e.get<PriEntry::Last>());
    EXPECT_EQ(e.get<PriEntry::PRGIndex>(), 0x155u);
    EXPECT_EQ(e.get<PriEntry::Address>().value, kVa);
    EXPECT_TRUE(device->responses().empty());
  }
  EXPECT_GT(late, 15u);
}

TEST_F(ModelPri, S8_TheLastOfAGroupStaysBehindItsOthers) {
  unsigned reordered = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    begin(seed);
    for (std::uint64_t i = 0; i < 3; ++i)
      device->page_request({.address = kVa + i * kPage4K, .last = false, .prg_index = 1});
    request(1);
    settle();
    ASSERT_EQ(wr(), 4u);
    EXPECT_TRUE(entry(3).get<PriEntry::Last>());
    reordered += entry(0).get<PriEntry::Address>().value != kVa ? 1 : 0;
  }
  EXPECT_GT(reordered, 3u);
}

TEST_F(ModelPri, S4_5_2_Responses) {
  begin();
  submit({pri_resp(StreamID{1}, SubstreamID{9}, 5, PriResponse::success),
          pri_resp(StreamID{1}, std::nullopt, 6, PriResponse::invalid_request),
          pri_resp(StreamID{1}, std::nullopt, 7, PriResponse::failure),
          pri_resp(StreamID{2}, std::nullopt, 8, PriResponse::success)});
  settle();
  const auto& all = device->responses();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].code, PrgCode::success);
  EXPECT_EQ(all[0].prg_index, 5u);
  EXPECT_EQ(all[0].ssid, SubstreamID{9});
  EXPECT_FALSE(all[0].automatic);
  EXPECT_EQ(all[1].code, PrgCode::invalid_request);
  EXPECT_EQ(all[1].ssid, std::nullopt);
  EXPECT_EQ(all[2].code, PrgCode::failure);
  device->clear_responses();
  enable(CR0::CMDQEN::mask | CR0::EVENTQEN::mask);
  submit({pri_resp(StreamID{1}, std::nullopt, 6, PriResponse::success)});
  EXPECT_FALSE(response()) << "IGNORED while SMMUEN == 0";
}

TEST_F(ModelPri, S8_1_OverflowKeepsAllOutUntilAcknowledged) {
  begin();
  for (std::uint16_t i = 0; i < 4; ++i) request(i);
  settle();
  ASSERT_EQ(wr(), 4u);
  EXPECT_TRUE(device->responses().empty());
  request(4, false);
  EXPECT_FALSE(response()) << "not the last: silently dropped";
  EXPECT_EQ(wr(), 0x8000'0004u);
  request(5);
  auto r = response();
  ASSERT_TRUE(r);
  EXPECT_EQ(r->code, PrgCode::success);
  EXPECT_EQ(r->prg_index, 5u);
  EXPECT_TRUE(r->automatic);
  // Room alone does not do.
  smmu->write(Reg::PRIQ_CONS, 4);
  request(6);
  EXPECT_TRUE(response());
  EXPECT_EQ(wr(), 0x8000'0004u);
  device->stop_marker(SubstreamID{9});
  EXPECT_FALSE(response()) << "a stop marker gets no response";
  smmu->write(Reg::PRIQ_CONS, 0x8000'0004u);
  request(7);
  EXPECT_FALSE(response());
  EXPECT_EQ(wr(), 0x8000'0005u);
}

TEST_F(ModelPri, S8_1_ThePasidOfAnAutomaticResponse) {
  for (const bool pps : {false, true})
    for (const bool ppar : {false, true})
      for (const bool valid : {false, true}) {
        Parameters p = quiet(Parameters::everything());
        p.pps = pps;
        begin(p);
        put_ste(1, Ste{}.set<Ste::V>(valid).set<Ste::PPAR>(ppar));
        smmu->write(Reg::PRIQ_CONS, 0x8000'0000);  // an overflow that nobody has acknowledged
        request(1);
        auto r = response();
        ASSERT_TRUE(r);
        EXPECT_EQ(r->code, PrgCode::success) << "no PASID: nothing to check";
        EXPECT_EQ(r->ssid, std::nullopt);
        request(1, true, SubstreamID{9});
        r = response();
        ASSERT_TRUE(r);
        EXPECT_EQ(r->code, pps || valid ? PrgCode::success : PrgCode::failure);
        EXPECT_EQ(r->ssid.has_value(), pps || (valid && ppar));
        EXPECT_TRUE(no_event());
      }
  Parameters p = quiet(Parameters::everything());
  p.pps = false;
  start(p);
  enable(0);
  smmu->write(Reg::CR2, CR2::RECINVSID::mask | CR2::REC_CFG_ATS::mask);
  enable(kOn);
  device = &smmu->endpoint(StreamID{100});
  smmu->write(Reg::PRIQ_CONS, 0x8000'0000);
  request(1, true, SubstreamID{9});
  const auto r = response();
  ASSERT_TRUE(r);
  EXPECT_EQ(r->code, PrgCode::failure);
  EXPECT_EQ(last_event().id(), EventId::C_BAD_STREAMID);
}

TEST_F(ModelPri, S8_2_DisabledAnswersFailure) {
  begin();
  for (const std::uint64_t on : {kOn & ~CR0::PRIQEN::mask, kOn & ~CR0::SMMUEN::mask}) {
    enable(on);
    request(3, true, SubstreamID{9});
    const auto r = response();
    ASSERT_TRUE(r);
    EXPECT_EQ(r->code, PrgCode::failure);
    EXPECT_EQ(r->ssid, std::nullopt);
    device->stop_marker(SubstreamID{9});
    EXPECT_FALSE(response());
    EXPECT_EQ(wr(), 0u);
  }
}

TEST_F(ModelPri, S6_3_9_5_CommittedRequestsAreVisibleWhenADisableIsAcknowledged) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    begin(seed);
    request(1);
    request(2);
    enable(seed % 2 == 0 ? kOn & ~CR0::PRIQEN::mask : kOn & ~CR0::SMMUEN::mask);
    EXPECT_EQ(wr(), 2u);
  }
}

TEST_F(ModelPri, S8_2_AnAbortStopsTheQueue) {
  begin();
  enable(kOn & ~CR0::PRIQEN::mask);
  smmu->write64(Reg::PRIQ_BASE, 0x10'0000 | 2);
  enable(kOn);
  request(1);
  auto r = response();
  ASSERT_TRUE(r);
  EXPECT_EQ(r->code, PrgCode::failure);
  EXPECT_EQ(smmu->read(Reg::GERROR), GERROR::PRIQ_ABT_ERR::mask);
  EXPECT_EQ(wr(), 0u);
  enable(kOn & ~CR0::PRIQEN::mask);
  smmu->write64(Reg::PRIQ_BASE, priq.value | 2);
  enable(kOn);
  request(2);
  r = response();
  ASSERT_TRUE(r);
  EXPECT_EQ(r->code, PrgCode::failure) << "still active";
  smmu->write(Reg::GERRORN, smmu->read(Reg::GERROR));
  request(3);
  EXPECT_FALSE(response());
  EXPECT_EQ(wr(), 1u);
}

TEST_F(ModelPri, S6_3_36_InterruptsOnNonEmptyOrOnTheLast) {
  begin();
  smmu->write(Reg::IRQ_CTRL, IRQ_CTRL::PRIQ_IRQEN::mask);
  settle();
  request(1, false);
  request(1, true);
  settle();
  EXPECT_EQ(irqs, 1u);
  smmu->write(Reg::PRIQ_CONS, 2);
  request(2, false);
  settle();
  EXPECT_EQ(irqs, 2u);
  begin();
  const PA word = memory.allocate(kPage4K);
  smmu->write64(Reg::PRIQ_IRQ_CFG0, word.value);
  smmu->write(Reg::PRIQ_IRQ_CFG1, 0x77);
  smmu->write(Reg::PRIQ_IRQ_CFG2, PRIQ_IRQ_CFG2::LO::mask);
  smmu->write(Reg::IRQ_CTRL, IRQ_CTRL::PRIQ_IRQEN::mask);
  settle();
  request(1, false);
  settle();
  EXPECT_EQ(irqs, 0u);
  request(1, true);
  settle();
  EXPECT_EQ(irqs, 1u);
  EXPECT_EQ(memory.load<std::uint32_t>(word), 0x77u);
  for (std::uint16_t i = 2; i < 4; ++i) request(i, false);
  settle();
  request(9, true);  // discarded: the queue is full
  settle();
  EXPECT_EQ(irqs, 2u);
}

}  // namespace
}  // namespace weir::model::test
