// Faults that a test build plants on purpose, to show that the tests notice them. Plain builds define neither macro.
#pragma once

#ifndef WEIR_BREAK_DROP_INVALIDATION
#define WEIR_BREAK_DROP_INVALIDATION 0
#endif
#ifndef WEIR_BREAK_WRONG_VMID
#define WEIR_BREAK_WRONG_VMID 0
#endif

namespace weir::vsmmu {

// TLBI commands are accepted but never issued.
inline constexpr bool kBreakDropInvalidation = WEIR_BREAK_DROP_INVALIDATION != 0;
// TLBI commands carry the VMID of another instance.
inline constexpr bool kBreakWrongVmid = WEIR_BREAK_WRONG_VMID != 0;

}  // namespace weir::vsmmu
