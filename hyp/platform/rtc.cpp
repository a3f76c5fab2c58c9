// The clock that knows the time of day.
#include "hyp/platform/discovery.hpp"
#include "hyp/platform/translate.hpp"

namespace weir::discovery {

void discover_rtc(dt::Node root, Platform& platform) {
  const dt::Node node = next_compatible(root, "arm,pl031");
  if (!node) return;
  const auto registers = dt::reg(node, 0);
  if (!registers) return leave_out(platform.remarks, "RTC is", registers.error());
  if (const auto ok = check_window(node, *registers, platform); !ok)
    return leave_out(platform.remarks, "RTC is", ok.error());
  platform.rtc = *registers;
}

}  // namespace weir::discovery
