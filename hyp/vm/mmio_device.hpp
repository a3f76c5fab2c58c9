// What emulated devices look like to the trap handler.
#pragma once

#include <cstdint>
#include <string_view>

#include "guest-abi/types.hpp"

namespace weir {

class Vcpu;

struct MmioAccess {
  std::uint64_t offset;  // from the device's base
  unsigned size;         // bytes: 1, 2, 4, 8; naturally aligned
};

enum class MmioResult : std::uint8_t {
  done,
  again,  // bounded work is left: take pending interrupts, then execute the same instruction again
  abort   // the guest takes a synchronous external abort
};

class MmioDevice {
 public:
  [[nodiscard]] virtual std::string_view name() const = 0;
  virtual MmioResult read(Vcpu& vcpu, MmioAccess access, std::uint64_t& value) = 0;
  virtual MmioResult write(Vcpu& vcpu, MmioAccess access, std::uint64_t value) = 0;

 protected:
  ~MmioDevice() = default;
};

}  // namespace weir
