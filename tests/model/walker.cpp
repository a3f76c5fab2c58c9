// What a transaction goes through: stream table, context descriptor, translation tables, events (Arm IHI 0070, 3.3,
// 5.2 to 5.5, 7.3; Arm ARM D8.2 and D8.3 for the 4 KiB granule).
#include "tests/model/smmu.hpp"

namespace weir::model {

using namespace smmu;

namespace {

constexpr std::uint64_t kAddress = bit_mask(47, 12);
constexpr unsigned shift_of(unsigned level) { return 39 - 9 * level; }
constexpr std::uint64_t bytes_of(unsigned level) { return std::uint64_t{1} << shift_of(level); }
constexpr bool bit(std::uint64_t word, unsigned n) { return ((word >> n) & 1) != 0; }
constexpr bool beyond(std::uint64_t address, unsigned bits) { return (address >> bits) != 0; }

enum class Kind : std::uint8_t { invalid, leaf, table };
constexpr Kind kind_of(std::uint64_t descriptor, unsigned level) {
  if (!bit(descriptor, 0)) return Kind::invalid;
  if (level == 3) return bit(descriptor, 1) ? Kind::leaf : Kind::invalid;
  if (bit(descriptor, 1)) return Kind::table;
  return level == 0 ? Kind::invalid : Kind::leaf;
}
constexpr std::uint64_t output_of(std::uint64_t descriptor, unsigned level) {
  return descriptor & kAddress & ~(bytes_of(level) - 1);
}

}  // namespace

// --- Configuration ---

std::expected<Ste, Smmu::Fault> Smmu::ste(std::uint32_t sid) {
  if (const auto cached = stes_.find(sid); cached != stes_.end()) return cached->second;
  STRTAB_BASE_CFG config;
  config.words[0] = read(Reg::STRTAB_BASE_CFG);
  CR2 cr2;
  cr2.words[0] = read(Reg::CR2);
  const Fault bad_stream{.id = EventId::C_BAD_STREAMID, .silent = !cr2.get<CR2::RECINVSID>()};
  const auto log2 = config.get<STRTAB_BASE_CFG::LOG2SIZE>();
  if (log2 < 32 && (sid >> log2) != 0) return std::unexpected{bad_stream};
  const std::uint64_t base = strtab_base();
  PA at{};
  if (config.get<STRTAB_BASE_CFG::FMT>() == StrtabFmt::two_level) {
    const auto split = config.get<STRTAB_BASE_CFG::SPLIT>();
    const std::uint32_t index = sid >> split;
    const auto cached = level1_.find(index);
    L1Std level1;
    if (cached != level1_.end()) {
      level1 = cached->second;
    } else {
      const PA from{base + std::uint64_t{index} * sizeof(L1Std)};
      const auto loaded = memory_.load<L1Std>(from);
      if (!loaded) return std::unexpected{Fault{.id = EventId::F_STE_FETCH, .fetch = from.value}};
      level1_[index] = level1 = *loaded;
    }
    const auto span = level1.get<L1Std::Span>();
    const std::uint32_t within = sid & ((std::uint32_t{1} << split) - 1);
    if (span == 0 || span > split + 1 || (within >> (span - 1)) != 0) return std::unexpected{bad_stream};
    at = PA{level1.get<L1Std::L2Ptr>()} + std::uint64_t{within} * sizeof(Ste);
  } else {
    at = PA{base} + std::uint64_t{sid} * sizeof(Ste);
  }
  const auto loaded = memory_.load<Ste>(at);
  if (!loaded) return std::unexpected{Fault{.id = EventId::F_STE_FETCH, .fetch = at.value}};
  stes_[sid] = *loaded;
  return *loaded;
}

bool Smmu::ste_legal(const Ste& ste) const {
  if (!ste.get<Ste::V>()) return false;
  const auto config = ste.get<Ste::Config>();
  if (is_abort(config)) return true;
  if (ste.get<Ste::STRW>() != Strw::nsel1 && translates_s1(config)) return false;
  if (translates_s1(config)) {
    if (ste.get<Ste::S1CDMax>() != 0) return false;  // IDR1.SSIDSIZE == 0
    if (ste.get<Ste::S1STALLD>()) return false;      // IDR0.STALL_MODEL == 0b01
    if (beyond(ste.get<Ste::S1ContextPtr>().value, oas())) return false;
  }
  if (translates_s2(config)) {
    if (!ste.get<Ste::S2AA64>() || ste.get<Ste::S2TG>() != Granule0::size4k || ste.get<Ste::S2ENDI>()) return false;
    if (ste.get<Ste::S2HA>() || ste.get<Ste::S2HD>() || ste.get<Ste::S2S>() || ste.get<Ste::S2DS>()) return false;
    const auto t0sz = ste.get<Ste::S2T0SZ>();
    const auto sl0 = ste.get<Ste::S2SL0>();
    if (t0sz < 16 || t0sz > 39 || t0sz < 64 - oas() || sl0 > 2) return false;
    // The root is 1 to 16 concatenated tables at the start level.
    const unsigned start = 2 - static_cast<unsigned>(sl0);
    const unsigned input = 64 - static_cast<unsigned>(t0sz);
    if (input <= shift_of(start) || input > shift_of(start) + 9 + 4) return false;
    if (start == 0 && (oas() < 44 || input > 48)) return false;
    if (beyond(ste.get<Ste::S2TTB>().value, std::min(48u, oas()))) return false;
  }
  return true;
}

bool Smmu::cd_legal(const Ste& ste, const Cd& cd) const {
  if (!cd.get<Cd::V>() || !cd.get<Cd::AA64>() || cd.get<Cd::ENDI>()) return false;
  if (cd.get<Cd::HA>() || cd.get<Cd::HD>() || cd.get<Cd::S>()) return false;  // no HTTU, no stalls
  static_cast<void>(ste);
  const unsigned out = std::min({48u, oas(), bits(cd.get<Cd::IPS>())});
  if (!cd.get<Cd::EPD0>()) {
    const auto t0sz = cd.get<Cd::T0SZ>();
    if (cd.get<Cd::TG0>() != Granule0::size4k || t0sz < 16 || t0sz > 39) return false;
    if (beyond(cd.get<Cd::TTB0>().value, out)) return false;
  }
  if (!cd.get<Cd::EPD1>()) {
    const auto t1sz = cd.get<Cd::T1SZ>();
    if (cd.get<Cd::TG1>() != Granule1::size4k || t1sz < 16 || t1sz > 39) return false;
    if (beyond(cd.get<Cd::TTB1>().value, out)) return false;
  }
  return true;
}

std::expected<Smmu::CachedCd*, Smmu::Fault> Smmu::cd(std::uint32_t sid, const Ste& ste) {
  if (const auto cached = cds_.find(sid); cached != cds_.end()) return &cached->second;
  std::uint64_t at = ste.get<Ste::S1ContextPtr>().value;
  if (translates_s2(ste.get<Ste::Config>())) {
    const auto pa = readable(ste, at, EventClass::CD);
    if (!pa) return std::unexpected{pa.error()};
    at = *pa;
  }
  const auto loaded = memory_.load<Cd>(PA{at});
  if (!loaded) return std::unexpected{Fault{.id = EventId::F_CD_FETCH, .fetch = at}};
  return &(cds_[sid] = CachedCd{.cd = *loaded, .ttb = {}});
}

// --- Translation ---

std::expected<Smmu::Output, Smmu::Fault> Smmu::stage2(const Ste& ste, std::uint64_t ipa, EventClass what) {
  const Tag tag{.scope = Scope::stage2, .vmid = ste.get<Ste::S2VMID>().value};
  const auto result = [&](const Leaf& e) {
    return Output{.pa = e.out + (ipa - e.from), .base = e.base, .size = e.size, .read = e.s2_read, .write = e.s2_write};
  };
  if (const Leaf* hit = tlb_.find(tag, ipa); hit != nullptr) return result(*hit);
  const auto fault = [&](EventId id, std::uint64_t fetch = 0) {
    return std::unexpected{
        Fault{.id = id, .what = what, .s2 = true, .ipa = ipa, .fetch = fetch, .silent = !ste.get<Ste::S2R>()}};
  };
  const unsigned input = 64 - static_cast<unsigned>(ste.get<Ste::S2T0SZ>());
  const unsigned output = std::min({48u, oas(), bits(ste.get<Ste::S2PS>())});
  if (beyond(ipa, input)) return fault(EventId::F_TRANSLATION);
  unsigned level = 2 - static_cast<unsigned>(ste.get<Ste::S2SL0>());
  const unsigned resolved = input - shift_of(level);  // by the root, concatenated or not
  std::uint64_t table = ste.get<Ste::S2TTB>().value & ~((std::uint64_t{8} << resolved) - 1);
  std::uint64_t index = ipa >> shift_of(level);
  for (;; ++level, index = (ipa >> shift_of(level)) & 511) {
    if (const TableLeaf* hit = tlb_.find_table(tag, ipa, level); hit != nullptr) {
      table = hit->next;
      continue;
    }
    const PA at{table + index * 8};
    const auto descriptor = memory_.load<std::uint64_t>(at);
    if (!descriptor) return fault(EventId::F_WALK_EABT, at.value);
    const Kind kind = kind_of(*descriptor, level);
    if (kind == Kind::invalid) return fault(EventId::F_TRANSLATION);
    const std::uint64_t base = ipa & ~(bytes_of(level) - 1);
    if (kind == Kind::table) {
      table = *descriptor & kAddress;
      if (beyond(table, output)) return fault(EventId::F_ADDR_SIZE);
      if (chance(1, 2))
        tlb_.insert(TableLeaf{.tag = tag, .base = base, .size = bytes_of(level), .level = level, .next = table});
      continue;
    }
    const std::uint64_t out = output_of(*descriptor, level);
    if (beyond(out, output)) return fault(EventId::F_ADDR_SIZE);
    if (!bit(*descriptor, 10) && !ste.get<Ste::S2AFFD>()) return fault(EventId::F_ACCESS);
    const Leaf leaf{.tag = tag,
                    .base = base,
                    .size = bytes_of(level),
                    .level = level,
                    .from = base,
                    .bytes = bytes_of(level),
                    .out = out,
                    .s2_read = bit(*descriptor, 6),
                    .s2_write = bit(*descriptor, 7)};
    tlb_.insert(leaf);
    return result(leaf);
  }
}

std::expected<std::uint64_t, Smmu::Fault> Smmu::readable(const Ste& ste, std::uint64_t ipa, EventClass what) {
  const auto out = stage2(ste, ipa, what);
  if (!out) return std::unexpected{out.error()};
  if (!out->read)
    return std::unexpected{
        Fault{.id = EventId::F_PERMISSION, .what = what, .s2 = true, .ipa = ipa, .silent = !ste.get<Ste::S2R>()}};
  return out->pa;
}

std::expected<Leaf, Smmu::Fault> Smmu::stage1(const Ste& ste, CachedCd& cached, std::uint64_t va) {
  const Cd& cd = cached.cd;
  const bool nested = translates_s2(ste.get<Ste::Config>());
  Tag tag{.scope = Scope::stage1,
          .vmid = ste.get<Ste::S2VMID>().value,
          .asid = cd.get<Cd::ASID>().value,
          .global = false,
          .aset = cd.get<Cd::ASET>()};
  if (const Leaf* hit = tlb_.find(tag, va); hit != nullptr) return *hit;
  const auto fault = [&](EventId id, std::uint64_t fetch = 0) {
    return std::unexpected{Fault{.id = id,
                                 .what = id == EventId::F_WALK_EABT ? EventClass::TT : EventClass::IN,
                                 .fetch = fetch,
                                 .silent = !cd.get<Cd::R>()}};
  };
  const bool upper = bit(va, 63);
  const unsigned input = 64 - static_cast<unsigned>(upper ? cd.get<Cd::T1SZ>() : cd.get<Cd::T0SZ>());
  const unsigned output = std::min({48u, oas(), bits(cd.get<Cd::IPS>())});
  if (upper ? cd.get<Cd::EPD1>() : cd.get<Cd::EPD0>()) return fault(EventId::F_TRANSLATION);
  if ((va >> input) != (upper ? ~std::uint64_t{0} >> input : 0)) return fault(EventId::F_TRANSLATION);
  const std::uint64_t low = va & ((std::uint64_t{1} << input) - 1);
  unsigned level = input > 39 ? 0 : input > 30 ? 1 : input > 21 ? 2 : 3;
  const unsigned resolved = input - shift_of(level);
  // Where a table lies, as a PA.
  const auto locate = [&](std::uint64_t ipa) -> Result<std::uint64_t> {
    if (!nested) return ipa;
    return readable(ste, ipa, EventClass::TT);
  };
  std::optional<std::uint64_t>& ttb = cached.ttb[upper ? 1 : 0];
  bool no_unprivileged = false;
  bool read_only = false;
  std::optional<std::uint64_t> table;  // PA; of the start level only when it is needed
  std::uint64_t index = low >> shift_of(level);
  for (;; ++level, index = (low >> shift_of(level)) & 511) {
    const std::uint64_t base = va & ~(bytes_of(level) - 1);
    if (const TableLeaf* hit = tlb_.find_table(tag, va, level); hit != nullptr) {
      table = hit->next;
      no_unprivileged = hit->no_unprivileged;
      read_only = hit->read_only;
      continue;
    }
    if (!table) {
      if (!ttb) {
        const std::uint64_t at = (upper ? cd.get<Cd::TTB1>() : cd.get<Cd::TTB0>()).value;
        const auto pa = locate(at & ~((std::uint64_t{8} << resolved) - 1));
        if (!pa) return std::unexpected{pa.error()};
        ttb = *pa;
      }
      table = *ttb;
    }
    const PA at{*table + index * 8};
    const auto descriptor = memory_.load<std::uint64_t>(at);
    if (!descriptor) return fault(EventId::F_WALK_EABT, at.value);
    const Kind kind = kind_of(*descriptor, level);
    if (kind == Kind::invalid) return fault(EventId::F_TRANSLATION);
    if (kind == Kind::table) {
      const std::uint64_t next = *descriptor & kAddress;
      if (beyond(next, output)) return fault(EventId::F_ADDR_SIZE);
      const bool had = upper ? cd.get<Cd::HAD1>() : cd.get<Cd::HAD0>();
      no_unprivileged = no_unprivileged || (!had && bit(*descriptor, 61));
      read_only = read_only || (!had && bit(*descriptor, 62));
      const auto pa = locate(next);
      if (!pa) return std::unexpected{pa.error()};
      table = *pa;
      if (chance(1, 2))
        tlb_.insert(TableLeaf{.tag = tag,
                              .base = base,
                              .size = bytes_of(level),
                              .level = level,
                              .next = *pa,
                              .no_unprivileged = no_unprivileged,
                              .read_only = read_only});
      continue;
    }
    const std::uint64_t out = output_of(*descriptor, level);
    if (beyond(out, output)) return fault(EventId::F_ADDR_SIZE);
    if (!bit(*descriptor, 10) && !cd.get<Cd::AFFD>()) return fault(EventId::F_ACCESS);
    tag.global = !bit(*descriptor, 11);
    const bool allowed = bit(*descriptor, 6) && !no_unprivileged;  // transactions are unprivileged
    Leaf leaf{.tag = tag,
              .base = base,
              .size = bytes_of(level),
              .level = level,
              .from = base,
              .bytes = bytes_of(level),
              .out = out,
              .s1_read = allowed,
              .s1_write = allowed && !bit(*descriptor, 7) && !read_only,
              .ipa = out};
    if (nested) {
      const std::uint64_t ipa = out + (va - base);
      const auto final = stage2(ste, ipa, EventClass::IN);
      if (!final) return std::unexpected{final.error()};
      // As much as both stages have in one piece, or a page of it.
      const std::uint64_t bytes = chance(1, 2) ? kPage4K : std::min(leaf.bytes, final->size);
      leaf.from = va & ~(bytes - 1);
      leaf.bytes = bytes;
      leaf.ipa = ipa & ~(bytes - 1);
      leaf.out = final->pa & ~(bytes - 1);
      leaf.s2_read = final->read;
      leaf.s2_write = final->write;
    }
    tlb_.insert(leaf);
    return leaf;
  }
}

std::expected<std::uint64_t, Smmu::Fault> Smmu::translate(std::uint32_t sid, std::uint64_t address, bool write,
                                                          const Ste*& used_ste, const Cd*& used_cd) {
  const auto found = ste(sid);
  if (!found) return std::unexpected{found.error()};
  const Ste& entry = stes_.at(sid);
  used_ste = &entry;
  if (!ste_legal(entry)) return std::unexpected{Fault{.id = EventId::C_BAD_STE}};
  const auto config = entry.get<Ste::Config>();
  if (is_abort(config)) return std::unexpected{Fault{.silent = true}};
  if (translates_s1(config)) {
    const auto context = cd(sid, entry);
    if (!context) return std::unexpected{context.error()};
    used_cd = &(*context)->cd;
    if (!cd_legal(entry, *used_cd)) return std::unexpected{Fault{.id = EventId::C_BAD_CD}};
    const auto leaf = stage1(entry, **context, address);
    if (!leaf) return std::unexpected{leaf.error()};
    if (!(write ? leaf->s1_write : leaf->s1_read))
      return std::unexpected{Fault{.id = EventId::F_PERMISSION, .silent = !used_cd->get<Cd::R>()}};
    if (!(write ? leaf->s2_write : leaf->s2_read))
      return std::unexpected{Fault{.id = EventId::F_PERMISSION,
                                   .s2 = true,
                                   .ipa = leaf->ipa + (address - leaf->from),
                                   .silent = !entry.get<Ste::S2R>()}};
    return leaf->out + (address - leaf->from);
  }
  if (translates_s2(config)) {
    const auto out = stage2(entry, address, EventClass::IN);
    if (!out) return std::unexpected{out.error()};
    if (!(write ? out->write : out->read))
      return std::unexpected{
          Fault{.id = EventId::F_PERMISSION, .s2 = true, .ipa = address, .silent = !entry.get<Ste::S2R>()}};
    return out->pa;
  }
  if (beyond(address, oas())) return std::unexpected{Fault{.id = EventId::F_ADDR_SIZE}};
  return address;
}

std::optional<PA> Smmu::access(StreamID sid, IOVA address, bool write, std::uint64_t bytes) {
  if (!enabled()) {
    if (gbpa_.get<GBPA::ABORT>() || beyond(address.value, oas())) return std::nullopt;
    return PA{address.value};
  }
  std::optional<PA> first;
  const std::uint64_t last = address.value + (bytes - 1);
  for (std::uint64_t at = address.value; at <= last; at = (at | (kPage4K - 1)) + 1) {
    hint(sid, IOVA{at});
    const Ste* used_ste = nullptr;
    const Cd* used_cd = nullptr;
    const auto pa = translate(sid.value, at, write, used_ste, used_cd);
    if (!pa) {
      if (!pa.error().silent) record(sid.value, at, write, pa.error());
      return std::nullopt;
    }
    if (!first) first = PA{*pa};
    if ((at | (kPage4K - 1)) == ~std::uint64_t{0}) break;
  }
  return first;
}

// --- Events (7.3) ---

void Smmu::record(std::uint32_t sid, std::uint64_t address, bool write, const Fault& fault) {
  Event event;
  event.set<Event::Id>(fault.id).set<Event::StreamID>(sid);
  const auto fill = [&]<typename T>(T typed) {
    if constexpr (requires { typename T::StreamID; }) typed.template set<typename T::StreamID>(sid);
    if constexpr (std::derived_from<T, AccessFields>)
      typed.template set<AccessFields::RnW>(!write).template set<AccessFields::InputAddr>(IOVA{address});
    if constexpr (std::derived_from<T, FetchFields>) typed.template set<FetchFields::FetchAddr>(fault.fetch);
    if constexpr (std::derived_from<T, TranslationFaultRecord>) {
      using F = TranslationFaultRecord;
      typed.template set<F::S2>(fault.s2).template set<F::CLASS>(fault.what);
      if (fault.s2) typed.template set<F::IPA>(IPA{fault.ipa});
    }
    if constexpr (std::is_same_v<T, FWalkEabt>)
      typed.template set<FWalkEabt::S2>(fault.s2).template set<FWalkEabt::CLASS>(fault.what);
    event = typed;
  };
  AllEvents::visit(event, fill);
  in_flight_.push_back(event);
}

}  // namespace weir::model
