#include "tests/unit/fakes/failing_new.hpp"

#include <cstddef>
#include <new>

namespace {

int left = -1;  // negative: no limit
unsigned refusals = 0;

bool refused() {
  if (left < 0) return false;
  if (left == 0) {
    ++refusals;
    return true;
  }
  --left;
  return false;
}

}  // namespace

// The sanitizers' own operators stay underneath.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return refused() ? nullptr : ::operator new(bytes);
}
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  return refused() ? nullptr : ::operator new[](bytes);
}

namespace weir::test {

FailingNew::FailingNew(int successes) {
  left = successes;
  refusals = 0;
}
FailingNew::~FailingNew() { left = -1; }

unsigned FailingNew::refused() { return refusals; }

}  // namespace weir::test
