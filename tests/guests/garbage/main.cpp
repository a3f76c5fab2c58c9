// A guest that does everything wrong: garbage of all sizes to every register of every device, accesses to nothing, system
// registers of all encodings, calls of all numbers. What it gets back is its own affair, as long as it is what hardware
// could do: a value, or an exception. Afterwards everything has to work, for it and for everybody else.
//
// bootargs: `seed=N`; `rounds=N`; `verbose`.
#include <array>

#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/gic.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/pci.hpp"
#include "tests/guests/bare/psci.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/bare/smmu.hpp"
#include "tests/guests/bare/testdev.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "garbage";

namespace weir::guest {
namespace {

constinit Random chance{};
constinit std::uint64_t scratch = 0;  // memory that anybody may overwrite
constexpr std::uint64_t kScratch = 0x10'0000;
constinit std::uint64_t code = 0;  // where instructions are made

// Half of garbage is meant to come close: an address, one bit, all ones.
std::uint64_t garbage() {
  const std::uint64_t r = chance.next();
  switch (r >> 61) {
    case 0: return 0;
    case 1: return ~std::uint64_t{0};
    case 2: return std::uint64_t{1} << (r & 63);
    case 3: return scratch + r % kScratch;
    case 4: return r & 0xff;
    default: return r;
  }
}

void store(std::uint64_t at, unsigned log2_size, std::uint64_t v) {
  switch (log2_size) {
    case 0: store8(at, static_cast<std::uint8_t>(v)); break;
    case 1: store16(at, static_cast<std::uint16_t>(v)); break;
    case 2: store32(at, static_cast<std::uint32_t>(v)); break;
    default: store64(at, v); break;
  }
}
void load(std::uint64_t at, unsigned log2_size) {
  switch (log2_size) {
    case 0: (void)load8(at); break;
    case 1: (void)load16(at); break;
    case 2: (void)load32(at); break;
    default: (void)load64(at); break;
  }
}

struct Count {
  unsigned accesses = 0, exceptions = 0;
};

// One load and one store at each multiple of `step`, of a size that changes.
Count spray(std::uint64_t base, std::uint64_t bytes, std::uint64_t step) {
  Count n;
  for (std::uint64_t offset = 0; offset < bytes; offset += step) {
    const std::uint64_t r = chance.next();
    const auto size = static_cast<unsigned>(r & 3);
    std::uint64_t at = base + offset;
    at &= ~((std::uint64_t{1} << size) - 1);
    if ((r >> 2 & 15) == 0) at += r >> 6 & 7;  // not aligned
    const std::uint64_t v = garbage();
    n.exceptions += provoke([&] { load(at, size); }).count + provoke([&] { store(at, size, v); }).count;
    n.accesses += 2;
  }
  return n;
}
void spray(std::string_view name, std::uint64_t base, std::uint64_t bytes, std::uint64_t step) {
  check(name);
  const Count n = spray(base, bytes, step);
  Text<100> text;
  text.put(name).put(": ").dec(n.accesses).put(" accesses, ").dec(n.exceptions).put(" exceptions");
  say(text.view());
}

// --- Instructions made here

using Made = std::uint64_t (*)(std::uint64_t);
// Runs `instruction` with x0 and x1 = `value`; all other registers that a call may change are changed.
Provoked execute(std::uint32_t instruction, std::uint64_t value) {
  constexpr std::uint32_t kRet = 0xd65f'03c0;
  auto* at = reinterpret_cast<volatile std::uint32_t*>(code);
  at[0] = instruction;
  at[1] = kRet;
  asm volatile("dc cvau, %0\n dsb ish\n ic ivau, %0\n dsb ish\n isb" ::"r"(code) : "memory");
  code += 8;  // another address each time: nothing stale, and less work for an emulator
  if (code % 0x1'0000 == 0) code -= 0x1'0000;
  return provoke([&] {
    register std::uint64_t x0 asm("x0") = value;
    asm volatile("mov x1, x0\n blr %1"
                 : "+r"(x0)
                 : "r"(reinterpret_cast<std::uint64_t>(at))
                 : "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
                   "x16", "x17", "x30", "memory", "cc");
  });
}

struct Encoding {
  unsigned op0, op1, crn, crm, op2;
};
constexpr std::uint32_t instruction(bool read, const Encoding& e) {
  return 0xd500'0000 | (read ? 1u << 21 : 0u) | e.op0 << 19 | e.op1 << 16 | e.crn << 12 | e.crm << 8 |
         e.op2 << 5;  // x0
}

// Stores that would take away what this program stands on: the MMU, its vectors, its stack pointer, its interrupt masks.
bool fatal_to_self(const Encoding& e) {
  if (e.op0 == 3 && e.op1 == 0)
    return e.crn == 1 || e.crn == 2 || e.crn == 4 || e.crn == 10 || (e.crn == 12 && e.crm == 0);
  if (e.op0 == 3 && e.op1 == 3) return e.crn == 4;                // DAIF, SVCR
  if (e.op0 == 2 && e.op1 == 0) return e.crn == 0 && e.crm == 2;  // MDSCR_EL1
  return false;
}

void check_system_registers() {
  check("system-registers");
  unsigned count = 0, undefined = 0;
  for (const unsigned op0 : {2u, 3u})
    for (unsigned op1 = 0; op1 < 8; ++op1)
      for (unsigned crn = 0; crn < 16; ++crn) {
        if (op0 == 2 && crn > 7) continue;
        for (unsigned crm = 0; crm < 16; ++crm)
          for (unsigned op2 = 0; op2 < 8; ++op2) {
            const Encoding e{op0, op1, crn, crm, op2};
            const bool icc_iar = op0 == 3 && op1 == 0 && crn == 12 && (crm == 8 || crm == 12) && op2 == 0;
            if (icc_iar) continue;  // takes an interrupt
            undefined += execute(instruction(true, e), 0).count;
            ++count;
            // Most writes of most encodings are the same UNDEF: every fourth.
            if (chance.below(4) != 0 || fatal_to_self(e)) continue;
            undefined += execute(instruction(false, e), garbage()).count;
            ++count;
          }
      }
  WEIR_WRITE_SYSREG("mdscr_el1", 0);
  WEIR_WRITE_SYSREG("S3_3_C14_C3_1", 0);  // CNTV_CTL_EL0
  WEIR_WRITE_SYSREG("S3_3_C14_C2_1", 0);  // CNTP_CTL_EL0
  Text<100> text;
  text.put("system registers: ").dec(count).put(" accesses, ").dec(undefined).put(" exceptions");
  say(text.view());
}

// SYS: cache and TLB maintenance, address translation, and what is no instruction at all.
void check_system_instructions() {
  check("system-instructions");
  for (unsigned op1 = 0; op1 < 8; ++op1)
    for (unsigned crn = 7; crn < 16; ++crn)
      for (unsigned crm = 0; crm < 16; ++crm)
        for (unsigned op2 = 0; op2 < 8; ++op2) {
          if (crn == 9 || crn == 10) continue;
          const Encoding e{1, op1, crn, crm, op2};
          // DC by address: of the scratch memory, or of nothing.
          (void)execute(instruction(false, e), chance.below(2) == 0 ? scratch : std::uint64_t{0x0700'0000});
        }
}

void check_calls() {
  check("calls");
  const auto harmless = [](std::uint32_t f) {
    switch (f & 0xbfff'ffff) {
      case 0x8400'0001:  // CPU_SUSPEND
      case 0x8400'0002:  // CPU_OFF
      case 0x8400'0008:  // SYSTEM_OFF
      case 0x8400'0009:  // SYSTEM_RESET
      case 0x8400'000c:  // CPU_DEFAULT_SUSPEND
      case 0x8400'000e:  // SYSTEM_SUSPEND
      case 0x8400'0012:  // SYSTEM_RESET2
      case 0x8400'0015:  // SYSTEM_OFF2
        return false;
      default: return true;
    }
  };
  const auto both = [&](std::uint32_t f) {
    if (!harmless(f)) return;
    const std::uint64_t high = chance.below(8) == 0 ? chance.next() << 32 : 0;
    const auto a = garbage(), b = garbage(), c = garbage();
    (void)provoke([&] { hvc(f | high, a, b, c); });
    (void)provoke([&] { smc(f | high, a, b, c); });
  };
  for (const std::uint32_t range : {0x8000'0000u, 0x8400'0000u, 0x8600'0000u, 0x8500'0000u, 0u})
    for (const std::uint32_t bits : {0u, 0x4000'0000u})
      for (std::uint32_t n = 0; n < 0x40; ++n) {
        both(range | bits | n);
        both(range | bits | 0xff00 | n);
      }
  for (unsigned i = 0; i < 3000; ++i) both(static_cast<std::uint32_t>(chance.next()));
  for (std::uint32_t immediate = 0; immediate < 0x1'0000; immediate += 0x101) {
    (void)execute(0xd400'0002 | immediate << 5, 0x8000'0000);  // HVC
    (void)execute(0xd400'0003 | immediate << 5, 0x8000'0000);  // SMC
  }
  expect(psci::value(hvc(psci::kVersion)) >= 0x1'0000, "PSCI_VERSION afterwards");
}

void check_nothing() {
  check("nothing-there");
  const Machine& m = machine();
  for (const std::uint64_t base :
       {std::uint64_t{0}, std::uint64_t{0x0700'0000}, m.gicd + 0x2'0000, std::uint64_t{0x0a00'0000},
        std::uint64_t{0x0d00'0000}, m.ram + m.ram_bytes, std::uint64_t{0x7f'ffff'f000}, std::uint64_t{0x10'0000'0000}})
    (void)spray(base, 0x400, 8);
  // Fetching from there: the call comes back by an exception.
  for (const std::uint64_t base :
       {std::uint64_t{0x0700'0000}, m.uart, m.ram + m.ram_bytes, std::uint64_t{0x0c00'0000}}) {
    const Provoked p = provoke([&] { asm volatile("blr %0" ::"r"(base) : "x30", "memory"); });
    expect_equal(p.count, 1, "exceptions of a jump to nothing");
  }
}

void check_uart() {
  check("uart");
  const std::uint64_t uart = machine().uart;
  for (unsigned i = 0; i < 20; ++i) store32(uart, 'a' + i);  // DR: text only, this is the console
  store32(uart, '\r');
  store32(uart, '\n');
  (void)spray(uart + 8, 0x1000 - 16, 4);
  store32(uart + 0x30, 0x301);  // CR: enabled
  store32(uart + 0x38, 0);      // IMSC
}

// --- A vSMMU that is on: commands, stream table entries and context descriptors

smmu::Command bad_command() {
  static constexpr std::array<std::uint8_t, 24> kOpcodes{0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x10,
                                                         0x11, 0x12, 0x13, 0x20, 0x21, 0x22, 0x23, 0x28,
                                                         0x2a, 0x30, 0x40, 0x41, 0x44, 0x45, 0x46, 0x70};
  smmu::Command c;
  c.words = {garbage(), garbage()};
  if (chance.below(4) != 0) {
    // A known opcode, and mostly little else.
    const std::uint64_t keep = chance.below(2) == 0 ? 0 : chance.next() & chance.next() & chance.next();
    c.words[0] = (c.words[0] & keep) | kOpcodes[chance.below(kOpcodes.size())];
    if (chance.below(2) == 0) c.words[1] &= keep;
  } else {
    c.words[0] = (c.words[0] & ~std::uint64_t{0xff}) | chance.below(256);
  }
  return c;
}

// Until the queue is empty, each illegal command replaced as a driver does it. False: it does not go on.
bool settle(Smmu& smmu) {
  for (unsigned errors = 0; errors < 64; ++errors) {
    if (smmu.wait_consumed()) return true;
    smmu::CMDQ_CONS cons;
    cons.words[0] = smmu.read(smmu::Reg::CMDQ_CONS);
    const std::uint32_t active = smmu.read(smmu::Reg::GERROR) ^ smmu.read(smmu::Reg::GERRORN);
    if (active == 0) return false;
    if (cons.get<smmu::CMDQ_CONS::ERR>() != smmu::CmdqError::CERROR_NONE) {
      auto* slot = reinterpret_cast<volatile std::uint64_t*>(smmu.slot(cons.get<smmu::CMDQ_CONS::RD>()));
      slot[0] = smmu::sync_none().words[0];
      slot[1] = 0;
    }
    barrier();
    smmu.write(smmu::Reg::GERRORN, smmu.read(smmu::Reg::GERROR));
    smmu.submit();
  }
  return false;
}

void check_commands() {
  check("commands");
  const Machine& m = machine();
  for (unsigned i = 0; i < m.smmu_count; ++i) {
    Smmu smmu{m.smmus[i].base};
    if (!expect(smmu.init() && smmu.set_enabled(true), "the SMMU does not come up", i)) return;
    for (unsigned n = 0; n < 1000; ++n) {
      for (std::uint64_t k = chance.below(8); k != 0; --k) smmu.push(bad_command());
      smmu.push(smmu::sync_none());
      smmu.submit();
      if (!expect(settle(smmu), "the queue does not go on", i, n)) return;
      (void)smmu.drop_events();
    }
    (void)smmu.set_enabled(false);
  }
}

void check_tables() {
  check("tables");
  const Machine& m = machine();
  unsigned slot = 1, which = 0;
  std::uint32_t sid = 0;
  while (slot < pci::kSlots && pci::identity(slot) != TestDevice::kIdentity) ++slot;
  if (slot == pci::kSlots || !m.find_stream(pci::rid(slot), which, sid)) return;
  store32(pci::config(slot, 0x10), 0x1000'0000);  // BAR 0 is garbage by now
  const TestDevice device{pci::enable(slot)};
  Smmu smmu{m.smmus[which].base};
  if (!expect(smmu.init() && smmu.set_enabled(true), "the SMMU does not come up")) return;
  for (unsigned n = 0; n < 1500; ++n) {
    using smmu::Cd;
    using smmu::Ste;
    Ste ste;
    for (std::uint64_t& word : ste.words) word = chance.below(2) == 0 ? 0 : garbage();
    ste.set<Ste::V>(chance.below(8) != 0);
    const std::uint64_t cd = scratch + (chance.below(kScratch) & ~std::uint64_t{63});
    const bool outside = chance.below(8) == 0;
    ste.set<Ste::S1ContextPtr>(IPA{outside ? m.ram + m.ram_bytes + chance.below(1 << 20) : cd});
    if (chance.below(4) != 0) ste.set<Ste::Config>(smmu::SteConfig::s1);
    if (chance.below(2) == 0) ste.set<Ste::S1CDMax>(0).set<Ste::S1STALLD>(false).set<Ste::EATS>(smmu::Eats::none);
    // A CD is the hardware's to read. QEMU ends itself where IPS is reserved.
    Cd c;
    for (std::uint64_t& word : c.words) word = chance.below(2) == 0 ? 0 : garbage();
    c.set<Cd::IPS>(static_cast<smmu::AddressSize>(chance.below(6)));
    if (chance.below(4) != 0) {
      c.set<Cd::V>(true).set<Cd::AA64>(true).set<Cd::T0SZ>(16 + chance.below(24)).set<Cd::EPD0>(false);
      c.set<Cd::TTB0>(IPA{scratch + (chance.below(kScratch) & ~std::uint64_t{0xfff})}).set<Cd::EPD1>(true);
    }
    for (unsigned w = 0; w < c.words.size(); ++w) store64(cd + 8 * w, c.words[w]);
    smmu.set_ste(sid, ste);
    smmu.push(smmu::cfgi_ste(StreamID{sid}, true));
    if (chance.below(4) == 0) smmu.push(smmu::cfgi_all());
    if (chance.below(4) == 0) smmu.push(smmu::tlbi_nsnh_all());
    smmu.push(smmu::sync_none());
    smmu.submit();
    if (!expect(settle(smmu), "the queue does not go on", n)) return;
    (void)device.dma(scratch + (chance.below(kScratch - 64) & ~std::uint64_t{3}), scratch, 4);
    (void)smmu.drop_events();
  }
  (void)smmu.set_enabled(false);
}

// --- Two CPUs at once

constinit volatile bool stop_second = false;
constinit volatile unsigned second_accesses = 0;

// Aligned 32-bit accesses to the vSMMUs, which never fault.
void second_cpu(std::uint64_t seed) {
  const Machine& m = machine();
  Random random{seed};
  while (!stop_second) {
    const std::uint64_t r = random.next();
    const std::uint64_t base = m.smmus[r % m.smmu_count].base + ((r >> 8 & 7) == 0 ? 0x1'00a0u : 0u);
    const std::uint64_t at = base + (r >> 16 & 0x1fc);
    const std::uint64_t v = (r >> 40 & 3) == 0 ? scratch + (random.next() & (kScratch - 1)) : random.next();
    if ((r >> 12 & 3) == 0) {
      (void)load32(at);
    } else {
      store32(at, static_cast<std::uint32_t>((r >> 42 & 1) == 0 ? v : v & 0xf));
    }
    second_accesses = second_accesses + 1;
  }
  hvc(psci::kCpuOff);
}

void check_two_cpus() {
  const Machine& m = machine();
  if (m.cpus < 2 || m.smmu_count == 0) return;
  check("two-cpus");
  stop_second = false;
  second_accesses = 0;
  if (!expect(start_cpu(1, second_cpu, chance.next() | 1) == psci::kSuccess, "CPU_ON")) return;
  const std::uint64_t until = now_us() + 2'000'000;
  while (second_accesses == 0 && now_us() < until) {
  }
  for (unsigned n = 0; n < 20; ++n)
    for (unsigned i = 0; i < m.smmu_count; ++i) {
      (void)spray(m.smmus[i].base, 0x200, 4);
      (void)spray(m.smmus[i].base + 0x1'00a0, 0x40, 4);
    }
  stop_second = true;
  while (psci::value(hvc(psci::kAffinityInfo, 1, 0)) != 1 && now_us() < until + 5'000'000) {
  }
  expect(second_accesses != 0, "the second CPU did nothing");
}

void check_afterwards() {
  check("afterwards");
  const Machine& m = machine();
  for (unsigned i = 0; i < m.smmu_count; ++i) {
    Smmu smmu{m.smmus[i].base};
    smmu.write(smmu::Reg::IRQ_CTRL, 0);
    if (!expect(smmu.init(), "the SMMU does not come up", i)) continue;
    for (unsigned n = 0; n < 300; ++n)
      if (!expect(smmu.sync(smmu::tlbi_nsnh_all()), "TLBI and SYNC", i, n)) break;
    expect(smmu.set_enabled(true) && smmu.set_enabled(false), "SMMUEN", i);
    expect(smmu.set_gbpa_abort(false), "GBPA", i);
  }
  // The interrupt controller: everything off, then one SGI.
  for (unsigned i = 1; i < 32; ++i) store32(m.gicd + 0x180 + 4 * i, ~std::uint32_t{0});
  store32(m.gicr + 0x1'0180, ~std::uint32_t{0});
  for (const std::uint64_t at : {m.gicr + 0x1'0280, m.gicr + 0x1'0380}) store32(at, ~std::uint32_t{0});
  WEIR_WRITE_SYSREG("S3_0_C12_C9_0", 0);  // ICC_AP1R0_EL1: no active priorities
  WEIR_WRITE_SYSREG("S3_0_C12_C8_4", 0);  // ICC_AP0R0_EL1
  gic::init();
  constexpr unsigned kSgi = 3;
  gic::enable(kSgi);
  const unsigned before = interrupts(kSgi);
  unmask_interrupts();
  gic::send_sgi(kSgi);
  const std::uint64_t until = now_us() + 1'000'000;
  while (interrupts(kSgi) == before && now_us() < until) {
  }
  mask_interrupts();
  expect(interrupts(kSgi) != before, "no SGI arrives");
  gic::disable(kSgi);
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  const Machine& m = machine();
  chance.state ^= m.option("seed", 1) * 0x1000'0001;
  scratch = allocate(kScratch);
  code = allocate(0x1'0000, 0x1'0000);
  for (std::uint64_t at = scratch; at < scratch + kScratch; at += 8) store64(at, garbage());
  const bool bare = m.has_option("bare");
  const std::uint64_t rounds = m.option("rounds", 1);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    for (unsigned i = 0; i < m.smmu_count; ++i) {
      constexpr std::uint64_t kPage = 0x1000, kPage1 = 0x1'0000, kWindow = 0x2'0000;
      for (unsigned n = 0; n < 4; ++n) {
        spray("vsmmu page 0", m.smmus[i].base, 0x200, 4);
        spray("vsmmu page 1", m.smmus[i].base + kPage1, 0x200, 4);
      }
      spray("vsmmu page 0", m.smmus[i].base, kPage, 4);
      spray("vsmmu page 1", m.smmus[i].base + kPage1, kPage, 4);
      spray("vsmmu window", m.smmus[i].base, kWindow, 28);
    }
    spray("gicd", m.gicd, 0x1'0000, 4);
    spray("gicr", m.gicr, 0x2'0000, 4);
    if (m.ecam != 0) {
      for (unsigned slot = 0; slot < pci::kSlots; ++slot) {
        const bool there = pci::identity(slot) != ~std::uint32_t{0};
        check("ecam");
        (void)spray(pci::config(slot), 0x1000, there ? 4 : 0x44);
      }
      spray("ecam", m.ecam, m.ecam_bytes, m.ecam_bytes / 0x1000 + 4);
    }
    check_uart();
    if (!bare) check_nothing();
    check_system_registers();
    check_system_instructions();
    check_calls();
    check_afterwards();
    check_commands();
    if (!bare) check_tables();  // QEMU ends itself at a garbage stage 2
    check_two_cpus();
    check_afterwards();
  }
}
