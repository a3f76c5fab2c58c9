// A VM's real time clock as one of its devices: the machine's time, its interrupt, the clock for late work.
#pragma once

#include "hyp/rtc/virtual_rtc.hpp"

namespace weir {

class Vm;

class RtcDevice final : public RtcPort {
 public:
  explicit RtcDevice(Vm& vm) : vm_{vm} {}
  [[nodiscard]] std::uint32_t now() override;
  void set_interrupt(bool level) override;
  void want_tick() override;

  VirtualRtc device{*this};

 private:
  Vm& vm_;
};

}  // namespace weir
