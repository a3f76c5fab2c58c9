#include "stage2/vm_memory.hpp"

#include <algorithm>
#include <bit>
#include <memory>

#include "stage2/support/relax.hpp"

namespace weir::stage2 {

namespace {

constexpr std::uint64_t kBlock = 2_MiB;
constexpr Attributes kNoAccess{.read = false, .write = false, .execute = false};  // lent

MemoryOutcome refused(Result result) { return {.result = result}; }

Result result_of(Error error) {
  switch (error) {
    case Error::out_of_memory: return Result::no_memory;
    case Error::live_block: return Result::cannot_split;
    default: return Result::wrong_state;
  }
}

// Physically contiguous pieces of a range, in its order.
class Pieces {
 public:
  struct Piece {
    PA at;
    std::uint64_t bytes = 0;
  };
  Pieces() {}   // NOLINT(modernize-use-equals-default): `list_` stays as it is, for nothing
  ~Pieces() {}  // NOLINT(modernize-use-equals-default)
  Pieces(const Pieces&) = delete;
  Pieces& operator=(const Pieces&) = delete;
  // False: there is no room for one more.
  [[nodiscard]] bool add(PA at) {
    if (count_ != 0 && list_[count_ - 1].at + list_[count_ - 1].bytes == at) {
      list_[count_ - 1].bytes += kPage4K;
      return true;
    }
    if (count_ == VmMemory::kSinglePages) return false;
    std::construct_at(&list_[count_++], at, kPage4K);
    return true;
  }
  [[nodiscard]] std::span<const Piece> list() const { return {list_, count_}; }

 private:
  union {
    Piece list_[VmMemory::kSinglePages];
  };
  std::size_t count_ = 0;
};

// How far a step from `ipa` on may go: to the next 2 MiB boundary, so that no later step finds a block across its end.
std::uint64_t to_boundary(IPA ipa, std::uint64_t pages) {
  return std::min(pages, (ipa.align_down(kBlock) + kBlock - ipa) / kPage4K);
}
// The same backwards, from the end of the first `pages` pages of `ipa` on.
std::uint64_t from_boundary(IPA ipa, std::uint64_t pages) {
  const IPA last = ipa + (pages - 1) * kPage4K;
  return std::min(pages, (last - last.align_down(kBlock)) / kPage4K + 1);
}

bool overlap(IPA a, std::uint64_t a_bytes, IPA b, std::uint64_t b_bytes) { return a < b + b_bytes && b < a + a_bytes; }

// [ipa, pages) is of whole pages, not empty, and within [base, bytes).
bool within(IPA ipa, std::uint64_t pages, IPA base, std::uint64_t bytes) {
  return ipa.aligned(kPage4K) && pages != 0 && ipa >= base && ipa - base < bytes &&
         pages <= (bytes - (ipa - base)) / kPage4K;
}

}  // namespace

// A range of RAM that a call changes. Refused with a result, if another call or a grant has some of it.
class VmMemory::Claim {
 public:
  Claim(VmMemory& vm, IPA ipa, std::uint64_t bytes) : vm_{vm} {
    const SpinLock::Guard guard{vm.grants_.lock_};
    result_ = vm.conflict(ipa, bytes);
    if (result_ != Result::success) return;
    const auto slot = static_cast<unsigned>(std::countr_one(vm.claims_));
    if (slot >= vm.busy_.size()) {
      result_ = Result::busy;
      return;
    }
    vm.busy_[slot] = {ipa, bytes};
    bit_ = 1U << slot;
    vm.claims_ |= bit_;
  }
  ~Claim() {
    if (bit_ == 0) return;
    const SpinLock::Guard guard{vm_.grants_.lock_};
    vm_.claims_ ^= bit_;
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  [[nodiscard]] Result result() const { return result_; }

 private:
  VmMemory& vm_;
  std::uint32_t bit_ = 0;  // of claims_
  Result result_ = Result::success;
};

// A grant that a call works on: marked busy. Only then may its fields be read without the lock.
class VmMemory::Work {
 public:
  explicit Work(GrantTable& grants) : grants_{grants} {}
  ~Work() {
    if (grant_ == nullptr) return;
    const SpinLock::Guard guard{grants_.lock_};
    grant_->busy = false;
  }
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  // With the lock held.
  Result take(Grant& grant) {
    if (grant.busy) return Result::busy;
    grant.busy = true;
    grant_ = &grant;
    return Result::success;
  }
  [[nodiscard]] Grant& grant() const { return *grant_; }
  // The grant is over.
  void free() {
    const SpinLock::Guard guard{grants_.lock_};
    --grant_->owner->given_;
    const auto generation = static_cast<std::uint16_t>(grant_->generation + 1);
    *grant_ = {};
    grant_->generation = generation;
    grant_ = nullptr;
  }

 private:
  GrantTable& grants_;
  Grant* grant_ = nullptr;
};

VmMemory::VmMemory(const Config& config, S2Domain& domain, PagePool& pool, GrantTable& grants, CpuTables* cpu)
    : config_{config},
      domain_{domain},
      pool_{pool},
      grants_{grants},
      log_{domain, cpu, {config.ram, config.ram_bytes}, {config.loans, config.loan_bytes}} {
  const SpinLock::Guard guard{grants_.lock_};
  if (config_.id < GrantTable::kMaxVms) grants_.vms_[config_.id] = this;
}

VmMemory::~VmMemory() {
  const SpinLock::Guard guard{grants_.lock_};
  if (config_.id < GrantTable::kMaxVms && grants_.vms_[config_.id] == this) grants_.vms_[config_.id] = nullptr;
}

// --- What is whose ---------------------------------------------------------------------------------------------------

std::optional<Mapping> VmMemory::own(IPA ipa) const {
  const auto found = domain_.lookup(ipa);
  if (!found || !found->attributes.read || !found->attributes.write) return std::nullopt;
  return found;
}

// With the lock held.
Result VmMemory::conflict(IPA ipa, std::uint64_t bytes) const {
  if (stopping_) return Result::denied;
  for (std::uint32_t claims = claims_; claims != 0; claims &= claims - 1) {
    const Range& range = busy_[static_cast<unsigned>(std::countr_zero(claims))];
    if (overlap(range.ipa, range.bytes, ipa, bytes)) return Result::busy;
  }
  if (given_ == 0) return Result::success;
  for (const Grant& grant : grants_.grants_)
    if (grant.state != State::free && grant.owner == this && overlap(grant.at, grant.pages * kPage4K, ipa, bytes))
      return Result::wrong_state;
  return Result::success;
}

std::uint64_t VmMemory::handle_of(const Grant& grant) const {
  return std::uint64_t{grant.generation} << 16 | static_cast<std::uint64_t>(&grant - grants_.grants_.data() + 1);
}

// With the lock held. nullptr: a handle of nothing.
VmMemory::Grant* VmMemory::grant_of(std::uint64_t handle) const {
  const std::uint64_t index = (handle & 0xffff) - 1;
  if (index >= grants_.grants_.size()) return nullptr;
  Grant& grant = grants_.grants_[index];
  return grant.state != State::free && handle_of(grant) == handle ? &grant : nullptr;
}

// --- Back to Weir, and from it ---------------------------------------------------------------------------------------

MemoryOutcome VmMemory::relinquish(IPA ipa, std::uint64_t pages) {
  if (!config_.calls) return refused(Result::not_supported);
  if (!within(ipa, pages, config_.ram, config_.ram_bytes)) return refused(Result::invalid);
  bool block = false;
  if (ipa.aligned(kBlock) && pages >= kPagesPerCall) {
    const auto first = own(ipa);
    block = first && first->level != 3;
  }
  const std::uint64_t most = block ? kPagesPerCall : std::min(pages, kSinglePages);
  const Claim claim{*this, ipa, most * kPage4K};
  if (claim.result() != Result::success) return refused(claim.result());

  Pieces pieces;
  std::uint64_t done = 0;
  do {
    const auto page = own(ipa + done * kPage4K);
    if (!page || !pieces.add(page->at)) break;
  } while (++done < most);
  if (done == 0) return refused(Result::wrong_state);
  if (const auto gone = domain_.unmap(ipa, done * kPage4K); !gone) return refused(result_of(gone.error()));
  // No CPU, no device and no copy of EL2's reaches the pages any more.
  for (const auto& piece : pieces.list()) {
    pool_.scrub(piece.at, piece.bytes);
    pool_.free(piece.at, piece.bytes);
  }
  return {.done = done};
}

bool VmMemory::absent(IPA ipa, std::uint64_t pages) const {
  for (std::uint64_t i = 0; i < pages; ++i)
    if (domain_.lookup(ipa + i * kPage4K)) return false;
  return true;
}

MemoryOutcome VmMemory::reclaim(IPA ipa, std::uint64_t pages) {
  if (!config_.calls) return refused(Result::not_supported);
  if (!within(ipa, pages, config_.ram, config_.ram_bytes)) return refused(Result::invalid);
  const bool block = ipa.aligned(kBlock) && pages >= kPagesPerCall && absent(ipa, kPagesPerCall);
  const std::uint64_t most = block ? kPagesPerCall : std::min(pages, kSinglePages);
  const Claim claim{*this, ipa, most * kPage4K};
  if (claim.result() != Result::success) return refused(claim.result());

  if (block) {
    if (const auto at = pool_.allocate(kBlock)) {
      if (const auto mapped = domain_.map(ipa, *at, kBlock, config_.ram_attributes)) return {.done = kPagesPerCall};
      pool_.free(*at, kBlock);  // of no use: perhaps page by page
    }
  }
  Pieces pieces;
  std::uint64_t found = 0;
  Result why = Result::wrong_state;
  for (; found < std::min(most, kSinglePages); ++found) {
    if (domain_.lookup(ipa + found * kPage4K)) break;
    const auto at = pool_.allocate(kPage4K);
    if (!at) {
      why = Result::no_memory;
      break;
    }
    static_cast<void>(pieces.add(*at));  // as many pieces as pages have room
  }
  std::uint64_t done = 0;
  bool failed = false;
  for (const auto& piece : pieces.list()) {
    if (!failed) {
      if (const auto mapped = domain_.map(ipa + done * kPage4K, piece.at, piece.bytes, config_.ram_attributes);
          mapped) {
        done += piece.bytes / kPage4K;
        continue;
      } else {
        why = result_of(mapped.error());
        failed = true;
      }
    }
    pool_.free(piece.at, piece.bytes);
  }
  if (done == 0) return refused(why);
  return {.done = done};
}

// --- Grants ----------------------------------------------------------------------------------------------------------

// A new grant, busy; or goes on with one.
Result VmMemory::begin(const Offer& offer, std::uint64_t handle, Work& work) {
  const SpinLock::Guard guard{grants_.lock_};
  if (stopping_) return Result::denied;
  if (handle != 0) {
    Grant* const grant = grant_of(handle);
    if (grant == nullptr || grant->owner != this) return Result::denied;
    if (grant->state != State::offering) return Result::wrong_state;
    if (grant->at != offer.ipa || grant->pages != offer.pages || grant->loan != offer.loan ||
        grant->write != offer.write || grant->peer == nullptr || grant->peer->config_.id != offer.peer)
      return Result::invalid;
    return work.take(*grant);
  }
  VmMemory* const peer = grants_.vms_[offer.peer];
  if (peer == nullptr || !peer->config_.calls || peer->stopping_) return Result::denied;
  if (const Result taken = conflict(offer.ipa, offer.pages * kPage4K); taken != Result::success) return taken;
  if (given_ >= GrantTable::kPerVm) return Result::limit;
  const auto free = std::ranges::find(grants_.grants_, State::free, &Grant::state);
  if (free == grants_.grants_.end()) return Result::limit;
  const std::uint16_t generation = free->generation;
  *free = {.state = State::offering,
           .loan = offer.loan,
           .write = offer.write,
           .generation = generation,
           .owner = this,
           .peer = peer,
           .at = offer.ipa,
           .pages = offer.pages};
  ++given_;
  return work.take(*free);
}

MemoryOutcome VmMemory::offer(const Offer& offer, std::uint64_t handle) {
  if (!config_.calls) return refused(Result::not_supported);
  if (!within(offer.ipa, offer.pages, config_.ram, config_.ram_bytes)) return refused(Result::invalid);
  if (offer.peer >= GrantTable::kMaxVms || offer.peer == config_.id || (config_.share_with >> offer.peer & 1) == 0)
    return refused(Result::denied);
  Work work{grants_};
  if (const Result begun = begin(offer, handle, work); begun != Result::success) return refused(begun);
  Grant& grant = work.grant();

  const IPA from = grant.at + grant.offered * kPage4K;
  const std::uint64_t most = to_boundary(from, grant.pages - grant.offered);
  std::uint64_t count = 0;
  while (count < most && own(from + count * kPage4K)) ++count;
  Result result = count == 0 ? Result::wrong_state : Result::success;
  if (count != 0 && grant.loan) {
    if (const auto changed = domain_.protect(from, count * kPage4K, kNoAccess); !changed) {
      result = result_of(changed.error());
      count = 0;
    }
  }
  if (grant.offered + count == 0) {  // nothing of it is there: no handle that would have to be taken back
    work.free();
    return refused(result);
  }
  const SpinLock::Guard guard{grants_.lock_};
  grant.offered += count;
  if (grant.offered == grant.pages) grant.state = State::offered;
  return {.result = result, .done = grant.offered, .extra = handle_of(grant)};
}

Result VmMemory::begin_accept(std::uint64_t handle, IPA ipa, std::uint64_t pages, Work& work) {
  const SpinLock::Guard guard{grants_.lock_};
  if (stopping_) return Result::denied;
  Grant* const grant = grant_of(handle);
  if (grant == nullptr || grant->peer != this) return Result::denied;
  if (grant->pages != pages) return Result::invalid;
  if (grant->state == State::accepting) return grant->mapped_at == ipa ? work.take(*grant) : Result::wrong_state;
  if (grant->state != State::offered) return Result::wrong_state;
  unsigned accepted = 0;
  for (const Grant& other : grants_.grants_) {
    if (other.state == State::free || other.peer != this || &other == grant || other.mapped_bytes == 0) continue;
    ++accepted;
    if (overlap(other.mapped_at, other.mapped_bytes, ipa, pages * kPage4K)) return Result::wrong_state;
  }
  if (accepted >= GrantTable::kAccepted) return Result::limit;
  if (const Result taken = work.take(*grant); taken != Result::success) return taken;
  grant->state = State::accepting;
  grant->mapped_at = ipa;
  grant->mapped_bytes = pages * kPage4K;
  return Result::success;
}

MemoryOutcome VmMemory::accept(std::uint64_t handle, IPA ipa, std::uint64_t pages) {
  if (!config_.calls) return refused(Result::not_supported);
  if (!within(ipa, pages, config_.loans, config_.loan_bytes)) return refused(Result::invalid);
  Work work{grants_};
  if (const Result begun = begin_accept(handle, ipa, pages, work); begun != Result::success) return refused(begun);
  Grant& grant = work.grant();

  // While the grant lasts, the owner's table keeps where its pages are.
  const IPA from = grant.at + grant.mapped * kPage4K;
  const std::uint64_t most = to_boundary(ipa + grant.mapped * kPage4K, pages - grant.mapped);
  Pieces pieces;
  for (std::uint64_t i = 0; i < most; ++i) {
    const auto page = grant.owner->domain_.lookup(from + i * kPage4K);
    if (!page || !pieces.add(page->at)) break;
  }
  Result result = pieces.list().empty() ? Result::wrong_state : Result::success;
  std::uint64_t mapped = grant.mapped;
  for (const auto& piece : pieces.list()) {
    const Attributes attributes{.write = grant.write};
    if (const auto done = domain_.map(ipa + mapped * kPage4K, piece.at, piece.bytes, attributes); !done) {
      result = result_of(done.error());
      break;
    }
    mapped += piece.bytes / kPage4K;
  }
  const SpinLock::Guard guard{grants_.lock_};
  grant.mapped = mapped;
  if (mapped == pages) grant.state = State::accepted;
  if (mapped == 0) {  // no trace of it
    grant.state = State::offered;
    grant.mapped_bytes = 0;
  }
  return {.result = result, .done = mapped};
}

// One step: some of what the peer has mapped goes.
Result VmMemory::withdraw(Work& work) {
  Grant& grant = work.grant();
  const std::uint64_t count = from_boundary(grant.mapped_at, grant.mapped);
  const std::uint64_t left = grant.mapped - count;
  VmMemory& peer = *grant.peer;
  if (const auto gone = peer.domain_.unmap(grant.mapped_at + left * kPage4K, count * kPage4K); !gone)
    return result_of(gone.error());
  // The owner's log has not seen what the peer wrote, and is not asked to count it as unseen for ever.
  if (grant.write) grant.owner->log_.written(grant.at + left * kPage4K, count);
  const SpinLock::Guard guard{grants_.lock_};
  grant.mapped = left;
  grant.state = left != 0 ? State::releasing : State::offered;
  if (left == 0) grant.mapped_bytes = 0;
  return Result::success;
}

MemoryOutcome VmMemory::release(std::uint64_t handle) {
  if (!config_.calls) return refused(Result::not_supported);
  Work work{grants_};
  {
    const SpinLock::Guard guard{grants_.lock_};
    Grant* const grant = grant_of(handle);
    if (grant == nullptr || grant->peer != this) return refused(Result::denied);
    if (grant->mapped == 0) return refused(Result::wrong_state);
    if (const Result taken = work.take(*grant); taken != Result::success) return refused(taken);
  }
  const Result result = withdraw(work);
  return {.result = result, .done = work.grant().mapped};
}

// One step of taking back: the peer's mapping, then the owner's rights. `left` is 0 when the grant is gone.
Result VmMemory::take_back_step(Work& work, std::uint64_t& left) {
  Grant& grant = work.grant();
  if (grant.mapped != 0) {
    const Result result = withdraw(work);
    if (grant.mapped == 0) {
      const SpinLock::Guard guard{grants_.lock_};
      grant.state = State::taking_back;
    }
    left = grant.mapped + grant.offered;
    return result;
  }
  if (grant.loan && grant.offered != 0) {
    const std::uint64_t count = from_boundary(grant.at, grant.offered);
    left = grant.offered;
    const IPA from = grant.at + (grant.offered - count) * kPage4K;
    if (const auto changed = domain_.protect(from, count * kPage4K, config_.ram_attributes); !changed)
      return result_of(changed.error());
    const SpinLock::Guard guard{grants_.lock_};
    grant.offered -= count;
    grant.state = State::taking_back;
    left = grant.offered;
    if (left != 0) return Result::success;
  }
  left = 0;
  work.free();
  return Result::success;
}

MemoryOutcome VmMemory::take_back(std::uint64_t handle) {
  if (!config_.calls) return refused(Result::not_supported);
  Work work{grants_};
  {
    const SpinLock::Guard guard{grants_.lock_};
    Grant* const grant = grant_of(handle);
    if (grant == nullptr || grant->owner != this) return refused(Result::denied);
    if (const Result taken = work.take(*grant); taken != Result::success) return refused(taken);
    // Nobody accepts it any more, not even between two steps.
    if (grant->mapped == 0) grant->state = State::taking_back;
  }
  std::uint64_t left = 0;
  const Result result = take_back_step(work, left);
  return {.result = result, .done = left};
}

// --- Dirty log -------------------------------------------------------------------------------------------------------

namespace {

// One call at a time works on a VM's log.
class LogUse {
 public:
  explicit LogUse(std::atomic_flag& busy) : busy_{busy}, mine_{!busy.test_and_set(std::memory_order_acquire)} {}
  ~LogUse() {
    if (mine_) busy_.clear(std::memory_order_release);
  }
  LogUse(const LogUse&) = delete;
  LogUse& operator=(const LogUse&) = delete;
  [[nodiscard]] bool mine() const { return mine_; }

 private:
  std::atomic_flag& busy_;
  bool mine_;
};

}  // namespace

std::uint64_t VmMemory::unseen() const {
  using hypercall::DirtyLimits;
  DirtyLimits limits;
  limits.set<DirtyLimits::Devices>(!domain_.log_sees_devices());
  const SpinLock::Guard guard{grants_.lock_};
  for (const Grant& grant : grants_.grants_)
    if (grant.state != State::free && grant.owner == this && grant.write) limits.set<DirtyLimits::Peers>(true);
  return limits.words[0];
}

MemoryOutcome VmMemory::dirty_start() {
  if (!config_.calls || !log_.possible()) return refused(Result::not_supported);
  const LogUse use{log_busy_};
  if (!use.mine()) return refused(Result::busy);
  if (log_.stopping()) return refused(Result::wrong_state);
  const auto left = log_.start();
  if (!left) return refused(result_of(left.error()));
  return {.done = *left / kPage4K, .extra = unseen()};
}

// What may have been written without being seen.
void VmMemory::add_unseen(std::uint64_t limits, IPA ipa, std::uint64_t pages, std::span<std::uint64_t> dirty) const {
  const IPA end = ipa + pages * kPage4K;
  const auto set = [&](IPA from, IPA to) {
    for (IPA at = std::max(ipa, from); at < std::min(end, to); at += kPage4K) {
      const std::uint64_t n = (at - ipa) / kPage4K;
      dirty[n / 64] |= std::uint64_t{1} << n % 64;
    }
  };
  if (hypercall::DirtyLimits{{{limits}}}.get<hypercall::DirtyLimits::Devices>()) {
    for (IPA at = ipa; at < end;) {
      const auto mapped = domain_.lookup(at);
      const std::uint64_t size = level_size(mapped ? mapped->level : 3);
      const IPA next = at.align_down(size) + size;
      if (mapped && mapped->attributes.write) set(at, next);
      at = next;
    }
  }
  const SpinLock::Guard guard{grants_.lock_};
  for (const Grant& grant : grants_.grants_)
    if (grant.state != State::free && grant.owner == this && grant.write)
      set(grant.at, grant.at + grant.pages * kPage4K);
}

MemoryOutcome VmMemory::dirty_read(IPA ipa, std::uint64_t pages, bool seen_only, DirtyBits& to) {
  if (!config_.calls || !log_.possible()) return refused(Result::not_supported);
  if (!within(ipa, pages, config_.ram, config_.ram_bytes)) return refused(Result::invalid);
  const LogUse use{log_busy_};
  if (!use.mine()) return refused(Result::busy);
  if (!log_.on()) return refused(Result::wrong_state);
  pages = std::min(pages, kDirtyPages);
  std::array<std::uint64_t, kDirtyPages / 64> dirty{};
  if (const auto read = log_.collect(ipa, pages, dirty); !read) return refused(result_of(read.error()));
  std::array<std::uint64_t, kDirtyPages / 64> told = dirty;
  const std::uint64_t limits = unseen();
  if (!seen_only && limits != 0) add_unseen(limits, ipa, pages, told);
  if (to.take(std::span{told}.first((pages + 63) / 64))) return {.done = pages, .extra = limits};
  for (std::uint64_t i = 0; i < pages; ++i)
    if ((dirty[i / 64] >> i % 64 & 1) != 0) log_.written(ipa + i * kPage4K, 1);
  return refused(Result::invalid);
}

MemoryOutcome VmMemory::dirty_stop() {
  if (!config_.calls || !log_.possible()) return refused(Result::not_supported);
  const LogUse use{log_busy_};
  if (!use.mine()) return refused(Result::busy);
  return {.done = log_.stop() / kPage4K};
}

// --- The end ---------------------------------------------------------------------------------------------------------

void VmMemory::stop() {
  {
    const SpinLock::Guard guard{grants_.lock_};
    stopping_ = true;
  }
  while (log_.stop() != 0) {
  }
  for (Grant& grant : grants_.grants_) {
    for (;;) {
      Work work{grants_};
      {
        const SpinLock::Guard guard{grants_.lock_};
        const bool mine = grant.state != State::free && (grant.owner == this || grant.peer == this);
        if (!mine) break;
        if (grant.peer == this && grant.owner != this && grant.mapped == 0 && !grant.busy) {
          grant.peer = nullptr;  // an offer to nobody
          break;
        }
        if (work.take(grant) != Result::success) {
          relax();
          continue;
        }
      }
      // Neither step needs memory: what is undone was done in the same steps.
      std::uint64_t left = 0;
      static_cast<void>(grant.owner == this ? take_back_step(work, left) : withdraw(work));
    }
  }
}

void VmMemory::free_all() {
  constexpr std::uint64_t kStep = kBlock;
  for (std::uint64_t at = 0; at < config_.ram_bytes;) {
    const auto found = domain_.lookup(config_.ram + at);
    if (!found) {
      at += kPage4K;
      continue;
    }
    const bool block = found->level != 3 && (config_.ram + at).aligned(kStep) && config_.ram_bytes - at >= kStep;
    const std::uint64_t bytes = block ? kStep : kPage4K;
    pool_.free(found->at, bytes);
    at += bytes;
  }
}

}  // namespace weir::stage2
