#include "stage2/dirty_log.hpp"

#include <algorithm>

namespace weir::stage2 {

std::expected<std::uint64_t, Error> DirtyLog::start() {
  if (on()) return 0;
  if (!begun_) {
    if (const auto begun = domain_.begin_log(); !begun) return std::unexpected{begun.error()};
    begun_ = true;
    copied_ = 0;
  }
  if (copied_ < ram_.bytes) {
    const IPA at = ram_.ipa + copied_;
    const std::uint64_t step = std::min(kStep, ram_.bytes - copied_);
    if (const auto copied = domain_.copy_to_log(at, step); !copied) return std::unexpected{copied.error()};
    if (const auto started = domain_.start_log(at, step); !started) return std::unexpected{started.error()};
    copied_ += step;
    if (copied_ < ram_.bytes) return ram_.bytes - copied_;
  }
  if (loans_.bytes != 0) {
    if (const auto copied = domain_.copy_to_log(loans_.ipa, loans_.bytes); !copied)
      return std::unexpected{copied.error()};
  }
  log_.store(&domain_.logged(), std::memory_order_release);  // EL2's writes count from here on
  if (const auto used = cpu_->use_log(domain_, true); !used) {
    stop();
    return std::unexpected{used.error()};
  }
  return 0;
}

void DirtyLog::stop() {
  if (!begun_) return;
  // The CPUs first: until then the log's table is theirs. They go back to what they had: it takes no memory.
  static_cast<void>(cpu_->use_log(domain_, false));
  log_.store(nullptr, std::memory_order_release);
  static_cast<void>(domain_.stop_log(ram_.ipa, ram_.bytes));
  domain_.end_log();
  begun_ = false;
}

}  // namespace weir::stage2
