// What a guest's devices wait for: stalled transactions and page requests, and the guest's answers to them.
#include "vsmmu/vsmmu.hpp"

namespace weir::vsmmu {

namespace {

// The answer that an SMMU gives by itself (8.1, 8.2). None to a Stop PASID marker.
void respond(stage2::SmmuPort& smmu, const smmu::PriEntry& request, smmu::PriResponse response) {
  using smmu::PriEntry;
  if (request.is_stop_marker()) return;
  const smmu::Command c = smmu::pri_resp(StreamID{request.get<PriEntry::StreamID>()}, std::nullopt,
                                         request.get<PriEntry::PRGIndex>(), response);
  smmu.issue({&c, 1});
}

}  // namespace

// --- Stalls ----------------------------------------------------------------------------------------------------------

void VSmmu::resume_stalled(const smmu::Resume& c) {
  using smmu::Resume;
  const Stream* const s = find(VStreamID{c.get<Resume::StreamID>()});
  if (s == nullptr) return;
  {
    const SpinLock::Guard guard{lock_};
    if (!stalls_.take(*s->backing->port, s->sid, c.get<Resume::STAG>())) return;
  }
  fanout_.push(*s->backing, Resume{c}.set<Resume::StreamID>(s->sid.value));
}

void VSmmu::terminate_stalled(const smmu::StallTerm& c) {
  const Stream* const s = find(VStreamID{c.get<smmu::StallTerm::StreamID>()});
  if (s == nullptr) return;
  for (;;) {
    std::optional<Stall> stall;
    {
      const SpinLock::Guard guard{lock_};
      stall = stalls_.take_if([&](const Stall& x) { return x.port == s->backing->port && x.sid == s->sid; });
    }
    if (!stall) break;
    fanout_.push(*s->backing, smmu::resume(s->sid, stall->stag, smmu::ResumeAction::terminate_abort));
  }
}

void VSmmu::tick() {}

// --- Page requests ---------------------------------------------------------------------------------------------------

bool VSmmu::handle_page_request(stage2::SmmuPort& smmu, const smmu::PriEntry& request) {
  respond(smmu, request, smmu::PriResponse::failure);
  return true;
}

void VSmmu::page_requests_lost(stage2::SmmuPort&) {}

void VSmmu::answer_page_request(const smmu::PriResp& c) {
  using smmu::PriResp;
  const Stream* const s = find(VStreamID{c.get<PriResp::StreamID>()});
  if (s == nullptr || !s->grant.pri) return;
  fanout_.push(*s->backing, PriResp{c}.set<PriResp::StreamID>(s->sid.value));
}

void VSmmu::atc_timed_out(VStreamID vsid) { note_atc_timeout(vsid); }

}  // namespace weir::vsmmu
