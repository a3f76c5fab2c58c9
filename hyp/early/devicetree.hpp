// Finds a UART in a flattened devicetree (Devicetree Specification 0.4, chapter 5) when nothing can be relied on yet, the
// MMU included: libfdt and libc read words that are not aligned, which Device memory does not allow. Portable.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hyp/early/uart.hpp"

namespace weir::early {

inline constexpr std::uint32_t kMaxDevicetree = 2 << 20;  // bytes; the boot protocol excludes larger ones

// The size that a blob gives itself, 0 if it is no devicetree. Reads its first 8 bytes; `blob` is 8-byte aligned.
[[nodiscard]] std::uint32_t devicetree_bytes(const std::byte* blob);

// Why a UART was chosen.
enum class Chosen : std::uint8_t { nothing, first, serial0, stdout_path };
struct FoundUart {
  Uart uart;
  Chosen by;
};

// The UART that /chosen/stdout-path names, else the alias serial0, else the first that is enabled, of those kinds that
// hyp/early/uart.hpp knows. Reads nothing outside of the blob, whatever it says.
[[nodiscard]] FoundUart find_uart(const std::byte* blob);

}  // namespace weir::early
