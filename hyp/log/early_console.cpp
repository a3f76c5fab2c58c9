#include "hyp/log/early_console.hpp"

#include "hyp/early/words.hpp"

namespace weir {

void early_console_write(std::string_view text) { early::write(text.data(), text.size()); }

}  // namespace weir
