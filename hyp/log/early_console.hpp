// A PL011 written byte by byte: good enough until hyp/console takes over.
#pragma once

#include <string_view>

namespace weir {

// `registers` is the mapped register page (map_device).
void early_console_init(void* registers);
void early_console_write(std::string_view text);  // to nowhere before init; newlines become CR LF

}  // namespace weir
