// A stage-2 page table: VMSAv8-64, 4 KiB granule (Arm ARM D8.2, D8.3). The same class serves a VM's CPU view and its
// DMA view. It knows nothing of TLBs: whoever uses it invalidates, and hands back freed table pages after that.
//
// Calls are serialised by the owner. Descriptors are written with single 64-bit release stores, so hardware may walk
// the table at any time.
#pragma once

#include <boost/intrusive/set.hpp>
#include <boost/intrusive/slist.hpp>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>

#include "guest-abi/types.hpp"
#include "stage2/geometry.hpp"
#include "stage2/port.hpp"
#include "stage2/support/make.hpp"
#include "stage2/table_pages.hpp"

namespace weir::stage2 {

enum class Memory : std::uint8_t {
  normal_wb,    // Normal, Inner and Outer Write-Back, Inner Shareable
  device_nGnRE  // the attribute cannot be overridden by stage 1 to anything weaker
};

// Attributes of a mapping. With FWB = 0 the result is combined with stage 1's; the encodings are those of HCR_EL2.FWB =
// 0 and of STE.S2FWB = 0.
struct Attributes {
  Memory memory = Memory::normal_wb;
  bool read = true;
  bool write = true;
  bool execute = false;
  friend constexpr bool operator==(const Attributes&, const Attributes&) = default;
};

// What lookup() finds at an IPA.
struct Mapping {
  PA at;  // of the IPA asked for, not of the start of the block
  Attributes attributes;
  unsigned level = 3;  // 1: block of 1 GiB, 2: block of 2 MiB, 3: page
  friend constexpr bool operator==(const Mapping&, const Mapping&) = default;
};

// Bookkeeping of one table page (the concatenated root counts as one).
struct TableNode : boost::intrusive::set_base_hook<>, boost::intrusive::slist_base_hook<> {
  PA at;
  std::uint64_t* entries = nullptr;
  std::size_t bytes = kPage4K;
  unsigned live = 0;  // valid descriptors in it
};

// Table pages that are unlinked but may still be walked. The owner calls release() when the invalidation is complete;
// destroying the list without that leaks the pages, which is the safe side.
class RetiredPages {
 public:
  RetiredPages() = default;
  RetiredPages(const RetiredPages&) = delete;
  RetiredPages& operator=(const RetiredPages&) = delete;
  ~RetiredPages() { list_.clear(); }

  [[nodiscard]] bool empty() const { return list_.empty(); }
  [[nodiscard]] std::size_t count() const { return list_.size(); }
  // To be called only when no walker can hold a pointer to the pages any more.
  void release(TablePages& pages);

 private:
  friend class Table;
  boost::intrusive::slist<TableNode, boost::intrusive::constant_time_size<true>> list_;
};

class Table {
 public:
  struct Options {
    bool pages_only = false;  // no blocks: for memory whose mapping may change in parts (BBML 0)
    // Break-before-make level of everything that walks the table, the lowest of all: IDR3.BBML, ID_AA64MMFR2_EL1.BBM.
    unsigned bbml = 0;
  };

  // Errors: out_of_memory.
  [[nodiscard]] static std::expected<std::unique_ptr<Table>, Error> create(const Geometry& geometry, TablePages& pages,
                                                                           const Options& options);
  // Frees every table page: nothing walks the table any more, and no TLB holds an entry of it.
  ~Table();
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  [[nodiscard]] const Geometry& geometry() const { return geometry_; }
  [[nodiscard]] PA root() const { return root_->at; }
  // In units of 4 KiB, the concatenated root included; retired pages do not count.
  [[nodiscard]] std::size_t page_count() const { return page_count_; }

  // Maps [ipa, ipa + bytes) to [pa, ...), in blocks of 2 MiB and 1 GiB where alignment allows it. Nothing needs to be
  // invalidated after it. Errors, with the table as it was: misaligned (4 KiB), out_of_range, already_mapped (any
  // part), out_of_memory.
  [[nodiscard]] std::expected<void, Error> map(IPA ipa, PA pa, std::uint64_t bytes, const Attributes& attributes);

  // Removes all mappings in [ipa, ipa + bytes); holes are fine. A block that sticks out of the range is split first,
  // which a walked table allows at BBML 2, or at BBML 1 after prepare_split(). Pages of tables that become empty go to
  // `retired`. Errors, with the table as it was: misaligned, out_of_range, live_block, out_of_memory. After it the
  // range must be invalidated (leaf entries only, if nothing was added to `retired`).
  [[nodiscard]] std::expected<void, Error> unmap(IPA ipa, std::uint64_t bytes, RetiredPages& retired);

  // Gives pages that unmap() retired back; see RetiredPages::release.
  void release(RetiredPages& retired) { retired.release(pages_); }

  // Changes the attributes of [ipa, ipa + bytes), all of which must be mapped. The memory type cannot change (that
  // would need break-before-make): Error::live_block. Other errors as unmap, and not_mapped. Invalidate after it.
  [[nodiscard]] std::expected<void, Error> protect(IPA ipa, std::uint64_t bytes, const Attributes& attributes);

  // BBML 1: sets nT in the blocks that a change of [ipa, ipa + bytes) would split, and returns whether there were any.
  // The owner then invalidates the range, after which unmap() or protect() may split them (IHI 0070 3.21.1.2).
  bool prepare_split(IPA ipa, std::uint64_t bytes);

  // No value if `ipa` is not mapped.
  [[nodiscard]] std::optional<Mapping> lookup(IPA ipa) const;

  // Whether anything walks the table; not so at first. While nothing does, blocks are split freely. Set before the
  // table is installed anywhere, cleared after the last use of it was invalidated.
  void set_walked(bool walked) { walked_ = walked; }

  // Compares descriptors, counts and bookkeeping; for the tests. False: the table is corrupt.
  [[nodiscard]] bool check_invariants() const;

 private:
  struct ByAddress {
    using type = std::uint64_t;
    type operator()(const TableNode& node) const { return node.at.value; }
  };
  using Nodes = boost::intrusive::set<TableNode, boost::intrusive::key_of_value<ByAddress>>;
  class Reserve;  // table pages set aside before anything changes

  Table(const Geometry& geometry, TablePages& pages, const Options& options)
      : geometry_{geometry}, pages_{pages}, options_{options} {}
  template <typename T, typename... Args>
  friend std::unique_ptr<T> weir::make(Args&&... args);

  [[nodiscard]] TableNode* new_node(std::size_t bytes);
  void adopt(TableNode& node);
  [[nodiscard]] TableNode& child(std::uint64_t descriptor) const;
  [[nodiscard]] std::size_t index(IPA at, unsigned level) const;
  [[nodiscard]] std::expected<void, Error> check_range(IPA ipa, std::uint64_t bytes) const;
  [[nodiscard]] bool leaf_fits(unsigned level, IPA from, IPA to, PA pa) const;
  [[nodiscard]] bool split_allowed(std::uint64_t block) const;

  [[nodiscard]] std::expected<std::size_t, Error> plan_map(const TableNode* node, unsigned level, IPA from, IPA to,
                                                           PA pa) const;
  void apply_map(TableNode& node, unsigned level, IPA from, IPA to, PA pa, const Attributes& attributes,
                 Reserve& reserve);
  [[nodiscard]] std::expected<unsigned, Error> block_to_split(IPA boundary) const;
  [[nodiscard]] std::expected<void, Error> reserve_splits(IPA ipa, std::uint64_t bytes, Reserve& reserve);
  [[nodiscard]] TableNode& split(TableNode& node, std::size_t slot, unsigned level, Reserve& reserve);
  void apply_unmap(TableNode& node, unsigned level, IPA from, IPA to, RetiredPages& retired, Reserve& reserve);
  void retire_tree(TableNode& node, unsigned level, RetiredPages& retired);
  [[nodiscard]] std::expected<void, Error> check_protect(const TableNode& node, unsigned level, IPA from, IPA to,
                                                         Memory memory) const;
  void apply_protect(TableNode& node, unsigned level, IPA from, IPA to, const Attributes& attributes, Reserve& reserve);
  bool mark_boundary(IPA boundary);
  [[nodiscard]] bool check_tree(const TableNode& node, unsigned level, std::size_t& seen) const;

  Geometry geometry_;
  TablePages& pages_;
  Options options_;
  bool walked_ = false;
  TableNode* root_ = nullptr;
  std::size_t page_count_ = 0;
  mutable Nodes nodes_;
};

}  // namespace weir::stage2
