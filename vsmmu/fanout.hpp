// The physical instances behind a vSMMU: batches of commands for each, what has been issued without a SYNC, and which
// tags can hold stage-1 entries (design: "One guest invalidation, step by step", points 4 and 5).
//
// Strict: a TLBI goes to every dirty tag. A tag is dirty from before the first stage-1 STE that uses it is installed
// until an NH_ALL for it, sent while none is, has completed.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "guest-abi/smmu/command.hpp"
#include "stage2/port.hpp"
#include "stage2/tag.hpp"
#include "vsmmu/fault_injection.hpp"
#include "vsmmu/range.hpp"

namespace weir::vsmmu {

// What a guest's TLB invalidations have become on one instance.
struct BackingCounters {
  std::uint64_t tlbis = 0;    // sent
  std::uint64_t merged = 0;   // not sent: another command of the same batch does it
  std::uint64_t widened = 0;  // not sent: too many, and one for everything instead
  std::uint64_t syncs = 0;
  unsigned host_asids = 0;  // in use, or not known to be clean (precise mode)
};

struct Backing {
  static constexpr std::size_t kBatch = 64;  // commands

  stage2::SmmuPort* port = nullptr;
  std::unique_ptr<stage2::HostTag> tag;
  smmu::Ste stage2;             // the stage-2 fields of every STE under this tag
  unsigned stage1_streams = 0;  // with a stage-1 STE installed
  unsigned reporting = 0;       // streams whose events the guest may see: all but those that abort
  bool ranges = false;          // IDR3.RIL: understands ranges and level hints
  bool dirty = false;
  bool cleaning = false;  // an NH_ALL was sent with no stage-1 STE installed

  std::size_t count = 0;  // commands in `batch`
  std::array<smmu::Command, kBatch> batch;
  bool unsynced = false;  // issued, and no SYNC since
  bool waiting = false;
  stage2::Ticket ticket = 0;
  BackingCounters counters;
};

class Fanout {
 public:
  Fanout() = default;
  Fanout(std::unique_ptr<Backing[]> backings, std::size_t count);

  [[nodiscard]] std::span<Backing> backings() { return {backings_.get(), count_}; }
  [[nodiscard]] std::span<const Backing> backings() const { return {backings_.get(), count_}; }
  // nullptr: not behind this vSMMU.
  [[nodiscard]] Backing* find(const stage2::SmmuPort& port);

  // For one instance only.
  void push(Backing& b, const smmu::Command& c) {
    if (b.count == Backing::kBatch) issue(b);
    b.batch[b.count++] = c;
  }
  // To every dirty tag, each with its own VMID.
  template <typename Tlbi>
  void invalidate(const Tlbi& c) {
    invalidate(c, [this](Backing& b, const Tlbi& own) { push(b, own); });
  }
  // The same for an address, which may come with a range and a level hint. An instance that understands neither gets
  // single steps, or, where these were too many, NH_ALL: NH_ASID would leave global entries.
  template <typename Tlbi>
  void invalidate_address(const Tlbi& c) {
    invalidate(c, [this]<typename T>(Backing& b, const T& own) {
      if (b.ranges || own.template get<typename T::TG>() == smmu::TlbiGranule::none) return push(b, own);
      const Steps steps = Steps::of(own.template get<typename T::Address>().value,
                                    {.tg = own.template get<typename T::TG>(),
                                     .ttl = static_cast<unsigned>(own.template get<typename T::TTL>()),
                                     .num = static_cast<unsigned>(own.template get<typename T::NUM>()),
                                     .scale = static_cast<unsigned>(own.template get<typename T::SCALE>())});
      T step = own;
      step.template set<typename T::TG>(smmu::TlbiGranule::none).template set<typename T::TTL>(0u);
      step.template set<typename T::NUM>(0u).template set<typename T::SCALE>(0u);
      push_steps(b, step, steps);
    });
  }
  void invalidate_all();
  // Commands that invalidate_address() has pushed beyond one for each instance, since last asked.
  [[nodiscard]] unsigned take_extra() { return std::exchange(extra_, 0u); }

  // A stage-1 STE is about to be installed, or has been replaced by another kind.
  static void add_stage1(Backing& b);
  static void remove_stage1(Backing& b) { --b.stage1_streams; }

  // Issues what is batched.
  void flush();
  // Issues a SYNC behind all that was issued before, on every instance that has something outstanding or may have
  // recorded events for the guest; does not wait.
  void submit_sync();
  // True once all SYNCs of submit_sync() have completed.
  [[nodiscard]] bool completed();

 private:
  static constexpr std::uint64_t kMaxSteps = Backing::kBatch;

  static void issue(Backing& b);
  template <typename Tlbi, typename Fn>
  void invalidate(Tlbi c, Fn&& fn) {
    if constexpr (kBreakDropInvalidation) return;  // FAULT INJECTION
    for (Backing& b : backings())
      if (b.dirty) fn(b, c.template set<typename Tlbi::VMID>(vmid_for(b)));
  }
  template <typename Tlbi>
  void push_steps(Backing& b, Tlbi step, const Steps& steps) {
    if (steps.count > kMaxSteps) return push(b, smmu::tlbi_nh_all(step.template get<typename Tlbi::VMID>()));
    for (std::uint64_t i = 0; i < steps.count; ++i)
      push(b, step.template set<typename Tlbi::Address>(IOVA{steps.at(i)}));
    extra_ += static_cast<unsigned>(steps.count - 1);
  }
  [[nodiscard]] VMID vmid_for(const Backing& b) const {
    if constexpr (kBreakWrongVmid) {  // FAULT INJECTION
      const VMID other = backings_[static_cast<std::size_t>(&b - backings_.get() + 1) % count_].tag->vmid();
      return other == b.tag->vmid() ? VMID{static_cast<std::uint16_t>(other.value + 1)} : other;
    }
    return b.tag->vmid();
  }

  std::unique_ptr<Backing[]> backings_;
  std::size_t count_ = 0;
  unsigned extra_ = 0;
};

}  // namespace weir::vsmmu
