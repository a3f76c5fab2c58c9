// The conformance suite (tests/conformance) as a guest: a line for each case, "case SECTION NAME: pass", "...: fail:
// what" or "...: skip: why". The verdict says whether it ran to the end; which failures are expected is known to
// tests/boot/test_conformance.py. bootargs: `only=N` runs the first N cases; `verbose` names a case before it runs.
#include "tests/conformance/run.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/conformance/guest_rig.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "conformance";

extern "C" {
[[noreturn]] void abort();
// The vtables refer to it; nothing calls it.
void __cxa_pure_virtual() { abort(); }  // NOLINT: the ABI's name
}

void guest_main() {
  using namespace weir;
  using namespace weir::guest;
  check("machine");
  static constinit GuestRig rig;
  if (!rig.init()) return;
  for (const auto& list : conformance::all_cases()) {
    for (const conformance::Case& c : list) {
      check(c.name);
      rig.restart();
      conformance::Run r{rig};
      conformance::run(c, r);
      Text<280> text;
      conformance::print(c, r, text);
      say(text.view());
    }
  }
  rig.restart();
}
