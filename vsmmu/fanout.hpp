// The physical instances behind a vSMMU: batches of commands for each, what has been issued without a SYNC, and which
// tags can hold stage-1 entries (design: "One guest invalidation, step by step", points 4 and 5). Sets of instances are
// masks, so that a command costs as much as the instances that it concerns.
//
// A tag is dirty from before the first stage-1 STE that uses it is installed until an NH_ALL for it, sent while none is,
// has completed. Strict: there is one tag for each instance, and a TLBI goes to every dirty one. Precise: a second one
// serves streams whose context descriptor Weir holds; what has an ASID goes where the ASID lives, under its host ASID.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "guest-abi/smmu/command.hpp"
#include "stage2/port.hpp"
#include "stage2/tag.hpp"
#include "vsmmu/asid_table.hpp"
#include "vsmmu/batch.hpp"
#include "vsmmu/fault_injection.hpp"
#include "vsmmu/range.hpp"

namespace weir::vsmmu {

// Whose context descriptors the hardware reads under a tag.
enum class TagKind : std::uint8_t {
  open,  // the guest's, in its memory: any ASID, at any time
  held   // Weir's copies: host ASIDs (precise mode)
};
inline constexpr std::size_t kTagKinds = 2;

// What a guest's TLB invalidations have become on one instance.
struct BackingCounters {
  std::uint64_t tlbis = 0;    // sent
  std::uint64_t merged = 0;   // not sent: another command of the same batch does it
  std::uint64_t widened = 0;  // not sent: too many, and one for everything instead
  std::uint64_t syncs = 0;
  unsigned host_asids = 0;  // in use, or not known to be clean (precise mode)
};

struct Backing {
  stage2::SmmuPort* port = nullptr;
  stage2::Ticket ticket = 0;
  unsigned number = 0;                          // in its Fanout
  unsigned since_sync = 0;                      // TLB invalidations batched or issued
  std::array<std::uint64_t, kTagKinds> vmid{};  // in place in a command's first word
  BackingCounters counters;
  Batch batch;

  std::array<std::unique_ptr<stage2::HostTag>, kTagKinds> tags;  // held: precise mode only
  std::array<smmu::Ste, kTagKinds> stage2;                       // the stage-2 fields of every STE under the tag
  std::array<unsigned, kTagKinds> stage1_streams{};              // with a stage-1 STE installed
  unsigned reporting = 0;  // streams whose events the guest may see: all but those that abort

  [[nodiscard]] stage2::HostTag* tag(TagKind kind) const { return tags[static_cast<std::size_t>(kind)].get(); }
};

class Fanout {
 public:
  static constexpr std::size_t kMaxBackings = 64;

  struct Options {
    bool no_global_pages = false;  // see Config
    bool late_events = false;
    unsigned widen = 256;  // see Bounds
  };

  Fanout() = default;
  // `asids`: precise mode.
  Fanout(std::unique_ptr<Backing[]> backings, std::size_t count, std::unique_ptr<AsidTable> asids,
         const Options& options);

  [[nodiscard]] std::span<Backing> backings() { return {backings_.get(), count_}; }
  [[nodiscard]] std::span<const Backing> backings() const { return {backings_.get(), count_}; }
  // nullptr: not behind this vSMMU.
  [[nodiscard]] Backing* find(const stage2::SmmuPort& port);
  [[nodiscard]] bool precise() const { return asids_ != nullptr; }
  [[nodiscard]] const AsidTable* asids() const { return asids_.get(); }

  // For one instance only.
  void push(Backing& b, const smmu::Command& c) {
    if (b.batch.full()) issue(b);
    b.batch.add(c);
    batched_ |= bit(b);
    ++pushed_;
  }
  // TLB invalidations of the guest's, to whoever may hold such entries. The VMID is put in.
  void invalidate(smmu::TlbiNhVa c);
  // One that all instances understand as it is.
  [[gnu::always_inline]] void invalidate_usual(const smmu::Command& c) {
    smmu::TlbiNhVa va;
    va.words = c.words;
    if (precise()) [[unlikely]]
      return invalidate(va);
    send(dirty_[kOpen], kOpen, va.set<smmu::TlbiNhVa::VMID>(VMID{}));
  }
  // Ranges and level hints are such, on every instance.
  [[nodiscard]] bool ranges_everywhere() const { return std::popcount(ranges_) == static_cast<int>(count_); }
  // Several of them, without ranges, alike but for Address and Leaf (and VMID, which does not count): the usual way in
  // which a guest takes back memory.
  void invalidate_run(std::span<const smmu::Command> run);
  void invalidate(smmu::TlbiNhVaa c);
  void invalidate(smmu::TlbiNhAsid c);
  void invalidate_all();
  // Commands that the calls above have batched, since last asked.
  [[nodiscard]] unsigned pushed() const { return pushed_; }
  [[nodiscard]] unsigned take_pushed() { return std::exchange(pushed_, 0u); }

  // A stage-1 STE is about to be installed under the tag, or has been replaced by another kind.
  void add_stage1(Backing& b, TagKind kind);
  void remove_stage1(Backing& b, TagKind kind) { --b.stage1_streams[index(kind)]; }
  void add_reporting(Backing& b) {
    ++b.reporting;
    if (!options_.late_events) reporting_ |= bit(b);
  }
  void remove_reporting(Backing& b) {
    if (--b.reporting == 0) reporting_ &= ~bit(b);
  }

  // The host ASID of a context descriptor that is about to be shown to the hardware; no value: none is left. May wait
  // for the hardware: unused ones are made clean.
  [[nodiscard]] std::optional<ASID> acquire(Backing& b, ASID guest);
  // The hardware has forgotten the descriptor.
  void release(Backing& b, ASID guest) { asids_->release(guest, b.number); }

  // Issues what is batched.
  void flush() {
    if (batched_ != 0) issue_all();
  }
  // Issues a SYNC behind all that was issued before, on every instance that has something outstanding or may have
  // recorded events for the guest; does not wait. None of the latter can be left out to the letter of 4.7.3: see
  // vsmmu/README.md, "Which instances a SYNC waits for".
  void submit_sync();
  // True once all SYNCs of submit_sync() have completed. Sets the bit in `seen` of each instance of which `look` is true
  // when its SYNC is first found complete.
  template <typename Look>
  [[nodiscard, gnu::always_inline]] bool completed(std::uint64_t& seen, Look look) {
    Mask open = 0;
    each(waiting_, [&](const Backing& b) {
      if (!b.port->completed(b.ticket)) [[unlikely]]
        open |= bit(b);
      else if (look(*b.port)) [[unlikely]]
        seen |= bit(b);
    });
    const Mask done = std::exchange(waiting_, open) & ~open;
    if ((to_clean_ & done) != 0) [[unlikely]]
      clean(done);
    return open == 0;
  }
  [[nodiscard]] bool dirty(unsigned instance, TagKind kind) const {
    return (dirty_[index(kind)] & bit(backings_[instance])) != 0;
  }
  // No tag is used any more.
  void forget();

 private:
  using Mask = std::uint64_t;
  static constexpr std::uint64_t kMaxSteps = Batch::kCapacity;
  static constexpr std::size_t kReclaim = 16;  // host ASIDs at a time

  static constexpr std::size_t index(TagKind kind) { return static_cast<std::size_t>(kind); }
  static constexpr auto kOpen = static_cast<std::size_t>(TagKind::open);
  static constexpr auto kHeld = static_cast<std::size_t>(TagKind::held);
  [[nodiscard]] static Mask bit(const Backing& b) { return Mask{1} << b.number; }
  template <typename Fn>
  void each(Mask mask, Fn&& fn) {
    for (; mask != 0; mask &= mask - 1) fn(first(mask));
  }
  [[nodiscard]] Backing& first(Mask mask) { return backings_[static_cast<std::size_t>(std::countr_zero(mask))]; }

  // To the tags `kind` of all in `to`; `c` has no VMID.
  [[gnu::always_inline]] void send(Mask to, std::size_t kind, const smmu::Command& c) {
    if constexpr (kBreakDropInvalidation) return;  // FAULT INJECTION
    batched_ |= to;
    if (const Mask swallowed = to & wide_[kind]; swallowed != 0) [[unlikely]] {
      count_swallowed(swallowed);
      to &= ~swallowed;
    }
    for (Mask rest = to; rest != 0; rest &= rest - 1) send_one(first(rest), kind, c);
  }
  [[gnu::always_inline]] void send_one(Backing& b, std::size_t kind, const smmu::Command& c) {
    if (b.since_sync >= options_.widen || b.batch.full()) [[unlikely]] {
      if (!make_room(b, kind)) return;
    }
    ++pushed_;
    smmu::Command own = c;
    own.words[smmu::TlbiNhVa::VMID::word] |= vmid_for(b, kind);
    if (b.batch.add_tlbi(own))
      ++b.since_sync;
    else
      ++b.counters.merged;
  }
  // For another TLB invalidation. False: there have been too many, and NH_ALL stands for this one.
  [[nodiscard]] bool make_room(Backing& b, std::size_t kind);
  // `first` is the first word of all of them.
  void send_run(Mask to, std::size_t kind, std::uint64_t first, std::span<const smmu::Command> run);
  void invalidate_open(smmu::TlbiNhVa c);
  // An address, which may come with a range.
  void send_address(Mask to, std::size_t kind, const smmu::Command& c);
  void send_steps(Backing& b, std::size_t kind, const smmu::Command& c);
  void send_all(Mask to, std::size_t kind);
  void count_swallowed(Mask mask);
  void widen(Backing& b, std::size_t kind) {
    wide_[kind] |= bit(b);
    batched_ |= bit(b);
  }
  void close(Backing& b);
  void issue(Backing& b);
  void issue_all();
  void clean(Mask done);
  [[gnu::cold]] void reclaim(Backing& b);
  [[nodiscard]] std::uint64_t vmid_for(const Backing& b, std::size_t kind) const {
    if constexpr (kBreakWrongVmid) {  // FAULT INJECTION
      const std::uint64_t other = backings_[(b.number + 1) % count_].vmid[kind];
      return other == b.vmid[kind] ? other + smmu::TlbiNhAll::VMID::encode(VMID{1}) : other;
    }
    return b.vmid[kind];
  }

  // Masks of instances.
  Mask batched_ = 0;    // something is to be issued
  Mask unsynced_ = 0;   // issued, and no SYNC since
  Mask reporting_ = 0;  // Backing::reporting is not 0, and a SYNC has to see to that
  Mask waiting_ = 0;    // a SYNC has not completed
  std::array<Mask, kTagKinds> dirty_{};
  std::array<Mask, kTagKinds> cleaning_{};  // an NH_ALL was sent with no stage-1 STE installed
  Mask to_clean_ = 0;                       // clean() is to hear of their SYNCs
  std::array<Mask, kTagKinds> wide_{};      // NH_ALL goes out behind the batch, and covers what would be in it
  Mask ranges_ = 0;                         // IDR3.RIL: understand ranges and level hints
  Mask narrow_ = 0;                         // ASIDs of 8 bits
  unsigned pushed_ = 0;
  Options options_;
  std::size_t count_ = 0;
  std::unique_ptr<Backing[]> backings_;
  std::unique_ptr<AsidTable> asids_;
};

}  // namespace weir::vsmmu
