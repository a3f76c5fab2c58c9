#include "vsmmu/fanout.hpp"

#include <algorithm>
#include <type_traits>

namespace weir::vsmmu {

using smmu::Command;
using smmu::Opcode;
using Va = smmu::TlbiNhVa;

namespace {

// The fields that Weir puts in are the same in all of them, and lie in the first word.
static_assert(std::is_same_v<Va::VMID, smmu::TlbiNhVaa::VMID>);
static_assert(std::is_same_v<Va::VMID, smmu::TlbiNhAsid::VMID>);
static_assert(std::is_same_v<Va::VMID, smmu::TlbiNhAll::VMID>);
static_assert(std::is_same_v<Va::ASID, smmu::TlbiNhAsid::ASID>);
static_assert(Va::VMID::word == 0 && Va::ASID::word == 0);

// What the guest wrote there has no meaning without stage 2.
template <typename T>
Command without_vmid(T c) {
  return c.template set<typename T::VMID>(VMID{});
}

Command with_asid(Command c, ASID asid) { return c.set<Va::ASID>(asid); }

// An NH_VA as NH_VAA.
Command for_any_asid(Command c) { return c.set<Command::Op>(Opcode::TLBI_NH_VAA).set<Va::ASID>(ASID{}); }

bool wide_asid(ASID asid) { return asid.value > 0xff; }

}  // namespace

Fanout::Fanout(std::unique_ptr<Backing[]> backings, std::size_t count, std::unique_ptr<AsidTable> asids,
               const Options& options)
    : options_{options}, count_{count}, backings_{std::move(backings)}, asids_{std::move(asids)} {
  for (unsigned i = 0; i < count; ++i) {
    Backing& b = backings_[i];
    b.number = i;
    for (std::size_t kind = 0; kind < kTagKinds; ++kind)
      if (b.tags[kind]) b.vmid[kind] = Va::VMID::encode(b.tags[kind]->vmid());
    if (b.port->capabilities().idr3.get<smmu::IDR3::RIL>()) ranges_ |= bit(b);
    if (!b.port->capabilities().idr0.get<smmu::IDR0::ASID16>()) narrow_ |= bit(b);
    if (precise()) to_clean_ |= bit(b);
  }
}

Backing* Fanout::find(const stage2::SmmuPort& port) {
  for (Backing& b : backings())
    if (b.port == &port) return &b;
  return nullptr;
}

// --- Invalidations ---------------------------------------------------------------------------------------------------

[[gnu::noinline]] bool Fanout::make_room(Backing& b, std::size_t kind) {
  if (b.since_sync >= options_.widen) {
    widen(b, kind);
    ++b.counters.widened;
    return false;
  }
  issue(b);
  batched_ |= bit(b);  // of what follows
  return true;
}

[[gnu::noinline]] void Fanout::count_swallowed(Mask mask) {
  each(mask, [this](Backing& b) { ++(b.since_sync >= options_.widen ? b.counters.widened : b.counters.merged); });
}

// An instance that understands neither ranges nor level hints gets single steps, or, where these were too many, NH_ALL:
// NH_ASID would leave global entries.
void Fanout::send_address(Mask to, std::size_t kind, const Command& c) {
  if (c.get<Va::TG>() == smmu::TlbiGranule::none) return send(to, kind, c);
  send(to & ranges_, kind, c);
  if constexpr (kBreakDropInvalidation) return;  // FAULT INJECTION
  each(to & ~ranges_ & ~wide_[kind], [&](Backing& b) { send_steps(b, kind, c); });
}

void Fanout::send_steps(Backing& b, std::size_t kind, const Command& c) {
  const Steps steps = Steps::of(c.get<Va::Address>().value, {.tg = c.get<Va::TG>(),
                                                             .ttl = static_cast<unsigned>(c.get<Va::TTL>()),
                                                             .num = static_cast<unsigned>(c.get<Va::NUM>()),
                                                             .scale = static_cast<unsigned>(c.get<Va::SCALE>())});
  if (steps.count > kMaxSteps) return widen(b, kind);
  Command step = c;
  step.set<Va::TG>(smmu::TlbiGranule::none).set<Va::TTL>(0).set<Va::NUM>(0).set<Va::SCALE>(0);
  for (std::uint64_t i = 0; i < steps.count; ++i) send_one(b, kind, step.set<Va::Address>(IOVA{steps.at(i)}));
}

// There is no ASID of more than 8 bits on a narrow instance, but there may be global entries.
void Fanout::invalidate_open(smmu::TlbiNhVa c) {
  const Command any = without_vmid(c);
  const Mask beyond = wide_asid(c.get<Va::ASID>()) ? dirty_[kOpen] & narrow_ : 0;
  send_address(dirty_[kOpen] & ~beyond, kOpen, any);
  if (beyond != 0 && !options_.no_global_pages) send_address(beyond, kOpen, for_any_asid(any));
}

[[gnu::noinline]] void Fanout::invalidate(smmu::TlbiNhVa c) {
  if (dirty_[kOpen] != 0) invalidate_open(c);
  if (!precise()) return;
  const Command any = without_vmid(c);
  const ASID asid = c.get<Va::ASID>();
  const AsidTable::Row* const row = asids_->find(asid);
  const Mask lives = row == nullptr ? 0 : row->lives & dirty_[kHeld];
  each(lives, [&](Backing& b) { send_address(bit(b), kHeld, with_asid(any, asids_->host(*row, b.number))); });
  // It also removes global entries, which any context may have made.
  if (!options_.no_global_pages) send_address(dirty_[kHeld] & ~lives, kHeld, for_any_asid(any));
}

void Fanout::send_run(Mask to, std::size_t kind, std::uint64_t first, std::span<const Command> run) {
  if constexpr (kBreakDropInvalidation) return;  // FAULT INJECTION
  each(to, [&](Backing& b) {
    const std::uint64_t own = first | vmid_for(b, kind);
    std::span<const Command> left = run;
    while (!left.empty()) {
      if ((wide_[kind] & bit(b)) != 0 || b.since_sync >= options_.widen) {
        if ((wide_[kind] & bit(b)) == 0) widen(b, kind);
        (b.since_sync >= options_.widen ? b.counters.widened : b.counters.merged) += left.size();
        break;
      }
      if (b.batch.full()) issue(b);
      const std::size_t before = b.batch.size();
      const std::size_t most = std::min<std::size_t>(left.size(), options_.widen - b.since_sync);
      const std::size_t taken = b.batch.add_run(own, left.first(most));
      const std::size_t added = b.batch.size() - before;
      b.since_sync += static_cast<unsigned>(added);
      b.counters.merged += taken - added;
      batched_ |= bit(b);
      left = left.subspan(taken);
    }
    pushed_ += static_cast<unsigned>(run.size());
  });
}

[[gnu::noinline]] void Fanout::invalidate_run(std::span<const Command> run) {
  const std::uint64_t any = run[0].words[0] & ~Va::VMID::mask;
  if (!precise()) return send_run(dirty_[kOpen], kOpen, any, run);
  const ASID asid = run[0].get<Va::ASID>();
  if (dirty_[kOpen] != 0) {
    for (const Command& c : run) {
      Va one;
      one.words = c.words;
      invalidate_open(one);
    }
  }
  const AsidTable::Row* const row = asids_->find(asid);
  const Mask lives = row == nullptr ? 0 : row->lives & dirty_[kHeld];
  each(lives, [&](const Backing& b) {
    send_run(bit(b), kHeld, (any & ~Va::ASID::mask) | Va::ASID::encode(asids_->host(*row, b.number)), run);
  });
  if (options_.no_global_pages) return;
  Command vaa;
  vaa.words[0] = any;
  send_run(dirty_[kHeld] & ~lives, kHeld, for_any_asid(vaa).words[0], run);
}

void Fanout::invalidate(smmu::TlbiNhVaa c) {
  const Command any = without_vmid(c);
  send_address(dirty_[kOpen], kOpen, any);
  if (dirty_[kHeld] != 0) send_address(dirty_[kHeld], kHeld, any);
}

void Fanout::invalidate(smmu::TlbiNhAsid c) {
  const Command any = without_vmid(c);
  const ASID asid = c.get<smmu::TlbiNhAsid::ASID>();
  send(dirty_[kOpen] & (wide_asid(asid) ? ~narrow_ : ~Mask{0}), kOpen, any);
  if (!precise()) return;
  const AsidTable::Row* const row = asids_->find(asid);
  if (row == nullptr) return;
  each(row->lives & dirty_[kHeld],
       [&](Backing& b) { send(bit(b), kHeld, with_asid(any, asids_->host(*row, b.number))); });
  asids_->clean(asid);
}

void Fanout::send_all(Mask to, std::size_t kind) {
  if constexpr (!kBreakDropInvalidation)  // FAULT INJECTION
    each(to, [&](Backing& b) {
      ++pushed_;
      if ((wide_[kind] & bit(b)) != 0) {
        ++b.counters.merged;
        return;
      }
      b.counters.merged += b.batch.drop_tlbis(Va::VMID::decode(b.vmid[kind]));
      widen(b, kind);
    });
  each(to, [&](const Backing& b) {
    if (b.stage1_streams[kind] == 0) cleaning_[kind] |= bit(b);
  });
  to_clean_ |= cleaning_[kind];
}

void Fanout::invalidate_all() {
  send_all(dirty_[kOpen], kOpen);
  if (!precise()) return;
  send_all(dirty_[kHeld], kHeld);
  asids_->clean_all(dirty_[kHeld]);
}

void Fanout::add_stage1(Backing& b, TagKind kind) {
  ++b.stage1_streams[index(kind)];
  dirty_[index(kind)] |= bit(b);
  cleaning_[index(kind)] &= ~bit(b);
}

// --- Host ASIDs ------------------------------------------------------------------------------------------------------

std::optional<ASID> Fanout::acquire(Backing& b, ASID guest) {
  // Twice: for want of a number, then for want of a row.
  for (unsigned tries = 0; tries < 2; ++tries) {
    if (const auto host = asids_->acquire(guest, b.number)) return host;
    reclaim(b);
  }
  return asids_->acquire(guest, b.number);
}

void Fanout::reclaim(Backing& b) {
  std::array<ASID, kReclaim> idle;
  const std::size_t n = asids_->reclaimable(b.number, idle);
  if (n == 0) return;
  Mask to = 0;
  for (const ASID guest : std::span{idle}.first(n)) to |= asids_->find(guest)->lives & ~asids_->find(guest)->used;
  // All instances at once, then all awaited.
  each(to, [&](Backing& at) {
    std::array<Command, kReclaim> commands;
    std::size_t count = 0;
    for (const ASID guest : std::span{idle}.first(n)) {
      const AsidTable::Row& row = *asids_->find(guest);
      if ((row.lives & ~row.used & bit(at)) == 0) continue;
      commands[count] = smmu::tlbi_nh_asid(VMID{}, asids_->host(row, at.number));
      commands[count++].words[Va::VMID::word] |= vmid_for(at, kHeld);
    }
    // Behind all that was sent before: it may be what others are clean by.
    if ((batched_ & bit(at)) != 0) issue(at);
    at.ticket = at.port->issue_and_sync(std::span{commands}.first(count));
    at.counters.tlbis += count;
  });
  for (const ASID guest : std::span{idle}.first(n)) asids_->clean(guest);
  each(to, [&](const Backing& at) {
    stage2::wait(*at.port, at.ticket);
    asids_->cleaned(at.number);
  });
}

// --- Towards the hardware --------------------------------------------------------------------------------------------

// What NH_ALL is for comes last: it covers all that was sent before, and the whole of what was left out.
[[gnu::noinline]] void Fanout::close(Backing& b) {
  for (std::size_t kind = 0; kind < kTagKinds; ++kind) {
    if ((wide_[kind] & bit(b)) == 0) continue;
    wide_[kind] &= ~bit(b);
    Command all = smmu::tlbi_nh_all(VMID{});
    all.words[Va::VMID::word] |= vmid_for(b, kind);
    b.batch.finish(all);
    ++b.counters.tlbis;
  }
}

void Fanout::issue(Backing& b) {
  close(b);
  b.port->issue(b.batch.commands());
  b.batch.clear();
  batched_ &= ~bit(b);
  unsynced_ |= bit(b);
}

void Fanout::issue_all() {
  each(batched_, [this](Backing& b) { issue(b); });
}

void Fanout::submit_sync() {
  waiting_ = batched_ | unsynced_ | reporting_;
  if (const Mask wide = wide_[kOpen] | wide_[kHeld]; wide != 0) [[unlikely]]
    each(wide & waiting_, [this](Backing& b) { close(b); });
  each(waiting_, [](Backing& b) {
    b.ticket = b.port->issue_and_sync(b.batch.commands());
    b.batch.clear();
    b.counters.tlbis += b.since_sync;
    b.since_sync = 0;
    ++b.counters.syncs;
  });
  batched_ = unsynced_ = 0;
}

[[gnu::noinline]] void Fanout::clean(Mask done) {
  for (std::size_t kind = 0; kind < kTagKinds; ++kind) {
    dirty_[kind] &= ~(cleaning_[kind] & done);
    cleaning_[kind] &= ~done;
  }
  if (!precise()) {
    to_clean_ = cleaning_[kOpen];
    return;
  }
  each(done, [this](const Backing& b) {
    if (asids_->cleaning(b.number)) asids_->cleaned(b.number);
  });
}

void Fanout::forget() {
  flush();
  dirty_ = cleaning_ = {};
}

}  // namespace weir::vsmmu
