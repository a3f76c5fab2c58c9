// What hangs on the PCI Express hosts: found, numbered and given addresses by Weir, because nobody did so before it.
//
// A devicetree does not name root buses: every bus number of the host's bus-range that answers while all bridges are
// closed is one (several root complexes behind one ECAM; QEMU's pxb buses).
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>

#include "hyp/manifest/topology_path.hpp"
#include "hyp/pci/config.hpp"
#include "hyp/platform/platform.hpp"

namespace weir::pci {

inline constexpr unsigned kMaxFunctions = 128;

struct BarInfo {
  PA base;
  std::uint64_t bytes = 0;  // a multiple of 4 KiB; 0: not implemented, or an I/O BAR, which Weir never enables
  bool wide = false;        // also occupies the next slot
  bool prefetchable = false;
};

struct Function {
  Rid rid;
  TopologyPath path;
  std::uint16_t vendor = 0;
  std::uint16_t device_id = 0;
  std::uint32_t class_code = 0;  // 24 bits
  bool bridge = false;
  std::array<BarInfo, kBars> bars{};
  std::optional<StreamRef> stream;  // who translates its DMA
  std::optional<Interrupt> line;    // where its INTx arrives
};

enum class EnumerationError : std::uint8_t {
  too_many_functions,
  too_deep,
  no_bus_number,  // the root bus has no numbers left below the next one
  no_address,     // a window is full
};
[[nodiscard]] const char* to_string(EnumerationError error);

class Topology {
 public:
  // Finds all functions of a host, numbers buses, assigns BARs and bridge windows. Afterwards every function has memory
  // decoding, bus mastering, INTx and MSI off, bridges forward, and ACS keeps functions apart. Run it before the first SMMU command and with the
  // SMMUs aborting DMA. Callable once per host.
  [[nodiscard]] std::expected<void, EnumerationError> enumerate(ConfigPort& config, const PciHost& host);

  [[nodiscard]] std::span<const Function> functions() const { return {functions_.data(), count_}; }
  [[nodiscard]] const Function* find(const TopologyPath& path) const;
  // The bridges above `function` let through what it sends as translated by ATS. Whether it may do so is the SMMU's
  // decision, for each stream (EATS, CR0.ATSCHK).
  void pass_translated(ConfigPort& config, const Function& function) const;

 private:
  struct Scan;
  using Result = std::expected<void, EnumerationError>;
  [[nodiscard]] Result scan_bus(Scan& scan, unsigned bus, const TopologyPath& above);
  [[nodiscard]] Result scan_function(Scan& scan, Rid rid, const TopologyPath& above);
  [[nodiscard]] Result open_bridge(Scan& scan, const Function& bridge);

  std::array<Function, kMaxFunctions> functions_{};
  unsigned count_ = 0;
};

}  // namespace weir::pci
