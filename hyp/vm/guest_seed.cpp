#include "hyp/vm/guest_seed.hpp"

#include <libfdt.h>

#include <algorithm>

namespace weir {
namespace {

constexpr std::size_t kLeastSeedBytes = 8;  // of what counts as one

// A store that is not left out because nothing reads it.
void wipe(std::span<std::byte> bytes) {
  volatile std::byte* const at = bytes.data();
  for (std::size_t i = 0; i < bytes.size(); ++i) at[i] = std::byte{0};
}

}  // namespace

void SeedPool::take(std::span<std::byte> fdt) {
  const int chosen = fdt_path_offset(fdt.data(), "/chosen");
  if (chosen < 0) return;
  for (const char* name : {"kaslr-seed", "rng-seed"}) {
    int length = 0;
    auto* const data = static_cast<std::byte*>(fdt_getprop_w(fdt.data(), chosen, name, &length));
    if (data == nullptr || length <= 0) continue;
    const std::span seed{data, static_cast<std::size_t>(length)};
    // Zeros are a seed that an earlier stage has used and wiped.
    const bool used = std::ranges::all_of(seed, [](std::byte b) { return b == std::byte{0}; });
    key_ = blake2s(key_, seed);
    seeded_ = seeded_ || (!used && seed.size() >= kLeastSeedBytes);
    wipe(seed);
  }
}

void SeedPool::stir(std::uint64_t value) {
  std::array<std::byte, sizeof value> bytes{};
  for (std::byte& b : bytes) {
    b = static_cast<std::byte>(value);
    value >>= 8;
  }
  key_ = blake2s(key_, bytes);
}

std::optional<GuestSeeds> SeedPool::for_vm(unsigned id, std::string_view name) const {
  if (!seeded_) return std::nullopt;
  // Of one length for all VMs: which block, which VM, its name as far as there is room.
  const auto block = [&](unsigned which) {
    std::array<std::byte, 40> message{};
    message[0] = static_cast<std::byte>(which);
    message[1] = static_cast<std::byte>(id);
    for (std::size_t i = 0; i < std::min(name.size(), message.size() - 2); ++i)
      message[2 + i] = static_cast<std::byte>(name[i]);
    return blake2s(key_, message);
  };
  GuestSeeds seeds;
  const Blake2sDigest first = block(0);
  for (std::size_t i = 0; i < sizeof seeds.kaslr; ++i)
    seeds.kaslr = seeds.kaslr << 8 | std::to_integer<std::uint64_t>(first[i]);
  for (unsigned i = 0; i < 2; ++i) std::ranges::copy(block(1 + i), seeds.rng.begin() + i * sizeof(Blake2sDigest));
  return seeds;
}

}  // namespace weir
