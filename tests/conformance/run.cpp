#include "tests/conformance/run.hpp"

#include <array>

#include "tests/conformance/cases/cases.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

template <typename R>
R id(Rig& rig, Reg reg) {
  R r;
  r.words[0] = static_cast<std::uint32_t>(rig.read(static_cast<std::uint32_t>(reg), 4));
  return r;
}

bool met(Rig& rig, Need need) {
  const auto idr0 = id<IDR0>(rig, Reg::IDR0);
  const auto idr1 = id<IDR1>(rig, Reg::IDR1);
  const auto idr3 = id<IDR3>(rig, Reg::IDR3);
  const auto idr5 = id<IDR5>(rig, Reg::IDR5);
  const auto httu = static_cast<unsigned>(idr0.get<IDR0::HTTU>());
  switch (need) {
    case Need::s2p: return idr0.get<IDR0::S2P>();
    case Need::no_s2p: return !idr0.get<IDR0::S2P>();
    case Need::hyp: return idr0.get<IDR0::Hyp>();
    case Need::no_hyp: return !idr0.get<IDR0::Hyp>();
    case Need::two_level: return idr0.get<IDR0::ST_LEVEL>() == StLevel::two_level;
    case Need::no_two_level: return idr0.get<IDR0::ST_LEVEL>() == StLevel::linear;
    case Need::ril: return idr3.get<IDR3::RIL>();
    case Need::no_ril: return !idr3.get<IDR3::RIL>();
    case Need::asid16: return idr0.get<IDR0::ASID16>();
    case Need::no_asid16: return !idr0.get<IDR0::ASID16>();
    case Need::ats: return idr0.get<IDR0::ATS>();
    case Need::no_ats: return !idr0.get<IDR0::ATS>();
    case Need::pri: return idr0.get<IDR0::PRI>();
    case Need::no_pri: return !idr0.get<IDR0::PRI>();
    case Need::msi: return idr0.get<IDR0::MSI>();
    case Need::no_msi: return !idr0.get<IDR0::MSI>();
    case Need::sev: return idr0.get<IDR0::SEV>();
    case Need::no_sev: return !idr0.get<IDR0::SEV>();
    case Need::stall: return idr0.get<IDR0::STALL_MODEL>() == StallModel::stall_and_terminate;
    case Need::no_stall: return idr0.get<IDR0::STALL_MODEL>() == StallModel::terminate_only;
    case Need::term_abort: return idr0.get<IDR0::TERM_MODEL>();
    case Need::substreams: return idr1.get<IDR1::SSIDSIZE>() != 0;
    case Need::no_substreams: return idr1.get<IDR1::SSIDSIZE>() == 0;
    case Need::cd2l: return idr0.get<IDR0::CD2L>();
    case Need::no_cd2l: return !idr0.get<IDR0::CD2L>();
    case Need::httu_access: return httu >= 1;
    case Need::httu_dirty: return httu >= 2;
    case Need::no_httu: return httu == 0;
    case Need::gran4k: return idr5.get<IDR5::GRAN4K>();
    case Need::gran16k: return idr5.get<IDR5::GRAN16K>();
    case Need::gran64k: return idr5.get<IDR5::GRAN64K>();
    case Need::no_gran16k: return !idr5.get<IDR5::GRAN16K>();
    case Need::no_gran64k: return !idr5.get<IDR5::GRAN64K>();
    case Need::little_endian: return idr0.get<IDR0::TTENDIAN>() == TtEndian::little;
    case Need::sid6: return idr1.get<IDR1::SIDSIZE>() > 6;
    case Need::version2: return id<AIDR>(rig, Reg::AIDR).get<AIDR::ArchMinorRev>() >= 2;
    case Need::fresh: return rig.can(Ability::fresh);
    case Need::reads: return rig.can(Ability::reads);
    case Need::attributes: return rig.can(Ability::attributes);
    case Need::dma_ssid: return rig.can(Ability::substreams);
    case Need::wires: return rig.can(Ability::wires);
    case Need::stalls: return rig.can(Ability::stalls);
    case Need::dma_ats: return rig.can(Ability::ats);
    case Need::page_requests: return rig.can(Ability::page_requests);
    case Need::messages: return rig.can(Ability::messages);
    case Need::wake_events: return rig.can(Ability::wake_events);
    case Need::count: break;
  }
  return true;
}

}  // namespace

std::string_view name_of(Need need) {
  static constexpr std::array<std::string_view, static_cast<unsigned>(Need::count)> kNames{
      "IDR0.S2P",
      "IDR0.S2P == 0",
      "IDR0.Hyp",
      "IDR0.Hyp == 0",
      "IDR0.ST_LEVEL",
      "IDR0.ST_LEVEL == 0",
      "IDR3.RIL",
      "IDR3.RIL == 0",
      "IDR0.ASID16",
      "IDR0.ASID16 == 0",
      "IDR0.ATS",
      "IDR0.ATS == 0",
      "IDR0.PRI",
      "IDR0.PRI == 0",
      "IDR0.MSI",
      "IDR0.MSI == 0",
      "IDR0.SEV",
      "IDR0.SEV == 0",
      "IDR0.STALL_MODEL == 0",
      "IDR0.STALL_MODEL == 1",
      "IDR0.TERM_MODEL",
      "IDR1.SSIDSIZE",
      "IDR1.SSIDSIZE == 0",
      "IDR0.CD2L",
      "IDR0.CD2L == 0",
      "IDR0.HTTU",
      "IDR0.HTTU of dirty state",
      "IDR0.HTTU == 0",
      "IDR5.GRAN4K",
      "IDR5.GRAN16K",
      "IDR5.GRAN64K",
      "IDR5.GRAN16K == 0",
      "IDR5.GRAN64K == 0",
      "IDR0.TTENDIAN little",
      "IDR1.SIDSIZE > 6",
      "AIDR of SMMUv3.2",
      "an SMMU fresh from reset",
      "devices that read",
      "devices with attributes",
      "devices with SubstreamIDs",
      "interrupts that are counted",
      "devices that may stall",
      "devices with ATS",
      "devices with PRI",
      "MSIs that are seen",
      "wake events that are counted",
  };
  return kNames[static_cast<unsigned>(need)];
}

bool Run::expect(bool ok, std::string_view what) {
  if (ok) return true;
  if (verdict_ != Verdict::fail) {
    verdict_ = Verdict::fail;
    text_.clear();
    text_.put(what);
  }
  return false;
}

bool Run::equal(std::uint64_t got, std::uint64_t expected, std::string_view what) {
  if (got == expected) return true;
  if (verdict_ != Verdict::fail) {
    verdict_ = Verdict::fail;
    text_.clear();
    text_.put(what).put(" is ").hex(got).put(", expected ").hex(expected);
  }
  return false;
}

void Run::skip(std::string_view why) {
  if (verdict_ != Verdict::pass) return;
  verdict_ = Verdict::skip;
  text_.put(why);
}

std::span<const std::span<const Case>> all_cases() {
  static const std::array<std::span<const Case>, 14> kAll{
      register_cases(), queue_cases(),     interrupt_cases(), command_cases(),  invalidation_cases(),
      stream_cases(),   context_cases(),   walk_cases(),      event_cases(),    stall_cases(),
      ats_cases(),      substream_cases(), sharing_cases(),   two_level_cases()};
  return kAll;
}

Need missing(Rig& rig, Needs needs) {
  for (unsigned n = 0; n < static_cast<unsigned>(Need::count); ++n)
    if (needs.has(static_cast<Need>(n)) && !met(rig, static_cast<Need>(n))) return static_cast<Need>(n);
  return Need::count;
}

void run(const Case& c, Run& r) {
  const Need lacking = missing(r.rig, c.needs);
  if (lacking != Need::count) {
    r.skip(name_of(lacking));
  } else {
    c.run(r);
  }
}

void print(const Case& c, const Run& r, TextBuffer& out) {
  out.put("case ").put(c.section).put(' ').put(c.name).put(": ");
  switch (r.verdict()) {
    case Verdict::pass: out.put("pass"); break;
    case Verdict::fail: out.put("fail: ").put(r.text()); break;
    case Verdict::skip: out.put("skip: ").put(r.text()); break;
  }
}

}  // namespace weir::conformance
