#include "vsmmu/ste_merge.hpp"

#include <algorithm>

namespace weir::vsmmu {
namespace {

using smmu::SteConfig;
using STE = smmu::Ste;

bool substreams(const STE& vste, const MergeLimits& limits) {
  return limits.ssid_bits != 0 && vste.get<STE::S1CDMax>() != 0;
}

// Weir's own part of every valid STE.
STE own(SteConfig config) {
  STE ste;
  ste.set<STE::V>(true)
      .set<STE::Config>(config)
      .set<STE::MEV>(true)  // merged events: a flood of them hurts the host (7.3.1)
      .set<STE::SHCFG>(smmu::ShareabilityConfig::use_incoming);
  return ste;
}

STE with_stage2(STE ste, const STE& stage2, const MergeLimits& limits) {
  ste.set<STE::S2S>(limits.must_stall);  // each such fault is terminated when its event arrives
  for (std::size_t i = 0; i < ste.words.size(); ++i) ste.words[i] |= stage2.words[i];
  return ste;
}

// S1ContextPtr without the low bits that are RES0 for the size of the table (5.2): treated as zero, as one of the
// permitted behaviours.
IPA context_pointer(const STE& vste, const MergeLimits& limits) {
  const IPA at = vste.get<STE::S1ContextPtr>();
  if (!substreams(vste, limits)) return at;
  const auto log2 = static_cast<unsigned>(vste.get<STE::S1CDMax>());
  unsigned table = log2 + 6;  // log2 of its bytes: linear, CDs of 64 bytes
  if (vste.get<STE::S1Fmt>() == smmu::S1Fmt::two_level_4k) table = std::max(log2, 9U) - 3;  // pointers of 8 bytes
  if (vste.get<STE::S1Fmt>() == smmu::S1Fmt::two_level_64k) table = std::max(log2, 13U) - 7;
  return at.align_down(std::uint64_t{1} << table);
}

void take_stage1(const STE& vste, const MergeLimits& limits, STE& ste) {
  ste.set<STE::S1ContextPtr>(context_pointer(vste, limits))
      .set<STE::S1CIR>(vste.get<STE::S1CIR>())
      .set<STE::S1COR>(vste.get<STE::S1COR>())
      .set<STE::S1CSH>(vste.get<STE::S1CSH>());
  // A guest whose SMMU is not coherent may say write-back all the same (Linux does) and write CDs past its caches: an
  // instance that is coherent would find there what is older than memory.
  if (!limits.coherent)
    ste.set<STE::S1CIR>(smmu::CdCacheability::non_cacheable).set<STE::S1COR>(smmu::CdCacheability::non_cacheable);
  // Ignored fields stay 0, so that equal meanings are equal words; reserved values get their meaning.
  if (substreams(vste, limits)) {
    const auto fmt = vste.get<STE::S1Fmt>();
    const auto dss = vste.get<STE::S1DSS>();
    ste.set<STE::S1CDMax>(vste.get<STE::S1CDMax>())
        .set<STE::S1Fmt>(fmt == smmu::S1Fmt::reserved ? smmu::S1Fmt::linear : fmt)
        .set<STE::S1DSS>(dss == smmu::S1Dss::reserved ? smmu::S1Dss::terminate : dss);
  }
  // Without stalls on offer a CD with S == 1 must be C_BAD_CD for the guest, not a transaction that nobody resumes.
  if (limits.can_stall) ste.set<STE::S1STALLD>(limits.stall ? vste.get<STE::S1STALLD>() : true);
  if (vste.get<STE::EATS>() == smmu::Eats::full) {
    if (limits.ats == AtsGrant::split_stage) ste.set<STE::EATS>(smmu::Eats::split_stage);
    if (limits.ats == AtsGrant::full) ste.set<STE::EATS>(smmu::Eats::full);
  }
  if (limits.pri) ste.set<STE::PPAR>(vste.get<STE::PPAR>());
}

}  // namespace

StreamGrant effective(const StreamGrant& grant, const Announced& announced, const stage2::Capabilities& instance) {
  using smmu::IDR0;
  const auto stalls = [](const IDR0& idr0) {
    return idr0.get<IDR0::STALL_MODEL>() != smmu::StallModel::terminate_only;
  };
  StreamGrant left = grant;
  if (!announced.idr0.get<IDR0::ATS>() || !instance.idr0.get<IDR0::ATS>()) left.ats = AtsGrant::none;
  if (instance.idr0.get<IDR0::STALL_MODEL>() == smmu::StallModel::stall_forced) left.ats = AtsGrant::none;
  // NS1ATS: the instance has no split-stage ATS.
  if (left.ats == AtsGrant::split_stage && instance.idr0.get<IDR0::NS1ATS>()) left.ats = AtsGrant::none;
  if (!announced.idr0.get<IDR0::PRI>() || !instance.idr0.get<IDR0::PRI>()) left.pri = false;
  if (left.ats == AtsGrant::none) left.pri = false;
  if (!stalls(announced.idr0) || !stalls(instance.idr0)) left.stall = false;
  return left;
}

MergeLimits MergeLimits::of(const Announced& announced, const stage2::Capabilities& instance,
                            const StreamGrant& grant) {
  using smmu::IDR0;
  const StreamGrant granted = effective(grant, announced, instance);
  return {.oas_bits = announced.oas_bits(),
          .ssid_bits = static_cast<unsigned>(announced.idr1.get<smmu::IDR1::SSIDSIZE>()),
          .two_level_cd = announced.idr0.get<IDR0::CD2L>(),
          .offers_ats = announced.idr0.get<IDR0::ATS>(),
          .offers_stall = announced.idr0.get<IDR0::STALL_MODEL>() == smmu::StallModel::stall_and_terminate,
          .stall = granted.stall,
          .can_stall = instance.idr0.get<IDR0::STALL_MODEL>() == smmu::StallModel::stall_and_terminate,
          .must_stall = instance.idr0.get<IDR0::STALL_MODEL>() == smmu::StallModel::stall_forced,
          .ats = granted.ats,
          .pri = granted.pri,
          .coherent = announced.idr0.get<IDR0::COHACC>()};
}

STE abort_ste() { return own(SteConfig::abort); }

bool ste_illegal(const STE& vste, const MergeLimits& limits) {
  if (!vste.get<STE::V>()) return true;
  const auto config = vste.get<STE::Config>();
  if (smmu::is_abort(config)) return false;
  if (smmu::translates_s2(config)) return true;  // S2P == 0
  if (!smmu::translates_s1(config)) return false;
  // Split-stage ATS needs stage 2.
  if (limits.offers_ats && vste.get<STE::EATS>() == smmu::Eats::split_stage) return true;
  if (vste.get<STE::S1STALLD>() && !limits.offers_stall) return true;
  if (limits.ssid_bits != 0) {
    if (vste.get<STE::S1CDMax>() > limits.ssid_bits) return true;
    const auto fmt = vste.get<STE::S1Fmt>();
    const bool two_level = fmt == smmu::S1Fmt::two_level_4k || fmt == smmu::S1Fmt::two_level_64k;
    if (vste.get<STE::S1CDMax>() != 0 && two_level && !limits.two_level_cd) return true;
  }
  return (vste.get<STE::S1ContextPtr>().value >> limits.oas_bits) != 0;
}

Merged merge_ste(const STE& vste, GlobalState state, const MergeLimits& limits, const STE& stage2) {
  if (!state.enabled) {
    if (state.gbpa_abort) return {abort_ste(), std::nullopt};
    return {with_stage2(own(SteConfig::s2), stage2, limits), std::nullopt};
  }
  if (ste_illegal(vste, limits)) return {invalid_ste(), smmu::EventId::C_BAD_STE};
  const auto config = vste.get<STE::Config>();
  if (smmu::is_abort(config)) return {abort_ste(), std::nullopt};
  if (!smmu::translates_s1(config)) return {with_stage2(own(SteConfig::s2), stage2, limits), std::nullopt};
  STE ste = own(SteConfig::s1_s2);
  take_stage1(vste, limits, ste);
  return {with_stage2(ste, stage2, limits), std::nullopt};
}

}  // namespace weir::vsmmu
