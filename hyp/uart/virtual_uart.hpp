// A VM's PL011. What the guest writes goes to its console at once, so the transmit FIFO is always empty; what is typed
// waits in a receive FIFO. Portable.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "hyp/uart/pl011.hpp"
#include "hyp/vm/mmio_device.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir {

// What is outside of the UART.
class UartPort {
 public:
  virtual void transmit(char c) = 0;
  virtual void set_interrupt(bool level) = 0;
  // A character that waits for room in the FIFO; false if there is none.
  [[nodiscard]] virtual bool next(char& c) = 0;

 protected:
  ~UartPort() = default;
};

class VirtualUart final : public MmioDevice {
 public:
  explicit VirtualUart(UartPort& port) : port_{port} {}

  // Something waits at the port: takes as much as the FIFO has room for, and goes on when the guest reads. Any pCPU.
  void receive();

  [[nodiscard]] std::string_view name() const override { return "uart"; }
  MmioResult read(Vcpu& vcpu, MmioAccess access, std::uint64_t& value) override;
  MmioResult write(Vcpu& vcpu, MmioAccess access, std::uint64_t value) override;

 private:
  [[nodiscard]] unsigned depth() const { return line_.get<pl011::LineControl::FEN>() ? pl011::kFifo : 1; }
  [[nodiscard]] unsigned trigger() const;
  [[nodiscard]] pl011::Interrupts raw() const;
  [[nodiscard]] std::uint32_t pop();
  void fill();
  void update();

  UartPort& port_;
  SpinLock lock_;
  std::array<char, pl011::kFifo> fifo_{};
  unsigned first_ = 0;
  unsigned count_ = 0;
  bool interrupt_ = false;
  pl011::LineControl line_{};
  pl011::Control control_ = pl011::Control{}.set<pl011::Control::TXE>(true).set<pl011::Control::RXE>(true);
  pl011::FifoLevels levels_ = pl011::FifoLevels{}.set<pl011::FifoLevels::TX>(2).set<pl011::FifoLevels::RX>(2);
  pl011::Interrupts mask_{};
  pl011::Interrupts latched_{};  // TX: cleared by ICR only
  std::uint32_t integer_baud_ = 0;
  std::uint32_t fractional_baud_ = 0;
};

}  // namespace weir
