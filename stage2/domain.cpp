#include "stage2/domain.hpp"

#include <algorithm>
#include <array>

#include "guest-abi/smmu/command.hpp"
#include "stage2/invalidate.hpp"

namespace weir::stage2 {

namespace {

// At most so many targets come and go with one STE.
class Targets {
 public:
  void add(const Target& target) { list_[size_++] = target; }
  [[nodiscard]] std::span<const Target> span() const { return std::span{list_}.first(size_); }

 private:
  std::array<Target, 3> list_;
  std::size_t size_ = 0;
};

void run(SmmuPort& smmu, const smmu::Command& command) { wait(smmu, smmu.issue_and_sync({&command, 1})); }

smmu::Ste aborting() { return smmu::Ste{}.set<smmu::Ste::V>(true).set<smmu::Ste::Config>(smmu::SteConfig::abort); }

}  // namespace

StreamUse StreamUse::of(const smmu::Ste& ste) {
  using smmu::Ste;
  if (!ste.get<Ste::V>() || smmu::is_abort(ste.get<Ste::Config>())) return {};
  return {.stage1 = smmu::translates_s1(ste.get<Ste::Config>()), .ats = ste.get<Ste::EATS>() != smmu::Eats::none};
}

std::expected<std::unique_ptr<S2Domain>, Error> S2Domain::create(const Geometry& geometry, TablePages& pages,
                                                                 Grace& grace, const Options& options) {
  auto table = Table::create(geometry, pages, options.table);
  if (!table) return std::unexpected{table.error()};
  auto array = InvalidationArray::empty();
  if (array == nullptr) return std::unexpected{Error::out_of_memory};
  TableClass first{.table = std::move(*table), .pages = pages, .cleaned = options.clean_to_memory, .reason = {}};
  auto domain = make<S2Domain>(std::move(first), std::move(array), grace, options);
  if (domain == nullptr) return std::unexpected{Error::out_of_memory};
  return domain;
}

S2Domain::~S2Domain() { delete array_.load(std::memory_order_relaxed); }

// --- Classes ---------------------------------------------------------------------------------------------------------

namespace {

// What a table that suits the instance is like: the first one's features, as far as the instance has them.
std::optional<Geometry> geometry_for(const Capabilities& capabilities, const Geometry& first) {
  const smmu::AddressSize size = capabilities.idr5.get<smmu::IDR5::OAS>();
  return Geometry::make(std::min(first.input_bits(), bits(size)), bits(size) < first.output_bits() ? size : first.ps());
}

Table::Options options_for(const Capabilities& capabilities, const Table::Options& first) {
  Table::Options own = first;
  own.bbml = std::min(first.bbml, static_cast<unsigned>(capabilities.idr3.get<smmu::IDR3::BBML>()));
  // Where the first table splits blocks, this one must be able to follow it.
  own.pages_only = first.pages_only || (first.bbml != 0 && own.bbml == 0);
  own.fwb = first.fwb && capabilities.idr3.get<smmu::IDR3::FWB>();
  own.dirty_state = first.dirty_state && keeps_dirty_state(capabilities);
  return own;
}

}  // namespace

std::optional<Incompatibility> S2Domain::incompatibility(const Capabilities& capabilities) const {
  if (const auto missing = lacks(capabilities)) return missing;
  const auto reason = first_.misfit(capabilities);
  if (!reason) return std::nullopt;
  if (!capabilities.idr0.get<smmu::IDR0::COHACC>() && !first_.cleaned && options_.cleaned == nullptr)
    return Incompatibility::not_coherent;
  const auto geometry = geometry_for(capabilities, first_.table->geometry());
  if (!geometry) return Incompatibility::input_too_small;
  const SpinLock::Guard guard{lock_};
  if (geometry->input_end() < highest_) return Incompatibility::input_too_small;
  if (geometry->output_end() < highest_pa_) return Incompatibility::output_too_small;
  return std::nullopt;
}

TableClass* S2Domain::suiting(const Capabilities& capabilities) {
  TableClass* found = &first_;
  while (found != nullptr && (found->log || found->misfit(capabilities))) found = found->next.get();
  return found;
}

void S2Domain::append(std::unique_ptr<TableClass> table_class) {
  TableClass* last = &first_;
  while (last->next != nullptr) last = last->next.get();
  last->next = std::move(table_class);
}

// Nobody else changes a table meanwhile (`change` is about everything), so this may be done without the lock.
std::expected<TableClass*, Error> S2Domain::make_class(const Capabilities& capabilities, Change& change) {
  const Table& first = *first_.table;
  const auto geometry = geometry_for(capabilities, first.geometry());
  const bool cleaned = first_.cleaned || !capabilities.idr0.get<smmu::IDR0::COHACC>();
  TablePages& pages = cleaned && !first_.cleaned ? *options_.cleaned : first_.pages;
  const std::uint64_t mapped = highest_.value;
  change.unlock();
  auto made = [&]() -> std::expected<std::unique_ptr<TableClass>, Error> {
    auto table = Table::create(*geometry, pages, options_for(capabilities, first.options()));
    if (!table) return std::unexpected{table.error()};
    if (mapped != 0)
      if (const auto copied = (*table)->copy(first, IPA{}, mapped); !copied) return std::unexpected{copied.error()};
    auto added = make<TableClass>(TableClass{
        .table = std::move(*table), .pages = pages, .cleaned = cleaned, .reason = first_.misfit(capabilities)});
    if (added == nullptr) return std::unexpected{Error::out_of_memory};
    return added;
  }();
  change.lock();
  if (!made) return std::unexpected{made.error()};
  TableClass* const added = made->get();
  append(std::move(*made));
  return added;
}

void S2Domain::remove(TableClass& table_class) {
  TableClass* before = &first_;
  while (before->next.get() != &table_class) before = before->next.get();
  before->next = std::move(table_class.next);
}

void S2Domain::fill_stage2(const HostTag& tag, smmu::Ste& ste) const { tag.table_class()->fill(tag.vmid(), ste); }

const Table& S2Domain::table_of(const HostTag& tag) const { return *tag.table_class()->table; }

unsigned S2Domain::class_of(const HostTag& tag) const {
  const SpinLock::Guard guard{lock_};
  unsigned number = 0;
  for (const TableClass* c = &first_; c != nullptr && c != tag.table_class(); c = c->next.get())
    if (!c->log) ++number;
  return number;
}

std::optional<S2Domain::ClassInfo> S2Domain::class_info(unsigned number) const {
  const SpinLock::Guard guard{lock_};
  const TableClass* c = &first_;
  while (c != nullptr && (c->log || number-- != 0)) c = c->next.get();
  if (c == nullptr) return std::nullopt;
  const Table::Options& options = c->table->options();
  return ClassInfo{.reason = c->reason,
                   .root = c->table->root(),
                   .table_pages = c->table->page_count(),
                   .tags = c->tags,
                   .input_bits = c->table->geometry().input_bits(),
                   .output_bits = c->table->geometry().output_bits(),
                   .bbml = options.bbml,
                   .fwb = options.fwb,
                   .cleaned = c->cleaned,
                   .dirty_state = options.dirty_state};
}

unsigned S2Domain::tag_count() const {
  const SpinLock::Guard guard{lock_};
  return tags_;
}

// --- The array -------------------------------------------------------------------------------------------------------

void S2Domain::publish(std::unique_ptr<InvalidationArray> next) {
  InvalidationArray* old = array_.exchange(next.release(), std::memory_order_acq_rel);
  // Before any STE is stored that relies on it. The other side is in invalidate().
  std::atomic_thread_fence(std::memory_order_seq_cst);
  grace_.retire(std::unique_ptr<Retired>{old});
}

std::expected<void, Error> S2Domain::reference(std::span<const Target> targets) {
  if (targets.empty()) return {};
  auto next = InvalidationArray::merge(*array_.load(std::memory_order_relaxed), targets);
  if (next == nullptr) return std::unexpected{Error::out_of_memory};
  publish(std::move(next));
  return {};
}

// Cannot fail: without memory for a shorter array, the dead entries stay until the next one.
void S2Domain::drop(std::span<const Target> targets) {
  InvalidationArray* array = array_.load(std::memory_order_relaxed);
  for (const Target& target : targets) array->unref(target);
  if (!array->has_dead()) return;
  if (auto next = InvalidationArray::purge(*array); next != nullptr) publish(std::move(next));
}

// --- Tags and streams ------------------------------------------------------------------------------------------------

std::expected<void, Error> S2Domain::attach(HostTag& tag) {
  const Capabilities& capabilities = tag.smmu().capabilities();
  if (incompatibility(capabilities)) return std::unexpected{Error::incompatible};
  // Alone: a table that is half through a change neither gets its first walker nor is copied.
  Change change{changes_, Span::of(IPA{}, ~std::uint64_t{0})};
  TableClass* joined = suiting(capabilities);
  if (joined == nullptr) {
    const auto made = make_class(capabilities, change);
    if (!made) return std::unexpected{made.error() == Error::out_of_range ? Error::incompatible : made.error()};
    joined = *made;
  }
  const Target target = Target::tag(tag.smmu(), TargetKind::s2_tag, tag.vmid());
  if (const auto added = reference({&target, 1}); !added) {
    if (joined->tags == 0 && joined != &first_) remove(*joined);
    return added;
  }
  ++tags_;
  unseen_ = unseen_ || !joined->table->options().dirty_state;
  if (joined->tags++ == 0) joined->table->set_walked(true);
  tag.joined(joined);
  return {};
}

void S2Domain::detach(std::unique_ptr<HostTag> tag) {
  // No STE carries the VMID, so it stays clean.
  run(tag->smmu(), smmu::tlbi_s12_vmall(tag->vmid()));
  const Target nested = Target::tag(tag->smmu(), TargetKind::nested_clear, tag->vmid());
  Targets gone;
  gone.add(Target::tag(tag->smmu(), TargetKind::s2_tag, tag->vmid()));
  {
    // Alone, as in attach().
    Change change{changes_, Span::of(IPA{}, ~std::uint64_t{0})};
    if (array_.load(std::memory_order_relaxed)->users(nested) != 0) gone.add(nested);
    drop(gone.span());
    --tags_;
    TableClass& left = *tag->table_class();
    if (--left.tags == 0) {
      left.table->set_walked(false);
      if (&left != &first_) remove(left);
    }
    tag->joined(nullptr);
    tag->flushed();
  }
  grace_.retire(std::move(tag));
}

std::expected<void, Error> S2Domain::install(HostTag& tag, StreamID sid, std::optional<StreamUse> before,
                                             const smmu::Ste& ste, bool answers) {
  const StreamUse use = StreamUse::of(ste);
  const StreamUse old = before.value_or(StreamUse{});
  SmmuPort& smmu = tag.smmu();
  const Target nested = Target::tag(smmu, TargetKind::nested_clear, tag.vmid());
  const Target stage1 = Target::stream(smmu, TargetKind::stage1_stream, sid);
  const Target ats = Target::stream(smmu, TargetKind::ats_stream, sid);

  StreamChange change{streams_, {&smmu, sid}};
  if (use.ats && !smmu.atc_answers(sid)) return std::unexpected{Error::no_answer};
  Targets added;
  if (use.stage1 && !old.stage1) added.add(stage1);
  // Stays until the tag leaves: combined entries may outlive the streams that made them.
  const bool nests = use.stage1;
  if (nests && !tag.nests()) added.add(nested);
  if (use.ats && !old.ats) added.add(ats);
  if (const auto published = reference(added.span()); !published) return published;
  tag.dirty();
  if (nests) tag.nest();
  change.unlock();

  auto installed = smmu.install_ste(sid, ste);
  // A change of stage 2 may have had no answer from the device meanwhile, before it was in the array that the change had
  // loaded: nobody else would cut it off.
  const bool silent = installed && use.ats && !smmu.atc_answers(sid);
  if (silent) {
    static_cast<void>(smmu.install_ste(sid, aborting()));  // an entry that exists is replaced without memory
    installed = std::unexpected{Error::no_answer};
  }
  // Else what the device still holds would be valid again when ATS is, and nobody would have told it of changes.
  if (installed && old.ats && !use.ats && answers) run(smmu, smmu::atc_inv_all(sid));

  change.lock();
  Targets removed;
  if (!installed) {
    for (const Target& target : added.span())
      if (target != nested) removed.add(target);
    // Nothing that nests was ever installed under the tag, nor is about to be.
    if (nests && !silent && tag.unnest()) removed.add(nested);
  } else {
    if (!before) tag.use();
    if (old.stage1 && !use.stage1) removed.add(stage1);
    if (old.ats && !use.ats) removed.add(ats);
  }
  drop(removed.span());
  return installed;
}

std::expected<void, Error> S2Domain::uninstall(HostTag& tag, StreamID sid, StreamUse before, const smmu::Ste& ste,
                                               bool answers) {
  SmmuPort& smmu = tag.smmu();
  StreamChange change{streams_, {&smmu, sid}};
  change.unlock();
  if (const auto installed = smmu.install_ste(sid, ste); !installed) return installed;
  if (before.ats && answers) run(smmu, smmu::atc_inv_all(sid));
  change.lock();
  tag.unuse();
  Targets removed;
  if (before.stage1) removed.add(Target::stream(smmu, TargetKind::stage1_stream, sid));
  if (before.ats) removed.add(Target::stream(smmu, TargetKind::ats_stream, sid));
  drop(removed.span());
  return {};
}

// The device did not answer an ATC_INV, and may go on with what it holds: it is cut off before anybody counts on it.
// Whoever owns the stream hears of it, too, and installs an aborting STE of his own.
void S2Domain::cut_off(const Target& stream) {
  StreamChange change{streams_, {stream.smmu, stream.sid()}};
  // It may have left the domain, even have another owner by now; then it is no longer ours to stop. Whoever took it out
  // has installed an STE without ATS.
  const InvalidationArray& array = *array_.load(std::memory_order_relaxed);
  if (array.users(stream) == 0 || stream.smmu->atc_answers(stream.sid())) return;
  change.unlock();
  static_cast<void>(stream.smmu->install_ste(stream.sid(), aborting()));
}

// --- Mappings --------------------------------------------------------------------------------------------------------

void S2Domain::invalidate(IPA ipa, std::uint64_t bytes, bool leaf_only) {
  // The descriptors are written (and published) before the array is loaded: a tag that is published too late to be in it
  // will walk the new ones.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  InvalidationArray* array = nullptr;
  {
    // Nobody's grace period is to be as long as the slowest instance: the array is held, and the section ends at once.
    const Grace::ReadSection section{grace_};
    array = array_.load(std::memory_order_acquire);
    array->hold();
  }
  const InvalidationRange range{
      .ipa = ipa, .bytes = bytes, .leaf_only = leaf_only, .max_commands = options_.max_range_commands};
  if (stage2::invalidate(*array, range, options_.cpu)) {
    for (const InvalidationArray::Group& group : array->groups())
      for (std::uint32_t i = group.ats; i < group.end; ++i)
        if (const Target& stream = array->entries()[i].target; !stream.smmu->atc_answers(stream.sid())) cut_off(stream);
  }
  array->put();
}

// What a change has taken out of the tables of all classes.
class S2Domain::Gone {
 public:
  explicit Gone(TablePages& first) : first_{first} {}
  [[nodiscard]] RetiredPages& of(TableClass& c) {
    if (&c.pages == &first_) return plain_;
    others_ = &c.pages;  // there are no more kinds than two
    return cleaned_;
  }
  [[nodiscard]] bool empty() const { return plain_.empty() && cleaned_.empty(); }
  void release() {
    plain_.release(first_);
    if (others_ != nullptr) cleaned_.release(*others_);
  }

 private:
  TablePages& first_;
  TablePages* others_ = nullptr;
  RetiredPages plain_;
  RetiredPages cleaned_;
};

// After it, a change of the range cannot fail half way through the classes. On failure what is mapped is as it was, though
// perhaps by smaller blocks.
std::expected<void, Error> S2Domain::prepare(IPA ipa, std::uint64_t bytes, Change& change) {
  // BBML 1: blocks that are about to be split are marked, and the TLBs' copies of them removed, first.
  bool marked = false;
  for (TableClass* c = &first_; c != nullptr; c = c->next.get()) marked = c->table->prepare_split(ipa, bytes) || marked;
  if (marked) {
    change.unlock();
    invalidate(ipa, bytes, true);
    change.lock();
  }
  if (first_.next == nullptr) return {};
  // A log that is not filled yet must be able to follow.
  if (TableClass* const log = own_log(); log != nullptr)
    if (const auto copied = log->table->copy(*first_.table, ipa, bytes); !copied)
      return std::unexpected{copied.error()};
  for (TableClass* c = &first_; c != nullptr; c = c->next.get())
    if (const auto split = c->table->split(ipa, bytes); !split) return split;
  return {};
}

void S2Domain::finish(IPA ipa, std::uint64_t bytes, Gone& gone, Change& change) {
  const bool leaf_only = gone.empty();
  if (!leaf_only) {
    // Walk caches may know tables that are gone, which have covered more than the range: no new one takes the place of
    // one before that is over. A root slot is the most that one can have covered.
    const std::uint64_t slot = level_size(first_.table->geometry().start_level());
    change.what.from = ipa.align_down(slot);
    change.what.to = (ipa + (bytes - 1)).align_down(slot) + slot;
  }
  change.unlock();
  invalidate(ipa, bytes, leaf_only);
  grace_.synchronize();
  gone.release();
}

std::expected<void, Error> S2Domain::map(IPA ipa, PA pa, std::uint64_t bytes, const Attributes& attributes) {
  Change change{changes_, Span::of(ipa, bytes)};
  for (TableClass* c = &first_; c != nullptr; c = c->next.get()) {
    const auto mapped = c->table->map(ipa, pa, bytes, attributes);
    if (mapped) continue;
    if (c == &first_) return mapped;
    // Where it was mapped, it may have been walked already. What was mapped in one piece takes no memory to unmap.
    Gone gone{first_.pages};
    for (TableClass* undo = &first_; undo != c; undo = undo->next.get())
      static_cast<void>(undo->table->unmap(ipa, bytes, gone.of(*undo)));
    finish(ipa, bytes, gone, change);
    return mapped;
  }
  lowest_ = std::min(lowest_, ipa);
  highest_ = std::max(highest_, ipa + bytes);
  highest_pa_ = std::max(highest_pa_, pa + bytes);
  return {};
}

std::expected<void, Error> S2Domain::unmap(IPA ipa, std::uint64_t bytes) {
  Change change{changes_, Span::of(ipa, bytes)};
  if (const auto prepared = prepare(ipa, bytes, change); !prepared) return prepared;
  Gone gone{first_.pages};
  for (TableClass* c = &first_; c != nullptr; c = c->next.get())
    if (const auto unmapped = c->table->unmap(ipa, bytes, gone.of(*c)); !unmapped) return unmapped;
  finish(ipa, bytes, gone, change);
  return {};
}

std::expected<void, Error> S2Domain::protect(IPA ipa, std::uint64_t bytes, const Attributes& attributes) {
  Change change{changes_, Span::of(ipa, bytes)};
  if (const auto prepared = prepare(ipa, bytes, change); !prepared) return prepared;
  for (TableClass* c = &first_; c != nullptr; c = c->next.get())
    if (const auto changed = c->table->protect(ipa, bytes, attributes); !changed) return changed;
  Gone gone{first_.pages};
  finish(ipa, bytes, gone, change);
  return {};
}

// --- Dirty log -------------------------------------------------------------------------------------------------------

TableClass* S2Domain::own_log() const {
  TableClass* c = first_.next.get();
  while (c != nullptr && !c->log) c = c->next.get();
  return c;
}

bool S2Domain::log_sees_devices() const {
  const SpinLock::Guard guard{lock_};
  return !unseen_;
}

const Table& S2Domain::logged() const {
  const SpinLock::Guard guard{lock_};
  const TableClass* const log = own_log();
  return log == nullptr ? *first_.table : *log->table;
}

std::expected<void, Error> S2Domain::begin_log() {
  {
    const SpinLock::Guard guard{lock_};
    unseen_ = false;
    for (const TableClass* c = &first_; c != nullptr; c = c->next.get())
      unseen_ = unseen_ || (c->tags != 0 && !c->table->options().dirty_state);
  }
  const Table::Options& first = first_.table->options();
  if (first.dirty_state) return {};
  auto table = Table::create(first_.table->geometry(), first_.pages,
                             {.pages_only = true, .bbml = first.bbml, .fwb = first.fwb, .dirty_state = true});
  if (!table) return std::unexpected{table.error()};
  (*table)->set_walked(true);
  auto log = make<TableClass>(TableClass{
      .table = std::move(*table), .pages = first_.pages, .cleaned = first_.cleaned, .reason = {}, .log = true});
  if (log == nullptr) return std::unexpected{Error::out_of_memory};
  // Alone: it follows changes from their beginning.
  Change change{changes_, Span::of(IPA{}, ~std::uint64_t{0})};
  append(std::move(log));
  return {};
}

std::expected<std::uint64_t, Error> S2Domain::copy_to_log(IPA ipa, std::uint64_t bytes, std::uint64_t most) {
  Change change{changes_, Span::of(ipa, bytes)};
  TableClass* const log = own_log();
  if (log == nullptr) return bytes;
  return log->table->copy(*first_.table, ipa, bytes, most);
}

std::expected<void, Error> S2Domain::share_log(Table& sharer, IPA ipa, std::uint64_t bytes) {
  const SpinLock::Guard guard{lock_};
  TableClass* const log = own_log();
  return (log == nullptr ? first_ : *log).table->share_root(sharer, ipa, bytes);
}

// For the tables that keep the log, until one fails.
template <typename Fn>
std::expected<void, Error> S2Domain::for_each_log(Fn&& fn) {
  if (TableClass* const log = own_log(); log != nullptr) return fn(*log->table);
  if (!first_.table->options().dirty_state) return std::unexpected{Error::incompatible};
  for (TableClass* c = &first_; c != nullptr; c = c->next.get())
    if (c->table->options().dirty_state)
      if (const auto done = fn(*c->table); !done) return done;
  return {};
}

void S2Domain::finish_log(IPA ipa, std::uint64_t bytes, Change& change) {
  const bool cpus_only = own_log() != nullptr;
  change.unlock();
  if (!cpus_only) return invalidate(ipa, bytes, true);
  if (options_.cpu != nullptr) options_.cpu->invalidate(ipa, bytes, true);
}

std::expected<void, Error> S2Domain::start_log(IPA ipa, std::uint64_t bytes) {
  Change change{changes_, Span::of(ipa, bytes)};
  bool marked = false;
  auto started = for_each_log([&](Table& table) -> std::expected<void, Error> {
    marked = table.prepare_log(ipa, bytes) || marked;
    return {};
  });
  if (marked) {
    finish_log(ipa, bytes, change);
    change.lock();
  }
  if (started) started = for_each_log([&](Table& table) { return table.start_log(ipa, bytes); });
  if (!started) {
    // Those that had begun have only kept a log for a while.
    static_cast<void>(for_each_log([&](Table& table) { return table.stop_log(ipa, bytes); }));
  }
  finish_log(ipa, bytes, change);
  return started;
}

std::expected<void, Error> S2Domain::collect_dirty(IPA ipa, std::size_t pages, std::span<std::uint64_t> dirty) {
  const std::uint64_t bytes = pages > ~std::uint64_t{0} / kPage4K ? ~std::uint64_t{0} : pages * kPage4K;
  Change change{changes_, Span::of(ipa, bytes)};
  std::size_t cleaned = 0;
  const auto collected = for_each_log([&](Table& table) -> std::expected<void, Error> {
    const auto found = table.collect_dirty(ipa, pages, dirty);
    if (!found) return std::unexpected{found.error()};
    cleaned += *found;
    return {};
  });
  // Before the pages are read: a TLB entry that says dirty would let a write go unseen.
  if (cleaned != 0) finish_log(ipa, bytes, change);
  return collected;
}

std::expected<void, Error> S2Domain::stop_log(IPA ipa, std::uint64_t bytes) {
  Change change{changes_, Span::of(ipa, bytes)};
  if (TableClass* const log = own_log(); log != nullptr) {
    Gone gone{first_.pages};
    if (const auto unmapped = log->table->unmap(ipa, bytes, gone.of(*log)); !unmapped) return unmapped;
    change.unlock();
    grace_.synchronize();
    gone.release();
    return {};
  }
  if (const auto stopped = for_each_log([&](Table& table) { return table.stop_log(ipa, bytes); }); !stopped)
    return stopped;
  finish_log(ipa, bytes, change);
  return {};
}

void S2Domain::end_log() {
  {
    Change change{changes_, Span::of(IPA{}, ~std::uint64_t{0})};
    static_cast<void>(for_each_log([](Table& table) -> std::expected<void, Error> {
      table.end_log();
      return {};
    }));
    // EL2 may be looking at it.
    change.unlock();
    grace_.synchronize();
    change.lock();
    if (TableClass* const log = own_log(); log != nullptr) remove(*log);
  }
}

// ---------------------------------------------------------------------------------------------------------------------

std::expected<void, Error> S2Domain::share_root(Table& sharer, IPA ipa, std::uint64_t bytes) {
  const SpinLock::Guard guard{lock_};
  return first_.table->share_root(sharer, ipa, bytes);
}

void S2Domain::unshare_root(Table& sharer) {
  const SpinLock::Guard guard{lock_};
  for (TableClass* c = &first_; c != nullptr; c = c->next.get()) c->table->unshare_root(sharer);
}

std::optional<Mapping> S2Domain::lookup(IPA ipa) const {
  const SpinLock::Guard guard{lock_};
  return first_.table->lookup(ipa);
}

bool S2Domain::check_invariants() const {
  const SpinLock::Guard guard{lock_};
  unsigned tags = 0;
  for (const TableClass* c = &first_; c != nullptr; c = c->next.get()) {
    if (!c->table->check_invariants() || (c != &first_ && !c->log && c->tags == 0)) return false;
    tags += c->tags;
    if (c == &first_ || c->log) continue;  // which need not be filled yet
    for (IPA at = lowest_; at < highest_;) {
      const auto a = first_.table->lookup(at);
      const auto b = c->table->lookup(at);
      if (a.has_value() != b.has_value()) return false;
      if (a && (a->at != b->at || a->attributes != b->attributes)) return false;
      at = a ? at.align_down(level_size(std::max(a->level, b->level))) + level_size(std::max(a->level, b->level))
             : at + kPage4K;
    }
  }
  return tags == tags_;
}

}  // namespace weir::stage2
