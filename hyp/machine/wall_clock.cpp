#include "hyp/machine/wall_clock.hpp"

#include "hyp/arch/counter.hpp"
#include "hyp/arch/mmio.hpp"
#include "hyp/log/log.hpp"
#include "hyp/mem/pages.hpp"
#include "hyp/rtc/pl031.hpp"

namespace weir {
namespace {

constinit bool known = false;
constinit std::uint32_t at_zero = 0;  // when the counter was 0

std::uint32_t counter_seconds() { return static_cast<std::uint32_t>(counter() / counter_hz()); }

}  // namespace

void wall_clock_init(const Platform& platform) {
  if (!platform.rtc) return;
  const auto registers = map_device(platform.rtc->base, platform.rtc->bytes);
  if (!registers) {
    log("the RTC at %#llx is not used: %s", static_cast<unsigned long long>(platform.rtc->base.value),
        to_string(registers.error()));
    return;
  }
  const auto* const data = static_cast<const std::byte*>(*registers) + static_cast<std::uint32_t>(pl031::Reg::DR);
  at_zero = read32(data) - counter_seconds();
  known = true;
}

std::optional<std::uint32_t> wall_clock() {
  if (!known) return std::nullopt;
  return at_zero + counter_seconds();
}

}  // namespace weir
