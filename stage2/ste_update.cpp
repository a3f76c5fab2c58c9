#include "stage2/ste_update.hpp"

namespace weir::stage2 {

namespace {

using smmu::Ste;

template <typename... Fields>
void ignore(SteWords& used) {
  ((used[Fields::word] &= ~Fields::mask), ...);
}

template <typename... Fields>
SteWords only() {
  SteWords used{};
  ((used[Fields::word] |= Fields::mask), ...);
  return used;
}

void ignore_stage1(SteWords& used) {
  ignore<Ste::S1Fmt, Ste::S1ContextPtr, Ste::S1CDMax, Ste::S1DSS, Ste::S1CIR, Ste::S1COR, Ste::S1CSH, Ste::S1PIE,
         Ste::S1MPAM, Ste::S1STALLD>(used);
}

// All but S2VMID, which tags the TLB entries of stage 1 alone too, and S2S, which a check of EATS may look at.
void ignore_stage2(SteWords& used) {
  ignore<Ste::S2HWU59, Ste::S2HWU60, Ste::S2HWU61, Ste::S2HWU62, Ste::S2FWB>(used);
  ignore<Ste::S2T0SZ, Ste::S2SL0, Ste::S2IR0, Ste::S2OR0, Ste::S2SH0, Ste::S2TG, Ste::S2PS, Ste::S2AA64, Ste::S2ENDI,
         Ste::S2AFFD, Ste::S2PTW, Ste::S2HD, Ste::S2HA, Ste::S2R, Ste::S2HAFT, Ste::S2PIE, Ste::S2POE>(used);
  ignore<Ste::S2SL0_2, Ste::S2DS, Ste::S2TTB, Ste::S2SKL, Ste::S2POI>(used);
}

}  // namespace

// What the specification does not call IGNORED counts as used: a bit too many costs a step, one too few is a bug.
SteWords used_bits(const Ste& ste) {
  if (!ste.get<Ste::V>()) return only<Ste::V>();
  const auto config = ste.get<Ste::Config>();
  if (smmu::is_abort(config)) return only<Ste::V, Ste::Config, Ste::CONT>();

  const bool stage1 = smmu::translates_s1(config);
  const bool stage2 = smmu::translates_s2(config);
  const bool substreams = stage1 && ste.get<Ste::S1CDMax>() != 0;

  SteWords used;
  used.fill(~std::uint64_t{0});
  ignore<Ste::SW_RESERVED>(used);
  if (!stage1) ignore_stage1(used);
  if (!substreams) ignore<Ste::S1Fmt, Ste::S1DSS>(used);
  if (!stage2) ignore_stage2(used);
  if (!stage1 && !stage2) ignore<Ste::S2VMID, Ste::S2S, Ste::EATS>(used);
  if (!stage1 || stage2) ignore<Ste::STRW>(used);
  // Stage 1 gives shareability from its descriptors, unless traffic may pass it by (13.5).
  if (stage1 && !(substreams && ste.get<Ste::S1DSS>() == smmu::S1Dss::bypass)) ignore<Ste::SHCFG>(used);
  return used;
}

namespace {

constexpr std::size_t kNone = kSteWords;

// How to get from one entry to another without V = 0.
struct Plan {
  explicit Plan(const SteWords& now, const Ste& current, const Ste& target) {
    const SteWords used_now = used_bits(current);
    const SteWords used_then = used_bits(target);
    for (std::size_t i = 0; i < kSteWords; ++i) {
      prepared[i] = (now[i] & used_now[i]) | (target.words[i] & ~used_now[i]);
      if (((prepared[i] ^ target.words[i]) & used_then[i]) != 0) {
        critical = i;
        ++critical_words;
      } else {
        prepare = prepare || ((now[i] ^ target.words[i]) & used_then[i]) != 0;
      }
    }
  }
  // What the current entry ignores can be given its final value first. What then still differs, in bits that the target
  // uses, is critical.
  SteWords prepared{};
  bool prepare = false;  // or else all of it can wait until the end, and one sync is saved
  std::size_t critical = kNone;
  unsigned critical_words = 0;
};

class Entry {
 public:
  Entry(const Ste& current, SteSink& sink) : now_{current}, sink_{sink} {}

  // Brings the entry to `next`, but for the word `held`; says whether any word was stored.
  bool store_all(const SteWords& next, std::size_t held = kNone) {
    bool stored = false;
    for (std::size_t i = 0; i < kSteWords; ++i) {
      if (i == held || now_.words[i] == next[i]) continue;
      store(i, next[i]);
      stored = true;
    }
    return stored;
  }
  void store(std::size_t word, std::uint64_t value) { sink_.store(word, now_.words[word] = value); }
  void sync() { sink_.sync(); }
  [[nodiscard]] const Ste& now() const { return now_; }

  // False, with nothing done, if more than one word in use has to change at once. The caller stores what is left to be
  // done to ignored bits (`goal` has them, too) and syncs.
  [[nodiscard, gnu::noinline]] bool hitless(const Ste& goal) {
    const Plan plan{now_.words, now_, goal};
    if (plan.critical_words > 1) return false;
    if (plan.prepare && store_all(plan.prepared, plan.critical)) sync();
    if (plan.critical != kNone) {
      store(plan.critical, goal.words[plan.critical]);
      sync();
    }
    return true;
  }

 private:
  Ste now_;
  SteSink& sink_;
};

bool one_word(const Ste& from, const Ste& to) { return Plan{from.words, from, to}.critical_words <= 1; }

}  // namespace

bool update_ste(const Ste& current, const Ste& target, SteSink& sink) {
  Entry entry{current, sink};
  const SteWords& goal = target.words;
  const auto finish = [&] {  // what the new entry ignores
    if (entry.store_all(goal)) entry.sync();
    return true;
  };
  if (entry.hitless(target)) return finish();

  // EATS lies in another word than Config and the context pointer, and may be 0 in any entry: ATS goes first and comes
  // last.
  Ste without = target;
  without.set<Ste::EATS>(smmu::Eats::none);
  Ste before = current;
  before.set<Ste::EATS>(smmu::Eats::none);
  if (one_word(current, before) && one_word(before, without) && one_word(without, target)) {
    for (const Ste* next : {static_cast<const Ste*>(&before), static_cast<const Ste*>(&without), &target})
      (void)entry.hitless(*next);
    return finish();
  }

  // The SMMU may see the word that holds V before the others: all else is in place and synced before V is set.
  constexpr std::size_t kFirst = Ste::V::word;
  entry.store(kFirst, entry.now().words[kFirst] & ~Ste::V::mask);
  entry.sync();
  if (entry.store_all(goal, kFirst)) entry.sync();
  entry.store(kFirst, goal[kFirst]);
  entry.sync();
  return false;
}

}  // namespace weir::stage2
