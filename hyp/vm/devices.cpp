#include "hyp/vm/devices.hpp"

#include <algorithm>
#include <bit>
#include <cstdarg>
#include <cstdio>
#include <memory>

#include "guest-abi/smmu/print.hpp"
#include "hyp/arch/barriers.hpp"
#include "hyp/arch/cache.hpp"
#include "hyp/arch/pcpu.hpp"
#include "hyp/gic/vgic.hpp"
#include "hyp/log/log.hpp"
#include "hyp/machine/grace.hpp"
#include "hyp/machine/interrupt_home.hpp"
#include "hyp/machine/machine.hpp"
#include "hyp/machine/tick.hpp"
#include "hyp/machine/wall_clock.hpp"
#include "hyp/mem/pages.hpp"
#include "hyp/pci/virtual_host.hpp"
#include "hyp/vm/grants.hpp"
#include "hyp/vm/rtc_device.hpp"
#include "hyp/vm/table_pages.hpp"
#include "hyp/vm/vsmmu_device.hpp"
#include "stage2/domain.hpp"
#include "stage2/support/make.hpp"

namespace weir {
namespace {

constexpr unsigned kMaxBackings = decltype(VsmmuConfig::backing)::capacity;
constexpr unsigned kMaxFurtherStreams = 64;  // of a VM's devices that have several StreamIDs

// Arguments for "%.*s".
#define TEXT(view) static_cast<int>((view).size()), (view).data()

[[gnu::format(printf, 1, 2)]] std::unexpected<DeviceError> error(const char* format, ...) {
  DeviceError e;
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(e.text, sizeof e.text, format, arguments);
  va_end(arguments);
  return std::unexpected{e};
}

const char* reason(stage2::Error e) {
  switch (e) {
    case stage2::Error::out_of_memory: return "out of memory";
    case stage2::Error::no_free_vmid: return "no VMID is left";
    case stage2::Error::no_such_stream: return "StreamID beyond the stream table";
    case stage2::Error::out_of_range: return "StreamID beyond what the vSMMU offers";
    case stage2::Error::already_mapped: return "given twice";
    case stage2::Error::incompatible: return "the SMMU does not suit";
    default: return "refused";
  }
}

// The device that has the same Requester IDs on the physical machine, the first in the manifest, or the device itself.
const DeviceConfig& first_of_group(const VmConfig& vm, const DeviceConfig& device) {
  const pci::Function* function = machine_pci().find(device.pci);
  for (const DeviceConfig& other : vm.devices)
    if (const pci::Function* f = machine_pci().find(other.pci);
        f != nullptr && function != nullptr && f->group == function->group)
      return other;
  return device;
}

VStreamID vsid_of(const VmConfig& vm, const DeviceConfig& device) {
  return VStreamID{pci::Rid{0, first_of_group(vm, device).slot, 0}.value()};
}

// A stream of one of the VM's functions, under one of its vSMMUs.
class Binding final : public StreamOwner {
 public:
  Binding(Vm& vm, const DeviceConfig& config, StreamID stream, SmmuInstance& on, vsmmu::VSmmu& vsmmu)
      : StreamOwner{stream, &vsmmu}, smmu{on}, vm_{vm}, config_{config}, vsmmu_{vsmmu} {}

  [[nodiscard]] VStreamID vsid() const { return vsid_of(vm_.config(), config_); }
  [[nodiscard]] const DeviceConfig& config() const { return config_; }
  void on_event(SmmuInstance& from, const smmu::Event& event) override;
  bool on_page_request(SmmuInstance& from, const smmu::PriEntry& request) override;
  void on_events_lost(SmmuInstance& from) override;
  void on_page_requests_lost(SmmuInstance& from) override;
  void on_atc_timeout(SmmuInstance& from) override;
  void on_smmu_failed(SmmuInstance& from) override;
  // What could not be done while events were being delivered.
  void act();

  SmmuInstance& smmu;
  std::uint64_t violations = 0;

 private:
  void violation(const smmu::Event& event);
  void punish();

  Vm& vm_;
  const DeviceConfig& config_;
  vsmmu::VSmmu& vsmmu_;
  std::uint64_t host_events_ = 0;
  std::atomic<bool> flood_{false};
  std::atomic<bool> punish_{false};
  std::atomic<bool> hung_{false};
  std::atomic<bool> failed_{false};
};

// A vSMMU has to be ticked for so long after the last thing that it was told: stalls grow old, budgets fill up again.
constexpr unsigned kTicksOfInterest =
    std::max<unsigned>(vsmmu::kStallTicks, vsmmu::EventBudget::kBurst / vsmmu::EventBudget::kRefill) + 8;
constinit std::atomic<unsigned> quiet_ticks{0};
constinit std::atomic<bool> to_act{false};  // some Binding::act() has something to do

void set(std::atomic<bool>& flag) {
  flag.store(true);
  to_act.store(true);
}

void something_happened() {
  quiet_ticks.store(0, std::memory_order_relaxed);
  machine_want_tick();
}

void Binding::on_event(SmmuInstance& from, const smmu::Event& event) {
  something_happened();
  const auto report = vsmmu_.handle_event(from, event);
  if (!report) return;
  if (report->flooding) set(flood_);
  if (report->owner == vsmmu::EventOwner::stage2) violation(event);
  if (report->owner == vsmmu::EventOwner::host && std::has_single_bit(++host_events_)) {
    Text<200> text;
    smmu::print(text, event);
    log("vm %.*s: device %.*s: event %llu: %.*s", TEXT(vm_.name()), TEXT(config_.name),
        static_cast<unsigned long long>(host_events_), TEXT(text.view()));
  }
}

bool Binding::on_page_request(SmmuInstance& from, const smmu::PriEntry& request) {
  something_happened();
  return vsmmu_.handle_page_request(from, request);
}

void Binding::on_events_lost(SmmuInstance& from) { vsmmu_.events_lost(from); }

void Binding::on_page_requests_lost(SmmuInstance& from) {
  something_happened();
  vsmmu_.page_requests_lost(from);
}

void Binding::on_atc_timeout(SmmuInstance&) {
  vsmmu_.atc_timed_out(vsid());
  set(hung_);
  something_happened();
}

// Bus mastering goes at once: the SMMU may not stop translating.
void Binding::on_smmu_failed(SmmuInstance&) {
  if (vm_.pci != nullptr) vm_.pci->fence(config_.slot);
  failed_.store(true);
  something_happened();
}

void Binding::violation(const smmu::Event& event) {
  constexpr std::string_view kPolicies[] = {"logged", "the device is quarantined", "the VM is stopped"};
  const std::string_view policy = kPolicies[static_cast<unsigned>(config_.on_violation)];
  if (std::has_single_bit(++violations)) {  // the 1st, 2nd, 4th, ...
    Text<200> text;
    smmu::print(text, event);
    log("violation %llu: vm %.*s: device %.*s reached for memory that is not the VM's: %.*s: %.*s",
        static_cast<unsigned long long>(violations), TEXT(vm_.name()), TEXT(config_.name), TEXT(policy),
        TEXT(text.view()));
  }
  if (config_.on_violation != ViolationPolicy::log) set(punish_);
}

void Binding::act() {
  if (flood_.exchange(false)) vsmmu_.silence_floods();
  if (punish_.exchange(false)) punish();
  if (hung_.exchange(false)) {
    vm_.pci->fence(config_.slot);
    log("vm %.*s: device %.*s does not answer invalidations of its address translations: it is cut off",
        TEXT(vm_.name()), TEXT(config_.name));
  }
  if (failed_.exchange(false)) {
    vsmmu_.instance_failed(smmu);
    log("vm %.*s: device %.*s: %.*s has failed: it is cut off", TEXT(vm_.name()), TEXT(config_.name),
        TEXT(smmu.name()));
  }
}

void Binding::punish() {
  if (config_.on_violation == ViolationPolicy::stop) vm_.stop(StopReason::violation);
  if (config_.on_violation == ViolationPolicy::quarantine) {
    for (const DeviceConfig& device : vm_.config().devices)  // which of them it was, nothing tells
      if (vsid_of(vm_.config(), device) == vsid()) vm_.pci->fence(device.slot);
    vsmmu_.quarantine(vsid());
  }
}

// Everything of one VM.
struct Devices {
  std::unique_ptr<RtcDevice> rtc;
  std::array<std::unique_ptr<VsmmuDevice>, kMaxVsmmus> vsmmus;
  std::unique_ptr<pci::VirtualHost> host;
  std::array<std::unique_ptr<Binding>, kMaxVmDevices + kMaxFurtherStreams> bindings;
  std::size_t binding_count = 0;
  std::array<VmFunction, kMaxVmDevices> functions{};
  std::size_t function_count = 0;
  struct Line {
    std::uint32_t physical;
    std::uint32_t intid;
  };
  StaticVector<Line, kMaxVmDevices> lines;
  // What the summary says, for the time after all that has been given back.
  std::array<StaticVector<VmBacking, kMaxBackings>, kMaxVsmmus> backings;
  TableClasses classes;
};
constinit std::array<std::unique_ptr<Devices>, kMaxVms> all;

void act_on_events() {
  if (!to_act.exchange(false)) return;
  for (const auto& devices : all) {
    if (!devices) continue;
    for (const auto& binding : devices->bindings)
      if (binding) binding->act();
  }
}

bool on_tick() {
  bool alarms = false;  // are set
  machine_poll_smmus();
  for (const auto& devices : all) {
    if (!devices) continue;
    for (const auto& vsmmu : devices->vsmmus)
      if (vsmmu && vsmmu->device) vsmmu->device->tick();
    if (devices->rtc && devices->rtc->device.tick()) alarms = true;
  }
  act_on_events();
  return quiet_ticks.fetch_add(1, std::memory_order_relaxed) < kTicksOfInterest || alarms || machine_has_polled_smmus();
}

// check_against() has seen to it that there is one of this name.
unsigned index_of(std::string_view smmu, const Platform& platform) {
  return static_cast<unsigned>(std::ranges::find(platform.smmus, smmu, &Smmu::name) - platform.smmus.begin());
}
// The SMMU of this name; nullptr: it cannot be used.
SmmuInstance* smmu_named(std::string_view name, const Platform& platform) {
  return machine_smmu(index_of(name, platform));
}

std::expected<void, DeviceError> make_vsmmu(Vm& vm, Devices& devices, unsigned index, const Platform& platform) {
  const VsmmuConfig& config = vm.config().vsmmus[index];
  std::array<stage2::SmmuPort*, kMaxBackings> instances{};
  std::size_t count = 0;
  for (const std::string_view name : config.backing) {
    SmmuInstance* smmu = smmu_named(name, platform);
    if (smmu == nullptr)
      return error("vm %.*s: vsmmu %.*s: backing \"%.*s\" cannot be used: %s; expected an SMMU that can nest",
                   TEXT(vm.name()), TEXT(config.name), TEXT(name), machine_smmu_problem(index_of(name, platform)));
    instances[count++] = smmu;
  }
  auto device = make<VsmmuDevice>(vm, index);
  if (!device || !device->allocate_pages())
    return error("vm %.*s: vsmmu %.*s: no memory", TEXT(vm.name()), TEXT(config.name));
  const vsmmu::Config limits = vsmmu_limits(vm.config(), index, CpuView::kInputBits);
  // All SMMUs of the VM fetch what is in there, whichever the stream is behind.
  auto& hidden = dma_demands(vm.config(), platform).clean_to_memory ? cleaned_table_pages() : coherent_table_pages();
  const vsmmu::Surroundings surroundings{
      .memory = device->memory(),
      .interrupts = *device,
      .drain = *device,
      .domain = vm.domain(),
      .pages = device->pages(),
      .hidden = {.pages = &hidden, .base = guest_map::hidden_cds(index), .bytes = guest_map::kHiddenCdBytes}};
  auto created = vsmmu::VSmmu::create(limits, {instances.data(), count}, surroundings);
  if (!created)
    return error("vm %.*s: vsmmu %.*s: %.*s: %s %.*s", TEXT(vm.name()), TEXT(config.name),
                 TEXT(created.error().instance), reason(created.error().error), TEXT(created.error().feature));
  device->device = std::move(*created);
  // What the guest polls is read without an exit, and stores fault: read-only, and of a type that no stage 1 weakens.
  const stage2::Attributes registers{
      .memory = stage2::Memory::device_nGnRE, .read = true, .write = false, .execute = false};
  const IPA base = device->base();
  if (!vm.view().map(base, device->page(0), kPage4K, registers) ||
      !vm.view().map(base + smmu::kPage1, device->page(1), kPage4K, registers) ||
      !vm.bus().add(base, guest_map::kVsmmuBytes, *device))
    return error("vm %.*s: vsmmu %.*s: its registers cannot be mapped", TEXT(vm.name()), TEXT(config.name));
  vm.vsmmus[index] = {device->device.get(), base};
  vm.vsmmu_count = index + 1;
  devices.vsmmus[index] = std::move(device);
  return {};
}

// The VM's interrupt for a physical line; several of its functions may share one.
std::expected<std::uint32_t, DeviceError> intid_of(Vm& vm, Devices& devices, const DeviceConfig& config,
                                                   std::uint32_t physical) {
  for (const Devices::Line& line : devices.lines)
    if (line.physical == physical) return line.intid;
  const auto intid = guest_map::kFirstIntxIntid + static_cast<std::uint32_t>(devices.lines.size());
  if (!vm.vgic->bind_spi(intid, physical))
    return error(
        "vm %.*s: device %.*s: its interrupt line, INTID %u, cannot be had: the GIC does not have it, or it is "
        "in use",
        TEXT(vm.name()), TEXT(config.name), static_cast<unsigned>(physical));
  if (!devices.lines.push_back({physical, intid}))
    return error("vm %.*s: device %.*s: too many interrupt lines", TEXT(vm.name()), TEXT(config.name));
  return intid;
}

// A grant is a permission; what the hardware lacks does not come into being by it.
void report_missing(const Vm& vm, const DeviceConfig& config, const vsmmu::Announced& announced,
                    const pci::CapabilityGrant& visible, const pci::VirtualFunction& function) {
  const auto missing = [&](const char* grant, bool offered, std::uint16_t capability) {
    if (offered && capability != 0) return;
    log("vm %.*s: device %.*s: %s is granted, but %s", TEXT(vm.name()), TEXT(config.name), grant,
        offered ? "the device has no such capability" : "not all SMMUs of its vSMMU have it");
  };
  if (config.ats != AtsChoice::none) missing("ats", announced.idr0.get<smmu::IDR0::ATS>(), function.ats);
  if (config.pri) missing("pri", announced.idr0.get<smmu::IDR0::PRI>(), function.pri);
  if (config.pasid) missing("pasid", visible.pasid_bits != 0, function.pasid);
}

// Functions behind the SMMU whose page requests it has to hold.
unsigned page_requesters(std::span<const VmConfig> vms, unsigned smmu) {
  unsigned n = 0;
  for (const VmConfig& vm : vms)
    for (const DeviceConfig& device : vm.devices) {
      const pci::Function* function = device.pri ? machine_pci().find(device.pci) : nullptr;
      if (function != nullptr && !function->streams.empty() && function->streams[0].smmu == smmu) ++n;
    }
  return n;
}

// Takes one of the StreamIDs of a device for the VM. The device's own comes first; what it shares with others of the
// VM may have been taken with them.
std::expected<void, DeviceError> add_stream(Vm& vm, Devices& devices, const DeviceConfig& config,
                                            const StreamRef& stream, const Platform& platform) {
  SmmuInstance* smmu = machine_smmu(stream.smmu);
  if (smmu == nullptr)
    return error("vm %.*s: device %.*s: %.*s cannot be used", TEXT(vm.name()), TEXT(config.name),
                 TEXT(platform.smmus[stream.smmu].name));
  const VStreamID vsid = vsid_of(vm.config(), config);
  bool further = false;
  for (const auto& other : devices.bindings) {
    if (!other || other->vsid() != vsid) continue;
    if (&other->smmu == smmu && other->sid == stream.stream) return {};
    further = true;
  }
  if (devices.binding_count == devices.bindings.size())
    return error("vm %.*s: device %.*s: too many StreamIDs", TEXT(vm.name()), TEXT(config.name));
  vsmmu::VSmmu& vsmmu = *devices.vsmmus[config.vsmmu]->device;
  auto binding = make<Binding>(vm, config, stream.stream, *smmu, vsmmu);
  if (!binding) return error("vm %.*s: device %.*s: no memory", TEXT(vm.name()), TEXT(config.name));
  if (!smmu->claim(*binding))
    return error("vm %.*s: device %.*s: its StreamID %#x is another device's", TEXT(vm.name()), TEXT(config.name),
                 stream.stream.value);
  devices.bindings[devices.binding_count++] = std::move(binding);
  const auto done = further ? vsmmu.attach_further(vsid, *smmu, stream.stream)
                            : vsmmu.attach(vsid, *smmu, stream.stream, stream_grant(config));
  if (!done)
    return error("vm %.*s: device %.*s: %.*s, StreamID %#x: %s", TEXT(vm.name()), TEXT(config.name), TEXT(smmu->name()),
                 stream.stream.value, reason(done.error()));
  return {};
}

// What the operator has to know about a function that cannot be shown.
std::unexpected<DeviceError> not_shown(Vm& vm, const DeviceConfig& config, const pci::Function& function,
                                       pci::AddError why) {
  const pci::BarInfo& bar = function.bars[why.bar];
  const auto bytes = static_cast<unsigned long long>(bar.bytes);
  const auto base = static_cast<unsigned long long>(bar.base.value);
  switch (why.what) {
    case pci::AddError::What::slot_taken: break;
    case pci::AddError::What::no_room:
      return error("vm %.*s: device %.*s: BAR %u, %llu bytes, does not fit into the VM's PCI windows", TEXT(vm.name()),
                   TEXT(config.name), why.bar, bytes);
    case pci::AddError::What::unreachable:
      return error(
          "vm %.*s: device %.*s: BAR %u, %llu bytes at %#llx, lies beyond the %u bits of address that stage 2 has",
          TEXT(vm.name()), TEXT(config.name), why.bar, bytes, base, vm.view().geometry().output_bits());
  }
  return error("vm %.*s: device %.*s: slot %u is taken", TEXT(vm.name()), TEXT(config.name), config.slot);
}

std::expected<void, DeviceError> add_function(Vm& vm, Devices& devices, std::size_t index, const Platform& platform,
                                              std::span<const VmConfig> vms) {
  const DeviceConfig& config = vm.config().devices[index];
  const pci::Function* function = machine_pci().find(config.pci);
  // check_against() has seen to it that the function exists and is behind one of the vSMMU's SMMUs.
  if (function == nullptr || function->streams.empty())
    return error("vm %.*s: device %.*s: there is no such function", TEXT(vm.name()), TEXT(config.name));
  for (const StreamRef& stream : function->streams)
    if (auto done = add_stream(vm, devices, config, stream, platform); !done) return done;
  const SmmuInstance& smmu = *machine_smmu(function->streams[0].smmu);
  vsmmu::VSmmu& vsmmu = *devices.vsmmus[config.vsmmu]->device;
  std::uint32_t intid = 0;
  if (function->line) {
    const auto bound = intid_of(vm, devices, config, function->line->intid);
    if (!bound) return std::unexpected{bound.error()};
    intid = *bound;
  }
  pci::ConfigPort& port = *machine_config(platform, *function);
  const unsigned page_requests = page_request_share(smmu.page_request_capacity(), page_requesters(vms, smmu.index()));
  const pci::CapabilityGrant visible = capability_grant(config, vsmmu.announced(), page_requests);
  if (const auto added = devices.host->add(port, *function, config.slot, intid != 0, visible); !added)
    return not_shown(vm, config, *function, added.error());
  if (smmu.failed())
    return error("vm %.*s: device %.*s: %.*s has failed", TEXT(vm.name()), TEXT(config.name), TEXT(smmu.name()));
  const pci::VirtualFunction& shown = *devices.host->at(config.slot);
  report_missing(vm, config, vsmmu.announced(), visible, shown);
  if (shown.ats != 0) machine_pci().pass_translated(port, *function);
  devices.functions[devices.function_count++] = {config.slot,
                                                 config.vsmmu,
                                                 intid,
                                                 shown.ats != 0,
                                                 machine_snoops(platform, *function),
                                                 vsid_of(vm.config(), config)};
  return {};
}

std::expected<void, DeviceError> attach_all(Vm& vm, Devices& devices, const Platform& platform,
                                            std::span<const VmConfig> vms) {
  for (unsigned i = 0; i < vm.config().vsmmus.size(); ++i)
    if (auto ok = make_vsmmu(vm, devices, i, platform); !ok) return ok;
  if (wall_clock()) {
    devices.rtc = make<RtcDevice>(vm);
    if (!devices.rtc || !vm.bus().add(guest_map::kRtc, guest_map::kRtcBytes, devices.rtc->device))
      return error("vm %.*s: no memory for its RTC", TEXT(vm.name()));
  }
  if (platform.pci_hosts.empty()) return {};
  devices.host = make<pci::VirtualHost>(vm.view(), pci::IpaWindow{guest_map::kPci32, guest_map::kPci32Bytes},
                                        pci::IpaWindow{guest_map::kPci64, guest_map::kPci64Bytes},
                                        pci::IpaWindow{guest_map::kPciIo, guest_map::kPciIoBytes});
  if (!devices.host || !vm.bus().add(guest_map::kEcam, guest_map::kEcamBytes, *devices.host))
    return error("vm %.*s: no memory for the PCI host", TEXT(vm.name()));
  vm.pci = devices.host.get();
  for (std::size_t i = 0; i < vm.config().devices.size(); ++i)
    if (auto ok = add_function(vm, devices, i, platform, vms); !ok) return ok;
  return {};
}

void note_backings(Vm& vm, Devices& devices) {
  for (unsigned i = 0; i < vm.vsmmu_count; ++i)
    for (const vsmmu::Backing& backing : vm.vsmmus[i].device->backings()) {
      const stage2::HostTag* const held = backing.tag(vsmmu::TagKind::held);  // most streams use it, if there is one
      const stage2::HostTag& tag = held != nullptr ? *held : *backing.tag(vsmmu::TagKind::open);
      VmBacking note{.smmu = tag.smmu().name(), .vmid = tag.vmid(), .table_class = vm.domain().class_of(tag)};
      for (const auto& binding : devices.bindings)
        if (binding && &binding->smmu == &tag.smmu() && binding->config().vsmmu == i) ++note.streams;
      if (!devices.backings[i].push_back(note)) return;
    }
}

TableClasses table_classes(Vm& vm) {
  TableClasses classes;
  for (unsigned i = 0; i < TableClasses::capacity; ++i)
    if (const auto info = vm.domain().class_info(i); !info || !classes.push_back(*info)) break;
  return classes;
}

}  // namespace

DmaDemands dma_demands(const VmConfig& config, const Platform& platform) {
  DmaDemands demands;
  unsigned instances = 0, dirty = 0;
  for (const VsmmuConfig& vsmmu : config.vsmmus)
    for (const std::string_view name : vsmmu.backing) {
      const SmmuInstance* smmu = smmu_named(name, platform);
      if (smmu == nullptr) continue;
      const stage2::Capabilities& has = smmu->capabilities();
      if (!has.idr0.get<smmu::IDR0::COHACC>()) demands.clean_to_memory = true;
      demands.bbml = std::min(demands.bbml, static_cast<unsigned>(has.idr3.get<smmu::IDR3::BBML>()));
      ++instances;
      demands.output = std::min(demands.output, has.idr5.get<smmu::IDR5::OAS>());
      if (stage2::keeps_dirty_state(has)) ++dirty;
    }
  demands.dirty_state = instances != 0 && dirty == instances;
  return demands;
}

std::expected<void, DeviceError> attach_devices(Vm& vm, const Platform& platform, std::span<const VmConfig> vms) {
  machine_after_events(act_on_events);
  auto& devices = all[vm.id()];
  devices = make<Devices>();
  if (!devices) return error("vm %.*s: no memory for its devices", TEXT(vm.name()));
  auto ok = attach_all(vm, *devices, platform, vms);
  if (ok) note_backings(vm, *devices);
  if (!ok) detach_devices(vm);
  return ok;
}

bool devices_to_act() { return to_act.load(std::memory_order_relaxed); }

namespace {

bool owns_streams_of(Vm& vm, const SmmuInstance& smmu) {
  for (const auto& binding : all[vm.id()]->bindings)
    if (binding && &binding->smmu == &smmu) return true;
  return false;
}

// Each SMMU's interrupts go where they cost a VM that has devices there, or nobody.
void route_interrupts(const Platform& platform) {
  for (unsigned i = 0; i < machine_smmu_count(); ++i) {
    const SmmuInstance* smmu = machine_smmu(i);
    if (smmu == nullptr) continue;
    StaticVector<PcpuUse, kMaxPcpus> uses;
    for (unsigned p = 0; p < pcpu_count(); ++p) {
      Vcpu* const vcpu = pcpu(p).vcpu;
      static_cast<void>(uses.push_back({.online = pcpu(p).online,
                                        .idle = vcpu == nullptr,
                                        .owns = vcpu != nullptr && owns_streams_of(vcpu->vm(), *smmu)}));
    }
    machine_route_smmu(platform, i, interrupt_home({uses.data(), uses.size()}, i));
  }
}

}  // namespace

void start_device_clock(const Platform& platform) {
  machine_tick_init(platform.timers, on_tick);
  route_interrupts(platform);
  if (machine_has_polled_smmus()) machine_want_tick();
}

// DMA stops first, then the functions fall silent; nobody hears of events any more once the streams have no owner.
void detach_devices(Vm& vm) {
  Devices* devices = all[vm.id()].get();
  if (devices == nullptr) return;
  devices->classes = table_classes(vm);
  if (devices->host) devices->host->release();
  if (devices->rtc) devices->rtc->device.reset();  // no alarm is set any more
  for (const auto& vsmmu : devices->vsmmus)
    if (vsmmu && vsmmu->device) vsmmu->device->shutdown();
  for (const auto& binding : devices->bindings)
    if (binding) binding->smmu.release(*binding);
  for (const Devices::Line& line : devices->lines) vm.vgic->unbind_spi(line.intid);
  devices->lines.clear();
}

std::span<const VmFunction> vm_functions(const Vm& vm) {
  const Devices* devices = all[vm.id()].get();
  if (devices == nullptr) return {};
  return {devices->functions.data(), devices->function_count};
}

std::span<const VmBacking> vm_backings(const Vm& vm, unsigned vsmmu) {
  const Devices* devices = all[vm.id()].get();
  if (devices == nullptr) return {};
  return {devices->backings[vsmmu].data(), devices->backings[vsmmu].size()};
}

TableClasses vm_table_classes(Vm& vm) {
  const Devices* devices = all[vm.id()].get();
  if (vm.state() != VmState::stopped || devices == nullptr) return table_classes(vm);
  return devices->classes;
}

std::uint64_t vm_violations(const Vm& vm) {
  const Devices* devices = all[vm.id()].get();
  std::uint64_t sum = 0;
  if (devices != nullptr)
    for (const auto& binding : devices->bindings) sum += binding ? binding->violations : 0;
  return sum;
}

}  // namespace weir
