// The machine, as its devicetree describes it; nothing else tells Weir where it runs. Portable: the host checker runs
// the same code. Names are views into the blob, which must stay in place as long as the Platform is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>

#include "guest-abi/types.hpp"
#include "hyp/mem/memory_range.hpp"
#include "hyp/platform/devicetree.hpp"
#include "hyp/platform/line.hpp"
#include "hyp/platform/remarks.hpp"
#include "hyp/platform/static_vector.hpp"

namespace weir {

enum class Trigger : std::uint8_t { edge, level };

struct Interrupt {
  std::uint32_t intid{};
  Trigger trigger{Trigger::level};
  friend constexpr bool operator==(const Interrupt&, const Interrupt&) = default;
};

struct Uart {  // an arm,pl011
  std::string_view name;
  int node{};  // offset in the blob
  MemoryRange registers;
  std::optional<Interrupt> interrupt;
};

struct GicV3 {
  MemoryRange distributor;
  StaticVector<MemoryRange, 32> redistributors;  // regions of one or more redistributors each
  std::uint64_t redistributor_stride{};          // 0: 128 KiB, or 256 KiB where GICR_TYPER.VLPIS is set
  std::optional<Interrupt> maintenance;
  std::optional<MemoryRange> its;  // the first one; not used yet
};

struct Timers {  // PPIs
  std::uint32_t physical{};
  std::uint32_t virtual_{};
  std::uint32_t hypervisor{};  // EL2 physical
};

// One arm,smmu-v3. A combined interrupt stands in for each of the others.
struct Smmu {
  std::string_view name;  // node name with unit address, for example "smmuv3@c020000"
  int node{};             // offset in the blob
  // What it is compatible with beside arm,smmu-v3: its most specific name, or a property that stands for an erratum. Empty:
  // nothing.
  std::string_view compatible;
  MemoryRange registers;
  bool coherent{};  // dma-coherent: its own walks and queues
  std::optional<Interrupt> event_queue, pri_queue, command_sync, global_error;
};

enum class PciWindowKind : std::uint8_t { io, memory32, memory64 };

struct PciWindow {
  PciWindowKind kind{};
  bool prefetchable{};
  std::uint64_t pci{};  // bus address
  PA cpu;
  std::uint64_t bytes{};
};

struct PciInterruptRoute {  // one line of interrupt-map
  std::uint32_t address{};  // first cell of the unit address: bus << 16 | devfn << 8, masked
  std::uint32_t pin{};      // 1..4 = INTA..INTD, masked
  Interrupt interrupt;
};

struct StreamRange {  // one line of iommu-map: RIDs [rid, rid + count) have StreamIDs [stream, stream + count)
  std::uint32_t rid{};
  std::uint32_t count{};
  unsigned smmu{};  // index into Platform::smmus
  StreamID stream;
};

struct StreamRef {
  unsigned smmu{};  // index into Platform::smmus
  StreamID stream;
  friend constexpr bool operator==(const StreamRef&, const StreamRef&) = default;
};

struct PciHost {  // pci-host-ecam-generic; may have several root buses
  std::string_view name;
  std::uint16_t segment{};
  MemoryRange ecam;  // of bus `first_bus` on
  std::uint8_t first_bus{};
  std::uint8_t last_bus{};
  bool coherent{};
  StaticVector<PciWindow, 8> windows;
  std::uint32_t route_address_mask{};
  std::uint32_t route_pin_mask{};
  StaticVector<PciInterruptRoute, 128> routes;
  std::uint32_t rid_mask{0xffff};  // iommu-map-mask
  StaticVector<StreamRange, 32> streams;

  // Where INTA..INTD (pin 1..4) of the function `devfn` on the *root* bus `bus` goes. The caller swizzles pins up to
  // there.
  [[nodiscard]] std::optional<Interrupt> route(std::uint8_t bus, std::uint8_t devfn, unsigned pin) const;
  // Which SMMU translates for `rid` (bus << 8 | devfn), and under which StreamID.
  [[nodiscard]] std::optional<StreamRef> stream(std::uint16_t rid) const;
};

// What Weir cannot do without.
enum class Piece : std::uint8_t { memory, cpus, psci, gic, timers, uart };

struct Platform {
  std::string_view model;
  StaticVector<MemoryRange, 512> ram;       // sorted, disjoint; ranges that say "no-map" are cut out
  StaticVector<MemoryRange, 512> reserved;  // sorted, disjoint. In use: memreserve, reserved-memory, dtb, initrd
  MemoryRange dtb;
  std::optional<MemoryRange> initrd;     // linux,initrd-start and -end, if they name memory
  StaticVector<std::uint64_t, 64> cpus;  // MPIDR affinity of each CPU that PSCI can start, in devicetree order
  Uart uart;
  std::optional<MemoryRange> rtc;  // an arm,pl031
  GicV3 gic;
  Timers timers;
  StaticVector<PciHost, 8> pci_hosts;
  StaticVector<Smmu, 16> smmus;
  unsigned cpus_beyond{}, smmus_beyond{}, pci_hosts_beyond{};  // usable ones that there is no room for
  unsigned pci_hosts_of_other_kinds{};                         // that Weir has no driver for
  std::uint8_t missing{};                                      // bit n: Piece n
  Remarks remarks;                                             // what is odd, and left out

  [[nodiscard]] bool lacks(Piece piece) const { return (missing >> static_cast<unsigned>(piece) & 1) != 0; }
  // Bytes of RAM outside of `reserved`; and of them in whole, aligned units (a power of two).
  [[nodiscard]] std::uint64_t unreserved_ram() const { return unreserved_units(1); }
  [[nodiscard]] std::uint64_t unreserved_units(std::uint64_t unit) const;
  // The largest StreamID that a device may have at the SMMU; 0 if it has none.
  [[nodiscard]] StreamID last_stream(unsigned smmu) const;
};

// One line: node, property, value, what is wrong, what was expected.
class PlatformError {
 public:
  explicit PlatformError(const dt::Line& line) : line_{line} {}
  [[nodiscard]] const char* c_str() const { return line_.c_str(); }
  [[nodiscard]] std::string_view line() const { return line_.view(); }

 private:
  dt::Line line_;
};

// Fills `platform` (about 60 KB: not for a stack) from the flattened devicetree of `size` readable bytes at `dtb`,
// 8-byte aligned, which lies at `address` in physical memory. PSCI by SMC, a GICv3, armv8 timers, RAM, a CPU and a
// PL011 are required; SMMUs, PCI hosts and an initrd may be absent. What is odd and not required is left out, with a remark.
// On error, which names the first required piece that is missing, `platform` has what was found nevertheless, `missing`
// tells all of them, and remarks name the others.
[[nodiscard]] std::expected<void, PlatformError> discover(const void* dtb, std::size_t size, PA address,
                                                          Platform& platform);

// Only the UART, so that an error of discover() can be printed: /chosen/stdout-path, else the alias serial0, else the
// first PL011.
[[nodiscard]] std::expected<Uart, PlatformError> discover_uart(const void* dtb, std::size_t size);

// The node that /chosen/stdout-path names, of whatever kind; none if there is no such property or node.
[[nodiscard]] dt::Node stdout_node(dt::Node root);

}  // namespace weir
