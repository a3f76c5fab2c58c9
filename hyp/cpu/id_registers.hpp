#pragma once

#include <cstdint>

#include "hyp/cpu/id_fields.hpp"

namespace weir {

// This pCPU's value of an ID register; 0 for one outside of the ID space (crm 1..7, op2 0..7).
[[nodiscard]] std::uint64_t hardware_id(IdRegister reg);

}  // namespace weir
