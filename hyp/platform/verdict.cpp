#include "hyp/platform/verdict.hpp"

#include <algorithm>
#include <array>

#include "hyp/platform/devicetree.hpp"
#include "hyp/platform/platform.hpp"

namespace weir {
namespace {

using dt::Node;
using dt::Property;

// What there is instead of a piece. Empty: nothing.
std::string_view instead_of_memory(Node root) {
  for (Node n = root.first_child(); n; n = n.next_sibling())
    if (n.property("device_type").string(0) == "memory") return "empty: the boot loader's to fill in";
  return "no node: the boot loader's to add";
}

std::string_view instead_of_cpus(Node root) {
  for (Node n = root.child("cpus").first_child(); n; n = n.next_sibling())
    if (const Property method = n.property("enable-method")) return method.string(0);
  return "no enable-method";
}

std::string_view instead_of_psci(Node root) {
  for (Node n = root.next(); n; n = n.next())
    for (const char* version : {"arm,psci-1.0", "arm,psci-0.2", "arm,psci"})
      if (n.compatible(version)) return n.property("method").string(0) == "hvc" ? "by HVC" : version;
  return {};
}

// The binding arm,gic.yaml: GICs before version 3.
std::string_view instead_of_gic(Node root) {
  constexpr std::array kOlder{"arm,gic-400",        "arm,cortex-a15-gic", "arm,cortex-a9-gic",   "arm,cortex-a7-gic",
                              "arm,arm11mp-gic",    "arm,eb11mp-gic",     "arm,pl390",           "arm,tc11mp-gic",
                              "qcom,msm-8660-qgic", "qcom,msm-qgic2",     "nvidia,tegra210-agic"};
  for (Node n = root.next(); n; n = n.next())
    for (const char* older : kOlder)
      if (n.compatible(older)) return older;
  return {};
}

std::string_view instead_of_uart(Node root) {
  if (!root.child("chosen").has("stdout-path")) return "no stdout-path";
  const Node node = stdout_node(root);
  if (node.compatible("arm,pl011")) return "whose registers overlap memory, or have no address";
  return node ? node.property("compatible").string(0) : "stdout-path names no node";
}

void list_missing(dt::Line& line, Node root, const Platform& platform) {
  struct Wanted {
    Piece piece;
    std::string_view name;
    std::string_view (*instead)(Node root);
  };
  constexpr auto nothing = [](Node) { return std::string_view{}; };
  constexpr std::array<Wanted, 6> kWanted{{{Piece::memory, "memory", instead_of_memory},
                                           {Piece::cpus, "CPUs by PSCI", instead_of_cpus},
                                           {Piece::psci, "PSCI by SMC", instead_of_psci},
                                           {Piece::gic, "GICv3", instead_of_gic},
                                           {Piece::timers, "timers of Armv8", nothing},
                                           {Piece::uart, "PL011", instead_of_uart}}};
  std::string_view separator = "lacks ";
  for (const auto& [piece, name, instead] : kWanted) {
    if (!platform.lacks(piece)) continue;
    if (piece == Piece::timers && platform.lacks(Piece::gic)) continue;  // their interrupts lead to another GIC
    line << separator << name;
    if (const std::string_view other = instead(root); !other.empty()) line << " (" << other << ")";
    separator = ", ";
  }
}

}  // namespace

dt::Line verdict(const void* dtb, std::size_t size, const Platform& platform) {
  dt::Line line;
  const auto [root, error] = dt::open(dtb, size);
  if (!root) return line << error;
  if (platform.missing == 0)
    line << "usable";
  else
    list_missing(line, root, platform);
  const auto count = [&](std::string_view what, std::size_t n) {
    if (n != 0) line << "; " << what << ": " << n;
  };
  count("SMMUv3", platform.smmus.size() + platform.smmus_beyond);
  count("PCI hosts", platform.pci_hosts.size() + platform.pci_hosts_beyond);
  count("PCI hosts of other kinds", platform.pci_hosts_of_other_kinds);
  return line;
}

}  // namespace weir
