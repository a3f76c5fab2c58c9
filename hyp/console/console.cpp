#include "hyp/console/console.hpp"

#include <array>
#include <memory>

#include "hyp/console/mux.hpp"
#include "hyp/console/physical_uart.hpp"
#include "hyp/gic/gic.hpp"
#include "hyp/gic/vgic.hpp"
#include "hyp/log/log.hpp"
#include "hyp/mem/pages.hpp"
#include "hyp/uart/virtual_uart.hpp"
#include "hyp/vm/summary.hpp"
#include "hyp/vm/vm.hpp"
#include "stage2/support/make.hpp"

namespace weir {
namespace {

constinit PhysicalUart uart;

class Output final : public MuxPort {
 public:
  void put(char c) override { uart.put(c); }
};
constinit Output output;
constinit ConsoleMux::Storage storage;
constinit ConsoleMux mux{output, storage};

class VmConsole final : public UartPort {
 public:
  VmConsole(Vm& vm, unsigned number) : vm_{vm}, number_{number} {}
  void transmit(char c) override { mux.vm_output(number_, c); }
  void set_interrupt(bool level) override { vm_.vgic->set_level(guest_map::kUartIntid, level); }
  [[nodiscard]] bool next(char& c) override { return mux.next(number_, c); }

  [[nodiscard]] Vm& vm() const { return vm_; }
  [[nodiscard]] unsigned number() const { return number_; }

  VirtualUart device{*this};

 private:
  Vm& vm_;
  unsigned number_;
};
constinit std::array<std::unique_ptr<VmConsole>, ConsoleMux::kMaxVms> consoles;

void on_input(void*) {
  for (char c; uart.get(c);) {
    const ConsoleMux::Action action = mux.typed(c);
    VmConsole* const console = consoles[mux.focus()].get();
    switch (action) {
      case ConsoleMux::Action::none: break;
      case ConsoleMux::Action::deliver:
        if (console != nullptr) console->device.receive();
        break;
      case ConsoleMux::Action::summary: print_summary(); break;
      case ConsoleMux::Action::end_vm:
        if (console != nullptr) console->vm().stop(StopReason::ended);
        break;
    }
  }
}

}  // namespace

void console_init(const Uart& description) {
  const auto registers = map_device(description.registers.base, description.registers.bytes);
  if (!registers) return;  // the early console stays
  uart = PhysicalUart{*registers};
  set_log_sink([](std::string_view line) { mux.weir_line(line); });
  if (!description.interrupt) return;
  uart.enable_receive_interrupt();
  gic_on_spi(description.interrupt->intid, on_input, nullptr);
  gic_configure_spi(description.interrupt->intid, description.interrupt->trigger == Trigger::edge);
  gic_enable_spi(description.interrupt->intid);
}

bool console_attach(Vm& vm) {
  static_assert(kMaxVms <= ConsoleMux::kMaxVms);
  const unsigned number = mux.add(vm.name());
  consoles[number] = make<VmConsole>(vm, number);
  if (!consoles[number]) return false;
  if (vm.config().raw_console) mux.start_raw(number);
  vm.uart = &consoles[number]->device;
  return vm.bus().add(guest_map::kUart, guest_map::kUartBytes, *vm.uart);
}

void console_stopped(const Vm& vm) {
  for (const auto& console : consoles)
    if (console && &console->vm() == &vm) mux.stopped(console->number());
}

}  // namespace weir
