// Seeds for guests: /chosen/kaslr-seed and /chosen/rng-seed of each VM's devicetree, made from those that firmware gave to Weir.
//
// All that is random goes into one key by keyed BLAKE2s; what a VM gets is that function of the VM's number and name, under the key.
// No VM learns anything of the key, of the platform's seeds, or of another VM's. Portable.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "hyp/vm/blake2s.hpp"

namespace weir {

struct GuestSeeds {
  std::uint64_t kaslr{};
  std::array<std::byte, 64> rng{};
};

class SeedPool {
 public:
  // Takes in what is in the platform's tree, and overwrites it there with zeros. `fdt` is a checked blob.
  void take(std::span<std::byte> fdt);
  // Stirs in what differs from boot to boot but is not secret by itself, as the counter.
  void stir(std::uint64_t value);
  // None where firmware gave no seed: a guest would credit what others can guess.
  [[nodiscard]] std::optional<GuestSeeds> for_vm(unsigned id, std::string_view name) const;

 private:
  Blake2sDigest key_{};
  bool seeded_ = false;
};

}  // namespace weir
