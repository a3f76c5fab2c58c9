#include "tests/conformance/cases/cases.hpp"
namespace weir::conformance {
std::span<const Case> context_cases() { return {}; }
}  // namespace weir::conformance
