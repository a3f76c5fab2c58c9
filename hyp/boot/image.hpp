// The image in memory: where the linker put it, where the boot loader put it, and what hyp/boot/weir.lds says of it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "guest-abi/types.hpp"
#include "hyp/patch/patch.hpp"

namespace weir {

inline constexpr std::uint64_t kLinkBase = 0xff00'0000'0000;  // above any physical address

// Hidden: reached relative to the PC, not through a table of link addresses, which is of no use before the MMU is on.
#pragma GCC visibility push(hidden)
extern "C" {
extern const std::byte __image_start[], __image_end[];  // NOLINT: the linker script's names
extern const std::byte __text_start[], __text_end[];
extern const std::byte __rodata_start[], __rodata_end[];
extern const std::byte __data_start[], __data_end[];
extern const std::byte __bss_start[], __bss_end[];
extern const std::byte __boot_stack_bottom[], __boot_stack_top[];
extern const std::byte __boot_emergency_bottom[], __boot_emergency_top[];
extern const std::byte __tdata_start[], __tdata_end[], __tbss_end[];
extern void (*const __init_array_start[])();
extern void (*const __init_array_end[])();
extern const std::byte __patch_stubs_start[], __patch_stubs_end[];  // not in the file; mapped if there are stubs
extern const patch::SiteTable __patch_sites;                        // filled by tools/patch-sites
extern const std::byte secondary_entry[];
}
#pragma GCC visibility pop

// Known once boot_main runs.
[[nodiscard]] PA image_base();
[[nodiscard]] inline std::uint64_t image_bytes() { return static_cast<std::uint64_t>(__image_end - __image_start); }
// The physical address of something in the image.
[[nodiscard]] inline PA image_physical(const void* at) {
  return image_base() + (reinterpret_cast<std::uint64_t>(at) - kLinkBase);
}

}  // namespace weir
