// As many commands as the vSMMUs take.
#include <algorithm>

#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/gic.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/fleet/fleet.hpp"

namespace weir::guest {
namespace {

constinit std::atomic<bool> stop{false};

void flood_once(Unit& unit, Random& random, bool watches) {
  Smmu& smmu = unit.smmu;
  unsigned room = smmu.free_slots();
  totals().flooded += room;
  for (; room > 0; --room) {
    const auto asid = unit.spaces[random.below(kSpaces)].asid();
    const IOVA at{random.next() & 0x7f'ffff'f000};
    switch (random.below(16)) {
      case 0: smmu.push(smmu::sync_none()); break;
      case 1: smmu.push(smmu::tlbi_nh_asid({}, asid)); break;
      case 2: smmu.push(smmu::cfgi_cd_all(StreamID{unit.devices[random.below(unit.device_count)]->sid})); break;
      default: smmu.push(smmu::tlbi_nh_va({}, asid, at, true)); break;
    }
  }
  if (watches) arm_timer(random.below(100'000));  // to come while the commands are carried out
  smmu.submit();
}

std::uint64_t now_ns() {
  isb();
  return WEIR_READ_SYSREG("cntvct_el0") * 1'000'000 / (WEIR_READ_SYSREG("cntfrq_el0") / 1000);
}

// What a device's DMA finds at an address that is not mapped.
void fault_once(Device& device) { (void)device.dma.dma(0x7f'0000'0000, 0); }

}  // namespace

// Faults of one device, and a command that repairs it for every hundred; until `q` is typed or there were N (`faults=N`).
void flood_with_faults() {
  Device& device = fleet().devices[0];
  Unit& unit = fleet().units[device.unit];
  const std::uint64_t most = machine().option("faults", 0);
  for (std::uint64_t n = 0; !stop; ++n) {
    fault_once(device);
    if (n % 100 == 99) {
      Batch batch{unit};
      batch.add(smmu::cfgi_ste(StreamID{device.sid}, true));
      if (!expect(batch.run(), "CFGI_STE and SYNC while its device floods")) return;
    }
    if (most != 0 && n + 1 == most) stop = true;
    if (char c = 0; n % 16 == 0 && typed(c) && c == 'q') stop = true;
  }
}

Delays measure_syncs(unsigned rounds) {
  Unit& unit = fleet().units[0];
  Delays delays;
  for (unsigned i = 0; i < rounds; ++i) {
    Batch batch{unit};
    batch.add(smmu::tlbi_nh_va({}, unit.spaces[0].asid(), IOVA{i * kPage}, true));
    const std::uint64_t start = now_ns();
    if (!expect(batch.run(), "TLBI and SYNC beside a flood", i)) break;
    const std::uint64_t took = now_ns() - start;
    delays.longest = std::max(delays.longest, took);
    if (took > kLateNs) ++delays.late;
  }
  return delays;
}

void flood(unsigned cpu) {
  Random random;
  random.state += cpu;
  const std::uint64_t most = machine().option("flood", 0);
  if (cpu == 0) gic::enable(kTimer);
  while (!stop) {
    for (unsigned u = cpu; u < fleet().unit_count; u += fleet().cpus) flood_once(fleet().units[u], random, cpu == 0);
    if (most != 0 && totals().flooded > most) stop = true;
    if (char c = 0; cpu == 0 && typed(c) && c == 'q') stop = true;
  }
  for (unsigned u = cpu; u < fleet().unit_count; u += fleet().cpus)
    expect(fleet().units[u].smmu.sync(), "SYNC after the flood", u);
}

}  // namespace weir::guest
