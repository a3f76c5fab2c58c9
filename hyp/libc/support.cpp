// What the compiler, libstdc++ and picolibc expect of the system below them.

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "hyp/log/early_console.hpp"
#include "hyp/log/log.hpp"

namespace {

// printf and friends are for third-party code: ours uses log().
int put(char c, FILE* /*file*/) {
  weir::early_console_write({&c, 1});
  return 0;
}
#pragma clang diagnostic ignored "-Wmissing-field-initializers"  // picolibc's macro
constinit FILE console = FDEV_SETUP_STREAM(put, nullptr, nullptr, _FDEV_SETUP_WRITE);

}  // namespace

extern "C" {

FILE* const stdout = &console;  // NOLINT: picolibc's names
FILE* const stderr = &console;  // NOLINT
FILE* const stdin = &console;   // NOLINT

void abort() { weir::panic("abort() called"); }
[[noreturn]] void _exit(int status) { weir::panic("_exit(%d) called", status); }               // NOLINT
[[noreturn]] void __cxa_pure_virtual() { weir::panic("pure virtual function called"); }        // NOLINT
[[noreturn]] void __cxa_deleted_virtual() { weir::panic("deleted virtual function called"); }  // NOLINT

}  // extern "C"

// libstdc++'s containers report what they cannot do through these; the library that defines them is not in the image.
namespace std {

void __throw_bad_alloc() { weir::panic("out of heap memory"); }                         // NOLINT
void __throw_bad_array_new_length() { weir::panic("array too long"); }                  // NOLINT
void __throw_length_error(const char* what) { weir::panic("length error: %s", what); }  // NOLINT
void __throw_logic_error(const char* what) { weir::panic("logic error: %s", what); }    // NOLINT
void __throw_bad_function_call() { weir::panic("empty function called"); }              // NOLINT
void __throw_bad_optional_access() { weir::panic("empty optional read"); }              // NOLINT
void terminate() noexcept { weir::panic("std::terminate called"); }

}  // namespace std
