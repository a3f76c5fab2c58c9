// The TLB of the software SMMUv3 (Arm IHI 0070, 3.17, 4.4, 16.2): stage-1, stage-2 and combined entries, and table
// descriptors (a walk cache). Nothing leaves it but by invalidate(), evict() and, where it has one, its capacity.
//
// Looking up costs a hash per entry size in use; only invalidations look at every entry.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <random>
#include <unordered_map>

#include "tests/model/translation.hpp"

namespace weir::model {

// The translation regime (3.3.3).
enum class World : std::uint8_t { el1, el2, el2_e2h };

// What an entry is tagged with (3.17).
struct EntryTag {
  bool stage2 = false;  // IPA to PA; else VA to IPA or PA
  World world = World::el1;
  std::uint16_t vmid{};
  std::uint16_t asid{};  // of stage-1 entries that are not global
  bool global = false;
  bool aset = false;  // of global entries: they match within the same ASID set only (3.17.1)

  // Equal for entries that match the same lookups.
  [[nodiscard]] std::uint64_t packed() const {
    const std::uint64_t kind =
        (stage2 ? 1u : 0u) | (global ? 2u : 0u) | (global && aset ? 4u : 0u) | (static_cast<std::uint64_t>(world) << 3);
    return (kind << 32) | (std::uint64_t{vmid} << 16) | (stage2 || global ? 0 : asid);
  }
};

// What a stage permits to one privilege level. Writable-clean pages count as writable where hardware makes them dirty.
struct Rights {
  bool read = false;
  bool write = false;
  bool execute = false;
};

// A page, block or contiguous range.
struct LeafEntry {
  EntryTag tag;
  // What the descriptor (or the group of contiguous ones) covers: an invalidation by address matches this. A combined
  // entry that covers less, because stage 2 has smaller pages, goes with the whole.
  std::uint64_t base{};
  std::uint64_t size{};
  int level{};
  unsigned granule{};  // log2
  // What it translates: [from, from + bytes) to `out`.
  std::uint64_t from{};
  std::uint64_t bytes{};
  std::uint64_t out{};
  bool final = true;           // stage-1 entries: `out` is a PA, else an IPA that stage 2 has to translate
  bool combined = false;       // stage 2 took part
  std::uint64_t ipa{};         // of `from`, if combined
  std::array<Rights, 2> s1{};  // [privileged]
  std::array<Rights, 2> s2{};
  bool s1_clean = false;  // a write needs a walk that makes the descriptor dirty first
  bool s2_clean = false;
  bool pan = false;  // CD.PAN, EPAN: cached with the entry (5.4.1)
  bool epan = false;
  MemoryType type;         // of stage-2 entries: see below
  std::uint8_t memattr{};  // stage-2 entries: MemAttr[3:0], to be combined with stage 1's type
  bool fwb = false;
};

// Where something lies in physical memory, and the type of an access to it there.
struct Located {
  std::uint64_t pa{};
  MemoryType type;
};
// Where the 4 KiB pieces of a table lie: a table of 64 KiB may lie in 16 pages of stage 2.
using TablePages = std::array<std::optional<Located>, 16>;

// A table descriptor.
struct TableEntry {
  EntryTag tag;  // never global
  std::uint64_t base{};
  std::uint64_t size{};
  int level{};
  unsigned granule{};
  std::uint64_t next{};  // as the descriptor has it: an IPA where stage 2 takes part
  TablePages pages;      // and as stage 2 has translated it
  // The hierarchical attributes so far.
  bool ap_no_user = false;
  bool ap_read_only = false;
  bool uxn = false;
  bool pxn = false;
};

// The address part of a TLBI (4.4.1.1).
struct InvalidationRange {
  std::uint64_t first{};
  std::uint64_t last{};  // inclusive
  unsigned granule{};    // log2; 0: entries of any
  int ttl = -2;          // the level of leaf entries; -2: any
  bool leaf_only = false;
  bool nothing = false;  // an UNPREDICTABLE range
};

class TranslationCache {
 public:
  using Hits = std::array<LeafEntry*, 8>;

  explicit TranslationCache(unsigned capacity) : capacity_{capacity} {}

  // The entries that match; how many of `hits` are valid.
  [[nodiscard]] unsigned find(EntryTag use, std::uint64_t address, Hits& hits) {
    unsigned n = 0;
    std::uint64_t sizes = sizes_[use.stage2 ? 1 : 0];
    while (sizes != 0) {
      const auto log2 = static_cast<unsigned>(std::countr_zero(sizes));
      sizes &= sizes - 1;
      for (const bool global : {false, true}) {
        if (global && use.stage2) break;
        use.global = global;
        const auto found = leaves_.find(Key{use.packed(), address >> log2, log2});
        if (found != leaves_.end() && n < hits.size()) hits[n++] = &found->second;
        // An S1-only and a combined entry of one page stand side by side.
        const auto other = leaves_.find(Key{use.packed(), address >> log2, log2 + 64});
        if (other != leaves_.end() && n < hits.size()) hits[n++] = &other->second;
      }
    }
    return n;
  }
  [[nodiscard]] TableEntry* find_table(EntryTag use, std::uint64_t address, int level, unsigned shift) {
    use.global = false;
    const auto found = tables_.find(Key{use.packed(), address >> shift, table_key(level, shift)});
    return found == tables_.end() ? nullptr : &found->second;
  }
  void insert(const LeafEntry& e) {
    if (capacity_ != 0 && leaves_.size() >= capacity_) {
      leaves_.clear();
      sizes_ = {};
      counts_ = {};
    }
    const auto log2 = static_cast<unsigned>(std::countr_zero(e.bytes));
    const Key key{e.tag.packed(), e.from >> log2, log2 + (e.final ? 0u : 64u)};
    if (leaves_.insert_or_assign(key, e).second) count(e, 1);
  }
  void insert(const TableEntry& e) {
    const auto shift = static_cast<unsigned>(std::countr_zero(e.size));
    tables_.insert_or_assign(Key{e.tag.packed(), e.base >> shift, table_key(e.level, shift)}, e);
  }
  void erase(const LeafEntry& e) {
    const auto log2 = static_cast<unsigned>(std::countr_zero(e.bytes));
    const Key key{e.tag.packed(), e.from >> log2, log2 + (e.final ? 0u : 64u)};
    count(e, -1);
    leaves_.erase(key);
  }

  // All for which `which(tag)` holds, within `range` if there is one.
  template <typename Which>
  void invalidate(Which which, const std::optional<InvalidationRange>& range = std::nullopt) {
    if (range && range->nothing) return;
    std::erase_if(leaves_, [&](const auto& at) {
      const LeafEntry& e = at.second;
      const bool gone = which(e.tag) && (!range || (matches(*range, e) && (range->ttl == -2 || range->ttl == e.level)));
      if (gone) count(e, -1);
      return gone;
    });
    if (range && range->leaf_only) return;
    std::erase_if(tables_, [&](const auto& at) {
      const TableEntry& e = at.second;
      return which(e.tag) && (!range || (matches(*range, e) && (range->ttl == -2 || e.level < range->ttl)));
    });
  }
  // The architecture lets an entry go at any time.
  void evict(std::mt19937_64& random) {
    if (const auto e = any_of(leaves_, random); e != leaves_.end()) {
      count(e->second, -1);
      leaves_.erase(e);
    }
    if (const auto e = any_of(tables_, random); e != tables_.end()) tables_.erase(e);
  }
  void clear() {
    leaves_.clear();
    tables_.clear();
    sizes_ = {};
    counts_ = {};
  }

 private:
  struct Key {
    std::uint64_t tag{};
    std::uint64_t page{};
    unsigned kind{};
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Hash {
    std::size_t operator()(const Key& k) const {
      constexpr std::uint64_t kOdd = 0x9e37'79b9'7f4a'7c15;
      std::uint64_t h = (k.tag ^ (k.page * kOdd)) + k.kind;
      h = (h ^ (h >> 29)) * kOdd;
      return static_cast<std::size_t>(h ^ (h >> 32));
    }
  };
  using Leaves = std::unordered_map<Key, LeafEntry, Hash>;
  using Tables = std::unordered_map<Key, TableEntry, Hash>;

 public:
  [[nodiscard]] const Leaves& leaves() const { return leaves_; }
  [[nodiscard]] const Tables& tables() const { return tables_; }

 private:
  static unsigned table_key(int level, unsigned shift) { return shift * 8 + static_cast<unsigned>(level + 1); }
  template <typename E>
  static bool matches(const InvalidationRange& r, const E& e) {
    if (r.granule != 0 && r.granule != e.granule) return false;
    return e.base <= r.last && r.first <= e.base + (e.size - 1);
  }
  template <typename Map>
  static typename Map::iterator any_of(Map& map, std::mt19937_64& random) {
    if (map.empty()) return map.end();
    for (std::size_t bucket = random() % map.bucket_count();; bucket = (bucket + 1) % map.bucket_count())
      if (const auto e = map.begin(bucket); e != map.end(bucket)) return map.find(e->first);
  }
  void count(const LeafEntry& e, int by) {
    const std::size_t stage = e.tag.stage2 ? 1 : 0;
    const auto log2 = static_cast<unsigned>(std::countr_zero(e.bytes));
    counts_[stage][log2] += static_cast<std::uint32_t>(by);
    const std::uint64_t bit = std::uint64_t{1} << log2;
    sizes_[stage] = counts_[stage][log2] != 0 ? sizes_[stage] | bit : sizes_[stage] & ~bit;
  }

  unsigned capacity_;
  Leaves leaves_;
  Tables tables_;
  std::array<std::uint64_t, 2> sizes_{};  // per stage, a bit per log2 of the entries' bytes
  std::array<std::array<std::uint32_t, 64>, 2> counts_{};
};

}  // namespace weir::model
