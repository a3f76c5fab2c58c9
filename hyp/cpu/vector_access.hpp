// The guest's SIMD&FP registers, which stay in the hardware while EL2 runs. Everything else in the image is free of FP
// and SIMD operands; the moves here are encoded by hand, lie between the symbols weir_vector_access_begin and
// weir_vector_access_end, and are what tools/check-no-fp lets pass there.
#pragma once

#include <cstdint>

#include "hyp/cpu/mmio_execute.hpp"

namespace weir {

// Of the vCPU that was last in the guest on this pCPU. `n` < 32. CPTR_EL2.TFP must be 0.
[[nodiscard]] VectorValue read_vector_register(unsigned n);
// All 128 bits; those above (SVE) become zero, as after any load of a SIMD&FP register.
void write_vector_register(unsigned n, VectorValue value);

}  // namespace weir
