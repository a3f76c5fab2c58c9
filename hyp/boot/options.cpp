#include "hyp/boot/options.hpp"

#include <libfdt.h>

#include <algorithm>
#include <array>

namespace weir {
namespace {

struct Option {
  std::string_view name;
  std::string_view values;  // separated by '|'; empty: any
};
constexpr std::array<Option, 2> kOptions{{{"weir.exit", "semihosting|psci"}, {"weir.selftest", ""}}};

// Calls fn(word) for each word of the command line until it returns false.
template <typename Fn>
void for_words(std::span<const std::byte> dtb, Fn fn) {
  const int chosen = fdt_path_offset(dtb.data(), "/chosen");
  if (chosen < 0) return;
  int length = 0;
  const auto* text = static_cast<const char*>(fdt_getprop(dtb.data(), chosen, "bootargs", &length));
  if (text == nullptr || length <= 0) return;
  std::string_view rest{text, static_cast<std::size_t>(length) - 1};  // without the NUL
  while (!rest.empty()) {
    const std::size_t end = rest.find(' ');
    if (!fn(rest.substr(0, end))) return;
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
  }
}

bool is_among(std::string_view value, std::string_view values) {
  if (values.empty()) return !value.empty();
  while (!values.empty()) {
    const std::size_t end = values.find('|');
    if (value == values.substr(0, end)) return true;
    values = end == std::string_view::npos ? std::string_view{} : values.substr(end + 1);
  }
  return false;
}

bool is_known(std::string_view word) {
  const std::size_t equals = word.find('=');
  const auto option = std::ranges::find(kOptions, word.substr(0, equals), &Option::name);
  return option != kOptions.end() && equals != std::string_view::npos &&
         is_among(word.substr(equals + 1), option->values);
}

}  // namespace

std::string_view boot_option(std::span<const std::byte> dtb, std::string_view name) {
  std::string_view value;
  for_words(dtb, [&](std::string_view word) {
    const bool found = word.starts_with(name) && word.substr(name.size()).starts_with('=');
    if (found) value = word.substr(name.size() + 1);
    return !found;
  });
  return value;
}

std::optional<dt::Line> misspelt_option(std::span<const std::byte> dtb) {
  std::optional<dt::Line> line;
  for_words(dtb, [&](std::string_view word) {
    if (!word.starts_with("weir.") || is_known(word)) return true;
    line.emplace();
    *line << "/chosen: bootargs: \"" << word << "\": not an option of Weir; expected ";
    for (std::size_t i = 0; i < kOptions.size(); ++i) {
      const Option& option = kOptions[i];
      *line << (i == 0 ? "" : " or ") << option.name << "=" << (option.values.empty() ? "NAME" : option.values);
    }
    return false;
  });
  return line;
}

}  // namespace weir
