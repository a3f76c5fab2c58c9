#include "hyp/rtc/virtual_rtc.hpp"

#include <array>

namespace weir {

using namespace pl031;

namespace {

// PeriphID and PCellID.
constexpr std::array<std::uint8_t, 8> kIdentification = {0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
constexpr std::uint32_t kRunning = 1;

// `a` is `b` or later: both count modulo 2^32.
constexpr bool reached(std::uint32_t a, std::uint32_t b) { return a - b < 0x8000'0000; }

}  // namespace

// The hardware compares for equality, once a second. Seconds that no look() fell into count, too.
void VirtualRtc::look() {
  if (!armed_ || !reached(time(), match_)) return;
  armed_ = false;
  raw_.set<Interrupts::RTC>(true);
  update();
}

// An alarm in the past is half a cycle away, and more: 68 years.
void VirtualRtc::arm() {
  armed_ = reached(match_, time());
  look();
  if (armed_ && mask_.get<Interrupts::RTC>()) port_.want_tick();
}

void VirtualRtc::update() {
  const bool level = (raw_.words[0] & mask_.words[0]) != 0;
  if (level == interrupt_) return;
  interrupt_ = level;
  port_.set_interrupt(level);
}

void VirtualRtc::reset() {
  const SpinLock::Guard guard{lock_};
  offset_ = match_ = load_ = 0;
  armed_ = false;
  mask_ = raw_ = {};
  update();  // interrupt_
}

bool VirtualRtc::tick() {
  const SpinLock::Guard guard{lock_};
  look();
  return armed_ && mask_.get<Interrupts::RTC>();
}

MmioResult VirtualRtc::read(Vcpu&, MmioAccess access, std::uint64_t& value) {
  const SpinLock::Guard guard{lock_};
  value = 0;
  const auto offset = static_cast<std::uint32_t>(access.offset);
  if (offset % 4 != 0) return MmioResult::done;
  constexpr auto kIds = static_cast<std::uint32_t>(Reg::PeriphID0);
  if (offset >= kIds && offset < kIds + 4 * kIdentification.size()) {
    value = kIdentification[(offset - kIds) / 4];
    return MmioResult::done;
  }
  look();
  switch (static_cast<Reg>(offset)) {
    case Reg::DR: value = time(); break;
    case Reg::MR: value = match_; break;
    case Reg::LR: value = load_; break;
    case Reg::CR: value = kRunning; break;
    case Reg::IMSC: value = mask_.words[0]; break;
    case Reg::RIS: value = raw_.words[0]; break;
    case Reg::MIS: value = raw_.words[0] & mask_.words[0]; break;
    default: break;
  }
  return MmioResult::done;
}

MmioResult VirtualRtc::write(Vcpu&, MmioAccess access, std::uint64_t raw_value) {
  if (access.offset % 4 != 0) return MmioResult::done;
  const auto value = static_cast<std::uint32_t>(raw_value);
  const SpinLock::Guard guard{lock_};
  look();
  switch (static_cast<Reg>(access.offset)) {
    case Reg::MR:
      match_ = value;
      arm();
      break;
    case Reg::LR:
      load_ = value;
      offset_ = value - port_.now();
      arm();
      break;
    case Reg::IMSC:
      mask_ = Interrupts{}.set<Interrupts::RTC>(Interrupts::RTC::decode(value));
      arm();
      break;
    case Reg::ICR: raw_.words[0] &= ~value; break;
    default: break;
  }
  update();
  return MmioResult::done;
}

}  // namespace weir
