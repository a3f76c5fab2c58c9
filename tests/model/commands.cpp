// The Command queue (Arm IHI 0070, chapter 4; 7.1).
#include <algorithm>
#include <concepts>

#include "tests/model/smmu.hpp"

namespace weir::model {

using namespace smmu;

namespace {

// Which opcodes there are for what the ID registers announce; all others are CERROR_ILL.
bool known(Opcode op, const Parameters& p) {
  switch (op) {
    case Opcode::PREFETCH_CONFIG:
    case Opcode::PREFETCH_ADDR:
    case Opcode::CFGI_STE:
    case Opcode::CFGI_STE_RANGE:
    case Opcode::TLBI_NSNH_ALL:
    case Opcode::SYNC: return true;
    case Opcode::CFGI_CD:
    case Opcode::CFGI_CD_ALL:
    case Opcode::TLBI_NH_ALL:
    case Opcode::TLBI_NH_ASID:
    case Opcode::TLBI_NH_VA:
    case Opcode::TLBI_NH_VAA: return p.s1p;
    case Opcode::TLBI_EL2_ALL:
    case Opcode::TLBI_EL2_ASID:
    case Opcode::TLBI_EL2_VA:
    case Opcode::TLBI_EL2_VAA: return p.mimics_qemu || (p.hyp && p.s1p && p.s2p);
    case Opcode::TLBI_S12_VMALL:
    case Opcode::TLBI_S2_IPA: return p.s2p;
    case Opcode::ATC_INV: return p.mimics_qemu || p.ats;
    case Opcode::PRI_RESP: return p.mimics_qemu || (p.ats && p.pri);
    case Opcode::RESUME:
    case Opcode::STALL_TERM: return p.mimics_qemu || p.stalls();
    default: return p.mimics_qemu && (op == Opcode{0x18} || op == Opcode{0x1a});  // TLBI_EL3_ALL and _VA do nothing
  }
}

// 4.4.1.1
template <typename T>
bool range_legal(const T& c, const Parameters& p) {
  const auto tg = c.template get<typename T::TG>();
  const auto num = c.template get<typename T::NUM>();
  const auto scale = c.template get<typename T::SCALE>();
  auto ttl = c.template get<typename T::TTL>();
  const bool reserved =
      tg == TlbiGranule::none || !p.ril
          ? (num | scale | ttl) != 0 || tg != TlbiGranule::none || c.template get<typename T::TTL128>()
          : c.template get<typename T::TTL128>() || (!p.ds && scale > 31);
  if (reserved && p.refuses_reserved) return false;
  if (tg == TlbiGranule::none || !p.ril) return true;
  if (tg == TlbiGranule::size16k && ttl == 1 && !p.ds) ttl = 0;
  return (num | scale | ttl) != 0 || p.mimics_qemu;
}

}  // namespace

void Smmu::command_error(CmdqError error) {
  registers_.commands.error = error;
  registers_.commands.shown = registers_.commands.cons;
  raise_error<GERROR::CMDQ_ERR>();
}

// A reserved bit is an error wherever the architecture permits one, if refuses_reserved (4.1.5).
bool Smmu::legal(const Command& c) {
  const Parameters& p = parameters_;
  if (!known(c.opcode(), p)) return false;
  bool ok = true;
  AllCommands::visit(c, [&]<typename T>(const T& typed) {
    const auto reserved = [&](bool set) { ok = ok && !(set && p.refuses_reserved); };
    for (std::size_t i = 0; i < typed.words.size(); ++i) reserved((typed.words[i] & T::Layout::res0[i]) != 0);
    if constexpr (std::derived_from<T, TlbiRangeFields>) ok = ok && range_legal(typed, p);
    // 4.1.6
    constexpr bool kConfiguration = T::kOpcode >= Opcode::CFGI_STE && T::kOpcode <= Opcode::CFGI_CD_ALL;
    if constexpr (requires { typename T::SSec; })
      ok = ok && (!typed.template get<typename T::SSec>() || (p.mimics_qemu && !kConfiguration));
    // 4.4.2: without stage 2 a VMID is RES0, but need not be checked.
    if constexpr (requires { typename T::VMID; })
      reserved(p.s2p && !p.vmid16 && typed.template get<typename T::VMID>().value > 0xff);
    if constexpr (requires { typename T::ASID; })
      reserved(!p.asid16 && typed.template get<typename T::ASID>().value > 0xff);
  });
  if (const auto t = c.as<Sync>()) ok = ok && (p.mimics_qemu || t->get<Sync::CS>() != SyncSignal::illegal);
  if (const auto t = c.as<PriResp>())
    ok = ok && (p.mimics_qemu || t->get<PriResp::Resp>() != PriResponse::illegal);  // 4.5.2
  if (const auto t = c.as<AtcInv>()) ok = ok && !(p.refuses_reserved && t->get<AtcInv::Size>() > AtcInv::kSizeAll);
  if (const auto t = c.as<PrefetchAddr>()) {
    ok = ok && !(p.refuses_reserved && t->get<PrefetchAddr::NS>());
    if (p.minor_revision == 0) ok = ok && !(p.refuses_reserved && t->get<PrefetchAddr::Stride>() != 0);
  }
  return ok;
}

void Smmu::fetch() {
  CommandRing& q = registers_.commands;
  if (!in_effect<CR0::CMDQEN>() || registers_.active<GERROR::CMDQ_ERR>() || q.empty()) return;
  const auto c = q.load(memory_, queues_snoop());
  if (!c) return command_error(CmdqError::CERROR_ABT);
  if (!legal(*c)) return command_error(CmdqError::CERROR_ILL);
  const auto sync = c->as<Sync>();
  if (sync && !sync_complete()) return;
  const bool was_full = q.ring.used(q.prod, q.shown) == q.ring.entries();
  q.cons = q.ring.next(q.cons);
  if (sync) {
    ++syncs_;
    q.shown = q.cons;
    signal_sync(*sync);
  } else {
    take_command(*c);
  }
  // 4.1.2: the queue becomes non-full.
  if (was_full && parameters_.sev) {
    q.shown = q.cons;
    if (on_sev) on_sev();
  }
}

// A command that is not a CMD_SYNC is consumed.
void Smmu::take_command(const Command& c) {
  // Silent there.
  if (parameters_.mimics_qemu &&
      (c.opcode() >= Opcode::ATC_INV || c.opcode() == Opcode{0x18} || c.opcode() == Opcode{0x1a}))
    return;
  if (const auto t = c.as<Resume>()) {
    // 4.7.1: complete by the time that it is consumed.
    if (on_execute) on_execute(c);
    return resume(*t);
  }
  if (const auto t = c.as<StallTerm>()) {
    if (on_execute) on_execute(c);
    return terminate_stream(t->get<StallTerm::StreamID>());
  }
  if (const auto t = c.as<PriResp>()) {
    responses_.push_back(*t);
    return;
  }
  pending_.push_back(c);
  if (parameters_.synchronous) execute_pending();
}

// 4.7.3: all before it has taken effect, and events of what was terminated before are visible, or never will be.
bool Smmu::sync_complete() {
  if (timed_out_ > 0) {
    if (!chance(1, 4)) return false;
    // 3.9.1.4, 4.7.3: no invalidation since the last SYNC can be relied on; some of them will never be.
    timed_out_ = 0;
    std::erase_if(pending_, [&](const Command& c) { return c.opcode() == Opcode::ATC_INV && maybe(1, 2); });
    command_error(CmdqError::CERROR_ATC_INV_SYNC);
    return false;
  }
  if (!pending_.empty()) return false;
  const bool writable = event_queue_writable();
  for (InFlight& e : in_flight_) {
    if (e.stall == 0 || writable) return false;
    // Its record would be stale: the transaction is retried when the queue is writable.
    for (Stall& s : stalls_)
      if (s.id == e.stall) s.stale = true;
  }
  flush_interrupts(Source::cmdq_sync);
  return !registers_.active<GERROR::CMDQ_ERR>();
}

void Smmu::execute_pending() {
  const auto which = static_cast<std::ptrdiff_t>(pick(pending_.size()));
  const Command c = pending_[static_cast<std::size_t>(which)];
  pending_.erase(pending_.begin() + which);
  execute(c);
}

void Smmu::execute(const Command& c) {
  if (on_execute) on_execute(c);
  if (const auto t = c.as<AtcInv>()) return invalidate_atc(*t);
  // 4.2, 6.3.9.6: a prefetch does nothing while the SMMU is disabled.
  const bool prefetch = c.opcode() == Opcode::PREFETCH_CONFIG || c.opcode() == Opcode::PREFETCH_ADDR;
  if (prefetch && (parameters_.mimics_qemu || !in_effect<CR0::SMMUEN>())) return;
  translator_.execute(c, registers_.controls);
}

}  // namespace weir::model
