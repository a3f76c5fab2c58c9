// The current guest's virtual addresses, through its own stage 1.
#pragma once

#include <cstdint>
#include <optional>

#include "guest-abi/types.hpp"

namespace weir {

class Vcpu;

// Where stage 1 of the current vCPU maps `va` now, as EL1 or EL0 would read it. No value: it does not. PAR_EL1 is the
// guest's before and after.
[[nodiscard]] std::optional<IPA> translate(const Vcpu& vcpu, std::uint64_t va);
// The same as EL1 alone would read it, whatever PSTATE.PAN is.
[[nodiscard]] std::optional<IPA> translate_as_el1(std::uint64_t va);

// The A64 instruction `offset` bytes behind the vCPU's PC. No value: it cannot be read (any more), is not in RAM, or the guest
// is in AArch32.
[[nodiscard]] std::optional<std::uint32_t> fetch_instruction(const Vcpu& vcpu, std::int64_t offset = 0);

// At which level the guest's walk for `va` met a stage-2 fault at `fault`; see stage1_fault_level(). As TCR_EL1 and the
// like are now.
[[nodiscard]] unsigned walk_fault_level(const Vcpu& vcpu, std::uint64_t va, IPA fault, bool update);

}  // namespace weir
