// Both stages of translation.
#include "tests/model/walk.hpp"

#include <algorithm>
#include <bit>

namespace weir::model {

using namespace smmu;

namespace {

constexpr bool bit(std::uint64_t word, unsigned n) { return ((word >> n) & 1) != 0; }
constexpr std::uint64_t field(std::uint64_t word, unsigned hi, unsigned lo) { return (word & bit_mask(hi, lo)) >> lo; }

enum class Kind : std::uint8_t { invalid, leaf, table };
Kind kind_of(std::uint64_t descriptor, const TableShape& s, int level) {
  if (!bit(descriptor, 0)) return Kind::invalid;
  if (level == 3) return bit(descriptor, 1) ? Kind::leaf : Kind::invalid;
  if (bit(descriptor, 1)) return Kind::table;
  // Where there are blocks: Arm ARM tables D8-17, D8-27, D8-36.
  const int highest = s.granule == 12 ? (s.ds ? 0 : 1) : s.granule == 14 ? (s.ds ? 1 : 2) : (s.lpa ? 1 : 2);
  return level >= highest ? Kind::leaf : Kind::invalid;
}

// The address in a table descriptor, or in a leaf of 2^log2 bytes.
std::uint64_t address_of(std::uint64_t descriptor, const TableShape& s, unsigned log2) {
  if (s.granule == 16) {
    const std::uint64_t high = s.lpa ? field(descriptor, 15, 12) << 48 : 0;
    return (descriptor & bit_mask(47, log2)) | high;
  }
  if (s.ds) return (descriptor & bit_mask(49, log2)) | (field(descriptor, 9, 8) << 50);
  return descriptor & bit_mask(47, log2);
}

// log2 of the bytes of a group of descriptors with the Contiguous bit (Arm ARM table D8-104).
unsigned contiguous_log2(const TableShape& s, int level) {
  const unsigned shift = s.shift(level);
  unsigned more = 0;
  if (s.granule == 12) more = level >= 1 ? 4 : 0;
  if (s.granule == 14) more = level == 3 ? 7 : level == 2 ? 5 : 0;
  if (s.granule == 16) more = level >= 2 ? 5 : 0;
  return shift + more <= s.input ? shift + more : shift;
}

Shareability shareability(std::uint64_t raw) {
  return raw == 1 ? Shareability::non_shareable : static_cast<Shareability>(raw);
}

MemoryType consistent(MemoryType t) {
  if (!t.cacheable()) t.shareability = Shareability::outer;  // 13.1.7
  return t;
}

MemoryType::Device device_of(unsigned two_bits) {
  using enum MemoryType::Device;
  constexpr MemoryType::Device kTypes[] = {nGnRnE, nGnRE, nGRE, GRE};
  return kTypes[two_bits & 3];
}

}  // namespace

MemoryType memattr_type(MemAttr attr, Shareability sh) {
  const auto raw = static_cast<unsigned>(attr);
  const auto cache = [](unsigned c) {
    return c == 3   ? MemoryType::Cache::write_back
           : c == 2 ? MemoryType::Cache::write_through
                    : MemoryType::Cache::non_cacheable;
  };
  MemoryType t{.shareability = sh};
  if ((raw >> 2) == 0) {
    t.device = device_of(raw);
  } else if ((raw & 3) == 0) {
    t.device = MemoryType::Device::nGnRnE;  // reserved
  } else {
    t.outer = cache(raw >> 2);
    t.inner = cache(raw & 3);
  }
  return consistent(t);
}

MemoryType combine(const MemoryType& stage1, std::uint8_t memattr, Shareability sh, bool fwb) {
  MemoryType t = stage1;
  if (fwb) {
    if ((memattr & 4) == 0) {
      t.device =
          stage1.device == MemoryType::Device::none ? device_of(memattr) : std::max(stage1.device, device_of(memattr));
    } else if ((memattr & 7) == 6) {
      t = {.shareability = stage1.shareability};
    } else if ((memattr & 7) == 5 && stage1.device == MemoryType::Device::none) {
      t.inner = t.outer = MemoryType::Cache::non_cacheable;
    }
  } else {
    const MemoryType second = memattr_type(static_cast<MemAttr>(memattr), sh);
    t.device = std::max(stage1.device, second.device);
    t.inner = std::min(stage1.inner, second.inner);
    t.outer = std::min(stage1.outer, second.outer);
  }
  const auto weight = [](Shareability s) { return s == Shareability::outer ? 2 : s == Shareability::inner ? 1 : 0; };
  if (weight(sh) > weight(t.shareability)) t.shareability = sh;
  return consistent(t);
}

MemoryType mair_type(std::uint8_t attr, Shareability sh) {
  MemoryType t{.shareability = sh};
  const unsigned outer = attr >> 4;
  const unsigned inner = attr & 15;
  if (outer == 0) {
    t.device = device_of(inner >> 2);
    return consistent(t);
  }
  const auto cache = [](unsigned c) {
    if (c == 4) return MemoryType::Cache::non_cacheable;
    return (c & 4) != 0 ? MemoryType::Cache::write_back : MemoryType::Cache::write_through;
  };
  t.outer = cache(outer);
  t.inner = cache(inner);  // 0b0000: reserved, write-through transient
  return consistent(t);
}

// --- Faults ---

Fault Translator::Walk::fault(EventId id) const {
  Fault f;
  f.id = id;
  f.input = access_.address;
  f.read = !access_.write;
  f.privileged = want_.privileged;
  f.instruction = want_.instruction;
  f.ssid = access_.ssid;
  f.merge = ste_ != nullptr && ste_->ste.get<Ste::MEV>();
  return f;
}

Fault Translator::Walk::stage1_fault(EventId id) const {
  Fault f = fault(id);
  const Cd& cd = cd_->cd;
  f.stalls = cd.get<Cd::S>() && access_.kind == Access::Kind::untranslated;
  f.silent = !cd.get<Cd::R>() && !f.stalls;
  f.abort = cd.get<Cd::A>();
  return f;
}

Fault Translator::Walk::stage2_fault(EventId id, EventClass what, std::uint64_t ipa) const {
  Fault f = fault(id);
  f.what = what;
  f.s2 = true;
  f.ipa = ipa;
  f.stalls = ste_->ste.get<Ste::S2S>() && access_.kind != Access::Kind::ats_request;
  f.silent = !ste_->ste.get<Ste::S2R>() && !f.stalls;
  return f;
}

Fault Translator::Walk::abort_fault(EventId id, std::uint64_t pa) const {
  Fault f = fault(id);
  f.fetch = pa;
  return f;
}

// --- Stage 2 ---

bool Translator::Walk::httu2(bool dirty) const {
  const Ste& ste = ste_->ste;
  if (p_.httu == Htt::none || !ste.get<Ste::S2HA>()) return false;
  return !dirty || (p_.httu != Htt::access && ste.get<Ste::S2HD>());
}

bool Translator::Walk::permits2(const LeafEntry& e, const Want& want) const {
  const Rights& r = e.s2[want.privileged ? 1 : 0];
  return want.write ? r.write : want.instruction ? r.execute : r.read;
}

std::expected<LeafEntry, Fault> Translator::Walk::stage2(std::uint64_t ipa, EventClass what, bool make_dirty,
                                                         bool use_cache) {
  const EntryTag tag{.stage2 = true, .vmid = vmid_of(p_, ste_->ste, World::el1)};
  if (use_cache) {
    TranslationCache::Hits hits{};
    const unsigned n = t_.tlb_->find(tag, ipa, hits);
    if (n != 0) {
      LeafEntry* const e = hits[n == 1 ? 0 : t_.random_() % n];
      const bool differ = std::any_of(hits.begin(), hits.begin() + n, [&](const LeafEntry* other) {
        return p_.bbml == 0 ? other->size != e->size : other->level != e->level;
      });
      if (p_.tlb_conflicts && p_.bbml < 2 && differ) {
        Fault f = fault(EventId::F_TLB_CONFLICT);
        f.s2 = true;
        f.ipa = ipa;
        return std::unexpected{f};
      }
      if (!make_dirty || !e->s2_clean) return *e;
    }
  }
  return walk2(ipa, what, make_dirty);
}

std::expected<LeafEntry, Fault> Translator::Walk::walk2(std::uint64_t ipa, EventClass what, bool make_dirty) {
  const Ste& ste = ste_->ste;
  const TableShape s = stage2_shape(p_, ste);
  const EntryTag tag{.stage2 = true, .vmid = vmid_of(p_, ste, World::el1)};
  const auto failed = [&](EventId id) { return std::unexpected{stage2_fault(id, what, ipa)}; };
  const auto aborted = [&](std::uint64_t pa) {
    Fault f = abort_fault(EventId::F_WALK_EABT, pa);
    f.s2 = true;
    f.what = what;
    f.ipa = ipa;
    return std::unexpected{f};
  };
  if (beyond(ipa, s.input)) return failed(EventId::F_TRANSLATION);
  int level = s.start;
  std::uint64_t table = s.root;
  for (int cached = 2; cached >= s.start; --cached) {
    const TableEntry* const e = t_.tlb_->find_table(tag, ipa, cached, s.shift(cached));
    if (e == nullptr || e->granule != s.granule) continue;
    level = cached + 1;
    table = e->next;
    break;
  }
  for (;; ++level) {
    const std::uint64_t at = table + s.index(ipa, level) * 8;
    auto descriptor = load<std::uint64_t>(at, s.walk);
    if (!descriptor) return aborted(at);
    std::uint64_t d = s.big_endian ? std::byteswap(*descriptor) : *descriptor;
    const Kind kind = kind_of(d, s, level);
    if (kind == Kind::invalid) return failed(EventId::F_TRANSLATION);
    if (kind == Kind::table) {
      table = address_of(d, s, s.granule);
      if (beyond(table, s.output)) return failed(EventId::F_ADDR_SIZE);
      if (!p_.mimics_qemu && chance(1, 2)) {
        TableEntry e;
        e.tag = tag;
        e.size = s.bytes(level);
        e.base = ipa & ~(e.size - 1);
        e.level = level;
        e.granule = s.granule;
        e.next = table;
        t_.tlb_->insert(e);
      }
      continue;
    }
    unsigned log2 = s.shift(level);
    std::uint64_t out = address_of(d, s, log2);
    if (beyond(out, s.output)) return failed(EventId::F_ADDR_SIZE);
    std::uint64_t updated = d;
    if (!bit(d, 10)) {
      if (httu2(false)) {
        if (speculative_ && chance(1, 2)) return failed(EventId::F_ACCESS);
        updated |= std::uint64_t{1} << 10;
      } else if (!ste.get<Ste::S2AFFD>()) {
        return failed(EventId::F_ACCESS);
      }
    }
    const bool modifier = httu2(true) && bit(d, 51);
    if (modifier && make_dirty && !bit(d, 7)) updated |= std::uint64_t{1} << 7;
    if (updated != d) {
      const auto done = t_.memory_.exchange(PA{at}, *descriptor, s.big_endian ? std::byteswap(updated) : updated,
                                            p_.coherent && s.walk.cacheable());
      if (!done) return aborted(at);
      if (!*done) {
        --level;  // a CPU has changed it meanwhile
        continue;
      }
      d = updated;
    }
    if (bit(d, 52) && !p_.mimics_qemu && chance(1, 2)) {
      log2 = contiguous_log2(s, level);
      out &= ~((std::uint64_t{1} << log2) - 1);
    }
    LeafEntry e;
    e.tag = tag;
    e.size = e.bytes = std::uint64_t{1} << log2;
    e.base = e.from = ipa & ~(e.size - 1);
    e.level = level;
    e.granule = s.granule;
    e.out = out;
    e.ipa = e.from;
    e.combined = true;
    e.memattr = static_cast<std::uint8_t>(field(d, 5, 2));
    e.fwb = p_.fwb && ste.get<Ste::S2FWB>();
    e.type.shareability = s.ds ? ste.get<Ste::S2SH0>() : shareability(field(d, 9, 8));
    const auto xn = field(d, 54, 53);
    for (const unsigned privileged : {0u, 1u}) {
      Rights& r = e.s2[privileged];
      r.read = bit(d, 6);
      r.write = bit(d, 7) || modifier;
      r.execute = !p_.xnx ? !bit(d, 54) : privileged != 0 ? xn == 0 || xn == 3 : xn == 0 || xn == 1;
    }
    e.s2_clean = modifier && !bit(d, 7);
    const bool kept_out = p_.bbml == 1 && level < 3 && bit(d, 16);  // nT (3.21.1.2)
    if (!kept_out && !(p_.mimics_qemu && nested() && what == EventClass::IN)) t_.tlb_->insert(e);
    return e;
  }
}

std::expected<Located, Fault> Translator::Walk::reach(std::uint64_t ipa, EventClass what, const MemoryType& type,
                                                      bool write) {
  const auto e = stage2(ipa, what, write);
  if (!e) return std::unexpected{e.error()};
  const auto denied = [&] {
    Fault f = stage2_fault(EventId::F_PERMISSION, what, ipa);
    f.ttrnw = !write;
    return std::unexpected{f};
  };
  const MemoryType both = combine(type, e->memattr, e->type.shareability, e->fwb);
  // An access of the SMMU itself is data; privilege makes no difference to that (5.2, S2PTW).
  if (!(write ? e->s2[0].write : e->s2[0].read)) return denied();
  const bool device = both.device != MemoryType::Device::none;
  if (device && ste_->ste.get<Ste::S2PTW>() && translates_s1(ste_->ste.get<Ste::Config>())) return denied();
  return Located{.pa = e->out + (ipa - e->from), .type = both};
}

// --- Stage 1 ---

bool Translator::Walk::permits1(const LeafEntry& e, const Want& want) const {
  const Rights& r = e.s1[want.privileged ? 1 : 0];
  const Rights& user = e.s1[0];
  if (!want.instruction && want.privileged && e.pan && (user.read || (e.epan && user.execute))) return false;
  return want.write ? r.write : want.instruction ? r.execute : r.read;
}

std::optional<LeafEntry> Translator::Walk::cached1(const EntryTag& tag, std::uint64_t va, Fault& conflict) {
  TranslationCache::Hits hits{};
  unsigned n = t_.tlb_->find(tag, va, hits);
  if (n == 0) return std::nullopt;
  if (p_.tlb_conflicts && p_.bbml < 2) {
    for (unsigned i = 1; i < n; ++i)
      if (p_.bbml == 0 ? hits[i]->size != hits[0]->size : hits[i]->level != hits[0]->level) {
        conflict = fault(EventId::F_TLB_CONFLICT);
        return std::nullopt;
      }
  }
  // A complete entry is the staler one.
  const auto complete = std::partition(hits.begin(), hits.begin() + n, [](const LeafEntry* e) { return e->final; });
  if (complete != hits.begin()) n = static_cast<unsigned>(complete - hits.begin());
  return *hits[n == 1 ? 0 : t_.random_() % n];
}

std::expected<Located, Fault> Translator::Walk::locate1(TablePages& pages, const TableShape& shape, std::uint64_t table,
                                                        int level, std::uint64_t offset) {
  if (!nested()) return Located{.pa = table + offset, .type = shape.walk};
  // What is known of a page of the table goes with whatever `pages` belongs to.
  const std::uint64_t within = (table % kPage4K) + offset;
  std::optional<Located>& page = pages[(within / kPage4K) % pages.size()];
  if (page) return Located{.pa = page->pa + within % kPage4K, .type = page->type};
  const auto at = reach(table + offset, EventClass::TT, shape.walk, false);
  if (!at) {
    Fault f = at.error();
    if (p_.mimics_qemu) {  // the table, not the descriptor; and not said to be of stage 2 below the root
      f.ipa = table;
      if (level != shape.start) f.s2 = false;
    }
    return std::unexpected{f};
  }
  page = Located{.pa = at->pa - within % kPage4K, .type = at->type};
  return *at;
}

std::expected<LeafEntry, Fault> Translator::Walk::walk1(CachedCd& cached, const TableShape& s, const EntryTag& tag,
                                                        std::uint64_t va, bool upper, const Want& want) {
  const Cd& cd = cached.cd;
  const auto failed = [&](EventId id) { return std::unexpected{stage1_fault(id)}; };
  const auto aborted = [&](std::uint64_t pa) {
    Fault f = abort_fault(EventId::F_WALK_EABT, pa);
    f.what = EventClass::TT;
    return std::unexpected{f};
  };
  const bool had = p_.had && (upper ? cd.get<Cd::HAD1>() : cd.get<Cd::HAD0>());
  const bool one_level = world_ == World::el2;
  TableEntry current;  // the table descriptor that led here
  current.next = s.root;
  TablePages* pages = &cached.roots[upper ? 1 : 0];
  int level = s.start;
  for (int depth = 2; depth >= s.start; --depth) {
    TableEntry* const e = t_.tlb_->find_table(tag, va, depth, s.shift(depth));
    if (e == nullptr || e->granule != s.granule) continue;
    current = *e;
    pages = &e->pages;
    level = depth + 1;
    break;
  }
  for (;; ++level) {
    const std::uint64_t offset = s.index(va, level) * 8;
    const auto at = locate1(*pages, s, current.next, level, offset);
    if (!at) return std::unexpected{at.error()};
    const auto descriptor = load<std::uint64_t>(at->pa, at->type);
    if (!descriptor) return aborted(at->pa);
    std::uint64_t d = s.big_endian ? std::byteswap(*descriptor) : *descriptor;
    Kind kind = kind_of(d, s, level);
    if (p_.mimics_qemu && level < 3 && bit(d, 0) && !bit(d, 1)) kind = Kind::leaf;  // a block at any level
    if (kind == Kind::invalid) return failed(EventId::F_TRANSLATION);
    if (kind == Kind::table) {
      const std::uint64_t next = address_of(d, s, s.granule);
      if (beyond(next, s.output) && !p_.mimics_qemu) return failed(EventId::F_ADDR_SIZE);
      current.next = next;
      current.pages = {};
      if (!had) {
        current.ap_no_user = current.ap_no_user || (bit(d, 61) && !one_level);
        current.ap_read_only = current.ap_read_only || bit(d, 62);
        current.uxn = current.uxn || bit(d, 60);
        current.pxn = current.pxn || (one_level ? bit(d, 60) : bit(d, 59));
      }
      pages = &current.pages;
      if (!p_.mimics_qemu && chance(1, 2)) {
        TableEntry e = current;
        e.tag = tag;
        e.size = s.bytes(level);
        e.base = va & ~(e.size - 1);
        e.level = level;
        e.granule = s.granule;
        t_.tlb_->insert(e);
        pages = &t_.tlb_->find_table(tag, va, level, s.shift(level))->pages;
      }
      continue;
    }
    unsigned log2 = s.shift(level);
    std::uint64_t out = address_of(d, s, log2);
    const bool access_first = p_.mimics_qemu && !bit(d, 10) && !cd.get<Cd::AFFD>();
    if (beyond(out, s.output) && !access_first) return failed(EventId::F_ADDR_SIZE);
    std::uint64_t updated = d;
    const bool ha = p_.httu != Htt::none && cd.get<Cd::HA>();
    const bool hd = ha && p_.httu != Htt::access && cd.get<Cd::HD>();
    if (!bit(d, 10)) {
      if (ha) {
        if (speculative_ && chance(1, 2)) return failed(EventId::F_ACCESS);
        updated |= std::uint64_t{1} << 10;
      } else if (!cd.get<Cd::AFFD>()) {
        return failed(EventId::F_ACCESS);
      }
    }
    LeafEntry e;
    e.tag = tag;
    e.tag.global = world_ != World::el2 && !bit(d, 11) && !p_.mimics_qemu;
    e.level = level;
    e.granule = s.granule;
    e.pan = cd.get<Cd::PAN>() && !one_level;
    e.epan = p_.epan && cd.get<Cd::EPAN>();
    const bool modifier = hd && bit(d, 51) && !current.ap_read_only;
    const bool read_only = (bit(d, 7) && !modifier) || current.ap_read_only;
    const bool user = (bit(d, 6) && !current.ap_no_user) || one_level;
    const bool uxn = bit(d, 54) || current.uxn;
    const bool pxn = one_level ? uxn : bit(d, 53) || current.pxn;
    e.s1[0] = {.read = user, .write = user && !read_only, .execute = !uxn};
    e.s1[1] = {.read = true, .write = !read_only, .execute = !pxn};
    if (e.s1[0].write && !one_level) e.s1[1].execute = false;
    if (cd.get<Cd::WXN>())
      for (Rights& r : e.s1) r.execute = r.execute && !r.write;
    if (p_.mimics_qemu) e.s1 = {Rights{true, !read_only, true}, Rights{true, !read_only, true}};
    e.s1_clean = modifier && bit(d, 7);
    if (e.s1_clean && want.write && !speculative_ && permits1(e, want)) {
      updated &= ~(std::uint64_t{1} << 7);
      updated |= std::uint64_t{1} << 10;
      e.s1_clean = false;
    }
    if (updated != d) {
      std::uint64_t where = at->pa;
      if (nested()) {  // 3.13.5: stage 2 has to allow the write
        const auto writable = reach(current.next + offset, EventClass::TT, s.walk, true);
        if (!writable) return std::unexpected{writable.error()};
        where = writable->pa;
      }
      if (!t_.memory_.store(PA{where}, s.big_endian ? std::byteswap(updated) : updated,
                            p_.coherent && at->type.cacheable()))
        return aborted(where);
    }
    if (bit(d, 52) && !p_.mimics_qemu && chance(1, 2)) {
      log2 = contiguous_log2(s, level);
      out &= ~((std::uint64_t{1} << log2) - 1);
    }
    e.size = e.bytes = std::uint64_t{1} << log2;
    e.base = e.from = va & ~(e.size - 1);
    e.out = out;
    const std::uint64_t mair = (std::uint64_t{cd.get<Cd::MAIR1>()} << 32) | cd.get<Cd::MAIR0>();
    const Shareability sh = s.ds ? (upper ? cd.get<Cd::SH1>() : cd.get<Cd::SH0>()) : shareability(field(d, 9, 8));
    e.type = mair_type(static_cast<std::uint8_t>(mair >> (8 * field(d, 4, 2))), sh);
    e.final = !nested();
    const bool kept_out = p_.bbml == 1 && level < 3 && bit(d, 16);
    if (kept_out) e.bytes = 0;  // for this access only
    return e;
  }
}

std::expected<LeafEntry, Fault> Translator::Walk::combine_stages(const LeafEntry& e, std::uint64_t va, bool write) {
  const std::uint64_t ipa = e.out + (va - e.from);
  const auto second = stage2(ipa, EventClass::IN, write && !speculative_, !p_.mimics_qemu);
  if (!second) return std::unexpected{second.error()};
  LeafEntry both = e;
  both.bytes = std::min(e.bytes == 0 ? e.size : e.bytes, second->bytes);
  if (!p_.mimics_qemu && both.bytes > kPage4K && chance(1, 2)) both.bytes = kPage4K;
  both.from = va & ~(both.bytes - 1);
  both.ipa = ipa & ~(both.bytes - 1);
  both.out = (second->out + (ipa - second->from)) & ~(both.bytes - 1);
  both.final = true;
  both.combined = true;
  both.s2 = second->s2;
  both.s2_clean = second->s2_clean;
  both.type = combine(e.type, second->memattr, second->type.shareability, second->fwb);
  if (p_.mimics_qemu && both.bytes < e.size) {  // it forgets what the piece was part of
    both.base = both.from;
    both.size = both.bytes;
    both.level = second->level;
  }
  if (e.bytes != 0) t_.tlb_->insert(both);
  return both;
}

}  // namespace weir::model
