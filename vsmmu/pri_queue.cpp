#include "vsmmu/pri_queue.hpp"

#include "vsmmu/ring.hpp"

namespace weir::vsmmu {
namespace {

using smmu::PriEntry;
using smmu::PRIQ_BASE;
using smmu::PRIQ_CONS;
using smmu::PRIQ_PROD;
using smmu::PriResponse;

constexpr unsigned kLog2Entry = 4;

// 8.2: to every request, Last or not, and without a PASID. Stop markers are no requests.
std::optional<PriDelivered::Answer> failure(const PriEntry& request) {
  if (request.is_stop_marker()) return std::nullopt;
  return PriDelivered::Answer{PriResponse::failure, std::nullopt};
}

// 8.1.
std::optional<PriDelivered::Answer> on_overflow(const PriEntry& request, const PasidRules& rules) {
  if (request.is_stop_marker() || !request.get<PriEntry::Last>()) return std::nullopt;
  if (!request.get<PriEntry::SSV>() || !rules.substreams) return PriDelivered::Answer{PriResponse::success, {}};
  if (!rules.always && !rules.ste_valid) return PriDelivered::Answer{PriResponse::failure, {}};
  const bool pasid = rules.always || rules.ste_ppar;
  return PriDelivered::Answer{PriResponse::success,
                              pasid ? std::optional{request.get<PriEntry::SubstreamID>()} : std::nullopt};
}

}  // namespace

PriEntry rebuild_page_request(const PriEntry& physical, VStreamID vsid) {
  PriEntry e;
  for (std::size_t i = 0; i < e.words.size(); ++i) e.words[i] = physical.words[i] & PriEntry::Layout::guest[i];
  if (!physical.get<PriEntry::SSV>())
    e.set<PriEntry::SubstreamID>({}).set<PriEntry::X>(false).set<PriEntry::Priv>(false);
  return e.set<PriEntry::StreamID>(vsid.value);
}

PriDelivered deliver_page_request(const PriQueue& queue, GuestMemory& memory, const PasidRules& rules,
                                  const PriEntry& request) {
  PriDelivered d{.prod = queue.prod};
  if (!queue.enabled || queue.error) {
    d.answer = failure(request);
    return d;
  }
  const Ring ring =
      Ring::make(queue.base.get<PRIQ_BASE::ADDR>(), queue.base.get<PRIQ_BASE::LOG2SIZE>(), queue.max_log2, kLog2Entry);
  const std::uint32_t wr = ring.normal(queue.prod.get<PRIQ_PROD::WR>());
  const std::uint32_t queued = ring.distance(queue.cons.get<PRIQ_CONS::RD>(), wr);
  const bool full = queued >= ring.entries();  // an inconsistent state counts as full (3.5.1)
  const bool overflow = queue.prod.get<PRIQ_PROD::OVFLG>() != queue.cons.get<PRIQ_CONS::OVACKFLG>();
  const bool last = request.get<PriEntry::Last>();
  if (full || overflow) {
    // Unlike the event queue, this one takes nothing until the overflow has been acknowledged.
    if (!overflow) d.prod.set<PRIQ_PROD::OVFLG>(!queue.prod.get<PRIQ_PROD::OVFLG>());
    d.answer = on_overflow(request, rules);
    d.interrupt = queue.irq_per_group && last;
    return d;
  }
  const IPA entry = ring.base + (std::uint64_t{ring.slot(wr)} << kLog2Entry);
  if (!memory.write(entry, std::as_bytes(std::span{request.words}))) {
    d.abort = true;
    d.answer = failure(request);
    return d;
  }
  d.written = true;
  d.prod.set<PRIQ_PROD::WR>(ring.next(wr));
  d.interrupt = queue.irq_per_group ? last : queued == 0;
  return d;
}

}  // namespace weir::vsmmu
