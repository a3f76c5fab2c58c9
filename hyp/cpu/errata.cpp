#include "hyp/cpu/errata.hpp"

namespace weir {
namespace {

enum Implementer : std::uint8_t { kArm = 0x41, kNvidia = 0x4e, kQualcomm = 0x51, kMicrosoft = 0x6d };

constexpr std::uint16_t kA55 = 0xd05, kA57 = 0xd07, kA72 = 0xd08, kA76 = 0xd0b, kN1 = 0xd0c, kA77 = 0xd0d,
                        kA76Ae = 0xd0e, kV1 = 0xd40, kA78 = 0xd41, kA78Ae = 0xd42, kX1 = 0xd44, kA510 = 0xd46,
                        kA710 = 0xd47, kX2 = 0xd48, kN2 = 0xd49, kA78C = 0xd4b, kX1C = 0xd4c, kX3 = 0xd4e, kV2 = 0xd4f,
                        kX4 = 0xd82, kV3Ae = 0xd83, kV3 = 0xd84, kX925 = 0xd85, kC1Ultra = 0xd8c, kC1Premium = 0xd90;
constexpr std::uint16_t kOlympus = 0x010;          // NVIDIA
constexpr std::uint16_t kCobalt100 = kN2;          // Microsoft's, of Neoverse N2
constexpr std::uint16_t kKryo4xxSilver = 0x805;    // Qualcomm's, of Cortex-A55
constexpr std::uint8_t kFirst = 0, kEvery = 0xff;  // revisions

using enum Erratum;

// One row for each erratum of each CPU. CVE-2025-10263 has a number for each CPU.
constexpr CpuErratum kTable[] = {
    {kArm, kA76, kFirst, kEvery, repeat_tlbi, "Cortex-A76", "4193800"},
    {kArm, kA76Ae, kFirst, kEvery, repeat_tlbi, "Cortex-A76AE", "4193801"},
    {kArm, kA77, kFirst, kEvery, repeat_tlbi, "Cortex-A77", "4193798"},
    {kArm, kA78, kFirst, kEvery, repeat_tlbi, "Cortex-A78", "4193791"},
    {kArm, kA78Ae, kFirst, kEvery, repeat_tlbi, "Cortex-A78AE", "4193793"},
    {kArm, kA78C, kFirst, kEvery, repeat_tlbi, "Cortex-A78C", "4193794"},
    {kArm, kA710, kFirst, kEvery, repeat_tlbi, "Cortex-A710", "4193788"},
    {kArm, kX1, kFirst, kEvery, repeat_tlbi, "Cortex-X1", "4193791"},
    {kArm, kX1C, kFirst, kEvery, repeat_tlbi, "Cortex-X1C", "4193792"},
    {kArm, kX2, kFirst, kEvery, repeat_tlbi, "Cortex-X2", "4193788"},
    {kArm, kX3, kFirst, kEvery, repeat_tlbi, "Cortex-X3", "4193786"},
    {kArm, kX4, kFirst, kEvery, repeat_tlbi, "Cortex-X4", "4118414"},
    {kArm, kX925, kFirst, kEvery, repeat_tlbi, "Cortex-X925", "4193781"},
    {kArm, kC1Premium, kFirst, kEvery, repeat_tlbi, "C1-Premium", "4193780"},
    {kArm, kC1Ultra, kFirst, kEvery, repeat_tlbi, "C1-Ultra", "4193780"},
    {kArm, kN1, kFirst, kEvery, repeat_tlbi, "Neoverse-N1", "4193800"},
    {kArm, kN2, kFirst, kEvery, repeat_tlbi, "Neoverse-N2", "4193789"},
    {kArm, kV1, kFirst, kEvery, repeat_tlbi, "Neoverse-V1", "4193790"},
    {kArm, kV2, kFirst, kEvery, repeat_tlbi, "Neoverse-V2", "4193787"},
    {kArm, kV3, kFirst, kEvery, repeat_tlbi, "Neoverse-V3", "4193784"},
    {kArm, kV3Ae, kFirst, kEvery, repeat_tlbi, "Neoverse-V3AE", "4193784"},
    {kMicrosoft, kCobalt100, kFirst, kEvery, repeat_tlbi, "Cobalt 100", "4193789"},
    {kNvidia, kOlympus, kFirst, kEvery, repeat_tlbi, "Olympus", "T410-OLY-1029"},
    {kArm, kA55, kFirst, kEvery, repeat_tlbi, "Cortex-A55", "2441007"},
    {kArm, kA510, kFirst, revision(1, 1), repeat_tlbi, "Cortex-A510", "2441009"},

    {kArm, kA55, kFirst, kEvery, dirty_state, "Cortex-A55", "1024718"},
    {kQualcomm, kKryo4xxSilver, revision(0xd, 0xe), revision(0xd, 0xe), dirty_state, "Kryo 4xx Silver", "1024718"},
    {kArm, kA510, kFirst, revision(0, 2), dirty_state, "Cortex-A510", "2051678"},

    {kArm, kA55, kFirst, revision(2, 0), speculative_at, "Cortex-A55", "1530923"},
    {kQualcomm, kKryo4xxSilver, revision(0xd, 0xe), revision(0xd, 0xe), speculative_at, "Kryo 4xx Silver", "1530923"},
    {kArm, kA76, kFirst, revision(2, 0), speculative_at, "Cortex-A76", "1165522"},
    {kArm, kN1, kFirst, revision(2, 0), speculative_at, "Neoverse-N1", "1165522"},
    {kArm, kA57, kFirst, kEvery, speculative_at, "Cortex-A57", "1319537"},
    {kArm, kA72, kFirst, kEvery, speculative_at, "Cortex-A72", "1319367"},

    {kArm, kA77, kFirst, revision(1, 0), par_read, "Cortex-A77", "1508412"},
};

}  // namespace

bool CpuErratum::matches(Midr midr) const {
  const std::uint8_t at = revision(midr.get<Midr::Variant>(), midr.get<Midr::Revision>());
  return midr.get<Midr::Implementer>() == implementer && midr.get<Midr::PartNum>() == part && at >= first && at <= last;
}

std::span<const CpuErratum> cpu_errata() { return kTable; }

Errata errata_of(Midr midr) {
  Errata found;
  for (const CpuErratum& row : kTable)
    if (row.matches(midr)) found.add(row.erratum);
  return found;
}

// Cortex-A77 is the large CPU of clusters whose small one, which boots, is the A55.
bool may_stand_beside_par_read(Midr midr) {
  return midr.get<Midr::Implementer>() == kArm && midr.get<Midr::PartNum>() == kA55;
}

std::uint64_t without_broken_features(IdRegister reg, std::uint64_t value, Errata errata) {
  constexpr IdField kHafdbs{id::kAa64Mmfr1, 0};
  constexpr unsigned kAccessFlag = 1;  // from 2 on with dirty state
  if (reg != kHafdbs.reg || !errata.has(dirty_state) || kHafdbs.of(value) <= kAccessFlag) return value;
  return (value & ~kHafdbs.mask()) | kAccessFlag;
}

const char* remedy(Erratum e) {
  switch (e) {
    case repeat_tlbi: return "TLB maintenance is repeated";
    case dirty_state: return "hardware dirty state is not used";
    case speculative_at: return "stage-1 walks are off while VTTBR_EL2 changes";
    case par_read: return "reads of PAR_EL1 stand between barriers";
  }
  return "";
}

}  // namespace weir
