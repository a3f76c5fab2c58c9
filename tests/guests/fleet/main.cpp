// A VM with devices behind many SMMUs and several CPUs that map, unmap, invalidate and let the devices do DMA all at once:
// no access through a mapping that is gone after its SYNC. The iommu-testdevs compare with *physical* addresses.
//
// bootargs: `devices=N` and `cpus=N` that there must be; `rounds=N` for each CPU; `flood` or `flood=N`: nothing but commands, until
// `q` is typed or there were N; `faults` or `faults=N`: nothing but faults of a device; `measure`: how long SYNCs take; `vm=N`:
// different ones in VMs beside each other; `wait`: begin when `g` is typed; `late-events`; `bare` on QEMU without Weir; `verbose`.
#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/gic.hpp"
#include "tests/guests/bare/pci.hpp"
#include "tests/guests/bare/psci.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/fleet/fleet.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "fleet";

namespace weir::guest {
namespace {

constinit Fleet the_fleet{};
constinit Totals the_totals{};
constinit std::atomic<unsigned> finished{0};
constinit unsigned rounds = 0;
constinit bool flooding = false;

// An ASID for each use; all fit into 8 bits.
ASID shared_asid(unsigned space) { return ASID{static_cast<std::uint16_t>(1 + space)}; }
ASID recycled_asid(unsigned cpu) { return ASID{static_cast<std::uint16_t>(0x40 + cpu)}; }

void find() {
  check("devices");
  const Machine& m = machine();
  Fleet& f = the_fleet;
  f.late_events = m.has_option("late-events");
  f.cpus = static_cast<unsigned>(m.option("cpus", 1));
  expect(f.cpus <= m.cpus && f.cpus <= kMostCpus, "number of CPUs", m.cpus);
  if (!expect(m.smmu_count != 0 && m.smmu_count <= kMostUnits, "number of SMMUs", m.smmu_count)) return;
  f.unit_count = m.smmu_count;
  for (unsigned i = 0; i < f.unit_count; ++i) {
    f.units[i].smmu = Smmu{m.smmus[i].base, m.has_option("flood") ? 10U : Smmu::kQueueLog2};
    f.units[i].intid = m.smmus[i].intid;
  }
  for (unsigned slot = 1; slot < pci::kSlots; ++slot) {
    if (pci::identity(slot) != TestDevice::kIdentity) continue;
    Device& d = f.devices[f.device_count++];
    d.slot = slot;
    expect(m.find_stream(pci::rid(slot), d.unit, d.sid), "no iommu-map for slot", slot);
    d.dma = TestDevice{pci::enable(slot)};
    Unit& unit = f.units[d.unit];
    unit.devices[unit.device_count++] = &d;
  }
  expect_equal(f.device_count, m.option("devices", 1), "number of iommu-testdevs");
  for (unsigned i = 0; i < f.unit_count; ++i) expect(f.units[i].device_count != 0, "an SMMU without devices", i);
}

// With translation off a device's address is an IPA. Of all candidates only one physical address has what it wrote, if VMs
// that run this payload use different pages for it.
void find_physical() {
  check("physical-address");
  constexpr std::uint64_t kStep = 0x20'0000, kRam = 0x4000'0000, kEnd = 0x4'0000'0000;
  const std::uint64_t n = machine().option("vm", 0);
  const std::uint64_t page = allocate((n + 1) * kPage) + n * kPage;
  for (std::uint64_t base = kRam; base < kEnd; base += kStep) {
    const auto result = the_fleet.devices[0].dma.dma(page, base + (page - machine().ram));
    the_fleet.to_physical = base - machine().ram;
    if (result == TestDevice::mismatch) continue;
    store32(page, 0);
    if (result == TestDevice::ok) return;
    break;
  }
  expect(false, "no place has what the device wrote");
}

void make_spaces(Unit& unit) {
  for (unsigned s = 0; s < kSpaces; ++s) unit.spaces[s] = AddressSpace{shared_asid(s), unit.output};
  for (unsigned cpu = 0; cpu < the_fleet.cpus; ++cpu) {
    for (unsigned s = 0; s < kSpaces; ++s)
      for (unsigned slot = 0; slot < kSlots; ++slot) {
        Mapping& m = unit.mappings[cpu][s][slot];
        for (std::uint64_t& page : m.pages) page = allocate(kPage);
        m.mapped = slot != 0;
        unit.spaces[s].map(iova_of(cpu, slot), m.pages[0]);
        if (!m.mapped) unit.spaces[s].unmap(iova_of(cpu, slot));
      }
    Recycled& r = unit.recycled[cpu];
    for (unsigned i = 0; i < 2; ++i) {
      r.spaces[i] = AddressSpace{recycled_asid(cpu), unit.output};
      r.pages[i] = allocate(kPage);
      r.spaces[i].map(iova_of(cpu, 0), r.pages[i]);
    }
  }
}

void bring_up(Unit& unit, unsigned index) {
  Smmu& smmu = unit.smmu;
  if (!expect(smmu.init() && smmu.set_enabled(true), "the SMMU does not come up", index)) return;
  unit.output = smmu.output_size();
  unit.ranges = smmu.ranges();
  make_spaces(unit);
  for (unsigned i = 0; i < unit.device_count; ++i) {
    Device& d = *unit.devices[i];
    for (std::uint64_t& cd : d.cds) cd = allocate(kPage);
    d.space = i % kSpaces;
    point(d, unit.spaces[d.space], false);
  }
  for (const unsigned intid : {unit.intid, unit.intid + 2}) {
    gic::set_edge(intid);
    gic::enable(intid);
  }
  smmu.write(smmu::Reg::IRQ_CTRL, smmu::IRQ_CTRL{}.set<smmu::IRQ_CTRL::EVENTQ_IRQEN>(true).words[0]);
}

void run_cpu(std::uint64_t cpu) {
  if (flooding) {
    flood(static_cast<unsigned>(cpu));
  } else {
    work(static_cast<unsigned>(cpu), rounds);
  }
  ++finished;
  if (cpu != 0) hvc(psci::kCpuOff);
}

void wait_for(char wanted) {
  for (char c = 0; !typed(c) || c != wanted;) {
  }
}

void report() {
  const Totals& t = the_totals;
  unsigned faults = 0, events = 0;
  for (unsigned i = 0; i < the_fleet.unit_count; ++i) {
    expect(the_fleet.units[i].smmu.sync(), "last SYNC", i);
    take_events(the_fleet.units[i]);
  }
  for (const Device& d : the_fleet.devices) {
    faults += d.faults;
    events += d.events;
  }
  expect_equal(events, faults, "events of all faults");
  Text<200> text;
  text.put("changes ").dec(t.changes).put(", DMA ").dec(t.dma).put(", stale before SYNC ").dec(t.stale);
  text.put(", repointed ").dec(t.repointed).put(", ASIDs recycled ").dec(t.recycled).put(", faults ").dec(faults);
  text.put(", interrupts ").dec(t.interrupts);
  say(text.view());
}

}  // namespace

Fleet& fleet() { return the_fleet; }
Totals& totals() { return the_totals; }

bool Batch::run(const smmu::Command& sync) {
  Smmu& smmu = unit_.smmu;
  std::uint32_t end = 0;
  {
    const SpinLock::Guard guard{unit_.commands};
    for (unsigned i = 0; i < count_; ++i) smmu.push(commands_[i]);
    smmu.push(sync);
    end = smmu.prod();
    smmu.submit();
  }
  count_ = 0;
  return smmu.wait_consumed(end);
}
bool Batch::run() { return run(smmu::sync_none()); }
bool Batch::run_with_interrupt() {
  const unsigned before = interrupts(unit_.intid + 2);
  if (!run(smmu::sync_irq(PA{}, 0))) return false;
  for (const std::uint64_t until = now_us() + 20'000'000; interrupts(unit_.intid + 2) == before;)
    if (now_us() > until) return false;
  ++the_totals.interrupts;
  return true;
}

void take_events(Unit& unit) {
  const SpinLock::Guard guard{unit.events};
  smmu::Event e;
  while (unit.smmu.next_event(e)) {
    Device* of = nullptr;
    for (unsigned i = 0; i < unit.device_count; ++i)
      if (unit.devices[i]->sid == e.get<smmu::Event::StreamID>()) of = unit.devices[i];
    if (expect(of != nullptr && e.id() == smmu::EventId::F_TRANSLATION, "an event that nothing explains", e.words[0]))
      ++of->events;
  }
}

void point(Device& d, const AddressSpace& space, bool in_place) {
  Unit& unit = the_fleet.units[d.unit];
  const smmu::Cd cd = make_cd(space.asid(), space.root(), unit.output);
  const StreamID sid{d.sid};
  Batch batch{unit};
  if (in_place) {
    smmu::Cd invalid = cd;
    invalid.set<smmu::Cd::V>(false);
    publish_cd(d.cds[d.cd], invalid);
    batch.add(smmu::cfgi_cd(sid, {}, true));
    expect(batch.run(), "CFGI_CD and SYNC", d.slot);
    publish_cd(d.cds[d.cd], cd);
    batch.add(smmu::cfgi_cd(sid, {}, true));
    expect(batch.run(), "CFGI_CD and SYNC", d.slot);
    return;
  }
  d.cd = 1 - d.cd;
  publish_cd(d.cds[d.cd], cd);
  {
    const SpinLock::Guard guard{unit.commands};
    unit.smmu.set_ste(d.sid, Smmu::stage1(d.cds[d.cd]));
  }
  batch.add(smmu::cfgi_ste(sid, true));
  expect(batch.run(), "CFGI_STE and SYNC", d.slot);
}

}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  find();
  if (failures() == 0) find_physical();
  if (failures() != 0) return;
  gic::init();
  check("init");
  for (unsigned i = 0; i < the_fleet.unit_count; ++i) bring_up(the_fleet.units[i], i);
  if (failures() != 0) return;
  rounds = static_cast<unsigned>(machine().option("rounds", 100));
  flooding = machine().has_option("flood");
  unmask_interrupts();
  if (machine().has_option("wait")) {
    say("ready");
    wait_for('g');
  }
  check(flooding ? "flood" : "work");
  if (flooding || machine().has_option("faults")) say("flooding");
  if (machine().has_option("faults")) {
    flood_with_faults();
    return say("flooded with faults");
  }
  if (machine().has_option("measure")) {
    const Delays d = measure_syncs(rounds);
    weir::Text<100> text;
    text.put("SYNCs ").dec(rounds).put(", late ").dec(d.late).put(", at most ").dec(d.longest).put(" ns");
    return say(text.view());
  }
  for (unsigned cpu = 1; cpu < the_fleet.cpus; ++cpu)
    expect(start_cpu(cpu, run_cpu, cpu) == psci::kSuccess, "CPU_ON", cpu);
  run_cpu(0);
  while (finished < the_fleet.cpus) {
  }
  mask_interrupts();
  if (!flooding) return report();
  weir::Text<60> text;
  text.put("flooded ").dec(totals().flooded).put(" commands");
  say(text.view());
  weir::Text<60> late;
  late.put("timer ").dec(interrupts(kTimer)).put(" times, at most ").dec(latest_timer()).put(" ns late");
  say(late.view());
}
