#include "hyp/smmu/command_queue.hpp"

#include "hyp/log/log.hpp"

namespace weir {

using smmu::Reg;
using stage2::Ticket;

bool CommandQueue::init(unsigned log2) {
  size_ = std::uint32_t{1} << log2;
  const auto memory = hardware_.allocate(std::max<std::size_t>(size_ * sizeof(smmu::Command), kPage4K));
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

void CommandQueue::publish_from(std::uint64_t first, std::uint64_t end) {
  const std::uint64_t start = first & (size_ - 1);
  const std::uint64_t until_wrap = std::min<std::uint64_t>(end - first, size_ - start);
  hardware_.publish(&ring_[start], until_wrap * sizeof(smmu::Command));
  if (until_wrap < end - first) hardware_.publish(&ring_[0], (end - first - until_wrap) * sizeof(smmu::Command));
  produced_.store(end, std::memory_order_release);
  hardware_.write(Reg::CMDQ_PROD, index_of(end));
}

Ticket CommandQueue::push(std::span<const smmu::Command> commands, bool sync) {
  const SpinLock::Guard guard{lock_};
  const std::uint64_t start = produced_.load(std::memory_order_relaxed);
  const std::uint64_t end = start + commands.size() + (sync ? 1 : 0);
  std::uint64_t shown = start;  // what PROD says
  for (std::uint64_t at = start; at < end; ++at) {
    if (at - consumed_.load(std::memory_order_relaxed) >= size_ && at - consumed() >= size_) {
      publish_from(shown, at);
      shown = at;
      while (at - consumed() >= size_) hardware_.relax();
    }
    const std::uint64_t i = at - start;
    ring_[at & (size_ - 1)] = i < commands.size() ? commands[i] : smmu::Command{smmu::sync_none()};
  }
  if (shown != end) publish_from(shown, end);
  counters_.commands += end - start;
  counters_.syncs += sync ? 1 : 0;
  return end;
}

std::uint64_t CommandQueue::consumed() {
  // `produced` before CONS: then CONS can only be ahead of what is computed here, never behind.
  const std::uint64_t produced = produced_.load(std::memory_order_acquire);
  const smmu::CMDQ_CONS cons{{{hardware_.read(Reg::CMDQ_CONS)}}};
  if (cons.get<smmu::CMDQ_CONS::ERR>() != smmu::CmdqError::CERROR_NONE) recover();
  const std::uint32_t outstanding = index_of(index_of(produced) - std::uint64_t{cons.get<smmu::CMDQ_CONS::RD>()});
  // More than the queue holds: others appended meanwhile, and the SMMU is past `produced`.
  const std::uint64_t now = outstanding > size_ ? produced : produced - outstanding;
  std::uint64_t seen = consumed_.load(std::memory_order_relaxed);
  while (seen < now && !consumed_.compare_exchange_weak(seen, now, std::memory_order_acq_rel)) {
  }
  return std::max(seen, now);
}

bool CommandQueue::completed(Ticket ticket) {
  if (consumed_.load(std::memory_order_acquire) >= ticket) return true;
  if (consumed() >= ticket) return true;
  if (polls_.fetch_add(1, std::memory_order_relaxed) % kPollsBetweenLooks == kPollsBetweenLooks - 1) watch();
  hardware_.relax();
  return false;
}

void CommandQueue::watch() {
  const SpinLock::Guard guard{recovery_};
  const std::uint64_t now = hardware_.microseconds();
  const std::uint64_t seen = consumed_.load(std::memory_order_relaxed);
  if (seen != watched_ || watched_at_ == 0) {
    watched_ = seen;
    watched_at_ = now;
    standstill_said_ = false;
  } else if (now - watched_at_ > kStandstill && !standstill_said_) {
    standstill_said_ = true;
    log("%.*s: the command queue stands still: PROD %#x CONS %#x GERROR %#x GERRORN %#x",
        static_cast<int>(name_.size()), name_.data(), hardware_.read(Reg::CMDQ_PROD), hardware_.read(Reg::CMDQ_CONS),
        hardware_.read(Reg::GERROR), hardware_.read(Reg::GERRORN));
  }
}

void CommandQueue::recover() {
  const SpinLock::Guard guard{recovery_};
  const smmu::GERROR active{{{hardware_.read(Reg::GERROR)}}};
  smmu::GERRORN acknowledged{{{hardware_.read(Reg::GERRORN)}}};
  if (active.get<smmu::GERROR::CMDQ_ERR>() == acknowledged.get<smmu::GERRORN::CMDQ_ERR>()) return;
  const smmu::CMDQ_CONS cons{{{hardware_.read(Reg::CMDQ_CONS)}}};
  const auto error = cons.get<smmu::CMDQ_CONS::ERR>();
  const auto name = smmu::name_of(error);
  smmu::Command& at = ring_[cons.get<smmu::CMDQ_CONS::RD>() & (size_ - 1)];
  ++counters_.errors;
  log("%.*s: command queue error %.*s at command %016llx %016llx", static_cast<int>(name_.size()), name_.data(),
      static_cast<int>(name.size()), name.data(), static_cast<unsigned long long>(at.words[0]),
      static_cast<unsigned long long>(at.words[1]));
  if (error == smmu::CmdqError::CERROR_ILL) {
    at = smmu::sync_none();
    hardware_.publish(&at, sizeof at);
  }
  acknowledged.set<smmu::GERRORN::CMDQ_ERR>(active.get<smmu::GERROR::CMDQ_ERR>());
  hardware_.write(Reg::GERRORN, acknowledged.words[0]);
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
