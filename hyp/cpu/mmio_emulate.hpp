// The EL2 side of hyp/cpu/mmio_decode.hpp: decodes and executes for a vCPU.
#pragma once

#include <cstdint>
#include <expected>

#include "hyp/cpu/mmio_execute.hpp"

namespace weir {

class Vcpu;

// Opens the decoder; needs the heap. Without it, emulate_mmio refuses.
void mmio_emulation_init();

// Executes `instruction`, the A64 load or store at the vCPU's PC that took `fault`, against its VM's devices; on the
// vCPU's own pCPU. `done`: the caller advances the PC. An address without a device is an `abort`.
[[nodiscard]] std::expected<MmioResult, DecodeError> emulate_mmio(Vcpu& vcpu, std::uint32_t instruction,
                                                                  const MmioFault& fault);

}  // namespace weir
