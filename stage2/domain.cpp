#include "stage2/domain.hpp"

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

}  // namespace

std::string_view to_string(Incompatibility reason) {
  switch (reason) {
    case Incompatibility::no_stage2: return "stage 2 (IDR0.S2P)";
    case Incompatibility::no_nesting: return "nesting (IDR0.S1P with IDR0.S2P)";
    case Incompatibility::no_aarch64_tables: return "AArch64 translation tables (IDR0.TTF)";
    case Incompatibility::no_granule_4k: return "the 4 KiB granule (IDR5.GRAN4K)";
    case Incompatibility::input_too_small: return "an input size that covers the VM's address space (IDR5.OAS)";
    case Incompatibility::output_too_small: return "an output size that covers the VM's memory (IDR5.OAS)";
    case Incompatibility::big_endian: return "little-endian table walks (IDR0.TTENDIAN)";
    case Incompatibility::not_coherent: return "coherent table walks (IDR0.COHACC)";
    case Incompatibility::bbml_too_low: return "the domain's break-before-make level (IDR3.BBML)";
  }
  return "?";
}

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
  auto domain = make<S2Domain>(std::move(*table), std::move(array), grace, options);
  if (domain == nullptr) return std::unexpected{Error::out_of_memory};
  return domain;
}

S2Domain::~S2Domain() { delete array_.load(std::memory_order_relaxed); }

std::optional<Incompatibility> S2Domain::incompatibility(const Capabilities& capabilities) const {
  using namespace smmu;
  const auto& [idr0, idr1, idr3, idr5] = capabilities;
  if (!idr0.get<IDR0::S2P>()) return Incompatibility::no_stage2;
  if (!idr0.get<IDR0::S1P>()) return Incompatibility::no_nesting;
  const auto format = idr0.get<IDR0::TTF>();
  if (format != TtFormat::aarch64 && format != TtFormat::both) return Incompatibility::no_aarch64_tables;
  if (!idr5.get<IDR5::GRAN4K>()) return Incompatibility::no_granule_4k;
  const unsigned size = bits(idr5.get<IDR5::OAS>());
  if (size < table_->geometry().input_bits()) return Incompatibility::input_too_small;
  if (size < table_->geometry().output_bits()) return Incompatibility::output_too_small;
  if (idr0.get<IDR0::TTENDIAN>() == TtEndian::big) return Incompatibility::big_endian;
  if (!idr0.get<IDR0::COHACC>() && !options_.clean_to_memory) return Incompatibility::not_coherent;
  if (idr3.get<IDR3::BBML>() < options_.table.bbml) return Incompatibility::bbml_too_low;
  return std::nullopt;
}

const Table& S2Domain::table_of(const HostTag&) const { return *table_; }
unsigned S2Domain::class_of(const HostTag&) const { return 0; }

std::optional<S2Domain::ClassInfo> S2Domain::class_info(unsigned number) const {
  if (number != 0) return std::nullopt;
  const SpinLock::Guard guard{lock_};
  return ClassInfo{.root = table_->root(),
                   .table_pages = table_->page_count(),
                   .tags = tags_,
                   .input_bits = table_->geometry().input_bits(),
                   .output_bits = table_->geometry().output_bits(),
                   .bbml = options_.table.bbml,
                   .cleaned = options_.clean_to_memory};
}

void S2Domain::fill_stage2(const HostTag& tag, smmu::Ste& ste) const {
  using namespace smmu;
  const VMID vmid = tag.vmid();
  const Geometry& geometry = table_->geometry();
  // Walks of an instance that does not snoop read what was cleaned to memory.
  const auto walks = options_.clean_to_memory ? WalkCacheability::non_cacheable : WalkCacheability::write_back_ra_wa;
  ste.set<Ste::S2VMID>(vmid)
      .set<Ste::S2T0SZ>(geometry.t0sz())
      .set<Ste::S2SL0>(geometry.sl0())
      .set<Ste::S2IR0>(walks)
      .set<Ste::S2OR0>(walks)
      .set<Ste::S2SH0>(Shareability::inner)
      .set<Ste::S2TG>(Granule0::size4k)
      .set<Ste::S2PS>(geometry.ps())
      .set<Ste::S2AA64>(true)
      .set<Ste::S2ENDI>(false)
      .set<Ste::S2AFFD>(true)  // no software access flag: AF is set in every descriptor anyway
      .set<Ste::S2R>(true)     // faults are recorded,
      .set<Ste::S2S>(false)    // never stalled
      .set<Ste::S2TTB>(table_->root());
  // Not used, and each of them ILLEGAL or of another meaning where set.
  ste.set<Ste::S2PTW>(false).set<Ste::S2HA>(false).set<Ste::S2HD>(false).set<Ste::S2HAFT>(false);
  ste.set<Ste::S2PIE>(false).set<Ste::S2POE>(false).set<Ste::S2POI>(0).set<Ste::DPT_VMATCH>(0);
  ste.set<Ste::S2SL0_2>(false).set<Ste::S2DS>(false).set<Ste::S2SKL>(0).set<Ste::S2FWB>(false);
  ste.set<Ste::S2NSW>(false).set<Ste::S2NSA>(false);
  ste.set<Ste::S2HWU59>(false).set<Ste::S2HWU60>(false).set<Ste::S2HWU61>(false).set<Ste::S2HWU62>(false);
}

// --- The array -------------------------------------------------------------------------------------------------------

void S2Domain::publish(std::unique_ptr<InvalidationArray> next) {
  InvalidationArray* old = array_.exchange(next.release(), std::memory_order_acq_rel);
  // Before any STE is stored that relies on it.
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
  if (incompatibility(tag.smmu().capabilities())) return std::unexpected{Error::incompatible};
  const SpinLock::Guard guard{lock_};
  const Target target = Target::tag(tag.smmu(), TargetKind::s2_tag, tag.vmid());
  if (const auto added = reference({&target, 1}); !added) return added;
  if (tags_++ == 0) table_->set_walked(true);
  return {};
}

void S2Domain::detach(std::unique_ptr<HostTag> tag) {
  const SpinLock::Guard guard{lock_};
  run(tag->smmu(), smmu::tlbi_s12_vmall(tag->vmid()));
  tag->flushed();
  const Target nested = Target::tag(tag->smmu(), TargetKind::nested_clear, tag->vmid());
  Targets gone;
  gone.add(Target::tag(tag->smmu(), TargetKind::s2_tag, tag->vmid()));
  if (array_.load(std::memory_order_relaxed)->users(nested) != 0) gone.add(nested);
  drop(gone.span());
  if (--tags_ == 0) table_->set_walked(false);
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

  const SpinLock::Guard guard{lock_};
  // Under the lock: a change of stage 2 that found this out has cut the device off, and that must last.
  if (use.ats && !smmu.atc_answers(sid)) return std::unexpected{Error::no_answer};
  Targets added;
  if (use.stage1 && !old.stage1) added.add(stage1);
  // Stays until the tag leaves: combined entries may outlive the streams that made them.
  if (use.stage1 && array_.load(std::memory_order_relaxed)->users(nested) == 0) added.add(nested);
  if (use.ats && !old.ats) added.add(ats);
  if (const auto published = reference(added.span()); !published) return published;

  tag.dirty();
  if (const auto installed = smmu.install_ste(sid, ste); !installed) {
    drop(added.span());
    return installed;
  }
  if (!before) tag.use();

  Targets removed;
  if (old.stage1 && !use.stage1) removed.add(stage1);
  if (old.ats && !use.ats) {
    // Else what the device still holds would be valid again when ATS is, and nobody would have told it of changes.
    if (answers) run(smmu, smmu::atc_inv_all(sid));
    removed.add(ats);
  }
  drop(removed.span());
  return {};
}

std::expected<void, Error> S2Domain::uninstall(HostTag& tag, StreamID sid, StreamUse before, const smmu::Ste& ste,
                                               bool answers) {
  SmmuPort& smmu = tag.smmu();
  const SpinLock::Guard guard{lock_};
  if (const auto installed = smmu.install_ste(sid, ste); !installed) return installed;
  tag.unuse();
  Targets removed;
  if (before.stage1) removed.add(Target::stream(smmu, TargetKind::stage1_stream, sid));
  if (before.ats) {
    if (answers) run(smmu, smmu::atc_inv_all(sid));
    removed.add(Target::stream(smmu, TargetKind::ats_stream, sid));
  }
  drop(removed.span());
  return {};
}

// --- Mappings --------------------------------------------------------------------------------------------------------

void S2Domain::invalidate(IPA ipa, std::uint64_t bytes, bool leaf_only) {
  const InvalidationRange range{
      .ipa = ipa, .bytes = bytes, .leaf_only = leaf_only, .max_commands = options_.max_range_commands};
  // The descriptors are written (and published) before the array is read: a tag that is published too late to be in it
  // will walk the new ones.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const Grace::ReadSection section{grace_};
  stage2::invalidate(*array_.load(std::memory_order_acquire), range);
}

// BBML 1: blocks that are about to be split are marked, and the TLBs' copies of them removed, first.
void S2Domain::prepare_split(IPA ipa, std::uint64_t bytes) {
  if (table_->prepare_split(ipa, bytes)) invalidate(ipa, bytes, true);
}

std::expected<void, Error> S2Domain::map(IPA ipa, PA pa, std::uint64_t bytes, const Attributes& attributes) {
  const SpinLock::Guard guard{lock_};
  return table_->map(ipa, pa, bytes, attributes);
}

std::expected<void, Error> S2Domain::unmap(IPA ipa, std::uint64_t bytes) {
  const SpinLock::Guard guard{lock_};
  prepare_split(ipa, bytes);
  RetiredPages retired;
  if (const auto unmapped = table_->unmap(ipa, bytes, retired); !unmapped) return unmapped;
  invalidate(ipa, bytes, retired.empty());
  if (options_.cpu != nullptr) options_.cpu->invalidate(ipa, bytes, retired.empty());
  table_->release(retired);
  return {};
}

std::expected<void, Error> S2Domain::protect(IPA ipa, std::uint64_t bytes, const Attributes& attributes) {
  const SpinLock::Guard guard{lock_};
  prepare_split(ipa, bytes);
  if (const auto changed = table_->protect(ipa, bytes, attributes); !changed) return changed;
  invalidate(ipa, bytes, true);
  if (options_.cpu != nullptr) options_.cpu->invalidate(ipa, bytes, true);
  return {};
}

std::expected<void, Error> S2Domain::share_root(Table& sharer, IPA ipa, std::uint64_t bytes) {
  const SpinLock::Guard guard{lock_};
  return table_->share_root(sharer, ipa, bytes);
}

void S2Domain::unshare_root(Table& sharer) {
  const SpinLock::Guard guard{lock_};
  table_->unshare_root(sharer);
}

std::optional<Mapping> S2Domain::lookup(IPA ipa) const {
  const SpinLock::Guard guard{lock_};
  return table_->lookup(ipa);
}

}  // namespace weir::stage2
