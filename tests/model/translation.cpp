// Configuration lookup, what each kind of access makes of the stages, commands, prefetching.
#include "tests/model/translation.hpp"

#include <algorithm>
#include <unordered_set>
#include <vector>

#include "tests/model/walk.hpp"

namespace weir::model {

using namespace smmu;

namespace {
constexpr EventId kNoEvent{};

// Granting more than asked for (13.7: NW) and the like never extends beyond this.
constexpr std::uint64_t kPiece = kPage4K;
}  // namespace

// --- Configuration lookup (3.3.3) ---

Translator::Walk::Walk(Translator& translator, const Access& access, const Controls& controls, bool speculative)
    : t_{translator}, p_{translator.parameters_}, access_{access}, controls_{controls}, speculative_{speculative} {
  // 13.7: without a PASID an ATS request, and most translated transactions, are data and unprivileged.
  const bool plain = access_.kind != Access::Kind::untranslated && !access_.ssid;
  if (plain || (access_.kind == Access::Kind::translated && !p_.pasidtt)) {
    access_.privileged = access_.instruction = false;
    if (access_.kind == Access::Kind::translated) access_.ssid.reset();
  }
  want_ = {
      .write = access_.write, .instruction = access_.instruction && !access_.write, .privileged = access_.privileged};
}

void Translator::Walk::set_want() {
  if (!p_.attr_perms_ovr) return;
  const Ste& ste = ste_->ste;
  const auto priv = ste.get<Ste::PRIVCFG>();
  const auto inst = ste.get<Ste::INSTCFG>();
  if (priv == PrivConfig::privileged || priv == PrivConfig::unprivileged)
    want_.privileged = priv == PrivConfig::privileged;
  if (!access_.write && (inst == InstConfig::data || inst == InstConfig::instruction))
    want_.instruction = inst == InstConfig::instruction;
}

Fault Translator::Walk::silently() const {
  Fault f = fault(kNoEvent);
  f.silent = true;
  return f;
}

std::expected<void, Fault> Translator::Walk::fetch_ste() {
  const std::uint32_t sid = access_.sid.value;
  if (const CachedStream* known = t_.configurations_->find(sid); known != nullptr && known->ste) {
    stream_ = &t_.configurations_->stream(sid);
    ste_ = &*stream_->ste;
    return {};
  }
  const StreamTable table{p_, controls_};
  const auto bad_stream = [&] {
    Fault f = fault(EventId::C_BAD_STREAMID);
    f.silent = !p_.mimics_qemu && !controls_.cr2.get<CR2::RECINVSID>();
    return std::unexpected{f};
  };
  if ((sid >> std::min(table.log2size, 31u)) != 0 && table.log2size < 32) return bad_stream();
  std::uint64_t at = table.base + std::uint64_t{sid} * sizeof(Ste);
  if (table.two_level) {
    const auto level1 = fetch_l1std(table, sid >> table.split);
    if (!level1) return std::unexpected{level1.error()};
    const auto span = level1->get<L1Std::Span>();
    const std::uint32_t within = sid & ((std::uint32_t{1} << table.split) - 1);
    const auto log2 = p_.mimics_qemu ? span : span - 1;  // it looks twice as far
    if (span == 0 || span > table.split + 1) return bad_stream();
    if ((within >> log2) != 0) {
      if (p_.mimics_qemu) return std::unexpected{fault(EventId::C_BAD_STE)};
      return bad_stream();
    }
    // 5.1: aligned to the array's size.
    at = (level1->get<L1Std::L2Ptr>() & ~((std::uint64_t{sizeof(Ste)} << (span - 1)) - 1)) +
         std::uint64_t{within} * sizeof(Ste);
  }
  const auto loaded = beyond(at, p_.oas_bits()) ? std::nullopt : load<Ste>(at, table_type(controls_.cr1));
  if (!loaded) return std::unexpected{abort_fault(EventId::F_STE_FETCH, at)};
  const CachedSte entry{.ste = *loaded, .legal = ste_legal(p_, *loaded), .atschk = controls_.cr0.get<CR0::ATSCHK>()};
  if (p_.mimics_qemu && !entry.legal) {
    uncached_ste_ = entry;
    ste_ = &uncached_ste_;
    return {};
  }
  stream_ = &t_.configurations_->stream(sid);
  stream_->ste = entry;
  ste_ = &*stream_->ste;
  return {};
}

std::expected<L1Std, Fault> Translator::Walk::fetch_l1std(const StreamTable& table, std::uint32_t index) {
  if (const auto known = t_.configurations_->level1(index)) return *known;
  const std::uint64_t at = table.base + std::uint64_t{index} * sizeof(L1Std);
  const auto loaded = beyond(at, p_.oas_bits()) ? std::nullopt : load<L1Std>(at, table_type(controls_.cr1));
  if (!loaded) return std::unexpected{abort_fault(EventId::F_STE_FETCH, at)};
  if (!p_.mimics_qemu) t_.configurations_->insert_level1(index, *loaded);
  return *loaded;
}

std::expected<std::optional<std::uint32_t>, Fault> Translator::Walk::cd_index() {
  const Ste& ste = ste_->ste;
  const bool s1 = translates_s1(ste.get<Ste::Config>());
  const unsigned bits = s1 ? substream_bits(p_, ste) : 0;
  const auto bad = [&](EventId id) { return std::unexpected{fault(id)}; };
  if (access_.ssid) {
    const std::uint32_t ssid = access_.ssid->value;
    if (!s1 || bits == 0 || (ssid >> bits) != 0) return bad(EventId::C_BAD_SUBSTREAMID);
    if (ssid == 0 && ste.get<Ste::S1DSS>() == S1Dss::substream0) return bad(EventId::F_STREAM_DISABLED);
    return ssid;
  }
  if (!s1) return std::nullopt;
  if (bits == 0) return 0;
  switch (ste.get<Ste::S1DSS>()) {
    case S1Dss::bypass: return std::nullopt;
    case S1Dss::substream0: return 0;
    default: return bad(EventId::F_STREAM_DISABLED);
  }
}

std::expected<Located, Fault> Translator::Walk::locate_cd(std::uint32_t index) {
  const Ste& ste = ste_->ste;
  const MemoryType type = cd_type(ste);
  const bool s2 = nested();
  const std::uint64_t base = ste.get<Ste::S1ContextPtr>().value;
  const unsigned bits = substream_bits(p_, ste);
  const auto resolve = [&](std::uint64_t at) -> Result<Located> {
    if (!s2) return Located{.pa = at, .type = type};
    return reach(at, EventClass::CD, type, false);
  };
  const auto aligned = [](std::uint64_t at, unsigned log2) { return at & ~((std::uint64_t{1} << log2) - 1); };
  if (bits == 0) return resolve(base);
  const auto format = ste.get<Ste::S1Fmt>();
  if (format != S1Fmt::two_level_4k && format != S1Fmt::two_level_64k)
    return resolve(aligned(base, bits + 6) + std::uint64_t{index} * sizeof(Cd));
  const unsigned split = format == S1Fmt::two_level_4k ? 6 : 10;
  const unsigned level1 = bits > split ? bits - split : 0;
  const std::uint32_t number = level1 == 0 ? 0 : index >> split;
  const auto bad_substream = [&] {
    Fault f = fault(EventId::C_BAD_SUBSTREAMID);
    if (!f.ssid) f.ssid = SubstreamID{index};  // 7.3.9
    return std::unexpected{f};
  };
  auto known = stream_->l1cds.find(number);
  if (known == stream_->l1cds.end()) {
    const auto at = resolve(aligned(base, std::max(6u, level1 + 3)) + std::uint64_t{number} * sizeof(L1Cd));
    if (!at) return std::unexpected{at.error()};
    const auto loaded = beyond(at->pa, p_.oas_bits()) ? std::nullopt : load<L1Cd>(at->pa, at->type);
    if (!loaded) return std::unexpected{abort_fault(EventId::F_CD_FETCH, at->pa)};
    known = stream_->l1cds
                .insert_or_assign(
                    number, CachedL1Cd{.l1cd = *loaded, .first = number << split, .count = std::uint32_t{1} << split})
                .first;
  }
  CachedL1Cd& l1cd = known->second;
  if (!l1cd.l1cd.get<L1Cd::V>()) return bad_substream();
  const std::uint64_t table = aligned(l1cd.l1cd.get<L1Cd::L2Ptr>().value, split + 6);
  if (beyond(table, p_.oas_bits())) return bad_substream();  // 3.4.3 (3), (4)
  const std::uint64_t offset = (index & ((std::uint64_t{1} << split) - 1)) * sizeof(Cd);
  if (!s2) return Located{.pa = table + offset, .type = type};
  std::optional<Located>& page = l1cd.pages[offset / kPiece];
  if (!page) {
    const auto at = reach(table + offset, EventClass::CD, type, false);
    if (!at) return std::unexpected{at.error()};
    page = Located{.pa = at->pa - offset % kPiece, .type = at->type};
  }
  return Located{.pa = page->pa + offset % kPiece, .type = page->type};
}

std::expected<void, Fault> Translator::Walk::fetch_cd(std::uint32_t index) {
  if (const auto known = stream_->cds.find(index); known != stream_->cds.end()) {
    cd_ = &known->second;
    return {};
  }
  const auto at = locate_cd(index);
  if (!at) return std::unexpected{at.error()};
  const auto loaded = beyond(at->pa, p_.oas_bits()) ? std::nullopt : load<Cd>(at->pa, at->type);
  if (!loaded) return std::unexpected{abort_fault(EventId::F_CD_FETCH, at->pa)};
  const CachedCd entry{.cd = *loaded, .legal = cd_legal(p_, ste_->ste, *loaded, world_)};
  if (p_.mimics_qemu && !entry.legal) {
    uncached_cd_ = entry;
    cd_ = &uncached_cd_;
    return {};
  }
  cd_ = &stream_->cds.insert_or_assign(index, entry).first->second;
  return {};
}

void Translator::Walk::configure(bool cds, bool neighbours) {
  if (!controls_.cr0.get<CR0::SMMUEN>() || !fetch_ste() || !ste_->legal || !cds) return;
  if (!translates_s1(ste_->ste.get<Ste::Config>())) return;
  world_ = world_of(p_, ste_->ste, controls_.cr2);
  const auto index = cd_index();
  if (!index || !*index) return;
  std::uint32_t wanted = **index;
  // Any CD of the table may be fetched at any time (3.21.3), and one that is not valid yet is kept as such.
  const unsigned bits = substream_bits(p_, ste_->ste);
  if (neighbours && bits != 0 && chance(1, 4))
    wanted ^= static_cast<std::uint32_t>(t_.random_() % (std::uint64_t{1} << std::min(bits, 3u)));
  static_cast<void>(fetch_cd(wanted));
}

// --- The kinds of access ---

Fault Translator::Walk::for_ats(Fault f) const {
  const bool recorded = p_.atsrecerr && controls_.cr2.get<CR2::REC_CFG_ATS>();
  switch (access_.kind) {
    case Access::Kind::untranslated: return f;
    case Access::Kind::ats_request:  // 3.9.1.2
      f.stalls = false;
      f.abort = true;
      switch (f.id) {
        case kNoEvent:
        case EventId::F_BAD_ATS_TREQ: f.ats = Fault::Ats::unsupported_request; break;
        case EventId::F_TRANSLATION:
        case EventId::F_ADDR_SIZE:
        case EventId::F_ACCESS:
        case EventId::F_PERMISSION:
          f.ats = Fault::Ats::denied;
          f.silent = true;
          break;
        default:
          f.ats = Fault::Ats::completer_abort;
          f.silent = f.silent || !recorded;
          break;
      }
      return f;
    case Access::Kind::translated:  // 3.9.1.3
      f.abort = true;
      switch (f.id) {
        case EventId::C_BAD_STREAMID:
        case EventId::C_BAD_SUBSTREAMID:
        case EventId::F_STE_FETCH:
        case EventId::C_BAD_STE:
        case EventId::F_CD_FETCH:
        case EventId::C_BAD_CD:
        case EventId::F_CFG_CONFLICT:
        case EventId::F_STREAM_DISABLED: f.silent = !recorded; break;
        default: break;
      }
      return f;
  }
  return f;
}

std::expected<Translation, Fault> Translator::Walk::run() {
  Result<Translation> result = controls_.cr0.get<CR0::SMMUEN>() ? with_ste() : disabled();
  if (result) return result;
  const Fault& f = result.error();
  const bool no_cd = f.id == EventId::C_BAD_CD || f.id == EventId::F_CD_FETCH || f.what == EventClass::CD;
  const Fault said = for_ats(f);
  // QEMU keeps the STE and the CD as one.
  if (p_.mimics_qemu && no_cd) t_.configurations_->forget(access_.sid.value);
  return std::unexpected{said};
}

Translation Translator::Walk::passed(std::uint64_t address, const MemoryType& type) const {
  Translation t;
  t.address = address;
  t.bytes = kPiece;
  t.read = !want_.write && !want_.instruction;
  t.write = want_.write;
  t.execute = want_.instruction;
  t.privileged = want_.privileged;
  t.instruction = want_.instruction;
  t.type = type;
  if (ste_ != nullptr) t.ste = ste_->ste;
  if (cd_ != nullptr) t.cd = cd_->cd;
  return t;
}

std::expected<Translation, Fault> Translator::Walk::disabled() {
  if (speculative_) return std::unexpected{silently()};
  if (access_.kind == Access::Kind::ats_request) return std::unexpected{fault(EventId::F_BAD_ATS_TREQ)};
  if (access_.kind == Access::Kind::translated) return std::unexpected{fault(EventId::F_TRANSL_FORBIDDEN)};
  const GBPA gbpa = controls_.gbpa;
  if (gbpa.get<GBPA::ABORT>() || beyond(access_.address, p_.oas_bits())) return std::unexpected{silently()};
  MemoryType type;
  if (p_.attr_types_ovr) {
    if (gbpa.get<GBPA::MTCFG>()) type = memattr_type(gbpa.get<GBPA::MemAttr>(), type.shareability);
    const auto sh = gbpa.get<GBPA::SHCFG>();
    if (sh != ShareabilityConfig::use_incoming && type.cacheable()) type.shareability = static_cast<Shareability>(sh);
  }
  if (p_.attr_perms_ovr) {
    const auto priv = gbpa.get<GBPA::PRIVCFG>();
    const auto inst = gbpa.get<GBPA::INSTCFG>();
    if (priv == PrivConfig::privileged || priv == PrivConfig::unprivileged)
      want_.privileged = priv == PrivConfig::privileged;
    if (!access_.write && (inst == InstConfig::data || inst == InstConfig::instruction))
      want_.instruction = inst == InstConfig::instruction;
  }
  Translation t = passed(access_.address, type);
  t.identity = true;
  return t;
}

MemoryType Translator::Walk::input_type() const {  // 13.3; PCIe's: 13.6.1
  MemoryType type;
  if (!p_.attr_types_ovr) return type;
  const Ste& ste = ste_->ste;
  if (ste.get<Ste::MTCFG>()) type = memattr_type(ste.get<Ste::MemAttr>(), type.shareability);
  const auto sh = ste.get<Ste::SHCFG>();
  if (sh != ShareabilityConfig::use_incoming && type.cacheable()) type.shareability = static_cast<Shareability>(sh);
  return type;
}

std::expected<Translation, Fault> Translator::Walk::with_ste() {
  if (access_.kind == Access::Kind::translated && !controls_.cr0.get<CR0::ATSCHK>()) {
    if (beyond(access_.address, p_.oas_bits())) return std::unexpected{silently()};  // 3.9.1.1
    Translation t = passed(access_.address, MemoryType{});
    t.identity = true;
    return t;
  }
  if (const auto found = fetch_ste(); !found) return std::unexpected{found.error()};
  const Ste& ste = ste_->ste;
  if (!ste_->legal) return std::unexpected{fault(EventId::C_BAD_STE)};
  const auto config = ste.get<Ste::Config>();
  if (is_abort(config)) return std::unexpected{silently()};
  set_want();
  if (access_.kind == Access::Kind::translated) return translated();
  if (access_.kind == Access::Kind::ats_request && eats_of(p_, ste, ste_->atschk) == Eats::none)
    return std::unexpected{fault(EventId::F_BAD_ATS_TREQ)};
  const auto index = cd_index();
  if (!index) return std::unexpected{index.error()};
  if (*index) return stage1_and_maybe_2(**index);
  return translates_s2(config) ? stage2_only() : bypass();
}

std::expected<Translation, Fault> Translator::Walk::translated() {
  const Ste& ste = ste_->ste;
  const Eats eats = eats_of(p_, ste, ste_->atschk);
  if (eats == Eats::none) return std::unexpected{fault(EventId::F_TRANSL_FORBIDDEN)};
  if (access_.ssid) {  // IDR3.PASIDTT only
    world_ = world_of(p_, ste, controls_.cr2);
    const auto index = cd_index();
    if (!index) return std::unexpected{index.error()};
    if (*index) {
      if (const auto found = fetch_cd(**index); !found) return std::unexpected{found.error()};
      if (!cd_->legal) return std::unexpected{fault(EventId::C_BAD_CD)};
    }
  }
  if (eats == Eats::split_stage) return stage2_only();
  if (beyond(access_.address, p_.oas_bits())) return std::unexpected{silently()};
  Translation t = passed(access_.address, MemoryType{});
  t.identity = true;
  return t;
}

std::expected<Translation, Fault> Translator::Walk::bypass() {
  if (beyond(access_.address, p_.oas_bits()) && !p_.mimics_qemu)
    return std::unexpected{fault(EventId::F_ADDR_SIZE)};  // 3.4
  Translation t = passed(access_.address, input_type());
  t.identity = true;
  if (access_.kind == Access::Kind::ats_request) {  // 13.6.4
    t.address &= ~(kPiece - 1);
    t.read = t.write = true;
    t.execute = false;
  }
  return t;
}

std::expected<Translation, Fault> Translator::Walk::stage2_only() {
  if (beyond(access_.address, p_.oas_bits())) return std::unexpected{fault(EventId::F_ADDR_SIZE)};  // of stage 1
  const bool write = access_.write && !speculative_;
  const auto e = stage2(access_.address, EventClass::IN, write);
  if (!e) return std::unexpected{e.error()};
  if (access_.kind == Access::Kind::ats_request) return granted(*e, false, true);
  if (!permits2(*e, want_))
    return std::unexpected{stage2_fault(EventId::F_PERMISSION, EventClass::IN, access_.address)};
  Translation t =
      passed(e->out + (access_.address - e->from), combine(input_type(), e->memattr, e->type.shareability, e->fwb));
  t.bytes = e->bytes;
  return t;
}

bool Translator::Walk::makes_dirty(const LeafEntry& e) const {
  if (!access_.write || speculative_) return false;
  const Want write{.write = true, .instruction = false, .privileged = want_.privileged};
  if (!permits1(e, write)) return false;
  return e.s1_clean || (e.combined && e.s2_clean && permits2(e, write));
}

std::expected<Translation, Fault> Translator::Walk::stage1_and_maybe_2(std::uint32_t index) {
  world_ = world_of(p_, ste_->ste, controls_.cr2);
  if (const auto found = fetch_cd(index); !found) return std::unexpected{found.error()};
  if (!cd_->legal) return std::unexpected{fault(EventId::C_BAD_CD)};
  const Cd& cd = cd_->cd;
  const bool one_table = world_ == World::el2;
  const std::uint64_t input = access_.address;
  const bool upper = !one_table && ((input >> 55) & 1) != 0;
  const bool disabled = !one_table && (upper ? cd.get<Cd::EPD1>() : cd.get<Cd::EPD0>());
  // 3.4.1: with TBI the top byte is a sign extension of bit 55.
  constexpr std::uint64_t kTop = bit_mask(63, 56);
  std::uint64_t va = input;
  if (upper ? cd.get<Cd::TBI1>() : cd.get<Cd::TBI0>()) va = upper ? va | kTop : va & ~kTop;
  const auto out_of_range = [&] { return std::unexpected{stage1_fault(EventId::F_TRANSLATION)}; };
  if (!one_table && p_.e0pd && !want_.privileged && (upper ? cd.get<Cd::E0PD1>() : cd.get<Cd::E0PD0>()))
    return out_of_range();
  TableShape shape;
  if (!disabled) {
    shape = stage1_shape(p_, cd, upper);
    if ((va >> shape.input) != (upper ? ~std::uint64_t{0} >> shape.input : 0)) return out_of_range();
  }
  const EntryTag tag{.stage2 = false,
                     .world = world_,
                     .vmid = vmid_of(p_, ste_->ste, world_),
                     .asid = one_table ? std::uint16_t{0} : cd.get<Cd::ASID>().value,
                     .global = false,
                     .aset = cd.get<Cd::ASET>()};
  Fault conflict;
  std::optional<LeafEntry> e = cached1(tag, va, conflict);
  if (conflict.id != kNoEvent) return std::unexpected{conflict};
  const bool hit = e.has_value() && !makes_dirty(*e);
  if (e && !hit) t_.tlb_->erase(*e);
  if (!hit) {
    if (disabled) return out_of_range();
    const Want want{.write = access_.write, .instruction = want_.instruction, .privileged = want_.privileged};
    auto walked = walk1(*cd_, shape, tag, va, upper, want);
    if (!walked) return std::unexpected{walked.error()};
    e = *walked;
    // Stage 1 alone, where stage 2 follows: kept beside the combined entry.
    const bool keep = !nested() || (!p_.mimics_qemu && chance(1, 2));
    if (keep && e->bytes != 0) t_.tlb_->insert(*e);
  }
  const bool ats = access_.kind == Access::Kind::ats_request;
  if (ats) {
    const Rights r = grants(*e, true, false);
    if (!r.read && !r.write && !r.execute) return granted(*e, true, false);
  } else if (!permits1(*e, want_)) {
    return std::unexpected{stage1_fault(EventId::F_PERMISSION)};
  }
  if (nested() && !e->final) {
    const Want write{.write = true, .instruction = false, .privileged = want_.privileged};
    const auto both = combine_stages(*e, va, access_.write && permits1(*e, write));
    if (!both) return std::unexpected{both.error()};
    e = *both;
  }
  if (ats) return granted(*e, true, e->combined);
  if (nested() && e->combined && !permits2(*e, want_)) {
    const std::uint64_t ipa = p_.mimics_qemu && hit ? 0 : e->ipa + (va - e->from);
    return std::unexpected{stage2_fault(EventId::F_PERMISSION, EventClass::IN, ipa)};
  }
  Translation t = passed(e->out + (va - e->from), e->type);
  t.bytes = e->bytes == 0 ? e->size : e->bytes;
  return t;
}

Rights Translator::Walk::grants(const LeafEntry& e, bool s1, bool s2) {
  const auto allowed = [&](const Want& want) { return (!s1 || permits1(e, want)) && (!s2 || permits2(e, want)); };
  const bool privileged = want_.privileged;
  const bool read = allowed({.write = false, .instruction = false, .privileged = privileged});
  const bool execute = allowed({.write = false, .instruction = true, .privileged = privileged});
  const bool write = allowed({.write = true, .instruction = false, .privileged = privileged});
  // NW: what is not dirty stays so; what is may be granted all the same.
  const bool clean = (s1 && e.s1_clean) || (s2 && e.s2_clean);
  const auto config = p_.attr_perms_ovr ? ste_->ste.get<Ste::INSTCFG>() : InstConfig::use_incoming;
  Rights r;
  r.write = write && (access_.write || (!clean && chance(1, 2)));
  if (config == InstConfig::instruction) {
    r.read = execute;
    r.execute = access_.instruction && execute;
  } else {
    r.read = read;
    r.execute = access_.instruction && read && (config == InstConfig::data || execute);
  }
  return r;
}

std::expected<Translation, Fault> Translator::Walk::granted(const LeafEntry& e, bool s1, bool s2) {
  const Rights r = grants(e, s1, s2);
  if (!r.read && !r.write) {
    Fault f = fault(EventId::F_PERMISSION);
    return std::unexpected{f};
  }
  const bool split = eats_of(p_, ste_->ste, ste_->atschk) == Eats::split_stage;
  Translation t = passed(0, e.type);
  t.bytes = e.bytes == 0 ? e.size : e.bytes;
  const std::uint64_t within = access_.address & (t.bytes - 1) & ~(kPiece - 1);
  t.ipa = split;
  t.address = (split ? e.ipa : e.out) + within;
  t.read = r.read;
  t.write = r.write;
  t.execute = r.execute;
  if (!s1) t.type = combine(input_type(), e.memattr, e.type.shareability, e.fwb);
  return t;
}

// --- The translator ---

struct Translator::Heard {
  static constexpr std::size_t kMost = 1024;
  struct Stream {
    StreamID sid;
    std::optional<SubstreamID> ssid;
    std::vector<std::uint64_t> pages;
    std::unordered_set<std::uint64_t> known;
  };
  std::vector<Stream> streams;
  std::unordered_map<std::uint64_t, std::size_t> index;
};

Translator::Translator(PhysicalMemory& memory, const Parameters& parameters, std::mt19937_64& random)
    : memory_{memory},
      parameters_{parameters},
      random_{random},
      tlb_{std::make_unique<TranslationCache>(parameters.tlb_capacity)},
      configurations_{std::make_unique<ConfigCache>()},
      heard_{std::make_unique<Heard>()} {}

Translator::~Translator() = default;

std::expected<Translation, Fault> Translator::translate(const Access& access, const Controls& controls) {
  if (access.kind != Access::Kind::translated) hint(access.sid, access.ssid, access.address);
  return Walk{*this, access, controls, false}.run();
}

void Translator::hint(StreamID sid, std::optional<SubstreamID> ssid, std::uint64_t address) {
  const std::uint64_t key = (std::uint64_t{sid.value} << 32) | (ssid ? ssid->value + 1 : 0);
  const auto [found, fresh] = heard_->index.try_emplace(key, heard_->streams.size());
  if (fresh) heard_->streams.push_back({.sid = sid, .ssid = ssid, .pages = {}, .known = {}});
  Heard::Stream& stream = heard_->streams[found->second];
  const std::uint64_t page = address & ~(kPage4K - 1);
  if (!stream.known.insert(page).second) return;
  if (stream.pages.size() < Heard::kMost) {
    stream.pages.push_back(page);
  } else {
    std::uint64_t& replaced = stream.pages[random_() % stream.pages.size()];
    stream.known.erase(replaced);
    replaced = page;
  }
}

void Translator::prefetch(const Controls& controls, StreamID sid, std::optional<SubstreamID> ssid,
                          std::optional<std::uint64_t> address) {
  const Access access{.sid = sid, .ssid = ssid, .address = address.value_or(0)};
  Walk walk{*this, access, controls, true};
  if (address) {
    static_cast<void>(walk.run());
  } else {
    walk.configure(true, false);
  }
}

void Translator::speculate(const Controls& controls) {
  if (!controls.cr0.get<CR0::SMMUEN>() || heard_->streams.empty()) return;
  const Heard::Stream& stream = heard_->streams[random_() % heard_->streams.size()];
  const std::uint64_t depth = random_() % 4;
  Access access{.sid = stream.sid, .ssid = stream.ssid};
  if (depth < 2 || stream.pages.empty()) {
    // Any STE of the table, too.
    if (depth == 0 && random_() % 4 == 0)
      access.sid = StreamID{stream.sid.value ^ static_cast<std::uint32_t>(random_() % 8)};
    return Walk{*this, access, controls, true}.configure(depth == 1, true);
  }
  access.address = stream.pages[random_() % stream.pages.size()];
  static_cast<void>(Walk{*this, access, controls, true}.run());
}

void Translator::evict() {
  if (random_() % 4 == 0) {
    configurations_->evict(random_);
  } else {
    tlb_->evict(random_);
  }
}

void Translator::reset() {
  tlb_->clear();
  configurations_->clear();
}

bool Translator::ste_cached(StreamID sid) const {
  const CachedStream* const stream = configurations_->find(sid.value);
  return stream != nullptr && stream->ste;
}
bool Translator::cd_cached(StreamID sid, SubstreamID ssid) const {
  const CachedStream* const stream = configurations_->find(sid.value);
  return stream != nullptr && stream->cds.contains(ssid.value);
}

// --- Commands (4.3, 4.4) ---

namespace {

template <typename T>
InvalidationRange range_of(const T& c, const Parameters& p) {
  InvalidationRange r;
  r.first = r.last = c.template get<typename T::Address>().value;
  r.leaf_only = c.template get<typename T::Leaf>();
  const auto tg = c.template get<typename T::TG>();
  if (!p.ril || tg == TlbiGranule::none) return r;
  const TableShape shape{.granule = 10 + 2 * static_cast<unsigned>(tg)};
  r.granule = shape.granule;
  auto ttl = static_cast<int>(c.template get<typename T::TTL>());
  if (shape.granule == 14 && ttl == 1 && !p.ds) ttl = 0;
  if (ttl != 0) r.ttl = ttl;
  const std::uint64_t align = ttl != 0 ? shape.bytes(ttl) : std::uint64_t{1} << shape.granule;
  r.nothing = (r.first & (align - 1)) != 0 && !p.mimics_qemu;  // an UNPREDICTABLE range
  auto scale = static_cast<unsigned>(c.template get<typename T::SCALE>());
  scale = std::min(scale, p.ds ? 39u : 31u);
  const std::uint64_t granules = (c.template get<typename T::NUM>() + 1) << scale;
  const std::uint64_t bytes = granules > (~std::uint64_t{0} >> shape.granule) ? 0 : granules << shape.granule;
  // It neither wraps nor need it reach from one half of the address space into the other.
  const std::uint64_t last = r.first + (bytes - 1);
  r.last = bytes == 0 || last < r.first ? ~std::uint64_t{0} : last;
  return r;
}

}  // namespace

void Translator::execute(const Command& c, const Controls& controls) {
  const Parameters& p = parameters_;
  const StreamTable table{p, controls};
  const unsigned split = table.two_level ? table.split : 64;
  if (const auto t = c.as<PrefetchConfig>()) {
    const auto ssid =
        t->get<PrefetchConfig::SSV>() ? std::optional{t->get<PrefetchConfig::SubstreamID>()} : std::nullopt;
    prefetch(controls, StreamID{t->get<PrefetchConfig::StreamID>()}, ssid, std::nullopt);
  }
  if (const auto t = c.as<PrefetchAddr>()) {
    const auto ssid = t->get<PrefetchAddr::SSV>() ? std::optional{t->get<PrefetchAddr::SubstreamID>()} : std::nullopt;
    const std::uint64_t n = std::uint64_t{1} << std::min<std::uint64_t>(t->get<PrefetchAddr::Size>(), 4);
    const std::uint64_t stride = kPage4K << t->get<PrefetchAddr::Stride>();
    for (std::uint64_t i = 0; i < n; ++i)
      prefetch(controls, StreamID{t->get<PrefetchAddr::StreamID>()}, ssid,
               t->get<PrefetchAddr::Address>().value + i * stride);
  }
  if (const auto t = c.as<CfgiSte>()) {
    const std::uint64_t sid = t->get<CfgiSte::StreamID>();
    configurations_->invalidate_streams(sid, sid, !t->get<CfgiSte::Leaf>(), split);
  }
  if (const auto t = c.as<CfgiSteRange>()) {
    const auto range = t->get<CfgiSteRange::Range>();
    const std::uint64_t count = std::uint64_t{2} << range;
    const std::uint64_t first = t->get<CfgiSteRange::StreamID>() & ~(count - 1);
    if (range == CfgiSteRange::kAll) {
      configurations_->clear();
    } else {
      configurations_->invalidate_streams(first, first + count - 1, true, split);
    }
  }
  if (const auto t = c.as<CfgiCd>()) {
    const std::uint32_t sid = t->get<CfgiCd::StreamID>();
    if (p.mimics_qemu) {
      configurations_->forget(sid);
    } else {
      configurations_->invalidate_cd(sid, t->get<CfgiCd::SubstreamID>().value, !t->get<CfgiCd::Leaf>());
    }
  }
  if (const auto t = c.as<CfgiCdAll>()) {
    const std::uint32_t sid = t->get<CfgiCdAll::StreamID>();
    if (p.mimics_qemu) {
      configurations_->forget(sid);
    } else {
      configurations_->invalidate_cds(sid);
    }
  }

  const auto vmid_of_command = [&](VMID vmid) { return p.s2p ? vmid.value : std::uint16_t{0}; };
  // Stage-1 entries, combined ones included.
  const auto el1 = [&](VMID vmid, auto more) {
    return [=, id = vmid_of_command(vmid)](const EntryTag& tag) {
      return !tag.stage2 && tag.world == World::el1 && tag.vmid == id && more(tag);
    };
  };
  const auto any = [](const EntryTag&) { return true; };
  const auto local = [](ASID asid) {
    return [asid](const EntryTag& tag) { return !tag.global && tag.asid == asid.value; };
  };
  const auto local_or_global = [](ASID asid) {
    return [asid](const EntryTag& tag) { return tag.global || tag.asid == asid.value; };
  };
  if (const auto t = c.as<TlbiNhAll>()) tlb_->invalidate(el1(t->get<TlbiNhAll::VMID>(), any));
  if (const auto t = c.as<TlbiNhAsid>())
    tlb_->invalidate(el1(t->get<TlbiNhAsid::VMID>(), local(t->get<TlbiNhAsid::ASID>())));
  if (const auto t = c.as<TlbiNhVa>())
    tlb_->invalidate(el1(t->get<TlbiNhVa::VMID>(), local_or_global(t->get<TlbiNhVa::ASID>())), range_of(*t, p));
  if (const auto t = c.as<TlbiNhVaa>()) tlb_->invalidate(el1(t->get<TlbiNhVaa::VMID>(), any), range_of(*t, p));

  const bool e2h = controls.cr2.get<CR2::E2H>();
  const auto el2 = [&](auto more) {
    return [=](const EntryTag& tag) { return tag.world == (e2h ? World::el2_e2h : World::el2) && (!e2h || more(tag)); };
  };
  if (c.opcode() == Opcode::TLBI_EL2_ALL) tlb_->invalidate([](const EntryTag& tag) { return tag.world != World::el1; });
  if (const auto t = c.as<TlbiEl2Asid>()) {
    const auto mine = local(t->get<TlbiEl2Asid::ASID>());
    tlb_->invalidate([=](const EntryTag& tag) { return tag.world == World::el2_e2h && mine(tag); });
  }
  if (const auto t = c.as<TlbiEl2Va>())
    tlb_->invalidate(el2(local_or_global(t->get<TlbiEl2Va::ASID>())), range_of(*t, p));
  if (const auto t = c.as<TlbiEl2Vaa>()) tlb_->invalidate(el2(any), range_of(*t, p));

  if (const auto t = c.as<TlbiS2Ipa>()) {
    const auto vmid = t->get<TlbiS2Ipa::VMID>().value;
    tlb_->invalidate([=](const EntryTag& tag) { return tag.stage2 && tag.vmid == vmid; }, range_of(*t, p));
  }
  if (const auto t = c.as<TlbiS12Vmall>()) {
    const auto vmid = t->get<TlbiS12Vmall::VMID>().value;
    tlb_->invalidate([=](const EntryTag& tag) { return tag.world == World::el1 && tag.vmid == vmid; });
  }
  if (c.opcode() == Opcode::TLBI_NSNH_ALL)
    tlb_->invalidate([](const EntryTag& tag) { return tag.world == World::el1; });
}

}  // namespace weir::model
