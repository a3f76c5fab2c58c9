// What one trapped store costs, for tools/trace-exit.py: each operation runs a few times between the lines "run NAME" and
// "end NAME", and its cost is printed in ticks of the virtual counter (under -icount shift=0 on -cpu max: instructions from
// before the store to behind it).
//
// Before each operation one character is read from the console, so that a tool can switch tracing on; `free-running`
// in the bootargs does without. The vSMMUs are those of tests/boot/exits/manifest.dts: the first has one instance, the second three.
#include <algorithm>

#include "guest-abi/text.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/pci.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/bare/smmu.hpp"
#include "tests/guests/bare/testdev.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "exits";

namespace weir::guest {
namespace {

using smmu::Reg;

constexpr unsigned kRuns = 8;
constexpr ASID kAsid{7};
constexpr std::uint64_t kIova = 0x1234'5000;

std::uint64_t ticks() {
  isb();
  return WEIR_READ_SYSREG("cntvct_el0");
}

void wait_for_key() {
  if (machine().has_option("free-running")) return;
  constexpr std::uint64_t kData = 0x00, kFlags = 0x18;
  constexpr std::uint32_t kEmpty = 1U << 4;
  while ((load32(machine().uart + kFlags) & kEmpty) != 0) {
  }
  (void)load32(machine().uart + kData);
}

// `prepare` is not measured; `store` is one trapped store.
template <typename Prepare, typename Store>
void measure(std::string_view name, Prepare prepare, Store store) {
  std::uint64_t empty = ~std::uint64_t{0};
  for (unsigned i = 0; i < kRuns; ++i) {
    const std::uint64_t before = ticks();
    empty = std::min(empty, ticks() - before);
  }
  Text<80> line;
  line.put("run ").put(name);
  say(line.view());
  wait_for_key();
  std::uint64_t least = ~std::uint64_t{0}, most = 0;
  for (unsigned i = 0; i < kRuns; ++i) {
    prepare();
    const std::uint64_t before = ticks();
    store();
    const std::uint64_t taken = ticks() - before - empty;
    if (i == 0) continue;  // what is done once
    least = std::min(least, taken);
    most = std::max(most, taken);
  }
  Text<120> result;
  result.put("end ").put(name).put(": ").dec(least).put(" to ").dec(most).put(" ticks");
  say(result.view());
}

void push(Smmu& s, unsigned invalidations) {
  for (unsigned i = 0; i < invalidations; ++i) s.push(smmu::tlbi_nh_va({}, kAsid, IOVA{kIova + i * kPage4K}, true));
  s.push(smmu::sync_none());
}

void measure_batch(std::string_view name, Smmu& s, unsigned invalidations) {
  measure(name, [&] { push(s, invalidations); }, [&] { s.submit(); });
  expect(s.wait_consumed(), name);
}

// What Linux sends for one page: it gives its size, and has the SYNC answered in memory.
void measure_linux(std::string_view name, Smmu& s) {
  constexpr smmu::TlbiRange kOnePage{.tg = smmu::TlbiGranule::size4k, .ttl = 3};
  const PA answer{allocate(kPage4K)};
  measure(
      name,
      [&] {
        s.push(smmu::tlbi_nh_va({}, kAsid, IOVA{kIova}, true, kOnePage));
        s.push(smmu::sync_irq(answer, 0));
      },
      [&] { s.submit(); });
  expect(s.wait_consumed(), name);
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  const Machine& m = machine();
  check("devices");
  std::array<Smmu, 8> smmus{};
  for (unsigned i = 0; i < m.smmu_count; ++i) {
    smmus[i] = Smmu{m.smmus[i].base};
    if (!expect(smmus[i].init() && smmus[i].set_enabled(true), "SMMU does not come up", i)) return;
  }
  AddressSpace space{kAsid, smmus[0].output_size()};
  space.map(kIova, allocate(weir::kPage4K));
  unsigned found = 0;
  for (unsigned slot = 1; slot < pci::kSlots; ++slot) {
    if (pci::identity(slot) != TestDevice::kIdentity) continue;
    unsigned smmu = 0;
    std::uint32_t sid = 0;
    if (!expect(m.find_stream(pci::rid(slot), smmu, sid), "no iommu-map for slot", slot)) return;
    smmus[smmu].set_ste(sid, Smmu::stage1(space));
    expect(smmus[smmu].sync(weir::smmu::cfgi_ste(weir::StreamID{sid}, true)), "CFGI_STE", slot);
    ++found;
  }
  expect_equal(found, m.option("devices", 4), "devices");
  check("operations");
  Smmu& one = smmus[0];
  const std::uint64_t id_register = m.smmus[0].base + static_cast<std::uint32_t>(weir::smmu::Reg::IDR0);
  measure("null", [] {}, [&] { store32(id_register, 0); });
  measure("ignored-64", [] {}, [&] { store64(m.smmus[0].base + 0x700, 0); });
  measure("prod", [] {}, [&] { one.submit(); });
  measure_batch("sync", one, 0);
  measure_batch("single", one, 1);
  measure_linux("linux", one);
  measure_batch("batch64", one, 63);
  if (m.smmu_count > 1) {
    measure_batch("sync-3", smmus[1], 0);
    measure_batch("single-3", smmus[1], 1);
    measure_batch("batch64-3", smmus[1], 63);
  }
}
