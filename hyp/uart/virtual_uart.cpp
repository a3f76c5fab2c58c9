#include "hyp/uart/virtual_uart.hpp"

namespace weir {

using namespace pl011;

namespace {

// PeriphID and PCellID of a PL011 r1p5.
constexpr std::array<std::uint8_t, 8> kIdentification = {0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
constexpr std::uint32_t kIntegerBaud = 0xffff;
constexpr std::uint32_t kFractionalBaud = 0x3f;

template <typename R>
R masked(std::uint32_t value) {  // without reserved bits
  return R{{{static_cast<std::uint32_t>(value & ~R::Layout::res0[0])}}};
}

}  // namespace

unsigned VirtualUart::trigger() const {
  if (depth() == 1) return 1;
  constexpr std::array<unsigned, 8> kLevels = {2, 4, 8, 12, 14, 14, 14, 14};  // 1/8 to 7/8; the rest is reserved
  return kLevels[levels_.get<FifoLevels::RX>()];
}

// Time is not modelled: what is below the trigger level has timed out.
Interrupts VirtualUart::raw() const {
  Interrupts r = latched_;
  r.set<Interrupts::RX>(count_ >= trigger());
  r.set<Interrupts::RT>(count_ != 0);
  return r;
}

void VirtualUart::update() {
  const bool level = (raw().words[0] & mask_.words[0]) != 0;
  if (level == interrupt_) return;
  interrupt_ = level;
  port_.set_interrupt(level);
}

void VirtualUart::fill() {
  for (char c; count_ < depth() && port_.next(c); ++count_) fifo_[(first_ + count_) % kFifo] = c;
}

void VirtualUart::receive() {
  const SpinLock::Guard guard{lock_};
  fill();
  update();
}

std::uint32_t VirtualUart::pop() {
  if (count_ == 0) return 0;
  const char c = fifo_[first_];
  first_ = (first_ + 1) % kFifo;
  --count_;
  return static_cast<unsigned char>(c);
}

MmioResult VirtualUart::read(Vcpu&, MmioAccess access, std::uint64_t& value) {
  const SpinLock::Guard guard{lock_};
  const auto offset = static_cast<std::uint32_t>(access.offset & ~3u);
  value = 0;
  if ((access.offset & 3) != 0) return MmioResult::done;  // registers are 16 bits wide at most, at their first byte
  constexpr auto kIds = static_cast<std::uint32_t>(Reg::PeriphID0);
  if (offset >= kIds && offset < kIds + 4 * kIdentification.size()) {
    value = kIdentification[(offset - kIds) / 4];
    return MmioResult::done;
  }
  switch (static_cast<Reg>(offset)) {
    case Reg::DR:
      value = pop();
      fill();
      update();
      break;
    case Reg::FR:
      value = Flags{}
                  .set<Flags::CTS>(true)
                  .set<Flags::RXFE>(count_ == 0)
                  .set<Flags::RXFF>(count_ >= depth())
                  .set<Flags::TXFE>(true)
                  .words[0];
      break;
    case Reg::IBRD: value = integer_baud_; break;
    case Reg::FBRD: value = fractional_baud_; break;
    case Reg::LCR_H: value = line_.words[0]; break;
    case Reg::CR: value = control_.words[0]; break;
    case Reg::IFLS: value = levels_.words[0]; break;
    case Reg::IMSC: value = mask_.words[0]; break;
    case Reg::RIS: value = raw().words[0]; break;
    case Reg::MIS: value = raw().words[0] & mask_.words[0]; break;
    default: break;
  }
  return MmioResult::done;
}

MmioResult VirtualUart::write(Vcpu&, MmioAccess access, std::uint64_t raw_value) {
  if ((access.offset & 3) != 0) return MmioResult::done;
  const auto value = static_cast<std::uint32_t>(raw_value);
  const auto reg = static_cast<Reg>(access.offset);
  if (reg == Reg::DR) {
    port_.transmit(static_cast<char>(value));
    const SpinLock::Guard guard{lock_};
    latched_.set<Interrupts::TX>(true);  // the FIFO has drained through its trigger level
    update();
    return MmioResult::done;
  }
  const SpinLock::Guard guard{lock_};
  switch (reg) {
    case Reg::IBRD: integer_baud_ = value & kIntegerBaud; break;
    case Reg::FBRD: fractional_baud_ = value & kFractionalBaud; break;
    case Reg::LCR_H:
      line_ = masked<LineControl>(value);
      if (count_ > depth()) first_ = count_ = 0;  // the FIFO is flushed when it is turned off
      break;
    case Reg::CR: control_ = masked<Control>(value); break;
    case Reg::IFLS: levels_ = masked<FifoLevels>(value); break;
    case Reg::IMSC: mask_ = masked<Interrupts>(value); break;
    case Reg::ICR: latched_.words[0] &= ~value; break;
    default: break;
  }
  update();
  return MmioResult::done;
}

}  // namespace weir
