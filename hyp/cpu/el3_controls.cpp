#include "hyp/cpu/el3_controls.hpp"

#include <algorithm>

namespace weir {
namespace {

constexpr auto kBooting = Demand::booting;

constexpr El3Rule kRules[] = {
    // What booting.rst demands, for CPUs with the feature.
    {el3::kAPK_API, id::kApa, 1, kBooting},
    {el3::kAPK_API, id::kApi, 1, kBooting},
    {el3::kAPK_API, id::kGpa, 1, kBooting},
    {el3::kAPK_API, id::kGpi, 1, kBooting},
    {el3::kAPK_API, id::kGpa3, 1, kBooting},
    {el3::kAPK_API, id::kApa3, 1, kBooting},
    {el3::kATA, id::kMte, 2, kBooting},
    {el3::kFGTEn, id::kFgt, 1, kBooting},
    {el3::kFGTEn2, id::kFgt, 2, kBooting},
    {el3::kHXEn, id::kHcx, 1, kBooting},
    {el3::kGCSEn, id::kGcs, 1, kBooting},
    {el3::kEnTP2, id::kSme, 1, kBooting},
    {el3::kTCR2En, id::kTcrx, 1, kBooting},
    {el3::kPIEn, id::kS1Pie, 1, kBooting},
    {el3::kEZ, id::kSve, 1, kBooting},
    {el3::kTFP, id::kFp, 0, kBooting},
    {el3::kESM, id::kSme, 1, kBooting},
    {el3::kEZT0, id::kSmeVersion, 1, kBooting},
    {el3::kFA64, id::kSmeFa64, 8, kBooting},
    {el3::kTAM, id::kAmu, 1, kBooting},
    {el3::kTDA, id::kDebug, 0, kBooting},
    {el3::kTPM, id::kPmu, 1, kBooting, 0xe},
    {el3::kSBRBE, id::kBrbe, 1, kBooting},

    {el3::kTCPAC, id::kFp, 0, Demand::linux},
    {el3::kTDOSA, id::kDebug, 0, Demand::linux},

    // What it does not.
    {el3::kTLOR, id::kLo, 1, Demand::none},
    {el3::kTERR, id::kRas, 1, Demand::none},
    {el3::kFIEN, id::kRas, 2, Demand::none},
    {el3::kEnSCXT, id::kCsv2, 2, Demand::none},
    {el3::kEnSCXT, id::kCsv2Frac, 2, Demand::none},
    {el3::kECVEn, id::kEcv, 2, Demand::none},
    {el3::kEnAS0_ADEn, id::kLs64, 1, Demand::none},
    {el3::kTRNDR, id::kRndrTrap, 1, Demand::none},
    {el3::kRCWMASKEn, id::kThe, 1, Demand::none},
    {el3::kSCTLR2En, id::kSctlrx, 1, Demand::none},
    {el3::kPIEn, id::kS1Poe, 1, Demand::none},  // it is demanded with S1PIE alone
    {el3::kAIEn, id::kAie, 1, Demand::none},
    {el3::kD128En, id::kD128, 1, Demand::none},
    {el3::kEnFPM, id::kFpmr, 1, Demand::none},
    {el3::kPFAREn, id::kPfar, 1, Demand::none},
    {el3::kTTA, id::kTraceVersion, 1, Demand::none},
    {el3::kNSPB, id::kSpe, 1, Demand::none},
    {el3::kTTRF, id::kTraceFilter, 1, Demand::none},
    {el3::kNSTB, id::kTraceBuffer, 1, Demand::none},
    {el3::kTDCC, id::kFgt, 1, Demand::none},
    {el3::kTRAPLOWER, id::kMpam, 1, Demand::none},
    {el3::kTRAPLOWER, id::kMpamFrac, 1, Demand::none},
};

using enum FeatureRegisters;
constexpr RegisterRule kRegisters[] = {
    {hcrx, id::kHcx, 1, el3::kHXEn},         {fgt, id::kFgt, 1, el3::kFGTEn},
    {fgt2, id::kFgt, 2, el3::kFGTEn2},       {ras, id::kRas, 1},
    {tcr2, id::kTcrx, 1, el3::kTCR2En},      {s1pie, id::kS1Pie, 1, el3::kPIEn},
    {s1poe, id::kS1Poe, 1, el3::kPIEn},      {gcs, id::kGcs, 1, el3::kGCSEn},
    {pauth, id::kApa, 1, el3::kAPK_API},     {pauth, id::kApi, 1, el3::kAPK_API},
    {pauth, id::kGpa, 1, el3::kAPK_API},     {pauth, id::kGpi, 1, el3::kAPK_API},
    {pauth, id::kGpa3, 1, el3::kAPK_API},    {pauth, id::kApa3, 1, el3::kAPK_API},
    {mte, id::kMte, 2, el3::kATA},           {sve, id::kSve, 1, el3::kEZ},
    {sme, id::kSme, 1, el3::kESM},           {tpidr2, id::kSme, 1, el3::kEnTP2},
    {sme_fa64, id::kSmeFa64, 8, el3::kFA64}, {sme_zt0, id::kSmeVersion, 1, el3::kEZT0},
    {pmu, id::kPmu, 1, el3::kTPM, 0xe},      {double_lock, id::kDoubleLock, 0, el3::kTDOSA, 0},
};

template <typename Rule>
bool applies(const Rule& rule, IdSource cpu) {
  const unsigned value = id_field(cpu, rule.with);
  return value >= rule.least && value <= rule.most;
}

}  // namespace

std::span<const El3Rule> el3_rules() { return kRules; }
std::span<const RegisterRule> register_rules() { return kRegisters; }

bool is_open(El3Control control, IdSource cpu) {
  if (control.reg == El3Register::none) return true;
  bool known = false;
  bool closed = false;
  for (const El3Rule& rule : kRules) {
    if (rule.control != control) continue;
    known = true;
    if (!applies(rule, cpu)) continue;
    if (rule.demand != Demand::none) return true;
    closed = true;
  }
  return known && !closed;
}

bool may_touch(FeatureRegisters group, IdSource cpu) {
  return std::ranges::any_of(
      kRegisters, [&](const RegisterRule& r) { return r.group == group && applies(r, cpu) && is_open(r.el3, cpu); });
}

}  // namespace weir
