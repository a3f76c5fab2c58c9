// The table of CPU features: how guests see each field of the ID registers, what EL2 has to allow for it, and what EL3
// must have allowed. A field that the table does not name reads as zero. Portable.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "guest-abi/field.hpp"
#include "hyp/cpu/el2_controls.hpp"
#include "hyp/cpu/el3_controls.hpp"
#include "hyp/cpu/id_fields.hpp"

namespace weir {

enum class Control : std::uint8_t { none, hcr, hcrx, hfgrtr, hfgitr };
struct Enable {
  Control control{};
  std::uint64_t bits{};
};
template <typename... Fields>
consteval Enable enable(Control control) {
  return {control, (Fields::mask | ...)};
}
template <Enable... list>
inline constexpr std::array<Enable, sizeof...(list)> kEnables{list...};

struct Feature {
  enum class Show : std::uint8_t {
    pass,    // no more than `limit`
    hidden,  // `absent`, whatever the CPU has
    whole    // the bits of `mask`, which are not one field of 4 bits
  };
  // From the value `from` on the feature needs this control of EL3.
  struct Need {
    El3Control el3{};
    std::uint8_t from{1};
  };

  // The options of a row.
  struct AtMost {
    std::uint8_t limit;
  };
  struct Hidden {};
  // The value that says that there is nothing, where it is not 0. With 0xf the field is signed: 8 to 0xf are less than 0.
  struct Absent {
    std::uint8_t value;
  };
  struct Whole {
    std::uint64_t mask = ~std::uint64_t{0};
  };
  struct Enables {
    std::span<const Enable> list;
    std::uint8_t from = 1;
  };

  IdField field;
  Show show{Show::pass};
  std::uint8_t limit{0xf};
  std::uint8_t absent{};
  std::uint64_t mask{};
  std::array<Need, 2> needs{};
  Enables enables{};

  // The name is for the reader of the table.
  template <typename... Options>
  consteval Feature([[maybe_unused]] const char* name, IdRegister reg, std::uint8_t lo, Options... options)
      : field{reg, lo}, mask{field.mask()} {
    (apply(options), ...);
  }

  [[nodiscard]] constexpr bool is_signed() const { return absent == 0xf; }
  // The field as a guest sees it, in place.
  [[nodiscard]] std::uint64_t shown(IdSource cpu) const;
  // Whether a guest sees at least `from`.
  [[nodiscard]] bool shows(IdSource cpu, std::uint8_t from) const;

 private:
  constexpr void apply(AtMost o) { limit = o.limit; }
  constexpr void apply(Hidden /*o*/) { show = Show::hidden; }
  constexpr void apply(Absent o) { absent = o.value; }
  constexpr void apply(Whole o) {
    show = Show::whole;
    mask = o.mask;
  }
  constexpr void apply(Need o) { needs[needs[0].el3.reg == El3Register::none ? 0 : 1] = o; }
  constexpr void apply(Enables o) { enables = o; }
  [[nodiscard]] unsigned value(IdSource cpu) const;
};

[[nodiscard]] std::span<const Feature> feature_table();

}  // namespace weir
