#include "tests/model/config.hpp"

#include <algorithm>

namespace weir::model {

using namespace smmu;

unsigned granule_of(Granule0 tg) {
  switch (tg) {
    case Granule0::size4k: return 12;
    case Granule0::size16k: return 14;
    case Granule0::size64k: return 16;
    default: return 0;
  }
}
unsigned granule_of(Granule1 tg) {
  switch (tg) {
    case Granule1::size4k: return 12;
    case Granule1::size16k: return 14;
    case Granule1::size64k: return 16;
    default: return 0;
  }
}
bool supported(const Parameters& p, unsigned granule) {
  return granule == 12 ? p.gran4k : granule == 14 ? p.gran16k : granule == 16 ? p.gran64k : false;
}

unsigned output_bits(const Parameters& p, AddressSize size) {
  const unsigned most = p.minor_revision == 0 ? 48 : p.minor_revision < 4 ? 52 : 56;
  return std::min({bits(size), most, p.oas_bits()});
}

World world_of(const Parameters& p, const Ste& ste, CR2 cr2) {
  const bool used = p.hyp && p.s1p && ste.get<Ste::Config>() == SteConfig::s1;
  if (!used || ste.get<Ste::STRW>() != Strw::el2) return World::el1;
  return cr2.get<CR2::E2H>() ? World::el2_e2h : World::el2;
}

std::uint16_t vmid_of(const Parameters& p, const Ste& ste, World world) {
  return p.s2p && world == World::el1 ? ste.get<Ste::S2VMID>().value : std::uint16_t{0};
}

Eats eats_of(const Parameters& p, const Ste& ste, bool atschk) {
  const auto config = ste.get<Ste::Config>();
  if (!p.ats || is_abort(config) || config == SteConfig::bypass) return Eats::none;
  const auto eats = ste.get<Ste::EATS>();
  if (eats == Eats::full_dpt) return Eats::none;  // IDR3.DPT == 0
  return eats == Eats::split_stage && !atschk ? Eats::none : eats;
}

unsigned substream_bits(const Parameters& p, const Ste& ste) {
  return p.ssid_bits == 0 ? 0 : static_cast<unsigned>(ste.get<Ste::S1CDMax>());
}

namespace {

bool endian_legal(const Parameters& p, bool big) {
  return p.endian == TtEndian::mixed || (p.endian == TtEndian::big) == big;
}

// STE.S2DS and CD.DS count only where IDR5.DS says so, and not with 64 KiB.
bool ds_of(const Parameters& p, bool ds, unsigned granule) { return p.ds && ds && granule != 16; }

// The level that {S2SL0_2, S2SL0} select; no value: reserved (Arm ARM, AArch64.S2InvalidSL()).
std::optional<int> start_of(const Parameters& p, const Ste& ste, unsigned granule) {
  const bool ds = ds_of(p, ste.get<Ste::S2DS>(), granule);
  const auto sl0 = static_cast<unsigned>(ste.get<Ste::S2SL0>());
  switch (granule) {
    case 12:
      if (ds && ste.get<Ste::S2SL0_2>()) return sl0 == 0 ? std::optional{-1} : std::nullopt;
      if (sl0 == 2 && !ds && p.oas_bits() < 44) return std::nullopt;
      if (sl0 == 3) return p.stt ? std::optional{3} : std::nullopt;
      return 2 - static_cast<int>(sl0);
    case 14:
      if (sl0 == 3 && !ds) return std::nullopt;
      if (sl0 == 2 && !ds && p.oas_bits() < 42) return std::nullopt;
      return 3 - static_cast<int>(sl0);
    default:
      if (sl0 == 3 || (sl0 == 2 && p.oas_bits() < 44)) return std::nullopt;
      return 3 - static_cast<int>(sl0);
  }
}

std::uint64_t largest_txsz(const Parameters& p, unsigned granule) { return !p.stt ? 39 : granule == 16 ? 47 : 48; }

bool s2_walk_legal(const Parameters& p, const Ste& ste) {
  const unsigned granule = granule_of(ste.get<Ste::S2TG>());
  if (!supported(p, granule)) return false;
  const bool ds = ds_of(p, ste.get<Ste::S2DS>(), granule);
  const std::uint64_t ttb = ste.get<Ste::S2TTB>().value;
  if (beyond(ttb, output_bits(p, ste.get<Ste::S2PS>()))) return false;
  if (granule != 16 && !ds && beyond(ttb, 48)) return false;
  const auto t0sz = ste.get<Ste::S2T0SZ>();
  const std::uint64_t ias = p.oas_bits();
  const std::uint64_t least =
      p.minor_revision == 0 ? 64 - ias : std::max<std::uint64_t>(granule == 16 || ds ? 12 : 16, 64 - ias);
  if (t0sz < least || t0sz > largest_txsz(p, granule)) return false;
  const auto start = start_of(p, ste, granule);
  if (!start) return false;
  // The root resolves 1 bit at least, and with 16 concatenated tables 4 more than a table.
  const auto input = 64 - static_cast<unsigned>(t0sz);
  const unsigned shift = TableShape{.granule = granule}.shift(*start);
  return input > shift && input <= shift + (granule - 3) + 4;
}

bool s1_region_legal(const Parameters& p, const Cd& cd, unsigned granule, std::uint64_t txsz, std::uint64_t ttb) {
  if (!supported(p, granule)) return false;
  const bool ds = ds_of(p, cd.get<Cd::DS>(), granule);
  const std::uint64_t least = p.vax != 0 && (granule == 16 || ds) ? 12 : 16;
  if (txsz < least || txsz > largest_txsz(p, granule)) return false;
  if (granule != 16 && !ds && beyond(ttb, 48)) return false;
  return !beyond(ttb, output_bits(p, cd.get<Cd::IPS>()));
}

MemoryType::Cache cache_of(WalkCacheability c) {
  switch (c) {
    case WalkCacheability::non_cacheable: return MemoryType::Cache::non_cacheable;
    case WalkCacheability::write_through_ra: return MemoryType::Cache::write_through;
    default: return MemoryType::Cache::write_back;
  }
}
MemoryType::Cache cache_of(CdCacheability c) {
  switch (c) {
    case CdCacheability::non_cacheable: return MemoryType::Cache::non_cacheable;
    case CdCacheability::write_through_ra: return MemoryType::Cache::write_through;
    default: return MemoryType::Cache::write_back;
  }
}
MemoryType::Cache cache_of(QueueCacheability c) {
  switch (c) {
    case QueueCacheability::write_back: return MemoryType::Cache::write_back;
    case QueueCacheability::write_through: return MemoryType::Cache::write_through;
    default: return MemoryType::Cache::non_cacheable;
  }
}
MemoryType normal(MemoryType::Cache inner, MemoryType::Cache outer, Shareability sh) {
  MemoryType t{
      .inner = inner, .outer = outer, .shareability = sh == Shareability::reserved ? Shareability::non_shareable : sh};
  if (!t.cacheable()) t.shareability = Shareability::outer;
  return t;
}

}  // namespace

bool ste_legal(const Parameters& p, const Ste& ste) {
  if (!ste.get<Ste::V>()) return false;
  const auto config = ste.get<Ste::Config>();
  if (is_abort(config)) return true;
  const bool s1 = translates_s1(config);
  const bool s2 = translates_s2(config);
  if ((s1 && !p.s1p) || (s2 && !p.s2p)) return false;
  if (p.ats && (s1 || s2)) {
    const auto eats = ste.get<Ste::EATS>();
    const bool s2s = ste.get<Ste::S2S>();
    if (eats == Eats::split_stage && (config != SteConfig::s1_s2 || s2s || p.ns1ats)) return false;
    if (eats == Eats::full && s2s && s2) return false;
  }
  const bool strw_used = p.s1p && p.hyp && config == SteConfig::s1;
  const auto strw = static_cast<unsigned>(ste.get<Ste::STRW>());
  if (strw_used && (strw & 1) != 0) return false;
  if (s1) {
    if (ste.get<Ste::S1STALLD>() && p.stall != StallModel::stall_and_terminate) return false;
    const auto cds = ste.get<Ste::S1CDMax>();
    if (p.ssid_bits != 0 && cds > p.ssid_bits) return false;
    const auto format = ste.get<Ste::S1Fmt>();
    const bool two_level = format == S1Fmt::two_level_4k || format == S1Fmt::two_level_64k;
    if (p.ssid_bits != 0 && cds != 0 && !p.cd2l && two_level) return false;
    if (beyond(ste.get<Ste::S1ContextPtr>().value, p.oas_bits())) return false;  // 3.4.3: IAS == OAS
    if (p.mimics_qemu && (cds != 0 || ste.get<Ste::S1STALLD>())) return false;
  }
  if (s2) {
    if (ste.get<Ste::S2S>() ? p.stall == StallModel::terminate_only : p.stall == StallModel::stall_forced) return false;
    if (!ste.get<Ste::S2AA64>()) return false;  // IDR0.TTF says AArch64 only
    const bool ha = ste.get<Ste::S2HA>();
    const bool hd = ste.get<Ste::S2HD>();
    if ((ha || hd) && p.httu == Htt::none) return false;
    if (hd && p.httu == Htt::access) return false;
    if (ste.get<Ste::S2HAFT>() && !ha && p.httu == Htt::access_dirty_table) return false;
    if (!s2_walk_legal(p, ste)) return false;
    if (!endian_legal(p, ste.get<Ste::S2ENDI>())) return false;
  }
  const bool vmid_used = p.s2p && (s1 || s2) && !(strw_used && strw != 0);
  return !(vmid_used && !p.vmid16 && ste.get<Ste::S2VMID>().value > 0xff);
}

bool cd_legal(const Parameters& p, const Ste& ste, const Cd& cd, World world) {
  if (!cd.get<Cd::V>()) return false;
  const bool s = cd.get<Cd::S>();
  if (ste.get<Ste::S1STALLD>() && s) return false;
  if (p.term_model && !cd.get<Cd::A>()) return false;
  if (s ? p.stall == StallModel::terminate_only : p.stall == StallModel::stall_forced) return false;
  const bool el2 = world == World::el2;  // one table, EPDx are ignored
  const bool lower = el2 || !cd.get<Cd::EPD0>();
  const bool upper = !el2 && !cd.get<Cd::EPD1>();
  if ((lower || upper) && !endian_legal(p, cd.get<Cd::ENDI>())) return false;
  if (!cd.get<Cd::AA64>()) return false;
  const bool ha = cd.get<Cd::HA>();
  const bool hd = cd.get<Cd::HD>();
  if ((ha || hd) && p.httu == Htt::none) return false;
  if (hd && p.httu == Htt::access) return false;
  if (p.httu == Htt::access_dirty_table && cd.get<Cd::HAFT>() && !ha) return false;
  if (!el2 && !p.asid16 && cd.get<Cd::ASID>().value > 0xff) return false;
  if (lower && !s1_region_legal(p, cd, granule_of(cd.get<Cd::TG0>()), cd.get<Cd::T0SZ>(), cd.get<Cd::TTB0>().value))
    return false;
  return !upper || s1_region_legal(p, cd, granule_of(cd.get<Cd::TG1>()), cd.get<Cd::T1SZ>(), cd.get<Cd::TTB1>().value);
}

namespace {

void finish(TableShape& s, std::uint64_t ttb, bool lpa) {
  s.lpa = lpa && s.granule == 16;
  if (!s.lpa && !s.ds) s.output = std::min(s.output, 48u);
  // Aligned to the table's size; to 64 bytes if it may lie beyond 48 bits.
  std::uint64_t size = std::uint64_t{8} << (s.input - s.shift(s.start));
  if (s.output > 48) size = std::max<std::uint64_t>(size, 64);
  s.root = ttb & ~(size - 1);
}

}  // namespace

TableShape stage2_shape(const Parameters& p, const Ste& ste) {
  TableShape s;
  s.granule = granule_of(ste.get<Ste::S2TG>());
  s.input = 64 - static_cast<unsigned>(ste.get<Ste::S2T0SZ>());
  s.output = output_bits(p, ste.get<Ste::S2PS>());
  s.start = start_of(p, ste, s.granule).value_or(3);
  s.ds = ds_of(p, ste.get<Ste::S2DS>(), s.granule);
  s.big_endian = ste.get<Ste::S2ENDI>();
  s.walk = normal(cache_of(ste.get<Ste::S2IR0>()), cache_of(ste.get<Ste::S2OR0>()), ste.get<Ste::S2SH0>());
  finish(s, ste.get<Ste::S2TTB>().value, p.oas_bits() >= 52);
  return s;
}

TableShape stage1_shape(const Parameters& p, const Cd& cd, bool upper) {
  TableShape s;
  s.granule = upper ? granule_of(cd.get<Cd::TG1>()) : granule_of(cd.get<Cd::TG0>());
  s.input = 64 - static_cast<unsigned>(upper ? cd.get<Cd::T1SZ>() : cd.get<Cd::T0SZ>());
  s.output = output_bits(p, cd.get<Cd::IPS>());
  // As many levels as the bits above the page need.
  const unsigned stride = s.granule - 3;
  s.start = 4 - static_cast<int>((s.input - s.granule + stride - 1) / stride);
  s.ds = ds_of(p, cd.get<Cd::DS>(), s.granule);
  s.big_endian = cd.get<Cd::ENDI>();
  s.walk = upper ? normal(cache_of(cd.get<Cd::IR1>()), cache_of(cd.get<Cd::OR1>()), cd.get<Cd::SH1>())
                 : normal(cache_of(cd.get<Cd::IR0>()), cache_of(cd.get<Cd::OR0>()), cd.get<Cd::SH0>());
  finish(s, (upper ? cd.get<Cd::TTB1>() : cd.get<Cd::TTB0>()).value, p.oas_bits() >= 52);
  return s;
}

MemoryType cd_type(const Ste& ste) {
  return normal(cache_of(ste.get<Ste::S1CIR>()), cache_of(ste.get<Ste::S1COR>()), ste.get<Ste::S1CSH>());
}
MemoryType table_type(CR1 cr1) {
  return normal(cache_of(cr1.get<CR1::TABLE_IC>()), cache_of(cr1.get<CR1::TABLE_OC>()), cr1.get<CR1::TABLE_SH>());
}

StreamTable::StreamTable(const Parameters& p, const Controls& controls) {
  const STRTAB_BASE_CFG config = controls.strtab_base_cfg;
  two_level = p.two_level && config.get<STRTAB_BASE_CFG::FMT>() == StrtabFmt::two_level;
  const auto selected = config.get<STRTAB_BASE_CFG::SPLIT>();
  split = selected == 8 || selected == 10 ? static_cast<unsigned>(selected) : 6;
  log2size = std::min(static_cast<unsigned>(config.get<STRTAB_BASE_CFG::LOG2SIZE>()), p.sid_bits);
  // 6.3.24: aligned to the table's size, 64 bytes at least.
  const unsigned level1 = log2size > split ? log2size - split : 0;
  const unsigned align = two_level ? std::max(6u, level1 + 3) : log2size + 6;
  base = controls.strtab_base.get<STRTAB_BASE::ADDR>() & ~((std::uint64_t{1} << align) - 1);
}

void ConfigCache::invalidate_streams(std::uint64_t first, std::uint64_t last, bool level1, unsigned split) {
  if (last - first < 16) {
    for (std::uint64_t sid = first; sid <= last; ++sid) streams_.erase(static_cast<std::uint32_t>(sid));
  } else {
    std::erase_if(streams_, [&](const auto& e) { return e.first >= first && e.first <= last; });
  }
  if (level1 && split < 64)
    std::erase_if(level1_, [&](const auto& e) { return e.first >= (first >> split) && e.first <= (last >> split); });
  if (first == 0 && last >= 0xffff'ffff) level1_.clear();
}

void ConfigCache::invalidate_cd(std::uint32_t sid, std::uint32_t ssid, bool l1cd) {
  const auto stream = streams_.find(sid);
  if (stream == streams_.end()) return;
  stream->second.cds.erase(ssid);
  if (l1cd) std::erase_if(stream->second.l1cds, [&](const auto& e) { return ssid - e.second.first < e.second.count; });
}

void ConfigCache::invalidate_cds(std::uint32_t sid) {
  const auto stream = streams_.find(sid);
  if (stream == streams_.end()) return;
  stream->second.cds.clear();
  stream->second.l1cds.clear();
}

void ConfigCache::evict(std::mt19937_64& random) {
  if (streams_.empty()) return;
  std::size_t bucket = random() % streams_.bucket_count();
  while (streams_.begin(bucket) == streams_.end(bucket)) bucket = (bucket + 1) % streams_.bucket_count();
  CachedStream& stream = streams_.begin(bucket)->second;
  switch (random() % 4) {
    case 0: stream.ste.reset(); break;
    case 1: stream.cds.clear(); break;
    case 2: stream.l1cds.clear(); break;
    default: streams_.erase(streams_.begin(bucket)->first); break;
  }
}

}  // namespace weir::model
