// The TLB of the software SMMUv3 (Arm IHI 0070, 3.17, 4.4; 16.2): it never forgets an entry of its own accord, but for
// evict(). Non-secure EL1 entries only (StreamWorld NS-EL1).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "guest-abi/smmu/command.hpp"

namespace weir::model {

// What an entry was made of.
enum class Scope : std::uint8_t {
  stage1,  // VA to PA: stage 1 alone, or stage 1 and 2 combined
  stage2   // IPA to PA
};

struct Tag {
  Scope scope{};
  std::uint16_t vmid{};
  std::uint16_t asid{};  // stage1 and not global
  bool global = false;
  bool aset = false;  // global entries match within the same ASID set only (3.17.1)
};

struct Leaf {
  Tag tag;
  // The block or page whose descriptor the entry comes from; what an invalidation by address matches. A combined entry
  // that covers less than its stage-1 block goes with the block.
  std::uint64_t base{};
  std::uint64_t size{};
  unsigned level{};
  // What it translates: [from, from + bytes) to `out`.
  std::uint64_t from{};
  std::uint64_t bytes{};
  std::uint64_t out{};
  bool s1_read = true;
  bool s1_write = true;
  bool s2_read = true;
  bool s2_write = true;
  std::uint64_t ipa{};  // of `from`, where stage 2 takes part
};

// A table descriptor; the address of the next table is a PA, the result of stage 2 where that takes part.
struct TableLeaf {
  Tag tag;
  std::uint64_t base{};
  std::uint64_t size{};
  unsigned level{};
  std::uint64_t next{};
  bool no_unprivileged = false;  // APTable so far
  bool read_only = false;
};

// The address part of a TLBI.
struct AddressRange {
  std::uint64_t first{};
  std::uint64_t bytes{};
  unsigned ttl{};  // level of leaf entries; 0: any
  bool leaf_only = false;
  bool other_granule = false;  // entries of another granule than 4 KiB: there are none
};

class Tlb {
 public:
  [[nodiscard]] const Leaf* find(const Tag& use, std::uint64_t address) const {
    for (const Leaf& e : leaves_)
      if (matches(e.tag, use) && address - e.from < e.bytes) return &e;
    return nullptr;
  }
  [[nodiscard]] const TableLeaf* find_table(const Tag& use, std::uint64_t address, unsigned level) const {
    for (const TableLeaf& e : tables_)
      if (matches(e.tag, use) && e.level == level && address - e.base < e.size) return &e;
    return nullptr;
  }
  void insert(const Leaf& e) { leaves_.push_back(e); }
  void insert(const TableLeaf& e) { tables_.push_back(e); }

  // All for which `which(tag)` holds, within `range` if there is one.
  template <typename Which>
  void invalidate(Which which, const std::optional<AddressRange>& range = std::nullopt) {
    std::erase_if(leaves_, [&](const Leaf& e) {
      return which(e.tag) &&
             (!range || (overlap(*range, e.base, e.size) && (range->ttl == 0 || range->ttl == e.level)));
    });
    if (range && range->leaf_only) return;
    std::erase_if(tables_,
                  [&](const TableLeaf& e) { return which(e.tag) && (!range || overlap(*range, e.base, e.size)); });
  }
  // The architecture lets an entry go at any time.
  void evict(std::uint64_t random) {
    if (!leaves_.empty()) leaves_.erase(leaves_.begin() + static_cast<std::ptrdiff_t>(random % leaves_.size()));
    if (!tables_.empty()) tables_.erase(tables_.begin() + static_cast<std::ptrdiff_t>(random % tables_.size()));
  }
  [[nodiscard]] const std::vector<Leaf>& leaves() const { return leaves_; }
  [[nodiscard]] const std::vector<TableLeaf>& tables() const { return tables_; }

 private:
  static bool matches(const Tag& entry, const Tag& use) {
    if (entry.scope != use.scope || entry.vmid != use.vmid) return false;
    if (entry.scope == Scope::stage2) return true;
    return entry.global ? entry.aset == use.aset : entry.asid == use.asid;
  }
  static bool overlap(const AddressRange& r, std::uint64_t base, std::uint64_t size) {
    if (r.other_granule) return false;
    return base - r.first < r.bytes || r.first - base < size;
  }
  std::vector<Leaf> leaves_;
  std::vector<TableLeaf> tables_;
};

}  // namespace weir::model
