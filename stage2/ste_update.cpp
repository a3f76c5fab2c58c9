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

bool update_ste(const Ste& current, const Ste& target, SteSink& sink) {
  SteWords now = current.words;
  const SteWords& goal = target.words;
  const SteWords used_now = used_bits(current);
  const SteWords used_then = used_bits(target);

  // Brings the entry to `next`, but for the word `held`; says whether any word was stored.
  const auto store_all = [&](const SteWords& next, std::size_t held) {
    bool stored = false;
    for (std::size_t i = 0; i < kSteWords; ++i) {
      if (i == held || now[i] == next[i]) continue;
      sink.store(i, now[i] = next[i]);
      stored = true;
    }
    return stored;
  };
  constexpr std::size_t kNone = kSteWords;

  // What the current entry ignores can be given its final value first. What then still differs, in bits that the target
  // uses, is critical.
  SteWords prepared;
  bool prepare = false;  // or else all of it can wait until the end, and one sync is saved
  std::size_t critical = kNone;
  unsigned critical_words = 0;
  for (std::size_t i = 0; i < kSteWords; ++i) {
    prepared[i] = (now[i] & used_now[i]) | (goal[i] & ~used_now[i]);
    if (((prepared[i] ^ goal[i]) & used_then[i]) != 0) {
      critical = i;
      ++critical_words;
    } else {
      prepare = prepare || ((now[i] ^ goal[i]) & used_then[i]) != 0;
    }
  }

  if (critical_words <= 1) {
    if (prepare && store_all(prepared, critical)) sink.sync();
    if (critical != kNone) {
      sink.store(critical, now[critical] = goal[critical]);
      sink.sync();
    }
    // What the new entry ignores.
    if (store_all(goal, kNone)) sink.sync();
    return true;
  }

  // The SMMU may see the word that holds V before the others: all else is in place and synced before V is set.
  constexpr std::size_t kFirst = Ste::V::word;
  sink.store(kFirst, now[kFirst] &= ~Ste::V::mask);
  sink.sync();
  if (store_all(goal, kFirst)) sink.sync();
  sink.store(kFirst, now[kFirst] = goal[kFirst]);
  sink.sync();
  return false;
}

}  // namespace weir::stage2
