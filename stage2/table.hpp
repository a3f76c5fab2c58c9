// A stage-2 page table: VMSAv8-64, 4 KiB granule (Arm ARM D8.2, D8.3). The same class serves a VM's CPU view and its
// DMA view. It knows nothing of TLBs: whoever uses it invalidates, and hands back freed table pages after that.
//
// Calls are serialised by the owner, but for walk() and mark_dirty(), which take no lock. Descriptors are written in one
// piece and published, so hardware and walk() may read the table at any time.
//
// One table for CPU and devices. `share_root` lends root slots of one table (the DMA view: RAM) to another (the CPU
// view, which has device windows beside them). Both then walk the same tables below, and one change reaches both.
//
// A dirty log where not all walkers of that table keep dirty state (Options::dirty_state): the CPU gets a table of its
// own while the log is on, and the devices' table stays as it is.
//   1. log = Table::create(same geometry, {.pages_only = true, .dirty_state = true}); log->set_walked(true);
//      log->copy(dma, ram), in steps; from here on whoever changes `dma` makes the same calls on `log`.
//   2. log->start_log(ram)
//   3. dma->unshare_root(cpu); invalidate the CPU; log->share_root(cpu, ram). vCPUs must not run between, or their
//      translation faults be retried. With a CPU of BBML 2 share_root() alone changes over; invalidate after it.
//   4. log->collect_dirty(...), and mark_dirty() on `log` for what EL2 writes. What devices may write counts as dirty.
//   5. As step 3 the other way round; then `log` goes.
#pragma once

#include <atomic>
#include <boost/intrusive/list.hpp>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>

#include "guest-abi/types.hpp"
#include "stage2/geometry.hpp"
#include "stage2/port.hpp"
#include "stage2/support/make.hpp"
#include "stage2/table_pages.hpp"

namespace weir::stage2 {

enum class Memory : std::uint8_t {
  normal_wb,    // Normal, Inner and Outer Write-Back, Inner Shareable; with FWB = 1 whatever stage 1 says
  device_nGnRE  // the attribute cannot be overridden by stage 1 to anything weaker
};

// Attributes of a mapping. With FWB = 0 the result is combined with stage 1's.
struct Attributes {
  Memory memory = Memory::normal_wb;
  bool read = true;
  bool write = true;
  // RAM that a CPU view shares is executable. That gives devices nothing: XN makes instruction fetches fault, and what a
  // device could fetch as an instruction it may read as data.
  bool execute = false;
  friend constexpr bool operator==(const Attributes&, const Attributes&) = default;
};

// What lookup() and walk() find at an IPA.
struct Mapping {
  PA at;                  // of the IPA asked for, not of the start of the block
  Attributes attributes;  // a page that is writable, but not dirty yet, is writable
  unsigned level = 3;     // 1: block of 1 GiB, 2: block of 2 MiB, 3: page
  friend constexpr bool operator==(const Mapping&, const Mapping&) = default;
};

// Bookkeeping of one table page (the concatenated root counts as one).
struct TableNode : boost::intrusive::list_base_hook<> {
  PA at;
  std::uint64_t* entries = nullptr;
  std::size_t bytes = kPage4K;
  unsigned live = 0;                    // valid descriptors in it; without the slots that a sharer has from its owner
  std::unique_ptr<TableNode*[]> below;  // the tables that its descriptors point to; not at the last level
};

// Table pages that are unlinked but may still be walked. The owner calls release() when the invalidation is complete,
// and no read section that was open before that is open any more (walk()); destroying the list without that leaks the
// pages, which is the safe side.
class RetiredPages {
 public:
  RetiredPages() = default;
  RetiredPages(const RetiredPages&) = delete;
  RetiredPages& operator=(const RetiredPages&) = delete;
  ~RetiredPages() { list_.clear(); }

  [[nodiscard]] bool empty() const { return list_.empty(); }
  [[nodiscard]] std::size_t count() const { return list_.size(); }
  // Takes all that `other` has; to hand it to a grace period.
  void take(RetiredPages& other) { list_.splice(list_.end(), other.list_); }
  // To be called only when no walker can hold a pointer to the pages any more.
  void release(TablePages& pages);

 private:
  friend class Table;
  boost::intrusive::list<TableNode> list_;
};

class Table {
 public:
  // What is true of everything that walks the table, sharers included.
  struct Options {
    bool pages_only = false;  // no blocks: for memory whose mapping may change in parts (BBML 0)
    // Break-before-make level, the lowest of all: IDR3.BBML, ID_AA64MMFR2_EL1.BBM. A CPU of level 1 may fault on a block
    // that is being split or merged (Arm ARM D8.7, R_MRRPW), and one of level 2 may raise TLB conflict aborts: whoever
    // handles faults tries again where walk() finds the access allowed (after VMALLS12E1 for a conflict).
    unsigned bbml = 0;
    bool fwb = false;  // memory attributes as HCR_EL2.FWB = 1 and STE.S2FWB = 1 have them
    // All keep dirty state: hardware does (VTCR_EL2.HA and HD, STE.S2HA and S2HD), or the permission fault of a write
    // comes to somebody who calls mark_dirty().
    bool dirty_state = false;
  };

  // Errors: out_of_memory.
  [[nodiscard, gnu::cold]] static std::expected<std::unique_ptr<Table>, Error> create(const Geometry& geometry,
                                                                                      TablePages& pages,
                                                                                      const Options& options);
  // Frees every table page: nothing walks the table any more, and no TLB holds an entry of it. Sharers lose their slots.
  [[gnu::cold]] ~Table();
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  [[nodiscard]] const Geometry& geometry() const { return geometry_; }
  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] PA root() const { return root_->at; }
  // In units of 4 KiB, the concatenated root included; retired pages do not count, nor what another table shares with
  // this one.
  [[nodiscard]] std::size_t page_count() const { return page_count_; }

  // Maps [ipa, ipa + bytes) to [pa, ...), in blocks of 2 MiB and 1 GiB where alignment allows it. Nothing needs to be
  // invalidated after it. Errors, with the table as it was: misaligned (4 KiB), out_of_range, already_mapped (any
  // part), shared (any part belongs to the table that shares its root), out_of_memory. While a log is on, only pages are
  // made, and those that are writable count as dirty.
  [[nodiscard]] std::expected<void, Error> map(IPA ipa, PA pa, std::uint64_t bytes, const Attributes& attributes);

  // Removes all mappings in [ipa, ipa + bytes); holes are fine. A block that sticks out of the range is split first,
  // which a walked table allows at BBML 2, or at BBML 1 after prepare_split(). Pages of tables that become empty go to
  // `retired`. Errors, with the table as it was: misaligned, out_of_range, shared, live_block, out_of_memory. After it
  // the range must be invalidated (leaf entries only, if nothing was added to `retired`).
  [[nodiscard]] std::expected<void, Error> unmap(IPA ipa, std::uint64_t bytes, RetiredPages& retired);

  // Gives pages that unmap() and merge() retired back; see RetiredPages::release.
  void release(RetiredPages& retired) { retired.release(pages_); }

  // Changes the attributes of [ipa, ipa + bytes), all of which must be mapped. The memory type cannot change (that
  // would need break-before-make): Error::live_block. Other errors as unmap, and not_mapped. Invalidate after it.
  [[nodiscard]] std::expected<void, Error> protect(IPA ipa, std::uint64_t bytes, const Attributes& attributes);

  // Splits blocks that stick out of the range, as unmap() and protect() of it would; they cannot fail for want of memory
  // then. What is mapped stays the same. Errors as unmap().
  [[nodiscard]] std::expected<void, Error> split(IPA ipa, std::uint64_t bytes);

  // BBML 1: sets nT in the blocks that a change of [ipa, ipa + bytes) would split, and returns whether there were any.
  // The owner then invalidates the range, after which unmap() or protect() may split them (IHI 0070 3.21.1.2). Should
  // those fail, nT stays, which costs time only.
  bool prepare_split(IPA ipa, std::uint64_t bytes);

  // What a merge has changed, which may stick out of the range asked for; bytes == 0: nothing.
  struct Merged {
    IPA ipa;
    std::uint64_t bytes = 0;
  };
  // Makes blocks again wherever [ipa, ipa + bytes) touches a range of 2 MiB (1 GiB) that is wholly mapped by pages
  // (blocks) with contiguous output and equal attributes. The owner invalidates what is returned, table entries too,
  // before it releases `retired`; then it calls finish_merge() on the same, and if that returns true (BBML 1: the new
  // blocks had nT set until now) invalidates leaf entries once more. Nothing is merged while a log is on, nor with
  // pages_only. Errors: misaligned, out_of_range, shared, live_block (the table is walked, and BBML is 0).
  [[nodiscard]] std::expected<Merged, Error> merge(IPA ipa, std::uint64_t bytes, RetiredPages& retired);
  bool finish_merge(const Merged& merged);

  // No value if `ipa` is not mapped. Takes no lock. Safe against concurrent changes, if the caller is inside of a read
  // section (Grace) or otherwise keeps retired pages from being released. What it finds stays the VM's until the section
  // ends, if whoever unmaps waits for grace before the page gets a new owner.
  [[nodiscard]] std::optional<Mapping> walk(IPA ipa) const;
  // As walk(), for EL2's own copies: where `ipa` is, if it may be read (`write`: be written).
  [[nodiscard]] std::optional<PA> reach(IPA ipa, bool write) const;
  // The same as walk(), for those who hold the owner's lock.
  [[nodiscard]] std::optional<Mapping> lookup(IPA ipa) const { return walk(ipa); }

  // --- Sharing ---

  // `sharer` takes this table's descriptors of the root slots of [ipa, ipa + bytes), now and whenever they change, until
  // unshare_root() or the end of either table. In that range it refuses changes of its own (Error::shared). The owners of
  // both tables are locked here, and in unshare_root(); changes of this table need the lock of its owner only. TLBs that
  // hold entries of the sharer are invalidated with those of this table; its TablePages must publish as this table's do.
  // A sharer that has the same range from another table changes over at once, if it is not walked or its own BBML is 2
  // (then invalidate it, table entries too, before anything is released); else unshare_root() first.
  // Errors, with both as they were: out_of_range, misaligned (the range is not of whole root slots), already_mapped (by
  // the sharer itself), shared (with other tables in another way), live_block (see above), incompatible (geometry; the
  // sharer's output size, BBML, FWB or dirty state do not suit this table).
  [[nodiscard, gnu::cold]] std::expected<void, Error> share_root(Table& sharer, IPA ipa, std::uint64_t bytes);
  // Clears the slots again, if this table is the one that shares them. Invalidate the sharer after it, table entries too.
  void unshare_root(Table& sharer);
  // Bytes that one root slot maps.
  [[nodiscard]] std::uint64_t root_slot_bytes() const { return level_size(geometry_.start_level()); }

  // Maps what `other` maps in [ipa, ipa + bytes) and this table does not, but no more than `most` bytes, a multiple of
  // 4 KiB. Returns how much of the range is done. Nothing needs to be invalidated. Errors as map(); without memory a part may
  // be there, and a second call goes on.
  [[nodiscard]] std::expected<std::uint64_t, Error> copy(const Table& other, IPA ipa, std::uint64_t bytes,
                                                         std::uint64_t most = ~std::uint64_t{0});

  // --- Dirty log ---
  // Of pages that are written while it is on. A logged page is writable-clean (DBM = 1, S2AP[1] = 0) or dirty (S2AP[1] =
  // 1); hardware makes it dirty at any time (Arm ARM D8.5.2; IHI 0070 3.13.3), and no call here loses that. The log is on
  // from the first start_log() to end_log().

  // BBML 1: as prepare_split(), for start_log().
  bool prepare_log(IPA ipa, std::uint64_t bytes);
  // All writable pages in the range become clean; blocks are split into pages first. Holes are fine. Writes count from
  // when the range was invalidated (leaf entries). Errors, with the table as it was: misaligned, out_of_range, shared,
  // incompatible (no Options::dirty_state), live_block, out_of_memory.
  [[nodiscard, gnu::cold]] std::expected<void, Error> start_log(IPA ipa, std::uint64_t bytes);
  // Sets bit i of `dirty` if page i from `ipa` on was dirty, and makes it clean; other bits stay. Writable memory that is
  // not logged counts as dirty. If it returns a number other than 0 (of pages made clean), the range must be invalidated
  // (leaf entries) before the pages are read. The work is bounded by `pages`. Errors: misaligned, out_of_range (also
  // if `dirty` is too short), shared.
  [[nodiscard]] std::expected<std::size_t, Error> collect_dirty(IPA ipa, std::size_t pages,
                                                                std::span<std::uint64_t> dirty);
  // Pages in the range are simply writable again. Invalidate it (leaf entries), before hardware's updates are turned off.
  // Errors: misaligned, out_of_range, shared.
  [[nodiscard, gnu::cold]] std::expected<void, Error> stop_log(IPA ipa, std::uint64_t bytes);
  // After stop_log() for everything that was started or mapped meanwhile.
  void end_log() { logging_.store(false, std::memory_order_relaxed); }
  [[nodiscard]] bool logging() const { return logging_.load(std::memory_order_relaxed); }
  // The page was written by EL2, or by a vCPU that faulted: call it after a write of EL2's, in the same read section; as
  // walk(), lock-free. False if the page is not mapped, or not writable (any more), though a write to it is not lost.
  bool mark_dirty(IPA ipa) const;

  // Whether anything walks the table; not so at first. While nothing does, blocks are split freely. Set before the
  // table is installed anywhere, cleared after the last use of it was invalidated. A sharer that is walked counts, too.
  void set_walked(bool walked) { walked_.store(walked, std::memory_order_relaxed); }

  // Compares descriptors, counts and bookkeeping, those of sharers too; for the tests. False: the table is corrupt.
  [[nodiscard]] bool check_invariants() const;

 private:
  class Reserve;  // table pages set aside before anything changes

  // Numbers of tables: of those that point to others, and of those of the last level.
  struct Count {
    std::size_t inner = 0, last = 0;
    void add(unsigned level) { ++(level == vmsa::kLastLevel ? last : inner); }
    Count& operator+=(const Count& o) { return inner += o.inner, last += o.last, *this; }
  };
  // What a change is about. `pages`: all of it must be pages; else no block may stick out of it.
  struct Range {
    IPA from, to;
    bool pages = false;
  };

  Table(const Geometry& geometry, TablePages& pages, const Options& options)
      : geometry_{geometry}, pages_{pages}, options_{options}, linear_{pages.linear_offset()} {}
  template <typename T, typename... Args>
  friend std::unique_ptr<T> weir::make(Args&&... args);

  [[nodiscard]] TableNode* new_node(std::size_t bytes, unsigned level);
  void adopt(TableNode& node);
  [[nodiscard]] std::size_t index(IPA at, unsigned level) const;
  [[nodiscard]] std::uint64_t* entries_at(PA table) const;
  [[nodiscard]] bool walked() const;
  [[nodiscard]] std::expected<void, Error> check_range(IPA ipa, std::uint64_t bytes) const;
  [[nodiscard]] bool leaf_fits(unsigned level, IPA from, IPA to, PA pa) const;
  [[nodiscard]] std::uint64_t leaf(unsigned level, PA pa, const Attributes& attributes) const;
  [[nodiscard]] Attributes attributes_of(std::uint64_t leaf) const;

  void store(TableNode& node, std::size_t slot, std::uint64_t descriptor);
  void publish(const TableNode& node, std::size_t first, std::size_t count);
  // Where a walk ends: at a leaf or a hole. Lock-free.
  struct Found {
    std::uint64_t* entry = nullptr;
    std::uint64_t descriptor = 0;
    unsigned level = 0;
    unsigned shift = 0;  // level_shift(level)
    vmsa::Kind kind = vmsa::Kind::invalid;
  };
  template <typename EntriesAt>
  [[nodiscard]] Found descend(IPA ipa, EntriesAt&& entries) const;
  [[nodiscard]] Found find(IPA ipa) const;
  [[nodiscard]] std::optional<PA> reach_by_port(IPA ipa, bool write) const;
  [[nodiscard]] static std::optional<PA> reached(const Found& found, IPA ipa, bool write);

  [[nodiscard]] std::expected<Count, Error> plan_map(const TableNode* node, unsigned level, IPA from, IPA to,
                                                     PA pa) const;
  void apply_map(TableNode& node, unsigned level, IPA from, IPA to, PA pa, const Attributes& attributes,
                 Reserve& reserve);

  [[nodiscard]] bool split_allowed(std::uint64_t block) const;
  [[nodiscard]] static bool to_split(unsigned level, IPA start, const Range& range);
  [[nodiscard]] static Count count_split(unsigned level, IPA start, const Range& range);
  [[nodiscard]] std::expected<Count, Error> plan_splits(const TableNode& node, unsigned level, IPA from, IPA to,
                                                        const Range& range) const;
  [[nodiscard]] TableNode& build_split(std::uint64_t block, unsigned level, IPA start, const Range& range,
                                       Reserve& reserve);
  void apply_splits(TableNode& node, unsigned level, IPA from, IPA to, const Range& range, Reserve& reserve);
  [[nodiscard]] std::expected<void, Error> split(const Range& range);
  bool set_nt(TableNode& node, unsigned level, IPA from, IPA to, const Range& range, bool value);
  bool prepare(const Range& range);

  [[nodiscard]] bool unmap_pages(IPA ipa, std::uint64_t bytes);
  void apply_unmap(TableNode& node, unsigned level, IPA from, IPA to, RetiredPages& retired);
  void retire_tree(TableNode& node, RetiredPages& retired);
  [[nodiscard]] std::expected<void, Error> check_protect(const TableNode& node, unsigned level, IPA from, IPA to,
                                                         Memory memory) const;
  void apply_protect(TableNode& node, unsigned level, IPA from, IPA to, const Attributes& attributes);
  [[nodiscard]] std::optional<std::uint64_t> merged(const TableNode& node, unsigned level) const;
  void unlink_sharer(Table& sharer);
  void apply_merge(TableNode& node, unsigned level, IPA from, IPA to, Merged& done, RetiredPages& retired);
  template <typename Change>
  void for_each_leaf(TableNode& node, unsigned level, IPA from, IPA to, Change&& change);

  [[nodiscard]] bool shares(std::size_t slot) const { return slot >= shared_first_ && slot < shared_end_; }
  [[nodiscard]] bool check_tree(const TableNode& node, unsigned level, std::size_t& seen, std::size_t& pages) const;
  [[nodiscard]] bool check_leaf(std::uint64_t descriptor, unsigned level) const;
  [[nodiscard]] bool check_sharers() const;

  Geometry geometry_;
  TablePages& pages_;
  Options options_;
  std::optional<std::uintptr_t> linear_;
  std::atomic<bool> walked_{false};
  std::atomic<bool> logging_{false};
  TableNode* root_ = nullptr;
  std::size_t page_count_ = 0;
  boost::intrusive::list<TableNode> nodes_;

  // As owner: those that have root slots from this table. As sharer: from whom, and which.
  Table* sharers_ = nullptr;
  Table* next_sharer_ = nullptr;
  Table* lender_ = nullptr;
  std::size_t shared_first_ = 0, shared_end_ = 0;
};

}  // namespace weir::stage2
