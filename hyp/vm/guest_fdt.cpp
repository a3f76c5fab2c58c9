#include "hyp/vm/guest_fdt.hpp"

#include <libfdt.h>

#include <array>
#include <initializer_list>

#include "guest-abi/text.hpp"
#include "hyp/pci/config.hpp"
#include "hyp/vm/guest_map.hpp"
#include "hyp/vm/vcpu_affinity.hpp"

namespace weir {
namespace {

enum Phandle : std::uint32_t { kGic = 1, kClock = 2, kVsmmus = 0x10 };
// Cells of the GICv3 binding.
enum GicCell : std::uint32_t { kSpi = 0, kPpi = 1, kEdgeRising = 1, kLevelHigh = 4 };
constexpr std::uint32_t kFirstSpi = 32;
// "ranges" of a PCI host: the space code of the first cell.
enum PciSpace : std::uint32_t { kIo = 0x0100'0000, kMemory32 = 0x0200'0000, kMemory64Prefetch = 0x4300'0000 };
constexpr std::uint32_t kUartHz = 24'000'000;

// libfdt's sequential writer; the first error sticks.
class Writer {
 public:
  explicit Writer(std::span<std::byte> out) : fdt_{out.data()} {
    check(fdt_create(fdt_, static_cast<int>(out.size())));
    if (error_ == 0) check(fdt_finish_reservemap(fdt_));
  }
  // False: the buffer cannot even hold the header. What is in it is then not libfdt's, which would trust it.
  [[nodiscard]] bool created() const { return error_ == 0; }
  void begin(const char* name) { check(fdt_begin_node(fdt_, name)); }
  void begin(const char* name, std::uint64_t unit) {
    Text<40> text;
    text.put(name).put('@').hex_digits(unit).put('\0');
    begin(text.view().data());
  }
  void end() { check(fdt_end_node(fdt_)); }
  void bytes(const char* name, std::span<const std::byte> value) {
    check(fdt_property(fdt_, name, value.data(), static_cast<int>(value.size())));
  }
  void flag(const char* name) { check(fdt_property(fdt_, name, nullptr, 0)); }
  void text(const char* name, std::string_view value) {
    void* at = nullptr;
    check(fdt_property_placeholder(fdt_, name, static_cast<int>(value.size() + 1), &at));
    if (error_ != 0) return;
    auto* chars = static_cast<char*>(at);
    for (const char c : value) *chars++ = c;
    *chars = '\0';
  }
  // Several strings, given as one literal with embedded zeros; its own terminator ends the last.
  template <std::size_t N>
  void texts(const char* name, const char (&value)[N]) {
    check(fdt_property(fdt_, name, value, N));
  }
  void cells(const char* name, std::initializer_list<std::uint32_t> values) {
    start_cells(name, values.size());
    for (const std::uint32_t value : values) cell(value);
  }
  // For lists of a length known at run time: `count` calls of cell() follow.
  void start_cells(const char* name, std::size_t count) {
    void* at = nullptr;
    check(fdt_property_placeholder(fdt_, name, static_cast<int>(count * sizeof(fdt32_t)), &at));
    next_ = error_ == 0 ? static_cast<fdt32_t*>(at) : nullptr;
  }
  void cell(std::uint32_t value) {
    if (next_ != nullptr) fdt32_st(next_++, value);
  }
  void number(const char* name, std::uint64_t value) { cells(name, {high(value), low(value)}); }
  void reg(IPA base, std::uint64_t bytes) {
    cells("reg", {high(base.value), low(base.value), high(bytes), low(bytes)});
  }
  [[nodiscard]] std::expected<std::size_t, const char*> finish() {
    if (error_ == 0) check(fdt_finish(fdt_));
    if (error_ != 0) return std::unexpected{fdt_strerror(error_)};
    return fdt_totalsize(fdt_);
  }

  static constexpr std::uint32_t high(std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32); }
  static constexpr std::uint32_t low(std::uint64_t value) { return static_cast<std::uint32_t>(value); }

 private:
  void check(int result) {
    if (error_ == 0 && result < 0) error_ = result;
  }
  void* fdt_;
  fdt32_t* next_ = nullptr;
  int error_ = 0;
};

void write_chosen(Writer& w, const GuestHardware& hw) {
  w.begin("chosen");
  if (!hw.bootargs.empty()) w.text("bootargs", hw.bootargs);
  w.text("stdout-path", "serial0:115200n8");
  if (hw.initrd_bytes != 0) {
    w.number("linux,initrd-start", hw.initrd.value);
    w.number("linux,initrd-end", hw.initrd.value + hw.initrd_bytes);
  }
  if (hw.seeds) {
    w.number("kaslr-seed", hw.seeds->kaslr);
    w.bytes("rng-seed", hw.seeds->rng);
  }
  w.end();
  w.begin("aliases");
  w.text("serial0", "/pl011@9000000");
  w.end();
}

void write_cpus(Writer& w, const GuestHardware& hw) {
  w.begin("cpus");
  w.cells("#address-cells", {1});
  w.cells("#size-cells", {0});
  for (unsigned i = 0; i < hw.vcpus; ++i) {
    w.begin("cpu", vcpu_affinity(i));
    w.text("device_type", "cpu");
    w.text("compatible", "arm,armv8");
    w.cells("reg", {Writer::low(vcpu_affinity(i))});
    w.text("enable-method", "psci");
    w.end();
  }
  w.end();
  w.begin("psci");
  w.texts("compatible", "arm,psci-1.0\0arm,psci-0.2");
  w.text("method", "hvc");
  w.end();
}

void write_base(Writer& w) {
  w.begin("timer");
  w.text("compatible", "arm,armv8-timer");
  // Secure physical, physical, virtual, hypervisor: the order is the binding's. The guest uses the second or third.
  w.cells("interrupts", {kPpi, 13, kLevelHigh, kPpi, 14, kLevelHigh, kPpi, 11, kLevelHigh, kPpi, 10, kLevelHigh});
  w.flag("always-on");
  w.end();

  w.begin("apb-pclk");
  w.text("compatible", "fixed-clock");
  w.cells("#clock-cells", {0});
  w.cells("clock-frequency", {kUartHz});
  w.cells("phandle", {kClock});
  w.end();

  static_assert(guest_map::kUart.value == 0x900'0000, "the alias serial0 names it");
  w.begin("pl011", guest_map::kUart.value);
  w.texts("compatible", "arm,pl011\0arm,primecell");
  w.reg(guest_map::kUart, guest_map::kUartBytes);
  w.cells("interrupts", {kSpi, guest_map::kUartIntid - kFirstSpi, kLevelHigh});
  w.cells("clocks", {kClock, kClock});
  w.texts("clock-names", "uartclk\0apb_pclk");
  w.end();
}

void write_rtc(Writer& w) {
  w.begin("pl031", guest_map::kRtc.value);
  w.texts("compatible", "arm,pl031\0arm,primecell");
  w.reg(guest_map::kRtc, guest_map::kRtcBytes);
  w.cells("interrupts", {kSpi, guest_map::kRtcIntid - kFirstSpi, kLevelHigh});
  w.cells("clocks", {kClock});
  w.text("clock-names", "apb_pclk");
  w.end();
}

void write_gic(Writer& w, const GuestHardware& hw) {
  using guest_map::kGicd;
  using guest_map::kGicr;
  const std::uint64_t gicr_bytes = hw.vcpus * guest_map::kGicrBytes;
  w.begin("intc", kGicd.value);
  w.text("compatible", "arm,gic-v3");
  w.flag("interrupt-controller");
  w.cells("#interrupt-cells", {3});
  w.cells("#address-cells", {0});
  w.cells("reg", {Writer::high(kGicd.value), Writer::low(kGicd.value), 0, guest_map::kGicdBytes,
                  Writer::high(kGicr.value), Writer::low(kGicr.value), 0, Writer::low(gicr_bytes)});
  w.cells("phandle", {kGic});
  w.end();
}

void write_vsmmu(Writer& w, const GuestVsmmu& vsmmu, std::uint32_t phandle) {
  w.begin("smmuv3", vsmmu.base.value);
  w.text("compatible", "arm,smmu-v3");
  w.reg(vsmmu.base, guest_map::kVsmmuBytes);
  const std::uint32_t spi = vsmmu.first_intid - kFirstSpi;
  if (vsmmu.pri) {
    w.cells("interrupts", {kSpi, spi, kEdgeRising, kSpi, spi + 1, kEdgeRising, kSpi, spi + 2, kEdgeRising, kSpi,
                           spi + 3, kEdgeRising});
    w.texts("interrupt-names", "eventq\0priq\0cmdq-sync\0gerror");
  } else {
    w.cells("interrupts", {kSpi, spi, kEdgeRising, kSpi, spi + 2, kEdgeRising, kSpi, spi + 3, kEdgeRising});
    w.texts("interrupt-names", "eventq\0cmdq-sync\0gerror");
  }
  w.cells("#iommu-cells", {1});
  if (vsmmu.coherent) w.flag("dma-coherent");
  w.cells("phandle", {phandle});
  w.end();
}

void write_pci(Writer& w, const GuestHardware& hw) {
  using namespace guest_map;
  w.begin("pcie", kEcam.value);
  w.text("compatible", "pci-host-ecam-generic");
  w.text("device_type", "pci");
  w.cells("#address-cells", {3});
  w.cells("#size-cells", {2});
  w.cells("bus-range", {0, Writer::low(kEcamBytes / 0x10'0000 - 1)});
  w.reg(kEcam, kEcamBytes);
  w.cells("ranges", {kIo,
                     0,
                     0,
                     0,
                     Writer::low(kPciIo.value),
                     0,
                     Writer::low(kPciIoBytes),  //
                     kMemory32,
                     0,
                     Writer::low(kPci32.value),
                     0,
                     Writer::low(kPci32.value),
                     0,
                     Writer::low(kPci32Bytes),
                     kMemory64Prefetch,
                     Writer::high(kPci64.value),
                     Writer::low(kPci64.value),
                     Writer::high(kPci64.value),
                     Writer::low(kPci64.value),
                     Writer::high(kPci64Bytes),
                     Writer::low(kPci64Bytes)});
  w.cells("#interrupt-cells", {1});
  if (hw.dma_coherent) w.flag("dma-coherent");
  if (hw.ats) w.flag("ats-supported");

  std::size_t lines = 0;
  for (const GuestFunction& f : hw.functions) lines += f.intid != 0 ? 1 : 0;
  if (lines != 0) {
    constexpr std::uint32_t kDeviceMask = 0xf800, kPinMask = 7, kIntA = 1;
    w.cells("interrupt-map-mask", {kDeviceMask, 0, 0, kPinMask});
    w.start_cells("interrupt-map", lines * 8);
    for (const GuestFunction& f : hw.functions) {
      if (f.intid == 0) continue;
      const std::uint32_t address = pci::Rid{0, f.slot, 0}.value() << 8;
      for (const std::uint32_t c : {address, 0u, 0u, kIntA, std::uint32_t{kGic}, std::uint32_t{kSpi},
                                    f.intid - kFirstSpi, std::uint32_t{kLevelHigh}})
        w.cell(c);
    }
  }
  if (!hw.functions.empty()) {
    w.start_cells("iommu-map", hw.functions.size() * 4);
    for (const GuestFunction& f : hw.functions) {
      const std::uint32_t rid = pci::Rid{0, f.slot, 0}.value();
      for (const std::uint32_t c : {rid, kVsmmus + f.vsmmu, f.vsid.value, 1u}) w.cell(c);
    }
  }
  w.end();
}

}  // namespace

std::expected<std::size_t, const char*> make_guest_fdt(const GuestHardware& hw, std::span<std::byte> out) {
  Writer w{out};
  if (!w.created()) return w.finish();
  w.begin("");
  w.text("compatible", "weir,vm");
  w.text("model", "Weir virtual machine");
  w.cells("#address-cells", {2});
  w.cells("#size-cells", {2});
  w.cells("interrupt-parent", {kGic});
  write_chosen(w, hw);
  w.begin("memory", hw.ram.value);
  w.text("device_type", "memory");
  w.reg(hw.ram, hw.ram_bytes);
  w.end();
  write_cpus(w, hw);
  write_base(w);
  if (hw.rtc) write_rtc(w);
  write_gic(w, hw);
  for (std::size_t i = 0; i < hw.vsmmus.size(); ++i)
    write_vsmmu(w, hw.vsmmus[i], kVsmmus + static_cast<std::uint32_t>(i));
  if (hw.pci) write_pci(w, hw);
  w.end();
  return w.finish();
}

}  // namespace weir
