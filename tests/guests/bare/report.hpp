// What a payload says on its console. A test looks for "guest: NAME: OK"; each failure is a line
// "guest: NAME: FAIL check: what". All of it goes through the PL011, and may be called by several CPUs at once, but for
// check().
#pragma once

#include <cstdint>
#include <string_view>

#include "guest-abi/text.hpp"

namespace weir::guest {

void print(std::string_view text);
// The next character that was typed; false: there is none.
[[nodiscard]] bool typed(char& c);
// One line with the prefix "guest: NAME: ".
void say(std::string_view text);

// The check under way; its name is in the lines of all that fails in it.
void check(std::string_view name);
// Reports a failure if `ok` is false, with up to three numbers. Returns `ok`.
bool expect(bool ok, std::string_view what);
bool expect(bool ok, std::string_view what, std::uint64_t a);
bool expect(bool ok, std::string_view what, std::uint64_t a, std::uint64_t b);
bool expect_equal(std::uint64_t got, std::uint64_t expected, std::string_view what);
[[nodiscard]] unsigned failures();

// The verdict, then power off.
[[noreturn]] void finish();

}  // namespace weir::guest
