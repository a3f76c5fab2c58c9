// Physical SMMUs (Linux's arm,smmu-v3.yaml).
#include <algorithm>

#include "hyp/platform/discovery.hpp"
#include "hyp/platform/pci_host.hpp"
#include "hyp/platform/translate.hpp"

namespace weir::discovery {
namespace {

using dt::Node;

constexpr std::uint64_t kTwoPages = 0x20000;  // IHI 0070, 6.1: two register pages of 64 KiB

// An interrupt that is not to be had is a remark: there are ways to go on without.
std::optional<Interrupt> wire(Node node, const char* name, Remarks& remarks) {
  const auto found = dt::interrupt(node, name);
  if (found) return *found;
  dt::Line what;
  what << "interrupt \"" << name << "\" is";
  leave_out(remarks, what.view(), found.error());
  return std::nullopt;
}

void read_interrupts(Node node, Smmu& smmu, Remarks& remarks) {
  if ((node.has("interrupts") || node.has("interrupts-extended")) && !node.has("interrupt-names")) {
    const auto why = dt::missing(node, "interrupt-names", "eventq, priq, cmdq-sync, gerror or combined");
    return leave_out(remarks, "interrupts are", why);
  }
  const auto combined = wire(node, "combined", remarks);
  const auto one = [&](const char* name) {
    const auto own = wire(node, name, remarks);
    return own ? own : combined;
  };
  smmu.event_queue = one("eventq");
  smmu.pri_queue = one("priq");
  smmu.command_sync = one("cmdq-sync");
  smmu.global_error = one("gerror");
}

constexpr std::string_view kGeneric = "arm,smmu-v3";

// An erratum is told by a compatible of its own or by a flag. hisilicon,broken-prefetch-cmd is not among them: Weir prefetches
// nothing.
std::string_view special(Node node) {
  constexpr const char* kPage1InPage0 = "cavium,cn9900-broken-page1-regspace";
  if (const dt::Property flag = node.property(kPage1InPage0)) return flag.name();
  const dt::Property compatible = node.property("compatible");
  for (std::size_t i = 0; i < compatible.strings(); ++i)
    if (compatible.string(i) != kGeneric) return compatible.string(i);
  return {};
}

Done add_smmu(Node node, Platform& platform) {
  const auto registers = dt::reg(node, 0);
  if (!registers) return std::unexpected{registers.error()};
  if (registers->bytes < kTwoPages)
    return std::unexpected{dt::wrong(node, node.property("reg"), "too small for two register pages", "0x20000 bytes")};
  if (const auto ok = check_window(node, *registers, platform); !ok) return ok;
  if (std::ranges::find(platform.smmus, node.name(), &Smmu::name) != platform.smmus.end()) {
    dt::Line line;
    line << dt::PathOf{node} << ": another SMMU has this name; expected different ones, as manifests name them by it";
    return std::unexpected{PlatformError{line}};
  }
  Smmu* const smmu = platform.smmus.add();
  if (smmu == nullptr) {
    ++platform.smmus_beyond;
    return {};
  }
  smmu->name = node.name();
  smmu->node = node.offset();
  smmu->compatible = special(node);
  smmu->registers = *registers;
  smmu->coherent = is_coherent(node);
  read_interrupts(node, *smmu, platform.remarks);
  return {};
}

}  // namespace

void discover_smmus(Node root, Platform& platform) {
  for (Node n = next_compatible(root, kGeneric.data()); n; n = next_compatible(n, kGeneric.data()))
    if (const auto added = add_smmu(n, platform); !added) leave_out(platform.remarks, "SMMU is", added.error());
  if (platform.smmus_beyond == 0) return;
  dt::Line what;
  what << platform.smmus_beyond << " SMMUs are";
  leave_out_rest(platform.remarks, what.view(), root, platform.smmus.capacity);
}

}  // namespace weir::discovery

namespace weir {

StreamID Platform::last_stream(unsigned smmu) const {
  StreamID last{};
  for (const PciHost& host : pci_hosts)
    for (const StreamRange& range : host.streams)
      if (range.smmu == smmu) last = std::max(last, StreamID{range.stream.value + (range.count - 1)});
  return last;
}

}  // namespace weir
