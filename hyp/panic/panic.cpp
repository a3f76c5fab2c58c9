#include "hyp/panic/panic.hpp"

#include <array>
#include <atomic>
#include <cstdarg>
#include <cstddef>
#include <cstdio>

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/el2_registers.hpp"
#include "hyp/arch/pcpu.hpp"
#include "hyp/arch/semihosting.hpp"
#include "hyp/arch/smccc.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/boot/image.hpp"
#include "hyp/early/words.hpp"
#include "hyp/log/early_console.hpp"
#include "hyp/log/log.hpp"
#include "hyp/panic/disassemble.hpp"
#include "hyp/panic/frame.hpp"

extern "C" [[gnu::visibility("hidden")]] const std::byte minimal_vectors[];  // vectors.S

namespace weir {

namespace {

using ull = unsigned long long;

constinit MachineExit exit_method = MachineExit::park;
constinit void (*stop_others)() = nullptr;
constexpr unsigned kNobody = ~0U;
constinit std::atomic<unsigned> panicking_pcpu{kNobody};

constexpr std::uint32_t kFailure = 1;

constexpr std::array<const char*, 8> kVectors = {
    "synchronous exception (SP_EL0)", "IRQ (SP_EL0)", "FIQ (SP_EL0)", "SError (SP_EL0)",
    "synchronous exception",          "IRQ",          "FIQ",          "SError"};

// What is known of this pCPU: nothing, early or when the thread pointer is what is broken.
const Pcpu& self() {
  static constinit Pcpu unknown{};
  const bool known = READ_SYSREG(tpidr_el2) != 0 && detail::current_pcpu != nullptr;
  return known ? *detail::current_pcpu : unknown;
}

// From here on an exception on this pCPU does not come back to this file, but goes where nothing is needed.
void expect_no_exception() {
  WRITE_SYSREG(vbar_el2, reinterpret_cast<std::uint64_t>(minimal_vectors));
  isb();
}

// A panic inside of a panic: its registers, and no more.
[[noreturn]] void panic_again(const char* format) {
  early::say("\nweir: panic: while reporting the first one: ");
  early::say(format);
  asm volatile("brk #0");
  __builtin_unreachable();
}

// Stops the other pCPUs. Of two that panic at once the second parks, silently: the first one has the console. `format`: what
// a panic inside of a panic says.
void begin_panic(const char* format) {
  const unsigned index = self().index;
  unsigned expected = kNobody;
  expect_no_exception();
  if (!panicking_pcpu.compare_exchange_strong(expected, index)) {
    if (expected != index) park();
    panic_again(format);
  }
  if (stop_others != nullptr) stop_others();
  early_console_write("\n");  // a console may be in the middle of a line
}

bool in_text(std::uint64_t at) {
  return at >= reinterpret_cast<std::uint64_t>(__text_start) && at < reinterpret_cast<std::uint64_t>(__text_end);
}

// Follows the chain of {frame pointer, return address} as long as it stays in this pCPU's stack and goes upwards.
void print_backtrace(std::uint64_t pc, std::uint64_t frame) {
  constexpr unsigned kMaxDepth = 32;
  const Pcpu& pcpu = self();
  log("panic: backtrace (addresses for build/weir.elf):");
  log("panic:   #0  %#014llx", static_cast<ull>(pc));
  for (unsigned depth = 1; depth < kMaxDepth; ++depth) {
    if (frame < pcpu.stack_low || frame > pcpu.stack_high - 16 || frame % 16 != 0) break;
    const auto* record = reinterpret_cast<const std::uint64_t*>(frame);  // NOLINT: checked
    if (!in_text(record[1])) break;
    log("panic:   #%-2u %#014llx", depth, static_cast<ull>(record[1]));
    if (record[0] <= frame) break;
    frame = record[0];
  }
}

void print_instruction(std::uint64_t pc) {
  if (!in_text(pc) || pc % 4 != 0) return;
  const std::uint32_t insn = *reinterpret_cast<const std::uint32_t*>(pc);  // NOLINT: checked
  std::array<char, 96> text{};
  disassemble(insn, pc, text);
  log("panic: at %#014llx: %08x  %s", static_cast<ull>(pc), insn, text.data());
}

}  // namespace

void set_machine_exit(MachineExit method) { exit_method = method; }
void set_stop_others(void (*stop)()) { stop_others = stop; }
bool panicked() { return panicking_pcpu.load(std::memory_order_relaxed) != kNobody; }

void park_if_panicked() {
  if (panicked()) park();
}

void park() {
  asm volatile("msr daifset, #0xf" ::: "memory");
  for (;;) wfi();
}

void machine_exit(std::uint32_t status) {
  switch (exit_method) {
    case MachineExit::semihosting: log("exit status %u", status); semihosting_exit(status);
    case MachineExit::system_off:
      log("exit status %u, switching the machine off", status);
      psci::system_off();
      log("PSCI SYSTEM_OFF came back");
      break;
    case MachineExit::park: break;
  }
  log("exit status %u, no way to leave: this CPU is parked", status);
  park();
}

// From vectors.S, when the minimal path has said what it knows.
extern "C" [[noreturn]] void minimal_exit() {
  if (exit_method == MachineExit::semihosting) semihosting_exit(kFailure);
  if (exit_method == MachineExit::system_off) psci::system_off();
  park();
}

void panic(const char* format, ...) {
  const auto caller = reinterpret_cast<std::uint64_t>(__builtin_return_address(0));
  const auto frame = *reinterpret_cast<const std::uint64_t*>(__builtin_frame_address(0));
  begin_panic(format);
  std::array<char, 400> text{};
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text.data(), text.size(), format, arguments);
  va_end(arguments);
  log("panic: %s (pCPU %u)", text.data(), self().index);
  print_backtrace(caller, frame);
  machine_exit(kFailure);
}

// From vectors.S, on the emergency stack.
extern "C" [[noreturn]] void el2_exception_panic(const PanicFrame* f, std::uint64_t vector) {
  begin_panic("an exception");
  EsrEl2 esr{};
  esr.words[0] = f->esr;
  const auto ec = esr.get<EsrEl2::EC>();
  const std::uint32_t iss = esr.get<EsrEl2::ISS>();
  const Pcpu& pcpu = self();
  log("panic: %s at EL2 on pCPU %u: %s", kVectors[vector % kVectors.size()], pcpu.index, to_string(ec));
  if (ec == ExceptionClass::data_abort || ec == ExceptionClass::instruction_abort) {
    AbortIss abort{};
    abort.words[0] = iss;
    const char* what = ec == ExceptionClass::instruction_abort ? "fetch"
                       : abort.get<AbortIss::WNR>()            ? "write"
                                                               : "read";
    log("panic: %s of %#014llx: %s%s", what, static_cast<ull>(f->far),
        fault_status_to_string(abort.get<AbortIss::FSC>()),
        f->far < pcpu.stack_low && pcpu.stack_low - f->far <= kPage4K ? ", the guard page of this pCPU's stack" : "");
  }
  log("panic: ESR_EL2 %#llx (EC %#x, ISS %#x) FAR_EL2 %#llx", static_cast<ull>(f->esr), static_cast<unsigned>(ec), iss,
      static_cast<ull>(f->far));
  log("panic: PC %#014llx SP %#014llx PSTATE %#llx", static_cast<ull>(f->pc), static_cast<ull>(f->sp),
      static_cast<ull>(f->pstate));
  for (unsigned i = 0; i < 28; i += 4) {
    log("panic: x%-2u %016llx x%-2u %016llx x%-2u %016llx x%-2u %016llx", i, static_cast<ull>(f->x[i]), i + 1,
        static_cast<ull>(f->x[i + 1]), i + 2, static_cast<ull>(f->x[i + 2]), i + 3, static_cast<ull>(f->x[i + 3]));
  }
  log("panic: x28 %016llx x29 %016llx x30 %016llx", static_cast<ull>(f->x[28]), static_cast<ull>(f->x[29]),
      static_cast<ull>(f->x[30]));
  print_instruction(f->pc);
  // The chain starts with x29. Where it runs through a function that has not saved x30 yet, the caller is in x30.
  print_backtrace(f->pc, f->x[29]);
  machine_exit(kFailure);
}

}  // namespace weir
