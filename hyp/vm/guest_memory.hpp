// A VM's RAM: one range of IPAs over one physically contiguous chunk. The only way by which Weir reads or writes what
// belongs to a guest. Nothing is read twice; a copy is what decisions are made on.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "guest-abi/smmu/registers.hpp"
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

// The same memory as a vSMMU has to see it. Where the guest does not rely on coherency, because IDR0.COHACC is not offered
// or because it says so in CR1 (IHI 0070, 3.15 and 6.3.11), it writes queues and tables past its caches, or cleans them,
// and reads what lies behind them. EL2's own mapping is cacheable: what its caches hold is dropped before a read, and
// written back after a write.
//
// Lines are written back whole, so what EL2 writes must not share one with what the guest stores at the same time.
// Records of the event and PRI queues do not: the guest never writes there. Targets of MSIs might, which is why MSIs are
// offered together with COHACC only.
class VsmmuMemory final : public vsmmu::GuestMemory {
 public:
  // Writes lines of [at, at + bytes) back to the point of coherency, if they are dirty, and drops them; ordered with all
  // accesses before and after it. clean_and_invalidate_to_poc() at EL2.
  using ToPoc = void (*)(const void* at, std::size_t bytes);

  VsmmuMemory(weir::GuestMemory& memory, ToPoc to_poc) : memory_{memory}, to_poc_{to_poc} {}

  // What the vSMMU announces, and what the guest has written; before queues and tables are used accordingly.
  void follow(smmu::IDR0 idr0, smmu::CR1 cr1) {
    using smmu::CR1;
    const auto cacheable = [](smmu::QueueCacheability c) {
      return c == smmu::QueueCacheability::write_back || c == smmu::QueueCacheability::write_through;
    };
    coherent_.store(idr0.get<smmu::IDR0::COHACC>() && cacheable(cr1.get<CR1::TABLE_IC>()) &&
                        cacheable(cr1.get<CR1::TABLE_OC>()) && cacheable(cr1.get<CR1::QUEUE_IC>()) &&
                        cacheable(cr1.get<CR1::QUEUE_OC>()),
                    std::memory_order_relaxed);
  }
  [[nodiscard]] bool coherent() const { return coherent_.load(std::memory_order_relaxed); }

  [[nodiscard]] bool read(IPA from, std::span<std::byte> to) override {
    maintain(from, to.size());
    return memory_.read(from, to);
  }
  [[nodiscard]] bool write(IPA to, std::span<const std::byte> from) override {
    maintain(to, from.size());  // the neighbours in these lines are as old as the guest's memory, not older
    if (!memory_.write(to, from)) return false;
    maintain(to, from.size());
    return true;
  }

 private:
  void maintain(IPA at, std::size_t bytes) {
    if (coherent()) return;
    const auto view = memory_.view(at, bytes);
    if (!view.empty()) to_poc_(view.data(), view.size());
  }

  weir::GuestMemory& memory_;
  ToPoc to_poc_;
  std::atomic<bool> coherent_{false};
};

}  // namespace weir
