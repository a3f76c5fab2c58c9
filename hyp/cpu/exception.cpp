#include "hyp/cpu/exception.hpp"

#include "hyp/cpu/pstate.hpp"

namespace weir {
namespace {

struct SctlrBits : Record<SctlrBits, 64> {
  using SPAN = Field<"SPAN", 23, 23, bool>;
  using DSSBS = Field<"DSSBS", 44, 44, bool>;
  using Layout = weir::Layout<64, Ignored<22, 0>, SPAN, Ignored<43, 24>, DSSBS, Ignored<63, 45>>;
};
struct GcscrBits : Record<GcscrBits, 64> {
  using EXLOCKEN = Field<"EXLOCKEN", 6, 6, bool>;
  using Layout = weir::Layout<64, Ignored<5, 0>, EXLOCKEN, Ignored<63, 7>>;
};

// Synchronous vectors (D1.3.1.4).
constexpr std::uint64_t kFromSp0 = 0x000, kFromSpx = 0x200, kFromEl0 = 0x400, kFromEl0A32 = 0x600;
constexpr std::uint64_t kVbarLow = 0x7ff;

// TakeException's steps, in the order of PSTATE's bits.
void take(ExceptionState& s) {
  Pstate old;
  old.words[0] = s.pstate;
  const bool from_a32 = old.get<Pstate::NRW>();
  const bool from_el1 = !from_a32 && old.get<Pstate::EL>() == 1;
  std::uint64_t vector = kFromEl0;
  if (from_a32) {
    vector = kFromEl0A32;
  } else if (from_el1) {
    vector = old.get<Pstate::SP>() ? kFromSpx : kFromSp0;
  }
  SctlrBits sctlr;
  sctlr.words[0] = s.sctlr_el1;
  GcscrBits gcscr;
  gcscr.words[0] = s.gcscr_el1;

  s.spsr_el1 = s.pstate;
  s.elr_el1 = s.pc;
  Pstate now;
  now.set<Pstate::NZCV>(old.get<Pstate::NZCV>());
  now.set<Pstate::DIT>(from_a32 ? old.get<Pstate::DitA32>() : old.get<Pstate::DIT>());
  const bool old_pan = old.get<Pstate::PAN>();
  now.set<Pstate::PAN>(s.has_pan && (old_pan || !sctlr.get<SctlrBits::SPAN>()));
  now.set<Pstate::SSBS>(s.has_ssbs && sctlr.get<SctlrBits::DSSBS>());
  now.set<Pstate::TCO>(s.has_mte);
  now.set<Pstate::DAIF>(Pstate::DAIF::max);
  now.set<Pstate::EXLOCK>(s.has_gcs && from_el1 && gcscr.get<GcscrBits::EXLOCKEN>());
  now.set<Pstate::EL>(1).set<Pstate::SP>(true);
  s.pstate = now.words[0];
  s.pc = (s.vbar_el1 & ~kVbarLow) | vector;
}

bool from_el1(std::uint64_t pstate) {
  Pstate p;
  p.words[0] = pstate;
  return !p.get<Pstate::NRW>() && p.get<Pstate::EL>() == 1;
}

}  // namespace

void take_undefined(ExceptionState& s, bool wide) {
  s.esr_el1 = EsrEl2{}.set<EsrEl2::EC>(ExceptionClass::unknown).set<EsrEl2::IL>(wide).words[0];
  s.far_valid = false;
  take(s);
}

void take_external_abort(ExceptionState& s, const ExternalAbort& abort) {
  const bool same = from_el1(s.pstate);
  const ExceptionClass ec = abort.instruction
                                ? (same ? ExceptionClass::instruction_abort : ExceptionClass::instruction_abort_lower)
                                : (same ? ExceptionClass::data_abort : ExceptionClass::data_abort_lower);
  AbortIss iss;
  // Synchronous external abort, not on a walk or at the level of the walk that met it.
  constexpr std::uint8_t kExternal = 0x10, kExternalOnWalk = 0x14;
  iss.set<AbortIss::FSC>(
      static_cast<std::uint8_t>(abort.walk_level >= 0 ? kExternalOnWalk + abort.walk_level : kExternal));
  iss.set<AbortIss::WNR>(abort.write && !abort.instruction);
  iss.set<AbortIss::CM>(abort.cache_maintenance);
  s.esr_el1 = EsrEl2{}.set<EsrEl2::EC>(ec).set<EsrEl2::IL>(true).set<EsrEl2::ISS>(iss.words[0]).words[0];
  s.far_el1 = abort.far;
  s.far_valid = true;
  take(s);
}

}  // namespace weir
