#include "hyp/patch/patch.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <regex>
#include <vector>

#include "hyp/patch/a64.hpp"
#include "hyp/patch/atomic.hpp"
#include "hyp/patch/stub.hpp"
#include "tests/unit/patch/interpreter.hpp"

namespace weir::patch {
namespace {

constexpr std::uint32_t kNop = 0xd503201f;
constexpr std::uint64_t kIsar0Lse = 2ULL << 20, kIsar0None = 0;
constexpr std::uint64_t kMidrA72 = 0x410fd080, kMidrA77r1p0 = 0x411fd0d0, kMidrA77r1p1 = 0x411fd0d1,
                        kMidrA55 = 0x412fd050;

constexpr AtomicKind kKinds[] = {AtomicKind::add,  AtomicKind::clr,     AtomicKind::eor,         AtomicKind::set,
                                 AtomicKind::smax, AtomicKind::smin,    AtomicKind::umax,        AtomicKind::umin,
                                 AtomicKind::swap, AtomicKind::compare, AtomicKind::compare_pair};
constexpr AtomicSize kSizes[] = {AtomicSize::byte, AtomicSize::half, AtomicSize::word, AtomicSize::dword};

unsigned bytes(AtomicSize size) { return 1U << static_cast<unsigned>(size); }
std::uint64_t low(AtomicSize size, std::uint64_t value) {
  return size == AtomicSize::dword ? value : value & ((std::uint64_t{1} << 8 * bytes(size)) - 1);
}
std::int64_t as_signed(AtomicSize size, std::uint64_t value) {
  const unsigned rest = 64 - 8 * bytes(size);
  return static_cast<std::int64_t>(value << rest) >> rest;
}

// Every form that exists: kinds, sizes, orderings.
std::vector<Atomic> every_form() {
  std::vector<Atomic> forms;
  for (const AtomicKind kind : kKinds)
    for (const AtomicSize size : kSizes)
      for (const unsigned order : {0U, 1U, 2U, 3U}) {
        if (kind == AtomicKind::compare_pair && size < AtomicSize::word) continue;
        forms.push_back({.kind = kind, .size = size, .acquire = (order & 1) != 0, .release = (order & 2) != 0});
      }
  return forms;
}

// What the instruction does to a value in memory (DDI 0487, C6.2), without CASP.
std::uint64_t applied(const Atomic& a, std::uint64_t old, std::uint64_t rs, std::uint64_t rt) {
  rs = low(a.size, rs);
  switch (a.kind) {
    case AtomicKind::add: return low(a.size, old + rs);
    case AtomicKind::clr: return old & ~rs;
    case AtomicKind::eor: return old ^ rs;
    case AtomicKind::set: return old | rs;
    case AtomicKind::smax: return as_signed(a.size, old) > as_signed(a.size, rs) ? old : rs;
    case AtomicKind::smin: return as_signed(a.size, old) > as_signed(a.size, rs) ? rs : old;
    case AtomicKind::umax: return std::max(old, rs);
    case AtomicKind::umin: return std::min(old, rs);
    case AtomicKind::swap: return rs;
    default: return old == rs ? low(a.size, rt) : old;
  }
}

// One atomic in a text of its own, patched and executed.
struct OneAtomic {
  static constexpr std::size_t kSite = 2, kStubs = 64;

  explicit OneAtomic(const Atomic& a, std::mt19937_64& random) : atomic{a}, program(kStubs + kMaxStubWords, kNop) {
    program[kSite] = encode_atomic(a);
    const std::uint32_t sites[] = {kSite * 4};
    const auto done =
        apply({.start = program.data(), .text_words = 8, .stubs = &program[kStubs], .stub_words = kMaxStubWords}, sites,
              {.atomics = true});
    EXPECT_TRUE(done && done->atomics == 1);
    for (auto& r : cpu.x) r = random();
    for (auto& byte : cpu.memory) byte = static_cast<std::uint8_t>(random());
    cpu.flags = random() & 0xf000'0000;
    cpu.x[Interpreter::kSp] = Interpreter::kMemory + 2048;
    address = a.rn == 31 ? cpu.x[31] : Interpreter::kMemory + 3072;
    cpu.x[a.rn] = address;
  }
  [[nodiscard]] std::uint64_t value(unsigned number) const { return number == 31 ? 0 : before[number]; }

  Atomic atomic;
  std::vector<std::uint32_t> program;
  Interpreter cpu;
  std::uint64_t address = 0;
  std::array<std::uint64_t, 32> before{};
};

// Registers, flags and memory afterwards; `run.cpu.loaded` is what the successful round found.
void expect_done(OneAtomic& run, const std::vector<std::uint8_t>& memory_before, std::uint64_t flags) {
  const Atomic& a = run.atomic;
  const unsigned n = bytes(a.size);
  auto registers = run.before;
  const auto set = [&](unsigned number, std::uint64_t value) {
    if (number != 31) registers[number] = value;
  };
  auto memory = memory_before;
  const auto store = [&](unsigned offset, std::uint64_t value) {
    std::memcpy(&memory[run.address - Interpreter::kMemory + offset], &value, n);
  };
  const auto [old, old2] = run.cpu.loaded;
  if (a.kind == AtomicKind::compare_pair) {
    const bool equal = old == low(a.size, run.value(a.rs)) && old2 == low(a.size, run.value(a.rs + 1U));
    store(0, equal ? run.value(a.rt) : old);
    store(n, equal ? run.value(a.rt + 1U) : old2);
    set(a.rs, old);
    set(a.rs + 1U, old2);
  } else {
    store(0, applied(a, old, run.value(a.rs), run.value(a.rt)));
    set(a.kind == AtomicKind::compare ? a.rs : a.rt, old);
  }
  EXPECT_EQ(run.cpu.x, registers);
  EXPECT_EQ(run.cpu.flags, flags);
  const std::size_t sp = run.before[31] - Interpreter::kMemory;  // below it is nothing that counts
  EXPECT_TRUE(
      std::equal(memory.begin() + static_cast<long>(sp), memory.end(), run.cpu.memory.begin() + static_cast<long>(sp)));
}

std::uint8_t any_register(std::mt19937_64& random, bool even) {
  const auto r = static_cast<std::uint8_t>(random() % 32);
  return even ? static_cast<std::uint8_t>(r & 30) : r;
}

// `equal`: a comparison finds what it compares with. `losses`: stores that fail, each after memory has changed.
void execute(const Atomic& a, std::mt19937_64& random, bool equal, unsigned losses) {
  OneAtomic run{a, random};
  const unsigned n = bytes(a.size);
  const bool pair = a.kind == AtomicKind::compare_pair;
  run.before = run.cpu.x;
  const auto make_equal = [&, equal] {
    if (!equal) return;
    run.cpu.write(run.address, n, run.value(a.rs));
    if (pair) run.cpu.write(run.address + n, n, run.value(a.rs + 1U));
  };
  make_equal();
  auto memory = run.cpu.memory;
  const std::uint64_t flags = run.cpu.flags;
  run.cpu.lose = [&](Interpreter& cpu) {
    if (losses == 0) return false;
    --losses;
    for (unsigned i = 0; i < 2 * n; ++i) cpu.write(run.address + i, 1, random());
    if (losses % 2 == 0) make_equal();
    memory = cpu.memory;
    return true;
  };
  EXPECT_EQ(run.cpu.run(run.program, OneAtomic::kSite, OneAtomic::kSite + 1), "");
  expect_done(run, memory, flags);
}

TEST(Stub, DoesWhatItsAtomicDoes) {
  std::mt19937_64 random{1};
  for (Atomic a : every_form()) {
    const bool pair = a.kind == AtomicKind::compare_pair;
    for (unsigned round = 0; round < 24; ++round) {
      a.rs = any_register(random, pair);
      a.rt = any_register(random, pair);
      a.rn = round % 4 == 0 ? 31 : any_register(random, false);
      // Overlaps of which chance makes few.
      if (round % 8 == 1) a.rt = a.rs;
      if (round % 8 == 2 && !pair) a.rs = a.rn;
      if (round % 8 == 3 && !pair) a.rt = a.rn;
      SCOPED_TRACE(testing::Message() << std::hex << encode_atomic(a));
      execute(a, random, round % 2 == 0, round % 3);
      if (HasFailure()) return;
    }
  }
}

TEST(Stub, TakesScratchRegistersThatTheAtomicDoesNotName) {
  std::mt19937_64 random{2};
  for (std::uint8_t low_registers = 0; low_registers < 8; ++low_registers)
    for (const AtomicKind kind : kKinds) {
      const auto r = static_cast<std::uint8_t>(low_registers & 6);
      execute({.kind = kind, .size = AtomicSize::dword, .rs = r, .rt = static_cast<std::uint8_t>(r ^ 2), .rn = 31},
              random, true, 1);
      execute({.kind = kind, .size = AtomicSize::word, .rs = 30, .rt = r, .rn = 5}, random, true, 2);
    }
}

TEST(Stub, SavesItsRegistersOutsideOfTheLoopOnly) {
  std::mt19937_64 random{3};
  for (Atomic a : every_form()) {
    a.rs = 2, a.rt = 4, a.rn = 6;
    OneAtomic run{a, random};
    EXPECT_EQ(run.cpu.run(run.program, OneAtomic::kSite, OneAtomic::kSite + 1), "");
    const auto load =
        std::ranges::find_if(run.cpu.trace, [](const std::string& m) { return m.starts_with("ld") && m != "ldp"; });
    EXPECT_EQ(std::ranges::find(load, run.cpu.trace.end(), "stp"), run.cpu.trace.end());
  }
}

TEST(Stub, KeepsTheOrdering) {
  std::mt19937_64 random{4};
  for (Atomic a : every_form()) {
    a.rs = 2, a.rt = 4, a.rn = 6;
    OneAtomic run{a, random};
    run.before = run.cpu.x;
    run.cpu.write(run.address, bytes(a.size), run.value(2));
    run.cpu.write(run.address + bytes(a.size), bytes(a.size), run.value(3));
    EXPECT_EQ(run.cpu.run(run.program, OneAtomic::kSite, OneAtomic::kSite + 1), "");
    const auto has = [&](std::string_view start) {
      return std::ranges::any_of(run.cpu.trace, [&](const std::string& m) { return m.starts_with(start); });
    };
    EXPECT_EQ(has("ldax"), a.acquire) << std::hex << encode_atomic(a);
    EXPECT_EQ(has("ldx"), !a.acquire);
    EXPECT_EQ(has("stlx"), a.release);
    EXPECT_EQ(has("stx"), !a.release);
    EXPECT_EQ(has("dmb ish"), a.acquire && a.release);
  }
}

// The two halves that were read are one value only if a store exclusive says so.
TEST(Stub, APairThatDiffersIsWrittenBack) {
  std::mt19937_64 random{7};
  for (const AtomicSize size : {AtomicSize::word, AtomicSize::dword}) {
    OneAtomic run{{.kind = AtomicKind::compare_pair, .size = size, .rs = 2, .rt = 4, .rn = 6}, random};
    unsigned stores = 0;
    run.cpu.lose = [&](Interpreter& cpu) {
      for (unsigned i = 0; i < 16; ++i) cpu.write(run.address + i, 1, random());
      return ++stores < 3;
    };
    EXPECT_EQ(run.cpu.run(run.program, OneAtomic::kSite, OneAtomic::kSite + 1), "");
    EXPECT_EQ(stores, 3U);
    EXPECT_EQ(run.cpu.x[2], run.cpu.loaded[0]);
    EXPECT_EQ(run.cpu.x[3], run.cpu.loaded[1]);
    EXPECT_EQ(run.cpu.read(run.address, bytes(size)), run.cpu.loaded[0]);
    EXPECT_EQ(run.cpu.read(run.address + bytes(size), bytes(size)), run.cpu.loaded[1]);
  }
}

TEST(Stub, NoneIsLongerThanTheRoomForIt) {
  std::size_t longest = 0;
  for (Atomic a : every_form()) {
    a.rs = 2, a.rt = 4, a.rn = 31;
    Code code;
    put_exclusive_loop(code, a);
    ASSERT_FALSE(code.overflown());
    longest = std::max(longest, code.words().size() + 1);
  }
  EXPECT_EQ(longest, kMaxStubWords);
}

TEST(Atomic, EveryFormIsDecodedAsItWasEncoded) {
  std::mt19937_64 random{5};
  for (Atomic a : every_form()) {
    const bool pair = a.kind == AtomicKind::compare_pair;
    a.rs = any_register(random, pair), a.rt = any_register(random, pair), a.rn = any_register(random, false);
    EXPECT_EQ(decode_atomic(encode_atomic(a)), a);
  }
}

// Capstone names what is an LSE atomic and what is not. All values of the bits that tell, and random ones elsewhere.
TEST(Atomic, IsToldFromItsNeighboursAsADisassemblerDoes) {
  const Disassembler disassembler;
  const std::regex lse{"((ld|st)(add|clr|eor|set|smax|smin|umax|umin)|swp|casp?)(a|l|al)?(b|h)?"};
  std::mt19937 random{6};
  unsigned atomics = 0;
  for (unsigned round = 0; round < 200'000; ++round) {
    auto word = static_cast<std::uint32_t>(random());
    if (round % 4 == 0) word = (word & ~0x3f000000U) | 0x38000000U;  // loads and stores, among them LD<op>
    if (round % 4 == 1) word = (word & ~0x3f000000U) | 0x08000000U;  // exclusives, CAS
    if (round % 8 == 1) word |= 0x7c00;
    if (round % 8 == 4) word = (word & ~0xc00U) | 0x200000;
    const auto instruction = disassembler.at(word);
    const bool named = std::regex_match(instruction.mnemonic, lse);
    atomics += named;
    const auto decoded = decode_atomic(word);
    ASSERT_EQ(decoded.has_value(), named)
        << std::hex << word << " " << instruction.mnemonic << " " << instruction.operands;
    if (decoded) EXPECT_EQ(encode_atomic(*decoded), word);
  }
  EXPECT_GT(atomics, 10'000U);
}

struct Text {
  std::vector<std::uint32_t> words = std::vector<std::uint32_t>(16, kNop);
  std::vector<std::uint32_t> stubs = std::vector<std::uint32_t>(64, 0);
  // In one piece, as an image is.
  std::vector<std::uint32_t> all;
  std::expected<Done, Error> patched(std::vector<std::uint32_t> sites, Needs needs, std::size_t room = 64) {
    all = words;
    all.insert(all.end(), stubs.begin(), stubs.end());
    return apply({.start = all.data(), .text_words = words.size(), .stubs = &all[words.size()], .stub_words = room},
                 sites, needs);
  }
};
const std::uint32_t kLdadd =
    encode_atomic({.kind = AtomicKind::add, .size = AtomicSize::dword, .rs = 1, .rt = 2, .rn = 3});
constexpr std::uint32_t kReadParX7 = a64::kReadPar | 7;

TEST(Patch, LeavesAnImageThatNeedsNothingAlone) {
  Text text;
  text.words[3] = kLdadd;
  const auto done = text.patched({12}, {});
  ASSERT_TRUE(done);
  EXPECT_EQ(done->stub_words, 0U);
  EXPECT_EQ(text.all[3], kLdadd);
}

TEST(Patch, ReplacesOnlyWhatIsNeeded) {
  Text text;
  text.words[3] = kLdadd;
  text.words[5] = kReadParX7;
  auto done = text.patched({12, 20}, {.atomics = true});
  ASSERT_TRUE(done);
  EXPECT_EQ(done->atomics, 1U);
  EXPECT_EQ(done->par_reads, 0U);
  EXPECT_EQ(text.all[5], kReadParX7);
  EXPECT_NE(text.all[3], kLdadd);
  done = text.patched({12, 20}, {.par_read = true});
  ASSERT_TRUE(done);
  EXPECT_EQ(done->par_reads, 1U);
  EXPECT_EQ(text.all[3], kLdadd);
  EXPECT_EQ(text.all[5], a64::branch(11));
  EXPECT_EQ(text.all[16], a64::kDmbSy);
  EXPECT_EQ(text.all[17], kReadParX7);
  EXPECT_EQ(text.all[18], a64::kDmbSy);
  EXPECT_EQ(text.all[19], a64::branch(-13));  // behind the site
}

TEST(Patch, GivesEachSiteAStubOfItsOwn) {
  Text text;
  text.words[3] = text.words[9] = kLdadd;
  const auto done = text.patched({12, 36}, {.atomics = true});
  ASSERT_TRUE(done);
  EXPECT_EQ(done->atomics, 2U);
  Interpreter cpu;
  cpu.x[1] = 5;
  cpu.x[3] = Interpreter::kMemory;
  cpu.x[31] = Interpreter::kMemory + 1024;
  EXPECT_EQ(cpu.run(text.all, 0, 15), "");
  EXPECT_EQ(cpu.read(Interpreter::kMemory, 8), 10U);
  EXPECT_EQ(cpu.x[2], 5U);
}

TEST(Patch, RefusesASiteThatIsNone) {
  Text text;
  text.words[3] = kLdadd;
  EXPECT_EQ(text.patched({16}, {.atomics = true}).error(), Error::bad_site);
  EXPECT_EQ(text.patched({14}, {.atomics = true}).error(), Error::bad_site);
  EXPECT_EQ(text.patched({16 * 4}, {.atomics = true}).error(), Error::bad_site);
}

TEST(Patch, RefusesStubsForWhichThereIsNoRoom) {
  Text text;
  text.words[3] = kLdadd;
  const auto needed = text.patched({12}, {.atomics = true})->stub_words;
  EXPECT_TRUE(text.patched({12}, {.atomics = true}, needed));
  EXPECT_EQ(text.patched({12}, {.atomics = true}, needed - 1).error(), Error::no_room);
}

TEST(Patch, RefusesStubsOutOfReach) {
  constexpr std::size_t kBytes = std::size_t{136} << 20;
  void* const memory =
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* const words = static_cast<std::uint32_t*>(memory);
  const std::uint32_t sites[] = {0};
  const auto at = [&](std::size_t stub) {
    words[0] = kLdadd;
    return apply({.start = words, .text_words = 1, .stubs = words + stub, .stub_words = 64}, sites, {.atomics = true});
  };
  EXPECT_EQ(at(std::size_t{1} << 25).error(), Error::out_of_reach);
  EXPECT_EQ(at((std::size_t{1} << 25) - 1).error(), Error::out_of_reach);  // its branch back
  EXPECT_TRUE(at((std::size_t{1} << 25) - kMaxStubWords));
  munmap(memory, kBytes);
}

TEST(Needs, FollowFromTheCpu) {
  EXPECT_TRUE(needs_of_image(kIsar0None, kMidrA72).atomics);
  EXPECT_TRUE(needs_of_image(1ULL << 20, kMidrA72).atomics);  // reserved: less than FEAT_LSE
  EXPECT_FALSE(needs_of_image(kIsar0Lse, kMidrA77r1p1).any());
  EXPECT_FALSE(needs_of_image(3ULL << 20, kMidrA77r1p1).any());  // FEAT_LSE128
  EXPECT_TRUE(needs_of_image(kIsar0Lse, kMidrA77r1p0).par_read);
  EXPECT_FALSE(needs_of_image(kIsar0Lse, kMidrA77r1p0).atomics);
}

// Cortex-A55 boots, Cortex-A77 comes later.
TEST(Needs, ACpuThatMayStandBesideOneWithTheErratumAsksForIt) {
  const Needs booted = needs_of_image(kIsar0Lse, kMidrA55);
  EXPECT_TRUE(booted.par_read);
  EXPECT_FALSE(needs_of_pcpu(kIsar0Lse, kMidrA55).par_read);
  EXPECT_TRUE(needs_of_pcpu(kIsar0Lse, kMidrA77r1p0).met_by(booted));
}

TEST(Needs, ACpuThatNeedsMoreThanTheBootCpuIsNotServed) {
  const Needs nothing = needs_of_image(kIsar0Lse, kMidrA77r1p1);
  EXPECT_FALSE(needs_of_pcpu(kIsar0None, kMidrA72).met_by(nothing));
  EXPECT_FALSE(needs_of_pcpu(kIsar0Lse, kMidrA77r1p0).met_by(nothing));
  EXPECT_TRUE(needs_of_pcpu(kIsar0Lse, kMidrA77r1p1).met_by(nothing));
  EXPECT_TRUE(needs_of_pcpu(kIsar0Lse, kMidrA77r1p1).met_by(needs_of_image(kIsar0None, kMidrA72)));
}

}  // namespace
}  // namespace weir::patch
