// Arm IHI 0070, 3.12.2, 4.7.1, 4.7.2: stalled transactions.
#include "tests/unit/model/fixture.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;
using State = Transaction::State;

constexpr Parameters quiet(Parameters p) {
  p.prefetches = false;
  p.evicts = false;
  return p;
}
constexpr auto kOn = CR0::SMMUEN::mask | CR0::CMDQEN::mask | CR0::EVENTQEN::mask;

// Stream 1 stalls at stage 1.
class ModelStalls : public Model {
 protected:
  void begin(std::uint64_t seed = 0, unsigned stall_max = 4) {
    Parameters p = quiet(Parameters::everything(seed));
    p.stall_max = stall_max;
    begin(p);
  }
  void begin(const Parameters& p) {
    start(p);
    t.emplace(tables());
    put_ste(1, s1(put_cd(context(t->root(), 7).set<Cd::S>(true)), 1));
  }
  Transaction issue(std::uint64_t va, bool write = false, std::uint32_t sid = 1) {
    return smmu->issue(Access{.sid = StreamID{sid}, .address = va, .write = write}, 4);
  }
  [[nodiscard]] State state(const Transaction& tr) { return smmu->transaction(tr.id).state; }
  [[nodiscard]] std::vector<FTranslation> faults() {
    settle();
    std::vector<FTranslation> all;
    const auto wr = smmu->read(Reg::EVENTQ_PROD) & 15;
    for (; rd != wr; rd = (rd + 1) & 15) {
      const auto event = memory.load<Event>(evtq + (rd & 7) * sizeof(Event));
      EXPECT_EQ(event->id(), EventId::F_TRANSLATION);
      all.push_back(event->as<FTranslation>().value_or(FTranslation{}));
    }
    smmu->write(Reg::EVENTQ_CONS, rd);
    return all;
  }
  static std::uint16_t tag(const FTranslation& f) { return f.get<FTranslation::STAG>(); }
  std::optional<Tables> t;
  std::uint32_t rd = 0;
};

TEST_F(ModelStalls, S3_12_2_WaitsUntilItIsRetried) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    rd = 0;
    begin(seed);
    const Transaction tr = issue(kVa, true);
    EXPECT_EQ(tr.state, State::stalled);
    const auto f = faults();
    ASSERT_EQ(f.size(), 1u);
    EXPECT_TRUE(f[0].get<FTranslation::Stall>());
    EXPECT_EQ(f[0].get<FTranslation::InputAddr>().value, kVa);
    EXPECT_EQ(smmu->stall_tags_used(), 1u);
    const std::uint64_t p = page();
    t->map(kVa, p);
    sync({resume(StreamID{1}, tag(f[0]), ResumeAction::retry)});
    settle();
    EXPECT_EQ(state(tr), State::passed);
    EXPECT_EQ(smmu->transaction(tr.id).address.value, p);
    EXPECT_EQ(smmu->stall_tags_used(), 0u);
    EXPECT_EQ(faults().size(), 0u);
  }
}

TEST_F(ModelStalls, S4_7_1_TerminateAndRetryThatFaultsAgain) {
  begin();
  const Transaction a = issue(kVa);
  auto f = faults();
  ASSERT_EQ(f.size(), 1u);
  sync({resume(StreamID{1}, tag(f[0]), ResumeAction::retry)});
  f = faults();
  ASSERT_EQ(f.size(), 1u) << "as though it had just arrived";
  sync({resume(StreamID{1}, tag(f[0]), ResumeAction::terminate_abort)});
  settle();
  EXPECT_EQ(state(a), State::aborted);
  const Transaction b = issue(kVa);
  f = faults();
  ASSERT_EQ(f.size(), 1u);
  sync({resume(StreamID{1}, tag(f[0]), ResumeAction::terminate_raz_wi)});
  settle();
  EXPECT_EQ(state(b), State::raz_wi);
  Parameters p = quiet(Parameters::everything());
  p.term_model = true;
  rd = 0;
  begin(p);
  const PA cd = put_cd(context(t->root(), 7).set<Cd::S>(true).set<Cd::A>(true));
  put_ste(1, s1(cd, 1));
  const Transaction c = issue(kVa);
  f = faults();
  ASSERT_EQ(f.size(), 1u);
  sync({resume(StreamID{1}, tag(f[0]), ResumeAction::terminate_raz_wi)});
  settle();
  EXPECT_EQ(state(c), State::aborted) << "TERM_MODEL";
}

TEST_F(ModelStalls, S4_7_1_OnlyTheTagOfThatStream) {
  begin();
  put_ste(2, s1(put_cd(context(t->root(), 8).set<Cd::S>(true)), 1));
  const Transaction a = issue(kVa);
  const auto f = faults();
  ASSERT_EQ(f.size(), 1u);
  sync({resume(StreamID{2}, tag(f[0]), ResumeAction::terminate_abort),
        resume(StreamID{1}, static_cast<std::uint16_t>(tag(f[0]) + 1), ResumeAction::terminate_abort),
        stall_term(StreamID{2})});
  settle();
  EXPECT_EQ(state(a), State::stalled);
  EXPECT_EQ(smmu->stall_tags_used(), 1u);
}

TEST_F(ModelStalls, IDR5_StallMax_LaterOnesWaitWithoutARecord) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    rd = 0;
    begin(seed, 2);
    std::vector<Transaction> all;
    for (std::uint64_t i = 0; i < 5; ++i) all.push_back(issue(kVa + i * kPage4K));
    auto f = faults();
    ASSERT_EQ(f.size(), 2u);
    EXPECT_EQ(smmu->stalled(), 5u);
    EXPECT_NE(tag(f[0]), tag(f[1]));
    // Each answer lets another one in.
    for (unsigned done = 0; done < 5; ++done) {
      ASSERT_FALSE(f.empty());
      sync({resume(StreamID{1}, tag(f[0]), ResumeAction::terminate_abort)});
      f.erase(f.begin());
      for (const FTranslation& more : faults()) f.push_back(more);
      EXPECT_LE(smmu->stall_tags_used(), 2u);
    }
    EXPECT_EQ(smmu->stalled(), 0u);
  }
}

TEST_F(ModelStalls, S3_12_2_1_DuplicatesMayBeSuppressedAndAreRetriedWithTheFirst) {
  unsigned suppressed = 0;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    rd = 0;
    begin(seed, 8);
    std::vector<Transaction> all;
    for (unsigned i = 0; i < 3; ++i) all.push_back(issue(kVa + i * 64));
    auto f = faults();
    ASSERT_GE(f.size(), 1u);
    suppressed += 3 - static_cast<unsigned>(f.size());
    const std::uint64_t p = page();
    t->map(kVa, p);
    for (const FTranslation& one : f) sync({resume(StreamID{1}, tag(one), ResumeAction::retry)});
    settle();
    for (const Transaction& tr : all) EXPECT_EQ(state(tr), State::passed);
    EXPECT_EQ(smmu->stall_tags_used(), 0u);
  }
  EXPECT_GT(suppressed, 10u);
}

TEST_F(ModelStalls, S7_4_StallRecordsWaitForAFullQueueAndCauseNoOverflow) {
  begin(0, 16);
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(read(100 + i, kVa), 0u);
  settle();
  const Transaction a = issue(kVa);
  sync({});
  EXPECT_EQ(smmu->read(Reg::EVENTQ_PROD), 8u) << "full, no overflow; the SYNC did not wait";
  EXPECT_EQ(state(a), State::stalled);
  rd = 8;
  smmu->write(Reg::EVENTQ_CONS, rd);
  const auto f = faults();
  ASSERT_EQ(f.size(), 1u);
  sync({resume(StreamID{1}, tag(f[0]), ResumeAction::terminate_abort)});
  settle();
  EXPECT_EQ(state(a), State::aborted);
}

TEST_F(ModelStalls, S4_7_3_ARecordThatWaitsIsNotStaleAfterASync) {
  begin(0, 16);
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(read(100 + i, kVa), 0u);
  settle();
  const Transaction a = issue(kVa);
  const std::uint64_t p = page();
  t->map(kVa, p);
  sync({tlbi_nsnh_all()});
  rd = 8;
  smmu->write(Reg::EVENTQ_CONS, rd);
  EXPECT_EQ(faults().size(), 0u) << "it was retried, and passed";
  EXPECT_EQ(state(a), State::passed);
  EXPECT_EQ(smmu->stall_tags_used(), 0u);
}

TEST_F(ModelStalls, S3_12_2_2_EarlyRetriesKeepTheTagInUse) {
  begin();
  const Transaction a = issue(kVa);
  const auto f = faults();
  ASSERT_EQ(f.size(), 1u);
  t->map(kVa, page());
  for (int i = 0; i < 2000; ++i) smmu->step();
  EXPECT_EQ(state(a), State::passed) << "nobody has asked for it";
  EXPECT_EQ(smmu->stall_tags_used(), 1u);
  sync({resume(StreamID{1}, tag(f[0]), ResumeAction::retry)});
  EXPECT_EQ(smmu->stall_tags_used(), 0u);
}

TEST_F(ModelStalls, S4_7_2_StallTermAbortsAllOfAStream) {
  begin(0, 8);
  put_ste(2, s1(put_cd(context(t->root(), 8).set<Cd::S>(true)), 1));
  std::vector<Transaction> all;
  for (std::uint64_t i = 0; i < 3; ++i) all.push_back(issue(kVa + i * kPage4K));
  const Transaction other = issue(kVa, false, 2);
  EXPECT_EQ(faults().size(), 4u);
  put_ste(1, Ste{}.set<Ste::V>(true));
  sync({cfgi_ste(StreamID{1}, true)});
  sync({stall_term(StreamID{1})});
  settle();
  for (const Transaction& tr : all) EXPECT_EQ(state(tr), State::aborted);
  EXPECT_EQ(state(other), State::stalled);
  EXPECT_EQ(smmu->stall_tags_used(), 1u);
}

TEST_F(ModelStalls, S6_3_9_6_DisablingAbortsAllAndFreesTheirTags) {
  begin(0, 8);
  const Transaction a = issue(kVa);
  EXPECT_EQ(faults().size(), 1u);
  const Transaction b = issue(kVa + kPage4K);  // its record is still on the way
  enable(CR0::CMDQEN::mask | CR0::EVENTQEN::mask);
  EXPECT_EQ(smmu->stall_tags_used(), 0u);
  settle();
  EXPECT_EQ(state(a), State::aborted);
  EXPECT_EQ(state(b), State::aborted);
  enable(kOn);
}

TEST_F(ModelStalls, S3_12_ConfigurationDecides) {
  begin();
  put_ste(2, s1(put_cd(context(t->root(), 8).set<Cd::S>(true)), 1).set<Ste::S1STALLD>(true));
  const Transaction a = issue(kVa, false, 2);
  EXPECT_NE(a.state, State::stalled) << "S1STALLD";
  put_ste(3, s1(put_cd(context(t->root(), 9).set<Cd::A>(false)), 1));
  EXPECT_EQ(issue(kVa, false, 3).state, State::raz_wi) << "CD.A == 0";
  put_ste(4, s1(put_cd(context(t->root(), 9).set<Cd::A>(true)), 1));
  EXPECT_EQ(issue(kVa, false, 4).state, State::aborted);
}

}  // namespace
}  // namespace weir::model::test
