// A VM's RAM: one range of IPAs over one physically contiguous chunk. The only way by which Weir reads or writes what
// belongs to a guest. Nothing is read twice; a copy is what decisions are made on.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "guest-abi/types.hpp"
#include "vsmmu/ports.hpp"

namespace weir {

class GuestMemory final : public vsmmu::GuestMemory {
 public:
  GuestMemory() = default;  // no memory: every access is refused
  // `memory` is where EL2 sees the byte at `base`.
  GuestMemory(IPA base, std::byte* memory, std::uint64_t bytes) : base_{base}, memory_{memory}, bytes_{bytes} {}

  [[nodiscard]] IPA base() const { return base_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] bool contains(IPA at, std::uint64_t bytes) const {
    return at >= base_ && bytes <= bytes_ && at - base_ <= bytes_ - bytes;
  }

  [[nodiscard]] bool read(IPA from, std::span<std::byte> to) override {
    if (!contains(from, to.size())) return false;
    if (!to.empty()) std::memcpy(to.data(), memory_ + (from - base_), to.size());
    return true;
  }
  [[nodiscard]] bool write(IPA to, std::span<const std::byte> from) override {
    if (!contains(to, from.size())) return false;
    if (!from.empty()) std::memcpy(memory_ + (to - base_), from.data(), from.size());
    return true;
  }
  // One aligned word, in one piece, after all earlier stores. False if it is not RAM or not aligned.
  [[nodiscard]] bool store(IPA to, std::uint32_t value) {
    if (!contains(to, sizeof value) || to.value % sizeof value != 0) return false;
    std::atomic_ref{*reinterpret_cast<std::uint32_t*>(memory_ + (to - base_))}.store(value, std::memory_order_release);
    return true;
  }
  // For the loader: the bytes themselves, before the guest runs. Empty if not all of them are RAM.
  [[nodiscard]] std::span<std::byte> view(IPA at, std::uint64_t bytes) {
    if (!contains(at, bytes)) return {};
    return {memory_ + (at - base_), static_cast<std::size_t>(bytes)};
  }

 private:
  IPA base_;
  std::byte* memory_ = nullptr;
  std::uint64_t bytes_ = 0;
};

}  // namespace weir
