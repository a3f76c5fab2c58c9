// BARs of devices unlike iommu-testdev: a high one (virtio-rng-pci), and one in I/O space (pci-serial).
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/pci.hpp"
#include "tests/guests/bare/report.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "pci";

namespace weir::guest {
namespace {

constexpr std::uint32_t kVirtioRng = 0x1044'1af4;
constexpr std::uint32_t kSerial = 0x0002'1b36;
constexpr std::uint16_t kIo = 1, kMemory = 2;
enum Register : unsigned { kCommand = 0x04, kBar0 = 0x10, kBar4 = 0x20, kBar5 = 0x24 };

// Where the VM's devicetree says that I/O addresses begin.
constexpr std::uint64_t kIoWindow = 0x3eff'0000;

void check_high_bar(unsigned slot) {
  check("high-bar");
  constexpr std::uint64_t kAt = 0x2000'0000;
  store32(pci::config(slot, kBar4), kAt);
  store32(pci::config(slot, kBar5), 0);
  store16(pci::config(slot, kCommand), kMemory);
  barrier();
  // virtio_pci_common_cfg: the upper half of the device's features has VIRTIO_F_VERSION_1.
  store32(kAt, 1);
  barrier();
  expect((load32(kAt + 4) & 1) != 0, "VIRTIO_F_VERSION_1");
}

void check_io_bar(unsigned slot) {
  check("io-bar");
  store32(pci::config(slot, kBar0), ~std::uint32_t{0});
  expect_equal(load32(pci::config(slot, kBar0)) & 3, 1, "an I/O BAR");
  constexpr std::uint32_t kAt = 0x4000;
  store32(pci::config(slot, kBar0), kAt);
  store16(pci::config(slot, kCommand), kIo);
  barrier();
  constexpr std::uint64_t kScratch = kIoWindow + kAt + 7;  // a 16550's
  for (const unsigned value : {0x5aU, 0xa5U}) {
    store8(kScratch, static_cast<std::uint8_t>(value));
    barrier();
    expect_equal(load8(kScratch), value, "the scratch register");
  }
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  unsigned found = 0;
  for (unsigned slot = 0; slot < pci::kSlots; ++slot) {
    if (pci::identity(slot) == kVirtioRng) check_high_bar(slot), ++found;
    if (pci::identity(slot) == kSerial) check_io_bar(slot), ++found;
  }
  check("devices");
  expect_equal(found, machine().option("devices", 1), "devices found");
}
