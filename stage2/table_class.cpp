#include "stage2/table_class.hpp"

#include "guest-abi/smmu/registers.hpp"

namespace weir::stage2 {

std::string_view to_string(Incompatibility reason) {
  switch (reason) {
    case Incompatibility::no_stage2: return "stage 2 (IDR0.S2P)";
    case Incompatibility::no_nesting: return "nesting (IDR0.S1P with IDR0.S2P)";
    case Incompatibility::no_aarch64_tables: return "AArch64 translation tables (IDR0.TTF)";
    case Incompatibility::no_granule_4k: return "the 4 KiB granule (IDR5.GRAN4K)";
    case Incompatibility::big_endian: return "little-endian table walks (IDR0.TTENDIAN)";
    case Incompatibility::input_too_small: return "an input size that covers the VM's address space (IDR5.OAS)";
    case Incompatibility::output_too_small: return "an output size that covers the VM's memory (IDR5.OAS)";
    case Incompatibility::not_coherent: return "coherent table walks (IDR0.COHACC)";
    case Incompatibility::bbml_too_low: return "the domain's break-before-make level (IDR3.BBML)";
    case Incompatibility::no_fwb: return "forced write-back (IDR3.FWB)";
    case Incompatibility::no_dirty_state: return "hardware's dirty state (IDR0.HTTU)";
  }
  return "?";
}

std::optional<Incompatibility> lacks(const Capabilities& capabilities) {
  using namespace smmu;
  const IDR0& idr0 = capabilities.idr0;
  if (!idr0.get<IDR0::S2P>()) return Incompatibility::no_stage2;
  if (!idr0.get<IDR0::S1P>()) return Incompatibility::no_nesting;
  const auto format = idr0.get<IDR0::TTF>();
  if (format != TtFormat::aarch64 && format != TtFormat::both) return Incompatibility::no_aarch64_tables;
  if (!capabilities.idr5.get<IDR5::GRAN4K>()) return Incompatibility::no_granule_4k;
  if (idr0.get<IDR0::TTENDIAN>() == TtEndian::big) return Incompatibility::big_endian;
  return std::nullopt;
}

bool keeps_dirty_state(const Capabilities& capabilities) {
  if (!capabilities.idr0.get<smmu::IDR0::COHACC>()) return false;
  const auto httu = capabilities.idr0.get<smmu::IDR0::HTTU>();
  return httu == smmu::Htt::access_dirty || httu == smmu::Htt::access_dirty_table;
}

std::optional<Incompatibility> TableClass::misfit(const Capabilities& capabilities) const {
  using namespace smmu;
  const auto& [idr0, idr1, idr3, idr5] = capabilities;
  const Geometry& geometry = table->geometry();
  const unsigned size = bits(idr5.get<IDR5::OAS>());
  if (size < geometry.input_bits()) return Incompatibility::input_too_small;
  if (size < geometry.output_bits()) return Incompatibility::output_too_small;
  if (!idr0.get<IDR0::COHACC>() && !cleaned) return Incompatibility::not_coherent;
  const Table::Options& options = table->options();
  // A table without blocks never splits or merges any.
  if (!options.pages_only && idr3.get<IDR3::BBML>() < options.bbml) return Incompatibility::bbml_too_low;
  if (options.fwb && !idr3.get<IDR3::FWB>()) return Incompatibility::no_fwb;
  if (options.dirty_state && !keeps_dirty_state(capabilities)) return Incompatibility::no_dirty_state;
  return std::nullopt;
}

void TableClass::fill(VMID vmid, smmu::Ste& ste) const {
  using namespace smmu;
  const Geometry& geometry = table->geometry();
  const Table::Options& options = table->options();
  // Walks of an instance that does not snoop read what was cleaned to memory.
  const auto walks = cleaned ? WalkCacheability::non_cacheable : WalkCacheability::write_back_ra_wa;
  ste.set<Ste::S2VMID>(vmid)
      .set<Ste::S2T0SZ>(geometry.t0sz())
      .set<Ste::S2SL0>(geometry.sl0())
      .set<Ste::S2IR0>(walks)
      .set<Ste::S2OR0>(walks)
      .set<Ste::S2SH0>(Shareability::inner)
      .set<Ste::S2TG>(Granule0::size4k)
      .set<Ste::S2PS>(geometry.ps())
      .set<Ste::S2AA64>(true)
      .set<Ste::S2ENDI>(false)
      .set<Ste::S2AFFD>(true)  // no software access flag: AF is set in every descriptor anyway
      .set<Ste::S2R>(true)     // faults are recorded,
      .set<Ste::S2S>(false)    // never stalled
      .set<Ste::S2TTB>(table->root());
  // Dirty state cannot be kept without the access flag (S2HA = 0 with S2HD = 1 is Reserved).
  ste.set<Ste::S2FWB>(options.fwb).set<Ste::S2HA>(options.dirty_state).set<Ste::S2HD>(options.dirty_state);
  // Not used, and each of them ILLEGAL or of another meaning where set.
  ste.set<Ste::S2PTW>(false).set<Ste::S2HAFT>(false);
  ste.set<Ste::S2PIE>(false).set<Ste::S2POE>(false).set<Ste::S2POI>(0).set<Ste::DPT_VMATCH>(0);
  ste.set<Ste::S2SL0_2>(false).set<Ste::S2DS>(false).set<Ste::S2SKL>(0);
  ste.set<Ste::S2NSW>(false).set<Ste::S2NSA>(false);
  ste.set<Ste::S2HWU59>(false).set<Ste::S2HWU60>(false).set<Ste::S2HWU61>(false).set<Ste::S2HWU62>(false);
}

}  // namespace weir::stage2
