// Registers, queues, commands and the passing of time.
#include "tests/model/smmu.hpp"

#include <cstdio>
#include <cstdlib>

namespace weir::model {

using namespace smmu;

namespace {

// A wait that never ends is a bug of whoever waits, or of this model: better a dead test than a hung one.
constexpr std::uint64_t kTooLong = 50'000'000;

template <typename T>
std::optional<AddressRange> range_of(const T& c) {
  const auto granule = c.template get<typename T::TG>();
  AddressRange r{.first = c.template get<typename T::Address>().value,
                 .bytes = 1,
                 .ttl = 0,
                 .leaf_only = c.template get<typename T::Leaf>(),
                 .other_granule = false};
  if (granule == TlbiGranule::none) return r;
  const unsigned log2 = 10 + 2 * static_cast<unsigned>(granule);
  r.first &= ~((std::uint64_t{1} << log2) - 1);
  r.bytes = (c.template get<typename T::NUM>() + 1) << (c.template get<typename T::SCALE>() + log2);
  r.ttl = static_cast<unsigned>(c.template get<typename T::TTL>());
  r.other_granule = granule != TlbiGranule::size4k;
  return r;
}

}  // namespace

Smmu::Smmu(PhysicalMemory& memory, const Parameters& parameters)
    : memory_{memory}, parameters_{parameters}, random_{parameters.seed} {
  gbpa_next_ = gbpa_;  // bypass after reset, which is IMPLEMENTATION DEFINED
}

// --- Registers (6.3) ---

std::uint32_t Smmu::read(Reg reg) {
  switch (reg) {
    case Reg::IDR0: return parameters_.idr0().words[0];
    case Reg::IDR1: return parameters_.idr1().words[0];
    case Reg::IDR3: return parameters_.idr3().words[0];
    case Reg::IDR5: return parameters_.idr5().words[0];
    case Reg::AIDR: return AIDR{}.set<AIDR::ArchMinorRev>(parameters_.minor_revision).words[0];
    case Reg::CR0: return cr0_.words[0];
    case Reg::CR0ACK: return cr0ack_.words[0];
    case Reg::GBPA: return gbpa_next_.words[0];
    case Reg::IRQ_CTRL: return irq_ctrl_.words[0];
    case Reg::IRQ_CTRLACK: return irq_ctrlack_.words[0];
    case Reg::GERROR: return gerror_.words[0];
    case Reg::GERRORN: return gerrorn_.words[0];
    case Reg::CMDQ_PROD: return commands_.prod;
    case Reg::CMDQ_CONS:
      return CMDQ_CONS{}.set<CMDQ_CONS::RD>(commands_.cons).set<CMDQ_CONS::ERR>(commands_.error).words[0];
    case Reg::EVENTQ_PROD: return events_.prod.words[0];
    case Reg::EVENTQ_CONS: return events_.cons.words[0];
    default: {
      const auto found = plain_.find(reg);
      return found == plain_.end() ? 0 : static_cast<std::uint32_t>(found->second);
    }
  }
}

void Smmu::write(Reg reg, std::uint32_t value) {
  const auto on = [&]<typename Bit>(Bit) { return cr0_.get<Bit>() || cr0ack_.get<Bit>(); };
  // The store happens only if `allowed`.
  const auto guarded = [&](bool allowed, auto store) {
    if (allowed) {
      store();
    } else {
      ++misuses_;
    }
  };
  switch (reg) {
    case Reg::CR0:
      // 6.3.9: a bit must not be changed while its last change is not acknowledged.
      guarded(((value ^ cr0_.words[0]) & (cr0_.words[0] ^ cr0ack_.words[0])) == 0, [&] {
        constexpr std::uint64_t kMask = CR0::SMMUEN::mask | CR0::EVENTQEN::mask | CR0::CMDQEN::mask;
        cr0_.words[0] = static_cast<std::uint32_t>(value & kMask);
      });
      break;
    case Reg::GBPA: {
      GBPA next;
      next.words[0] = value;
      guarded(next.get<GBPA::Update>() && !gbpa_next_.get<GBPA::Update>(), [&] { gbpa_next_ = next; });
      break;
    }
    case Reg::IRQ_CTRL:
      irq_ctrl_.words[0] = value & (IRQ_CTRL::EVENTQ_IRQEN::mask | IRQ_CTRL::GERROR_IRQEN::mask);
      break;
    case Reg::GERRORN: gerrorn_.words[0] = value; break;
    case Reg::CMDQ_PROD: {
      CMDQ_PROD r;
      r.words[0] = value;
      const std::uint32_t to = commands_.ring.masked(r.get<CMDQ_PROD::WR>());
      const bool fits = commands_.ring.used(to, commands_.cons) <= commands_.ring.entries();
      const bool forward =
          commands_.ring.used(to, commands_.cons) >= commands_.ring.used(commands_.prod, commands_.cons);
      const bool error = gerror_.get<GERROR::CMDQ_ERR>() != gerrorn_.get<GERRORN::CMDQ_ERR>();
      guarded(!on(CR0::CMDQEN{}) || (fits && (forward || error)), [&] { commands_.prod = to; });
      break;
    }
    case Reg::CMDQ_CONS:
      guarded(!on(CR0::CMDQEN{}), [&] {
        CMDQ_CONS r;
        r.words[0] = value;
        commands_.cons = commands_.ring.masked(r.get<CMDQ_CONS::RD>());
      });
      break;
    case Reg::EVENTQ_PROD: guarded(!on(CR0::EVENTQEN{}), [&] { events_.prod.words[0] = value; }); break;
    case Reg::EVENTQ_CONS: events_.cons.words[0] = value; break;
    case Reg::CR1:
    case Reg::STRTAB_BASE_CFG:
    case Reg::CR2: guarded(!on(CR0::SMMUEN{}), [&] { plain_[reg] = value; }); break;
    case Reg::GERROR_IRQ_CFG1:
    case Reg::GERROR_IRQ_CFG2:
    case Reg::EVENTQ_IRQ_CFG1:
    case Reg::EVENTQ_IRQ_CFG2: break;  // no MSIs
    default: ++misuses_;               // read-only, or a 64-bit register that nothing here writes by halves
  }
}

void Smmu::write64(Reg reg, std::uint64_t value) {
  const auto off = [&]<typename Bit>(Bit) { return !cr0_.get<Bit>() && !cr0ack_.get<Bit>(); };
  if (reg == Reg::STRTAB_BASE && off(CR0::SMMUEN{})) {
    plain_[reg] = value;
  } else if (reg == Reg::CMDQ_BASE && off(CR0::CMDQEN{})) {
    commands_.set_base(CMDQ_BASE{{{value}}});
  } else if (reg == Reg::EVENTQ_BASE && off(CR0::EVENTQEN{})) {
    events_.set_base(EVENTQ_BASE{{{value}}});
  } else {
    ++misuses_;
  }
}

// --- Time ---

void Smmu::step() {
  if (++steps_ > kTooLong) {
    std::fprintf(stderr, "the SMMU model has taken %llu steps: somebody waits for what does not come\n",
                 static_cast<unsigned long long>(steps_));
    std::abort();
  }
  if (cr0ack_ != cr0_ && chance(1, 2)) cr0ack_ = cr0_;
  if (irq_ctrlack_ != irq_ctrl_ && chance(1, 2)) irq_ctrlack_ = irq_ctrl_;
  if (gbpa_next_.get<GBPA::Update>() && chance(1, 2)) {
    gbpa_next_.set<GBPA::Update>(false);
    gbpa_ = gbpa_next_;
  }
  if (parameters_.prefetches && chance(3, 4)) prefetch();
  if (parameters_.evicts && chance(1, 24)) {
    const std::uint64_t which = random_();
    tlb_.evict(which);
    if (which % 3 == 0 && !stes_.empty()) stes_.erase(stes_.begin());
    if (which % 3 == 1 && !cds_.empty()) cds_.erase(cds_.begin());
  }
  if (!in_flight_.empty() && chance(1, 3)) {
    const Event event = in_flight_.front();
    in_flight_.erase(in_flight_.begin());
    if (!cr0ack_.get<CR0::EVENTQEN>()) {
      ++events_lost_;
    } else {
      const auto outcome = events_.push(memory_, event);
      events_lost_ += outcome != EventRing::Outcome::written ? 1 : 0;
      if (outcome == EventRing::Outcome::aborted)
        gerror_.set<GERROR::EVENTQ_ABT_ERR>(!gerrorn_.get<GERRORN::EVENTQ_ABT_ERR>());
    }
  }
  if (chance(2, 3)) fetch();
  // Anything that is pending, late: the more there is, the likelier.
  if (!pending_.empty() && chance(1, 3)) {
    const auto which = static_cast<std::ptrdiff_t>(random_() % pending_.size());
    const Command c = pending_[static_cast<std::size_t>(which)];
    pending_.erase(pending_.begin() + which);
    execute(c);
  }
  if (parameters_.prefetches && chance(1, 2)) prefetch();
}

void Smmu::settle() {
  for (int quiet = 0; quiet < 64; ++quiet) {
    const auto cons = commands_.cons;
    step();
    const bool error = gerror_.get<GERROR::CMDQ_ERR>() != gerrorn_.get<GERRORN::CMDQ_ERR>();
    const bool idle = commands_.empty() || error || !cr0ack_.get<CR0::CMDQEN>();
    if (cons != commands_.cons || !pending_.empty() || !in_flight_.empty() || !idle) quiet = 0;
  }
}

void Smmu::prefetch() {
  if (!enabled() || streams_.empty()) return;
  auto stream = streams_.begin();
  std::advance(stream, static_cast<std::ptrdiff_t>(random_() % streams_.size()));
  const std::uint64_t depth = random_() % 4;
  const auto found = ste(stream->first);
  if (!found || depth == 0) return;
  if (depth == 1) {
    if (translates_s1(found->get<Ste::Config>())) static_cast<void>(cd(stream->first, *found));
    return;
  }
  if (stream->second.empty()) return;
  auto address = stream->second.begin();
  std::advance(address, static_cast<std::ptrdiff_t>(random_() % stream->second.size()));
  const Ste* used_ste = nullptr;
  const Cd* used_cd = nullptr;
  static_cast<void>(translate(stream->first, *address, false, used_ste, used_cd));
}

// --- Commands (chapter 4) ---

void Smmu::command_error(CmdqError error) {
  commands_.error = error;
  gerror_.set<GERROR::CMDQ_ERR>(!gerrorn_.get<GERRORN::CMDQ_ERR>());
}

// Strict: a reserved bit or value is an error wherever the architecture permits one (4.1.5).
bool Smmu::legal(const Command& c) const {
  switch (c.opcode()) {
    case Opcode::PREFETCH_CONFIG:
    case Opcode::PREFETCH_ADDR:
    case Opcode::CFGI_STE:
    case Opcode::CFGI_STE_RANGE:
    case Opcode::CFGI_CD:
    case Opcode::CFGI_CD_ALL:
    case Opcode::TLBI_NH_ALL:
    case Opcode::TLBI_NH_ASID:
    case Opcode::TLBI_NH_VA:
    case Opcode::TLBI_NH_VAA:
    case Opcode::TLBI_S12_VMALL:
    case Opcode::TLBI_S2_IPA:
    case Opcode::TLBI_NSNH_ALL:
    case Opcode::SYNC: break;
    default: return false;  // EL2 without IDR0.Hyp, ATS, PRI and stalls without theirs, unknown
  }
  bool ok = true;
  AllCommands::visit(c, [&]<typename T>(const T& typed) {
    for (std::size_t i = 0; i < typed.words.size(); ++i) ok = ok && (typed.words[i] & T::Layout::res0[i]) == 0;
    if constexpr (std::derived_from<T, TlbiRangeFields>) {
      const bool plain = typed.template get<typename T::TG>() == TlbiGranule::none;
      const auto num = typed.template get<typename T::NUM>();
      const auto scale = typed.template get<typename T::SCALE>();
      const auto ttl = typed.template get<typename T::TTL>();
      if (typed.template get<typename T::TTL128>()) ok = false;
      if (plain && (num | scale | ttl) != 0) ok = false;
      if (!plain && (!parameters_.ril || scale > 31 || (num | scale | ttl) == 0)) ok = false;
    }
    if constexpr (requires { typename T::SSec; }) ok = ok && !typed.template get<typename T::SSec>();
    if constexpr (requires { typename T::VMID; })
      ok = ok && (parameters_.vmid16 || typed.template get<typename T::VMID>().value < 0x100);
  });
  if (const auto sync = c.as<Sync>()) ok = ok && sync->get<Sync::CS>() != SyncSignal::illegal;
  return ok;
}

void Smmu::fetch() {
  const bool error = gerror_.get<GERROR::CMDQ_ERR>() != gerrorn_.get<GERRORN::CMDQ_ERR>();
  if (!cr0ack_.get<CR0::CMDQEN>() || error || commands_.empty()) return;
  const auto c = commands_.load(memory_);
  if (!c) return command_error(CmdqError::CERROR_ABT);
  if (!legal(*c)) return command_error(CmdqError::CERROR_ILL);
  if (c->opcode() == Opcode::SYNC) {
    // All before it have taken effect, and events of what was terminated before are visible (4.7.3).
    if (!pending_.empty() || !in_flight_.empty()) return;
    ++syncs_;
  } else {
    pending_.push_back(*c);
  }
  commands_.cons = commands_.ring.next(commands_.cons);
}

void Smmu::drop_configuration(std::uint64_t first, std::uint64_t last, bool level1) {
  std::erase_if(stes_, [&](const auto& e) { return e.first >= first && e.first <= last; });
  std::erase_if(cds_, [&](const auto& e) { return e.first >= first && e.first <= last; });
  if (!level1) return;
  STRTAB_BASE_CFG config;
  config.words[0] = read(Reg::STRTAB_BASE_CFG);
  const auto split = config.get<STRTAB_BASE_CFG::SPLIT>();
  std::erase_if(level1_, [&](const auto& e) { return e.first >= (first >> split) && e.first <= (last >> split); });
}

void Smmu::execute(const Command& c) {
  if (on_execute) on_execute(c);
  if (const auto t = c.as<CfgiSte>())
    drop_configuration(t->get<CfgiSte::StreamID>(), t->get<CfgiSte::StreamID>(), !t->get<CfgiSte::Leaf>());
  if (const auto t = c.as<CfgiSteRange>()) {
    const auto range = t->get<CfgiSteRange::Range>();
    const std::uint64_t count = std::uint64_t{2} << range;
    const std::uint64_t first = range == CfgiSteRange::kAll ? 0 : t->get<CfgiSteRange::StreamID>() & ~(count - 1);
    drop_configuration(first, first + count - 1, true);
  }
  if (const auto t = c.as<CfgiCd>(); t && t->get<CfgiCd::SubstreamID>().value == 0)
    cds_.erase(t->get<CfgiCd::StreamID>());
  if (const auto t = c.as<CfgiCdAll>()) cds_.erase(t->get<CfgiCdAll::StreamID>());

  const auto stage1 = [](VMID vmid, auto more) {
    return [=](const Tag& tag) { return tag.scope == Scope::stage1 && tag.vmid == vmid.value && more(tag); };
  };
  const auto any = [](const Tag&) { return true; };
  if (const auto t = c.as<TlbiNhAll>()) tlb_.invalidate(stage1(t->get<TlbiNhAll::VMID>(), any));
  if (const auto t = c.as<TlbiNhAsid>()) {
    // Global entries stay (3.17.1).
    const auto asid = t->get<TlbiNhAsid::ASID>().value;
    tlb_.invalidate(
        stage1(t->get<TlbiNhAsid::VMID>(), [=](const Tag& tag) { return !tag.global && tag.asid == asid; }));
  }
  if (const auto t = c.as<TlbiNhVa>()) {
    const auto asid = t->get<TlbiNhVa::ASID>().value;
    tlb_.invalidate(stage1(t->get<TlbiNhVa::VMID>(), [=](const Tag& tag) { return tag.global || tag.asid == asid; }),
                    range_of(*t));
  }
  if (const auto t = c.as<TlbiNhVaa>()) tlb_.invalidate(stage1(t->get<TlbiNhVaa::VMID>(), any), range_of(*t));
  if (const auto t = c.as<TlbiS2Ipa>()) {
    const auto vmid = t->get<TlbiS2Ipa::VMID>().value;
    tlb_.invalidate([=](const Tag& tag) { return tag.scope == Scope::stage2 && tag.vmid == vmid; }, range_of(*t));
  }
  if (const auto t = c.as<TlbiS12Vmall>()) {
    const auto vmid = t->get<TlbiS12Vmall::VMID>().value;
    tlb_.invalidate([=](const Tag& tag) { return tag.vmid == vmid; });
  }
  if (c.opcode() == Opcode::TLBI_NSNH_ALL) tlb_.invalidate(any);
}

}  // namespace weir::model
