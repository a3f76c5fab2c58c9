// What the compiler and the framework need under a payload.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "stage2/support/spinlock.hpp"
#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/psci.hpp"
#include "tests/guests/bare/report.hpp"

extern "C" {
void* memcpy(void* __restrict to, const void* __restrict from, std::size_t n) {
  auto* t = static_cast<unsigned char*>(to);
  const auto* f = static_cast<const unsigned char*>(from);
  for (std::size_t i = 0; i < n; ++i) {
    t[i] = f[i];
    asm volatile("" ::: "memory");  // not a call of memcpy again
  }
  return to;
}
void* memmove(void* to, const void* from, std::size_t n) {
  auto* t = static_cast<unsigned char*>(to);
  const auto* f = static_cast<const unsigned char*>(from);
  if (t <= f) return memcpy(to, from, n);
  while (n-- != 0) {
    t[n] = f[n];
    asm volatile("" ::: "memory");
  }
  return to;
}
void* memset(void* to, int value, std::size_t n) {
  auto* t = static_cast<unsigned char*>(to);
  for (std::size_t i = 0; i < n; ++i) {
    t[i] = static_cast<unsigned char>(value);
    asm volatile("" ::: "memory");
  }
  return to;
}
int memcmp(const void* a, const void* b, std::size_t n) {
  const auto* x = static_cast<const unsigned char*>(a);
  const auto* y = static_cast<const unsigned char*>(b);
  for (std::size_t i = 0; i < n; ++i)
    if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
  return 0;
}
void* memchr(const void* at, int value, std::size_t n) {
  const auto* p = static_cast<const unsigned char*>(at);
  for (; n != 0; ++p, --n)
    if (*p == static_cast<unsigned char>(value)) return const_cast<unsigned char*>(p);
  return nullptr;
}
std::size_t strlen(const char* s) {
  std::size_t n = 0;
  while (s[n] != 0) ++n;
  return n;
}
[[noreturn]] void abort() {
  weir::guest::say("FAIL abort");
  weir::guest::power_off();
}

extern char _start[];
void mmu_on(const void* table);
void secondary_entry();
alignas(4096) std::uint64_t translation_table[512];
}

namespace weir::guest {
namespace {

constexpr unsigned kIntids = 1024;
constinit std::array<unsigned, kIntids> taken{};
constinit bool armed = false;
constinit Provoked provoked{};
constinit std::uint64_t latest = 0;  // the timer's interrupt
constinit std::string_view check_name{};
constinit std::atomic<unsigned> failed{0};
constinit SpinLock console{};
constinit std::uint64_t next_page = 0;

// Identity: [0, RAM) and all above RAM devices, RAM normal write-back. Level 1, 1 GiB blocks.
void make_table(const Machine& m) {
  constexpr std::uint64_t kGiB = 0x4000'0000;
  constexpr std::uint64_t kBlock = 0x1 | 1u << 10;                   // valid, AF
  constexpr std::uint64_t kNormal = 1 << 2 | std::uint64_t{3} << 8;  // MAIR index 1, inner shareable
  constexpr std::uint64_t kNeverExecute = std::uint64_t{3} << 53;
  for (std::uint64_t i = 0; i < 512; ++i) {
    const std::uint64_t at = i * kGiB;
    const bool ram = at + kGiB > m.ram && at < m.ram + m.ram_bytes;
    translation_table[i] = at | kBlock | (ram ? kNormal : kNeverExecute);
  }
  barrier();
}

void on_timer() {
  isb();
  latest = std::max<std::uint64_t>(latest, WEIR_READ_SYSREG("cntvct_el0") - WEIR_READ_SYSREG("cntv_cval_el0"));
  WEIR_WRITE_SYSREG("cntv_ctl_el0", 0);
  isb();
}

void off_after_exception(const char* what, const Frame& f) {
  Text<200> text;
  text.put("FAIL ").put(check_name).put(": ").put(what).put(" ESR ").hex(f.esr).put(" ELR ").hex(f.elr);
  text.put(" (image ").hex(reinterpret_cast<std::uint64_t>(_start)).put(") FAR ").hex(f.far);
  say(text.view());
  finish();
}

}  // namespace

// --- Exceptions

extern "C" void on_exception(std::uint64_t vector, Frame* frame) {
  if (vector % 4 == 1) {                                                         // IRQ
    const std::uint64_t intid = WEIR_READ_SYSREG("S3_0_C12_C12_0") & 0xff'ffff;  // ICC_IAR1_EL1
    isb();
    if (intid < kIntids - 4) {
      taken[intid] = taken[intid] + 1;
      if (intid == kTimer) on_timer();
      WEIR_WRITE_SYSREG("S3_0_C12_C12_1", intid);  // ICC_EOIR1_EL1
      isb();
    }
    return;
  }
  if (vector % 4 == 0 && armed) {
    ++provoked.count;
    provoked.esr = frame->esr;
    provoked.far = frame->far;
    const bool fetch =
        provoked.ec() == ExceptionClass::instruction_abort || (frame->esr >> 26 & 0x3f) == 0x22;  // PC alignment
    frame->elr = fetch ? frame->x[30] : frame->elr + 4;
    frame->spsr &= ~(std::uint64_t{3} << 20);  // SS, IL
    return;
  }
  armed = false;
  if (vector >= 8) failed += 1000;
  ++failed;
  static constexpr const char* kKinds[] = {"exception", "IRQ", "FIQ", "SError"};
  off_after_exception(kKinds[vector % 4], *frame);
}

void arm_exceptions() {
  provoked = {};
  armed = true;
  asm volatile("" ::: "memory");
}
Provoked disarm_exceptions() {
  asm volatile("" ::: "memory");
  armed = false;
  return provoked;
}
void arm_timer(std::uint64_t ns) {
  const std::uint64_t ticks = ns * (WEIR_READ_SYSREG("cntfrq_el0") / 1000) / 1'000'000;
  WEIR_WRITE_SYSREG("cntv_cval_el0", WEIR_READ_SYSREG("cntvct_el0") + ticks);
  WEIR_WRITE_SYSREG("cntv_ctl_el0", 1);
}
std::uint64_t latest_timer() { return latest * 1'000'000 / (WEIR_READ_SYSREG("cntfrq_el0") / 1000); }
unsigned interrupts(unsigned intid) {
  asm volatile("" ::: "memory");
  return taken[intid];
}

// --- Console and verdict

namespace {
constexpr std::uint64_t kDr = 0x00, kFr = 0x18;  // of the PL011
constexpr std::uint32_t kRxfe = 1 << 4, kTxff = 1 << 5;
std::uint64_t uart_base() { return machine().uart != 0 ? machine().uart : 0x0900'0000; }
}  // namespace
bool typed(char& c) {
  if ((load32(uart_base() + kFr) & kRxfe) != 0) return false;
  c = static_cast<char>(load32(uart_base() + kDr));
  return true;
}
void print(std::string_view text) {
  const SpinLock::Guard guard{console};
  const std::uint64_t uart = uart_base();
  for (const char c : text) {
    while ((load32(uart + kFr) & kTxff) != 0) {
    }
    store32(uart + kDr, static_cast<unsigned char>(c));
  }
}
void say(std::string_view text) {
  Text<300> line;
  line.put("guest: ").put(kGuestName).put(": ").put(text).put("\r\n");
  print(line.view());
}
void check(std::string_view name) {
  check_name = name;
  if (machine().has_option("verbose")) say(name);
}
namespace {
constexpr unsigned kMostFailures = 40;
bool fail(TextBuffer& text) {
  if (++failed <= kMostFailures) say(text.view());
  return false;
}
void head(TextBuffer& text, std::string_view what) { text.put("FAIL ").put(check_name).put(": ").put(what); }
}  // namespace
bool expect(bool ok, std::string_view what) {
  if (ok) return true;
  Text<200> text;
  head(text, what);
  return fail(text);
}
bool expect(bool ok, std::string_view what, std::uint64_t a) {
  if (ok) return true;
  Text<200> text;
  head(text, what);
  text.put(' ').hex(a);
  return fail(text);
}
bool expect(bool ok, std::string_view what, std::uint64_t a, std::uint64_t b) {
  if (ok) return true;
  Text<200> text;
  head(text, what);
  text.put(' ').hex(a).put(' ').hex(b);
  return fail(text);
}
bool expect_equal(std::uint64_t got, std::uint64_t expected, std::string_view what) {
  if (got == expected) return true;
  Text<200> text;
  head(text, what);
  text.put(" is ").hex(got).put(", expected ").hex(expected);
  return fail(text);
}
unsigned failures() { return failed; }

void finish() {
  Text<60> text;
  const unsigned failures = failed;
  if (failures == 0) {
    text.put("OK");
  } else {
    text.put("failed: ").dec(failures);
  }
  say(text.view());
  power_off();
}

// --- Calls

// NOLINTNEXTLINE: registers by name
#define WEIR_CALL(instruction)                                                                               \
  register std::uint64_t x0 asm("x0") = function;                                                            \
  register std::uint64_t x1 asm("x1") = a1;                                                                  \
  register std::uint64_t x2 asm("x2") = a2;                                                                  \
  register std::uint64_t x3 asm("x3") = a3;                                                                  \
  asm volatile(instruction                                                                                   \
               : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)                                                      \
               :                                                                                             \
               : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", \
                 "memory");                                                                                  \
  return { x0, x1, x2, x3 }

CallResult hvc(std::uint64_t function, std::uint64_t a1, std::uint64_t a2, std::uint64_t a3) { WEIR_CALL("hvc #0"); }
CallResult smc(std::uint64_t function, std::uint64_t a1, std::uint64_t a2, std::uint64_t a3) { WEIR_CALL("smc #0"); }

void power_off() {
  hvc(psci::kSystemOff);
  for (;;) asm volatile("wfi");
}

std::int64_t start_cpu(std::uint64_t mpidr, CpuMain main, std::uint64_t argument) {
  struct Start {
    std::uint64_t stack;
    CpuMain main;
    std::uint64_t argument;
  };
  static constinit std::array<std::uint64_t, kMaxCpus> stacks{}, blocks{};
  constexpr std::uint64_t kStack = 0x4000;
  const std::size_t cpu = mpidr % kMaxCpus;
  std::uint64_t& stack = stacks[cpu];
  std::uint64_t& block = blocks[cpu];
  if (stack == 0) {
    stack = allocate(kStack);
    block = allocate(0x1000);
  }
  *reinterpret_cast<Start*>(block) = {stack + kStack, main, argument};
  asm volatile("dc civac, %0\n dsb sy" ::"r"(block) : "memory");
  const auto entry = reinterpret_cast<std::uint64_t>(&secondary_entry);
  return psci::value(hvc(psci::kCpuOn, mpidr, entry, block));
}

// --- Memory, time, chance

std::uint64_t allocate(std::uint64_t bytes, std::uint64_t alignment) {
  const Machine& m = machine();
  constexpr std::uint64_t kFirst = 0x200'0000;  // past any image
  if (next_page == 0) next_page = m.ram + kFirst;
  next_page = (next_page + alignment - 1) & ~(alignment - 1);
  const std::uint64_t at = next_page;
  next_page += (bytes + 0xfff) & ~std::uint64_t{0xfff};
  if (next_page > m.ram + m.ram_bytes - 0x20'0000) {  // the devicetree's
    ++failed;
    say("FAIL out of memory");
    finish();
  }
  for (std::uint64_t p = at; p < next_page; p += 8) *reinterpret_cast<volatile std::uint64_t*>(p) = 0;
  return at;
}

std::uint64_t now_us() {
  isb();
  const std::uint64_t hz = WEIR_READ_SYSREG("cntfrq_el0");
  const std::uint64_t ticks = WEIR_READ_SYSREG("cntvct_el0");
  return ticks / hz * 1'000'000 + ticks % hz * 1'000'000 / hz;
}

std::uint64_t Random::next() {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545f4914f6cdd1d;
}

void read_devicetree(const std::uint8_t* blob);

extern "C" [[noreturn]] void start(const std::uint8_t* devicetree) {
  read_devicetree(devicetree);
  make_table(machine());
  if (!machine().has_option("mmu=off")) mmu_on(translation_table);
  guest_main();
  finish();
}

}  // namespace weir::guest
