#include "hyp/platform/platform.hpp"

#include <algorithm>
#include <array>
#include <memory>

extern "C" {
#include <libfdt.h>
}

#include "hyp/platform/devicetree.hpp"
#include "hyp/platform/pci_host.hpp"
#include "hyp/platform/translate.hpp"

namespace weir {
namespace {

using dt::Node;
using dt::Property;
using Done = std::expected<void, PlatformError>;

PlatformError too_many(Node node, std::string_view what, std::size_t most) {
  dt::Line line;
  line << dt::PathOf{node} << ": too many " << what << "; expected at most " << most;
  return PlatformError{line};
}

PlatformError no_node(std::string_view what) {
  dt::Line line;
  line << "/: " << what << ": no such node; expected one";
  return PlatformError{line};
}

std::expected<Node, PlatformError> open(const void* blob, std::size_t bytes) {
  const auto [root, error] = dt::open(blob, bytes);
  if (root) return root;
  dt::Line line;
  line << "devicetree: " << error << ": not a flattened devicetree of at most " << bytes
       << " bytes; expected one of version 17";
  return std::unexpected{PlatformError{line}};
}

// The next enabled node after `from` that says it is compatible with `what`.
Node next_compatible(Node from, const char* what) {
  for (Node n = from.next(); n; n = n.next())
    if (n.compatible(what) && n.enabled()) return n;
  return {};
}

// ---- Memory

// Takes [from, to) out of the sorted, disjoint `ranges`.
template <std::size_t N>
bool cut_out(StaticVector<MemoryRange, N>& ranges, std::uint64_t from, std::uint64_t to) {
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const std::uint64_t begin = ranges[i].base.value;
    const std::uint64_t end = begin + ranges[i].bytes;
    if (to <= begin || end <= from) continue;
    if (begin < from) {
      ranges[i].bytes = from - begin;
      if (to < end && !ranges.push_back({.base = PA{to}, .bytes = end - to})) return false;
    } else if (to < end) {
      ranges[i] = {.base = PA{to}, .bytes = end - to};
    } else {
      ranges.erase(i--);
    }
  }
  return true;
}

void sort_by_base(MemoryRange* begin, MemoryRange* end) {
  std::sort(begin, end, [](const MemoryRange& a, const MemoryRange& b) { return a.base < b.base; });
}

bool overlap(const MemoryRange& a, const MemoryRange& b) {
  return a.base.value < b.base.value + b.bytes && b.base.value < a.base.value + a.bytes;
}

// Whole pages within `r`, or around it.
MemoryRange pages_within(const MemoryRange& r) {
  const std::uint64_t begin = r.base.align_up(kPage4K).value;
  const std::uint64_t end = PA{r.base.value + r.bytes}.align_down(kPage4K).value;
  return {.base = PA{begin}, .bytes = end > begin ? end - begin : 0};
}
MemoryRange pages_around(const MemoryRange& r) {
  const PA begin = r.base.align_down(kPage4K);
  return {.base = begin, .bytes = PA{r.base.value + r.bytes}.align_up(kPage4K) - begin};
}

Done discover_ram(Node root, Platform& platform) {
  for (Node n = root.first_child(); n; n = n.next_sibling()) {
    if (n.property("device_type").string(0) != "memory" || !n.enabled()) continue;
    const auto count = dt::reg_count(n);
    if (!count) return std::unexpected{count.error()};
    for (std::size_t i = 0; i < *count; ++i) {
      const auto range = dt::reg(n, i);
      if (!range) return std::unexpected{range.error()};
      const MemoryRange whole = pages_within(*range);
      if (whole.bytes == 0) continue;
      for (const MemoryRange& other : platform.ram)
        if (overlap(whole, other))
          return std::unexpected{dt::wrong(n, n.property("reg"), "overlaps other memory", "disjoint ranges")};
      if (!platform.ram.push_back(whole))
        return std::unexpected{too_many(n, "ranges of memory", platform.ram.capacity)};
    }
  }
  if (platform.ram.empty()) return std::unexpected{no_node("device_type = \"memory\"")};
  sort_by_base(platform.ram.begin(), platform.ram.end());
  return {};
}

Done reserve(Node node, const MemoryRange& range, Platform& platform) {
  if (range.bytes == 0 || platform.reserved.push_back(pages_around(range))) return {};
  return std::unexpected{too_many(node, "reserved ranges", platform.reserved.capacity)};
}

Done discover_reserved(const void* blob, Node root, Platform& platform) {
  for (int i = 0, n = fdt_num_mem_rsv(blob); i < n; ++i) {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
    if (fdt_get_mem_rsv(blob, i, &address, &bytes) != 0) break;
    if (address + bytes < address) continue;
    if (const auto done = reserve(root, {.base = PA{address}, .bytes = bytes}, platform); !done) return done;
  }
  const Node parent = root.child("reserved-memory");
  for (Node n = parent.first_child(); n; n = n.next_sibling()) {
    if (!n.enabled() || !n.has("reg")) continue;  // without reg: memory an OS may choose for itself
    const auto count = dt::reg_count(n);
    if (!count) return std::unexpected{count.error()};
    for (std::size_t i = 0; i < *count; ++i) {
      const auto range = dt::reg(n, i);
      if (!range) return std::unexpected{range.error()};
      if (!n.has("no-map")) {
        if (const auto done = reserve(n, *range, platform); !done) return done;
        continue;
      }
      const MemoryRange cut = pages_around(*range);
      if (!cut_out(platform.ram, cut.base.value, cut.base.value + cut.bytes))
        return std::unexpected{too_many(n, "ranges of memory", platform.ram.capacity)};
    }
  }
  sort_by_base(platform.ram.begin(), platform.ram.end());
  return {};
}

Done discover_initrd(Node root, Platform& platform) {
  const Node chosen = root.child("chosen");
  const Property start = chosen.property("linux,initrd-start");
  const Property end = chosen.property("linux,initrd-end");
  if (!start && !end) return {};
  for (const Property& p : {start, end})
    if (p && p.bytes() != 4 && p.bytes() != 8)
      return std::unexpected{dt::wrong(chosen, p, "not an address", "one or two cells")};
  if (!start) return std::unexpected{dt::missing(chosen, "linux,initrd-start", "the address of the initrd")};
  if (!end) return std::unexpected{dt::missing(chosen, "linux,initrd-end", "the address after the initrd")};
  const std::uint64_t from = start.number(0, start.cells());
  const std::uint64_t to = end.number(0, end.cells());
  if (to <= from)
    return std::unexpected{dt::wrong(chosen, end, "not after linux,initrd-start", "the end of the initrd")};
  platform.initrd = MemoryRange{.base = PA{from}, .bytes = to - from};
  return reserve(chosen, *platform.initrd, platform);
}

// ---- CPUs, PSCI, GIC, timers, UART

Done discover_cpus(Node root, Platform& platform) {
  constexpr std::uint64_t kAffinity = 0xff'00ff'ffff;  // MPIDR_EL1.Aff3, Aff2, Aff1, Aff0
  const Node cpus = root.child("cpus");
  const auto address = dt::cells(cpus, "#address-cells", 1);
  if (!address) return std::unexpected{address.error()};
  // A machine with one CPU need not say how to start it.
  Node unstartable;
  for (Node n = cpus.first_child(); n; n = n.next_sibling()) {
    if (n.property("device_type").string(0) != "cpu" || !n.enabled()) continue;
    const Property reg = n.property("reg");
    const Property method = n.property("enable-method");
    if (!reg) return std::unexpected{dt::missing(n, "reg", "the CPU's MPIDR affinity")};
    if (!reg.is_cells() || reg.cells() != *address || *address > 2 || (reg.number(0, *address) & ~kAffinity) != 0)
      return std::unexpected{dt::wrong(n, reg, "not an MPIDR affinity", "#address-cells cells")};
    if (!method && !unstartable) unstartable = n;
    if (method && method.string(0) != "psci")
      return std::unexpected{dt::wrong(n, method, "cannot be started", "\"psci\"")};
    for (const std::uint64_t other : platform.cpus)
      if (other == reg.number(0, *address))
        return std::unexpected{dt::wrong(n, reg, "given twice", "one node for each CPU")};
    if (!platform.cpus.push_back(reg.number(0, *address)))
      return std::unexpected{too_many(cpus, "CPUs", platform.cpus.capacity)};
  }
  if (platform.cpus.empty()) return std::unexpected{no_node("device_type = \"cpu\" in /cpus")};
  if (unstartable && platform.cpus.size() > 1)
    return std::unexpected{dt::missing(unstartable, "enable-method", "\"psci\"")};
  return {};
}

Done check_psci(Node root) {
  Node psci = next_compatible(root, "arm,psci-1.0");
  if (!psci) psci = next_compatible(root, "arm,psci-0.2");
  if (!psci) return std::unexpected{no_node("compatible = \"arm,psci-1.0\" or \"arm,psci-0.2\"")};
  const Property method = psci.property("method");
  if (!method) return std::unexpected{dt::missing(psci, "method", "\"smc\"")};
  if (method.string(0) != "smc")
    return std::unexpected{dt::wrong(psci, method, "from EL2, firmware is called by SMC", "\"smc\"")};
  return {};
}

Done discover_gic(Node root, GicV3& gic) {
  const Node node = next_compatible(root, "arm,gic-v3");
  if (!node) return std::unexpected{no_node("compatible = \"arm,gic-v3\"")};
  const auto distributor = dt::reg(node, 0);
  if (!distributor) return std::unexpected{distributor.error()};
  gic.distributor = *distributor;

  const Property regions = node.property("#redistributor-regions");
  if (regions && regions.bytes() != 4) return std::unexpected{dt::wrong(node, regions, "not a number", "one cell")};
  const std::size_t count = regions ? regions.cell(0) : 1;
  if (count == 0 || count > gic.redistributors.capacity)
    return std::unexpected{dt::wrong(node, regions, "too few or too many", "1 to 32")};
  for (std::size_t i = 0; i < count; ++i) {
    const auto region = dt::reg(node, i + 1);
    if (!region) return std::unexpected{region.error()};
    if (!gic.redistributors.push_back(*region)) break;
  }

  if (const Property stride = node.property("redistributor-stride")) {
    if ((stride.bytes() != 4 && stride.bytes() != 8) || stride.number(0, stride.cells()) % 0x10000 != 0)
      return std::unexpected{dt::wrong(node, stride, "not a stride", "a multiple of 64 KiB in one or two cells")};
    gic.redistributor_stride = stride.number(0, stride.cells());
  }
  const auto maintenance = dt::interrupt(node, std::size_t{0});
  if (!maintenance) return std::unexpected{maintenance.error()};
  gic.maintenance = *maintenance;

  if (const Node its = next_compatible(root, "arm,gic-v3-its")) {
    const auto range = dt::reg(its, 0);
    if (!range) return std::unexpected{range.error()};
    gic.its = *range;
  }
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
      const Property interrupts = node.property("interrupts");
      if (!interrupts) return std::unexpected{dt::missing(node, "interrupts", expected.view())};
      return std::unexpected{dt::wrong(node, interrupts, "a timer's interrupt is missing or no PPI", expected.view())};
    }
    *wanted.intid = intid;
  }
  return {};
}

// stdout-path is a path or an alias, and may go on with ":" and options.
Node named_by(Node root, const Property& p) {
  const std::string_view value = p.string(0).substr(0, p.string(0).find(':'));
  std::array<char, 128> text{};
  if (value.empty() || value.size() >= text.size()) return {};
  std::copy(value.begin(), value.end(), text.begin());
  return root.by_path(text.data());
}

std::expected<Uart, PlatformError> discover_uart(Node root) {
  const Node chosen = root.child("chosen");
  Node node;
  if (const Property path = chosen.property("stdout-path")) {
    node = named_by(root, path);
    if (!node || !node.compatible("arm,pl011"))
      return std::unexpected{
          dt::wrong(chosen, path, node ? "not a PL011" : "no such node", "path or alias of an arm,pl011")};
  }
  if (!node) node = named_by(root, root.child("aliases").property("serial0"));
  if (!node.compatible("arm,pl011")) node = next_compatible(root, "arm,pl011");
  if (!node) return std::unexpected{no_node("compatible = \"arm,pl011\"")};

  Uart uart{.name = node.name(), .registers = {}, .interrupt = {}};
  const auto registers = dt::reg(node, 0);
  if (!registers) return std::unexpected{registers.error()};
  uart.registers = *registers;
  const auto interrupt = dt::interrupt(node, std::size_t{0});
  if (!interrupt) return std::unexpected{interrupt.error()};
  uart.interrupt = *interrupt;
  return uart;
}

// ---- SMMUs

Done discover_smmus(Node root, Platform& platform) {
  for (Node n = next_compatible(root, "arm,smmu-v3"); n; n = next_compatible(n, "arm,smmu-v3")) {
    Smmu smmu;
    smmu.name = n.name();
    const auto registers = dt::reg(n, 0);
    if (!registers) return std::unexpected{registers.error()};
    smmu.registers = *registers;
    if (smmu.registers.bytes < 0x20000)
      return std::unexpected{dt::wrong(n, n.property("reg"), "too small for two register pages", "0x20000 bytes")};
    smmu.coherent = is_coherent(n);
    if (n.has("interrupts") && !n.has("interrupt-names"))
      return std::unexpected{dt::missing(n, "interrupt-names", "eventq, priq, cmdq-sync, gerror or combined")};

    const auto combined = dt::interrupt(n, "combined");
    if (!combined) return std::unexpected{combined.error()};
    struct Wanted {
      const char* name;
      std::optional<Interrupt>* to;
    };
    const Wanted all[] = {{"eventq", &smmu.event_queue},
                          {"priq", &smmu.pri_queue},
                          {"cmdq-sync", &smmu.command_sync},
                          {"gerror", &smmu.global_error}};
    for (const Wanted& wanted : all) {
      const auto found = dt::interrupt(n, wanted.name);
      if (!found) return std::unexpected{found.error()};
      *wanted.to = *found ? *found : *combined;
    }
    for (const Smmu& other : platform.smmus)
      if (other.name == smmu.name) {
        dt::Line line;
        line << dt::PathOf{n} << ": two SMMUs have this name; expected different ones, as manifests name them by it";
        return std::unexpected{PlatformError{line}};
      }
    if (!platform.smmus.push_back(smmu)) return std::unexpected{too_many(root, "SMMUs", platform.smmus.capacity)};
  }
  return {};
}

// A register window on top of RAM would be mapped with two memory types.
Done check_windows(const Platform& platform) {
  const auto check = [&](std::string_view what, const MemoryRange& window) -> Done {
    for (const MemoryRange& ram : platform.ram) {
      if (!overlap(window, ram)) continue;
      dt::Line line;
      line << "/" << what << ": window ";
      line.hex(window.base.value) << " + ";
      line.hex(window.bytes) << ": overlaps memory ";
      line.hex(ram.base.value) << " + ";
      line.hex(ram.bytes) << "; expected disjoint ranges";
      return std::unexpected{PlatformError{line}};
    }
    return {};
  };
  Done done = check("GIC distributor", platform.gic.distributor);
  for (const MemoryRange& region : platform.gic.redistributors)
    if (done) done = check("GIC redistributors", region);
  if (done) done = check(platform.uart.name, platform.uart.registers);
  for (const Smmu& smmu : platform.smmus)
    if (done) done = check(smmu.name, smmu.registers);
  for (const PciHost& host : platform.pci_hosts) {
    if (done) done = check(host.name, host.ecam);
    for (const PciWindow& window : host.windows)
      if (done) done = check(host.name, {.base = window.cpu, .bytes = window.bytes});
  }
  return done;
}

}  // namespace

bool is_coherent(dt::Node node) {
  for (Node n = node; n; n = n.parent()) {
    if (n.has("dma-coherent")) return true;
    if (n.has("dma-noncoherent")) return false;
  }
  return false;
}

std::uint64_t Platform::unreserved_ram() const {
  StaticVector<MemoryRange, 32 + 64> free;
  for (const MemoryRange& range : ram)
    if (!free.push_back(range)) return 0;
  for (const MemoryRange& range : reserved)
    if (!cut_out(free, range.base.value, range.base.value + range.bytes)) return 0;
  std::uint64_t bytes = 0;
  for (const MemoryRange& range : free) bytes += range.bytes;
  return bytes;
}

std::expected<Uart, PlatformError> discover_uart(const void* dtb, std::size_t size) {
  const auto root = open(dtb, size);
  if (!root) return std::unexpected{root.error()};
  return discover_uart(*root);
}

std::expected<void, PlatformError> discover(const void* dtb, std::size_t size, PA address, Platform& platform) {
  const auto opened = open(dtb, size);
  if (!opened) return std::unexpected{opened.error()};
  const Node root = *opened;
  std::construct_at(&platform);  // in place: too big for a temporary
  platform.model = root.property("model").string(0);
  platform.dtb = {.base = address, .bytes = fdt_totalsize(dtb)};

  Done done = discover_ram(root, platform);
  if (done) done = discover_reserved(dtb, root, platform);
  if (done) done = reserve(root, platform.dtb, platform);
  if (done) done = discover_initrd(root, platform);
  if (done) done = discover_cpus(root, platform);
  if (done) done = check_psci(root);
  if (done) done = discover_gic(root, platform.gic);
  if (done) done = discover_timers(root, platform.timers);
  if (!done) return done;
  const auto uart = discover_uart(root);
  if (!uart) return std::unexpected{uart.error()};
  platform.uart = *uart;
  done = discover_smmus(root, platform);
  for (Node n = next_compatible(root, "pci-host-ecam-generic"); done && n;
       n = next_compatible(n, "pci-host-ecam-generic"))
    done = discover_pci_host(n, platform);
  if (done) done = check_windows(platform);
  return done;
}

}  // namespace weir
