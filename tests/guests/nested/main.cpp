// Nested translation as a guest sees it: QEMU's iommu-testdevs behind one or several vSMMUs, driven by hand. The device
// compares what it wrote with a *physical* address, so this also shows where in the machine data really lands.
//
// bootargs: `bare` on QEMU without Weir; `seconds=N` repeats the invalidations for so long; `busy`: others use
// the SMMU, too; `devices=N` that there must be; `quarantine` or `stop`: only the violation of the first device, and
// what becomes of it; `narrowed`: the first vSMMU offers less; `verbose`.
#include <bit>

#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/pci.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/nested/fixture.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "nested";

namespace weir::guest {
namespace {

void find_devices() {
  check("devices");
  const Machine& m = machine();
  Fixture& f = fixture();
  f.nested = !m.has_option("bare");
  f.smmu_count = m.smmu_count;
  for (unsigned i = 0; i < m.smmu_count; ++i) f.smmus[i] = Smmu{m.smmus[i].base};
  for (unsigned slot = 1; slot < pci::kSlots && f.device_count < kMaxDevices; ++slot) {
    if (pci::identity(slot) != TestDevice::kIdentity) continue;
    Device d;
    d.slot = slot;
    expect(m.find_stream(pci::rid(slot), d.smmu, d.sid), "no iommu-map for slot", slot);
    const std::uint64_t registers = pci::enable(slot);
    expect(registers != 0, "no BAR in slot", slot);
    d.dma = TestDevice{registers};
    f.devices[f.device_count++] = d;
  }
  expect(f.smmu_count != 0, "no SMMU in the devicetree");
  expect_equal(f.device_count, m.option("devices", 2), "number of iommu-testdevs");
}

// With translation off a device's address is an IPA. Of all candidates only one physical address has what it wrote.
void find_physical() {
  check("physical-address");
  Fixture& f = fixture();
  constexpr std::uint64_t kStep = 0x20'0000, kRam = 0x4000'0000, kEnd = 0x4'0000'0000;
  const std::uint64_t page = make_page();
  const std::uint64_t in_ram = page - machine().ram;
  unsigned found = 0;
  for (std::uint64_t base = kRam; base < kEnd; base += kStep) {
    const auto result = f.devices[0].dma.dma(page, base + in_ram);
    if (result == TestDevice::read_fault) break;
    f.physical_end = base + kStep;
    if (!expect(result == TestDevice::ok || result == TestDevice::mismatch, "DMA with the SMMU off", result)) return;
    if (result != TestDevice::ok) continue;
    ++found;
    f.to_physical = base - machine().ram;
  }
  expect_equal(found, 1, "places with what the device wrote");
  expect(written(page), "the CPU does not see what the device wrote");
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  find_devices();
  if (failures() != 0) return;
  find_physical();
  if (failures() != 0) return;
  if (machine().has_option("quarantine") || machine().has_option("stop")) return check_policy();
  check_identity();
  check_bypass();
  check_gbpa();
  check("init");
  Fixture& f = fixture();
  for (unsigned i = 0; i < f.smmu_count; ++i)
    if (!expect(f.smmus[i].init() && f.smmus[i].set_enabled(true), "SMMU does not come up", i)) return;
  check_streams();
  check_stage1();
  check_invalidation();
  check_separation();
  check_faults();
  if (f.nested) check_refusal();
  check_errors();
  check_interrupts();
  check_flood();
  const std::uint64_t until = now_us() + machine().option("seconds", 0) * 1'000'000;
  // Fewer faults a second than a stream may cause for ever (vsmmu/flood.hpp), and commands all the time.
  while (now_us() < until) {
    check_invalidation();
    for (const std::uint64_t start = now_us(); now_us() - start < 10'000;)
      for (unsigned i = 0; i < f.smmu_count; ++i) expect(f.smmus[i].sync(weir::smmu::tlbi_nh_all({})), "SYNC", i);
  }
  check_disable();
}
