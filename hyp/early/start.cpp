// From head.S, with the MMU off: finds where words can go, and stops with some if Weir cannot run here.

#include "hyp/early/start.hpp"

#include <cstddef>

#include "hyp/arch/sysreg.hpp"
#include "hyp/early/devicetree.hpp"
#include "hyp/early/words.hpp"

// head.S: a read that an external abort ends with all bits set.
extern "C" [[gnu::visibility("hidden")]] std::uint32_t early_probe(std::uint64_t at);

namespace weir::early {
namespace {

[[noreturn]] void stop(const char* why) {  // the line has been begun
  say(why);
  say(": stopped\n");
  for (;;) asm volatile("wfi");
}

// The last eight registers of a PL011's page tell what it is.
bool is_pl011(std::uint64_t base) {
  constexpr std::uint64_t kPartNumber = 0xfe0, kComponent = 0xff0;
  const auto byte = [&](std::uint64_t offset) { return early_probe(base + offset) & 0xff; };
  return byte(kPartNumber) == 0x11 && (byte(kPartNumber + 4) & 0xf) == 0 && byte(kComponent) == 0x0d &&
         byte(kComponent + 4) == 0xf0 && byte(kComponent + 8) == 0x05 && byte(kComponent + 12) == 0xb1;
}

// Without a devicetree there is nothing that Weir could do but say so, wherever a PL011 may be: nothing is lost by a look.
Uart guess() {
  constexpr std::uint64_t kQemuVirt = 0x0900'0000, kFvp = 0x1c09'0000, kJuno = 0x7ff8'0000;
  for (unsigned i = 0; i < 3; ++i) {
    const std::uint64_t base = i == 0 ? kQemuVirt : i == 1 ? kFvp : kJuno;
    if (is_pl011(base)) return {.base = base, .kind = UartKind::pl011, .shift = 0, .width = 4};
  }
  return {};
}

// A blob that is not there may be anything, and its first words a fault.
bool is_devicetree(const std::byte* dtb) {
  const auto at = reinterpret_cast<std::uint64_t>(dtb);
  if (at == 0 || at % 8 != 0) return false;
  constexpr std::uint32_t kMagicAsRead = 0xedfe0dd0;
  return early_probe(at) == kMagicAsRead && devicetree_bytes(dtb) != 0;
}

bool find(const std::byte* dtb) {
  if (!is_devicetree(dtb)) {
    early_uart = guess();
    return false;
  }
  early_uart = find_uart(dtb).uart;
  if (early_uart.kind == UartKind::none) early_uart = guess();
  return true;
}

// Before it says why it stops. `secondary`: the UART is known, and `dtb` means nothing.
void find_for(const std::byte* dtb, bool secondary, std::uint64_t mpidr) {
  if (!secondary) (void)find(dtb);
  say("weir: ");
  if (!secondary) return;
  say("the CPU with MPIDR ");
  say_hex(mpidr);
  say(" is not used: ");
}

}  // namespace

extern "C" void early_start(const std::byte* dtb) {
  if (!find(dtb)) {
    say("weir: x0 = ");
    say_hex(reinterpret_cast<std::uint64_t>(dtb));
    stop(
        " is no devicetree (8-byte aligned, at most 2 MiB); expected one, as the boot protocol of an arm64 Linux has "
        "it");
  }
  const Lack lack = lack_of(READ_SYSREG_AS(IdAa64Mmfr0, id_aa64mmfr0_el1));
  if (lack == Lack::nothing) return;
  say("weir: ");
  switch (lack) {
    case Lack::granule: stop("this CPU has no 4 KiB granule (ID_AA64MMFR0_EL1.TGran4)");
    case Lack::stage2_granule: stop("this CPU has no 4 KiB granule at stage 2 (ID_AA64MMFR0_EL1.TGran4_2)");
    case Lack::nothing: break;
  }
}

extern "C" [[noreturn]] void early_wrong_level(const std::byte* dtb, bool secondary, std::uint64_t el) {
  find_for(dtb, secondary, READ_SYSREG(mpidr_el1));
  switch (el) {
    case 1: stop("entered at EL1; expected EL2 (is virtualization off, or another hypervisor running?)");
    case 3: stop("entered at EL3; expected EL2, with firmware at EL3");
    default: stop("entered at an unknown exception level; expected EL2");
  }
}

extern "C" [[noreturn]] void early_only_vhe(const std::byte* dtb, bool secondary) {
  find_for(dtb, secondary, READ_SYSREG(mpidr_el1));
  stop("HCR_EL2.E2H of this CPU cannot be cleared; expected EL2 without the Virtualization Host Extensions");
}

extern "C" [[noreturn]] void early_unpatched() {
  say("weir: ");
  stop("this CPU lacks FEAT_LSE, and the image has more instructions that need it than it has room to replace");
}

// Before an exception is reported that happened while the UART was being looked for.
extern "C" void early_guess() {
  if (early_uart.kind == UartKind::none) early_uart = guess();
}

}  // namespace weir::early
