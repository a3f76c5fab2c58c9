// The classes of instances that a domain has a stage-2 table for, and which instance suits which (design: "Sharing").
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "guest-abi/smmu/ste.hpp"
#include "guest-abi/types.hpp"
#include "stage2/port.hpp"
#include "stage2/table.hpp"

namespace weir::stage2 {

// Why an instance cannot point at a table; the first feature that is missing.
enum class Incompatibility : std::uint8_t {
  // At none: it cannot join any domain.
  no_stage2,          // IDR0.S2P
  no_nesting,         // IDR0.S1P
  no_aarch64_tables,  // IDR0.TTF
  no_granule_4k,      // IDR5.GRAN4K
  big_endian,         // IDR0.TTENDIAN: big-endian walks only
  // Not at this one.
  input_too_small,   // IDR5.OAS (which is the IAS) below the IPA space
  output_too_small,  // IDR5.OAS below the table's output size
  not_coherent,      // IDR0.COHACC, and the table is not cleaned to memory
  bbml_too_low,      // IDR3.BBML below what the table relies on
  no_fwb,            // IDR3.FWB, and the table has the encodings that need it
  no_dirty_state     // IDR0.HTTU, and the table has pages that hardware makes dirty
};
// For messages, for example "stage 2 (IDR0.S2P)".
[[nodiscard]] std::string_view to_string(Incompatibility reason);

// What an instance lacks to point at any table of Weir's.
[[nodiscard]] std::optional<Incompatibility> lacks(const Capabilities& capabilities);

// Hardware makes pages dirty (IDR0.HTTU), by atomics that are coherent with the CPUs' (IDR0.COHACC).
[[nodiscard]] bool keeps_dirty_state(const Capabilities& capabilities);

// A table and the instances that walk it. All STEs of the class have the same stage-2 fields, but for the VMID.
struct TableClass {
  std::unique_ptr<Table> table;
  TablePages& pages;
  bool cleaned;                           // `pages` publishes to the point of coherency
  std::optional<Incompatibility> reason;  // why it is not the domain's first
  bool log = false;                       // no instance walks it, but the CPUs while a dirty log is on
  unsigned tags = 0;
  std::unique_ptr<TableClass> next{};

  // What an instance that lacks() nothing would still need for this table.
  [[nodiscard]] std::optional<Incompatibility> misfit(const Capabilities& capabilities) const;
  // Writes the stage-2 half of an STE (IHI 0070 5.2). V, Config and the stage-1 fields are left alone.
  void fill(VMID vmid, smmu::Ste& ste) const;
};

}  // namespace weir::stage2
