#include "stage2/dirty_log.hpp"

#include <algorithm>

namespace weir::stage2 {

std::expected<std::uint64_t, Error> DirtyLog::start() {
  if (on()) return 0;
  if (phase_ == Phase::off) {
    if (const auto begun = domain_.begin_log(); !begun) return std::unexpected{begun.error()};
    phase_ = Phase::starting;
    ram_done_ = loans_done_ = 0;
  }
  if (ram_done_ < ram_.bytes) {
    const IPA at = ram_.ipa + ram_done_;
    const std::uint64_t step = std::min(kStep, ram_.bytes - ram_done_);
    if (const auto copied = domain_.copy_to_log(at, step, step); !copied) return std::unexpected{copied.error()};
    if (const auto started = domain_.start_log(at, step); !started) return std::unexpected{started.error()};
    ram_done_ += step;
  } else if (loans_done_ < loans_.bytes) {
    const auto copied = domain_.copy_to_log(loans_.ipa + loans_done_, loans_.bytes - loans_done_, kStep);
    if (!copied) return std::unexpected{copied.error()};
    loans_done_ += *copied;
  }
  if (const std::uint64_t left = ram_.bytes - ram_done_ + (loans_.bytes - loans_done_); left != 0) return left;

  // What EL2 writes counts from here on; what it was writing has been written before the log is on.
  log_.store(&domain_.logged(), std::memory_order_release);
  domain_.grace().synchronize();
  if (own_table()) {
    if (const auto used = cpu_->use_log(domain_, true); !used) {
      stop();
      return std::unexpected{used.error()};
    }
  }
  phase_ = Phase::on;
  return 0;
}

std::uint64_t DirtyLog::stop() {
  if (phase_ == Phase::off) return 0;
  if (phase_ != Phase::stopping) {
    // The CPUs first: until then the log's table is theirs. They go back to what they had: it takes no memory.
    if (log_.load(std::memory_order_relaxed) != nullptr && own_table())
      static_cast<void>(cpu_->use_log(domain_, false));
    log_.store(nullptr, std::memory_order_release);
    phase_ = Phase::stopping;
    ram_done_ = loans_done_ = 0;
  }
  if (ram_done_ < ram_.bytes) {
    const std::uint64_t step = std::min(kStep, ram_.bytes - ram_done_);
    static_cast<void>(domain_.stop_log(ram_.ipa + ram_done_, step));
    ram_done_ += step;
    if (ram_done_ < ram_.bytes) return ram_.bytes - ram_done_;
  }
  // What was mapped meanwhile: few pages, or large holes.
  if (!own_table() && loans_done_ < loans_.bytes) {
    const std::uint64_t step = std::min(kLoansStep, loans_.bytes - loans_done_);
    static_cast<void>(domain_.stop_log(loans_.ipa + loans_done_, step));
    loans_done_ += step;
    if (loans_done_ < loans_.bytes) return loans_.bytes - loans_done_;
  }
  domain_.end_log();
  phase_ = Phase::off;
  return 0;
}

void DirtyLog::written(IPA ipa, std::uint64_t pages) const {
  if (log_.load(std::memory_order_acquire) == nullptr) return;
  for (std::uint64_t i = 0; i < pages; ++i) {
    const Grace::ReadSection section{domain_.grace()};
    written(ipa + i * kPage4K);
  }
}

}  // namespace weir::stage2
