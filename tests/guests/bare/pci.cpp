#include "tests/guests/bare/pci.hpp"

#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"

namespace weir::guest::pci {
namespace {
enum Register : unsigned { kIdentity = 0x00, kCommand = 0x04, kBar0 = 0x10 };
constexpr std::uint16_t kMemory = 1 << 1, kMaster = 1 << 2;
constexpr std::uint32_t kBarFlags = 0xf;
constinit std::uint64_t next_bar = 0x1000'0000;
}  // namespace

std::uint64_t config(unsigned slot, unsigned reg) { return machine().ecam + (std::uint64_t{slot} << 15) + reg; }

std::uint32_t identity(unsigned slot) { return load32(config(slot, kIdentity)); }

std::uint64_t enable(unsigned slot) {
  const std::uint64_t bar = config(slot, kBar0), command = config(slot, kCommand);
  store16(command, 0);
  const std::uint32_t old = load32(bar) & ~kBarFlags;
  store32(bar, ~std::uint32_t{0});
  const std::uint64_t bytes = (~(load32(bar) & ~kBarFlags) + 1) & 0xffff'ffff;
  if (bytes == 0) return 0;
  std::uint64_t at = old;
  if (at == 0) {
    next_bar = (next_bar + bytes - 1) & ~(bytes - 1);
    at = next_bar;
    next_bar += bytes < 0x1000 ? 0x1000 : bytes;
  }
  store32(bar, static_cast<std::uint32_t>(at));
  store16(command, kMemory | kMaster);
  barrier();
  return at;
}

}  // namespace weir::guest::pci
