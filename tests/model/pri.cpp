// Page requests (Arm IHI 0070, chapter 8) and the answers to them (4.5.2).
#include "tests/model/smmu.hpp"

namespace weir::model {

using namespace smmu;

// A message without PASID is never a stop marker, and X and Priv mean nothing then.
void Smmu::page_request(StreamID sid, const PriEntry& entry) {
  const Request request{.sid = sid, .entry = entry};
  const bool enabled = parameters_.ats && parameters_.pri && in_effect<CR0::PRIQEN>() && in_effect<CR0::SMMUEN>();
  if (!enabled || registers_.active<GERROR::PRIQ_ABT_ERR>())
    return respond_automatically(request, PrgCode::failure, false);
  page_requests_.push_back(request);
  if (parameters_.synchronous) deliver_request(0);
}

void Smmu::deliver_request(std::size_t which) {
  // The last of a group does not overtake those before it, nor does anything overtake a last one of its device.
  for (std::size_t i = 0; i < which; ++i)
    if (page_requests_[i].sid == page_requests_[which].sid &&
        (page_requests_[i].entry.get<PriEntry::Last>() || page_requests_[which].entry.get<PriEntry::Last>()))
      which = i;
  const Request r = page_requests_[which];
  page_requests_.erase(page_requests_.begin() + static_cast<std::ptrdiff_t>(which));
  PriRing& q = registers_.requests;
  if (registers_.active<GERROR::PRIQ_ABT_ERR>()) return respond_automatically(r, PrgCode::failure, false);
  const bool last = r.entry.get<PriEntry::Last>();
  const bool last_only = registers_.priq_msi.attributes.get<PRIQ_IRQ_CFG2::LO>();
  // 8.1: an overflow keeps everything out until it is acknowledged.
  if (q.full() || q.overflowed()) {
    q.overflow();
    if (last && last_only) trigger(Source::priq);
    if (!last || r.entry.is_stop_marker()) return;
    const bool pasid = r.entry.get<PriEntry::SSV>() && parameters_.ssid_bits > 0;
    if (!pasid || parameters_.pps) return respond_automatically(r, PrgCode::success, pasid);
    const auto with_pasid = ppar(r.sid);
    return respond_automatically(r, with_pasid ? PrgCode::success : PrgCode::failure, with_pasid.value_or(false));
  }
  const bool was_empty = q.empty();
  if (q.push(memory_, r.entry, queues_snoop()) == Outcome::aborted) {
    raise_error<GERROR::PRIQ_ABT_ERR>();
    return respond_automatically(r, PrgCode::failure, false);
  }
  if (last_only ? last : was_empty) trigger(Source::priq);
}

// 8.2
void Smmu::respond_automatically(const Request& request, PrgCode code, bool with_pasid) {
  if (request.entry.is_stop_marker()) return;
  // A failure says so at once; a success, at the end of the group only, is decided by who calls.
  PrgResponse response{.code = code, .prg_index = request.entry.get<PriEntry::PRGIndex>(), .automatic = true};
  if (with_pasid) response.ssid = request.entry.get<PriEntry::SubstreamID>();
  endpoint(request.sid).respond(response);
}

// STE.PPAR of this stream; no value: there is no valid STE (8.1). The configuration caches are left alone.
std::optional<bool> Smmu::ppar(StreamID sid) {
  const Controls& c = registers_.controls;
  const auto& config = c.strtab_base_cfg;
  const bool snoop = !memory_.typed() || parameters_.coherent;
  if (!in_effect<CR0::SMMUEN>()) return std::nullopt;
  const auto log2 = config.get<STRTAB_BASE_CFG::LOG2SIZE>();
  const auto no_ste = [&](EventId id) -> std::optional<bool> {
    const bool wanted = id != EventId::C_BAD_STREAMID || c.cr2.get<CR2::RECINVSID>();
    if (wanted && c.cr2.get<CR2::REC_CFG_ATS>()) record(Access{.sid = sid}, Fault{.id = id}, 0, 0);
    return std::nullopt;
  };
  if (log2 < 32 && (sid.value >> log2) != 0) return no_ste(EventId::C_BAD_STREAMID);
  PA at{c.strtab_base.get<STRTAB_BASE::ADDR>()};
  if (config.get<STRTAB_BASE_CFG::FMT>() == StrtabFmt::two_level && parameters_.two_level) {
    auto split = config.get<STRTAB_BASE_CFG::SPLIT>();
    if (split != 8 && split != 10) split = 6;
    const auto level1 = memory_.load<L1Std>(at + (sid.value >> split) * sizeof(L1Std), snoop);
    if (!level1) return no_ste(EventId::F_STE_FETCH);
    const auto span = level1->get<L1Std::Span>();
    const std::uint32_t within = sid.value & ((1u << split) - 1);
    if (span == 0 || span > split + 1 || (within >> (span - 1)) != 0) return no_ste(EventId::C_BAD_STREAMID);
    at = PA{level1->get<L1Std::L2Ptr>()} + std::uint64_t{within} * sizeof(Ste);
  } else {
    at += std::uint64_t{sid.value} * sizeof(Ste);
  }
  const auto ste = memory_.load<Ste>(at, snoop);
  if (!ste) return no_ste(EventId::F_STE_FETCH);
  if (!ste->get<Ste::V>()) return no_ste(EventId::C_BAD_STE);
  return ste->get<Ste::PPAR>();
}

void Smmu::respond(const PriResp& c) {
  if (on_execute) on_execute(c);
  // 4.5.2: IGNORED while the SMMU is disabled.
  if (!in_effect<CR0::SMMUEN>()) return;
  const auto to = endpoints_.find(c.get<PriResp::StreamID>());
  if (to == endpoints_.end()) return;
  const auto resp = c.get<PriResp::Resp>();
  PrgResponse response{.code = resp == PriResponse::success   ? PrgCode::success
                               : resp == PriResponse::failure ? PrgCode::failure
                                                              : PrgCode::invalid_request,
                       .prg_index = c.get<PriResp::PRGIndex>()};
  if (c.get<PriResp::SSV>()) {
    if (parameters_.ssid_bits == 0) {
      ++misuses_;  // CONSTRAINED UNPREDICTABLE: here without effect
      return;
    }
    response.ssid = c.get<PriResp::SubstreamID>();
  }
  to->second.respond(response);
}

}  // namespace weir::model
