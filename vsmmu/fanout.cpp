#include "vsmmu/fanout.hpp"

namespace weir::vsmmu {

Fanout::Fanout(std::unique_ptr<Backing[]> backings, std::size_t count) : backings_{std::move(backings)}, count_{count} {
  for (Backing& b : this->backings()) b.ranges = b.port->capabilities().idr3.get<smmu::IDR3::RIL>();
}

Backing* Fanout::find(const stage2::SmmuPort& port) {
  for (Backing& b : backings())
    if (b.port == &port) return &b;
  return nullptr;
}

void Fanout::invalidate_all() {
  invalidate(smmu::TlbiNhAll{});
  for (Backing& b : backings())
    if (b.stage1_streams == 0) b.cleaning = true;
}

void Fanout::add_stage1(Backing& b) {
  ++b.stage1_streams;
  b.dirty = true;
  b.cleaning = false;
}

void Fanout::issue(Backing& b) {
  b.port->issue({b.batch.data(), b.count});
  b.count = 0;
  b.unsynced = true;
}

void Fanout::flush() {
  for (Backing& b : backings())
    if (b.count != 0) issue(b);
}

void Fanout::submit_sync() {
  for (Backing& b : backings()) {
    b.waiting = b.count != 0 || b.unsynced || b.reporting != 0;
    if (!b.waiting) continue;
    b.ticket = b.port->issue_and_sync({b.batch.data(), b.count});
    b.count = 0;
    b.unsynced = false;
  }
}

bool Fanout::completed() {
  bool all = true;
  for (Backing& b : backings()) {
    if (b.waiting && b.port->completed(b.ticket)) {
      b.waiting = false;
      if (b.cleaning) b.dirty = b.cleaning = false;
    }
    all = all && !b.waiting;
  }
  return all;
}

}  // namespace weir::vsmmu
