// As many commands as the vSMMUs take.
#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/gic.hpp"
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

}  // namespace

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
