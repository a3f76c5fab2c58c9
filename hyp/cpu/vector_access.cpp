#include "hyp/cpu/vector_access.hpp"

namespace weir {

// hyp/cpu/vector_moves.S. `n` < 32. The value is in x0 and x1.
VectorValue moves_read(std::uint64_t n) asm("weir_vector_read");
void moves_write(std::uint64_t low, std::uint64_t high, std::uint64_t n) asm("weir_vector_write");

VectorValue read_vector_register(unsigned n) { return n < 32 ? moves_read(n) : VectorValue{}; }

void write_vector_register(unsigned n, VectorValue value) {
  if (n < 32) moves_write(value.low, value.high, n);
}

}  // namespace weir
