#include "vsmmu/vsmmu.hpp"

#include <algorithm>
#include <utility>

#include "stage2/support/make.hpp"
#include "vsmmu/ownership.hpp"

namespace weir::vsmmu {

using smmu::Reg;

// --- Life ------------------------------------------------------------------------------------------------------------

std::expected<std::unique_ptr<VSmmu>, CreateFailure> VSmmu::create(const Config& config,
                                                                   std::span<stage2::SmmuPort* const> instances,
                                                                   const Surroundings& surroundings,
                                                                   const Bounds& bounds) {
  using stage2::Error;
  if (instances.empty()) return std::unexpected{CreateFailure{Error::incompatible, {}, "a backing instance"}};
  if (instances.size() > Fanout::kMaxBackings)
    return std::unexpected{CreateFailure{Error::incompatible, {}, "at most 64 backing instances"}};
  Config narrowed = config;
  narrowed.oas_bits = std::min(config.oas_bits, surroundings.domain.table().geometry().input_bits());
  const auto announced = announce(instances, narrowed);
  if (!announced) {
    const Unsuitable& u = announced.error();
    return std::unexpected{CreateFailure{Error::incompatible, instances[u.instance]->name(), u.feature}};
  }

  auto backings = make_array<Backing>(instances.size());
  if (!backings) return std::unexpected{CreateFailure{Error::out_of_memory, {}, {}}};
  const std::span<Backing> all{backings.get(), instances.size()};
  const auto give_back = [&] {
    for (Backing& b : all)
      for (auto& tag : b.tags)
        if (tag) surroundings.domain.detach(std::move(tag));
  };
  const auto no_memory = [&] {
    give_back();
    return std::unexpected{CreateFailure{Error::out_of_memory, {}, {}}};
  };
  std::uint64_t narrow = 0;
  for (std::size_t i = 0; i < instances.size(); ++i) {
    backings[i].port = instances[i];
    if (!instances[i]->capabilities().idr0.get<smmu::IDR0::ASID16>()) narrow |= std::uint64_t{1} << i;
    if (const auto joined = join(backings[i], surroundings.domain, config.precise); !joined) {
      give_back();
      return std::unexpected{joined.error()};
    }
  }

  auto vsmmu = make<VSmmu>(*announced, surroundings, bounds);
  if (!vsmmu) return no_memory();
  std::unique_ptr<AsidTable> asids;
  if (config.precise) {
    asids = AsidTable::create(instances.size(), narrow);
    vsmmu->held_ = HeldContexts::create(surroundings.domain, surroundings.hidden);
    if (!asids || !vsmmu->held_) return no_memory();
  }
  vsmmu->fanout_ = Fanout{std::move(backings),
                          instances.size(),
                          std::move(asids),
                          {.no_global_pages = config.precise && config.no_global_pages,
                           .late_events = config.late_events,
                           .widen = bounds.widen}};
  vsmmu->usual_va_ = rules::UsualVa{*announced, vsmmu->fanout_.ranges_everywhere()};
  return vsmmu;
}

// Gets `b` its tags, which join the domain; on failure perhaps only some of them.
std::expected<void, CreateFailure> VSmmu::join(Backing& b, stage2::S2Domain& domain, bool precise) {
  const auto fail = [&](stage2::Error error, std::string_view feature) {
    return std::unexpected{CreateFailure{error, b.port->name(), feature}};
  };
  if (const auto lacks = domain.incompatibility(b.port->capabilities()))
    return fail(stage2::Error::incompatible, stage2::to_string(*lacks));
  for (std::size_t kind = 0; kind < (precise ? kTagKinds : 1); ++kind) {
    auto tag = stage2::HostTag::create(*b.port);
    if (!tag) return fail(tag.error(), {});
    if (const auto ok = domain.attach(**tag); !ok) return fail(ok.error(), {});
    b.tags[kind] = std::move(*tag);
    domain.fill_stage2(*b.tags[kind], b.stage2[kind]);
  }
  return {};
}

VSmmu::VSmmu(const Announced& announced, const Surroundings& surroundings, const Bounds& bounds)
    : announced_{announced},
      memory_{surroundings.memory},
      drain_{surroundings.drain},
      domain_{surroundings.domain},
      bounds_{.commands = std::max(bounds.commands, 1u),
              .pushed = std::max(bounds.pushed, 1u),
              .polls = std::max(bounds.polls, 1u),
              .installs = std::max(bounds.installs, 1u),
              .events = std::max(bounds.events, 1u),
              .widen = bounds.widen},
      registers_{surroundings.pages, announced_},
      irqs_{announced_, registers_, lock_, surroundings.interrupts},
      usual_va_{announced_, false} {}

VSmmu::~VSmmu() { shutdown(); }

void VSmmu::reset() {
  const Ownership own{*this};
  irqs_.quiesce();
  {
    const SpinLock::Guard guard{lock_};
    registers_.reset();
  }
  queue_.stop();
  queue_.post(0);  // as CMDQ_PROD now reads
  (void)queue_.take_posted(false);
  cmdq_error_ = false;
  set_consuming();
  gbpa_applied_ = false;
  start_restream(Pending::cr0, 0, stream_count_);
  finish_all();
  terminate_stalls(nullptr);
  fanout_.flush();
}

void VSmmu::shutdown() {
  const Ownership own{*this};
  for (std::size_t i = 0; i < stream_count_; ++i) {
    // A tag that an STE may still carry is lost rather than given back dirty.
    if (!take_out(streams_[i])) (void)streams_[i].backing->tags[static_cast<std::size_t>(streams_[i].kind)].release();
  }
  irqs_.quiesce();
  {
    const SpinLock::Guard guard{lock_};
    stream_count_ = 0;
    registers_.reset();  // nothing is enabled any more
  }
  set_consuming();
  queue_.stop();
  fanout_.forget();
  held_.reset();  // while the tags still hear of what becomes unmapped
  for (Backing& b : fanout_.backings())
    for (auto& tag : b.tags)
      if (tag) domain_.detach(std::move(tag));
}

Counters VSmmu::counters() const {
  Counters c = counters_;
  c.syncs = c.commands[static_cast<std::size_t>(smmu::Opcode::SYNC)];
  c.exits = exits_.load(std::memory_order_relaxed);
  const SpinLock::Guard guard{lock_};
  c.events = events_;
  c.events_lost = events_lost_;
  c.stage2_faults = stage2_faults_;
  c.host_events = host_events_;
  c.stalls = stalls_seen_;
  c.stalls_killed = stalls_killed_;
  c.page_requests = page_requests_;
  c.page_requests_refused = page_requests_refused_;
  return c;
}

BackingCounters VSmmu::backing_counters(std::size_t i) const {
  BackingCounters c = fanout_.backings()[i].counters;
  if (fanout_.precise()) c.host_asids = fanout_.asids()->in_use(static_cast<unsigned>(i));
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
  return write_other(offset, size, value);
}

[[gnu::noinline]] Progress VSmmu::write_other(std::uint32_t offset, unsigned size, std::uint64_t value) {
  // Consumers never wait for commands.
  if (size == 4 && (offset == static_cast<std::uint32_t>(Reg::EVENTQ_CONS) ||
                    offset == static_cast<std::uint32_t>(Reg::PRIQ_CONS))) {
    {
      const SpinLock::Guard guard{lock_};
      (void)registers_.write(offset, size, value);
    }
    retry_stalls();
    return Progress::done;
  }
  if (try_own(Owner::store) != Owner::nobody) return Progress::again;
  const Progress progress = store(offset, size, value);
  disown();
  retry_stalls();  // the event queue may have become writable
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
    if (effect == Effect::irq_ctrl) irqs_.acknowledge();
  }
  set_consuming();
  switch (effect) {
    case Effect::none:
    case Effect::irq_ctrl:  // acknowledged above
    case Effect::evtq_cons:
    case Effect::priq_cons:
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
  if (!registers_.cr0().get<smmu::CR0::CMDQEN>() && registers_.cr0ack().get<smmu::CR0::CMDQEN>()) {
    publish_progress();  // CONS says what was consumed before the acknowledge (6.3.9.3)
    queue_.stop();
  }
  if (registers_.cr0().get<smmu::CR0::SMMUEN>() != registers_.cr0ack().get<smmu::CR0::SMMUEN>()) {
    start_restream(Pending::cr0, 0, stream_count_);
    if (!finish_pending(left)) return Progress::again;
  } else {
    acknowledge_cr0();
  }
  return consume(left);
}

void VSmmu::acknowledge_cr0() {
  if (registers_.cr0ack().get<smmu::CR0::SMMUEN>() && !registers_.cr0().get<smmu::CR0::SMMUEN>()) {
    terminate_stalls(nullptr);  // 6.3.9.6
    fanout_.flush();
  }
  const bool enabled = registers_.cr0().get<smmu::CR0::CMDQEN>();
  if (enabled && !registers_.cr0ack().get<smmu::CR0::CMDQEN>()) {
    const smmu::CMDQ_BASE base = registers_.cmdq_base();
    queue_.start(
        Ring::make(base.get<smmu::CMDQ_BASE::ADDR>(), base.get<smmu::CMDQ_BASE::LOG2SIZE>(), announced_.cmdq_log2(), 4),
        registers_.cmdq_cons().get<smmu::CMDQ_CONS::RD>());
  }
  {
    const SpinLock::Guard guard{lock_};
    registers_.acknowledge_cr0();
  }
  set_consuming();
}

void VSmmu::acknowledge_gbpa() {
  const SpinLock::Guard guard{lock_};
  gbpa_applied_ = registers_.gbpa().get<smmu::GBPA::ABORT>();
  registers_.acknowledge_gbpa();
}

}  // namespace weir::vsmmu
