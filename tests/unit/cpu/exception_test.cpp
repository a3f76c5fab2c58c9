#include "hyp/cpu/exception.hpp"

#include <gtest/gtest.h>

#include "hyp/cpu/pstate.hpp"

namespace weir {
namespace {

constexpr std::uint64_t kEl1h = 0x5, kEl1t = 0x4, kEl0 = 0x0, kEl0A32 = 0x10;
constexpr std::uint64_t kSpan = std::uint64_t{1} << 23, kDssbs = std::uint64_t{1} << 44;
constexpr std::uint64_t kPan = std::uint64_t{1} << 22, kSsbs = std::uint64_t{1} << 12, kTco = std::uint64_t{1} << 25;
constexpr std::uint64_t kMasked = 0x3c0;

ExceptionState guest(std::uint64_t pstate) {
  ExceptionState s;
  s.pc = 0x4000'1234;
  s.pstate = pstate;
  s.vbar_el1 = 0xffff'8000'0001'0000;
  s.sctlr_el1 = kSpan;
  s.has_pan = s.has_ssbs = true;
  return s;
}

TEST(Exception, VectorDependsOnWhereItComesFrom) {
  const struct {
    std::uint64_t mode, offset;
  } cases[] = {{kEl1t, 0x000}, {kEl1h, 0x200}, {kEl0, 0x400}, {kEl0A32, 0x600}};
  for (const auto& c : cases) {
    ExceptionState s = guest(c.mode);
    take_undefined(s, true);
    EXPECT_EQ(s.pc, 0xffff'8000'0001'0000 + c.offset);
    EXPECT_EQ(s.elr_el1, 0x4000'1234U);
    EXPECT_EQ(s.spsr_el1, c.mode);
    EXPECT_EQ(s.pstate, kMasked | kEl1h);
    EXPECT_FALSE(s.far_valid);
  }
}

TEST(Exception, Undefined) {
  ExceptionState s = guest(kEl1h);
  take_undefined(s, true);
  EXPECT_EQ(s.esr_el1, 0x0200'0000U);
  s = guest(kEl0A32);
  take_undefined(s, false);
  EXPECT_EQ(s.esr_el1, 0U);
}

// D1.3.6, D2.12: an instruction that Weir emulates ends a branch type and a software step as one that the CPU executes does.
TEST(Pstate, AfterAnInstruction) {
  constexpr std::uint64_t kBtype = 0xc00, kSs = 0x20'0000;
  EXPECT_EQ(Pstate::after_instruction(kEl1h | kMasked | 0xf000'0000 | kPan | kBtype | kSs),
            kEl1h | kMasked | 0xf000'0000 | kPan);
}

TEST(Exception, PstateFollowsSctlr) {
  ExceptionState s = guest(kEl1h | 0xf000'0000 | 0x0030'0000);  // flags kept; SS and IL cleared
  s.sctlr_el1 = kDssbs;                                         // SPAN = 0: PAN is set
  s.has_mte = true;
  take_undefined(s, true);
  EXPECT_EQ(s.pstate, 0xf000'0000 | kPan | kSsbs | kTco | kMasked | kEl1h);
  EXPECT_EQ(s.spsr_el1, kEl1h | 0xf000'0000 | 0x0030'0000);

  s = guest(kEl1h | kPan);  // SPAN = 1: PAN stays
  take_undefined(s, true);
  EXPECT_EQ(s.pstate & kPan, kPan);
}

TEST(Exception, ExlockFollowsGcscrOnlyWithinEl1) {
  constexpr std::uint64_t kExlock = std::uint64_t{1} << 34, kExlocken = std::uint64_t{1} << 6;
  for (const std::uint64_t from : {kEl1h, kEl0}) {
    ExceptionState s = guest(from);
    s.has_gcs = true;
    s.gcscr_el1 = kExlocken;
    take_undefined(s, true);
    EXPECT_EQ(s.pstate & kExlock, from == kEl1h ? kExlock : 0);
  }
}

TEST(Exception, ExternalAborts) {
  ExceptionState s = guest(kEl1h);
  take_external_abort(s, {.far = 0x1000, .write = true});
  EXPECT_EQ(s.esr_el1, 0x9600'0050U);  // data abort, same EL, IL, WnR, synchronous external abort
  EXPECT_TRUE(s.far_valid);
  EXPECT_EQ(s.far_el1, 0x1000U);

  s = guest(kEl0);
  take_external_abort(s, {.far = 0x2000, .instruction = true, .write = true});
  EXPECT_EQ(s.esr_el1, 0x8200'0010U);  // instruction abort, lower EL; no WnR

  s = guest(kEl0);
  take_external_abort(s, {.far = 0x2000, .walk_level = 2});
  EXPECT_EQ(s.esr_el1, 0x9200'0016U);
}

}  // namespace
}  // namespace weir
