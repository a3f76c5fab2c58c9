// What hangs on the PCI Express hosts: found, numbered and given addresses by Weir, whatever was done so before it.
//
// A devicetree does not name root buses: every bus number of the host's bus-range that answers while all bridges are
// closed is one (several root complexes behind one ECAM; QEMU's pxb buses).
//
// What is odd about the machine's hardware is left out and remarked upon; it stops nothing by itself.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "guest-abi/text.hpp"
#include "hyp/manifest/topology_path.hpp"
#include "hyp/pci/aliases.hpp"
#include "hyp/pci/config.hpp"
#include "hyp/pci/resources.hpp"
#include "hyp/platform/platform.hpp"

namespace weir::pci {

inline constexpr unsigned kMaxFunctions = 256;

struct Function {
  Rid rid;
  TopologyPath path;
  std::uint16_t vendor = 0;
  std::uint16_t device_id = 0;
  std::uint32_t class_code = 0;  // 24 bits
  bool bridge = false;
  const char* problem = nullptr;  // why no VM can have it; a bridge never can
  std::array<BarInfo, kBars> bars{};
  // Who translates its DMA, for each Requester ID under which it may arrive; its own comes first. Empty: nobody does,
  // or not for all of them.
  StaticVector<StreamRef, RequesterIds::capacity> streams;
  TopologyPath requester;         // the bridge nearest to the SMMU that replaces Requester IDs; depth 0: there is none
  std::optional<Interrupt> line;  // where its INTx arrives
  unsigned group = 0;             // functions with a stream in common have the same
};

// What was left out, or is odd.
struct Remark {
  enum class What : std::uint8_t {
    too_many_functions,  // this one and those after it
    too_deep,            // the bridge stays closed
    no_bus_number,       // the same: none is left below the next root bus
    fixed_bridge,        // the same: a BAR of it cannot be moved away
    vanished,            // answered, and does not any more
    bad_header,          // of a type that there is not
    bad_list,            // of capabilities: it loops, or leaves its range
    bar,                 // see `fault`
    too_many_ids,        // Requester IDs
  };
  What what{};
  TopologyPath path;
  BarFault fault{};
  std::uint8_t bar = 0;
  std::uint64_t value = 0;  // of the BAR: its size, or what it reads as if it has none
};
// As one line, without an end.
void print(TextBuffer& text, const Remark& remark);

class Topology {
 public:
  static constexpr std::size_t kMaxRemarks = 32;

  // Finds all functions of a host, numbers buses, assigns BARs and bridge windows. Afterwards every function is in
  // its known state (known_state.hpp) but for its BARs, bridges forward, and ACS keeps functions apart. Run it before
  // the first SMMU command and with the SMMUs aborting DMA. Callable once per host.
  void enumerate(ConfigPort& config, const PciHost& host);

  [[nodiscard]] std::span<const Function> functions() const { return {functions_.data(), count_}; }
  [[nodiscard]] const Function* find(const TopologyPath& path) const;
  // In the order in which things were found; there may have been more.
  [[nodiscard]] std::span<const Remark> remarks() const { return {remarks_.data(), remarks_.size()}; }
  [[nodiscard]] unsigned remarks_lost() const { return remarks_lost_; }
  // The bridges above `function` let through what it sends as translated by ATS. Whether it may do so is the SMMU's
  // decision, for each stream (EATS, CR0.ATSCHK).
  void pass_translated(ConfigPort& config, const Function& function) const;

 private:
  struct Scan;
  void scan_bus(Scan& scan, unsigned bus, const TopologyPath& above);
  void scan_function(Scan& scan, Rid rid, const TopologyPath& above);
  void open_bridge(Scan& scan, Function& bridge);
  [[nodiscard]] bool assign_bars(Scan& scan, Function& function);
  void find_streams(const Scan& scan, Function& function);
  void find_groups();
  void remark(const Remark& remark);

  std::array<Function, kMaxFunctions> functions_{};
  unsigned count_ = 0;
  StaticVector<Remark, kMaxRemarks> remarks_;
  unsigned remarks_lost_ = 0;
};

}  // namespace weir::pci
