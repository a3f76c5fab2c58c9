#include "stage2/ste_update.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace weir::stage2 {
namespace {

using smmu::Ste;
using smmu::SteConfig;

Ste aborting() { return Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::abort); }
Ste bypass() {
  Ste ste;
  ste.set<Ste::V>(true).set<Ste::Config>(SteConfig::bypass);
  return ste.set<Ste::SHCFG>(smmu::ShareabilityConfig::use_incoming);
}
Ste with_stage1(Ste ste, std::uint64_t cd = 0x1234'5000) {
  ste.set<Ste::V>(true).set<Ste::Config>(smmu::translates_s2(ste.get<Ste::Config>()) ? SteConfig::s1_s2
                                                                                     : SteConfig::s1);
  ste.set<Ste::S1ContextPtr>(IPA{cd}).set<Ste::S1CDMax>(6).set<Ste::S1DSS>(smmu::S1Dss::terminate);
  ste.set<Ste::S1CIR>(smmu::CdCacheability::write_back_ra).set<Ste::S1COR>(smmu::CdCacheability::write_back_ra);
  return ste.set<Ste::S1CSH>(smmu::Shareability::inner);
}
Ste stage1() { return with_stage1(Ste{}.set<Ste::S2VMID>(VMID{5})); }  // which tags stage 1 alone, too
Ste stage2(std::uint16_t vmid = 5) {
  Ste ste;
  ste.set<Ste::V>(true).set<Ste::Config>(SteConfig::s2).set<Ste::SHCFG>(smmu::ShareabilityConfig::use_incoming);
  ste.set<Ste::S2VMID>(VMID{vmid}).set<Ste::S2T0SZ>(24).set<Ste::S2SL0>(1).set<Ste::S2AA64>(true).set<Ste::S2R>(true);
  return ste.set<Ste::S2TTB>(PA{0x4567'8000});
}
Ste nested(std::uint64_t cd = 0x1234'5000) { return with_stage1(stage2(), cd); }

// The live entry. At each point the SMMU may see any mixture of the words stored since the last sync and of those
// before: each such mixture must behave as the old entry, as the new one, or (unless the update is hitless) be invalid.
class Live final : public SteSink {
 public:
  Live(const Ste& from, const Ste& to) : from_{from}, to_{to}, synced{from}, memory{from} {}

  void store(std::size_t word, std::uint64_t value) override {
    ASSERT_LT(word, kSteWords);
    EXPECT_EQ(memory.words[word], synced.words[word]) << "one word stored twice between two syncs";
    memory.words[word] = value;
    ++stores;
    check();
  }
  void sync() override {
    EXPECT_NE(memory, synced) << "a sync for nothing";
    synced = memory;
    ++syncs;
  }

  void also(const Ste& step) { steps_.push_back(step); }

  unsigned syncs = 0, stores = 0;
  bool invalid = false;  // was seen with V = 0 although neither entry has it

 private:
  static bool behaves_as(const Ste& seen, const Ste& entry) {
    const SteWords used = used_bits(entry);
    for (std::size_t i = 0; i < kSteWords; ++i)
      if (((seen.words[i] ^ entry.words[i]) & used[i]) != 0) return false;
    return true;
  }
  void check() {
    for (unsigned mixture = 0; mixture < (1u << kSteWords); ++mixture) {
      Ste seen = synced;
      bool possible = true;
      for (std::size_t i = 0; i < kSteWords; ++i) {
        if ((mixture >> i & 1) == 0) continue;
        possible = possible && memory.words[i] != synced.words[i];
        seen.words[i] = memory.words[i];
      }
      if (!possible || behaves_as(seen, from_) || behaves_as(seen, to_)) continue;
      if (std::ranges::any_of(steps_, [&](const Ste& step) { return behaves_as(seen, step); })) continue;
      EXPECT_FALSE(seen.get<Ste::V>()) << "the SMMU may see a mixture of both entries";
      invalid = true;
    }
  }

  Ste from_, to_;
  std::vector<Ste> steps_;  // in between

 public:
  Ste synced, memory;
};

struct Outcome {
  unsigned syncs;
  bool hitless;
};

Outcome run(const Ste& from, const Ste& to) {
  Live live{from, to};
  for (Ste step : {from, to}) live.also(step.set<Ste::EATS>(smmu::Eats::none));
  const bool hitless = update_ste(from, to, live);
  EXPECT_EQ(live.memory, to);
  EXPECT_EQ(live.synced, to) << "the last stores were not synced";
  EXPECT_EQ(live.invalid, !hitless) << "V = 0 if and only if it was unavoidable";
  return {live.syncs, hitless};
}

struct Case {
  const char* name;
  Ste from, to;
  unsigned syncs;
  bool hitless;
};

TEST(SteUpdate, NumberOfSyncs) {
  Ste dss = stage1();
  dss.set<Ste::S1DSS>(smmu::S1Dss::substream0);
  Ste other_domain = stage2(6);
  other_domain.set<Ste::S2TTB>(PA{0x9999'0000});
  Ste stalled = nested(0x8888'0000);
  stalled.set<Ste::S1STALLD>(true);
  Ste ats = stage1();
  ats.set<Ste::EATS>(smmu::Eats::full);
  const Case cases[] = {
      {"invalid to abort", Ste{}, aborting(), 1, true},
      {"invalid to nested", Ste{}, nested(), 2, true},
      {"nested to invalid", nested(), Ste{}, 2, true},
      {"bypass to abort", bypass(), aborting(), 2, true},
      {"abort to bypass", aborting(), bypass(), 2, true},
      {"stage 1 to abort", stage1(), aborting(), 2, true},
      {"abort to stage 1", aborting(), stage1(), 2, true},
      {"stage 2 to abort", stage2(), aborting(), 2, true},
      {"abort to stage 2", aborting(), stage2(), 2, true},
      {"stage 2 to bypass", stage2(), bypass(), 2, true},
      {"bypass to stage 2", bypass(), stage2(), 2, true},
      {"stage 1 to bypass", stage1(), bypass(), 3, true},
      {"bypass to stage 1", bypass(), stage1(), 3, true},
      {"stage 1 to stage 2", stage1(), stage2(), 3, true},
      {"S1DSS", stage1(), dss, 1, true},
      {"other CD table", nested(), nested(0x8888'0000), 1, true},
      {"nothing", nested(), nested(), 0, true},
      // Two words in use change at once.
      {"other domain", stage2(), other_domain, 3, false},
      {"other CD table and S1STALLD", nested(), stalled, 3, false},
      // But for ATS, which is taken out of the way.
      {"stage 2 to stage 1 with ATS", stage2(), ats, 4, true},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const Outcome outcome = run(c.from, c.to);
    EXPECT_EQ(outcome.syncs, c.syncs);
    EXPECT_EQ(outcome.hitless, c.hitless);
  }
}

// Weir's own transitions: the guest attaches and detaches a stream under a stage 2 that stays.
TEST(SteUpdate, GuestTransitionsAreHitless) {
  EXPECT_TRUE(run(stage2(), nested()).hitless);
  EXPECT_EQ(run(stage2(), nested()).syncs, 2u);
  EXPECT_TRUE(run(nested(), stage2()).hitless);
  EXPECT_EQ(run(nested(), stage2()).syncs, 2u);
  EXPECT_TRUE(run(aborting(), nested()).hitless);
  EXPECT_TRUE(run(nested(), aborting()).hitless);
}

// And with what a guest may change: ATS comes last and goes first, with EATS == 0 in between.
TEST(SteUpdate, EveryTransitionOfAGuest) {
  using smmu::Eats;
  using smmu::S1Dss;
  const auto with = [](Ste ste, auto set) {
    set(ste);
    return ste;
  };
  Ste plain = nested();
  plain.set<Ste::S1CDMax>(0).set<Ste::S1DSS>(S1Dss::terminate);
  const auto split = [](Ste& s) { s.set<Ste::EATS>(Eats::split_stage); };
  const std::vector<Ste> entries{
      aborting(),
      stage2(),
      plain,
      nested(),
      nested(0x8888'0000),
      with(nested(), [](Ste& s) { s.set<Ste::S1DSS>(S1Dss::substream0); }),
      with(nested(), [](Ste& s) { s.set<Ste::S1DSS>(S1Dss::bypass); }),
      with(plain, split),
      with(nested(), split),
      with(nested(0x8888'0000), split),
  };
  for (std::size_t i = 0; i < entries.size(); ++i)
    for (std::size_t j = 0; j < entries.size(); ++j) {
      SCOPED_TRACE(std::to_string(i) + " to " + std::to_string(j));
      const Ste& from = entries[i];
      const Ste& to = entries[j];
      // In between, the old or the new entry without ATS.
      Live live{from, to};
      Ste from0 = from, to0 = to;
      live.also(from0.set<Ste::EATS>(Eats::none));
      live.also(to0.set<Ste::EATS>(Eats::none));
      const bool hitless = update_ste(from, to, live);
      EXPECT_EQ(live.memory, to);
      EXPECT_EQ(live.synced, to);
      EXPECT_EQ(live.invalid, !hitless);
      // Substreams with another default and another table at once: two words, unless ATS is the second.
      const bool two = from.get<Ste::S1CDMax>() != 0 && to.get<Ste::S1CDMax>() != 0 &&
                       from.get<Ste::S1DSS>() != to.get<Ste::S1DSS>() &&
                       from.get<Ste::S1ContextPtr>() != to.get<Ste::S1ContextPtr>();
      EXPECT_EQ(hitless, !two);
      EXPECT_LE(live.syncs, from.get<Ste::EATS>() == to.get<Ste::EATS>() && !two ? 3u : 4u);
    }
  // Not more than it takes.
  EXPECT_EQ(run(nested(), with(nested(), split)).syncs, 1u);
  EXPECT_EQ(run(with(nested(), split), nested()).syncs, 1u);
}

TEST(SteUpdate, RandomEntries) {
  std::mt19937_64 random{7};
  const std::function<Ste()> make[] = {[] { return Ste{}; },   aborting, bypass, stage1, [] { return stage2(); },
                                       [] { return nested(); }};
  unsigned hitless = 0, broken = 0;
  for (int i = 0; i < 20000; ++i) {
    Ste from = make[random() % 6](), to = make[random() % 6]();
    // A few random bits, in both or in one of them.
    for (unsigned n = random() % 4; n != 0; --n) {
      const std::size_t word = random() % kSteWords;
      const std::uint64_t bits = random() & random() & random() & ~(word == 0 ? std::uint64_t{0xf} : 0);
      if (random() % 2 == 0) from.words[word] ^= bits;
      to.words[word] ^= bits;
    }
    const Outcome outcome = run(from, to);
    EXPECT_LE(outcome.syncs, outcome.hitless ? 5u : 3u);
    ++(outcome.hitless ? hitless : broken);
    if (HasFailure()) return;
  }
  EXPECT_GT(hitless, 1000u);
  EXPECT_GT(broken, 100u);
}

// IHI 0070 5.2: what is IGNORED when.
TEST(UsedBits, FollowTheSpecification) {
  const auto uses = []<typename F>(const Ste& ste, F) { return (used_bits(ste)[F::word] & F::mask) != 0; };
  EXPECT_FALSE(uses(Ste{}, Ste::Config{}));
  EXPECT_TRUE(uses(Ste{}, Ste::V{}));
  EXPECT_FALSE(uses(aborting(), Ste::S1ContextPtr{}));
  EXPECT_FALSE(uses(aborting(), Ste::SHCFG{}));
  EXPECT_TRUE(uses(aborting(), Ste::CONT{}));
  EXPECT_TRUE(uses(bypass(), Ste::SHCFG{}));
  EXPECT_TRUE(uses(bypass(), Ste::PRIVCFG{}));
  EXPECT_FALSE(uses(bypass(), Ste::S2VMID{}));
  EXPECT_FALSE(uses(bypass(), Ste::EATS{}));
  EXPECT_TRUE(uses(stage1(), Ste::S2VMID{}));  // tags the entries of stage 1 alone, too
  EXPECT_FALSE(uses(stage1(), Ste::S2TTB{}));
  EXPECT_FALSE(uses(stage1(), Ste::SHCFG{}));
  EXPECT_TRUE(uses(stage1(), Ste::S1DSS{}));
  EXPECT_TRUE(uses(stage1().set<Ste::S1DSS>(smmu::S1Dss::bypass), Ste::SHCFG{}));
  EXPECT_FALSE(uses(stage1().set<Ste::S1CDMax>(0), Ste::S1DSS{}));
  EXPECT_FALSE(uses(stage1().set<Ste::S1CDMax>(0), Ste::S1Fmt{}));
  EXPECT_TRUE(uses(stage1().set<Ste::S1CDMax>(0), Ste::S1CDMax{}));
  EXPECT_TRUE(uses(stage1(), Ste::STRW{}));
  EXPECT_FALSE(uses(nested(), Ste::STRW{}));
  EXPECT_TRUE(uses(stage2(), Ste::SHCFG{}));
  EXPECT_TRUE(uses(stage2(), Ste::S2TTB{}));
  EXPECT_FALSE(uses(stage2(), Ste::S1ContextPtr{}));
  EXPECT_TRUE(uses(nested(), Ste::S1ContextPtr{}));
  EXPECT_TRUE(uses(nested(), Ste::S2PTW{}));
  EXPECT_FALSE(uses(nested(), Ste::SW_RESERVED{}));
}

}  // namespace
}  // namespace weir::stage2
