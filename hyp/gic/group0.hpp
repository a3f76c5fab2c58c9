// Whether Group 0 interrupts are EL2's or EL3's. If SCR_EL3.FIQ is 1, they are EL3's (an OP-TEE below it, say), and an
// access to ICC_IGRPEN0_EL1, ICC_BPR0_EL1 or ICC_AP0R<n>_EL1 is trapped to EL3. The boot protocol allows both values. What
// tells is ICC_PMR_EL1, which EL2 may always access: with FIQ = 1 the Non-secure view drops the lowest priority bit (IHI
// 0069, 4.8.1). Portable.
#pragma once

#include <cstdint>

namespace weir::gic {

// The lowest priority bit of a CPU interface with `bits` of them (ICC_CTLR_EL1.PRIbits + 1): what to write to ICC_PMR_EL1.
constexpr std::uint64_t group0_probe(unsigned bits) { return std::uint64_t{1} << (8 - bits); }
// What is read back then.
constexpr bool group0_is_ours(std::uint64_t read) { return read != 0; }

}  // namespace weir::gic
