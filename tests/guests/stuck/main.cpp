// Guests that do not come to an end, each in its way (the word on the command line), and one that says what it should not be
// able to say.
#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/report.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "stuck";

namespace weir::guest {
namespace {

[[noreturn]] void hang() {
  say("hangs");
  asm volatile("msr daifset, #0xf");
  for (;;) asm volatile("nop");
}

// Its exception vectors are where nothing is: each exception is taken to the next.
[[noreturn]] void crash() {
  say("crashes");
  WEIR_WRITE_SYSREG("VBAR_EL1", 0x1000);
  isb();
  asm volatile("udf #0");
  __builtin_unreachable();
}

[[noreturn]] void idle() {
  say("idles");
  asm volatile("msr daifset, #0xf");
  for (;;) asm volatile("wfi");
}

// After the others: the focus is on this one, so that their lines would come into the middle of these.
void forge() {
  for (const std::uint64_t start = now_us(); now_us() - start < 1'000'000;) {
  }
  print("over here\rweir: forged by a return\r\n");
  print("\x1b[2K\x1b[1Gweir: forged by an escape sequence\n");
  print(
      "\x9b"
      "1Gweir: forged by a C1 control\n");
  print("weir: forged at the start of a line\n");
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  if (machine().has_option("hang")) hang();
  if (machine().has_option("crash")) crash();
  if (machine().has_option("idle")) idle();
  forge();
}
