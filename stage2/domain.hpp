// The stage-2 domain of a VM: its IPA -> PA space as DMA sees it. One table that the physical SMMUs carrying the VM's
// devices point at (and further ones over the same space, for instances that it does not suit), and the list of what a
// change of it must invalidate.
//
// Safe to call from several pCPUs. No lock is held while hardware is waited for: what is under way is registered, and
// only what conflicts with it waits. Changes of ranges that do not overlap run side by side, and so do streams.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "guest-abi/smmu/ste.hpp"
#include "guest-abi/types.hpp"
#include "stage2/cpu_tlb.hpp"
#include "stage2/geometry.hpp"
#include "stage2/in_progress.hpp"
#include "stage2/invalidation_array.hpp"
#include "stage2/port.hpp"
#include "stage2/retire.hpp"
#include "stage2/support/make.hpp"
#include "stage2/support/spinlock.hpp"
#include "stage2/table.hpp"
#include "stage2/table_class.hpp"
#include "stage2/tag.hpp"

namespace weir::stage2 {

// What a stream's STE makes necessary on a change of stage 2.
struct StreamUse {
  bool stage1 = false;  // Config has stage 1: combined TLB entries, and CDs fetched through stage 2
  bool ats = false;     // EATS: the device may hold translations

  [[nodiscard]] static StreamUse of(const smmu::Ste& ste);
  friend constexpr bool operator==(const StreamUse&, const StreamUse&) = default;
};

class S2Domain {
 public:
  struct Options {
    Table::Options table;          // of the first table
    bool clean_to_memory = false;  // `pages` publishes to the point of coherency: walkers need not be coherent
    // Publishes to the point of coherency, for instances whose walks are not coherent if `pages` does not; nullptr: they
    // are refused then. Outlives the domain.
    TablePages* cleaned = nullptr;
    CpuTlb* cpu = nullptr;  // the pCPUs' part of each invalidation; outlives the domain. See set_cpu().
    // Above this number of commands for one change, the whole tag is invalidated instead.
    unsigned max_range_commands = 64;
  };

  // Errors: out_of_memory. `pages` and `grace` outlive the domain.
  [[nodiscard, gnu::cold]] static std::expected<std::unique_ptr<S2Domain>, Error> create(const Geometry& geometry,
                                                                                         TablePages& pages,
                                                                                         Grace& grace,
                                                                                         const Options& options);
  // All tags are detached.
  [[gnu::cold]] ~S2Domain();
  S2Domain(const S2Domain&) = delete;
  S2Domain& operator=(const S2Domain&) = delete;

  // No value: an instance with these capabilities may join. Otherwise what it lacks even for a table of its own.
  [[nodiscard]] std::optional<Incompatibility> incompatibility(const Capabilities& capabilities) const;

  // A tag of a compatible instance joins: from now on changes of stage 2 reach it. Before any STE carries its VMID. If no
  // table suits the instance, it gets a class of its own, with everything that is mapped.
  // Errors, with nothing changed: incompatible, out_of_memory.
  [[nodiscard, gnu::cold]] std::expected<void, Error> attach(HostTag& tag);
  // The tag leaves: flushes it (S12_VMALL + SYNC), unpublishes it, and gives it up to the grace period, after which its
  // VMID is free. No stream is installed under it any more (uninstall() each of them first).
  [[gnu::cold]] void detach(std::unique_ptr<HostTag> tag);

  // Installs `ste` for the stream `sid`, in the right order: what it needs is published first, the STE stored and
  // SYNCed, then what only the old one needed is dropped. `before`: the use of the STE that is installed now (no value:
  // none of this domain is). `ste` already holds the stage-2 fields (fill_stage2). Where the new STE has no ATS and the
  // old one had, the device's own translations are invalidated after the STE has gone, and before anybody stops
  // invalidating them; but for a device that is known not to answer (`answers`), which then must not be given ATS again
  // before it has been reset. Errors, with the old STE still in place: out_of_memory, no_such_stream, no_answer; but after
  // no_answer the stream may abort instead, because a change of stage 2 has cut it off meanwhile.
  // One stream is installed by one pCPU at a time; different streams side by side.
  [[nodiscard]] std::expected<void, Error> install(HostTag& tag, StreamID sid, std::optional<StreamUse> before,
                                                   const smmu::Ste& ste, bool answers = true);
  // The stream leaves the tag: installs `ste`, which does not use this domain (an aborting one), then drops `before`.
  // Errors as above.
  [[nodiscard]] std::expected<void, Error> uninstall(HostTag& tag, StreamID sid, StreamUse before, const smmu::Ste& ste,
                                                     bool answers = true);

  // Writes the stage-2 half of an STE (IHI 0070 5.2): the same for all STEs of one VMID, as 5.2.1 demands. V, Config
  // and the stage-1 fields are left alone.
  void fill_stage2(const HostTag& tag, smmu::Ste& ste) const;
  // The table that the STEs of an attached tag point at.
  [[nodiscard]] const Table& table_of(const HostTag& tag) const;

  // As Table::map, in every class; needs no invalidation. Waits while what was in the range before is invalidated.
  [[nodiscard]] std::expected<void, Error> map(IPA ipa, PA pa, std::uint64_t bytes, const Attributes& attributes);
  // As Table::unmap, in every class. When it returns no device reaches the range any more on any instance, through no
  // cache, nor does a pCPU's TLB (Options::cpu), nor what EL2 had found in the tables in a read section; freed table
  // pages are back. Called with no lock held that a read section, or Options::cpu, may want.
  [[nodiscard]] std::expected<void, Error> unmap(IPA ipa, std::uint64_t bytes);
  // As Table::protect, with the same invalidation.
  [[nodiscard]] std::expected<void, Error> protect(IPA ipa, std::uint64_t bytes, const Attributes& attributes);
  [[nodiscard]] std::optional<Mapping> lookup(IPA ipa) const;

  // Classes of instances, each with its table over the same IPA space. Class 0 is always there; the others are made
  // for instances that its table does not suit, and go with their last tag.
  struct ClassInfo {
    std::optional<Incompatibility> reason;  // why it is not class 0
    PA root;
    std::size_t table_pages = 0;  // 4 KiB each
    unsigned tags = 0;
    unsigned input_bits = 0;
    unsigned output_bits = 0;
    unsigned bbml = 0;
    bool fwb = false;          // its STEs have S2FWB
    bool cleaned = false;      // its table is walked past the caches
    bool dirty_state = false;  // and S2HD: hardware keeps dirty state
  };
  // No value: there are no more.
  [[nodiscard]] std::optional<ClassInfo> class_info(unsigned number) const;
  // The number of the class that an attached tag is in.
  [[nodiscard]] unsigned class_of(const HostTag& tag) const;

  // --- Dirty log (see Table) ---
  // Where class 0's table keeps dirty state (Options::table), so may the classes, and the log is of them all. Where it does
  // not, the log has a table of its own for the CPUs: begin_log() makes it, copy_to_log() fills it in steps of the caller's
  // choice, and every change reaches it, too. When it has everything, the CPUs' view changes over to it: unshare_root(),
  // CpuTlb::invalidate(), share_log(); and back again before end_log(). What EL2 writes goes to Table::mark_dirty() of
  // logged().
  // False: what devices may write counts as dirty, for the log does not see it. Once false, it stays so up to begin_log().
  [[nodiscard]] bool log_sees_devices() const;
  // The log's table; class 0's where it needs none of its own.
  [[nodiscard]] const Table& logged() const;
  // Errors: out_of_memory. Once at a time.
  [[nodiscard]] std::expected<void, Error> begin_log();
  // As Table::copy, to a log's own table.
  [[nodiscard]] std::expected<std::uint64_t, Error> copy_to_log(IPA ipa, std::uint64_t bytes,
                                                                std::uint64_t most = ~std::uint64_t{0});
  [[nodiscard]] std::expected<void, Error> share_log(Table& sharer, IPA ipa, std::uint64_t bytes);
  // As Table::start_log, collect_dirty and stop_log, of all tables that keep the log, with what must be invalidated. When a
  // log's own table stops, nothing but EL2 looks at it any more: it loses the range.
  [[nodiscard]] std::expected<void, Error> start_log(IPA ipa, std::uint64_t bytes);
  [[nodiscard]] std::expected<void, Error> collect_dirty(IPA ipa, std::size_t pages, std::span<std::uint64_t> dirty);
  [[nodiscard, gnu::cold]] std::expected<void, Error> stop_log(IPA ipa, std::uint64_t bytes);
  // After stop_log() for everything, and nobody walks a table of the log's own any more.
  [[gnu::cold]] void end_log();

  // As Table::share_root and unshare_root, of class 0's table; the owner of `sharer` has it locked, or nothing uses it yet.
  [[nodiscard, gnu::cold]] std::expected<void, Error> share_root(Table& sharer, IPA ipa, std::uint64_t bytes);
  [[gnu::cold]] void unshare_root(Table& sharer);

  // While no change is under way, before the CPUs walk the table or after they have.
  void set_cpu(CpuTlb* cpu) { options_.cpu = cpu; }

  [[nodiscard]] Grace& grace() const { return grace_; }
  // Class 0's: the one whose RAM subtrees the CPU shares.
  [[nodiscard]] const Table& table() const { return *first_.table; }
  [[nodiscard]] Table& table() { return *first_.table; }
  // Tags attached, for the summary.
  [[nodiscard]] unsigned tag_count() const;
  // Compares all tables with the first, and checks each; for the tests.
  [[nodiscard, gnu::cold]] bool check_invariants() const;

 private:
  // What a change is about.
  struct Span {
    IPA from, to;
    [[nodiscard]] bool conflicts(const Span& o) const { return from < o.to && o.from < to; }
    [[nodiscard]] static Span of(IPA ipa, std::uint64_t bytes) {
      return {ipa, IPA{bytes > ~ipa.value ? ~std::uint64_t{0} : ipa.value + bytes}};
    }
  };
  struct StreamKey {
    const SmmuPort* smmu;
    StreamID sid;
    [[nodiscard]] bool conflicts(const StreamKey& o) const { return smmu == o.smmu && sid == o.sid; }
  };
  using Change = InProgress<Span>::Entry;
  using StreamChange = InProgress<StreamKey>::Entry;
  class Gone;

  S2Domain(TableClass first, std::unique_ptr<InvalidationArray> array, Grace& grace, const Options& options)
      : first_{std::move(first)}, grace_{grace}, options_{options}, array_{array.release()} {}
  template <typename T, typename... Args>
  friend std::unique_ptr<T> weir::make(Args&&... args);

  // With lock_ held:
  [[nodiscard]] std::expected<void, Error> reference(std::span<const Target> targets);
  void drop(std::span<const Target> targets);
  void publish(std::unique_ptr<InvalidationArray> next);
  [[nodiscard]] TableClass* suiting(const Capabilities& capabilities);
  [[nodiscard]] TableClass* own_log() const;
  void append(std::unique_ptr<TableClass> table_class);
  template <typename Fn>
  std::expected<void, Error> for_each_log(Fn&& fn);
  [[gnu::cold]] void remove(TableClass& table_class);
  // Of a change that has the lock, and has it again afterwards:
  [[nodiscard, gnu::cold]] std::expected<TableClass*, Error> make_class(const Capabilities& capabilities,
                                                                        Change& change);
  [[nodiscard]] std::expected<void, Error> prepare(IPA ipa, std::uint64_t bytes, Change& change);
  // Of one that has the lock, and ends without it:
  void finish(IPA ipa, std::uint64_t bytes, Gone& gone, Change& change);
  // The same for those who walk the tables that keep the log, of which none has gone.
  void finish_log(IPA ipa, std::uint64_t bytes, Change& change);
  // Without the lock:
  void invalidate(IPA ipa, std::uint64_t bytes, bool leaf_only);
  [[gnu::cold]] void cut_off(const Target& stream);

  mutable SpinLock lock_;
  InProgress<Span> changes_{lock_};
  InProgress<StreamKey> streams_{lock_};
  TableClass first_;
  Grace& grace_;
  Options options_;
  std::atomic<InvalidationArray*> array_;  // owned
  unsigned tags_ = 0;
  bool unseen_ = false;            // a tag was attached, the writes behind which no log sees
  IPA lowest_{~std::uint64_t{0}};  // begin and ends of what has been mapped so far
  IPA highest_{};
  PA highest_pa_{};
};

}  // namespace weir::stage2
