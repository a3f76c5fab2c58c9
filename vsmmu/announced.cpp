#include "vsmmu/announced.hpp"

#include <algorithm>
#include <optional>

#include "vsmmu/stalls.hpp"

namespace weir::vsmmu {
namespace {

using smmu::IDR0;
using smmu::IDR1;
using smmu::IDR3;
using smmu::IDR5;

// The largest encodable address size that is not above `bits`.
smmu::AddressSize at_most(unsigned bits) {
  auto size = smmu::AddressSize::bits32;
  for (unsigned e = 0; e < 8; ++e)
    if (smmu::bits(static_cast<smmu::AddressSize>(e)) <= bits) size = static_cast<smmu::AddressSize>(e);
  return size;
}

std::optional<std::string_view> missing(const stage2::Capabilities& c) {
  if (!c.idr0.get<IDR0::S1P>()) return "IDR0.S1P";
  if (!c.idr0.get<IDR0::S2P>()) return "IDR0.S2P";
  const auto ttf = c.idr0.get<IDR0::TTF>();
  if (ttf != smmu::TtFormat::aarch64 && ttf != smmu::TtFormat::both) return "IDR0.TTF (AArch64)";
  if (c.idr0.get<IDR0::TTENDIAN>() == smmu::TtEndian::big) return "IDR0.TTENDIAN (little-endian)";
  return std::nullopt;
}

constexpr std::uint64_t kGranules = IDR5::GRAN4K::mask | IDR5::GRAN16K::mask | IDR5::GRAN64K::mask;

// What all instances have: the AND of flags, the least of what may be small, the most of what binds the guest.
struct Common {
  std::uint64_t idr0 = ~std::uint64_t{0};
  std::uint64_t idr3 = ~std::uint64_t{0};
  std::uint64_t idr5 = ~std::uint64_t{0};
  bool some_ranges = false;  // IDR3.RIL of at least one: emulated on the others
  bool mixed_endian = true;
  bool term_model = false;  // for all as soon as for one: the guest must set CD.A
  bool split_stage_ats = true;
  bool can_stall = true;
  bool stall_forced = false;
  smmu::Htt httu = smmu::Htt::access_dirty_table;
  std::uint64_t bbml = 2;
  std::uint64_t vax = 1;      // 56 bits need 128-bit descriptors
  bool never_stalls = false;  // one of them, whatever model it announces
  unsigned stalls = 0;        // that a guest can have outstanding, on all instances together
  unsigned oas = 52;          // likewise
  unsigned sid_bits = 32;
  unsigned ssid_bits = 20;

  template <typename F>
  [[nodiscard]] bool has0() const {
    return (idr0 & F::mask) != 0;
  }
  template <typename F>
  [[nodiscard]] bool has3() const {
    return (idr3 & F::mask) != 0;
  }
  template <typename F>
  [[nodiscard]] bool has5() const {
    return (idr5 & F::mask) != 0;
  }
  void add(const stage2::Capabilities& c);
};

void Common::add(const stage2::Capabilities& c) {
  idr0 &= c.idr0.words[0];
  idr3 &= c.idr3.words[0];
  idr5 &= c.idr5.words[0];
  some_ranges = some_ranges || c.idr3.get<IDR3::RIL>();
  mixed_endian = mixed_endian && c.idr0.get<IDR0::TTENDIAN>() == smmu::TtEndian::mixed;
  term_model = term_model || c.idr0.get<IDR0::TERM_MODEL>();
  split_stage_ats = split_stage_ats && !c.idr0.get<IDR0::NS1ATS>();
  const auto model = c.idr0.get<IDR0::STALL_MODEL>();
  stall_forced = model == smmu::StallModel::stall_forced;  // of all or of none, see mixed_stall_models()
  can_stall = can_stall && (stall_forced || model == smmu::StallModel::stall_and_terminate);
  httu = std::min(httu, c.idr0.get<IDR0::HTTU>());
  bbml = std::min(bbml, c.idr3.get<IDR3::BBML>());
  vax = std::min(vax, c.idr5.get<IDR5::VAX>());
  const auto stall_max = static_cast<unsigned>(c.idr5.get<IDR5::STALL_MAX>());
  never_stalls = never_stalls || stall_max == 0;
  stalls += stall_share(stall_max);
  oas = std::min(oas, smmu::bits(c.idr5.get<IDR5::OAS>()));
  sid_bits = std::min(sid_bits, static_cast<unsigned>(c.idr1.get<IDR1::SIDSIZE>()));
  ssid_bits = std::min(ssid_bits, static_cast<unsigned>(c.idr1.get<IDR1::SSIDSIZE>()));
}

// An instance that forces stalls takes no CD with S == 0, one that only terminates takes none with S == 1, and a guest
// whose SMMU may do either is free to use both. So forced ones go together only with each other, and only if the guest
// may know about stalls at all. Returns the first that does not fit.
std::optional<std::size_t> misfit_stall_model(std::span<stage2::SmmuPort* const> instances, bool stall) {
  const auto forced = [&](std::size_t i) {
    return instances[i]->capabilities().idr0.get<IDR0::STALL_MODEL>() == smmu::StallModel::stall_forced;
  };
  bool all = stall;
  for (std::size_t i = 0; i < instances.size(); ++i) all = all && forced(i);
  for (std::size_t i = 0; !all && i < instances.size(); ++i)
    if (forced(i)) return i;
  return std::nullopt;
}

void announce_idr0(const Config& config, const Common& all, Announced& a) {
  using smmu::StallModel;
  // Walks past the caches and updates of flags by guests' CPUs do not go together.
  const bool coherent = config.coherent && all.has0<IDR0::COHACC>();
  const bool ats = config.ats && all.has0<IDR0::ATS>() && (all.split_stage_ats || config.ats_full);
  auto stall = StallModel::terminate_only;
  if (all.stall_forced) {
    stall = StallModel::stall_forced;
  } else if (config.stall && all.can_stall && !all.never_stalls) {
    stall = StallModel::stall_and_terminate;
  }
  a.idr0.set<IDR0::S1P>(true)
      .set<IDR0::TTF>(smmu::TtFormat::aarch64)
      .set<IDR0::COHACC>(coherent)
      .set<IDR0::HTTU>(coherent ? std::min(config.httu, all.httu) : smmu::Htt::none)
      .set<IDR0::ATS>(ats)
      .set<IDR0::ATSRECERR>(ats && config.ats_errors && all.has0<IDR0::ATSRECERR>())
      .set<IDR0::PRI>(ats && config.pri && all.has0<IDR0::PRI>())
      // Host ASIDs stand for the guest's, whatever their width.
      .set<IDR0::ASID16>(config.asid16 && (config.precise || all.has0<IDR0::ASID16>()))
      .set<IDR0::MSI>(config.msi && coherent)
      .set<IDR0::SEV>(config.sev)
      .set<IDR0::TTENDIAN>(all.mixed_endian ? smmu::TtEndian::mixed : smmu::TtEndian::little)
      .set<IDR0::STALL_MODEL>(stall)
      .set<IDR0::TERM_MODEL>(all.term_model)
      // Weir itself walks the guest's stream table, whatever the instances can do with theirs.
      .set<IDR0::ST_LEVEL>(config.two_level_stream_table ? smmu::StLevel::two_level : smmu::StLevel::linear);
}

void announce_idr1(const Config& config, const Common& all, Announced& a) {
  // The hardware reads tables of context descriptors as they are: with ASIDs that every instance must understand.
  const bool bridged = a.idr0.get<IDR0::ASID16>() && !all.has0<IDR0::ASID16>();
  const unsigned ssid_bits = bridged ? 0 : std::min(config.ssid_bits, all.ssid_bits);
  a.idr1.set<IDR1::SIDSIZE>(std::min(config.sid_bits, all.sid_bits))
      .set<IDR1::SSIDSIZE>(ssid_bits)
      .set<IDR1::CMDQS>(std::min(config.cmdq_log2, 19u))
      .set<IDR1::EVENTQS>(std::min(config.evtq_log2, 19u))
      .set<IDR1::PRIQS>(a.idr0.get<IDR0::PRI>() ? std::min(config.priq_log2, 19u) : 0);
  a.idr0.set<IDR0::CD2L>(ssid_bits != 0 && config.two_level_cd_table && all.has0<IDR0::CD2L>());
}

void announce_idr3(const Config& config, const Common& all, Announced& a) {
  const bool substreams = a.idr1.get<IDR1::SSIDSIZE>() != 0;
  a.idr3.set<IDR3::HAD>(all.has3<IDR3::HAD>())
      .set<IDR3::PPS>(substreams && a.idr0.get<IDR0::PRI>() && all.has3<IDR3::PPS>())
      .set<IDR3::STT>(all.has3<IDR3::STT>())
      .set<IDR3::RIL>(config.range_invalidation && all.some_ranges)
      .set<IDR3::BBML>(std::min(std::uint64_t{config.bbml}, all.bbml))
      .set<IDR3::E0PD>(all.has3<IDR3::E0PD>())
      .set<IDR3::PASIDTT>(substreams && a.idr0.get<IDR0::ATS>() && all.has3<IDR3::PASIDTT>())
      .set<IDR3::EPAN>(all.has3<IDR3::EPAN>());
}

void announce_idr5(const Config& config, const Common& all, Announced& a) {
  const bool version_1 = a.idr3.get<IDR3::HAD>();  // in SMMUv3.0, VAX is RES0 and an OAS of 52 bits reserved
  a.idr5.words[0] = static_cast<std::uint32_t>(all.idr5 & kGranules);
  const bool small_granule = a.idr5.get<IDR5::GRAN4K>() || a.idr5.get<IDR5::GRAN16K>();
  const bool ds = version_1 && small_granule && all.vax != 0 && all.has5<IDR5::DS>();
  const bool wide = version_1 && (a.idr5.get<IDR5::GRAN64K>() || ds);  // somebody could use more than 48 bits
  a.idr5.set<IDR5::DS>(ds)
      .set<IDR5::VAX>(wide ? all.vax : 0)
      .set<IDR5::OAS>(at_most(std::min({config.oas_bits, all.oas, wide ? 52u : 48u})));
  // A bound that must hold (6.3.6): what StallTable lets a guest have on all instances together.
  if (a.idr0.get<IDR0::STALL_MODEL>() != smmu::StallModel::terminate_only)
    a.idr5.set<IDR5::STALL_MAX>(std::min<std::uint64_t>(all.stalls, StallTable::kCapacity));
}

}  // namespace

std::expected<Announced, Unsuitable> announce(std::span<stage2::SmmuPort* const> instances, const Config& config) {
  Common all;
  for (std::size_t i = 0; i < instances.size(); ++i) {
    const stage2::Capabilities& c = instances[i]->capabilities();
    if (const auto feature = missing(c)) return std::unexpected{Unsuitable{i, *feature}};
    all.add(c);
    if ((all.idr5 & kGranules) == 0) return std::unexpected{Unsuitable{i, "IDR5 (a granule in common)"}};
  }
  if (const auto i = misfit_stall_model(instances, config.stall))
    return std::unexpected{Unsuitable{*i, "IDR0.STALL_MODEL (terminate)"}};

  Announced a;
  announce_idr0(config, all, a);
  announce_idr1(config, all, a);
  announce_idr3(config, all, a);
  announce_idr5(config, all, a);
  // SMMUv3.1 makes IDR3.HAD mandatory, and nothing else that a guest without stage 2 could have. v3.2 demands IDR3.FWB,
  // a feature of stage 2 that is not offered; so whatever of v3.2 to v3.4 IDR3 and IDR0 announce, is announced there
  // only.
  a.aidr.set<smmu::AIDR::ArchMinorRev>(a.idr3.get<IDR3::HAD>() ? 1 : 0);
  // IIDR stays 0, nobody's product: Weir has no JEP106 code, and with an instance's own a guest would work around errata
  // that are Weir's to work around.
  return a;
}

}  // namespace weir::vsmmu
