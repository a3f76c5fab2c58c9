// System registers by name: READ_SYSREG(hcr_el2), WRITE_SYSREG(hcr_el2, value). A register that the assembler does not
// know at this -march is written by its encoding: READ_SYSREG(S3_4_C12_C11_2). Neither form orders anything: add isb().
#pragma once

#include <cstdint>

#define READ_SYSREG(reg)                                      \
  (__extension__({                                            \
    std::uint64_t weir_sysreg_value_;                         \
    asm volatile("mrs %0, " #reg : "=r"(weir_sysreg_value_)); \
    weir_sysreg_value_;                                       \
  }))

#define WRITE_SYSREG(reg, value)                                             \
  do {                                                                       \
    const std::uint64_t weir_sysreg_new_ = (value);                          \
    asm volatile("msr " #reg ", %x0" : : "rZ"(weir_sysreg_new_) : "memory"); \
  } while (false)

// The same for a register whose format is a Record of one word.
#define READ_SYSREG_AS(Format, reg)                  \
  (__extension__({                                   \
    Format weir_sysreg_record_{};                    \
    weir_sysreg_record_.words[0] = READ_SYSREG(reg); \
    weir_sysreg_record_;                             \
  }))
#define WRITE_SYSREG_RECORD(reg, record) WRITE_SYSREG(reg, (record).words[0])
