#include "hyp/machine/machine.hpp"

#include <algorithm>
#include <memory>

#include "hyp/arch/counter.hpp"
#include "hyp/arch/pcpu.hpp"
#include "hyp/gic/gic.hpp"
#include "hyp/log/log.hpp"
#include "hyp/machine/ecam.hpp"
#include "hyp/machine/smmu_mmio.hpp"
#include "hyp/machine/tick.hpp"
#include "hyp/mem/pages.hpp"
#include "hyp/pci/stop_dma.hpp"
#include "stage2/support/make.hpp"

namespace weir {
namespace {

constexpr unsigned kMaxSmmus = decltype(Platform::smmus)::capacity;
constexpr unsigned kEventsPerInterrupt = 64;  // one VM's faults do not hold up another VM's interrupts for longer

struct Slot {
  std::unique_ptr<SmmuMmio> hardware;
  std::unique_ptr<SmmuInstance> instance;
  bool usable = false;
  const char* problem = "";  // why not
};
constinit std::array<Slot, kMaxSmmus> smmus;
constinit unsigned smmu_count = 0;
constinit std::array<std::uint32_t, kMaxSmmus> event_intids{};  // 0: none
constinit std::array<std::uint32_t, kMaxSmmus> pri_intids{};

// One topology for all hosts: paths carry the segment.
constinit std::unique_ptr<pci::Topology> topology;
constinit std::array<std::unique_ptr<Ecam>, decltype(Platform::pci_hosts)::capacity> ecams;
constinit std::unique_ptr<PciFunctionFact[]> facts;
constinit void (*after_events)() = nullptr;
constinit std::array<bool, kMaxSmmus> polled{};
constinit const Platform* enumerated = nullptr;

void* map_or_panic(const MemoryRange& range, std::string_view name) {
  const auto mapped = map_device(range.base, range.bytes);
  if (!mapped)
    panic("%.*s: registers at %#llx: %s", static_cast<int>(name.size()), name.data(),
          static_cast<unsigned long long>(range.base.value), to_string(mapped.error()));
  return *mapped;
}

// Has the interrupt's handler run again, for records that it has left. At once only where no vCPU runs: elsewhere the guest
// goes on for kPauseUs, several times as long as a handler takes.
void resume(std::uint32_t intid) {
  constexpr std::uint64_t kPauseUs = 200;
  if (intid == 0) return;
  if (this_pcpu().vcpu == nullptr) return gic_set_pending(intid, 0, true);
  machine_pend_soon(intid, kPauseUs);
}

void on_event_interrupt(void* context) {
  auto& smmu = *static_cast<SmmuInstance*>(context);
  const bool more = smmu.drain_events(kEventsPerInterrupt) == kEventsPerInterrupt;
  // Not only when the queue is empty: what it does may be the end of a storm.
  if (after_events != nullptr) after_events();
  if (more) resume(event_intids[smmu.index()]);
}

void on_error_interrupt(void* context) {
  static_cast<SmmuInstance*>(context)->on_global_error();
  if (after_events != nullptr) after_events();  // an ATC invalidation may have timed out
}

void on_pri_interrupt(void* context) {
  auto& smmu = *static_cast<SmmuInstance*>(context);
  const bool more = smmu.drain_page_requests(kEventsPerInterrupt) == kEventsPerInterrupt;
  if (after_events != nullptr) after_events();
  if (more) resume(pri_intids[smmu.index()]);
}

// One interrupt for all of them.
void on_combined_interrupt(void* context) {
  on_error_interrupt(context);
  on_pri_interrupt(context);
  on_event_interrupt(context);
}

void connect(const std::optional<Interrupt>& interrupt, void (*handler)(void*), SmmuInstance& smmu) {
  if (!interrupt) return;
  gic_on_spi(interrupt->intid, handler, &smmu);
  gic_configure_spi(interrupt->intid, interrupt->trigger == Trigger::edge);
  gic_enable_spi(interrupt->intid);
  // The SMMU is on already: an edge before this was lost, and with it whatever the interrupt stood for.
  gic_set_pending(interrupt->intid, 0, true);
}

// What has no interrupt has to be looked at.
void connect_or_poll(unsigned index, const Smmu& wires, SmmuInstance& smmu) {
  const auto is_combined = [&](const std::optional<Interrupt>& a) {
    return a && wires.event_queue && a->intid == wires.event_queue->intid;
  };
  const bool combined = is_combined(wires.global_error) || is_combined(wires.pri_queue);
  if (wires.event_queue) event_intids[index] = wires.event_queue->intid;
  if (wires.pri_queue) pri_intids[index] = wires.pri_queue->intid;
  connect(wires.event_queue, combined ? on_combined_interrupt : on_event_interrupt, smmu);
  if (!is_combined(wires.global_error)) connect(wires.global_error, on_error_interrupt, smmu);
  if (!is_combined(wires.pri_queue)) connect(wires.pri_queue, on_pri_interrupt, smmu);
  const bool no_pri = smmu.page_request_capacity() != 0 && !wires.pri_queue;
  if (wires.event_queue && wires.global_error && !no_pri) return;
  polled[index] = true;
  log("%.*s: no wired interrupt for%s%s%s: it is looked at ten times a second", static_cast<int>(wires.name.size()),
      wires.name.data(), wires.event_queue ? "" : " events", wires.global_error ? "" : " global errors",
      no_pri ? " page requests" : "");
}

// Stops what is behind the SMMU; true if all of it is silent.
bool stop_functions(unsigned smmu) {
  bool silent = true;
  for (const pci::Function& f : topology->functions())
    if (std::ranges::find(f.streams, smmu, &StreamRef::smmu) != f.streams.end())
      silent &= pci::stop_dma(*machine_config(*enumerated, f), f.rid);
  return silent;
}

}  // namespace

void machine_quiesce_smmus(const Platform& platform) {
  for (const Smmu& smmu : platform.smmus) {
    Slot& slot = smmus[smmu_count];
    slot.hardware = make<SmmuMmio>(smmu_count, map_or_panic(smmu.registers, smmu.name), smmu.coherent);
    if (slot.hardware) slot.instance = make<SmmuInstance>(smmu_count, smmu.name, *slot.hardware, smmu.coherent);
    if (!slot.instance) panic("no memory for the SMMUs");
    // Nothing may go on before its DMA is stopped.
    if (!slot.instance->quiesce())
      panic("%.*s does not acknowledge GBPA, CR0 or IRQ_CTRL within a second", static_cast<int>(smmu.name.size()),
            smmu.name.data());
    ++smmu_count;
  }
}

void machine_enumerate_pci(const Platform& platform) {
  enumerated = &platform;
  topology = make<pci::Topology>();
  facts = make_array<PciFunctionFact>(pci::kMaxFunctions);
  if (!topology || !facts) panic("no memory for the PCI topology");
  for (std::size_t i = 0; i < platform.pci_hosts.size(); ++i) {
    const PciHost& host = platform.pci_hosts[i];
    ecams[i] = make<Ecam>(map_or_panic(host.ecam, host.name), host);
    if (!ecams[i]) panic("no memory for %.*s", static_cast<int>(host.name.size()), host.name.data());
    topology->enumerate(*ecams[i], host);
  }
  for (const pci::Remark& remark : topology->remarks()) {
    Text<200> text;
    pci::print(text, remark);
    log("%.*s", static_cast<int>(text.size()), text.view().data());
  }
  if (topology->remarks_lost() != 0) log("PCI: %u remarks more", topology->remarks_lost());
}

void machine_start_smmus(const Platform& platform, std::span<const std::string_view> accepted) {
  for (unsigned i = 0; i < smmu_count; ++i) {
    SmmuInstance& smmu = *smmus[i].instance;
    const std::string_view name = smmu.name();
    const std::string_view kind = platform.smmus[i].compatible;
    const SmmuSetup setup{.last_stream = platform.last_stream(i),
                          .compatible = kind,
                          .accept_unknown = std::ranges::find(accepted, kind) != accepted.end()};
    if (const auto ok = smmu.init(setup); !ok) {
      log("%.*s%s%.*s is not used: %s", static_cast<int>(name.size()), name.data(), kind.empty() ? "" : ", ",
          static_cast<int>(kind.size()), kind.data(), ok.error());
      smmus[i].problem = ok.error();
      continue;
    }
    smmus[i].usable = true;
    connect_or_poll(i, platform.smmus[i], smmu);
  }
}

void machine_cut_off(unsigned smmu) {
  constexpr std::uint64_t kMost = 2'000'000;  // microseconds
  const std::string_view name = smmus[smmu].instance->name();
  const std::uint64_t deadline = counter() + microseconds_to_ticks(kMost);
  while (!stop_functions(smmu))
    if (counter() > deadline)
      panic("%.*s can be neither stopped nor cleaned, and devices behind it go on", static_cast<int>(name.size()),
            name.data());
  log("%.*s: bus mastering is taken from all functions behind it; memory that is given back is not used again",
      static_cast<int>(name.size()), name.data());
}

bool machine_has_polled_smmus() { return std::ranges::contains(polled, true); }

void machine_poll_smmus() {
  constexpr unsigned kMostRounds = 8;  // as many records as a full queue has
  for (unsigned i = 0; i < smmu_count; ++i) {
    if (!polled[i]) continue;
    SmmuInstance& smmu = *smmus[i].instance;
    smmu.on_global_error();
    for (unsigned round = 0; round < kMostRounds; ++round)
      if (smmu.drain_page_requests(kEventsPerInterrupt) + smmu.drain_events(kEventsPerInterrupt) == 0) break;
  }
}

void machine_more_events(unsigned index) {
  if (event_intids[index] != 0) gic_set_pending(event_intids[index], 0, true);
}

void machine_route_smmu(const Platform& platform, unsigned index, unsigned pcpu) {
  const Smmu& wires = platform.smmus[index];
  for (const auto& interrupt : {wires.event_queue, wires.pri_queue, wires.global_error})
    if (interrupt) gic_route_spi(interrupt->intid, pcpu);
}

void machine_after_events(void (*hook)()) { after_events = hook; }

SmmuInstance* machine_smmu(unsigned index) {
  return index < smmu_count && smmus[index].usable ? smmus[index].instance.get() : nullptr;
}
unsigned machine_smmu_count() { return smmu_count; }
const char* machine_smmu_problem(unsigned index) { return smmus[index].problem; }

const pci::Topology& machine_pci() { return *topology; }

bool machine_snoops(const Platform& platform, const pci::Function& function) {
  const auto host = std::ranges::find(platform.pci_hosts, function.path.segment, &PciHost::segment);
  return host != platform.pci_hosts.end() && host->coherent;
}

pci::ConfigPort* machine_config(const Platform& platform, const pci::Function& function) {
  const auto host = std::ranges::find(platform.pci_hosts, function.path.segment, &PciHost::segment);
  return host == platform.pci_hosts.end() ? nullptr
                                          : ecams[static_cast<std::size_t>(host - platform.pci_hosts.begin())].get();
}

std::span<const PciFunctionFact> machine_pci_facts(const Platform& platform) {
  std::size_t n = 0;
  for (const pci::Function& f : topology->functions()) {
    PciFunctionFact& fact = facts[n++];
    fact = {.path = f.path, .bridge = f.bridge, .smmu = {}, .line = {}, .group = f.group, .requester = f.requester};
    if (f.problem != nullptr) fact.problem = f.problem;
    if (!f.streams.empty()) fact.smmu = platform.smmus[f.streams[0].smmu].name;
    fact.coherent = machine_snoops(platform, f);
    if (f.line) fact.line = f.line->intid;
  }
  return {facts.get(), n};
}

}  // namespace weir
