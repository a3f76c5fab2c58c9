// Included before everything else in these tests: what weir::relax() does where threads outnumber CPUs.
#pragma once

namespace weir::race {
void yield();
}  // namespace weir::race

#define WEIR_RELAX ::weir::race::yield
