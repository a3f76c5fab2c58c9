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

class CpuTables {
 public:
  // Whether all pCPUs keep dirty state by themselves (VTCR_EL2.HA and HD).
  [[nodiscard]] virtual bool dirty_state() const = 0;
  // From now on, TLBs included, all pCPUs find the VM's memory in the table of its log, or in the domain's first one again.
  // Accesses that fault meanwhile are tried again. Errors as Table::share_root.
  [[nodiscard]] virtual std::expected<void, Error> use_log(S2Domain& domain, bool log) = 0;

 protected:
  ~CpuTables() = default;
};

class DirtyLog {
 public:
  static constexpr std::uint64_t kStep = 16_MiB;  // of one call of start()

  struct Space {
    IPA ipa;
    std::uint64_t bytes = 0;
  };
  // `cpu` may be null: there is no log then. `loans` is what other VMs may have lent: it is not logged.
  DirtyLog(S2Domain& domain, CpuTables* cpu, Space ram, Space loans)
      : domain_{domain}, cpu_{cpu}, ram_{ram}, loans_{loans} {}

  [[nodiscard]] bool possible() const { return cpu_ != nullptr && cpu_->dirty_state(); }
  // One caller at a time for start(), collect() and stop().

  // Bytes that are left to be set up; 0: the log is on, and no page has been written yet. Errors: out_of_memory; the next
  // call goes on.
  [[nodiscard]] std::expected<std::uint64_t, Error> start();
  [[nodiscard]] bool on() const { return log_.load(std::memory_order_acquire) != nullptr; }
  // As S2Domain::collect_dirty. The log is on.
  [[nodiscard]] std::expected<void, Error> collect(IPA ipa, std::size_t pages, std::span<std::uint64_t> dirty) {
    return domain_.collect_dirty(ipa, pages, dirty);
  }
  // Whether it was on or not.
  void stop();

  // EL2 has written to that page; in the same read section.
  void written(IPA ipa) const {
    if (const Table* log = log_.load(std::memory_order_acquire)) static_cast<void>(log->mark_dirty(ipa));
  }

 private:
  S2Domain& domain_;
  CpuTables* cpu_;
  Space ram_, loans_;
  std::atomic<const Table*> log_{nullptr};
  bool begun_ = false;
  std::uint64_t copied_ = 0;
};

}  // namespace weir::stage2
