#include "tests/conformance/cases/cases.hpp"
namespace weir::conformance {
std::span<const Case> interrupt_cases() { return {}; }
}  // namespace weir::conformance
