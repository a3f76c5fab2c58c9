// The UART that Weir and all consoles use.
#include <algorithm>
#include <array>

#include "hyp/platform/discovery.hpp"
#include "hyp/platform/translate.hpp"

namespace weir {

// stdout-path is a path or an alias, and may go on with ":" and options.
dt::Node stdout_node(dt::Node root) {
  const dt::Property path = root.child("chosen").property("stdout-path");
  const std::string_view value = path.string(0).substr(0, path.string(0).find(':'));
  std::array<char, 128> text{};
  if (value.empty() || value.size() >= text.size()) return {};
  std::copy(value.begin(), value.end(), text.begin());
  return root.by_path(text.data());
}

namespace discovery {
namespace {

using dt::Node;
using dt::Property;

constexpr const char* kPl011 = "arm,pl011";

Node named_by_serial0(Node root) {
  const Property path = root.child("aliases").property("serial0");
  std::array<char, 128> text{};
  const std::string_view value = path.string(0);
  if (value.empty() || value.size() >= text.size()) return {};
  std::copy(value.begin(), value.end(), text.begin());
  return root.by_path(text.data());
}

std::expected<Uart, PlatformError> read_uart(Node node, Remarks* remarks) {
  Uart uart{.name = node.name(), .node = node.offset(), .registers = {}, .interrupt = {}};
  const auto registers = dt::reg(node, 0);
  if (!registers) return std::unexpected{registers.error()};
  uart.registers = *registers;
  const auto interrupt = dt::interrupt(node, std::size_t{0});
  if (interrupt)
    uart.interrupt = *interrupt;
  else if (remarks != nullptr)
    leave_out(*remarks, "input of the UART is", interrupt.error());
  return uart;
}

}  // namespace

std::expected<Uart, PlatformError> discover_uart(Node root, Remarks* remarks) {
  const Node chosen = root.child("chosen");
  const Property path = chosen.property("stdout-path");
  const Node wished = stdout_node(root);
  if (wished.compatible(kPl011)) return read_uart(wished, remarks);

  Node node = named_by_serial0(root);
  if (!node.compatible(kPl011) || !node.enabled()) node = next_compatible(root, kPl011);
  if (!path) {
    if (!node) return std::unexpected{no_node("compatible = \"arm,pl011\"")};
    return read_uart(node, remarks);
  }
  dt::Line problem;
  if (wished)
    problem << "a UART of another kind, compatible = " << dt::ValueOf{wished.property("compatible")};
  else
    problem << "no such node";
  const PlatformError why = dt::wrong(chosen, path, problem.view(), "path or alias of an arm,pl011");
  if (!node) return std::unexpected{why};
  if (remarks != nullptr) {
    dt::Line line;
    line << dt::PathOf{node} << " is the console: " << why.line();
    remarks->add(line);
  }
  return read_uart(node, remarks);
}

}  // namespace discovery
}  // namespace weir
