// A virtual SMMUv3, as the guest sees it: stage 1 only, with its own stream table, command and event queue in the VM's
// memory. Behind it stand one or several physical instances, on each of which it holds one VMID (design, sections 3 to
// 7).
//
// Concurrency. Stores and administrative calls may come from any pCPU. One of them at a time owns the command side
// (commands, streams, what is issued); a store that finds it owned returns Progress::again, but for CMDQ_PROD, which is
// left to the owner if that is another vCPU's store: an administrative call may run on a pCPU of another VM, and serves
// nobody's queue. Nobody waits for hardware with a lock held. Registers and the event queue have a short lock of
// their own, so handle_event() never waits for commands.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/pri.hpp"
#include "guest-abi/types.hpp"
#include "stage2/domain.hpp"
#include "stage2/port.hpp"
#include "stage2/support/spinlock.hpp"
#include "vsmmu/announced.hpp"
#include "vsmmu/command_queue.hpp"
#include "vsmmu/command_rules.hpp"
#include "vsmmu/event_queue.hpp"
#include "vsmmu/event_rebuild.hpp"
#include "vsmmu/fanout.hpp"
#include "vsmmu/flood.hpp"
#include "vsmmu/held_contexts.hpp"
#include "vsmmu/irq.hpp"
#include "vsmmu/ports.hpp"
#include "vsmmu/pri_queue.hpp"
#include "vsmmu/register_file.hpp"
#include "vsmmu/stalls.hpp"
#include "vsmmu/ste_merge.hpp"

namespace weir::vsmmu {

// Outcome of a guest's store.
enum class Progress : std::uint8_t {
  done,
  again  // the bound of work was reached: take pending interrupts, then execute the same store again
};

// Bounds of the work of one exit. Each exit does at least one step: 0 of them counts as 1.
//
// What is left takes interrupts of the guest's own and of others in between (Progress::again). Beyond these bounds an exit
// does: what one command more takes (at most 64 commands for each instance, where ranges are emulated), one SYNC's
// completion and signal; for an install, at most 7 SYNCs (5 steps of an STE, an ATC_INV, host ASIDs made clean), each
// awaited, and its own events drained (4096 records at most); and what the physical queues make it wait for room, which
// hyp/smmu/command_queue.hpp bounds.
struct Bounds {
  unsigned commands = 256;  // and STEs read
  unsigned pushed = 2048;   // commands for physical queues
  unsigned polls = 20000;   // of SYNCs that have not completed
  unsigned installs = 8;    // STEs, each of which waits for hardware
  unsigned events = 256;    // of its own, drained from physical event queues for a SYNC
  // Not of an exit: with more TLB invalidations than this for one instance and one SYNC, one of everything follows them
  // instead of the rest.
  unsigned widen = 256;
};

// What a vSMMU works with; all of it outlives the vSMMU.
struct Surroundings {
  GuestMemory& memory;
  Interrupts& interrupts;
  EventDrain& drain;
  stage2::S2Domain& domain;
  RegisterPages pages;
  HiddenRegion hidden{};  // Config::precise only
};

// Why a vSMMU cannot be made.
struct CreateFailure {
  stage2::Error error{};
  std::string_view instance;  // name of the physical instance; empty if it is nobody's fault
  std::string_view feature;   // what it lacks (incompatible)
};

struct Stream {
  VStreamID vsid;
  StreamID sid;
  StreamGrant grant;
  Backing* backing = nullptr;
  TagKind kind = TagKind::open;          // whose VMID `installed` has, if it has one
  HeldContexts::Pair slots = 0;          // precise mode
  bool second = false;                   // which of them `installed` points to, if it does
  std::optional<smmu::Cd> cd;            // the guest's, of which that one is the copy
  smmu::Ste vste;                        // as last read from the guest's stream table
  smmu::Ste installed;                   // the physical STE
  std::optional<IPA> context;            // see StreamConfig
  std::optional<SteFault> fault;         // why `installed` is invalid
  std::optional<stage2::StreamUse> use;  // of the domain; none: the stream has been taken out of it
  bool atc_issued = false;               // an ATC_INV that no SYNC of the guest has completed; the owner's alone
  std::optional<StreamConfig> previous;  // while the STE is being replaced: events may still be about this one
  EventBudget budget;
  EventBudget overflows;     // page requests that found the guest's queue full: above it, they fail
  bool flooded = false;      // the budget is used up: to be silenced,
  bool silenced = false;     // which it is: it aborts, whatever the guest asks for
  bool repaired = false;     // silenced, and the guest has invalidated its configuration since: waits for the budget
  bool timed_out = false;    // see atc_timed_out(): to be fenced, because
  bool hung = false;         // the device does not answer invalidations
  bool quarantined = false;  // to be fenced, see quarantine()
  bool fenced = false;       // it aborts until it is attached anew
};

// What handle_event() found out about an event of one of this vSMMU's streams.
struct EventReport {
  EventOwner owner{};
  VStreamID vsid;
  std::optional<Delivery> delivery;  // if owner is guest
  bool flooding = false;             // the stream is over its budget of events; the vSMMU silences it by itself
};

struct Counters {
  std::array<std::uint64_t, rules::kOpcodes> commands{};  // consumed, by opcode
  std::uint64_t illegal = 0;
  std::uint64_t aborted = 0;       // CERROR_ABT
  std::uint64_t atc_timeouts = 0;  // CERROR_ATC_INV_SYNC
  std::uint64_t syncs = 0;
  std::uint64_t installs = 0;  // physical STEs replaced
  std::uint64_t install_failures = 0;
  std::uint64_t exits = 0;          // guest stores, re-executions included
  std::uint64_t events = 0;         // written to the guest's queue
  std::uint64_t events_lost = 0;    // queue disabled, full or not in RAM
  std::uint64_t stage2_faults = 0;  // see EventOwner
  std::uint64_t host_events = 0;
  std::uint64_t silenced = 0;               // streams that flooded
  std::uint64_t stalls = 0;                 // stalled transactions that the guest was asked about
  std::uint64_t stalls_killed = 0;          // and those that Weir terminated: too many, too late or nobody's
  std::uint64_t page_requests = 0;          // written to the guest's queue
  std::uint64_t page_requests_refused = 0;  // answered by Weir
  std::uint64_t contexts = 0;               // context descriptors copied (precise mode)
  std::uint64_t asids_exhausted = 0;        // streams that abort because an instance had no host ASID left
};

class VSmmu {
 public:
  // A vSMMU in its reset state, with a VMID on each instance and no streams. Errors, with nothing half attached:
  // incompatible, no_free_vmid, out_of_memory.
  [[nodiscard]] static std::expected<std::unique_ptr<VSmmu>, CreateFailure> create(
      const Config& config, std::span<stage2::SmmuPort* const> instances, const Surroundings& surroundings,
      const Bounds& bounds = {});
  ~VSmmu();
  VSmmu(const VSmmu&) = delete;
  VSmmu& operator=(const VSmmu&) = delete;

  // Binds `vsid` to a stream of one of the instances and installs the STE that the vSMMU's state demands. Errors, with
  // nothing changed: out_of_range (vsid), already_mapped, incompatible (not one of the instances), no_such_stream,
  // out_of_memory.
  [[nodiscard]] std::expected<void, stage2::Error> attach(VStreamID vsid, stage2::SmmuPort& smmu, StreamID sid,
                                                          const StreamGrant& grant = {});
  // A further stream of a `vsid` that is attached: a device behind a conventional PCI bridge has several StreamIDs, and may
  // share one with others, for which the guest has one name. Such devices have neither ATS nor page requests nor stalls.
  // Errors as of attach(), and no_such_stream if `vsid` is not attached.
  [[nodiscard]] std::expected<void, stage2::Error> attach_further(VStreamID vsid, stage2::SmmuPort& smmu, StreamID sid);
  // The stream, with all its further ones, aborts from now on; what of it was stalled is terminated. Errors, with (some of) it
  // still attached:
  // no_such_stream, out_of_memory.
  [[nodiscard]] std::expected<void, stage2::Error> detach(VStreamID vsid);

  // A guest's store of `size` bytes at `offset` from the register base, aligned.
  [[nodiscard]] Progress write(std::uint32_t offset, unsigned size, std::uint64_t value);
  // Loads need no exit; this serves accesses outside of the two pages, and tests.
  [[nodiscard]] std::uint64_t read(std::uint32_t offset, unsigned size) const { return registers_.read(offset, size); }

  // An event that the physical instance `smmu` has recorded. No value: not of a stream of this vSMMU.
  [[nodiscard]] std::optional<EventReport> handle_event(stage2::SmmuPort& smmu, const smmu::Event& event);
  // A page request that the physical instance `smmu` has recorded. False: not of a stream of this vSMMU, and nobody has
  // answered it.
  [[nodiscard]] bool handle_page_request(stage2::SmmuPort& smmu, const smmu::PriEntry& request);
  // `smmu` has discarded events because its queue was full: the guest's queue overflows, too (7.4).
  void events_lost(stage2::SmmuPort& smmu);
  // `smmu` has discarded page requests because its queue was full: the guest's queue overflows, too (8.1).
  void page_requests_lost(stage2::SmmuPort& smmu);
  // An invalidation of the device's own translations was not answered: the stream aborts, without ATS, until it is
  // attached anew. Takes effect later (tick(), or the next store); may be called anywhere.
  void atc_timed_out(VStreamID vsid);
  // After events were delivered, with no lock held: silences streams that flood, here or on the pCPU that owns the command
  // side now.
  void silence_floods() {
    if (deferred_.load() && try_own(Owner::administration) == Owner::nobody) disown();
  }
  // The stream aborts until it is attached anew, whatever the guest does. At once, or as soon as the command side's owner
  // lets go of it: never waits.
  void quarantine(VStreamID vsid);
  // `smmu` has failed, and translates nothing any more: the guest's SMMU has entered service failure mode (12.3).
  void instance_failed(stage2::SmmuPort& smmu);
  // Some ten times a second, from one pCPU at a time: terminates stalls that the guest has not answered, refills event
  // budgets, and does what could not be done at once (floods, atc_timed_out()).
  void tick();

  // Back to reset values; streams bypass stage 1.
  void reset();
  // All streams abort; the VMIDs are flushed and given back. No stores and no attach() after it.
  [[gnu::cold]] void shutdown();

  [[nodiscard]] const Announced& announced() const { return announced_; }
  [[nodiscard]] std::span<const Stream> streams() const { return {streams_.get(), stream_count_}; }
  [[nodiscard]] std::span<const Backing> backings() const { return fanout_.backings(); }
  // A tag of instance `i` may have entries in its TLB. While no store is being served.
  [[nodiscard]] bool dirty(std::size_t i, TagKind kind = TagKind::open) const {
    return fanout_.dirty(static_cast<unsigned>(i), kind);
  }
  // To be called while no store is being served: what commands count is not locked.
  [[nodiscard]] Counters counters() const;
  // Likewise; `i` < backings().size().
  [[nodiscard]] BackingCounters backing_counters(std::size_t i) const;

  // For create() only.
  VSmmu(const Announced& announced, const Surroundings& surroundings, const Bounds& bounds);

 private:
  // What the owner of the command side is in the middle of.
  enum class Pending : std::uint8_t {
    none,
    sync,  // submitted, and not complete everywhere, or events that were recorded before are on their way to the guest
    cfgi,  // streams [cursor, end) are to be re-read for a CFGI command
    cd,    // of the stream at the cursor, the context descriptor only
    cr0,   // the same, for SMMUEN
    gbpa   // the same, for GBPA
  };
  enum class Step : std::uint8_t { consumed, pending, illegal };
  class Ownership;

  enum class Owner : std::uint8_t { nobody, store, administration };
  // Owns the command side if nobody does. Returns who did.
  [[nodiscard]] Owner try_own(Owner who) {
    // An administrative call that waits comes first: stores are executed again without end where a guest wants it.
    if (who == Owner::store && waiting_.load() != 0) return Owner::administration;
    Owner was = Owner::nobody;
    owner_.compare_exchange_strong(was, who);
    return was;
  }
  void disown() {
    for (;;) {
      const bool rest = deferred_.load() && act_on_deferred();
      owner_.store(Owner::nobody);
      // What was deferred in between has found an owner, who has not seen it.
      if (rest || !deferred_.load() || try_own(Owner::administration) != Owner::nobody) [[likely]]
        return;
    }
  }

  [[nodiscard]] static std::expected<void, CreateFailure> join(Backing& b, stage2::S2Domain& domain, bool precise);
  [[nodiscard]] Progress serve_queue();
  [[nodiscard]] Progress write_other(std::uint32_t offset, unsigned size, std::uint64_t value);
  [[nodiscard]] Progress store(std::uint32_t offset, unsigned size, std::uint64_t value);
  [[nodiscard]] Progress consume(Bounds& left);
  [[nodiscard]] bool execute_copied(Bounds& left);
  [[nodiscard]] bool take_usual(std::span<const smmu::Command> copied, const Bounds& left);
  void take_run(std::span<const smmu::Command> run, const Bounds& left);
  void consumed(smmu::Opcode opcode, std::uint32_t n = 1) {
    counters_.commands[static_cast<std::size_t>(opcode)] += n;
    queue_.consumed(n);
  }
  void set_consuming();
  [[nodiscard]] bool execute_other(const smmu::Command& c, Bounds& left);
  [[nodiscard]] Step execute(const smmu::Command& c);
  [[nodiscard]] bool finish_pending(Bounds& left);
  [[nodiscard, gnu::always_inline]] inline bool finish_sync(Bounds& left);
  [[nodiscard]] bool finish_streams(Bounds& left);
  void finish_all();
  [[nodiscard]] bool drain_events(Bounds& left);
  [[gnu::always_inline]] inline void complete_sync();
  // Has an ATC_INV timed out that the SYNC waited for? note_atc_timeout() leaves the note, from anywhere, with any lock held.
  [[nodiscard]] bool atc_failed();
  void note_atc_timeout(VStreamID vsid);
  void publish_cons();
  void publish_progress();
  void command_error(smmu::CmdqError error);
  [[gnu::cold]] void acknowledge_cr0();
  void acknowledge_gbpa();

  [[nodiscard]] bool asid_exists(ASID asid) const;
  [[nodiscard]] bool ssid_exists(SubstreamID ssid) const;
  [[nodiscard]] bool granule_offered(smmu::TlbiGranule tg) const;
  template <typename T>
  void invalidate_address(T c);
  [[nodiscard]] bool may_be_held(const Stream& s) const;
  [[nodiscard]] Step recopy(std::size_t from, std::size_t to);
  [[nodiscard]] Step invalidate_contexts(VStreamID vsid, std::optional<smmu::CfgiCd> one);
  void invalidate_atc(smmu::AtcInv c);
  void start_restream(Pending why, std::size_t first, std::size_t end);
  [[nodiscard]] Step restream(std::uint64_t first, std::uint64_t last);
  [[nodiscard]] Stream* find(VStreamID vsid);  // the first, of several
  [[nodiscard]] std::expected<void, stage2::Error> attach(VStreamID vsid, Backing& backing, StreamID sid,
                                                          const StreamGrant& grant);
  [[nodiscard]] std::size_t lower_bound(std::uint64_t vsid) const;

  // Commands about what the guest's devices wait for (responses.cpp): only for its own streams, otherwise without
  // effect. Their opcodes are legal.
  void resume_stalled(const smmu::Resume& c);
  void terminate_stalled(const smmu::StallTerm& c);
  void answer_page_request(const smmu::PriResp& c);

  struct Target {
    smmu::Ste vste;
    smmu::Ste ste;
    std::optional<SteFault> fault;
    TagKind kind = TagKind::open;
    std::optional<smmu::Cd> cd;  // to be held: the guest's
    std::optional<IPA> context;  // where it lies
  };
  // `reread`: from the guest's stream table; else what was last read there.
  [[nodiscard]] Target target_of(const Stream& s, bool reread = true);
  [[nodiscard]] std::optional<smmu::Cd> copy_context(const smmu::Ste& ste);
  void point_at_copy(const Stream& s, bool second, smmu::Ste& ste) const;
  [[nodiscard]] static bool in_place(const Stream& s, const Target& t);
  // Installs `target.ste`; on failure all stays as it was. `answers`: the device answers invalidations.
  [[nodiscard]] std::expected<void, stage2::Error> replace(Stream& s, const Target& target, bool answers = true);
  [[nodiscard]] std::expected<void, stage2::Error> exchange(Stream& s, const smmu::Ste& ste, TagKind kind,
                                                            bool answers);
  [[nodiscard]] static std::optional<ASID> asid_of(const std::optional<smmu::Cd>& cd);
  [[nodiscard]] std::expected<void, stage2::Error> store_copy(const Stream& s, bool second, const Target& target);
  void forget_installed(Stream& s, const smmu::Ste& installed);
  void left(Stream& s);
  bool take_out(Stream& s);
  bool update(Stream& s, Pending why);
  void drain_before_change(const Backing& b);
  void count_use(Backing& b, const smmu::Ste& before, const smmu::Ste& after);
  // For the owner: silences streams that flood and ends that when they may be heard again, fences those whose device does
  // not answer. True: the bound was reached, and the rest is for the next time.
  [[gnu::cold]] bool act_on_deferred();
  // What `target` is while the stream has to be silent.
  void keep_silent(Stream& s, Target& target);

  [[nodiscard]] Stream* find(const stage2::SmmuPort& smmu, StreamID sid);  // with lock_ held
  // Terminates what is stalled: of `s`, or of all streams.
  void terminate_stalls(const Stream* s);
  // Lets transactions whose event could not be written fault again, as many as there is room for.
  void retry_stalls();
  [[nodiscard]] PriQueue pri_queue() const;  // with lock_ held

  Announced announced_;
  GuestMemory& memory_;
  EventDrain& drain_;
  stage2::S2Domain& domain_;
  Bounds bounds_;

  std::atomic<Owner> owner_{Owner::nobody};
  std::atomic<std::uint64_t> exits_{0};
  std::atomic<unsigned> waiting_{0};   // administrative calls that want to own the command side
  std::atomic<bool> deferred_{false};  // some stream is flooded, timed_out or quarantined

  // Stored to by the owner, under lock_; the owner reads them as it likes, others under lock_.
  mutable SpinLock lock_;
  RegisterFile registers_;
  IrqUnit irqs_;
  std::unique_ptr<Stream[]> streams_;  // sorted by vsid
  std::size_t stream_count_ = 0;
  std::uint64_t events_ = 0;  // this and what follows: under lock_, whoever wants it
  std::uint64_t events_lost_ = 0;
  std::uint64_t stage2_faults_ = 0;
  std::uint64_t host_events_ = 0;
  std::uint64_t stalls_seen_ = 0;
  std::uint64_t stalls_killed_ = 0;
  std::uint64_t page_requests_ = 0;
  std::uint64_t page_requests_refused_ = 0;

  // Streams whose ATC timed out, noted by note_atc_timeout() for the owner: vSID + 1, or 0.
  std::array<std::atomic<std::uint64_t>, 8> atc_timeouts_{};
  std::atomic<bool> atc_timeouts_lost_{false};  // there were too many
  std::atomic<bool> atc_timeouts_noted_{false};

  // The owner's alone.
  rules::UsualVa usual_va_;
  CommandQueue queue_;
  Fanout fanout_;
  std::unique_ptr<HeldContexts> held_;  // precise mode
  Pending pending_ = Pending::none;
  std::size_t cursor_ = 0;  // of streams
  std::size_t end_ = 0;
  std::uint64_t draining_ = 0;  // backings whose events are to be drained for a SYNC
  unsigned to_drain_ = 0;       // events of the first of them, at most; 0: not begun
  bool atc_issued_ = false;     // some stream's atc_issued is set
  bool cmdq_error_ = false;     // GERROR.CMDQ_ERR is active
  bool consuming_ = false;      // CMDQEN is acknowledged, without an error; see set_consuming()
  bool gbpa_applied_ = false;   // the value of GBPA.ABORT that streams follow while SMMUEN is 0
  Counters counters_;

  StallTable stalls_;  // under lock_; last, for it is large
};

}  // namespace weir::vsmmu
