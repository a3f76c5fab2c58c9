#include "vsmmu/vsmmu.hpp"

#include <algorithm>
#include <utility>

#include "stage2/support/make.hpp"

namespace weir::vsmmu {

using smmu::Opcode;
using smmu::Reg;

namespace {

// Whether the guest may see events of a stream with this physical STE. Stage 2 alone faults for the host only.
bool reports_to_guest(const smmu::Ste& ste) { return !ste.get<smmu::Ste::V>() || uses_stage1(ste); }

}  // namespace

// Owns the command side for an administrative call. Stores are executed again until it lets go.
class VSmmu::Ownership {
 public:
  explicit Ownership(VSmmu& vsmmu) : vsmmu_{vsmmu} {
    while (vsmmu_.try_own(Owner::administration) != Owner::nobody) {
    }
    vsmmu_.finish_all();
  }
  ~Ownership() { vsmmu_.disown(); }
  Ownership(const Ownership&) = delete;
  Ownership& operator=(const Ownership&) = delete;

 private:
  VSmmu& vsmmu_;
};

// --- Life ------------------------------------------------------------------------------------------------------------

std::expected<std::unique_ptr<VSmmu>, CreateFailure> VSmmu::create(const Config& config,
                                                                   std::span<stage2::SmmuPort* const> instances,
                                                                   const Surroundings& surroundings,
                                                                   const Bounds& bounds) {
  using stage2::Error;
  if (instances.empty()) return std::unexpected{CreateFailure{Error::incompatible, {}, "a backing instance"}};
  Config narrowed = config;
  narrowed.oas_bits = std::min(config.oas_bits, surroundings.domain.table().geometry().input_bits());
  const auto announced = announce(instances, narrowed);
  if (!announced) {
    const Unsuitable& u = announced.error();
    return std::unexpected{CreateFailure{Error::incompatible, instances[u.instance]->name(), u.feature}};
  }

  auto backings = make_array<Backing>(instances.size());
  if (!backings) return std::unexpected{CreateFailure{Error::out_of_memory, {}, {}}};
  std::size_t joined = 0;
  const auto fail = [&](Error error, std::string_view feature) {
    const CreateFailure failure{error, instances[joined]->name(), feature};
    while (joined != 0) surroundings.domain.detach(std::move(backings[--joined].tag));
    return std::unexpected{failure};
  };
  for (; joined < instances.size(); ++joined) {
    Backing& b = backings[joined];
    b.port = instances[joined];
    if (const auto lacks = surroundings.domain.incompatibility(b.port->capabilities()))
      return fail(Error::incompatible, stage2::to_string(*lacks));
    auto tag = stage2::HostTag::create(*b.port);
    if (!tag) return fail(tag.error(), {});
    if (const auto ok = surroundings.domain.attach(**tag); !ok) return fail(ok.error(), {});
    b.tag = std::move(*tag);
    surroundings.domain.fill_stage2(b.tag->vmid(), b.stage2);
  }

  auto vsmmu = make<VSmmu>(*announced, surroundings, bounds);
  if (!vsmmu) {
    for (std::size_t i = 0; i < instances.size(); ++i) surroundings.domain.detach(std::move(backings[i].tag));
    return std::unexpected{CreateFailure{Error::out_of_memory, {}, {}}};
  }
  vsmmu->fanout_ = Fanout{std::move(backings), instances.size()};
  return vsmmu;
}

VSmmu::VSmmu(const Announced& announced, const Surroundings& surroundings, const Bounds& bounds)
    : announced_{announced},
      memory_{surroundings.memory},
      interrupts_{surroundings.interrupts},
      drain_{surroundings.drain},
      domain_{surroundings.domain},
      bounds_{.commands = std::max(bounds.commands, 2u),  // one look at the queue finds out that it is empty
              .polls = std::max(bounds.polls, 1u),
              .installs = std::max(bounds.installs, 1u)},
      registers_{surroundings.pages, announced_} {}

VSmmu::~VSmmu() { shutdown(); }

std::expected<void, stage2::Error> VSmmu::attach(VStreamID vsid, stage2::SmmuPort& smmu, StreamID sid) {
  const Ownership own{*this};
  Backing* const backing = fanout_.find(smmu);
  if (backing == nullptr || !backing->tag) return std::unexpected{stage2::Error::incompatible};
  if (std::uint64_t{vsid.value} >> announced_.sid_bits() != 0) return std::unexpected{stage2::Error::out_of_range};
  if (find(vsid) != nullptr) return std::unexpected{stage2::Error::already_mapped};
  auto grown = make_array<Stream>(stream_count_ + 1);
  if (!grown) return std::unexpected{stage2::Error::out_of_memory};

  Stream s;
  s.vsid = vsid;
  s.sid = sid;
  s.backing = backing;
  const Target target = target_of(s);
  if (const auto installed = install(s, target.ste); !installed) return installed;
  s.vste = target.vste;
  s.fault = target.fault;

  const std::size_t at = lower_bound(vsid.value);
  std::copy_n(streams_.get(), at, grown.get());
  grown[at] = s;
  std::copy_n(streams_.get() + at, stream_count_ - at, grown.get() + at + 1);
  const SpinLock::Guard guard{lock_};
  streams_.swap(grown);
  ++stream_count_;
  return {};
}

std::expected<void, stage2::Error> VSmmu::detach(VStreamID vsid) {
  const Ownership own{*this};
  Stream* const s = find(vsid);
  if (s == nullptr) return std::unexpected{stage2::Error::no_such_stream};
  if (!take_out(*s)) return std::unexpected{stage2::Error::out_of_memory};
  const SpinLock::Guard guard{lock_};
  std::move(s + 1, streams_.get() + stream_count_, s);
  --stream_count_;
  return {};
}

void VSmmu::reset() {
  const Ownership own{*this};
  {
    const SpinLock::Guard guard{lock_};
    registers_.reset();
  }
  queue_.stop();
  cmdq_error_ = false;
  gbpa_applied_ = false;
  start_restream(Pending::cr0, 0, stream_count_);
  finish_all();
}

void VSmmu::shutdown() {
  const Ownership own{*this};
  for (std::size_t i = 0; i < stream_count_; ++i) {
    // A tag that an STE may still carry is lost rather than given back dirty.
    if (!take_out(streams_[i])) (void)streams_[i].backing->tag.release();
  }
  {
    const SpinLock::Guard guard{lock_};
    stream_count_ = 0;
    registers_.reset();  // nothing is enabled any more
  }
  queue_.stop();
  for (Backing& b : fanout_.backings()) {
    b.dirty = b.cleaning = false;
    if (b.tag) domain_.detach(std::move(b.tag));
  }
}

Counters VSmmu::counters() const {
  Counters c = counters_;
  c.exits = exits_.load(std::memory_order_relaxed);
  const SpinLock::Guard guard{lock_};
  c.events = events_;
  c.events_lost = events_lost_;
  c.stage2_faults = stage2_faults_;
  c.host_events = host_events_;
  return c;
}

// --- Stores ----------------------------------------------------------------------------------------------------------

Progress VSmmu::write(std::uint32_t offset, unsigned size, std::uint64_t value) {
  exits_.fetch_add(1, std::memory_order_relaxed);
  if (size == 4 && offset == static_cast<std::uint32_t>(Reg::CMDQ_PROD)) {
    const auto wr = static_cast<std::uint32_t>(value & smmu::CMDQ_PROD::WR::mask);
    registers_.publish_cmdq_prod(wr);
    queue_.post(wr);
    return serve_queue();
  }
  if (size == 4 && offset == static_cast<std::uint32_t>(Reg::EVENTQ_CONS)) {
    const SpinLock::Guard guard{lock_};
    (void)registers_.write(offset, size, value);
    return Progress::done;
  }
  if (try_own(Owner::store) != Owner::nobody) return Progress::again;
  const Progress progress = store(offset, size, value);
  disown();
  return progress == Progress::done && queue_.posted() ? serve_queue() : progress;
}

// Consumes commands, unless another vCPU's store is at it: that one looks for new ones after it has let go.
Progress VSmmu::serve_queue() {
  Bounds left = bounds_;
  Progress progress = Progress::done;
  do {
    const Owner other = try_own(Owner::store);
    if (other != Owner::nobody) return other == Owner::store ? Progress::done : Progress::again;
    progress = consume(left);
    disown();
  } while (progress == Progress::done && queue_.posted());
  return progress;
}

Progress VSmmu::store(std::uint32_t offset, unsigned size, std::uint64_t value) {
  Bounds left = bounds_;
  // These two change every stream and stop or start the queue: what is under way comes first. A store that is executed
  // again so finds its own work done, and changes nothing.
  const bool global = offset == static_cast<std::uint32_t>(Reg::CR0) || offset == static_cast<std::uint32_t>(Reg::GBPA);
  if (global && !finish_pending(left)) return Progress::again;
  Effect effect{};
  {
    const SpinLock::Guard guard{lock_};
    effect = registers_.write(offset, size, value);
    cmdq_error_ = registers_.errors().get<smmu::GERROR::CMDQ_ERR>();
  }
  switch (effect) {
    case Effect::none:
    case Effect::cmdq_prod: return Progress::done;
    case Effect::gerrorn: return consume(left);
    case Effect::gbpa:
      // No stream is concerned while SMMUEN is 1, nor by a store that is executed again.
      if (registers_.cr0().get<smmu::CR0::SMMUEN>() || registers_.gbpa().get<smmu::GBPA::ABORT>() == gbpa_applied_) {
        acknowledge_gbpa();
        return Progress::done;
      }
      start_restream(Pending::gbpa, 0, stream_count_);
      return finish_pending(left) ? Progress::done : Progress::again;
    case Effect::cr0: break;
  }
  if (!registers_.cr0().get<smmu::CR0::CMDQEN>()) queue_.stop();
  if (registers_.cr0().get<smmu::CR0::SMMUEN>() != registers_.cr0ack().get<smmu::CR0::SMMUEN>()) {
    start_restream(Pending::cr0, 0, stream_count_);
    if (!finish_pending(left)) return Progress::again;
  } else {
    acknowledge_cr0();
  }
  return consume(left);
}

void VSmmu::acknowledge_cr0() {
  const bool enabled = registers_.cr0().get<smmu::CR0::CMDQEN>();
  if (enabled && !registers_.cr0ack().get<smmu::CR0::CMDQEN>()) {
    const smmu::CMDQ_BASE base = registers_.cmdq_base();
    queue_.start(
        Ring::make(base.get<smmu::CMDQ_BASE::ADDR>(), base.get<smmu::CMDQ_BASE::LOG2SIZE>(), announced_.cmdq_log2(), 4),
        registers_.cmdq_cons().get<smmu::CMDQ_CONS::RD>());
  }
  const SpinLock::Guard guard{lock_};
  registers_.acknowledge_cr0();
}

void VSmmu::acknowledge_gbpa() {
  const SpinLock::Guard guard{lock_};
  gbpa_applied_ = registers_.gbpa().get<smmu::GBPA::ABORT>();
  registers_.acknowledge_gbpa();
}

// --- Commands --------------------------------------------------------------------------------------------------------

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
  bool interrupt = false;
  {
    const SpinLock::Guard guard{lock_};
    registers_.publish_cmdq_error(queue_.cons(), error);
    interrupt = registers_.activate<smmu::GERROR::CMDQ_ERR>();
    cmdq_error_ = true;
  }
  if (interrupt) interrupts_.raise(Irq::gerror);
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
  const auto signal = rules::typed<smmu::Sync>(queue_.current()).get<smmu::Sync::CS>();
  // Faults of transactions that ended before the SYNC are visible before it completes (4.7.3).
  for (Backing& b : fanout_.backings()) drain_.drain_events(*b.port);
  ++counters_.commands[static_cast<std::size_t>(Opcode::SYNC)];
  ++counters_.syncs;
  queue_.consumed();
  registers_.publish_cmdq_cons(queue_.cons());
  // SIG_SEV without IDR0.SEV is SIG_NONE; there are no MSIs.
  if (signal == smmu::SyncSignal::irq) interrupts_.raise(Irq::cmdq_sync);
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

// --- Streams ---------------------------------------------------------------------------------------------------------

std::size_t VSmmu::lower_bound(std::uint64_t vsid) const {
  const Stream* const first = streams_.get();
  const auto* found = std::lower_bound(first, first + stream_count_, vsid,
                                       [](const Stream& s, std::uint64_t v) { return s.vsid.value < v; });
  return static_cast<std::size_t>(found - first);
}

Stream* VSmmu::find(VStreamID vsid) {
  const std::size_t at = lower_bound(vsid.value);
  return at < stream_count_ && streams_[at].vsid == vsid ? &streams_[at] : nullptr;
}

// The STE that the guest's tables and registers now ask for.
VSmmu::Target VSmmu::target_of(const Stream& s) {
  Target t;
  const GlobalState state{.enabled = registers_.cr0().get<smmu::CR0::SMMUEN>(),
                          .gbpa_abort = registers_.gbpa().get<smmu::GBPA::ABORT>()};
  if (state.enabled) {
    const StreamTable table{registers_.strtab_base(), registers_.strtab_base_cfg(), announced_.sid_bits()};
    const auto vste = table.fetch(memory_, s.vsid);
    if (!vste) {
      t.ste = invalid_ste();
      t.fault = vste.error();
      return t;
    }
    t.vste = *vste;
  }
  const Merged merged =
      merge_ste(t.vste, state, MergeLimits::of(announced_, s.backing->port->capabilities()), s.backing->stage2);
  t.ste = merged.ste;
  if (merged.event) t.fault = SteFault{*merged.event, {}};
  return t;
}

std::expected<void, stage2::Error> VSmmu::install(Stream& s, const smmu::Ste& ste) {
  Backing& b = *s.backing;
  const bool had_stage1 = uses_stage1(s.installed);
  const bool has_stage1 = uses_stage1(ste);
  if (has_stage1) Fanout::add_stage1(b);  // before the hardware can fill its TLB
  if (const auto ok = domain_.install(*b.tag, s.sid, s.use, ste); !ok) {
    if (has_stage1) Fanout::remove_stage1(b);
    return ok;
  }
  if (had_stage1) Fanout::remove_stage1(b);
  if (s.use && reports_to_guest(s.installed)) --b.reporting;
  if (reports_to_guest(ste)) ++b.reporting;
  ++counters_.installs;
  s.use = stage2::StreamUse::of(ste);
  s.installed = ste;
  return {};
}

// The stream aborts and leaves the domain. False: its old STE is still in place, which is not expected, because a
// stream that has an STE needs no memory to abort.
bool VSmmu::take_out(Stream& s) {
  if (!s.use) return true;
  Backing& b = *s.backing;
  if (!domain_.uninstall(*b.tag, s.sid, *s.use, abort_ste())) {
    ++counters_.install_failures;
    return false;
  }
  if (uses_stage1(s.installed)) Fanout::remove_stage1(b);
  if (reports_to_guest(s.installed)) --b.reporting;
  const SpinLock::Guard guard{lock_};
  s.use.reset();
  s.installed = abort_ste();
  s.fault.reset();
  return true;
}

// Makes the physical STE what the guest asks for. `invalidate`: the guest has invalidated its configuration, so that
// context descriptors cached through an unchanged STE must go too. True if a new STE was (to be) installed.
bool VSmmu::update(Stream& s, bool invalidate) {
  const Target target = target_of(s);
  const bool same = s.use && target.ste == s.installed;
  if (same) {
    if (invalidate) fanout_.push(*s.backing, smmu::cfgi_ste(s.sid, true));
  } else {
    Stream next = s;
    if (!install(next, target.ste)) {
      // Out of memory. The old STE may give access that the guest has just taken away: abort, for which nothing is
      // needed.
      ++counters_.install_failures;
      (void)take_out(s);
      return true;
    }
    const SpinLock::Guard guard{lock_};
    s.installed = next.installed;
    s.use = next.use;
  }
  const SpinLock::Guard guard{lock_};
  s.vste = target.vste;
  s.fault = target.fault;
  s.bad = 0;
  return !same;
}

bool VSmmu::silence(VStreamID vsid) {
  if (try_own(Owner::administration) != Owner::nobody) return false;
  if (pending_ == Pending::none) {
    if (Stream* const s = find(vsid); s != nullptr && s->use) {
      Stream next = *s;
      if (install(next, abort_ste())) {
        const SpinLock::Guard guard{lock_};
        s->installed = next.installed;
        s->use = next.use;
        s->fault.reset();
      }
    }
  }
  const bool done = pending_ == Pending::none;
  disown();
  return done;
}

// --- Events ----------------------------------------------------------------------------------------------------------

std::optional<EventReport> VSmmu::handle_event(stage2::SmmuPort& smmu, const smmu::Event& event) {
  const StreamID sid{event.get<smmu::Event::StreamID>()};
  EventReport report;
  Delivered delivered{};
  {
    const SpinLock::Guard guard{lock_};
    Stream* const end = streams_.get() + stream_count_;
    Stream* const s =
        std::find_if(streams_.get(), end, [&](const Stream& x) { return x.backing->port == &smmu && x.sid == sid; });
    if (s == end) return std::nullopt;
    const Rebuilt rebuilt = rebuild_event(event, {.vsid = s->vsid,
                                                  .fault = s->fault,
                                                  .installed = s->installed,
                                                  .record_bad_streamid = registers_.cr2().get<smmu::CR2::RECINVSID>()});
    report.owner = rebuilt.owner;
    report.vsid = s->vsid;
    switch (rebuilt.owner) {
      case EventOwner::stage2: ++stage2_faults_; break;
      case EventOwner::host: ++host_events_; break;
      case EventOwner::quiet:
      case EventOwner::guest:
        if (event.id() == smmu::EventId::C_BAD_STE && s->fault) report.flooding = ++s->bad > kFloodLimit;
        if (rebuilt.owner == EventOwner::quiet) break;
        delivered = deliver_event(registers_, memory_, announced_.evtq_log2(), rebuilt.event);
        report.delivery = delivered.outcome;
        ++(delivered.outcome == Delivery::written ? events_ : events_lost_);
        break;
    }
  }
  if (delivered.interrupt) interrupts_.raise(Irq::evtq);
  if (delivered.gerror_interrupt) interrupts_.raise(Irq::gerror);
  return report;
}

}  // namespace weir::vsmmu
