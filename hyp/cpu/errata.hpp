// The errata of CPUs that a hypervisor has to know, by MIDR_EL1, and what Weir does about them. Portable, and callable
// with the MMU off: errata_of() reads nothing but numbers.
#pragma once

#include <cstdint>
#include <span>

#include "guest-abi/field.hpp"
#include "hyp/cpu/id_fields.hpp"

namespace weir {

// What Weir does about an erratum.
enum class Erratum : std::uint8_t {
  repeat_tlbi,     // a broadcast TLBI and its DSB may complete before what used the entry: both are repeated
  dirty_state,     // hardware dirty state goes wrong: it is not used, and guests are not shown it
  speculative_at,  // an AT may be speculated with another VM's VTTBR: stage-1 walks are off while it changes
  par_read,        // reads of PAR_EL1 may deadlock with others: they stand between barriers (hyp/patch)
};
inline constexpr unsigned kErratumCount = 4;

struct Midr : Record<Midr, 64> {
  using Revision = Field<"Revision", 3, 0, std::uint8_t>;
  using PartNum = Field<"PartNum", 15, 4, std::uint16_t>;
  using Architecture = Field<"Architecture", 19, 16, std::uint8_t>;
  using Variant = Field<"Variant", 23, 20, std::uint8_t>;
  using Implementer = Field<"Implementer", 31, 24, std::uint8_t>;
  using Layout = weir::Layout<64, Revision, PartNum, Architecture, Variant, Implementer, Res0<63, 32>>;

  [[nodiscard]] static constexpr Midr of(std::uint64_t value) {
    Midr midr;
    midr.words[0] = value;
    return midr;
  }
};

class Errata {
 public:
  [[nodiscard]] constexpr bool has(Erratum e) const { return (bits_ >> static_cast<unsigned>(e) & 1) != 0; }
  [[nodiscard]] constexpr bool none() const { return bits_ == 0; }
  [[nodiscard]] constexpr std::uint8_t bits() const { return bits_; }
  constexpr Errata& add(Erratum e) {
    bits_ = static_cast<std::uint8_t>(bits_ | 1U << static_cast<unsigned>(e));
    return *this;
  }
  [[nodiscard]] static constexpr Errata of_bits(std::uint8_t bits) {
    Errata errata;
    errata.bits_ = bits;
    return errata;
  }
  friend constexpr bool operator==(Errata, Errata) = default;

 private:
  std::uint8_t bits_ = 0;
};

// rVpR as one number.
constexpr std::uint8_t revision(unsigned variant, unsigned rev) {
  return static_cast<std::uint8_t>(variant << 4 | rev);
}

// A line of the table: revisions `first` to `last` of a CPU.
struct CpuErratum {
  std::uint8_t implementer;
  std::uint16_t part;
  std::uint8_t first;
  std::uint8_t last;
  Erratum erratum;
  const char* cpu;
  const char* number;  // as its maker calls it

  [[nodiscard]] bool matches(Midr midr) const;
};

[[nodiscard]] std::span<const CpuErratum> cpu_errata();
// Of one CPU.
[[nodiscard]] Errata errata_of(Midr midr);
// Whether the CPU may share a machine with one that has Erratum::par_read.
[[nodiscard]] bool may_stand_beside_par_read(Midr midr);

// An ID register as guests and Weir see it: what these errata spoil is absent.
[[nodiscard]] std::uint64_t without_broken_features(IdRegister reg, std::uint64_t value, Errata errata);

// "TLB maintenance is repeated" and so on.
[[nodiscard]] const char* remedy(Erratum e);

}  // namespace weir
