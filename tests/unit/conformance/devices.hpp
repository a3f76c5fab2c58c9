// Between rigs and the devices of the software SMMUv3.
#pragma once

#include <optional>

#include "tests/conformance/rig.hpp"
#include "tests/model/device.hpp"
#include "tests/model/registers.hpp"
#include "tests/model/translation.hpp"

namespace weir::conformance::host {

[[nodiscard]] inline std::optional<SubstreamID> ssid_of(std::optional<std::uint32_t> ssid) {
  return ssid ? std::optional{SubstreamID{*ssid}} : std::nullopt;
}
[[nodiscard]] inline model::Access access_of(StreamID sid, const Transaction& t) {
  return {.sid = sid,
          .ssid = ssid_of(t.ssid),
          .address = t.iova,
          .write = t.write,
          .privileged = t.privileged,
          .instruction = t.instruction,
          .kind = t.translated ? model::Access::Kind::translated : model::Access::Kind::untranslated};
}
// `name`: the address of memory as the driver names it.
template <typename Name>
[[nodiscard]] Reply reply_of(const model::Transaction& t, Name&& name) {
  using State = model::Transaction::State;
  switch (t.state) {
    case State::passed: return {.outcome = Outcome::ok, .at = name(t.address)};
    case State::stalled: return {.outcome = Outcome::stalled, .handle = static_cast<std::uint32_t>(t.id)};
    case State::raz_wi: return {.outcome = Outcome::raz_wi};
    case State::aborted: break;
  }
  return {.outcome = Outcome::aborted};
}
[[nodiscard]] inline AtsReply ats_reply_of(const model::AtsResponse& r) {
  AtsReply reply{.at = r.address, .size = r.bytes, .read = r.read, .write = r.write};
  switch (r.status) {
    case model::AtsStatus::success: reply.status = AtsReply::Status::success; break;
    case model::AtsStatus::unsupported_request: reply.status = AtsReply::Status::unsupported_request; break;
    case model::AtsStatus::completer_abort: reply.status = AtsReply::Status::completer_abort; break;
  }
  return reply;
}
[[nodiscard]] inline model::PageRequest model_request(const PageRequest& r) {
  return {
      .address = r.iova, .read = r.read, .write = r.write, .last = r.last, .prg_index = r.prg, .ssid = ssid_of(r.ssid)};
}
[[nodiscard]] inline PageReply reply_to(const model::Endpoint& device, std::uint16_t prg) {
  for (const model::PrgResponse& r : device.responses()) {
    if (r.prg_index != prg) continue;
    switch (r.code) {
      case model::PrgCode::success: return PageReply::success;
      case model::PrgCode::invalid_request: return PageReply::invalid;
      case model::PrgCode::failure: return PageReply::failure;
    }
  }
  return PageReply::none;
}
[[nodiscard]] inline Wire wire_of(unsigned source) {
  switch (static_cast<model::Source>(source)) {
    case model::Source::eventq: return Wire::evtq;
    case model::Source::priq: return Wire::priq;
    case model::Source::cmdq_sync: return Wire::cmdq_sync;
    case model::Source::gerror: break;
  }
  return Wire::gerror;
}

}  // namespace weir::conformance::host
