// How the manifest's errors are worded: "PATH: PROPERTY = VALUE: PROBLEM; expected EXPECTED".
#pragma once

#include <expected>
#include <string_view>

#include "hyp/manifest/manifest.hpp"
#include "hyp/platform/devicetree.hpp"

namespace weir::manifest {

using Checked = std::expected<void, ManifestError>;
using Unexpected = std::unexpected<ManifestError>;

// Begins a line with the node's path, or with its path and a property's value. The caller goes on with the problem.
[[nodiscard]] inline dt::Line at(dt::Node node) {
  dt::Line line;
  line << dt::PathOf{node} << ": ";
  return line;
}
[[nodiscard]] inline dt::Line at(dt::Node node, const dt::Property& property) {
  dt::Line line = at(node);
  line << property.name() << " = " << dt::ValueOf{property} << ": ";
  return line;
}

[[nodiscard]] inline Unexpected fail(ManifestErrorCode code, const dt::Line& line) {
  return Unexpected{ManifestError{code, line}};
}
[[nodiscard]] Unexpected wrong(ManifestErrorCode code, dt::Node node, const dt::Property& property,
                               std::string_view problem, std::string_view expected);
[[nodiscard]] Unexpected missing(dt::Node node, std::string_view what, std::string_view expected);

}  // namespace weir::manifest
