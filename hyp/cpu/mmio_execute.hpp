// Does what a decoded load or store says, against emulated devices. Portable: registers and devices are behind a port.
#pragma once

#include <cstdint>
#include <expected>

#include "guest-abi/types.hpp"
#include "hyp/cpu/mmio_decode.hpp"
#include "hyp/vm/mmio_device.hpp"

namespace weir {

struct VectorValue {
  std::uint64_t low{};
  std::uint64_t high{};
  friend constexpr bool operator==(const VectorValue&, const VectorValue&) = default;
};

// A vCPU's registers and the devices of its VM.
class MmioPort {
 public:
  // General registers, 0..30; 31 is the current stack pointer for base(), never asked of the others.
  [[nodiscard]] virtual std::uint64_t base(unsigned n) = 0;
  virtual void set_base(unsigned n, std::uint64_t value) = 0;
  [[nodiscard]] virtual std::uint64_t general(unsigned n) = 0;
  virtual void set_general(unsigned n, std::uint64_t value) = 0;
  [[nodiscard]] virtual VectorValue vector(unsigned n) = 0;
  virtual void set_vector(unsigned n, VectorValue value) = 0;
  // `size` is 1, 2, 4 or 8, `at` a multiple of it.
  virtual MmioResult read(IPA at, unsigned size, std::uint64_t& value) = 0;
  virtual MmioResult write(IPA at, unsigned size, std::uint64_t value) = 0;

 protected:
  ~MmioPort() = default;
};

// The stage-2 fault that the instruction took.
struct MmioFault {
  std::uint64_t far{};  // FAR_EL2: one of the bytes that it accesses
  IPA ipa;              // of that byte
  bool write{};
};

// Performs `access`, little-endian. Registers change only if the result is `done`; the caller then advances the PC.
// `again` and `abort` leave the rest undone; executing a pair again from its start is what CPUs do, too.
// Errors: mismatch, also if not all of the access lies in the page that faulted, or is not naturally aligned.
[[nodiscard]] std::expected<MmioResult, DecodeError> execute_mmio(const DecodedAccess& access, const MmioFault& fault,
                                                                  MmioPort& port);

}  // namespace weir
