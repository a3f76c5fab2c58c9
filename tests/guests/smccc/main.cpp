// The SMC Calling Convention (Arm DEN 0028): whatever is called, a call changes the registers of its results and no other.
#include <array>
#include <utility>

#include "guest-abi/hypercall.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/psci.hpp"
#include "tests/guests/bare/report.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "smccc";

extern "C" void call_by_hvc(std::uint64_t* x);
extern "C" void call_by_smc(std::uint64_t* x);

namespace weir::guest {
namespace {

using hypercall::Call;
using hypercall::id;
constexpr unsigned kRegisters = 31;
using Registers = std::array<std::uint64_t, kRegisters + 1>;  // the last: SP's change

constexpr std::uint64_t pattern(unsigned n) { return 0xa5a5'0000'5a5a'0000 + n * 0x0001'0001'0001'0101; }

// A call with these arguments, other registers full of patterns. `results`: how many registers from X0 on hold any.
Registers call(std::uint64_t function, std::initializer_list<std::uint64_t> arguments, unsigned results) {
  Registers hvc{}, smc{};
  for (Registers* x : {&hvc, &smc}) {
    for (unsigned n = 0; n < kRegisters; ++n) (*x)[n] = pattern(n);
    (*x)[0] = function;
    unsigned n = 1;
    for (const std::uint64_t a : arguments) (*x)[n++] = a;
    const Registers before = *x;
    (x == &hvc ? call_by_hvc : call_by_smc)(x->data());
    for (unsigned r = results; r < kRegisters; ++r)
      expect((*x)[r] == before[r], "a call (function, register, value) changes a register", function, r);
    expect_equal((*x)[kRegisters], 0, "SP");
  }
  return hvc;
}
std::int64_t result(const Registers& x) { return static_cast<std::int64_t>(x[0]); }

void check_standard() {
  check("standard");
  const std::uint64_t self = WEIR_READ_SYSREG("mpidr_el1") & 0xff'00ff'ffff;
  const std::uint64_t entry = machine().ram + 0x100'0000;
  call(psci::kVersion, {}, 1);
  call(0x8400'0001, {0, entry, 0}, 1);  // CPU_SUSPEND by SMC32
  call(psci::kCpuSuspend, {0, entry, 0}, 1);
  for (const std::uint32_t cpu_on : {0x8400'0003U, psci::kCpuOn}) {
    call(cpu_on, {self, entry, 1}, 1);
    call(cpu_on, {0x77, entry, 1}, 1);
    call(cpu_on, {1, 0, 1}, 1);
  }
  for (const std::uint32_t info : {0x8400'0004U, psci::kAffinityInfo}) {
    call(info, {self, 0}, 1);
    call(info, {0x77, 0}, 1);
    call(info, {self, 3}, 1);
  }
  call(psci::kMigrateInfoType, {}, 1);
  for (const std::uint32_t f : {psci::kCpuOn, psci::kSystemOff, 0x8400'ffffU}) call(psci::kFeatures, {f}, 1);
  call(0x8000'0000, {}, 1);  // SMCCC_VERSION
  for (const std::uint32_t f :
       {0x8000'0000U, 0x8000'0001U, 0x8000'0002U, 0x8000'8000U, 0x8000'7fffU, 0x8000'3fffU, 0x8000'1234U}) {
    call(0x8000'0001, {f}, 1);  // SMCCC_ARCH_FEATURES
    if (f != 0x8000'0001) call(f, {0}, 1);
  }
}

void check_unknown() {
  check("unknown");
  for (std::uint64_t owner = 0; owner < 64; ++owner) {
    for (const std::uint64_t kind : {0x0000'0000U, 0x4000'0000U, 0x8000'0000U, 0xc000'0000U})
      for (const std::uint64_t number : {0x0777U, 0xff77U})
        expect_equal(static_cast<std::uint64_t>(result(call(kind | owner << 24 | number, {}, 1))), ~std::uint64_t{0},
                     "an unknown function");
  }
  call(~std::uint64_t{0}, {}, 1);
}

void check_weir() {
  check("weir");
  call(hypercall::kCallUid, {}, 4);
  call(hypercall::kRevision, {}, 2);
  const std::uint64_t page = allocate(0x2000);
  const struct {
    Call function;
    std::array<std::uint64_t, 5> good;
  } calls[] = {{Call::features, {}},
               {Call::vm_id, {}},
               {Call::loan_window, {}},
               {Call::relinquish, {page, 1}},
               {Call::reclaim, {page, 1}},
               {Call::share, {page, 1, 0, 0, 0}},
               {Call::lend, {page, 1, 0, 0, 0}},
               {Call::accept, {1, 0x40'0000'0000, 1}},
               {Call::release, {1}},
               {Call::take_back, {1}},
               {Call::dirty_start, {}},
               {Call::dirty_read, {page, 1, page + 0x1000, 0}},
               {Call::dirty_stop, {}}};
  for (const auto& c : calls) {
    const unsigned results = 1 + hypercall::results(c.function);
    const auto& a = c.good;
    for (const std::uint64_t sve : {0U, 0x1'0000U}) {
      call(id(c.function) | sve, {a[0], a[1], a[2], a[3], a[4]}, results);
      call(id(c.function) | sve, {1, 0, ~std::uint64_t{0}, ~std::uint64_t{0}, 7}, results);
      call(id(c.function) | sve, {}, results);
    }
  }
  // What the results are, where they do not depend on the machine.
  const Registers features = call(id(Call::features), {}, 3);
  expect(result(features) == 0 && (features[1] & 1) != 0 && features[2] != 0, "FEATURES", features[1], features[2]);
  const Registers window = call(id(Call::loan_window), {}, 3);
  expect(result(window) == 0 && window[1] != 0 && window[2] != 0, "LOAN_WINDOW", window[1], window[2]);
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  check_standard();
  check_unknown();
  check_weir();
}
