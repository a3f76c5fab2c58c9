#include "hyp/vm/blake2s.hpp"

#include <algorithm>
#include <bit>

namespace weir {
namespace {

constexpr std::size_t kBlockBytes = 64;
constexpr std::size_t kDigestBytes = 32;
using Block = std::array<std::byte, kBlockBytes>;

// RFC 7693, 2.6 and 2.7.
constexpr std::array<std::uint32_t, 8> kInitial{0x6a09'e667, 0xbb67'ae85, 0x3c6e'f372, 0xa54f'f53a,
                                                0x510e'527f, 0x9b05'688c, 0x1f83'd9ab, 0x5be0'cd19};
constexpr std::uint8_t kSigma[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

std::uint32_t word(const Block& block, std::size_t i) {
  std::uint32_t value = 0;
  for (std::size_t b = 4; b-- > 0;) value = value << 8 | std::to_integer<std::uint32_t>(block[i * 4 + b]);
  return value;
}

class State {
 public:
  explicit State(std::size_t key_bytes) {
    h_[0] ^= 0x0101'0000U ^ static_cast<std::uint32_t>(key_bytes) << 8 ^ kDigestBytes;
  }

  void compress(const Block& block, std::size_t bytes, bool last) {
    bytes_ += bytes;
    std::array<std::uint32_t, 16> v{};
    std::copy(h_.begin(), h_.end(), v.begin());
    std::copy(kInitial.begin(), kInitial.end(), v.begin() + 8);
    v[12] ^= static_cast<std::uint32_t>(bytes_);
    v[13] ^= static_cast<std::uint32_t>(bytes_ >> 32);
    if (last) v[14] = ~v[14];
    for (const auto& s : kSigma) {
      const auto mix = [&](std::size_t a, std::size_t b, std::size_t c, std::size_t d, std::size_t i) {
        v[a] += v[b] + word(block, s[i]);
        v[d] = std::rotr(v[d] ^ v[a], 16);
        v[c] += v[d];
        v[b] = std::rotr(v[b] ^ v[c], 12);
        v[a] += v[b] + word(block, s[i + 1]);
        v[d] = std::rotr(v[d] ^ v[a], 8);
        v[c] += v[d];
        v[b] = std::rotr(v[b] ^ v[c], 7);
      };
      for (std::size_t i = 0; i < 4; ++i) mix(i, 4 + i, 8 + i, 12 + i, 2 * i);
      for (std::size_t i = 0; i < 4; ++i) mix(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, 8 + 2 * i);
    }
    for (std::size_t i = 0; i < h_.size(); ++i) h_[i] ^= v[i] ^ v[i + 8];
  }

  [[nodiscard]] Blake2sDigest digest() const {
    Blake2sDigest out{};
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(h_[i / 4] >> (8 * (i % 4)));
    return out;
  }

 private:
  std::array<std::uint32_t, 8> h_ = kInitial;
  std::uint64_t bytes_ = 0;
};

}  // namespace

Blake2sDigest blake2s(std::span<const std::byte> key, std::span<const std::byte> message) {
  key = key.first(std::min<std::size_t>(key.size(), 32));
  State state{key.size()};
  Block block{};
  if (!key.empty()) {
    std::copy(key.begin(), key.end(), block.begin());
    state.compress(block, kBlockBytes, message.empty());
    if (message.empty()) return state.digest();
  }
  do {
    const auto part = message.first(std::min<std::size_t>(message.size(), kBlockBytes));
    block = {};
    std::copy(part.begin(), part.end(), block.begin());
    message = message.subspan(part.size());
    state.compress(block, part.size(), message.empty());
  } while (!message.empty());
  return state.digest();
}

}  // namespace weir
