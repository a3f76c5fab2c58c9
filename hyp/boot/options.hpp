// Portable. The few words that Weir takes from its own command line (/chosen/bootargs), for what must be known before, or without,
// a boot manifest:
//   weir.exit=semihosting|psci   how to stop, as the manifest's `exit` says it later
//   weir.selftest=NAME           hyp/boot/selftest.hpp
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "hyp/platform/line.hpp"

namespace weir {

// The value of `name`, or an empty view. The view is into the blob.
[[nodiscard]] std::string_view boot_option(std::span<const std::byte> dtb, std::string_view name);

// One line for the first word that begins with "weir." and is none of the above, or has no value that is: it would be taken
// for something that it is not. None: there is no such word.
[[nodiscard]] std::optional<dt::Line> misspelt_option(std::span<const std::byte> dtb);

}  // namespace weir
