#include "hyp/cpu/el3_controls.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>

#include "hyp/cpu/feature_table.hpp"
#include "hyp/cpu/features.hpp"
#include "tests/unit/cpu/cpus.hpp"

namespace weir {
namespace {

// A CPU that has `with`, besides what is always there.
IdField with{};
unsigned with_value = 0;
std::uint64_t made_cpu(IdRegister reg) {
  std::uint64_t value = reg == id::kAa64Pfr0 ? 0x11 : 0;
  if (reg == with.reg) value = (value & ~with.mask()) | std::uint64_t{with_value} << with.lo;
  return value;
}
IdSource cpu_with(IdField field, unsigned value) {
  with = field;
  with_value = value;
  return made_cpu;
}

// booting.rst: what firmware opens for a kernel that is entered at EL2. Whoever adds a rule with a demand
// has found it there.
constexpr El3Control kBooting[] = {el3::kAPK_API, el3::kATA,    el3::kFGTEn, el3::kFGTEn2, el3::kHXEn, el3::kGCSEn,
                                   el3::kEnTP2,   el3::kTCR2En, el3::kPIEn,  el3::kEZ,     el3::kTFP,  el3::kESM,
                                   el3::kEZT0,    el3::kFA64,   el3::kTAM,   el3::kTDA,    el3::kTPM,  el3::kSBRBE};
constexpr El3Control kLinux[] = {el3::kTCPAC, el3::kTDOSA};

TEST(El3Controls, DemandsAreThoseOfTheBootProtocol) {
  for (const El3Rule& rule : el3_rules()) {
    if (rule.demand == Demand::booting) {
      EXPECT_TRUE(std::ranges::contains(kBooting, rule.control)) << rule.control.name;
    } else if (rule.demand == Demand::linux) {
      EXPECT_TRUE(std::ranges::contains(kLinux, rule.control)) << rule.control.name;
    }
  }
}

TEST(El3Controls, OpenWhereDemandedOrAbsent) {
  for (const El3Rule& rule : el3_rules()) {
    EXPECT_EQ(is_open(rule.control, cpu_with(rule.with, rule.least)), rule.demand != Demand::none) << rule.control.name;
    if (rule.least > 0) {
      EXPECT_TRUE(is_open(rule.control, cpu_with(rule.with, rule.least - 1U))) << rule.control.name;
    }
  }
  constexpr El3Control unheard_of = el3_control<BitField<"Unheard_of", 63>>(El3Register::SCR_EL3);
  EXPECT_FALSE(is_open(unheard_of, test::max_cpu));
  EXPECT_TRUE(is_open({}, test::max_cpu));
}

// The rule: whatever a CPU has, no field says that a guest may use what EL3 may have closed. And each need can be met or
// not: a row whose control has no rule would hide its feature for ever.
TEST(El3Controls, NoFeatureThatEl3MayTrap) {
  unsigned hidden = 0;
  for (const Feature& f : feature_table()) {
    for (unsigned value = 0; value <= 0xf; ++value) {
      const IdSource cpu = cpu_with(f.field, value);
      for (const Feature::Need& need : f.needs) {
        if (is_open(need.el3, cpu)) continue;
        ++hidden;
        if (f.show == Feature::Show::whole) {
          EXPECT_EQ(f.shown(cpu), 0U) << need.el3.name;
        } else {
          EXPECT_FALSE(f.shows(cpu, need.from)) << need.el3.name << ' ' << value;
        }
      }
    }
    for (const Feature::Need& need : f.needs)
      EXPECT_TRUE(need.el3.reg == El3Register::none ||
                  std::ranges::any_of(el3_rules(), [&](const El3Rule& r) { return r.control == need.el3; }))
          << need.el3.name;
  }
  EXPECT_GT(hidden, 0U);
}

// A field that some rule goes with is in the table with that rule's control as its need, or is not shown. (E.g. CSV2 is
// shown, and rules go with it from 2 on.)
TEST(El3Controls, NoFieldForgotten) {
  for (const El3Rule& rule : el3_rules()) {
    if (rule.demand != Demand::none || rule.control == el3::kTRNDR || rule.control == el3::kTDCC) continue;
    const unsigned most = rule.with.of(sanitised_id(rule.with.reg, cpu_with(rule.with, rule.least)));
    EXPECT_LT(most, rule.least) << rule.control.name;
  }
}

TEST(El3Controls, TouchesOnlyWhatIsThereAndOpen) {
  for (const RegisterRule& rule : register_rules()) {
    EXPECT_EQ(may_touch(rule.group, cpu_with(rule.with, rule.least)),
              is_open(rule.el3, cpu_with(rule.with, rule.least)));
    if (rule.least > 0) {
      EXPECT_FALSE(may_touch(rule.group, cpu_with(rule.with, rule.least - 1U)));
    }
    if (rule.most < 0xf) {
      EXPECT_FALSE(may_touch(rule.group, cpu_with(rule.with, rule.most + 1U)));
    }
  }
  EXPECT_FALSE(may_touch(FeatureRegisters::pmu, cpu_with(id::kPmu, 0xf)));                 // not an Arm PMU
  EXPECT_FALSE(may_touch(FeatureRegisters::double_lock, cpu_with(id::kDoubleLock, 0xf)));  // no FEAT_DoubleLock
  EXPECT_TRUE(may_touch(FeatureRegisters::gcs, test::max_cpu));
  EXPECT_FALSE(may_touch(FeatureRegisters::gcs, test::n2_cpu));
  EXPECT_FALSE(may_touch(FeatureRegisters::s1poe, cpu_with(id::kS1Poe, 1)));  // PIEn goes with S1PIE
}

// What a guest does to a closed control's registers is caught by EL2 first: `bits` of EL2's register are as `trapped`.
TEST(El3Controls, GuestsAreStoppedBeforeEl3) {
  enum class Where : std::uint8_t { hcr, hcrx, hfgrtr, mdcr, cptr };
  const struct {
    El3Control control;
    Where where;
    std::uint64_t bits, trapped;
  } guards[] = {{el3::kTLOR, Where::hcr, bit_mask(35, 35), bit_mask(35, 35)},  // TLOR
                {el3::kTERR, Where::hcr, bit_mask(36, 36), bit_mask(36, 36)},  // TERR
                {el3::kFIEN, Where::hcr, bit_mask(47, 47), 0},                 // FIEN
                {el3::kEnSCXT, Where::hcr, bit_mask(53, 53), 0},               // EnSCXT
                {el3::kEnAS0_ADEn, Where::hcrx, bit_mask(2, 0), 0},            // EnAS0, EnALS, EnASR
                {el3::kRCWMASKEn, Where::hfgrtr, bit_mask(56, 56), 0},         // nRCWMASK_EL1
                {el3::kSCTLR2En, Where::hcrx, bit_mask(15, 15), 0},            // SCTLR2En
                {el3::kPIEn, Where::hfgrtr, bit_mask(60, 57), 0},  // nPOR_EL1, nPOR_EL0, nPIR_EL1, nPIRE0_EL1
                {el3::kAIEn, Where::hfgrtr, bit_mask(63, 62), 0},  // nAMAIR2_EL1, nMAIR2_EL1
                {el3::kD128En, Where::hcrx, bit_mask(17, 17), 0},  // D128En
                {el3::kEnFPM, Where::hcrx, bit_mask(23, 23), 0},   // EnFPM
                {el3::kTTA, Where::cptr, bit_mask(20, 20), bit_mask(20, 20)},    // TTA
                {el3::kNSPB, Where::mdcr, bit_mask(14, 12), bit_mask(14, 14)},   // TPMS; E2PB = 0
                {el3::kTTRF, Where::mdcr, bit_mask(19, 19), bit_mask(19, 19)},   // TTRF
                {el3::kNSTB, Where::mdcr, bit_mask(25, 24), 0},                  // E2TB
                {el3::kTDCC, Where::mdcr, bit_mask(27, 27), bit_mask(27, 27)}};  // TDCC
  // RNDR, and MPAM registers while MPAM2_EL2 is closed, cannot be trapped by EL2; ECVEn concerns a register of EL2.
  const El3Control unguarded[] = {el3::kTRNDR, el3::kTRAPLOWER, el3::kECVEn};
  // PFAR_EL1 is guarded by HFGRTR2_EL2, which is all zero.
  for (const El3Rule& rule : el3_rules()) {
    if (rule.demand != Demand::none || std::ranges::contains(unguarded, rule.control) || rule.control == el3::kPFAREn)
      continue;
    const auto* guard = std::ranges::find_if(guards, [&](const auto& g) { return g.control == rule.control; });
    ASSERT_NE(guard, std::end(guards)) << rule.control.name;
    const El2Controls c = el2_controls(cpu_with(rule.with, 0xf));
    const std::uint64_t values[] = {c.hcr, c.hcrx, c.hfgrtr, c.mdcr, c.cptr};
    EXPECT_EQ(values[static_cast<unsigned>(guard->where)] & guard->bits, guard->trapped) << rule.control.name;
  }
}

}  // namespace
}  // namespace weir
