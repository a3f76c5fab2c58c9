#include "hyp/smmu/stream_table.hpp"

#include <algorithm>
#include <array>
#include <atomic>

#include "hyp/smmu/command_queue.hpp"
#include "stage2/ste_update.hpp"

namespace weir {

using smmu::L1Std;
using smmu::Reg;
using smmu::Ste;
using smmu::STRTAB_BASE_CFG;
using stage2::Error;

bool StreamTable::init(unsigned sid_bits, bool two_level) {
  sid_bits_ = sid_bits;
  const bool split = two_level && sid_bits > kSplit;
  const std::size_t bytes =
      split ? (std::size_t{1} << (sid_bits - kSplit)) * sizeof(L1Std) : (std::size_t{1} << sid_bits) * sizeof(Ste);
  const auto memory = hardware_.allocate(std::max<std::size_t>(bytes, kPage4K));
  if (!memory) return false;
  STRTAB_BASE_CFG config{};
  config.set<STRTAB_BASE_CFG::LOG2SIZE>(sid_bits);
  if (split) {
    level1_ = static_cast<L1Std*>(hardware_.pointer(*memory));
    config.set<STRTAB_BASE_CFG::FMT>(smmu::StrtabFmt::two_level).set<STRTAB_BASE_CFG::SPLIT>(kSplit);
  } else {
    linear_ = static_cast<Ste*>(hardware_.pointer(*memory));
    abort_all(linear_, std::size_t{1} << sid_bits);
  }
  hardware_.write64(
      Reg::STRTAB_BASE,
      smmu::STRTAB_BASE{}.set<smmu::STRTAB_BASE::RA>(true).set<smmu::STRTAB_BASE::ADDR>(memory->value).words[0]);
  hardware_.write(Reg::STRTAB_BASE_CFG, config.words[0]);
  return true;
}

void StreamTable::abort_all(Ste* table, std::size_t count) {
  std::fill_n(table, count, Ste{}.set<Ste::V>(true).set<Ste::Config>(smmu::SteConfig::abort));
  hardware_.publish(table, count * sizeof(Ste));
}

std::expected<Ste*, Error> StreamTable::entry(StreamID sid) {
  if (!fits(sid, sid_bits_)) return std::unexpected{Error::no_such_stream};
  if (linear_ != nullptr) return &linear_[sid.value];
  constexpr std::size_t kEntries = std::size_t{1} << kSplit;
  const SpinLock::Guard guard{lock_};
  L1Std& descriptor = level1_[sid.value >> kSplit];
  if (descriptor.get<L1Std::Span>() == 0) {
    const auto memory = hardware_.allocate(kEntries * sizeof(Ste));
    if (!memory) return std::unexpected{Error::out_of_memory};
    abort_all(static_cast<Ste*>(hardware_.pointer(*memory)), kEntries);
    const L1Std live = L1Std{}.set<L1Std::Span>(kSplit + 1).set<L1Std::L2Ptr>(memory->value);
    std::atomic_ref{descriptor.words[0]}.store(live.words[0], std::memory_order_release);
    hardware_.publish(&descriptor, sizeof descriptor);
    // The old, invalid descriptor may be cached (3.21.3): Leaf=0 drops it, too.
    const smmu::Command drop = smmu::cfgi_ste(sid, false);
    const stage2::Ticket ticket = commands_.push({&drop, 1}, true);
    while (!commands_.completed(ticket)) {
    }
  }
  auto* table = static_cast<Ste*>(hardware_.pointer(PA{descriptor.get<L1Std::L2Ptr>()}));
  return &table[sid.value & (kEntries - 1)];
}

class StreamTable::Sink final : public stage2::SteSink {
 public:
  Sink(StreamTable& table, StreamID sid, Ste& live) : table_{table}, sid_{sid}, live_{live} {}
  void store(std::size_t word, std::uint64_t value) override {
    std::atomic_ref{live_.words[word]}.store(value, std::memory_order_relaxed);
  }
  void sync() override {
    table_.hardware_.publish(&live_, sizeof live_);
    const smmu::Command drop = smmu::cfgi_ste(sid_, true);
    const stage2::Ticket ticket = table_.commands_.push({&drop, 1}, true);
    while (!table_.commands_.completed(ticket)) {
    }
  }

 private:
  StreamTable& table_;
  StreamID sid_;
  Ste& live_;
};

std::expected<void, Error> StreamTable::install(StreamID sid, const Ste& ste) {
  const auto live = entry(sid);
  if (!live) return std::unexpected{live.error()};
  Sink sink{*this, sid, **live};
  const Ste current = **live;
  stage2::update_ste(current, ste, sink);
  return {};
}

}  // namespace weir
