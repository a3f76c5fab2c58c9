#include "hyp/platform/platform.hpp"

#include <memory>

extern "C" {
#include <libfdt.h>
}

#include "hyp/platform/discovery.hpp"
#include "hyp/platform/translate.hpp"

namespace weir {

using dt::Node;
using dt::Property;

namespace discovery {

Node next_compatible(Node from, const char* what) {
  for (Node n = from.next(); n; n = n.next())
    if (n.compatible(what) && n.enabled()) return n;
  return {};
}

PlatformError no_node(std::string_view what) {
  dt::Line line;
  line << "/: " << what << ": no such node; expected one";
  return PlatformError{line};
}

void leave_out(Remarks& remarks, std::string_view what, const PlatformError& why) {
  dt::Line line;
  line << what << " left out: " << why.line();
  remarks.add(line);
}

void leave_out_rest(Remarks& remarks, std::string_view what, Node node, std::size_t most) {
  dt::Line line;
  line << what << " left out: " << dt::PathOf{node} << ": there is room for " << most << " only";
  remarks.add(line);
}

Done check_window(Node node, const MemoryRange& window, const Platform& platform) {
  for (const MemoryRange& ram : platform.ram) {
    if (!overlap(window, ram)) continue;
    dt::Line line;
    line << dt::PathOf{node} << ": window ";
    line.hex(window.base.value) << " + ";
    line.hex(window.bytes) << ": overlaps memory ";
    line.hex(ram.base.value) << " + ";
    line.hex(ram.bytes) << "; expected disjoint ranges";
    return std::unexpected{PlatformError{line}};
  }
  return {};
}

namespace {

// Up to as many regions as there are, and as there is room for.
Done read_redistributors(Node node, Platform& platform) {
  GicV3& gic = platform.gic;
  const Property regions = node.property("#redistributor-regions");
  if (regions && (regions.bytes() != 4 || regions.cell(0) == 0))
    return std::unexpected{dt::wrong(node, regions, "not a number of regions", "one cell, at least 1")};
  const std::size_t count = regions ? regions.cell(0) : 1;
  for (std::size_t i = 0; i < count; ++i) {
    const auto region = dt::reg(node, i + 1);
    if (!region && i == 0) return std::unexpected{region.error()};
    if (!region) {
      leave_out(platform.remarks, "redistributors are", region.error());
      break;
    }
    if (const auto ok = check_window(node, *region, platform); !ok) return ok;
    if (!gic.redistributors.push_back(*region)) {
      leave_out_rest(platform.remarks, "redistributors are", node, gic.redistributors.capacity);
      break;
    }
  }
  if (const Property stride = node.property("redistributor-stride")) {
    if ((stride.bytes() == 4 || stride.bytes() == 8) && stride.number(0, stride.cells()) % 0x10000 == 0)
      gic.redistributor_stride = stride.number(0, stride.cells());
    else
      leave_out(platform.remarks, "stride is",
                dt::wrong(node, stride, "not a stride", "a multiple of 64 KiB in one or two cells"));
  }
  return {};
}

}  // namespace

Done discover_gic(Node root, Platform& platform) {
  const Node node = next_compatible(root, "arm,gic-v3");
  if (!node) return std::unexpected{no_node("compatible = \"arm,gic-v3\"")};
  const auto distributor = dt::reg(node, 0);
  if (!distributor) return std::unexpected{distributor.error()};
  if (const auto ok = check_window(node, *distributor, platform); !ok) return ok;
  platform.gic.distributor = *distributor;
  if (const auto ok = read_redistributors(node, platform); !ok) return ok;

  if (const auto maintenance = dt::interrupt(node, std::size_t{0}))
    platform.gic.maintenance = *maintenance;
  else
    leave_out(platform.remarks, "maintenance interrupt is", maintenance.error());
  if (const Node its = next_compatible(root, "arm,gic-v3-its")) {
    if (const auto range = dt::reg(its, 0))
      platform.gic.its = *range;
    else
      leave_out(platform.remarks, "ITS is", range.error());
  }
  return {};
}

}  // namespace discovery

namespace {

std::expected<Node, PlatformError> open(const void* blob, std::size_t bytes) {
  const auto [root, error] = dt::open(blob, bytes);
  if (root) return root;
  dt::Line line;
  line << "devicetree: " << error << "; expected a flattened devicetree of version 17, of at most " << bytes
       << " bytes";
  return std::unexpected{PlatformError{line}};
}

// The first error counts; later ones are remarks, so that one run tells all.
class Required {
 public:
  explicit Required(Platform& platform) : platform_{platform} {}
  void take(Piece piece, const discovery::Done& done) {
    if (done) return;
    platform_.missing |= static_cast<std::uint8_t>(1U << static_cast<unsigned>(piece));
    if (first_)
      first_ = done;
    else
      platform_.remarks.add(dt::Line{} << done.error().line());
  }
  [[nodiscard]] const discovery::Done& first() const { return first_; }

 private:
  Platform& platform_;
  discovery::Done first_;
};

discovery::Done take_uart(const void* dtb, Node root, Platform& platform) {
  const auto uart = discovery::discover_uart(root, &platform.remarks);
  if (!uart) return std::unexpected{uart.error()};
  platform.uart = *uart;
  return discovery::check_window(Node{dtb, uart->node}, uart->registers, platform);
}

}  // namespace

bool is_coherent(Node node) {
  for (Node n = node; n; n = n.parent()) {
    if (n.has("dma-coherent")) return true;
    if (n.has("dma-noncoherent")) return false;
  }
  return false;
}

std::expected<Uart, PlatformError> discover_uart(const void* dtb, std::size_t size) {
  const auto root = open(dtb, size);
  if (!root) return std::unexpected{root.error()};
  return discovery::discover_uart(*root, nullptr);
}

std::expected<void, PlatformError> discover(const void* dtb, std::size_t size, PA address, Platform& platform) {
  std::construct_at(&platform);  // in place: too big for a temporary
  const auto opened = open(dtb, size);
  if (!opened) return std::unexpected{opened.error()};
  const Node root = *opened;
  platform.model = root.property("model").string(0);
  platform.dtb = {.base = address, .bytes = fdt_totalsize(dtb)};

  Required required{platform};
  required.take(Piece::memory, discovery::discover_ram(root, platform));
  discovery::discover_initrd(root, platform);
  discovery::discover_reserved(dtb, root, platform);
  discovery::check_initrd(root, platform);
  required.take(Piece::cpus, discovery::discover_cpus(root, platform));
  required.take(Piece::psci, discovery::discover_psci(root));
  required.take(Piece::gic, discovery::discover_gic(root, platform));
  required.take(Piece::timers, discovery::discover_timers(root, platform.timers));
  required.take(Piece::uart, take_uart(dtb, root, platform));
  discovery::discover_rtc(root, platform);
  discovery::discover_smmus(root, platform);
  discovery::discover_pci_hosts(root, platform);
  return required.first();
}

}  // namespace weir
