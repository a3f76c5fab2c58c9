// Registers that no hypervisor may touch: patterns in all FP, SIMD, SVE and SME registers, in thread pointers and keys,
// while the guest leaves to the hypervisor a million times and comes back.
//
// bootargs: `exits=N` in all; `verbose`.
#include <algorithm>
#include <array>

#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/gic.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/psci.hpp"
#include "tests/guests/bare/report.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "vectors";

extern "C" {
void load_v(const void*);
void save_v(void*);
std::uint64_t vector_bytes();
std::uint64_t streaming_bytes();
void load_z(const void*);
void save_z(void*);
void load_p(const void*);
void save_p(void*);
void load_ffr(const void*);
void save_ffr(void*);
void load_za(const void*, std::uint64_t rows);
void save_za(void*, std::uint64_t rows);
void load_zt(const void*);
void save_zt(void*);
void za_on();
void za_off();
void streaming_on();
void streaming_off();
}

namespace weir::guest {
namespace {

constexpr unsigned kSgi = 5;

// ID registers say what there is.
std::uint64_t field(std::uint64_t reg, unsigned shift) { return reg >> shift & 0xf; }
bool has_sve() { return field(WEIR_READ_SYSREG("S3_0_C0_C4_0"), 32) != 0; }        // ID_AA64PFR0_EL1.SVE
std::uint64_t sme() { return field(WEIR_READ_SYSREG("S3_0_C0_C4_1"), 24); }        // ID_AA64PFR1_EL1.SME
bool has_full_sme() { return (WEIR_READ_SYSREG("S3_0_C0_C4_5") >> 63 & 1) != 0; }  // ID_AA64SMFR0_EL1.FA64
bool has_pauth() {
  const std::uint64_t isar1 = WEIR_READ_SYSREG("S3_0_C0_C6_1"), isar2 = WEIR_READ_SYSREG("S3_0_C0_C6_2");
  return (isar1 >> 4 & 0xff) != 0 || (isar2 >> 12 & 0xf) != 0;
}

// A pattern in memory, and room for what the registers have become.
struct Area {
  std::uint64_t before = 0, after = 0, bytes = 0;

  Area() = default;
  Area(std::uint64_t n, std::uint64_t seed) : before{allocate(n)}, after{allocate(n)}, bytes{n} {
    Random random{seed};
    for (std::uint64_t at = before; at < before + n; at += 8) *reinterpret_cast<std::uint64_t*>(at) = random.next();
  }
  [[nodiscard]] const void* in() const { return reinterpret_cast<const void*>(before); }
  [[nodiscard]] void* out() const { return reinterpret_cast<void*>(after); }
  // The first `limit` bytes: FFR has two where vectors are of 128 bits.
  void compare(std::string_view what, std::uint64_t limit = ~std::uint64_t{0}) const {
    const std::uint64_t end = std::min(bytes, limit);
    for (std::uint64_t i = 0; i < end; i += 8) {
      const auto a = *reinterpret_cast<const std::uint64_t*>(before + i),
                 b = *reinterpret_cast<const std::uint64_t*>(after + i);
      const std::uint64_t valid = end - i >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (end - i) * 8) - 1;
      if (((a ^ b) & valid) == 0) continue;
      expect(false, what, i, b);
      return;
    }
  }
};

// One exit each, or about that; of every kind.
void leave(std::uint64_t times) {
  const Machine& m = machine();
  constexpr std::uint64_t kPriority = 0x400 + 64, kGerrorn = 0x64;
  for (std::uint64_t i = 0; i < times; ++i) {
    switch (i & 7) {
      case 0:
      case 1:
      case 2:
      case 3: hvc(psci::kVersion); break;
      case 4: store32(m.gicd + kPriority, static_cast<std::uint32_t>(i)); break;
      case 5: (void)load32(m.uart + 0x18); break;
      case 6:
        if (m.smmu_count != 0) {
          store32(m.smmus[0].base + kGerrorn, 0);
        } else {
          (void)load32(m.gicd);
        }
        break;
      default: gic::send_sgi(kSgi); break;
    }
    if (i % 100'000 == 99'999) say("100000 exits more");
  }
}

// --- Registers that are just a number

struct Number {
  std::string_view name;
  std::uint64_t (*get)();
  void (*set)(std::uint64_t);
  std::uint64_t mask = ~std::uint64_t{0};
};
#define NUMBER(label, reg) \
  {label, [] { return WEIR_READ_SYSREG(reg); }, [](std::uint64_t v) { WEIR_WRITE_SYSREG(reg, v); }}
constexpr std::array kNumbers{
    Number NUMBER("TPIDR_EL0", "tpidr_el0"),
    Number NUMBER("TPIDRRO_EL0", "tpidrro_el0"),
    Number NUMBER("TPIDR_EL1", "tpidr_el1"),
    Number NUMBER("SP_EL0", "sp_el0"),
    Number NUMBER("PAR_EL1", "par_el1"),
    Number NUMBER("FAR_EL1", "far_el1"),
    Number NUMBER("CONTEXTIDR_EL1", "contextidr_el1"),
};
constexpr std::array kKeys{
    Number NUMBER("APIAKeyLo", "S3_0_C2_C1_0"), Number NUMBER("APIAKeyHi", "S3_0_C2_C1_1"),
    Number NUMBER("APIBKeyLo", "S3_0_C2_C1_2"), Number NUMBER("APIBKeyHi", "S3_0_C2_C1_3"),
    Number NUMBER("APDAKeyLo", "S3_0_C2_C2_0"), Number NUMBER("APDAKeyHi", "S3_0_C2_C2_1"),
    Number NUMBER("APDBKeyLo", "S3_0_C2_C2_2"), Number NUMBER("APDBKeyHi", "S3_0_C2_C2_3"),
    Number NUMBER("APGAKeyLo", "S3_0_C2_C3_0"), Number NUMBER("APGAKeyHi", "S3_0_C2_C3_1"),
};
constexpr Number kTpidr2 NUMBER("TPIDR2_EL0", "S3_3_C13_C0_5");

// What reads back after writing a pattern: registers have reserved bits.
template <std::size_t N>
struct Numbers {
  const std::array<Number, N>& of;
  std::array<std::uint64_t, N> values{};
  void set(Random& random) {
    for (std::size_t i = 0; i < N; ++i) {
      of[i].set(random.next() & 0xffff'fffe);
      isb();
      values[i] = of[i].get();
    }
  }
  void compare() const {
    for (std::size_t i = 0; i < N; ++i) expect_equal(of[i].get(), values[i], of[i].name);
  }
};

constexpr std::uint64_t kFpcr = 0x0740'0000, kFpsr = 0x0800'009f;  // FZ, RMode, DN-like bits; QC and the flags

void set_fp_control() {
  WEIR_WRITE_SYSREG("S3_3_C4_C4_0", kFpcr);
  WEIR_WRITE_SYSREG("S3_3_C4_C4_1", kFpsr);
}
void compare_fp_control(std::uint64_t fpcr, std::uint64_t fpsr) {
  expect_equal(WEIR_READ_SYSREG("S3_3_C4_C4_0"), fpcr, "FPCR");
  expect_equal(WEIR_READ_SYSREG("S3_3_C4_C4_1"), fpsr, "FPSR");
}

void run(std::uint64_t exits) {
  Random random{};
  const bool sve = has_sve();
  const std::uint64_t sme_version = sme();
  const bool pauth = has_pauth();
  if (sve) {
    WEIR_WRITE_SYSREG("cpacr_el1", sme_version != 0 ? 0x333'0000u : 0x33'0000u);  // FPEN, ZEN, SMEN
    isb();
    WEIR_WRITE_SYSREG("S3_0_C1_C2_0", 0xf);  // ZCR_EL1.LEN: the largest
  }
  if (sme_version != 0) {
    std::uint64_t smcr = 0xf;  // SMCR_EL1.LEN
    if (has_full_sme()) smcr |= std::uint64_t{1} << 31;
    if (sme_version >= 2) smcr |= std::uint64_t{1} << 30;  // EZT0
    WEIR_WRITE_SYSREG("S3_0_C1_C2_6", smcr);
  }
  isb();
  const std::uint64_t vl = sve ? vector_bytes() : 16;
  const std::uint64_t svl = sme_version != 0 ? streaming_bytes() : 0;
  Text<120> text;
  text.put("SVE ").dec(sve ? vl * 8 : 0).put(" bits, SME ").dec(svl * 8).put(" bits, PAuth ").dec(pauth ? 1 : 0);
  say(text.view());

  gic::init();
  gic::enable(kSgi);
  Numbers numbers{kNumbers};
  Numbers keys{kKeys};
  const std::uint64_t tpidr2 = random.next();
  // PAC stays off in SCTLR_EL1: the keys are just numbers here.
  numbers.set(random);
  if (pauth) keys.set(random);
  if (sme_version != 0) kTpidr2.set(tpidr2);

  check("v-registers");
  const Area v{512, 1};
  set_fp_control();
  const std::uint64_t fpcr = WEIR_READ_SYSREG("S3_3_C4_C4_0"), fpsr = WEIR_READ_SYSREG("S3_3_C4_C4_1");
  load_v(v.in());
  leave(exits / 10);
  save_v(v.out());
  v.compare("V registers");
  compare_fp_control(fpcr, fpsr);

  check("sve-and-za");
  Area z, p, ffr, za, zt;
  if (sve) {
    z = Area{32 * vl, 2};
    p = Area{16 * vl / 8, 3};
    ffr = Area{64, 4};
    for (unsigned i = 0; i < 8; ++i)  // a legal FFR: ones from the bottom
      *reinterpret_cast<std::uint64_t*>(ffr.before + 8 * i) = i < 2 ? ~std::uint64_t{0} : 0;
  }
  if (svl != 0) {
    za = Area{svl * svl, 5};
    zt = Area{64, 6};
    za_on();
    load_za(za.in(), svl);
    if (sme_version >= 2) load_zt(zt.in());
  }
  if (sve) {
    load_ffr(ffr.in());
    load_z(z.in());
    load_p(p.in());
  } else {
    load_v(v.in());
  }
  set_fp_control();
  unmask_interrupts();
  leave(exits - exits / 10 - exits / 10);
  mask_interrupts();
  if (sve) {
    save_z(z.out());
    save_p(p.out());
    save_ffr(ffr.out());
    z.compare("Z registers");
    p.compare("P registers");
    ffr.compare("FFR", vl / 8);
  } else {
    save_v(v.out());
    v.compare("V registers");
  }
  compare_fp_control(fpcr, fpsr);
  if (svl != 0) {
    save_za(za.out(), svl);
    za.compare("ZA");
    if (sme_version >= 2) {
      save_zt(zt.out());
      zt.compare("ZT0");
    }
    check("streaming");
    const Area sz{32 * svl, 7}, sp{16 * svl / 8, 8};
    streaming_on();
    load_z(sz.in());
    load_p(sp.in());
    leave(exits / 10);
    save_z(sz.out());
    save_p(sp.out());
    streaming_off();
    sz.compare("streaming Z registers");
    sp.compare("streaming P registers");
    save_za(za.out(), svl);
    za.compare("ZA");
    za_off();
  } else {
    leave(exits / 10);
  }

  check("numbers");
  numbers.compare();
  if (pauth) keys.compare();
  if (sme_version != 0) expect_equal(kTpidr2.get(), tpidr2, kTpidr2.name);
  expect(interrupts(kSgi) != 0, "no SGI arrived");
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  run(machine().option("exits", 1'000'000));
}
