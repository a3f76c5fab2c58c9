// Device accesses by instructions for which the hardware gives no syndrome: pairs, writeback, SIMD and FP registers. A
// hypervisor has to decode them. Results are compared with those of plain loads and stores.
//
// Not here: exclusives and atomics, which the architecture does not promise on Device memory.
#include <array>

#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/gic.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/pci.hpp"
#include "tests/guests/bare/report.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "mmio";

namespace weir::guest {
namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

// Priorities of SPIs 64.. and affinity routing of SPIs 64..: registers in a row that keep what is written, with nothing
// else happening.
u64 priorities() { return machine().gicd + 0x0400 + 64; }
u64 routes() { return machine().gicd + 0x6000 + 8 * 64; }
// A route that GICD_IROUTER keeps: any CPU (not every GIC has that), or the second one.
constinit u64 route = 0;
void choose_route() {
  check("route");
  constexpr u64 kRoutingMode = 1u << 31;
  for (const u64 candidate : {u64{1}, kRoutingMode}) {
    store64(routes(), candidate);
    if (load64(routes()) == candidate) route = candidate;
  }
  expect(route != 0, "GICD_IROUTER keeps nothing");
}

void clear() {
  for (unsigned i = 0; i < 16; ++i) store32(priorities() + 4 * i, 0);
  for (unsigned i = 0; i < 4; ++i) store64(routes() + 8 * i, 0);
}
constexpr u32 kA = 0x8020'40a0, kB = 0x2060'c0e0;  // the five bits of priority that there are at least

void check_pairs() {
  check("pairs");
  const u64 at = priorities();
  clear();
  asm volatile("stp %w0, %w1, [%2]" ::"r"(kA), "r"(kB), "r"(at) : "memory");
  expect_equal(load32(at), kA, "stp w, first");
  expect_equal(load32(at + 4), kB, "stp w, second");
  expect_equal(load32(at + 8), 0, "stp w, next");
  u32 a = 0, b = 0;
  asm volatile("ldp %w0, %w1, [%2]" : "=&r"(a), "=&r"(b) : "r"(at) : "memory");
  expect_equal(a, kA, "ldp w, first");
  expect_equal(b, kB, "ldp w, second");
  asm volatile("ldnp %w0, %w1, [%2]" : "=&r"(a), "=&r"(b) : "r"(at) : "memory");
  expect_equal(a, kA, "ldnp w, first");
  u64 x = 0, y = 0;
  asm volatile("ldpsw %0, %1, [%2]" : "=&r"(x), "=&r"(y) : "r"(at) : "memory");
  expect_equal(x, 0xffff'ffff'0000'0000 | kA, "ldpsw, first");
  expect_equal(y, kB, "ldpsw, second");
  asm volatile("stp wzr, %w0, [%1]" ::"r"(kA), "r"(at) : "memory");
  expect_equal(load32(at), 0, "stp wzr");
  expect_equal(load32(at + 4), kA, "stp wzr, second");

  asm volatile("stp %0, xzr, [%1]" ::"r"(route), "r"(routes()) : "memory");
  expect_equal(load64(routes()), route, "stp x, first");
  expect_equal(load64(routes() + 8), 0, "stp x, second");
  asm volatile("ldp %0, %1, [%2]" : "=&r"(x), "=&r"(y) : "r"(routes()) : "memory");
  expect_equal(x, route, "ldp x, first");
  expect_equal(y, 0, "ldp x, second");
  clear();
}

void check_writeback(bool pairs) {
  check("writeback");
  clear();
  const u64 at = priorities();
  u64 p = at;
  asm volatile("str %w1, [%0], #4" : "+r"(p) : "r"(kA) : "memory");
  expect_equal(p, at + 4, "str post, address");
  asm volatile("str %w1, [%0, #4]!" : "+r"(p) : "r"(kB) : "memory");
  expect_equal(p, at + 8, "str pre, address");
  expect_equal(load32(at), kA, "str post");
  expect_equal(load32(at + 8), kB, "str pre");
  u32 v = 0;
  p = at;
  asm volatile("ldr %w1, [%0], #8" : "+r"(p), "=&r"(v)::"memory");
  expect_equal(v, kA, "ldr post");
  expect_equal(p, at + 8, "ldr post, address");
  asm volatile("ldr %w1, [%0, #-8]!" : "+r"(p), "=&r"(v)::"memory");
  expect_equal(v, kA, "ldr pre");
  expect_equal(p, at, "ldr pre, address");
  u64 x = 0;
  asm volatile("ldrb %w1, [%0, #1]!" : "+r"(p), "=&r"(v)::"memory");
  expect_equal(v, 0x40, "ldrb pre");
  p = at;
  asm volatile("ldrsb %1, [%0], #1" : "+r"(p), "=&r"(x)::"memory");
  expect_equal(x, 0xffff'ffff'ffff'ffa0, "ldrsb post");
  p = at;
  asm volatile("ldrsw %1, [%0], #4" : "+r"(p), "=&r"(x)::"memory");
  expect_equal(x, 0xffff'ffff'0000'0000 | kA, "ldrsw post");
  p = at + 3;
  asm volatile("strb %w1, [%0], #-3" : "+r"(p) : "r"(0x10) : "memory");
  expect_equal(p, at, "strb post, address");
  expect_equal(load32(at), (kA & 0x00ff'ffff) | 0x1000'0000, "strb post");
  u32 a = 0, b = 0;
  asm volatile("ldp %w1, %w2, [%0], #16" : "+r"(p), "=&r"(a), "=&r"(b)::"memory");
  expect_equal(b, 0, "ldp post");
  expect_equal(p, at + 16, "ldp post, address");
  if (pairs) {
    asm volatile("stp %w1, %w2, [%0, #-16]!" : "+r"(p) : "r"(kB), "r"(kA) : "memory");
    expect_equal(load32(at), kB, "stp pre, first");
    expect_equal(load32(at + 4), kA, "stp pre, second");
  } else {
    p = at;
  }
  expect_equal(p, at, "stp pre, address");
  clear();
}

extern "C" {
// simd.S: loads or stores by the named form, with the register's content in memory at `value`.
void store_s(u64 at, const void* value);
void store_d(u64 at, const void* value);
void store_q(u64 at, const void* value);
void store_q_pair(u64 at, const void* value);  // 32 bytes
void load_s(u64 at, void* value);
void load_d(u64 at, void* value);
void load_q(u64 at, void* value);
void load_q_pair(u64 at, void* value);
}

void check_simd() {
  check("simd");
  clear();
  alignas(16) std::array<u32, 8> out{};
  const u64 at = priorities();
  alignas(16) std::array<u32, 4> in{kA, kB, 0x1122'3344, 0x5566'7788};
  store_s(at, in.data());
  expect_equal(load32(at), kA, "str s");
  load_s(at, out.data());
  expect_equal(out[0], kA, "ldr s");
  expect_equal(out[1] | out[2] | out[3], 0, "ldr s clears the rest");

  const u64 r = routes();
  alignas(16) std::array<u64, 4> routing{route, 0, 0, route};
  alignas(16) std::array<u64, 4> got{};
  store_d(r, routing.data());
  expect_equal(load64(r), route, "str d");
  load_d(r, got.data());
  expect_equal(got[0], route, "ldr d");
  expect_equal(got[1], 0, "ldr d clears the rest");
  clear();
  store_q(r, routing.data());
  expect_equal(load64(r), route, "str q, low");
  expect_equal(load64(r + 8), 0, "str q, high");
  load_q(r, got.data());
  expect_equal(got[0], route, "ldr q, low");
  expect_equal(got[1], 0, "ldr q, high");
  clear();
  store_q_pair(r, routing.data());
  expect_equal(load64(r), route, "stp q, first");
  expect_equal(load64(r + 24), route, "stp q, last");
  got = {};
  load_q_pair(r, got.data());
  expect_equal(got[0], route, "ldp q, first");
  expect_equal(got[1] | got[2], 0, "ldp q, middle");
  expect_equal(got[3], route, "ldp q, last");
  clear();
}

void check_uart() {
  check("uart");
  constexpr u64 kIbrd = 0x24, kCr = 0x30, kImsc = 0x38, kPeriphId0 = 0xfe0, kDr = 0x00;
  const u64 uart = machine().uart;
  const u32 cr = load32(uart + kCr), imsc = load32(uart + kImsc);
  asm volatile("stp %w0, %w1, [%2]" ::"r"(0x12), "r"(0x21), "r"(uart + kIbrd) : "memory");
  expect_equal(load32(uart + kIbrd), 0x12, "stp to IBRD");
  expect_equal(load32(uart + kIbrd + 4), 0x21, "stp to FBRD");
  u32 a = 0, b = 0;
  asm volatile("ldp %w0, %w1, [%2]" : "=&r"(a), "=&r"(b) : "r"(uart + kPeriphId0) : "memory");
  expect_equal(a, load32(uart + kPeriphId0), "ldp of PeriphID0");
  expect_equal(b, load32(uart + kPeriphId0 + 4), "ldp of PeriphID1");
  u64 p = uart + kDr;
  asm volatile("strb %w1, [%0], #0" : "+r"(p) : "r"('.') : "memory");
  asm volatile("strb %w1, [%0], #0" : "+r"(p) : "r"('\n') : "memory");
  store32(uart + kCr, cr);
  store32(uart + kImsc, imsc);
}

void check_ecam() {
  check("ecam");
  unsigned slot = 1;
  while (slot < pci::kSlots && pci::identity(slot) == ~u32{0}) ++slot;
  if (slot == pci::kSlots) return;  // a VM without devices
  const u64 at = pci::config(slot);
  u32 a = 0, b = 0;
  asm volatile("ldp %w0, %w1, [%2]" : "=&r"(a), "=&r"(b) : "r"(at) : "memory");
  expect_equal(a, load32(at), "ldp of vendor and device");
  expect_equal(b, load32(at + 4), "ldp of command and status");
  alignas(16) std::array<u32, 4> out{};
  load_s(at, out.data());
  expect_equal(out[0], load32(at), "ldr s of vendor and device");
  constexpr u64 kInterruptLine = 0x3c;
  u64 p = at + kInterruptLine;
  asm volatile("strb %w1, [%0], #1" : "+r"(p) : "r"(0x5a) : "memory");
  expect_equal(load8(at + kInterruptLine), 0x5a, "strb post to the interrupt line");
  expect_equal(p, at + kInterruptLine + 1, "strb post, address");
  // Nothing is at an empty slot: all ones.
  for (unsigned empty = pci::kSlots - 1; empty > 0; --empty) {
    if (pci::identity(empty) != ~u32{0}) continue;
    asm volatile("ldp %w0, %w1, [%2]" : "=&r"(a), "=&r"(b) : "r"(pci::config(empty)) : "memory");
    expect_equal(a & b, ~u32{0}, "ldp of an empty slot");
    break;
  }
}

// Stores to a vSMMU's pages are permission faults, for which the hardware does not give the address.
void check_vsmmu() {
  check("vsmmu");
  if (machine().smmu_count == 0) return;
  const u64 base = machine().smmus[0].base;
  constexpr u64 kStrtabBase = 0x80, kCmdqBase = 0x90, kIdr0 = 0x00;
  u64 x = 0x1234'5000;
  asm volatile("stp %w0, wzr, [%1]" ::"r"(x), "r"(base + kStrtabBase) : "memory");
  expect_equal(load64(base + kStrtabBase), x, "stp w to STRTAB_BASE");
  u64 p = base + kStrtabBase;
  asm volatile("str %1, [%0], #16" : "+r"(p) : "r"(x + 0x1000) : "memory");
  expect_equal(load64(base + kStrtabBase), x + 0x1000, "str post to STRTAB_BASE");
  expect_equal(p, base + kCmdqBase, "str post, address");
  alignas(16) std::array<u64, 2> d{x + 0x3000, 0};
  store_d(base + kStrtabBase, d.data());
  expect_equal(load64(base + kStrtabBase), d[0], "str d to STRTAB_BASE");
  u32 a = 0, b = 0;
  asm volatile("ldp %w0, %w1, [%2]" : "=&r"(a), "=&r"(b) : "r"(base + kIdr0) : "memory");
  expect_equal(a, load32(base + kIdr0), "ldp of IDR0");
  expect_equal(b, load32(base + kIdr0 + 4), "ldp of IDR1");
}

// Nothing there: an external abort at the instruction, whatever its form, and no register changed.
void check_nothing() {
  check("nothing-there");
  constexpr u64 kNothing = 0x0700'0000;
  if (machine().has_option("bare")) return;
  u64 a = 1, b = 2, p = kNothing;
  auto e = provoke([&] { asm volatile("ldp %0, %1, [%2]" : "+&r"(a), "+&r"(b) : "r"(kNothing) : "memory"); });
  expect(e.count == 1 && e.external_abort(), "ldp", e.esr, e.far);
  expect_equal(e.far, kNothing, "FAR of ldp");
  expect(a == 1 && b == 2, "ldp changed a register", a, b);
  e = provoke([&] { asm volatile("str %1, [%0], #8" : "+r"(p) : "r"(a) : "memory"); });
  expect(e.count == 1 && e.external_abort(), "str post", e.esr, e.far);
  expect_equal(p, kNothing, "str post, address");
  e = provoke([&] { asm volatile("ldr %w0, [%1]" : "+&r"(a) : "r"(kNothing + 8) : "memory"); });
  expect(e.count == 1 && e.external_abort(), "ldr", e.esr, e.far);
}

// A PL031: the time, one of the guest's own, an alarm.
void check_rtc() {
  check("rtc");
  constexpr u64 kDr = 0x00, kMr = 0x04, kLr = 0x08, kImsc = 0x10, kIcr = 0x1c;
  if (!expect(machine().rtc != 0, "there is none")) return;
  const u64 rtc = machine().rtc;
  Text<64> text;
  text.put("the time is ").dec(load32(rtc + kDr));
  say(text.view());
  store32(rtc + kLr, 1000);
  const u32 now = load32(rtc + kDr);
  expect(now == 1000 || now == 1001, "the time that was set", now);
  const u64 pending = machine().gicd + 0x200 + machine().rtc_intid / 32 * 4;
  const u32 bit = u32{1} << machine().rtc_intid % 32;
  store32(rtc + kImsc, 1);
  store32(rtc + kMr, now + 2);
  expect((load32(pending) & bit) == 0, "the alarm comes early");
  const u64 until = now_us() + 10'000'000;
  while ((load32(pending) & bit) == 0 && now_us() < until) {
  }
  expect((load32(pending) & bit) != 0, "the alarm does not come");
  expect(load32(rtc + kDr) >= now + 2, "the alarm came early");
  store32(rtc + kIcr, 1);
  expect((load32(pending) & bit) == 0, "the alarm stays");
  store32(rtc + kImsc, 0);
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  store32(machine().gicd, 0x12);  // ARE_NS, EnableGrp1
  choose_route();
  const bool bare = machine().has_option("bare");  // QEMU joins the two words of a pair into one access
  if (!bare) check_pairs();
  check_writeback(!bare);
  check_simd();
  check_uart();
  check_rtc();
  check_ecam();
  if (!bare) check_vsmmu();
  check_nothing();
}
