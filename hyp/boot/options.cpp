#include "hyp/boot/options.hpp"

#include <libfdt.h>

namespace weir {

std::string_view boot_option(std::span<const std::byte> dtb, std::string_view name) {
  const int chosen = fdt_path_offset(dtb.data(), "/chosen");
  if (chosen < 0) return {};
  int length = 0;
  const auto* text = static_cast<const char*>(fdt_getprop(dtb.data(), chosen, "bootargs", &length));
  if (text == nullptr || length <= 0) return {};
  std::string_view rest{text, static_cast<std::size_t>(length) - 1};  // without the NUL
  while (!rest.empty()) {
    const std::size_t end = rest.find(' ');
    std::string_view word = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    if (word.starts_with(name) && word.substr(name.size()).starts_with('=')) return word.substr(name.size() + 1);
  }
  return {};
}

}  // namespace weir
