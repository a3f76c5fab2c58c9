// Translation requests and the translation caches of devices (Arm IHI 0070, 3.9; 4.5.1).
#include <algorithm>

#include "tests/model/smmu.hpp"

namespace weir::model {

using namespace smmu;

// --- The SMMU ---

AtsResponse Smmu::translation_request(const Access& access) {
  AtsResponse response{.status = AtsStatus::unsupported_request};
  if (!parameters_.ats) return response;
  const auto translated = translator_.translate(access, registers_.controls);
  if (!translated) {
    const Fault& fault = translated.error();
    if (!fault.silent) record(access, fault, 0, 0);
    response.status = fault.ats == Fault::Ats::denied            ? AtsStatus::success
                      : fault.ats == Fault::Ats::completer_abort ? AtsStatus::completer_abort
                                                                 : AtsStatus::unsupported_request;
    return response;
  }
  return {.status = AtsStatus::success,
          .address = translated->address,
          .bytes = translated->bytes,
          .read = translated->read,
          .write = translated->write,
          .execute = translated->execute,
          .untranslated = translated->untranslated};
}

// 4.5.1. It has reached the device, or never will be answered.
void Smmu::invalidate_atc(const AtcInv& c) {
  if (!in_effect<CR0::SMMUEN>()) return;
  if (c.get<AtcInv::SSV>() && parameters_.ssid_bits == 0) {
    ++misuses_;  // CONSTRAINED UNPREDICTABLE: here without effect
    return;
  }
  const auto to = endpoints_.find(c.get<AtcInv::StreamID>());
  if (to == endpoints_.end()) return;
  if (to->second.hung) {
    ++timed_out_;
    return;
  }
  to->second.invalidate(c);
}

// --- The device ---

const Endpoint::Entry* Endpoint::find(std::uint64_t address, bool write, std::optional<SubstreamID> ssid) const {
  for (const Entry& e : cache_)
    if (e.ssid == ssid && address - e.from < e.bytes && (write ? e.write : e.read)) return &e;
  return nullptr;
}

bool Endpoint::holds(std::uint64_t address, std::optional<SubstreamID> ssid) const {
  return find(address, false, ssid) != nullptr || find(address, true, ssid) != nullptr;
}

AtsResponse Endpoint::request(std::uint64_t address, bool write, std::optional<SubstreamID> ssid) {
  const AtsResponse r = smmu_.translation_request(
      Access{.sid = sid_, .ssid = ssid, .address = address, .write = write, .kind = Access::Kind::ats_request});
  if (r.status == AtsStatus::success && (r.read || r.write) && !r.untranslated && r.bytes != 0) {
    const std::uint64_t from = address & ~(r.bytes - 1);
    cache_.push_back({.ssid = ssid,
                      .from = from,
                      .bytes = r.bytes,
                      .to = r.address & ~(r.bytes - 1),
                      .read = r.read,
                      .write = r.write});
  }
  return r;
}

std::optional<Transaction> Endpoint::access_cached(std::uint64_t address, bool write, std::optional<SubstreamID> ssid) {
  const Entry* const e = find(address, write, ssid);
  if (e == nullptr) return std::nullopt;
  return smmu_.issue(Access{.sid = sid_,
                            .ssid = smmu_.parameters().pasidtt ? ssid : std::nullopt,
                            .address = e->to + (address - e->from),
                            .write = write,
                            .kind = Access::Kind::translated});
}

Transaction Endpoint::access(std::uint64_t address, bool write, std::optional<SubstreamID> ssid) {
  if (const auto done = access_cached(address, write, ssid)) return *done;
  const AtsResponse r = request(address, write, ssid);
  if (r.status == AtsStatus::success && r.untranslated && (r.read || r.write))
    return smmu_.issue(Access{.sid = sid_, .ssid = ssid, .address = address, .write = write});
  if (const auto done = access_cached(address, write, ssid)) return *done;
  return {.state = Transaction::State::aborted};
}

void Endpoint::invalidate(const AtcInv& c) {
  ++invalidations;
  const auto size = c.get<AtcInv::Size>();
  if (size > AtcInv::kSizeAll) return;  // an UNKNOWN span: none
  const bool all = size == AtcInv::kSizeAll;
  const std::uint64_t bytes = all ? 0 : kPage4K << size;
  const std::uint64_t first = all ? 0 : c.get<AtcInv::Address>().value & ~(bytes - 1);
  const std::optional<SubstreamID> ssid =
      c.get<AtcInv::SSV>() ? std::optional{c.get<AtcInv::SubstreamID>()} : std::nullopt;
  const bool global = c.get<AtcInv::Global>() && ssid;
  std::erase_if(cache_, [&](const Entry& e) {
    // PCIe: without a PASID, whatever PASID an entry has; with one, only that, and with Global all that have one.
    const bool matches = !ssid || (global ? e.ssid.has_value() : e.ssid == ssid);
    return matches && (all || e.from - first < bytes || first - e.from < e.bytes);
  });
}

void Endpoint::page_request(const PageRequest& r) {
  PriEntry entry;
  entry.set<PriEntry::StreamID>(sid_.value)
      .set<PriEntry::R>(r.read)
      .set<PriEntry::W>(r.write)
      .set<PriEntry::Last>(r.last)
      .set<PriEntry::PRGIndex>(r.prg_index)
      .set<PriEntry::Address>(IOVA{r.address});
  if (r.ssid && smmu_.parameters().ssid_bits > 0)
    entry.set<PriEntry::SSV>(true).set<PriEntry::SubstreamID>(*r.ssid).set<PriEntry::X>(r.execute).set<PriEntry::Priv>(
        r.privileged);
  smmu_.page_request(sid_, entry);
}

void Endpoint::stop_marker(SubstreamID ssid) {
  page_request({.read = false, .write = false, .last = true, .ssid = ssid});
}

}  // namespace weir::model
