// BLAKE2s-256 with a key (RFC 7693): a pseudo-random function for what guests get as seeds. Portable.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace weir {

using Blake2sDigest = std::array<std::byte, 32>;

// `key` has at most 32 bytes; none: an ordinary hash.
[[nodiscard]] Blake2sDigest blake2s(std::span<const std::byte> key, std::span<const std::byte> message);

}  // namespace weir
