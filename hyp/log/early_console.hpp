// The UART that hyp/early found, of whatever kind: good enough until hyp/console takes over, and for panics.
#pragma once

#include <string_view>

namespace weir {

void early_console_write(std::string_view text);  // to nowhere if there is no UART; newlines become CR LF

}  // namespace weir
