#include "vsmmu/announced.hpp"

#include <algorithm>
#include <optional>

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
  // A guest that is told "terminate only" clears CD.S, which is ILLEGAL where stalls are forced.
  if (c.idr0.get<IDR0::STALL_MODEL>() == smmu::StallModel::stall_forced) return "IDR0.STALL_MODEL (terminate)";
  return std::nullopt;
}

}  // namespace

std::expected<Announced, Unsuitable> announce(std::span<stage2::SmmuPort* const> instances, const Config& config) {
  // Fields where a smaller value promises less, over all instances; bits that are never offered stay 0.
  bool asid16 = config.asid16;
  bool coherent = config.coherent;
  bool mixed_endian = true;
  bool term_model = false;
  auto httu = smmu::Htt::access_dirty_table;
  std::uint64_t bbml = 2;
  std::uint64_t idr3_bits = ~std::uint64_t{0};
  std::uint64_t idr5_bits = ~std::uint64_t{0};
  std::uint64_t vax = 1;  // 56 bits need 128-bit descriptors
  unsigned oas = config.oas_bits;
  unsigned sid_bits = std::min(config.sid_bits, 32u);

  for (std::size_t i = 0; i < instances.size(); ++i) {
    const stage2::Capabilities& c = instances[i]->capabilities();
    if (const auto feature = missing(c)) return std::unexpected{Unsuitable{i, *feature}};
    asid16 = asid16 && c.idr0.get<IDR0::ASID16>();
    coherent = coherent && c.idr0.get<IDR0::COHACC>();
    mixed_endian = mixed_endian && c.idr0.get<IDR0::TTENDIAN>() == smmu::TtEndian::mixed;
    term_model = term_model || c.idr0.get<IDR0::TERM_MODEL>();
    httu = std::min(httu, c.idr0.get<IDR0::HTTU>());
    bbml = std::min(bbml, c.idr3.get<IDR3::BBML>());
    idr3_bits &= c.idr3.words[0];
    idr5_bits &= c.idr5.words[0];
    vax = std::min(vax, c.idr5.get<IDR5::VAX>());
    oas = std::min(oas, smmu::bits(c.idr5.get<IDR5::OAS>()));
    sid_bits = std::min(sid_bits, static_cast<unsigned>(c.idr1.get<IDR1::SIDSIZE>()));
  }
  constexpr std::uint64_t kGranules = IDR5::GRAN4K::mask | IDR5::GRAN16K::mask | IDR5::GRAN64K::mask;
  if ((idr5_bits & kGranules) == 0) return std::unexpected{Unsuitable{0, "IDR5 (a granule in common)"}};

  Announced a;
  // No ATS, PRI, stall, MSI, SEV nor substreams yet: their fields stay 0, and with SSIDSIZE == 0 so does CD2L.
  a.idr0.set<IDR0::S1P>(true)
      .set<IDR0::TTF>(smmu::TtFormat::aarch64)
      .set<IDR0::COHACC>(coherent)
      .set<IDR0::HTTU>(httu)
      .set<IDR0::ASID16>(asid16)
      .set<IDR0::TTENDIAN>(mixed_endian ? smmu::TtEndian::mixed : smmu::TtEndian::little)
      .set<IDR0::STALL_MODEL>(smmu::StallModel::terminate_only)
      .set<IDR0::TERM_MODEL>(term_model)
      // Weir itself walks the guest's stream table, whatever the instances can do with theirs.
      .set<IDR0::ST_LEVEL>(config.two_level_stream_table ? smmu::StLevel::two_level : smmu::StLevel::linear);
  a.idr1.set<IDR1::SIDSIZE>(sid_bits)
      .set<IDR1::CMDQS>(std::min(config.cmdq_log2, 19u))
      .set<IDR1::EVENTQS>(std::min(config.evtq_log2, 19u));
  const auto idr3 = [&]<typename F>(F) { return (idr3_bits & F::mask) != 0; };
  a.idr3.set<IDR3::HAD>(idr3(IDR3::HAD{}))
      .set<IDR3::RIL>(config.range_invalidation && idr3(IDR3::RIL{}))
      .set<IDR3::STT>(idr3(IDR3::STT{}))
      .set<IDR3::E0PD>(idr3(IDR3::E0PD{}))
      .set<IDR3::EPAN>(idr3(IDR3::EPAN{}))
      .set<IDR3::BBML>(bbml);
  a.idr5.words[0] = static_cast<std::uint32_t>(idr5_bits & (kGranules | IDR5::DS::mask));
  if (!a.idr5.get<IDR5::GRAN4K>() && !a.idr5.get<IDR5::GRAN16K>()) a.idr5.set<IDR5::DS>(false);
  if (!a.idr5.get<IDR5::GRAN64K>() && !a.idr5.get<IDR5::DS>()) vax = 0;
  a.idr5.set<IDR5::VAX>(vax).set<IDR5::OAS>(at_most(oas));
  a.aidr.set<smmu::AIDR::ArchMinorRev>(1);  // v3.1: 3.2 and later demand more than Weir offers; RIL may come earlier
  return a;
}

}  // namespace weir::vsmmu
