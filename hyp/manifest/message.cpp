#include "hyp/manifest/message.hpp"

namespace weir::manifest {

Unexpected wrong(ManifestErrorCode code, dt::Node node, const dt::Property& property, std::string_view problem,
                 std::string_view expected) {
  dt::Line line = at(node, property);
  line << problem << "; expected " << expected;
  return fail(code, line);
}

Unexpected missing(dt::Node node, std::string_view what, std::string_view expected) {
  dt::Line line = at(node);
  line << what << ": missing; expected " << expected;
  return fail(ManifestErrorCode::missing, line);
}

}  // namespace weir::manifest
