#include "tests/unit/property/guest.hpp"

#include <algorithm>

namespace weir::model::test {

using namespace smmu;

namespace {

// Shapes of 39-bit trees, by granule: bits of an index, and the first level.
struct Shape {
  unsigned bits;
  unsigned first;
};
Shape shape(int granule) {
  if (granule == 12) return {9, 1};
  if (granule == 14) return {11, 1};
  return {13, 2};
}

TlbiGranule tg(int granule) {
  if (granule == 12) return TlbiGranule::size4k;
  return granule == 14 ? TlbiGranule::size16k : TlbiGranule::size64k;
}

}  // namespace

void PropertyGuest::discover() {
  const IDR0 idr0{{{read(Reg::IDR0)}}};
  const IDR5 idr5{{{read(Reg::IDR5)}}};
  asid16_ = idr0.get<IDR0::ASID16>();
  ril_ = IDR3{{{read(Reg::IDR3)}}}.get<IDR3::RIL>();
  ssid_bits_ = static_cast<unsigned>(IDR1{{{read(Reg::IDR1)}}}.get<IDR1::SSIDSIZE>());
  cd2l_ = idr0.get<IDR0::CD2L>();
  two_level_ = idr0.get<IDR0::ST_LEVEL>() == StLevel::two_level;
  if (idr5.get<IDR5::GRAN4K>()) granules_.push_back(12);
  if (idr5.get<IDR5::GRAN16K>()) granules_.push_back(14);
  if (idr5.get<IDR5::GRAN64K>()) granules_.push_back(16);
}

void PropertyGuest::build_tree(unsigned t) {
  const int granule = granules_[pick(static_cast<unsigned>(granules_.size()))];
  beliefs.trees[t].granule = granule;
  const Shape s = shape(granule);
  const auto bytes = std::uint64_t{1} << granule;
  roots_[t] = vm_.allocate(bytes);
  for (unsigned p = 0; p < kPlaces; ++p) {
    std::uint64_t table = roots_[t];
    for (unsigned level = s.first; level < 3; ++level) {
      const unsigned low = static_cast<unsigned>(granule) + (3 - level) * s.bits;
      const std::uint64_t entry = table + ((va(p) & ((std::uint64_t{1} << 39) - 1)) >> low) % (1u << s.bits) * 8;
      std::uint64_t descriptor{};
      std::memcpy(&descriptor, vm_.ram.pointer(entry), sizeof descriptor);
      if (descriptor == 0) {
        descriptor = vm_.allocate(bytes) | kValid | kTable;
        store64(entry, descriptor);
      }
      table = descriptor & ~(bytes - 1);
    }
    leaves_[t][p] = table + (va(p) >> granule) % (1u << s.bits) * 8;
  }
}

void PropertyGuest::build() {
  cmdq_ = vm_.allocate(kPage4K);
  evtq_ = vm_.allocate(kPage4K);
  stes_ = vm_.allocate(kPage4K);
  strtab_ = stes_;
  if (two_level_) {
    strtab_ = vm_.allocate(kPage4K);
    put(strtab_, L1Std{}.set<L1Std::Span>(7).set<L1Std::L2Ptr>(stes_));  // 64 STEs
  }
  for (unsigned t = 0; t < kTrees; ++t) build_tree(t);
  for (unsigned d = 0; d < kMaxDevices; ++d)
    for (unsigned c = 0; c < kCdTables; ++c) {
      cd_tables_[d][c] = vm_.allocate(kPage4K);
      l1cds_[d][c] = vm_.allocate(kPage4K);
      put(l1cds_[d][c], L1Cd{}.set<L1Cd::V>(true).set<L1Cd::L2Ptr>(IPA{cd_tables_[d][c]}));
      for (unsigned ssid = 0; ssid < kSubstreams; ++ssid) {
        const CdVersion v{.valid = true, .tree = pick(kTrees), .asid = pick_asid()};
        beliefs.devices[d].cds[c][ssid] = {v};
        put(cd_tables_[d][c] + ssid * sizeof(Cd), encode(v));
      }
    }
  for (unsigned t = 0; t < kTrees; ++t)
    for (unsigned p = 0; p < kPlaces; ++p) map(t, p, false);
}

void PropertyGuest::start() {
  for (unsigned d = 0; d < kMaxDevices; ++d) {
    const SteVersion v{.what = SteVersion::What::stage1};
    beliefs.devices[d].stes = {v};
    put(stes_ + World::kDevices[d].vsid.value * sizeof(Ste), encode(d, v));
  }
  write(Reg::STRTAB_BASE, strtab_, 8);
  write(Reg::STRTAB_BASE_CFG, STRTAB_BASE_CFG{}
                                  .set<STRTAB_BASE_CFG::LOG2SIZE>(6)
                                  .set<STRTAB_BASE_CFG::SPLIT>(two_level_ ? 6 : 0)
                                  .set<STRTAB_BASE_CFG::FMT>(two_level_ ? StrtabFmt::two_level : StrtabFmt::linear)
                                  .words[0]);
  write(Reg::CMDQ_BASE, cmdq_ | kLog2, 8);
  write(Reg::EVENTQ_BASE, evtq_ | kLog2, 8);
  write(Reg::CR0, CR0::CMDQEN::mask);
  queue(cfgi_all());
  queue(tlbi_nsnh_all());
  sync();
  write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::SMMUEN::mask);
}

void PropertyGuest::map(unsigned tree, unsigned place, bool none) {
  Mapping m;
  std::uint64_t descriptor = 0;
  if (!none) {
    m.ipa = data_ + pick(kData) * kSlotBytes;
    m.writable = pick(4) != 0;
    m.global = world_.globals && pick(6) == 0;
    descriptor = m.ipa | (m.writable ? kPageRw : kPageRo);
    if (m.global) descriptor &= ~kNotGlobal;
  }
  store64(leaves_[tree][place], descriptor);
  beliefs.map(tree, place, m, now_);
}

void PropertyGuest::queue(const Command& c) {
  put(cmdq_ + (prod_ & (kEntries - 1)) * sizeof(Command), c);
  prod_ = (prod_ + 1) & (2 * kEntries - 1);
}

// One of three; two of them differ in the high half only, where there is one.
std::uint16_t PropertyGuest::pick_asid() {
  const std::uint16_t asids[] = {1, 2, static_cast<std::uint16_t>(asid16_ ? 0x102 : 3)};
  return asids[pick(3)];
}

void PropertyGuest::send_address() {
  ++now_;
  const unsigned place = pick(kPlaces);
  const std::uint16_t asid = pick_asid();
  Sent s{.what = Sent::What::address, .at = now_, .asid = asid, .first = place, .last = place};
  TlbiRange range{};
  if (ril_ && pick(2) == 0) {
    const int granule = granules_[pick(static_cast<unsigned>(granules_.size()))];
    s.granule = granule;
    range.tg = tg(granule);
    range.ttl = pick(2) == 0 ? 3u : 0u;
    // From this place on over the next ones, in odd numbers of pages.
    const unsigned slots = place <= kMaxPlace ? 1 + pick(kMaxPlace + 1 - place) : 1;
    const unsigned pages = slots << (16 - granule);
    range.scale = pick(2) == 0 ? 0 : 1;
    if (pages >> range.scale > 32) range.scale = pages > 64 ? 2 : 1;
    range.num = (pages + (1u << range.scale) - 1) / (1u << range.scale) - 1;
    if (range.num == 0 && range.scale == 0) range.scale = 1;
    s.last = place + slots - 1;
  }
  const IOVA address{va(place)};
  if (pick(4) == 0) {
    s.asid = -1;
    queue(tlbi_nh_vaa(VMID{}, address, pick(2) == 0, range));
  } else {
    queue(tlbi_nh_va(VMID{}, ASID{asid}, address, pick(2) == 0, range));
  }
  sent_.push_back(s);
}

void PropertyGuest::send_wide() {
  ++now_;
  const std::uint16_t asid = pick_asid();
  switch (pick(4)) {
    case 0: queue(tlbi_nh_all(VMID{})); break;
    case 1: queue(tlbi_nsnh_all()); break;
    default:
      queue(tlbi_nh_asid(VMID{}, ASID{asid}));
      sent_.push_back({.what = Sent::What::asid, .at = now_, .asid = asid});
      return;
  }
  sent_.push_back({.what = Sent::What::all, .at = now_});
}

void PropertyGuest::send_cfgi() {
  const auto which = attached();
  if (which.empty()) return;
  ++now_;
  const unsigned d = which[pick(static_cast<unsigned>(which.size()))];
  const StreamID sid{World::kDevices[d].vsid.value};
  Sent s{.what = Sent::What::cfgi, .at = now_, .device = static_cast<int>(d)};
  switch (pick(6)) {
    case 0:
      queue(cfgi_all());
      s.device = -1;
      break;
    case 1: queue(cfgi_ste_range(sid, 2)); break;  // its neighbours are nobody's
    case 2:
      queue(cfgi_cd_all(sid));
      s.ste = false;
      break;
    case 3:
      s.substream = static_cast<int>(pick(kSubstreams));
      queue(cfgi_cd(sid, SubstreamID{static_cast<std::uint32_t>(s.substream)}, pick(2) == 0));
      s.ste = false;
      break;
    default: queue(cfgi_ste(sid, pick(2) == 0)); break;
  }
  sent_.push_back(s);
}

void PropertyGuest::set_cd() {
  const auto which = attached();
  if (which.empty()) return;
  const unsigned d = which[pick(static_cast<unsigned>(which.size()))];
  const unsigned table = pick(kCdTables);
  const unsigned ssid = ssid_bits_ == 0 ? 0 : pick(kSubstreams);
  CdVersion v;
  if (pick(8) != 0) v = {.valid = true, .tree = pick(kTrees), .asid = pick_asid()};
  // A valid CD is not changed in place: what mixture an SMMU would see is not defined (5.4.1); V goes first.
  const std::uint64_t at = cd_tables_[d][table] + ssid * sizeof(Cd);
  const CdVersion& last = beliefs.devices[d].cds[table][ssid].back();
  if (last.valid) {
    store64(at, 0);
    beliefs.set_cd(d, table, ssid, CdVersion{}, now_++);
    if (v.valid) {
      queue(cfgi_cd(StreamID{World::kDevices[d].vsid.value}, SubstreamID{ssid}, true));
      sent_.push_back({.what = Sent::What::cfgi,
                       .at = now_,
                       .device = static_cast<int>(d),
                       .substream = static_cast<int>(ssid),
                       .ste = false});
      sync();
      ++now_;
    }
  }
  put(at, encode(v));
  beliefs.set_cd(d, table, ssid, v, now_);
  ++now_;
  if (pick(4) == 0) send_cfgi();
}

Cd PropertyGuest::encode(const CdVersion& v) const {
  if (!v.valid) return Cd{};
  const int granule = beliefs.trees[v.tree].granule;
  return context(roots_[v.tree], v.asid)
      .set<Cd::ASET>(false)
      .set<Cd::TG0>(granule == 12   ? Granule0::size4k
                    : granule == 14 ? Granule0::size16k
                                    : Granule0::size64k);
}

std::vector<std::uint64_t> PropertyGuest::tables() const {
  std::vector<std::uint64_t> found{roots_.begin(), roots_.end()};
  for (const auto& of_device : cd_tables_) found.insert(found.end(), of_device.begin(), of_device.end());
  for (const auto& of_device : l1cds_) found.insert(found.end(), of_device.begin(), of_device.end());
  return found;
}

Ste PropertyGuest::encode(unsigned d, const SteVersion& v) const {
  using What = SteVersion::What;
  if (v.what == What::invalid) return Ste{};
  Ste ste = Ste{}.set<Ste::V>(true);
  if (v.what == What::abort) return ste;
  if (v.what == What::bypass) return ste.set<Ste::Config>(SteConfig::bypass);
  ste.set<Ste::Config>(SteConfig::s1).set<Ste::EATS>(Eats::full);
  if (v.s1cdmax == 0) return ste.set<Ste::S1ContextPtr>(IPA{cd_tables_[d][v.table]});
  ste.set<Ste::S1CDMax>(v.s1cdmax).set<Ste::S1DSS>(v.dss);
  // The same CDs, with or without a first level.
  if (cd2l_ && v.table == 0)
    return ste.set<Ste::S1Fmt>(S1Fmt::two_level_4k).set<Ste::S1ContextPtr>(IPA{l1cds_[d][v.table]});
  return ste.set<Ste::S1ContextPtr>(IPA{cd_tables_[d][v.table]});
}

void PropertyGuest::set_ste() {
  using What = SteVersion::What;
  const auto which = attached();
  if (which.empty()) return;
  const unsigned d = which[pick(static_cast<unsigned>(which.size()))];
  SteVersion v;
  const unsigned what = pick(10);
  v.what = what == 0 ? What::invalid : what == 1 ? What::abort : what == 2 ? What::bypass : What::stage1;
  v.table = pick(kCdTables);
  if (ssid_bits_ != 0 && pick(3) != 0) {
    v.s1cdmax = 1 + pick(2);
    v.dss = static_cast<S1Dss>(pick(3));
  }
  put(stes_ + World::kDevices[d].vsid.value * sizeof(Ste), encode(d, v));
  beliefs.set_ste(d, v, now_);
  if (pick(6) == 0) return;  // some other time
  ++now_;
  if (pick(6) == 0) {
    queue(cfgi_all());
    sent_.push_back({.what = Sent::What::cfgi, .at = now_});
  } else {
    queue(cfgi_ste(StreamID{World::kDevices[d].vsid.value}, true));
    sent_.push_back({.what = Sent::What::cfgi, .at = now_, .device = static_cast<int>(d)});
  }
  if (pick(2) == 0) sync();
}

// SMMUEN goes off or on. What it says holds when it is acknowledged.
void PropertyGuest::toggle() {
  sync();
  if (enabled_) {
    gbpa_abort_ = pick(2) == 0;
    write(Reg::GBPA, GBPA{}.set<GBPA::Update>(true).set<GBPA::ABORT>(gbpa_abort_).words[0]);
    EXPECT_EQ(read(Reg::GBPA) & GBPA::Update::mask, 0u);
  }
  enabled_ = !enabled_;
  write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask | (enabled_ ? CR0::SMMUEN::mask : 0));
  EXPECT_EQ((read(Reg::CR0ACK) & CR0::SMMUEN::mask) != 0, enabled_);
}

void PropertyGuest::sync() {
  ++now_;
  queue(sync_none());
  kick();
  ASSERT_EQ(read(Reg::CMDQ_CONS), prod_) << "not consumed, or an error";
  beliefs.complete(sent_, now_);
  sent_.clear();
  for (const AtcSent& s : atc_sent_)
    std::erase_if(atc_[s.device], [&](const AtcEntry& e) {
      return e.taken <= s.at && (s.any_ssid || e.ssid == s.ssid) && e.page >= s.first && e.page <= s.last;
    });
  atc_sent_.clear();
}

std::string PropertyGuest::check_events() {
  const std::uint32_t to = read(Reg::EVENTQ_PROD) & (2 * kEntries - 1);
  std::string wrong;
  for (; cons_ != to; cons_ = (cons_ + 1) & (2 * kEntries - 1)) {
    Event e;
    std::memcpy(e.words.data(), vm_.ram.pointer(evtq_ + (cons_ & (kEntries - 1)) * sizeof e), sizeof e);
    const auto sid = e.get<Event::StreamID>();
    // Late ones of a device that has gone are possible, but of no stream that was never here.
    if (!std::ranges::any_of(World::kDevices, [&](const WorldDevice& d) { return d.vsid.value == sid; }))
      wrong = "an event of StreamID " + std::to_string(sid);
    switch (e.id()) {
      case EventId::C_BAD_STE:
      case EventId::C_BAD_CD:
      case EventId::C_BAD_SUBSTREAMID:
      case EventId::F_STREAM_DISABLED:
      case EventId::F_TRANSL_FORBIDDEN:
      case EventId::F_BAD_ATS_TREQ: break;
      case EventId::F_TRANSLATION:
      case EventId::F_PERMISSION:
        if ((e.words[1] & TranslationFaultRecord::S2::mask) != 0 || e.words[3] != 0) wrong = "an event of stage 2";
        break;
      default: wrong = "an event " + std::string{name_of(e.id())};
    }
  }
  write(Reg::EVENTQ_CONS, (read(Reg::EVENTQ_PROD) & EVENTQ_PROD::OVFLG::mask) | cons_);
  return wrong;
}

std::vector<PropertyGuest::Target> PropertyGuest::targets(unsigned d, std::optional<SubstreamID> ssid,
                                                          std::uint64_t address, int place, std::uint64_t offset,
                                                          bool write, bool& sure) {
  using What = SteVersion::What;
  std::vector<Target> found;
  const auto refused = [&] { found.push_back({}); };
  const auto leads_to = [&](std::uint64_t ipa, bool current) {
    const auto pa = vm_.reachable(ipa);
    found.push_back({pa, pa ? ipa : 0, current});
  };
  sure = true;
  if (!enabled_) {
    // Behind a stage 2 alone a substream is refused (5.2, S1Fmt), though a disabled SMMU ignores it.
    gbpa_abort_ || ssid ? refused() : leads_to(address, true);
    return found;
  }
  const Beliefs::Device& device = beliefs.devices[d];
  sure = device.stes.size() == 1;
  for (const SteVersion& ste : device.stes) {
    const bool current = ste.until == kEver;
    if (ste.what == What::invalid || ste.what == What::abort) {
      refused();
      continue;
    }
    if (ste.what == What::bypass) {
      ssid ? refused() : leads_to(address, current);
      continue;
    }
    unsigned index = 0;
    if (ssid) {
      index = ssid->value;
      if (ste.s1cdmax == 0 || index >= 1u << ste.s1cdmax || (index == 0 && ste.dss == S1Dss::substream0)) {
        refused();
        continue;
      }
    } else if (ste.s1cdmax != 0 && ste.dss != S1Dss::substream0) {
      ste.dss == S1Dss::bypass ? leads_to(address, current) : refused();
      continue;
    }
    const auto& cds = device.cds[ste.table][index];
    sure = sure && cds.size() == 1;
    for (const CdVersion& cd : cds) {
      if (!cd.valid || place < 0) {
        refused();
        continue;
      }
      const auto leaves = beliefs.leaves(device.instance, cd.asid, static_cast<unsigned>(place));
      sure = sure && leaves.size() == 1;
      if (leaves.empty()) refused();
      for (const LeafVersion& leaf : leaves) {
        const bool inside = offset >> beliefs.trees[leaf.tree].granule == 0;
        if (leaf.mapping.ipa == 0 || !inside || (write && !leaf.mapping.writable)) {
          refused();
        } else {
          leads_to(leaf.mapping.ipa + offset, current && cd.until == kEver && leaf.until == kEver);
        }
      }
    }
  }
  return found;
}

std::string PropertyGuest::dma(unsigned d) {
  const bool write = pick(2) == 0;
  const bool physical = pick(6) == 0;
  const unsigned place = pick(kPlaces);
  const std::uint64_t offset = (pick(3) != 0 ? pick(0x1000) : pick(kSlotBytes)) & ~3u;
  const std::uint64_t address = physical ? data_ + pick(kData) * kSlotBytes + offset : va(place) + offset;
  std::optional<SubstreamID> ssid;
  if (ssid_bits_ != 0 && pick(2) == 0) ssid = SubstreamID{pick(kSubstreams)};
  const auto pa = world_.dma(d, address, write, ssid);
  bool sure = false;
  const auto all = targets(d, ssid, address, physical ? -1 : static_cast<int>(place), offset, write, sure);
  hits += pa ? 1 : 0;
  certain += sure ? 1 : 0;
  if (pa && std::ranges::none_of(all, [&](const Target& t) { return t.pa == pa; }))
    return "device " + std::to_string(d) + " reaches what it must not";
  if (pa && std::ranges::none_of(all, [&](const Target& t) { return t.pa == pa && t.current; })) ++stale;
  if (!pa && sure && all[0].pa) return "device " + std::to_string(d) + " does not reach what it should";
  return {};
}

void PropertyGuest::send_atc_inv() {
  const auto which = attached();
  if (which.empty() || !IDR0{{{read(Reg::IDR0)}}}.get<IDR0::ATS>() || !enabled_) return;
  // As a driver must: the TLB first, then what is made from it.
  sync();
  ++now_;
  AtcSent s{.at = now_, .device = which[pick(static_cast<unsigned>(which.size()))]};
  const StreamID sid{World::kDevices[s.device].vsid.value};
  if (pick(2) == 0) {
    queue(atc_inv_all(sid));
    s.any_ssid = false;  // without a PASID, only what has none, unless Global
  } else {
    const unsigned place = pick(kPlaces);
    s.any_ssid = false;
    if (ssid_bits_ != 0 && pick(2) == 0) s.ssid = SubstreamID{pick(kSubstreams)};
    const unsigned size = 4;  // 64 KiB
    queue(atc_inv(sid, s.ssid, IOVA{va(place)}, size));
    s.first = va(place);
    s.last = va(place) + kSlotBytes - 1;
  }
  atc_sent_.push_back(s);
  if (pick(2) == 0) sync();
}

std::string PropertyGuest::ats(unsigned d) {
  if (World::grant(d).ats == vsmmu::AtsGrant::none || !IDR0{{{read(Reg::IDR0)}}}.get<IDR0::ATS>()) return {};
  const bool write = pick(2) == 0;
  auto& asked = asked_[d];
  if (asked.empty() || pick(2) == 0) {
    const unsigned place = pick(kPlaces);
    const std::uint64_t offset = (pick(4) != 0 ? pick(0x1000) : pick(kSlotBytes)) & ~3u;
    const std::uint64_t address = va(place) + offset;
    std::optional<SubstreamID> ssid;
    if (ssid_bits_ != 0 && pick(2) == 0) ssid = SubstreamID{pick(kSubstreams)};
    const AtsResponse response = endpoint(d).request(address, write, ssid);
    if (response.status != AtsStatus::success || !(response.read || response.write)) return {};
    asked.push_back({ssid, address});
    if (asked.size() > 6) asked.erase(asked.begin());
    for (std::uint64_t at = va(place); at < va(place) + kSlotBytes; at += kPage4K) {
      if ((at ^ address) >= response.bytes) continue;  // a power of two, aligned
      bool sure = false;
      AtcEntry entry{.ssid = ssid, .page = at, .ipas = {}, .taken = now_};
      for (const Target& t : targets(d, ssid, at, static_cast<int>(place), at - va(place), false, sure))
        if (t.ipa != 0) entry.ipas.insert(t.ipa);
      atc_[d].push_back(entry);
    }
    return {};
  }
  // By what it has been told, and may have had to forget.
  const auto [ssid, address] = asked[pick(static_cast<unsigned>(asked.size()))];
  const auto transaction = endpoint(d).access_cached(address, write, ssid);
  if (!transaction || transaction->state != Transaction::State::passed) return {};
  ++ats_hits;
  const std::uint64_t page = address & ~(kPage4K - 1);
  for (const AtcEntry& e : atc_[d])
    if (e.page == page && e.ssid == ssid)
      for (const std::uint64_t ipa : e.ipas)
        if (vm_.reachable(ipa + (address - page)) == transaction->address) return {};
  return "device " + std::to_string(d) + " reaches by ATS what it must not";
}

}  // namespace weir::model::test
