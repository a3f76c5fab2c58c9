#include "hyp/smmu/command_queue.hpp"

#include <algorithm>
#include <bit>

#include "hyp/log/log.hpp"

namespace weir {

using smmu::Reg;
using stage2::Ticket;

namespace {

StreamID stream_of(const smmu::Command& atc_inv) {
  return StreamID{atc_inv.as<smmu::AtcInv>().value_or(smmu::AtcInv{}).get<smmu::AtcInv::StreamID>()};
}

// A SYNC that waits for ATC_INVs of `sid`, and says so where the SMMU does not look: MSI parameters are IGNORED without
// CS == SIG_IRQ (4.7.3).
constexpr std::uint64_t kBehindAtc = 4;
smmu::Command sync_behind_atc(StreamID sid) {
  return smmu::sync_none().set<smmu::Sync::MSIData>(sid.value).set<smmu::Sync::MSIAddress>(kBehindAtc);
}
std::optional<StreamID> stream_behind(const smmu::Command& c) {
  const auto sync = c.as<smmu::Sync>();
  if (!sync || sync->get<smmu::Sync::MSIAddress>() != kBehindAtc) return std::nullopt;
  return StreamID{sync->get<smmu::Sync::MSIData>()};
}

}  // namespace

bool CommandQueue::init(unsigned most_log2) {
  const std::uint32_t pcpus = std::max(hardware_.pcpus(), 1U);
  const std::uint32_t shares = pcpus + 1;  // and what is appended while nobody counts
  const unsigned log2 = std::min(most_log2, static_cast<unsigned>(std::bit_width(shares * kQuota - 1)));
  slot_mask_ = (std::uint32_t{1} << log2) - 1;
  index_mask_ = 2 * size() - 1;
  quota_ = std::clamp(size() / shares, 1U, kQuota);
  const auto memory = hardware_.allocate(std::max<std::size_t>(size() * sizeof(smmu::Command), kPage4K));
  if (!memory) return false;
  ring_ = static_cast<smmu::Command*>(hardware_.pointer(*memory));
  hardware_.write64(Reg::CMDQ_BASE, smmu::CMDQ_BASE{}
                                        .set<smmu::CMDQ_BASE::RA>(true)
                                        .set<smmu::CMDQ_BASE::ADDR>(memory->value)
                                        .set<smmu::CMDQ_BASE::LOG2SIZE>(log2)
                                        .words[0]);
  hardware_.write(Reg::CMDQ_PROD, 0);
  hardware_.write(Reg::CMDQ_CONS, 0);
  return true;
}

// The commands [first, end), in the ring. An SMMU that is not coherent comes here for all that it is to do: its pushes are
// never plain.
void CommandQueue::submit(std::uint64_t first, std::uint64_t end) {
  if (!hardware_.coherent()) {
    const std::uint64_t until_wrap = std::min<std::uint64_t>(end - first, size() - (first & slot_mask_));
    hardware_.publish(&slot(first), until_wrap * sizeof(smmu::Command));
    if (until_wrap < end - first) hardware_.publish(&ring_[0], (end - first - until_wrap) * sizeof(smmu::Command));
  }
  produced_.store(end, std::memory_order_relaxed);
  if (hardware_.coherent())
    hardware_.write_after_stores(Reg::CMDQ_PROD, index_of(end));
  else
    hardware_.write(Reg::CMDQ_PROD, index_of(end));
}

std::uint64_t CommandQueue::find_plain_until() const {
  if (atc_ || twice_ || !hardware_.coherent() || dead_.load(std::memory_order_relaxed)) return 0;
  const std::uint64_t ring_end = (produced_.load(std::memory_order_relaxed) | slot_mask_) + 1;
  return std::min(consumed_.load(std::memory_order_acquire) + quota_, ring_end);
}

// Opcodes of what is for devices (ATC_INV is one, and the answers to them) and CMD_SYNC have it, the others have not.
constexpr std::uint64_t kForDevices = 0x40;
static_assert((static_cast<unsigned>(smmu::Opcode::ATC_INV) & kForDevices) != 0);

[[gnu::always_inline]] inline bool CommandQueue::append_plain(std::span<const smmu::Command> commands, bool sync) {
  const std::uint64_t start = produced_.load(std::memory_order_relaxed);
  const std::uint64_t end = start + commands.size() + (sync ? 1 : 0);
  if (end > plain_until_) [[unlikely]]
    return false;
  smmu::Command* at = &slot(start);
  std::uint64_t bits = 0;
  for (const smmu::Command& c : commands) {
    bits |= c.words[0];
    *at++ = c;
  }
  if ((bits & kForDevices) != 0) [[unlikely]]
    return false;
  if (sync) {
    *at = smmu::sync_none();
    ++syncs_;
  }
  produced_.store(end, std::memory_order_relaxed);
  hardware_.write_after_stores(Reg::CMDQ_PROD, index_of(end));
  return true;
}

Ticket CommandQueue::push(std::span<const smmu::Command> commands, bool sync) {
  {
    const SpinLock::Guard guard{lock_};
    if (append_plain(commands, sync)) [[likely]]
      return produced_.load(std::memory_order_relaxed);
  }
  return push_in_parts(commands, sync);
}

[[gnu::noinline]] Ticket CommandQueue::push_in_parts(std::span<const smmu::Command> commands, bool sync) {
  return twice_ ? push_twice(commands, sync) : push_once(commands, sync);
}

// The first SYNC is complete before what lies behind it is consumed. Without `sync` a later one is the second.
Ticket CommandQueue::push_twice(std::span<const smmu::Command> commands, bool sync) {
  const auto invalidates = [](const smmu::Command& c) {
    return c.opcode() >= smmu::Opcode::CFGI_STE && (c.words[0] & kForDevices) == 0;
  };
  if (std::ranges::none_of(commands, invalidates)) return push_once(commands, sync);
  Ticket ticket = push_once(commands, true);
  while (!commands.empty()) {
    const auto first = std::ranges::find_if(commands, invalidates);
    const auto end = std::find_if_not(first, commands.end(), invalidates);
    if (first != end) ticket = push_once({first, end}, false);
    commands = {end, commands.end()};
  }
  return sync ? push_once({}, true) : ticket;
}

Ticket CommandQueue::push_once(std::span<const smmu::Command> commands, bool sync) {
  for (;;) {
    {
      const SpinLock::Guard guard{lock_};
      plain_until_ = find_plain_until();
      if (append_plain(commands, sync) || dead_.load(std::memory_order_relaxed) || append(commands, sync))
        return produced_.load(std::memory_order_relaxed);
    }
    static_cast<void>(look());
    poll_in_vain();
  }
}

bool CommandQueue::append(std::span<const smmu::Command>& commands, bool sync) {
  const std::uint64_t start = produced_.load(std::memory_order_relaxed);
  const std::uint64_t consumed = consumed_.load(std::memory_order_acquire);
  Share& share = shares_[hardware_.pcpu() % kMaxPcpus];
  const std::uint32_t mine = share.outstanding(consumed);
  const std::uint64_t room = std::min<std::uint64_t>(quota_ - std::min(mine, quota_), size() - (start - consumed));
  // Not a few at a time, each with a store of PROD.
  if (room < commands.size() + (sync ? 1 : 0) && room < (quota_ + 1) / 2) return false;

  std::uint64_t at = start;
  const std::uint64_t end = start + room;
  const auto append_sync = [&] {
    slot(at++) = atc_ ? sync_behind_atc(*atc_) : smmu::Command{smmu::sync_none()};
    if (atc_) atc_end_.store(at, std::memory_order_relaxed);
    atc_.reset();
    ++syncs_;
  };
  for (; at != end && !commands.empty(); commands = commands.subspan(1)) {
    const smmu::Command& c = commands.front();
    if (c.opcode() == smmu::Opcode::ATC_INV) {
      const StreamID sid = stream_of(c);
      if (atc_refused(sid)) continue;
      if (atc_ && *atc_ != sid) append_sync();
      if (at == end) break;
      atc_ = sid;
      plain_until_ = 0;
      atc_end_.store(at + 1, std::memory_order_relaxed);
    }
    slot(at++) = c;
  }
  const bool all = commands.empty() && (!sync || at != end);
  if (all && sync) append_sync();
  if (at != start) {
    share.add(static_cast<std::uint32_t>(at - start), at);
    submit(start, at);
  }
  return all;
}

std::uint64_t CommandQueue::look() {
  // `produced` before CONS: then CONS can only be ahead of what is computed here, never behind.
  const std::uint64_t produced = produced_.load(std::memory_order_acquire);
  const smmu::CMDQ_CONS cons{{{hardware_.read(Reg::CMDQ_CONS)}}};
  std::atomic_thread_fence(std::memory_order_acquire);  // what was lost before CONS is known behind it
  if (cons.get<smmu::CMDQ_CONS::ERR>() != smmu::CmdqError::CERROR_NONE) recover();
  const std::uint32_t outstanding = index_of(index_of(produced) - std::uint64_t{cons.get<smmu::CMDQ_CONS::RD>()});
  // More than the queue holds: others appended meanwhile, and the SMMU is past `produced`.
  const std::uint64_t now = outstanding > size() ? produced : produced - outstanding;
  if (consumed_.load(std::memory_order_relaxed) < now) consumed_.store(now, std::memory_order_release);
  return now;
}

// Nearly always nobody has seen it yet. CONS cannot be a whole ring before the ticket, so what index_of() leaves of their
// distance says on which side it is, unless others came much further meanwhile: then look() sees it.
bool CommandQueue::completed(Ticket ticket) {
  if (consumed_.load(std::memory_order_acquire) < ticket) [[likely]] {
    const std::uint32_t cons = hardware_.read(Reg::CMDQ_CONS);
    std::atomic_thread_fence(std::memory_order_acquire);  // as in look()
    const std::uint32_t beyond = index_of(cons - ticket);
    if (beyond > slot_mask_) [[unlikely]]
      return completed_after_all(ticket);
    consumed_.store(ticket + beyond, std::memory_order_release);
  }
  return lost_.load(std::memory_order_relaxed) >= ticket || completed_after_all(ticket);
}

[[gnu::noinline]] bool CommandQueue::completed_after_all(Ticket ticket) {
  if (dead_.load(std::memory_order_acquire)) return true;
  const std::uint64_t consumed = std::max(consumed_.load(std::memory_order_acquire), look());
  if (consumed >= ticket && (lost_.load(std::memory_order_relaxed) >= ticket || covered())) return true;
  poll_in_vain();
  return false;
}

void CommandQueue::poll_in_vain() {
  if (polls_.fetch_add(1, std::memory_order_relaxed) % kPollsBetweenLooks == kPollsBetweenLooks - 1) watch();
  hardware_.relax();
}

void CommandQueue::watch() {
  const SpinLock::Guard guard{recovery_};
  const std::uint64_t now = hardware_.microseconds();
  const std::uint64_t seen = consumed_.load(std::memory_order_relaxed);
  const bool pause = now - std::exchange(looked_at_, now) > kPause;
  if (seen != watched_ || watched_at_ == 0 || pause) {
    watched_ = seen;
    watched_at_ = now;
    standstill_said_ = false;
    return;
  }
  const std::uint64_t still = now - watched_at_;
  if (still > kStandstill && !standstill_said_) {
    standstill_said_ = true;
    log("%.*s: the command queue stands still: PROD %#x CONS %#x GERROR %#x GERRORN %#x",
        static_cast<int>(name_.size()), name_.data(), hardware_.read(Reg::CMDQ_PROD), hardware_.read(Reg::CMDQ_CONS),
        hardware_.read(Reg::GERROR), hardware_.read(Reg::GERRORN));
  }
  const bool endpoint = seen < atc_end_.load(std::memory_order_relaxed);
  if (still > (endpoint ? kGiveUpAtc : kGiveUp) && !dead_.load(std::memory_order_relaxed)) die();
}

// What is in the ring before that position may be looked at.
std::uint64_t CommandQueue::appended() {
  const SpinLock::Guard guard{lock_};
  return produced_.load(std::memory_order_relaxed);
}

void CommandQueue::recover() {
  const SpinLock::Guard guard{recovery_};
  if (failed_) return;
  const smmu::GERROR active{{{hardware_.read(Reg::GERROR)}}};
  smmu::GERRORN acknowledged{{{hardware_.read(Reg::GERRORN)}}};
  if (active.get<smmu::GERROR::CMDQ_ERR>() == acknowledged.get<smmu::GERRORN::CMDQ_ERR>()) return;
  const smmu::CMDQ_CONS cons{{{hardware_.read(Reg::CMDQ_CONS)}}};
  const std::uint64_t end = appended();
  const std::uint64_t position = end - index_of(index_of(end) - std::uint64_t{cons.get<smmu::CMDQ_CONS::RD>()});
  if (!settle(cons.get<smmu::CMDQ_CONS::ERR>(), position)) return;
  acknowledged.set<smmu::GERRORN::CMDQ_ERR>(active.get<smmu::GERROR::CMDQ_ERR>());
  hardware_.write(Reg::GERRORN, acknowledged.words[0]);
}

bool CommandQueue::settle(smmu::CmdqError error, std::uint64_t position) {
  smmu::Command& at = slot(position);
  if (error == smmu::CmdqError::CERROR_ABT) return settle_abort(position);
  ++counters_.errors;
  const auto name = smmu::name_of(error);
  log("%.*s: command queue error %.*s at command %016llx %016llx", static_cast<int>(name_.size()), name_.data(),
      static_cast<int>(name.size()), name.data(), static_cast<unsigned long long>(at.words[0]),
      static_cast<unsigned long long>(at.words[1]));
  if (error == smmu::CmdqError::CERROR_ATC_INV_SYNC) {
    if (const auto sid = stream_behind(at)) atc_timed_out(*sid, position);
  } else if (error == smmu::CmdqError::CERROR_ILL) {
    lose(at, position);
  }
  return !failed_;
}

// The endpoint will not answer the next invalidation either: those that are in the ring already are not to cost a
// timeout each. What lies at CONS and behind it is fetched again (7.1).
void CommandQueue::atc_timed_out(StreamID sid, std::uint64_t position) {
  ++counters_.atc_timeouts;
  if (!atc_refused(sid)) {
    const std::uint32_t n = refused_count_.load(std::memory_order_relaxed);
    if (n == refused_.size()) return die();
    refused_[n].store(sid.value, std::memory_order_relaxed);
    refused_count_.store(n + 1, std::memory_order_release);
  }
  const std::uint64_t end = appended();
  for (std::uint64_t p = position + 1; p < end; ++p) {
    smmu::Command& later = slot(p);
    if (later.opcode() != smmu::Opcode::ATC_INV || stream_of(later) != sid) continue;
    later = smmu::cfgi_ste(sid, true);  // harmless
    hardware_.publish(&later, sizeof later);
  }
  if (listener_ != nullptr) listener_->on_atc_timeout(sid);
}

void CommandQueue::allow_atc(StreamID sid) {
  const SpinLock::Guard guard{recovery_};
  const std::uint32_t n = refused_count_.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < n; ++i) {
    if (refused_[i].load(std::memory_order_relaxed) != sid.value) continue;
    refused_[i].store(refused_[n - 1].load(std::memory_order_relaxed), std::memory_order_relaxed);
    refused_count_.store(n - 1, std::memory_order_release);
    return;
  }
}

bool CommandQueue::atc_refused(StreamID sid) const {
  const std::uint32_t n = refused_count_.load(std::memory_order_acquire);
  for (std::uint32_t i = 0; i < n; ++i)
    if (refused_[i].load(std::memory_order_relaxed) == sid.value) return true;
  return false;
}

// What an illegal command was to invalidate is not known for certain: it may be illegal because its memory was damaged.
void CommandQueue::lose(smmu::Command& at, std::uint64_t position) {
  using enum smmu::Opcode;
  const smmu::Command lost = at;
  if (lost == smmu::Command{smmu::sync_none()} || lost == smmu::Command{smmu::cfgi_all()} ||
      lost == smmu::Command{smmu::tlbi_nsnh_all()})
    return die();  // legal everywhere
  at = smmu::sync_none();
  hardware_.publish(&at, sizeof at);
  lost_.store(std::min(lost_.load(std::memory_order_relaxed), position), std::memory_order_release);
  cover_ = Cover::owed;
  if (lost.opcode() == ATC_INV) atc_timed_out(stream_of(lost), position);  // nothing wider exists
}

// Is what was lost made up for? Whoever waits asks again and again, and one of them does it.
bool CommandQueue::covered() {
  const std::uint64_t done = look();
  {
    const SpinLock::Guard guard{recovery_};
    switch (cover_) {
      case Cover::none: return true;
      case Cover::issuing: return false;
      case Cover::issued:
        if (done < cover_ticket_) return dead_.load(std::memory_order_relaxed);
        cover_ = Cover::none;
        lost_.store(kNever, std::memory_order_release);
        return true;
      case Cover::owed: cover_ = Cover::issuing; break;
    }
  }
  const std::array<smmu::Command, 2> all = {smmu::cfgi_all(), smmu::tlbi_nsnh_all()};
  const Ticket ticket = push(all, true);
  const SpinLock::Guard guard{recovery_};
  if (cover_ == Cover::issuing) {  // else yet another one was lost meanwhile
    cover_ = Cover::issued;
    cover_ticket_ = ticket;
  }
  return false;
}

bool CommandQueue::settle_abort(std::uint64_t position) {
  const std::uint64_t now = hardware_.microseconds();
  if (aborted_at_ != position) {
    aborted_at_ = position;
    abort_tries_ = 0;
  } else if (now < retry_at_) {
    return false;
  }
  ++counters_.errors;
  if (abort_tries_ == 0)
    log("%.*s: command queue error CERROR_ABT at %#x: its memory cannot be read", static_cast<int>(name_.size()),
        name_.data(), index_of(position));
  if (++abort_tries_ == kAbortTries) {
    die();
    return false;
  }
  retry_at_ = now + (kAbortRetry << abort_tries_);
  return true;
}

void CommandQueue::fail() {
  const SpinLock::Guard guard{recovery_};
  if (!failed_) die();
}

// With recovery_ held. A ticket is complete only when no DMA can go on that it was to end: where that cannot be had, whatever
// waits for one goes on waiting, and it is tried again.
void CommandQueue::die() {
  if (!failed_.exchange(true))
    log("%.*s: the command queue cannot be used any more", static_cast<int>(name_.size()), name_.data());
  watched_at_ = hardware_.microseconds();
  if (listener_ != nullptr && !listener_->on_dead_queue()) return;
  const SpinLock::Guard guard{lock_};
  dead_.store(true, std::memory_order_release);
  plain_until_ = 0;
}

std::uint32_t CommandQueue::acknowledge_others() {
  const SpinLock::Guard guard{recovery_};
  smmu::GERROR errors{{{hardware_.read(Reg::GERROR)}}};
  const smmu::GERRORN acknowledged{{{hardware_.read(Reg::GERRORN)}}};
  errors.set<smmu::GERROR::CMDQ_ERR>(acknowledged.get<smmu::GERRORN::CMDQ_ERR>());
  const std::uint32_t active = errors.words[0] ^ acknowledged.words[0];
  if (active != 0) hardware_.write(Reg::GERRORN, errors.words[0]);
  return active;
}

}  // namespace weir
