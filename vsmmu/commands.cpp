// The command side of a vSMMU: consuming its queue, and what of it takes more than one step.
#include <utility>

#include "vsmmu/vsmmu.hpp"

namespace weir::vsmmu {

using smmu::Opcode;

bool VSmmu::consuming() const {
  return registers_.cr0().get<smmu::CR0::CMDQEN>() && registers_.cr0ack().get<smmu::CR0::CMDQEN>() && !cmdq_error_;
}

Progress VSmmu::consume(Bounds& left) {
  for (;;) {
    if (!finish_pending(left)) return Progress::again;
    if (!consuming()) {
      (void)queue_.take_posted(false);
      return Progress::done;
    }
    if (left.commands == 0) {
      publish_progress();
      return Progress::again;
    }
    --left.commands;
    switch (queue_.next(memory_)) {
      case CommandQueue::Next::command: break;
      case CommandQueue::Next::empty:
        if (!queue_.posted()) {
          publish_progress();
          return Progress::done;
        }
        if (const auto shown = queue_.take_posted(true)) registers_.publish_cmdq_prod(*shown);
        continue;
      case CommandQueue::Next::abort: command_error(smmu::CmdqError::CERROR_ABT); continue;
    }
    const smmu::Command& c = queue_.current();
    switch (execute(c)) {
      case Step::consumed:
        ++counters_.commands[static_cast<std::size_t>(c.opcode())];
        queue_.consumed();
        break;
      case Step::pending: break;  // consumed when it is finished
      case Step::illegal: command_error(smmu::CmdqError::CERROR_ILL); break;
    }
  }
}

// Issues what is batched, then lets the guest see how far its queue has been consumed.
void VSmmu::publish_progress() {
  fanout_.flush();
  registers_.publish_cmdq_cons(queue_.cons());
}

void VSmmu::command_error(smmu::CmdqError error) {
  ++(error == smmu::CmdqError::CERROR_ILL ? counters_.illegal : counters_.aborted);
  fanout_.flush();  // the commands before it have been consumed
  queue_.stop();
  IrqUnit::Due due;
  {
    const SpinLock::Guard guard{lock_};
    registers_.publish_cmdq_error(queue_.cons(), error);
    irqs_.activate<smmu::GERROR::CMDQ_ERR>(due);
    cmdq_error_ = true;
  }
  irqs_.send(due);
}

bool VSmmu::asid_exists(ASID asid) const { return announced_.idr0.get<smmu::IDR0::ASID16>() || asid.value < 0x100; }

// An address-based TLBI, in the one form that every instance understands as the vSMMU would.
template <typename T>
void VSmmu::invalidate_address(T c) {
  using smmu::IDR5;
  switch (c.template get<typename T::TG>()) {
    case smmu::TlbiGranule::none: break;
    case smmu::TlbiGranule::size4k:
      if (!announced_.idr5.get<IDR5::GRAN4K>()) return;  // no such entries
      break;
    case smmu::TlbiGranule::size16k:
      if (!announced_.idr5.get<IDR5::GRAN16K>()) return;
      // Reserved without DS and treated as "any level" (4.4.1.1): an instance with DS would take it literally.
      if (c.template get<typename T::TTL>() == 1 && !announced_.idr5.get<IDR5::DS>())
        c.template set<typename T::TTL>(0);
      break;
    case smmu::TlbiGranule::size64k:
      if (!announced_.idr5.get<IDR5::GRAN64K>()) return;
      break;
  }
  fanout_.invalidate(c);
}

VSmmu::Step VSmmu::execute(const smmu::Command& c) {
  using rules::typed;
  if (!command_legal(c, announced_)) return Step::illegal;
  switch (c.opcode()) {
    case Opcode::TLBI_NH_VA: {
      const auto t = typed<smmu::TlbiNhVa>(c);
      if (asid_exists(t.get<smmu::TlbiNhVa::ASID>())) invalidate_address(t);
      return Step::consumed;
    }
    case Opcode::TLBI_NH_VAA: invalidate_address(typed<smmu::TlbiNhVaa>(c)); return Step::consumed;
    case Opcode::TLBI_NH_ASID: {
      const auto t = typed<smmu::TlbiNhAsid>(c);
      if (asid_exists(t.get<smmu::TlbiNhAsid::ASID>())) fanout_.invalidate(t);
      return Step::consumed;
    }
    case Opcode::TLBI_NH_ALL:
    case Opcode::TLBI_NSNH_ALL: fanout_.invalidate_all(); return Step::consumed;
    case Opcode::SYNC:
      fanout_.submit_sync();
      pending_ = Pending::sync;
      return Step::pending;
    case Opcode::CFGI_STE: {
      const std::uint64_t sid = typed<smmu::CfgiSte>(c).get<smmu::CfgiSte::StreamID>();
      return restream(sid, sid);
    }
    case Opcode::CFGI_STE_RANGE: {
      const auto t = typed<smmu::CfgiSteRange>(c);
      const std::uint64_t below = (std::uint64_t{2} << t.get<smmu::CfgiSteRange::Range>()) - 1;
      const std::uint64_t sid = t.get<smmu::CfgiSteRange::StreamID>();
      return restream(sid & ~below, sid | below);
    }
    case Opcode::CFGI_CD: {
      const auto t = typed<smmu::CfgiCd>(c);
      // Without substreams there is one CD, of index 0; what another index does is not defined (4.3.3).
      if (const Stream* s = find(VStreamID{t.get<smmu::CfgiCd::StreamID>()}))
        fanout_.push(*s->backing, smmu::cfgi_cd(s->sid, SubstreamID{}, t.get<smmu::CfgiCd::Leaf>()));
      return Step::consumed;
    }
    case Opcode::CFGI_CD_ALL:
      if (const Stream* s = find(VStreamID{typed<smmu::CfgiCdAll>(c).get<smmu::CfgiCdAll::StreamID>()}))
        fanout_.push(*s->backing, smmu::cfgi_cd_all(s->sid));
      return Step::consumed;
    case Opcode::PREFETCH_CONFIG:
    case Opcode::PREFETCH_ADDR: return Step::consumed;  // hints
    default: return Step::illegal;
  }
}

// --- What takes more than one step -----------------------------------------------------------------------------------

bool VSmmu::finish_pending(Bounds& left) {
  if (pending_ == Pending::none) return true;
  if (pending_ == Pending::sync) {
    while (!fanout_.completed()) {
      if (left.polls == 0) return false;
      --left.polls;
    }
    complete_sync();
    return true;
  }
  for (; cursor_ < end_; ++cursor_) {
    if (left.installs == 0 || left.commands == 0) return false;
    --left.commands;
    if (update(streams_[cursor_], pending_ == Pending::cfgi)) --left.installs;
  }
  const Pending why = std::exchange(pending_, Pending::none);
  if (why == Pending::cfgi) {
    ++counters_.commands[static_cast<std::size_t>(queue_.current().opcode())];
    queue_.consumed();
  } else if (why == Pending::cr0) {
    acknowledge_cr0();
  } else {
    acknowledge_gbpa();
  }
  return true;
}

void VSmmu::finish_all() {
  for (;;) {
    Bounds left = bounds_;
    if (finish_pending(left)) return;
  }
}

void VSmmu::complete_sync() {
  pending_ = Pending::none;
  const auto sync = rules::typed<smmu::Sync>(queue_.current());
  // Faults of transactions that ended before the SYNC are visible before it completes (4.7.3).
  for (Backing& b : fanout_.backings()) drain_.drain_events(*b.port);
  ++counters_.commands[static_cast<std::size_t>(Opcode::SYNC)];
  ++counters_.syncs;
  queue_.consumed();
  registers_.publish_cmdq_cons(queue_.cons());
  irqs_.sync_completed(sync);
}

void VSmmu::start_restream(Pending why, std::size_t first, std::size_t end) {
  pending_ = why;
  cursor_ = first;
  end_ = end;
}

// For the streams with vSIDs `first` to `last`.
VSmmu::Step VSmmu::restream(std::uint64_t first, std::uint64_t last) {
  const std::size_t from = lower_bound(first);
  const std::size_t to = lower_bound(last + 1);
  // Nothing is fetched through the guest's stream table while SMMUEN is 0, so nothing is cached from it either.
  if (from == to || !registers_.cr0().get<smmu::CR0::SMMUEN>()) return Step::consumed;
  start_restream(Pending::cfgi, from, to);
  return Step::pending;
}

}  // namespace weir::vsmmu
