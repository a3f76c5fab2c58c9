// When a VM's dirty log is on: how it begins and ends, in steps. What it consists of is the domain's (S2Domain, "Dirty
// log"); which table the CPUs walk, and that hardware keeps dirty state, is theirs.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "guest-abi/types.hpp"
#include "stage2/domain.hpp"
#include "stage2/table.hpp"

namespace weir::stage2 {

// The pCPUs' tables. Where a pCPU does not keep dirty state by itself (VTCR_EL2.HD), the permission fault of a write is
// answered by written() and another try.
class CpuTables {
 public:
  // From now on, TLBs included, all pCPUs find the VM's memory in the table of its log, or in the domain's first one again.
  // Accesses that fault meanwhile are tried again. Errors as Table::share_root.
  [[nodiscard]] virtual std::expected<void, Error> use_log(S2Domain& domain, bool log) = 0;

 protected:
  ~CpuTables() = default;
};

class DirtyLog {
 public:
  static constexpr std::uint64_t kStep = 16_MiB;  // most that one call of start() or stop() deals with

  struct Space {
    IPA ipa;
    std::uint64_t bytes = 0;
  };
  // `cpu` may be null: there is no log then. `loans` is what other VMs may have lent: it is not logged, but a log's own
  // table has it, too.
  DirtyLog(S2Domain& domain, CpuTables* cpu, Space ram, Space loans)
      : domain_{domain}, cpu_{cpu}, ram_{ram}, loans_{loans} {}

  [[nodiscard]] bool possible() const { return cpu_ != nullptr; }
  // One caller at a time for start(), collect() and stop().

  // Bytes that are left to be set up; 0: the log is on, and no page has been written yet. Errors: out_of_memory, live_block;
  // the next call goes on. Not after stop() before that has come to its end.
  [[nodiscard]] std::expected<std::uint64_t, Error> start();
  [[nodiscard]] bool on() const { return phase_ == Phase::on; }
  // As S2Domain::collect_dirty. The log is on.
  [[nodiscard]] std::expected<void, Error> collect(IPA ipa, std::size_t pages, std::span<std::uint64_t> dirty) {
    return domain_.collect_dirty(ipa, pages, dirty);
  }
  // The log is off, however far it had come. Returns how many bytes are left to be cleared up.
  std::uint64_t stop();
  [[nodiscard]] bool stopping() const { return phase_ == Phase::stopping; }

  // EL2 has written to that page; in the same read section.
  void written(IPA ipa) const {
    if (const Table* log = log_.load(std::memory_order_acquire)) [[unlikely]]
      static_cast<void>(log->mark_dirty(ipa));
  }
  // Somebody has whose writes the log does not see. Outside of read sections.
  void written(IPA ipa, std::uint64_t pages) const;

 private:
  static constexpr std::uint64_t kLoansStep = 1_GiB;
  enum class Phase : std::uint8_t { off, starting, on, stopping };
  [[nodiscard]] bool own_table() const { return &domain_.logged() != &domain_.table(); }

  S2Domain& domain_;
  CpuTables* cpu_;
  Space ram_, loans_;
  std::atomic<const Table*> log_{nullptr};
  Phase phase_ = Phase::off;
  std::uint64_t ram_done_ = 0, loans_done_ = 0;  // of starting or stopping
};

}  // namespace weir::stage2
