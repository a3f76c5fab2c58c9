#include "hyp/arch/semihosting.hpp"

namespace weir {

namespace {
constexpr std::uint64_t kSysExit = 0x18;
constexpr std::uint64_t kApplicationExit = 0x20026;  // ADP_Stopped_ApplicationExit
}  // namespace

void semihosting_exit(std::uint32_t status) {
  const std::uint64_t block[2] = {kApplicationExit, status};
  register std::uint64_t operation asm("x0") = kSysExit;
  register const std::uint64_t* parameter asm("x1") = block;
  for (;;) asm volatile("hlt #0xf000" : "+r"(operation) : "r"(parameter) : "memory");
}

}  // namespace weir
