// One translation in progress in the software SMMUv3: fetches, stage 1, stage 2 (Arm IHI 0070G.b, 3.4, 3.13, 7.3.22,
// 13.4; Arm ARM D8.2 to D8.6). Everything it learns goes to the caches, everything that the caches hold is believed.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <random>

#include "tests/model/config.hpp"
#include "tests/model/memory.hpp"
#include "tests/model/translation.hpp"
#include "tests/model/translation_cache.hpp"

namespace weir::model {

// Types of two stages in one (Arm ARM D8.6.5, D8.6.6): `memattr` is a stage-2 descriptor's MemAttr[3:0].
[[nodiscard]] MemoryType combine(const MemoryType& stage1, std::uint8_t memattr, smmu::Shareability sh, bool fwb);
// CD.MAIR's byte (5.4).
[[nodiscard]] MemoryType mair_type(std::uint8_t attr, smmu::Shareability sh);
// STE.MemAttr, GBPA.MemAttr: as combine() with the encoding of FWB == 0, but alone.
[[nodiscard]] MemoryType memattr_type(smmu::MemAttr attr, smmu::Shareability sh);

class Translator::Walk {
 public:
  template <typename T>
  using Result = std::expected<T, Fault>;
  // What an access wants of a translation.
  struct Want {
    bool write = false;
    bool instruction = false;
    bool privileged = false;
  };

  // `speculative`: nothing is recorded, and nothing is made dirty.
  Walk(Translator& translator, const Access& access, const Controls& controls, bool speculative);

  [[nodiscard]] Result<Translation> run();
  // Only the STE, and the CD if `cds`; or a CD nearby.
  void configure(bool cds, bool neighbours);

 private:
  // Configuration
  [[nodiscard]] Result<void> fetch_ste();
  [[nodiscard]] Result<smmu::L1Std> fetch_l1std(const StreamTable& table, std::uint32_t index);
  // The index in the CD table; no value: stage 1 is skipped (S1DSS).
  [[nodiscard]] Result<std::optional<std::uint32_t>> cd_index();
  [[nodiscard]] Result<void> fetch_cd(std::uint32_t index);
  [[nodiscard]] Result<Located> locate_cd(std::uint32_t index);
  template <typename T>
  [[nodiscard]] std::optional<T> load(std::uint64_t pa, const MemoryType& type) {
    return t_.memory_.load<T>(PA{pa}, p_.coherent && type.cacheable());
  }

  // Kinds of access
  [[nodiscard]] Result<Translation> with_ste();
  [[nodiscard]] Result<Translation> disabled();
  [[nodiscard]] Result<Translation> translated();
  [[nodiscard]] Result<Translation> bypass();
  [[nodiscard]] Result<Translation> stage1_and_maybe_2(std::uint32_t index);
  [[nodiscard]] Result<Translation> stage2_only();
  // The answer to an ATS request: `s1`, `s2`: do these stages count?
  [[nodiscard]] Result<Translation> granted(const LeafEntry& e, bool s1, bool s2);
  [[nodiscard]] Translation passed(std::uint64_t address, const MemoryType& type) const;
  [[nodiscard]] Fault silently() const;

  // Stage 2
  [[nodiscard]] Result<LeafEntry> stage2(std::uint64_t ipa, smmu::EventClass what, bool make_dirty,
                                         bool use_cache = true);
  [[nodiscard]] Result<LeafEntry> walk2(std::uint64_t ipa, smmu::EventClass what, bool make_dirty);
  // For an access of the SMMU itself: checked, with the type combined.
  [[nodiscard]] Result<Located> reach(std::uint64_t ipa, smmu::EventClass what, const MemoryType& type, bool write);
  [[nodiscard]] bool permits2(const LeafEntry& e, const Want& want) const;

  // Stage 1
  [[nodiscard]] std::optional<LeafEntry> cached1(const EntryTag& tag, std::uint64_t va, Fault& conflict);
  [[nodiscard]] Result<LeafEntry> walk1(CachedCd& cd, const TableShape& shape, const EntryTag& tag, std::uint64_t va,
                                        bool upper, const Want& want);
  [[nodiscard]] Result<Located> locate1(TablePages& pages, const TableShape& shape, std::uint64_t table, int level,
                                        std::uint64_t offset);
  [[nodiscard]] bool permits1(const LeafEntry& e, const Want& want) const;
  // Stage 2 of a stage-1 result, and both in one entry.
  [[nodiscard]] Result<LeafEntry> combine_stages(const LeafEntry& e, std::uint64_t va, bool write);

  // Faults
  [[nodiscard]] Fault fault(smmu::EventId id) const;
  [[nodiscard]] Fault stage1_fault(smmu::EventId id) const;
  [[nodiscard]] Fault stage2_fault(smmu::EventId id, smmu::EventClass what, std::uint64_t ipa) const;
  [[nodiscard]] Fault abort_fault(smmu::EventId id, std::uint64_t pa) const;
  // As the kind of access has it (3.9.1.2, 3.9.1.3).
  [[nodiscard]] Fault for_ats(Fault f) const;

  [[nodiscard]] bool chance(unsigned numerator, unsigned denominator) { return t_.random_() % denominator < numerator; }
  [[nodiscard]] bool nested() const { return smmu::translates_s2(ste_->ste.get<smmu::Ste::Config>()); }
  [[nodiscard]] bool httu2(bool dirty) const;
  [[nodiscard]] MemoryType input_type() const;
  void set_want();
  // Does a write through this entry need a walk, to make a descriptor dirty?
  [[nodiscard]] bool makes_dirty(const LeafEntry& e) const;
  // {R, W, Exe} of a Translation Completion, from these stages (13.7.1).
  [[nodiscard]] Rights grants(const LeafEntry& e, bool s1, bool s2);

  Translator& t_;
  const Parameters& p_;
  Access access_;
  const Controls& controls_;
  bool speculative_;
  Want want_;
  CachedStream* stream_ = nullptr;
  CachedSte* ste_ = nullptr;
  CachedCd* cd_ = nullptr;
  CachedSte uncached_ste_;  // where it may not be kept
  CachedCd uncached_cd_;
  World world_ = World::el1;
};

}  // namespace weir::model
