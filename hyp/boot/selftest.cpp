#include "hyp/boot/selftest.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/cache.hpp"
#include "hyp/arch/counter.hpp"
#include "hyp/arch/el2_registers.hpp"
#include "hyp/arch/guest_registers.hpp"
#include "hyp/arch/pcpu.hpp"
#include "hyp/arch/smccc.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/boot/image.hpp"
#include "hyp/early/words.hpp"
#include "hyp/log/log.hpp"
#include "hyp/mem/pages.hpp"
#include "hyp/panic/disassemble.hpp"
#include "hyp/panic/panic.hpp"
#include "stage2/support/make.hpp"

extern "C" {
// selftest_guest.S
[[gnu::visibility("hidden")]] extern const std::byte selftest_guest_start[], selftest_guest_end[];
[[gnu::visibility("hidden")]] extern const std::byte selftest_at_el1[];
}

namespace weir {

namespace {

constexpr std::uint64_t kPattern = 0x5745'4952'5745'4952;
constinit thread_local std::uint64_t initialised = kPattern;  // .tdata
constinit thread_local std::uint64_t cleared = 0;             // .tbss
constinit std::array<std::atomic<const void*>, kMaxPcpus> seen{};
constinit std::atomic<unsigned> wrong{0};

bool check(bool good, const char* what) {
  log("selftest: %s: %s", what, good ? "ok" : "FAILED");
  if (!good) wrong.fetch_add(1);
  return good;
}

bool is_zero(const void* at, std::uint64_t bytes) {
  const auto* words = static_cast<const std::uint64_t*>(at);
  for (std::uint64_t i = 0; i < bytes / sizeof *words; ++i) {
    if (words[i] != 0) return false;
  }
  return true;
}

void test_pages() {
  const std::uint64_t before = free_bytes();
  const auto small = allocate_pages(kPage4K);
  const auto block = allocate_pages(8_MiB, 2_MiB);
  if (!check(small && block && block->aligned(2_MiB), "pages are allocated, aligned")) return;
  check(is_zero(direct(*small), kPage4K) && is_zero(direct(*block), 8_MiB), "they are zeroed");
  *static_cast<std::uint64_t*>(direct(*block)) = kPattern;
  free_pages(*block, 8_MiB);
  const auto again = allocate_pages(8_MiB, 2_MiB);
  check(again && is_zero(direct(*again), 8_MiB), "reused pages are zeroed");
  if (again) free_pages(*again, 8_MiB);
  free_pages(*small, kPage4K);
  check(free_bytes() == before, "all pages are back");
  check(!allocate_pages(std::uint64_t{1} << 47), "more than there is: refused");
  const auto device = allocate_device_page();
  check(device && is_zero(direct(*device), kPage4K), "a device page is zeroed");
  if (device) free_device_page(*device);
}

struct Node {
  std::unique_ptr<Node> next;
  std::array<std::byte, 1000> filler;
};

void test_heap() {
  std::unique_ptr<Node> list;
  unsigned count = 0;
  for (;; ++count) {
    auto node = make<Node>();
    if (!node) break;
    node->next = std::move(list);
    list = std::move(node);
  }
  check(count > 10'000, "the heap is used up, and says nullptr");
  log("selftest: %u objects of %zu bytes", count, sizeof(Node));
  while (list) list = std::move(list->next);
  unsigned again = 0;
  for (; again < count; ++again) {
    auto node = make<Node>();
    if (!node) break;
    node->next = std::move(list);
    list = std::move(node);
  }
  check(again == count, "freed memory comes back");
  while (list) list = std::move(list->next);
  check(make_array<std::uint64_t>(~std::size_t{0} / 8) == nullptr, "an absurd array: nullptr");
}

// The world switch: a guest at EL1, both stages of translation off, that changes every register.
void test_guest() {
  const auto page = allocate_pages(kPage4K);
  if (!check(page.has_value(), "a page for a guest")) return;
  const auto bytes = static_cast<std::size_t>(selftest_guest_end - selftest_guest_start);
  std::memcpy(direct(*page), selftest_guest_start, bytes);
  synchronize_instructions(direct(*page), bytes);
  clean_to_poc(direct(*page), bytes);
  constexpr std::uint64_t kSctlrEl1Off = 0x30d0'0800;  // RES1 bits
  constexpr std::uint64_t kEl1hMasked = 0x3c5;
  WRITE_SYSREG(sctlr_el1, kSctlrEl1Off);
  GuestRegisters guest{};
  guest.pc = page->value;
  guest.pstate = kEl1hMasked;
  constexpr std::uint64_t kRounds = 1000;
  bool good = true;
  for (std::uint64_t round = 1; round <= kRounds && good; ++round) {
    ExitKind kind{};
    run_guest(
        &guest,
        [](void* context, ExitKind why) {
          *static_cast<ExitKind*>(context) = why;
          return GuestNext::leave;
        },
        &kind);
    good = kind == ExitKind::synchronous &&
           READ_SYSREG_AS(EsrEl2, esr_el2).get<EsrEl2::EC>() == ExceptionClass::hvc64 && guest.pstate == kEl1hMasked &&
           guest.pc == page->value + bytes - sizeof(std::uint32_t);
    for (const std::uint64_t x : std::span{guest.x}.first<31>()) good = good && x == round;
  }
  check(good, "1000 calls of a guest, all registers kept");
  free_pages(*page, kPage4K);
}

void test_disassembler() {
  std::array<char, 64> text{};
  disassemble(0xa9bf7bfd, 0, text);  // stp x29, x30, [sp, #-16]!
  log("selftest: a9bf7bfd is '%s'", text.data());
  check(std::string_view{text.data()}.starts_with("stp x29, x30"), "disassembly");
}

[[gnu::noinline]] std::uint64_t recurse(std::uint64_t depth) {  // NOLINT: it must not end
  volatile std::uint64_t local[32] = {};                        // NOLINT: volatile, so that each call has its own
  local[depth % 32] = depth;
  return depth == ~std::uint64_t{0} ? 0 : recurse(depth + 1) + local[(depth + 1) % 32];
}

void undefined() { asm volatile("udf #0"); }

// In the panic path itself: stopping the other pCPUs is a part of it that can be had from outside.
void fault_in_panic(void (*fault)()) {
  set_stop_others(fault);
  undefined();
}

// What has to stay in words for a third exception.
void break_minimal_path() {
  early::early_uart.base = std::uint64_t{1} << 47;  // nothing is mapped there
  undefined();
}

// Sends the second CPU to `entry` with the MMU off, as no good firmware would, and leaves it time for its words.
void start_second_cpu(std::span<const std::uint64_t> cpus, const void* entry, std::uint64_t context) {
  if (cpus.size() < 2) return log("selftest: there is no second CPU");
  const auto started = psci::cpu_on(pcpu(1).mpidr, physical(entry).value, context);
  check(started.has_value(), "PSCI starts the second CPU");
  const std::uint64_t start = counter();
  while (counter() - start < counter_hz()) {
  }
}

void test_second_cpu(std::string_view name) {
  std::array<std::uint64_t, 2> both{this_pcpu().mpidr, this_pcpu().mpidr ^ 1};
  if (!pcpus_init(both)) return;
  if (name == "secondary-el1") start_second_cpu(both, selftest_at_el1, 0);
  if (name == "secondary-fault") start_second_cpu(both, secondary_entry, std::uint64_t{1} << 47);  // no SecondaryStart
}

}  // namespace

void selftest_on_pcpu() {
  const bool good = initialised == kPattern && cleared == 0;
  cleared = this_pcpu().index + 1;
  initialised = ~kPattern;
  auto own = make<std::uint64_t>(kPattern);  // a heap of its own
  if (!good || !own || *own != kPattern) wrong.fetch_add(1);
  seen[this_pcpu().index].store(&cleared, std::memory_order_release);
}

bool selftest_needs_one_cpu(std::string_view name) { return name.starts_with("secondary-"); }

void run_early_selftest(std::string_view name) {
  if (name == "undefined-early") undefined();
}

void run_selftest(std::string_view name) {
  if (name == "core") {
    selftest_on_pcpu();
    bool distinct = true;
    for (unsigned i = 0; i < pcpu_count(); ++i) {
      if (!pcpu(i).online) continue;
      const void* at = nullptr;
      while ((at = seen[i].load(std::memory_order_acquire)) == nullptr) {
      }
      for (unsigned j = 0; j < i; ++j) distinct = distinct && seen[j].load() != at;
      distinct = distinct && *static_cast<const std::uint64_t*>(at) == i + 1;
    }
    check(distinct, "each pCPU has its own thread-locals");
    test_pages();
    test_heap();
    test_disassembler();
    test_guest();
    log("selftest: %u failed", wrong.load());
    machine_exit(wrong.load() == 0 ? 0 : 1);
  }
  if (name == "text-write") {
    auto* text = const_cast<std::byte*>(__text_start);  // NOLINT
    *static_cast<volatile std::byte*>(text) = std::byte{0};
  } else if (name == "stack-overflow") {
    log("selftest: %llu", static_cast<unsigned long long>(recurse(0)));
  } else if (name == "emergency-overflow") {
    fault_in_panic([] { log("selftest: %llu", static_cast<unsigned long long>(recurse(0))); });
  } else if (name == "undefined") {
    undefined();
  } else if (name == "panic-twice") {
    set_stop_others([] { panic("the second one, %d", 2); });
    panic("the first one, %d", 1);
  } else if (name == "fault-in-panic") {
    fault_in_panic(undefined);
  } else if (name == "fault-in-minimal") {
    fault_in_panic(break_minimal_path);
  } else if (name == "no-thread-pointer") {
    WRITE_SYSREG(tpidr_el2, 0);
    undefined();
  } else if (name.starts_with("secondary-")) {
    test_second_cpu(name);
  }
  log("selftest: '%.*s' is unknown or came back", static_cast<int>(name.size()), name.data());
  machine_exit(1);
}

}  // namespace weir
