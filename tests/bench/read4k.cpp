// The program of the Linux guest of `make bench`: reads 4 KiB a time from the first NVMe disk with O_DIRECT, and powers off.
// It is /init of an initramfs with nothing else in it; `reads=N` on the kernel's command line says how often. While it waits,
// a second process spins, so that the CPU never idles: QEMU's virtual time would run on in the host's time then, and how many
// timer interrupts fall into a read would depend on the host. The reads are
// in four windows of tests/bench/count.c. No libc: system calls by hand.
#include <stddef.h>
#include <stdint.h>

extern "C" void* memset(void* to, int value, size_t n) {
  auto* p = static_cast<volatile char*>(to);
  for (size_t i = 0; i < n; ++i) p[i] = static_cast<char>(value);
  return to;
}

namespace {

enum Call : long {
  mkdirat = 34,
  mount = 40,
  openat = 56,
  write = 64,
  pread64 = 67,
  nanosleep = 101,
  sched_setscheduler = 119,
  reboot = 142,
  clone = 220
};
constexpr long kSigChld = 17, kSchedIdle = 5;
constexpr long kAtFdcwd = -100, kDirect = 0x10000;
constexpr long kDiskBytes = 64l << 20, kBlock = 4096, kWarmUp = 500;
// The kernel checks signatures and algorithms in the background once it has booted, and would do so while it waits for the disk.
constexpr long kSettle = 5000;
constexpr int kWindows = 4;

long call(Call number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  asm volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
  return x0;
}
long at(const void* p) { return reinterpret_cast<long>(p); }

void say(const char* text) {
  size_t n = 0;
  while (text[n] != 0) ++n;
  call(write, 1, at(text), static_cast<long>(n));
}
void say(uint64_t number) {
  char text[21];
  char* p = text + sizeof text;
  *--p = 0;
  do {
    *--p = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  say(p);
}

[[noreturn]] void off() {
  call(reboot, static_cast<long>(0xfee1dead), 672274793, 0x4321fedc);
  for (;;) {
  }
}
[[noreturn]] void fail(const char* what, long result) {
  say("bench: FAIL ");
  say(what);
  say(" ");
  say(static_cast<uint64_t>(-result));
  say("\n");
  off();
}

uint64_t ticks() {
  uint64_t value;
  asm volatile("isb\n mrs %0, cntvct_el0" : "=r"(value)::"memory");
  return value;
}

alignas(4096) char buffer[kBlock];

void read_blocks(long disk, long count) {
  for (long i = 0; i < count; ++i) {
    const long got = call(pread64, disk, at(buffer), kBlock, i * kBlock % kDiskBytes);
    if (got != kBlock) fail("read", got);
  }
}

// A process that only runs when nothing else wants to.
void start_spinning() {
  const long child = call(clone, kSigChld);
  if (child < 0) fail("clone", child);
  if (child > 0) return;
  const int priority = 0;
  call(sched_setscheduler, 0, kSchedIdle, at(&priority));
  for (;;) asm volatile("");
}

// "reads=N" in the environment.
long reads_wanted(char** environment) {
  for (; *environment != nullptr; ++environment) {
    const char* p = *environment;
    const char* key = "reads=";
    while (*key != 0 && *p == *key) ++p, ++key;
    if (*key != 0) continue;
    long n = 0;
    for (; *p >= '0' && *p <= '9'; ++p) n = 10 * n + (*p - '0');
    return n;
  }
  return 1000;
}

void sleep_ms(long ms) {
  const struct {
    int64_t seconds, nanoseconds;
  } time = {ms / 1000, ms % 1000 * 1'000'000};
  call(nanosleep, at(&time));
}

long open_disk() {
  long disk = -1;
  for (int tries = 0; tries < 300; ++tries) {
    disk = call(openat, kAtFdcwd, at("/dev/nvme0n1"), kDirect);
    if (disk >= 0) return disk;
    sleep_ms(100);
  }
  fail("open /dev/nvme0n1", disk);
}

}  // namespace

extern "C" [[noreturn]] void begin(long* stack) {
  const long reads = reads_wanted(reinterpret_cast<char**>(stack + 1 + stack[0] + 1));
  call(mkdirat, kAtFdcwd, at("/dev"), 0755);
  call(mount, at("devtmpfs"), at("/dev"), at("devtmpfs"), 0, 0);
  const long disk = open_disk();
  sleep_ms(kSettle);
  start_spinning();
  read_blocks(disk, kWarmUp);
  for (int window = 0; window < kWindows; ++window) {
    asm volatile("hint #120");
    const uint64_t before = ticks();
    read_blocks(disk, reads / kWindows);
    const uint64_t after = ticks();
    asm volatile("hint #121");
    say("bench: reads ");
    say(static_cast<uint64_t>(reads / kWindows));
    say(" ticks ");
    say(after - before);
    say("\n");
  }
  say("bench: OK\n");
  off();
}

asm(".globl _start\n_start: mov x0, sp\n b begin");
