// A VM's PL031. It shows the machine's time until the guest sets another one, which is then its own: the machine's clock
// stays as it is. Portable.
#pragma once

#include <cstdint>
#include <string_view>

#include "hyp/rtc/pl031.hpp"
#include "hyp/vm/mmio_device.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir {

// What is outside of the clock.
class RtcPort {
 public:
  // The machine's time, in seconds since 1970-01-01 (modulo 2^32, as the register has it).
  [[nodiscard]] virtual std::uint32_t now() = 0;
  virtual void set_interrupt(bool level) = 0;
  // An alarm is set: tick() is to be called now and then until it returns false.
  virtual void want_tick() = 0;

 protected:
  ~RtcPort() = default;
};

class VirtualRtc final : public MmioDevice {
 public:
  explicit VirtualRtc(RtcPort& port) : port_{port} {}

  // As out of the machine's reset: the machine's time, and no alarm.
  void reset();

  // Raises the alarm if its time has come. True: one is still to come. Any pCPU.
  [[nodiscard]] bool tick();

  [[nodiscard]] std::string_view name() const override { return "rtc"; }
  MmioResult read(Vcpu& vcpu, MmioAccess access, std::uint64_t& value) override;
  MmioResult write(Vcpu& vcpu, MmioAccess access, std::uint64_t value) override;

 private:
  [[nodiscard]] std::uint32_t time() { return port_.now() + offset_; }
  void look();  // with lock_ held, as the rest
  void arm();
  void update();

  RtcPort& port_;
  SpinLock lock_;
  std::uint32_t offset_ = 0;  // of the guest's time to the machine's
  std::uint32_t match_ = 0;
  std::uint32_t load_ = 0;  // the last value of LR
  bool armed_ = false;      // match_ lies ahead
  bool interrupt_ = false;
  pl031::Interrupts mask_{};
  pl031::Interrupts raw_{};
};

}  // namespace weir
