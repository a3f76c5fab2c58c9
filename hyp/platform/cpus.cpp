// CPUs, PSCI, the timers.
#include <algorithm>

#include "hyp/platform/discovery.hpp"
#include "hyp/platform/translate.hpp"

namespace weir::discovery {
namespace {

using dt::Node;
using dt::Property;

// MPIDR_EL1.Aff3, Aff2, Aff1, Aff0.
constexpr std::uint64_t kAffinity = 0xff'00ff'ffff;

// A CPU that is "disabled" may be started nevertheless (Devicetree Specification 0.4, 3.8.1); one that failed may not.
bool is_cpu(Node n) {
  return n.property("device_type").string(0) == "cpu" && !n.property("status").string(0).starts_with("fail");
}

std::expected<std::uint64_t, PlatformError> affinity_of(Node n, std::size_t cells) {
  const Property reg = n.property("reg");
  if (!reg) return std::unexpected{dt::missing(n, "reg", "the CPU's MPIDR affinity")};
  if (!reg.is_cells() || reg.cells() != cells || cells > 2 || (reg.number(0, cells) & ~kAffinity) != 0)
    return std::unexpected{dt::wrong(n, reg, "not an MPIDR affinity", "#address-cells cells")};
  return reg.number(0, cells);
}

// Can PSCI start the CPU? One that is alone need not say so: it runs already.
Done startable(Node n, bool alone) {
  const Property method = n.property("enable-method");
  if (!method && !alone) return std::unexpected{dt::missing(n, "enable-method", "\"psci\"")};
  if (method && !method.contains("psci")) return std::unexpected{dt::wrong(n, method, "cannot be started", "\"psci\"")};
  return {};
}

Done add_cpu(Node n, std::size_t cells, bool alone, Platform& platform) {
  const auto affinity = affinity_of(n, cells);
  if (!affinity) return std::unexpected{affinity.error()};
  if (const auto ok = startable(n, alone); !ok) return ok;
  if (std::ranges::find(platform.cpus, *affinity) != platform.cpus.end())
    return std::unexpected{dt::wrong(n, n.property("reg"), "given twice", "one node for each CPU")};
  if (platform.cpus.push_back(*affinity)) return {};
  ++platform.cpus_beyond;
  return {};
}

}  // namespace

Done discover_cpus(Node root, Platform& platform) {
  const Node cpus = root.child("cpus");
  const auto cells = dt::cells(cpus, "#address-cells", 1);
  if (!cells) return std::unexpected{cells.error()};
  std::size_t count = 0;
  for (Node n = cpus.first_child(); n; n = n.next_sibling()) count += is_cpu(n) ? 1 : 0;
  for (Node n = cpus.first_child(); n; n = n.next_sibling()) {
    if (!is_cpu(n)) continue;
    if (const auto added = add_cpu(n, *cells, count == 1, platform); !added)
      leave_out(platform.remarks, "CPU is", added.error());
  }
  if (platform.cpus_beyond != 0) {
    dt::Line what;
    what << platform.cpus_beyond << " CPUs are";
    leave_out_rest(platform.remarks, what.view(), cpus, platform.cpus.capacity);
  }
  if (platform.cpus.empty()) return std::unexpected{no_node("device_type = \"cpu\" in /cpus, started by PSCI")};
  return {};
}

Done discover_psci(Node root) {
  Node psci = next_compatible(root, "arm,psci-1.0");
  if (!psci) psci = next_compatible(root, "arm,psci-0.2");
  if (!psci) return std::unexpected{no_node("compatible = \"arm,psci-1.0\" or \"arm,psci-0.2\"")};
  const Property method = psci.property("method");
  if (!method) return std::unexpected{dt::missing(psci, "method", "\"smc\"")};
  if (method.string(0) != "smc")
    return std::unexpected{dt::wrong(psci, method, "from EL2, firmware is called by SMC", "\"smc\"")};
  return {};
}

Done discover_timers(Node root, Timers& timers) {
  const Node node = next_compatible(root, "arm,armv8-timer");
  if (!node) return std::unexpected{no_node("compatible = \"arm,armv8-timer\"")};
  struct Wanted {
    const char* name;
    std::size_t position;  // without interrupt-names
    std::uint32_t* intid;
  };
  const Wanted all[] = {
      {"phys", 1, &timers.physical}, {"virt", 2, &timers.virtual_}, {"hyp-phys", 3, &timers.hypervisor}};
  for (const Wanted& wanted : all) {
    const auto found =
        node.has("interrupt-names") ? dt::interrupt(node, wanted.name) : dt::interrupt(node, wanted.position);
    if (!found) return std::unexpected{found.error()};
    const std::uint32_t intid = found->value_or(Interrupt{}).intid;
    if (intid < 16 || intid > 31) {
      dt::Line expected;
      expected << "a PPI for \"" << wanted.name << "\"";
      const Property interrupts = node.property(node.has("interrupts") ? "interrupts" : "interrupts-extended");
      if (!interrupts) return std::unexpected{dt::missing(node, "interrupts", expected.view())};
      return std::unexpected{dt::wrong(node, interrupts, "a timer's interrupt is missing or no PPI", expected.view())};
    }
    *wanted.intid = intid;
  }
  return {};
}

}  // namespace weir::discovery
