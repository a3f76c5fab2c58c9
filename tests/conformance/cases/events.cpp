#include "tests/conformance/cases/cases.hpp"
namespace weir::conformance {
std::span<const Case> event_cases() { return {}; }
}  // namespace weir::conformance
