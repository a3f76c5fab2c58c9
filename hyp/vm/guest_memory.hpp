// A VM's memory as EL2 reaches it: the only way by which Weir reads or writes what belongs to a guest. Nothing is read
// twice; a copy is what decisions are made on.
//
// Each page is looked up in the stage-2 table that the VM's devices use, within a read section. Whoever takes a page away
// unmaps it first and then waits for the sections that are open: no copy reaches a page that belongs to somebody else.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "guest-abi/smmu/registers.hpp"
#include "guest-abi/types.hpp"
#include "stage2/dirty_log.hpp"
#include "stage2/epoch.hpp"
#include "stage2/table.hpp"
#include "vsmmu/ports.hpp"

namespace weir {

class GuestMemory final : public vsmmu::GuestMemory {
 public:
  // Writes lines of [at, at + bytes) back to the point of coherency, if they are dirty, and drops them; ordered with all
  // accesses before and after it. clean_and_invalidate_to_poc() at EL2.
  using ToPoc = void (*)(const void* at, std::size_t bytes);
  struct Where {
    IPA ram;  // first byte of RAM
    std::uint64_t ram_bytes = 0;
    IPA end;                        // of what may be mapped from `ram` on: RAM, and other VMs' memory
    std::byte* physical = nullptr;  // where EL2 sees physical address 0
  };

  GuestMemory() = default;  // no memory: every access is refused
  // `table` and `grace` outlive this.
  GuestMemory(const Where& where, const stage2::Table& table, stage2::EpochGrace& grace,
              const stage2::DirtyLog* log = nullptr)
      : where_{where}, table_{&table}, grace_{&grace}, log_{log} {}

  [[nodiscard]] IPA base() const { return where_.ram; }
  [[nodiscard]] std::uint64_t bytes() const { return where_.ram_bytes; }
  // In RAM, whether there is memory or not.
  [[nodiscard]] bool contains(IPA at, std::uint64_t bytes) const {
    return at >= where_.ram && bytes <= where_.ram_bytes && at - where_.ram <= where_.ram_bytes - bytes;
  }

  // Whether stage 2 allows the guest such an access at this moment. A write is noted in the dirty log: a CPU that keeps no
  // dirty state itself faults to say that it is about to write.
  [[nodiscard]] bool allows(IPA at, bool write, bool execute) {
    const stage2::EpochGrace::Section section{*grace_};
    const auto page = table_->lookup(at);
    if (!page || !(write ? page->attributes.write : page->attributes.read)) return false;
    if (write && log_ != nullptr) log_->written(at);
    return !execute || page->attributes.execute;
  }

  [[nodiscard]] bool read(IPA from, std::span<std::byte> to) override { return read(from, to, nullptr); }
  [[nodiscard]] bool write(IPA to, std::span<const std::byte> from) override { return write(to, from, nullptr); }
  // The same past the caches, if `to_poc` is not null.
  [[nodiscard]] bool read(IPA from, std::span<std::byte> to, ToPoc to_poc);
  [[nodiscard]] bool write(IPA to, std::span<const std::byte> from, ToPoc to_poc);
  // One aligned word, in one piece, after all earlier stores. False if nothing takes it there, or it is not aligned.
  [[nodiscard]] bool store(IPA to, std::uint32_t value);
  // For the loader: the bytes themselves, before the guest runs. Empty if not all are RAM, in one physical piece.
  [[nodiscard]] std::span<std::byte> view(IPA at, std::uint64_t bytes) {
    if (bytes == 0 || !contains(at, bytes)) return {};
    const auto first = table_->lookup(at);
    const auto last = table_->lookup(at + (bytes - 1));
    if (!first || !last || last->at - first->at != bytes - 1) return {};
    return {where_.physical + first->at.value, static_cast<std::size_t>(bytes)};
  }

 private:
  // `bytes` at `at` may be there, all of them in one page.
  [[nodiscard]] bool in_one_page(IPA at, std::size_t bytes) const {
    return at - where_.ram < where_.end - where_.ram && bytes <= kPage4K - at.value % kPage4K;
  }
  [[nodiscard]] bool read_pages(IPA from, std::span<std::byte> to, ToPoc to_poc);
  template <typename Fn>
  [[nodiscard]] bool for_pages(IPA at, std::size_t bytes, bool writes, Fn&& fn);

  Where where_;
  const stage2::Table* table_ = nullptr;
  stage2::EpochGrace* grace_ = nullptr;
  const stage2::DirtyLog* log_ = nullptr;
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
  using ToPoc = weir::GuestMemory::ToPoc;

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

  [[nodiscard]] bool read(IPA from, std::span<std::byte> to) override;
  [[nodiscard]] bool write(IPA to, std::span<const std::byte> from) override;

 private:
  [[nodiscard]] ToPoc maintenance() const { return coherent() ? nullptr : to_poc_; }

  weir::GuestMemory& memory_;
  ToPoc to_poc_;
  std::atomic<bool> coherent_{false};
};

}  // namespace weir
