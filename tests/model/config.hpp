// Configuration of the software SMMUv3: which STEs and CDs are legal (Arm IHI 0070G.b, 5.2.2, 5.4.2), what their fields
// mean, and the caches of stream table and CD table contents (3.21.3, 4.3, 16.2).
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <unordered_map>

#include "tests/model/parameters.hpp"
#include "tests/model/translation_cache.hpp"

namespace weir::model {

// The shape of a stage's tables (Arm ARM D8.2).
struct TableShape {
  unsigned granule{};    // log2
  unsigned input{};      // bits
  unsigned output{};     // bits: an address beyond is an Address Size fault
  int start{};           // level of the root, -1 to 3
  bool ds = false;       // 52-bit descriptors of 4 and 16 KiB (FEAT_LPA2)
  bool lpa = false;      // 52-bit descriptors of 64 KiB (FEAT_LPA)
  std::uint64_t root{};  // aligned
  bool big_endian = false;
  MemoryType walk;  // the type of descriptor fetches

  [[nodiscard]] unsigned shift(int level) const { return granule + (granule - 3) * static_cast<unsigned>(3 - level); }
  [[nodiscard]] std::uint64_t bytes(int level) const { return std::uint64_t{1} << shift(level); }
  // Of the descriptor for the address, within its table.
  [[nodiscard]] std::uint64_t index(std::uint64_t address, int level) const {
    const std::uint64_t all = (address & ((std::uint64_t{1} << input) - 1)) >> shift(level);
    return level == start ? all : all & ((std::uint64_t{1} << (granule - 3)) - 1);
  }
};

// log2, or 0: reserved.
[[nodiscard]] unsigned granule_of(smmu::Granule0 tg);
[[nodiscard]] unsigned granule_of(smmu::Granule1 tg);
[[nodiscard]] bool supported(const Parameters& p, unsigned granule);
// The effective output size of STE.S2PS and CD.IPS.
[[nodiscard]] unsigned output_bits(const Parameters& p, smmu::AddressSize size);
[[nodiscard]] constexpr bool beyond(std::uint64_t address, unsigned bits) {
  return bits < 64 && (address >> bits) != 0;
}

[[nodiscard]] World world_of(const Parameters& p, const smmu::Ste& ste, smmu::CR2 cr2);
// The VMID that translations are tagged with.
[[nodiscard]] std::uint16_t vmid_of(const Parameters& p, const smmu::Ste& ste, World world);
// The effective STE.EATS.
[[nodiscard]] smmu::Eats eats_of(const Parameters& p, const smmu::Ste& ste, bool atschk);
// log2 of the number of CDs; 0: no substreams.
[[nodiscard]] unsigned substream_bits(const Parameters& p, const smmu::Ste& ste);

// 5.2.2 SteIllegal(), reversed.
[[nodiscard]] bool ste_legal(const Parameters& p, const smmu::Ste& ste);
// 5.4.2 CdIllegal(), reversed.
[[nodiscard]] bool cd_legal(const Parameters& p, const smmu::Ste& ste, const smmu::Cd& cd, World world);

// Of legal entries.
[[nodiscard]] TableShape stage2_shape(const Parameters& p, const smmu::Ste& ste);
[[nodiscard]] TableShape stage1_shape(const Parameters& p, const smmu::Cd& cd, bool upper);
[[nodiscard]] MemoryType cd_type(const smmu::Ste& ste);
[[nodiscard]] MemoryType table_type(smmu::CR1 cr1);

// Where STRTAB_BASE and STRTAB_BASE_CFG say that things lie (6.3.24, 6.3.25).
struct StreamTable {
  bool two_level = false;
  unsigned split = 6;
  unsigned log2size = 0;
  std::uint64_t base = 0;
  StreamTable(const Parameters& p, const Controls& controls);
};

struct CachedSte {
  smmu::Ste ste;
  bool legal = false;
  bool atschk = false;  // CR0.ATSCHK as of the fetch: it may be cached (5.2, EATS)
};
struct CachedCd {
  smmu::Cd cd;
  bool legal = false;
  std::array<TablePages, 2> roots{};  // where the tables of TTB0 and TTB1 lie, once known
};
struct CachedL1Cd {
  smmu::L1Cd l1cd;
  std::uint32_t first{};  // SubstreamIDs that it stands for
  std::uint32_t count{};
  TablePages pages{};  // where its table lies, once known
};
struct CachedStream {
  std::optional<CachedSte> ste;
  std::unordered_map<std::uint32_t, CachedCd> cds;      // by index in the CD table
  std::unordered_map<std::uint32_t, CachedL1Cd> l1cds;  // by index in the level-1 table
};

class ConfigCache {
 public:
  [[nodiscard]] CachedStream& stream(std::uint32_t sid) { return streams_[sid]; }
  [[nodiscard]] const CachedStream* find(std::uint32_t sid) const {
    const auto found = streams_.find(sid);
    return found == streams_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] std::optional<smmu::L1Std> level1(std::uint32_t index) const {
    const auto found = level1_.find(index);
    return found == level1_.end() ? std::nullopt : std::optional{found->second};
  }
  void insert_level1(std::uint32_t index, const smmu::L1Std& l1std) { level1_[index] = l1std; }

  // CMD_CFGI_*. `split`: of the stream table, 64 for a linear one.
  void invalidate_streams(std::uint64_t first, std::uint64_t last, bool level1, unsigned split);
  void invalidate_cd(std::uint32_t sid, std::uint32_t ssid, bool l1cd);
  void invalidate_cds(std::uint32_t sid);
  void evict(std::mt19937_64& random);
  void clear() {
    streams_.clear();
    level1_.clear();
  }
  void forget(std::uint32_t sid) { streams_.erase(sid); }

 private:
  std::unordered_map<std::uint32_t, CachedStream> streams_;
  std::unordered_map<std::uint32_t, smmu::L1Std> level1_;  // by index in the level-1 table
};

}  // namespace weir::model
