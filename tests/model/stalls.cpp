// Stalled transactions (Arm IHI 0070, 3.12.2, 4.7.1, 4.7.2).
#include <algorithm>

#include "tests/model/smmu.hpp"

namespace weir::model {

using namespace smmu;

std::optional<std::uint16_t> Smmu::free_tag() const {
  // In no order that software could rely on; not beyond STALL_MAX.
  if (tags_.size() >= parameters_.stall_max) return std::nullopt;
  auto tag = static_cast<std::uint16_t>(parameters_.seed * 7 + 5);
  while (tags_.contains(tag)) tag = static_cast<std::uint16_t>(tag + 0x1235);
  return tag;
}

void Smmu::free_tag_of(std::uint64_t id) {
  std::erase_if(tags_, [&](const auto& t) { return t.second.id == id; });
  for (Stall& s : stalls_)
    if (s.id == id) s.tag.reset();
}

void Smmu::finish(std::uint64_t id, const Transaction& result) {
  std::erase_if(stalls_, [&](const Stall& s) { return s.id == id; });
  // 3.12.2.2: an event that was not recorded yet may be forgotten, and its tag with it.
  if (std::erase_if(in_flight_, [&](const InFlight& e) { return e.stall == id; }) > 0) free_tag_of(id);
  outcomes_[id] = result;
  // Not for ever: millions of transactions may come.
  constexpr std::uint64_t kRemembered = 0x1'0000;
  if (outcomes_.size() > 2 * kRemembered)
    std::erase_if(outcomes_, [&](const auto& o) { return o.first + kRemembered < next_id_; });
  // What was held back as its like is looked at anew (3.12.2.1).
  for (Stall& s : stalls_)
    if (s.duplicate_of == id) {
      s.duplicate_of = 0;
      if (s.then == Stall::Then::nothing) s.then = Stall::Then::retry;
    }
}

// A fault of a stalling stage. The transaction waits, until software answers its event.
void Smmu::stall(const Access& access, std::uint64_t bytes, std::uint64_t page, const Fault& fault, std::uint64_t id) {
  Stall s{.id = id, .access = access, .bytes = bytes, .page = page & ~(kPage4K - 1)};
  // 3.12.2.1: no second record for the same page, privilege, kind and substream.
  const auto like = std::ranges::find_if(stalls_, [&](const Stall& o) {
    return o.tag && o.then == Stall::Then::nothing && o.access.sid == access.sid && o.access.ssid == access.ssid &&
           o.page == s.page && o.access.write == access.write && o.access.privileged == access.privileged &&
           o.access.instruction == access.instruction;
  });
  if (like != stalls_.end() && maybe(1, 2)) {
    s.duplicate_of = like->id;
    stalls_.push_back(s);
    return;
  }
  s.tag = free_tag();
  stalls_.push_back(s);
  if (!s.tag) return;  // no more are outstanding than STALL_MAX; it waits for its turn
  tags_[*s.tag] = {.id = id, .sid = access.sid.value};
  record(access, fault, id, *s.tag);
}

// 4.7.1
void Smmu::resume(const Resume& c) {
  const auto tag = tags_.find(c.get<Resume::STAG>());
  if (tag == tags_.end() || tag->second.sid != c.get<Resume::StreamID>()) return;
  if (!tag->second.visible) {
    ++misuses_;  // CONSTRAINED UNPREDICTABLE: here without effect
    return;
  }
  const std::uint64_t id = tag->second.id;
  free_tag_of(id);
  for (Stall& s : stalls_) {
    if (s.id != id) {
      // 3.12.2.1: its like are retried.
      if (s.duplicate_of == id) {
        s.duplicate_of = 0;
        s.then = Stall::Then::retry;
      }
    } else if (c.get<Resume::Ac>()) {
      s.then = Stall::Then::retry;
    } else {
      s.then = c.get<Resume::Ab>() || parameters_.term_model ? Stall::Then::abort : Stall::Then::raz_wi;
    }
  }
}

// 4.7.2
void Smmu::terminate_stream(std::uint32_t sid) {
  std::erase_if(tags_, [&](const auto& t) { return t.second.sid == sid; });
  for (Stall& s : stalls_)
    if (s.access.sid.value == sid) {
      s.tag.reset();
      s.duplicate_of = 0;
      s.then = Stall::Then::abort;
      std::erase_if(in_flight_, [&](const InFlight& e) { return e.stall == s.id; });
    }
}

// 6.3.9.6: SMMUEN was cleared.
void Smmu::terminate_all() {
  tags_.clear();
  for (Stall& s : stalls_) {
    s.tag.reset();
    s.duplicate_of = 0;
    s.then = Stall::Then::abort;
    std::erase_if(in_flight_, [&](const InFlight& e) { return e.stall == s.id; });
  }
}

void Smmu::progress_stalls() {
  // The ones without a tag get one as soon as one is free: they are handled as though they had just arrived.
  const Stall s = stalls_[pick(stalls_.size())];
  if (s.then == Stall::Then::abort || s.then == Stall::Then::raz_wi) {
    const auto state = s.then == Stall::Then::abort ? Transaction::State::aborted : Transaction::State::raz_wi;
    return finish(s.id, {.id = s.id, .state = state});
  }
  const bool turn = !s.tag && s.duplicate_of == 0 && s.then == Stall::Then::nothing && free_tag();
  if (s.then == Stall::Then::retry || turn) {
    std::erase_if(stalls_, [&](const Stall& o) { return o.id == s.id; });
    const Transaction result = *attempt(s.access, s.bytes, s.id, false);
    if (result.state != Transaction::State::stalled) finish(s.id, result);
    return;
  }
  // 3.12.2.2: an early retry. What it finds is not recorded; the tag stays in use until software answers.
  if (s.duplicate_of == 0 && maybe(1, 16)) {
    const auto result = attempt(s.access, s.bytes, s.id, true);
    if (result && (result->state == Transaction::State::passed || s.recorded)) finish(s.id, *result);
  }
}

}  // namespace weir::model
