#include "hyp/arch/smccc.hpp"

namespace weir {

SmcccResult smc(std::uint64_t function, std::uint64_t a1, std::uint64_t a2, std::uint64_t a3) {
  register std::uint64_t x0 asm("x0") = function;
  register std::uint64_t x1 asm("x1") = a1;
  register std::uint64_t x2 asm("x2") = a2;
  register std::uint64_t x3 asm("x3") = a3;
  asm volatile("smc #0"
               : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)
               :
               : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "memory",
                 "cc");
  return {x0, x1, x2, x3};
}

namespace psci {

namespace {

enum class Function : std::uint32_t {  // DEN 0022, 5.1; SMC64 where addresses are passed
  version = 0x8400'0000,
  system_off = 0x8400'0008,
  system_reset = 0x8400'0009,
  cpu_on = 0xc400'0003,
};

std::uint64_t call(Function function, std::uint64_t a1 = 0, std::uint64_t a2 = 0, std::uint64_t a3 = 0) {
  return smc(static_cast<std::uint32_t>(function), a1, a2, a3).x0;
}

}  // namespace

const char* to_string(Error error) {
  switch (error) {
    case Error::not_supported: return "not supported";
    case Error::invalid_parameters: return "invalid parameters";
    case Error::denied: return "denied";
    case Error::already_on: return "already on";
    case Error::on_pending: return "on pending";
    case Error::internal_failure: return "internal failure";
    case Error::not_present: return "not present";
    case Error::disabled: return "disabled";
    case Error::invalid_address: return "invalid address";
  }
  return "unknown PSCI error";
}

std::uint32_t version() { return static_cast<std::uint32_t>(call(Function::version)); }

std::expected<void, Error> cpu_on(std::uint64_t mpidr, std::uint64_t entry_pa, std::uint64_t context) {
  const auto status = static_cast<std::int32_t>(call(Function::cpu_on, mpidr, entry_pa, context));
  if (status != 0) return std::unexpected{static_cast<Error>(status)};
  return {};
}

void system_off() { call(Function::system_off); }
void system_reset() { call(Function::system_reset); }

}  // namespace psci
}  // namespace weir
